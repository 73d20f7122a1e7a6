"""AttrCloak-DD over files is the descent in memory: the same steps, however the table is cut and whoever takes them."""

import warnings
from dataclasses import dataclass, replace
from importlib.util import find_spec

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file, save_file

from attrcloak.data.embeddings import EmbeddingTable
from attrcloak.data.ids import Ids
from attrcloak.data.interactions import Interactions
from attrcloak.data.people_files import read_people
from attrcloak.data.vector_files import read_vectors
from attrcloak.errors import InvalidInput, InvalidSettings, NotSupported
from attrcloak.parts.id_keys import keys_of, uniform
from attrcloak.parts.user_items import UserItems
from attrcloak.recommenders import BPRLoss
from attrcloak.recommenders.recommender import TRIPLES_PER_USER
from attrcloak.streaming import unlearn_files
from attrcloak.streaming.sampled_loss import SampledLoss
from attrcloak.streaming.workspace import Workspace
from attrcloak.unlearning import LEACE, AttrCloakDD, run


@dataclass
class SameDraws:
    """In memory, the loss with the draws that a user has in files: step after step."""

    loss: SampledLoss
    users: UserItems
    step: int = 0

    def gradient(self, user_vectors, rng):
        pull = self.loss.gradient(user_vectors, self.users, self.step)
        self.step += 1
        return pull.loss / pull.triples, pull.gradient


def same_draws(world, taste, seed=0, frozen=()) -> SameDraws:
    rows = [np.sort(taste.liked[taste.users == row]) for row in range(len(world.ids))]
    rows = [items if len(items) < len(taste.items) else items[:0] for items in rows]
    starts = np.cumsum([0, *map(len, rows)])
    users = UserItems(uniform(keys_of(world.ids, "id")), starts, np.concatenate(rows).astype(np.int32))
    items = taste.items.astype(np.float64)
    return SameDraws(SampledLoss.of(items, frozen, seed=seed, users=len(world.ids), useful=int(starts[-1])), users)


def in_memory(world, method, loss, people=None, seed=0):
    table = EmbeddingTable(Ids(world.ids), world.vectors.astype(np.float32).astype(np.float64))
    people = read_people(world.folder / "people.csv") if people is None else people
    return run(method, table, people, recommendation=loss, seed=seed)


def stream(world, method, output="out", engine="in-process", workers=None, seed=0, progress=None, **changes):
    changes = {"interactions": "pairs.csv", "items": "items.npy", "vectors": "wide", **changes}
    if not (world.folder / "wide").exists():
        wide = replace(world, vectors=world.vectors.astype(np.float32))
        wide.write("wide", [0, 400, 1100, 1500], dtype=np.float64)
    return unlearn_files(
        world.sources(output, **changes), method, engine=engine, workers=workers, check=False, seed=seed,
        progress=progress,
    )  # fmt: skip


def assert_same(world, output, expected, tolerance):
    got = world.read(output)
    np.testing.assert_allclose(np.stack([got[id_] for id_ in world.ids.tolist()]), expected, rtol=0, atol=tolerance)


METHODS = {
    "mgda": AttrCloakDD(steps=30),
    "paper": AttrCloakDD(steps=30, min_leakage_weight=0.0),
    "fixed weight": AttrCloakDD(steps=10, weight=0.2, pooling=30.0),
    "thrown far": AttrCloakDD(steps=100, learning_rate=8.0, weight=0.0),
    "thrown far at once": AttrCloakDD(steps=100, learning_rate=100.0),
    "all leakage": AttrCloakDD(steps=300, learning_rate=0.5, weight=1.0),
}
ENDS = {"thrown far": "diverged", "thrown far at once": "diverged", "all leakage": "converged"}


@pytest.mark.parametrize("name", METHODS)
def test_with_the_same_draws_it_is_the_descent_in_memory(world, taste, name):
    method = METHODS[name]
    released = stream(world, method)
    expected = in_memory(world, method, same_draws(world, taste))
    assert_same(world, "out", expected.table.vectors, 1e-8)
    manifest = released.manifest
    assert expected.stopped == ENDS.get(name, "max steps")
    assert (manifest["stopped"], manifest["steps"]) == (expected.stopped, expected.steps)
    assert manifest["relative_move"] == pytest.approx(expected.relative_move, rel=1e-8)
    assert np.mean([leak.after for leak in released.leaks]) == pytest.approx(expected.objective_after, abs=1e-8)
    assert manifest["interactions"] == {
        "interactions": len(taste.liked) + 1, "repeated": 1, "useful": len(taste.liked) - len(taste.items),
    }  # fmt: skip
    assert set(manifest["inputs"]) == {"vectors", "people", "interactions", "items"}
    assert released.eraser is None
    assert {path.name for path in world.folder.iterdir()} == {
        "table", "wide", "people.csv", "pairs.csv", "items.npy", "out", "out.manifest.json"
    }  # fmt: skip
    if name == "thrown far":  # what comes out is where the least leaked, and that is neither the start nor the end
        assert 0 < expected.relative_move < 10


