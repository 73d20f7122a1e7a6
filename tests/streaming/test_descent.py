"""AttrCloak-DD over files is the descent in memory: the same steps, however the table is cut and whoever takes them."""

import warnings
from dataclasses import dataclass, replace
from importlib.util import find_spec

import numpy as np
import pytest

from attrcloak.data.embeddings import EmbeddingTable
from attrcloak.data.ids import Ids
from attrcloak.data.interactions import Interactions
from attrcloak.data.people_files import read_people
from attrcloak.errors import InvalidInput, InvalidSettings, NotSupported
from attrcloak.parts.id_keys import keys_of, uniform
from attrcloak.parts.user_items import UserItems
from attrcloak.recommenders import BPRLoss
from attrcloak.streaming import unlearn_files
from attrcloak.streaming.sampled_loss import SampledLoss
from attrcloak.unlearning import LEACE, AttrCloakDD, run

ITEMS = 40


@dataclass(frozen=True)
class Taste:
    """Interactions of the users of ``world`` with items whose vectors they like."""

    items: np.ndarray
    users: np.ndarray
    liked: np.ndarray

    def interactions(self, world) -> Interactions:
        return Interactions.from_ids(world.ids[self.users], self.liked)


@pytest.fixture
def taste(world) -> Taste:
    """Files items.npy and pairs.csv beside the table."""
    rng = np.random.default_rng(1)
    items = rng.normal(size=(ITEMS, world.vectors.shape[1])).astype(np.float32)
    score = world.vectors @ items.T + rng.gumbel(size=(len(world.ids), ITEMS))
    count = rng.integers(0, 12, len(world.ids))
    chosen = np.argsort(-score, axis=1) < 0
    for row, best in enumerate(np.argsort(-score, axis=1)):
        chosen[row, best[: count[row]]] = True
    chosen[7] = True  # has seen everything, so prefers nothing
    users, liked = np.nonzero(chosen)
    order = rng.permutation(len(users))
    np.save(world.folder / "items.npy", items)
    lines = [f"{i},{u}" for u, i in zip(world.ids[users[order]], liked[order], strict=True)]
    (world.folder / "pairs.csv").write_text("\n".join(["item_id,user_id", *lines, lines[0]]) + "\n")
    return Taste(items, users[order], liked[order])


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


def same_draws(world, taste, seed=0) -> SameDraws:
    known = taste.interactions(world)
    rows = [np.sort(taste.liked[taste.users == row]) for row in range(len(world.ids))]
    rows = [items if len(items) < ITEMS else items[:0] for items in rows]
    starts = np.cumsum([0, *map(len, rows)])
    users = UserItems(uniform(keys_of(world.ids, "id")), starts, np.concatenate(rows).astype(np.int32))
    assert len(known) == len(taste.liked)
    items = taste.items.astype(np.float64)
    return SameDraws(SampledLoss.of(items, (), seed=seed, users=len(world.ids), useful=int(starts[-1])), users)


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


@pytest.mark.parametrize(
    "method",
    [
        AttrCloakDD(steps=30),
        AttrCloakDD(steps=30, min_leakage_weight=0.0),
        AttrCloakDD(steps=10, weight=0.2, pooling=30.0),
        AttrCloakDD(steps=200, learning_rate=2.0),
    ],
    ids=["mgda", "paper", "fixed weight", "too long steps"],
)
def test_with_the_same_draws_it_is_the_descent_in_memory(world, taste, method):
    released = stream(world, method)
    expected = in_memory(world, method, same_draws(world, taste))
    assert_same(world, "out", expected.table.vectors, 1e-8)
    manifest = released.manifest
    assert (manifest["stopped"], manifest["steps"]) == (expected.stopped, expected.steps)
    assert manifest["relative_move"] == pytest.approx(expected.relative_move, rel=1e-8)
    assert np.mean([leak.after for leak in released.leaks]) == pytest.approx(expected.objective_after, abs=1e-8)
    assert manifest["interactions"] == {
        "interactions": len(taste.liked) + 1, "repeated": 1, "useful": len(taste.liked) - ITEMS,
    }  # fmt: skip
    assert released.eraser is None
    if method.learning_rate == 2.0:
        assert expected.stopped == "diverged"