def test_a_step_past_what_numbers_can_hold_is_not_taken(world, taste):
    released = stream(world, AttrCloakDD(steps=100, learning_rate=1e300))
    assert (released.manifest["stopped"], released.manifest["steps"]) == ("diverged", 1)
    assert released.manifest["relative_move"] == 0


def test_only_those_who_ask_move_and_only_their_loss_counts(world, taste):
    asks = {"gender": world.ids[100:500], "age": world.ids[400:600]}
    lines = [f"{i},{name}" for name, ids in asks.items() for i in ids]
    (world.folder / "asks.csv").write_text("\n".join(["user_id,attribute", *lines]) + "\n")
    stream(world, METHODS["mgda"], requests="asks.csv")
    people = read_people(world.folder / "people.csv").mark(asks)
    expected = in_memory(world, METHODS["mgda"], same_draws(world, taste), people)
    assert 0 < expected.moved.sum() < 600
    assert_same(world, "out", expected.table.vectors, 1e-8)
    got = world.read("out")
    for row in np.flatnonzero(~expected.moved):
        np.testing.assert_array_equal(got[int(world.ids[row])], world.vectors[row].astype(np.float32))


def test_the_cut_into_files_the_order_and_the_kind_of_interactions_make_no_difference(world, taste):
    method = AttrCloakDD(steps=40)
    stream(world, method, output="three")
    one = world.read("three")
    (world.folder / "pairs").mkdir()
    rows = taste.interactions(world)
    for number, chosen in enumerate(np.array_split(np.random.default_rng(1).permutation(len(rows)), 3)):
        table = pa.table({"user_id": world.ids[taste.users[chosen]], "item_id": taste.liked[chosen], "stars": chosen})
        pq.write_table(table, world.folder / f"pairs/{number}.parquet")
    shuffled, backwards = np.random.default_rng(0).permutation(1500), np.arange(1500)[::-1]
    rounded = replace(world, vectors=world.vectors.astype(np.float32))
    for name, cuts, order in (("one", [0, 1500], shuffled), ("many", [0, 1, 300, 999, 1500], backwards)):
        rounded.write(name, cuts, dtype=np.float64, order=order)
        stream(world, method, output=f"from-{name}", vectors=name, interactions="pairs")
        other = world.read(f"from-{name}")
        for id_, expected in one.items():
            np.testing.assert_allclose(other[id_], expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("engine", ["pool", "ray", "spark"])
def test_every_engine_takes_the_same_steps(world, taste, engine):
    if engine in ("ray", "spark") and find_spec({"ray": "ray", "spark": "pyspark"}[engine]) is None:
        pytest.skip(f"{engine} is not installed")
    stream(world, AttrCloakDD(steps=4), output="one")
    with warnings.catch_warnings():
        if engine != "pool":
            warnings.simplefilter("ignore")
        stream(world, AttrCloakDD(steps=4), output="two", engine=engine, workers=2)
    assert world.bytes_of("one") == world.bytes_of("two")


def test_with_draws_of_its_own_it_lowers_leakage_as_much_and_costs_as_much(world, taste):
    """Beside the recommender's own batches, which are drawn in another way; over seeds, and from both sides."""
    method = AttrCloakDD(steps=100)
    known = taste.interactions(world)
    table = EmbeddingTable(Ids(world.ids), world.vectors.astype(np.float32).astype(np.float64))
    of_table = Interactions(
        table.ids, Ids(np.arange(len(taste.items))), taste.users.astype(np.int32), taste.liked.astype(np.int32)
    )
    assert len(known) == len(of_table)
    loss = BPRLoss.of(table, taste.items, of_table, batch=TRIPLES_PER_USER * len(table))

    def cost(vectors):
        return replace(loss, batch=400_000).gradient(vectors, np.random.default_rng(9))[0]

    leaks, costs, moves = [], [], []
    for seed in range(3):
        released = stream(world, method, output=f"out-{seed}", seed=seed)
        expected = in_memory(world, method, loss, seed=seed)
        got = world.read(f"out-{seed}")
        new = np.stack([got[id_] for id_ in world.ids.tolist()]).astype(np.float64)
        after = float(np.mean([leak.after for leak in released.leaks]))
        assert after < 0.2 * expected.objective_before
        leaks.append((after, expected.objective_after))
        costs.append((cost(new), cost(expected.table.vectors.astype(np.float64))))
        moves.append((released.manifest["relative_move"], expected.relative_move))
    before = cost(table.vectors)
    for (streamed, memory), scale in ((np.mean(leaks, axis=0), expected.objective_before), (np.mean(costs, axis=0), 1)):
        assert abs(streamed - memory) < 0.02 * scale, (leaks, costs, before)
    np.testing.assert_allclose(*np.mean(moves, axis=0), rtol=0.1)


def test_frozen_columns_enter_the_score_and_stay(world, taste):
    factors = world.vectors.astype(np.float32)
    factors[:, -1] = 1
    save_file({"user_factors": factors, "ids": world.ids}, world.folder / "bpr.safetensors")
    method = AttrCloakDD(steps=20)
    stream(world, method, vectors="bpr.safetensors", output="new.safetensors")
    new = load_file(world.folder / "new.safetensors")["user_factors"]
    np.testing.assert_array_equal(new[:, -1], 1)
    table = read_vectors(world.folder / "bpr.safetensors")
    assert table.frozen_columns == (5,)
    draws = same_draws(world, taste, frozen=(5,))
    expected = run(method, table, read_people(world.folder / "people.csv"), recommendation=draws)
    np.testing.assert_allclose(new, expected.table.vectors, atol=1e-6)
    without = replace(draws, step=0, loss=replace(draws.loss, frozen_items=0 * draws.loss.frozen_items))
    other = run(method, table, read_people(world.folder / "people.csv"), recommendation=without)
    assert np.abs(new - other.table.vectors).max() > 1e-3


def test_constant_columns_stay_to_the_bit(world, taste):
    world.vectors[:, 2] = 0.1
    released = stream(world, AttrCloakDD(steps=10))
    old, new = world.read("wide"), world.read("out")
    assert all(new[id_][2] == old[id_][2] for id_ in old)
    expected = in_memory(world, AttrCloakDD(steps=10), same_draws(world, taste))
    assert_same(world, "out", expected.table.vectors, 1e-8)
    assert released.manifest["relative_move"] == pytest.approx(expected.relative_move, rel=1e-8)
    assert np.mean([leak.after for leak in released.leaks]) == pytest.approx(expected.objective_after, abs=1e-8)


def test_another_seed_is_another_sample(world, taste):
    for output, seed in (("a", 0), ("b", 0), ("c", 1)):
        stream(world, AttrCloakDD(steps=3), output=output, seed=seed)
    assert world.bytes_of("a") == world.bytes_of("b")
    assert world.bytes_of("a") != world.bytes_of("c")


def test_what_does_not_fit_is_said_and_leaves_nothing_behind(world, taste):
    before = {path.name for path in world.folder.iterdir()}
    np.save(world.folder / "narrow.npy", taste.items[:, :4])
    with pytest.raises(InvalidInput, match=r"narrow.npy: items have 4 dimensions and users 6; give"):
        stream(world, AttrCloakDD(), items="narrow.npy")
    np.save(world.folder / "few.npy", taste.items[:-1])
    pairs = (world.folder / "pairs.csv").read_text()
    (world.folder / "strange.csv").write_text(pairs + "0,1000000\n1,1000000\n")
    with pytest.raises(InvalidInput) as error:
        stream(world, AttrCloakDD(), items="few.npy", interactions="strange.csv")
    assert "2 of " in error.value.problems[0]
    assert "1 users that are not in" in error.value.problems[0]
    assert "(1000000)" in error.value.problems[0]
    assert "1 items that are not among the items (39)" in error.value.problems[1]
    with pytest.raises(NotSupported, match=r"\(interactions=, items=\); methods that can do without: attrcloak-df"):
        stream(world, AttrCloakDD(), items=None)
    with pytest.raises(InvalidSettings, match="leace would not look at them"):
        stream(world, LEACE())
    with pytest.raises(InvalidInput, match="is an input, or lies inside"):
        stream(world, AttrCloakDD(), output="pairs.csv")
    assert {path.name for path in world.folder.iterdir()} == before | {"wide", "narrow.npy", "few.npy", "strange.csv"}


def test_two_steps_are_kept_at_most(world, taste, monkeypatch):
    most, plain = 0, Workspace.note

    def note(space, done, **what):
        nonlocal most
        plain(space, done, **what)
        files = [path for path in (space.folder / "positions").rglob("*") if path.is_file()]
        most = max(most, sum(path.stat().st_size for path in files))

    monkeypatch.setattr(Workspace, "note", note)
    stream(world, METHODS["thrown far"])
    assert 0 < most <= (2 * 1500 + 700) * 2 * 6 * 8  # and the part in hand, the largest of which has 700 users
