"""RecEraser: balanced shards, exact forgetting, one table, and attacks that do not change."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attrcloak.auditing import SOUND, audit
from attrcloak.data.attributes import UserAttributes
from attrcloak.data.datasets import load
from attrcloak.data.datasets.planted import planted_interactions, planted_leak
from attrcloak.data.interactions import NO_ITEM, Split
from attrcloak.errors import InvalidInput, InvalidSettings
from attrcloak.evaluation import evaluate
from attrcloak.recommenders import train
from attrcloak.recommenders.protected import protected_class
from attrcloak.recommenders.protected.balanced_shards import balanced_assignment
from attrcloak.recommenders.protected.receraser import RecEraser, ShardedModel

SMALL = {"factors": 6, "iterations": 5}
PARTITIONS = pytest.mark.parametrize("partition", ["user", "interaction"])


@pytest.fixture(scope="module")
def planted() -> tuple[Split, UserAttributes]:
    table, people = planted_leak("linear", users=150, dim=6, strength=3.0, seed=0)
    return planted_interactions(table, items=60, each=15).leave_one_out(0), people


@pytest.fixture(scope="module", params=["user", "interaction"])
def sharded(request: pytest.FixtureRequest, planted: tuple[Split, UserAttributes]) -> ShardedModel:
    method = RecEraser(shards=4, partition=request.param, aggregation="mean")
    return method.train_shards("als", planted[0], settings=SMALL, seed=1)


def pairs(model: ShardedModel, rows: Any) -> tuple[Any, Any]:
    """Ids of users and items of some of the remembered interactions."""
    known = model.split.train
    return known.users.values[known.user_rows[rows]], known.items.values[known.item_rows[rows]]


def same(one: Any, other: Any) -> bool:
    """Whether two recommenders have the same vectors, bit for bit."""
    return one.users.fingerprint() == other.users.fingerprint() and np.array_equal(one.items, other.items)


def nearest_pairs_first(distances: Any, capacity: int) -> Any:
    """The source's way: all pairs from the nearest on."""
    n, k = distances.shape
    centre, room = np.full(n, -1), np.full(k, capacity)
    for place in np.argsort(distances, axis=None, kind="stable"):
        point, chosen = divmod(int(place), k)
        if centre[point] < 0 and room[chosen]:
            centre[point] = chosen
            room[chosen] -= 1
    return centre


@pytest.mark.parametrize("seed", range(5))
def test_balanced_assignment_is_that_of_the_nearest_pairs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points, centres = rng.normal(size=(90, 3)), rng.normal(size=(6, 3)) * [0.2, 1, 1]
    distances = ((points[:, None] - centres) ** 2).sum(axis=2)
    for capacity in (15, 18, 90):
        found = balanced_assignment(distances, capacity)
        np.testing.assert_array_equal(found, nearest_pairs_first(distances, capacity))
        assert np.bincount(found).max() <= capacity
    np.testing.assert_array_equal(balanced_assignment(distances, 90), distances.argmin(axis=1))


def test_centres_without_room_are_refused() -> None:
    with pytest.raises(InvalidSettings, match="2 centres with room for 3 do not hold 7 points"):
        balanced_assignment(np.zeros((7, 2)), 3)


def test_duplicate_points_are_spread() -> None:
    assert np.bincount(balanced_assignment(np.zeros((10, 5)), 2)).tolist() == [2, 2, 2, 2, 2]


def test_shards_hold_everything_within_the_cap(sharded: ShardedModel) -> None:
    known = sharded.split.train
    if sharded.method.partition == "user":
        of_user = [np.unique(sharded.shard_of[known.user_rows == user]) for user in range(150)]
        assert all(len(shards) == 1 for shards in of_user)
        sizes = np.bincount(np.concatenate(of_user), minlength=4)
        assert sizes.max() <= 1.2 * 150 / 4
    else:
        assert np.bincount(sharded.shard_of).max() <= np.ceil(1.2 * len(known) / 4)
        assert any(len(np.unique(sharded.shard_of[known.user_rows == user])) > 1 for user in range(150))


def test_forgetting_equals_never_having_seen_it(sharded: ShardedModel, planted: tuple[Split, UserAttributes]) -> None:
    gone = np.zeros(len(sharded.shard_of), dtype=bool)
    gone[np.random.default_rng(0).choice(len(gone), 40, replace=False)] = True
    gone[sharded.shard_of == 2] = False
    after = sharded.forget(*pairs(sharded, gone))
    split = replace(planted[0], train=planted[0].train.keep(~gone))
    fresh = sharded.method.train_shards("als", split, settings=SMALL, seed=1, shard_of=sharded.shard_of[~gone])
    assert all(same(one, other) for one, other in zip(after.models, fresh.models, strict=True))
    assert same(after.recommender(), fresh.recommender())
    assert same(*(replace(m, method=replace(m.method, aggregation="attention")).recommender() for m in (after, fresh)))
    # Only what was touched was trained again.
    for shard in range(4):
        assert (after.models[shard] is sharded.models[shard]) == (shard == 2)
        assert same(after.models[shard], sharded.models[shard]) == (shard == 2)
    assert (after.forgotten, after.retrained) == (gone.sum(), 3)
    assert len(after.split.train) == len(gone) - gone.sum()


def test_one_interaction_touches_one_shard_and_forgetting_goes_on(sharded: ShardedModel) -> None:
    once = sharded.forget(*pairs(sharded, [0]))
    assert (once.forgotten, once.retrained) == (1, 1)
    with pytest.raises(InvalidInput, match=r"1 of 1 pairs .* forgotten before"):
        once.forget(*pairs(sharded, [0]))
    twice = once.forget(*pairs(sharded, [1, 2]))
    at_once = sharded.forget(*pairs(sharded, [0, 1, 2]))
    assert twice.forgotten == 3
    assert same(twice.recommender(), at_once.recommender())
    assert len(sharded.split.train) == len(sharded.shard_of) == len(twice.shard_of) + 3


def test_a_whole_shard_can_be_forgotten_but_not_everything(sharded: ShardedModel) -> None:
    after = sharded.forget(*pairs(sharded, sharded.shard_of == 1))
    assert after.models[1] is None
    vectors = after.recommender().users.vectors
    assert np.isfinite(vectors).all()
    assert not vectors[:, 6:12].any()
    with pytest.raises(InvalidInput, match=r"all .* interactions are to be forgotten"):
        sharded.forget(*pairs(sharded, slice(None)))
    with pytest.raises(InvalidInput, match="2 of 3 pairs"):
        sharded.forget(np.array([0, 0, -7]), np.array([pairs(sharded, [0])[1][0], 999, 0]))
    with pytest.raises(InvalidInput, match="2 users for 1 items"):
        sharded.forget(np.array([0, 1]), np.array([0]))


def test_mean_scores_are_the_mean_of_the_scores(sharded: ShardedModel) -> None:
    users, items = sharded.stacked()
    model = sharded.recommender()
    expected = np.mean([u @ i.T for u, i in zip(users, items, strict=True)], axis=0)
    np.testing.assert_allclose(model.score(model.users.vectors), expected, atol=1e-6)
    assert model.users.dim == 4 * 6


def test_vectors_are_only_of_shards_that_know_the_user(sharded: ShardedModel) -> None:
    users, items = sharded.stacked()
    known = sharded.split.train
    for shard in range(4):
        inside = sharded.shard_of == shard
        assert not users[shard, np.setdiff1d(np.arange(150), known.user_rows[inside])].any()
        assert not items[shard, np.setdiff1d(np.arange(len(known.items)), known.item_rows[inside])].any()
        model = sharded.models[shard]
        assert model is not None
        rows = np.unique(known.user_rows[inside])
        np.testing.assert_array_equal(users[shard, rows], model.users.vectors[rows])


def test_initial_vectors_of_users_a_shard_does_not_know_are_not_served(planted: tuple[Split, UserAttributes]) -> None:
    model = RecEraser(shards=3).train_shards("bpr", planted[0], settings=SMALL)
    assert all(part is not None and part.users.vectors.any(axis=1).all() for part in model.models)
    users, _ = model.stacked()
    assert (users.any(axis=2).sum(axis=0) == 1).all()


def test_attention_ranks_better_than_the_plain_mean_it_starts_from(sharded: ShardedModel) -> None:
    calls: list[tuple[str, int, int]] = []
    # Without validation items the last epoch counts, even where the start would have been kept.
    bare = replace(sharded.split, validation_items=np.full_like(sharded.split.validation_items, NO_ITEM))
    attention = replace(sharded, split=bare, method=replace(sharded.method, aggregation="attention"))
    model = attention.recommender(lambda *call: calls.append(call))
    users, items = sharded.stacked()
    assert model.users.dim == 6
    assert model.users.scoring == "dot"
    weights = [np.maximum((vectors != 0).any(axis=2).sum(axis=0), 1)[:, None] for vectors in (users, items)]
    plain = (users.sum(axis=0) / weights[0]) @ (items.sum(axis=0) / weights[1]).T
    fit = [
        evaluate(lambda rows, table=scores: table[rows], sharded.split, protocol="paper").values["ndcg@10"]  # type: ignore[misc]
        for scores in (plain, model.score(model.users.vectors))
    ]
    assert fit[1] > fit[0] + 0.02
    assert {stage for stage, _, _ in calls} == {"aggregating shards"}


def test_attention_is_a_softmax_over_the_shards_that_know() -> None:
    torch = pytest.importorskip("torch")
    from attrcloak.recommenders.protected.shard_attention import ShardAttention

    torch.manual_seed(0)
    model = ShardAttention(3, 4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    vectors = torch.randn(3, 5, 4)
    vectors[1, 2] = 0
    vectors[:, 4] = 0
    found = model(vectors, 1)
    for row in range(4):
        shards = [0, 2] if row == 2 else [0, 1, 2]
        moved = [vectors[s, row] @ model.maps[s] + model.offsets[s, 0] for s in shards]
        scores = torch.stack([torch.relu(model.hidden[1](p)) @ model.heads[1] for p in moved])
        expected = torch.softmax(scores, 0) @ torch.stack(moved)
        torch.testing.assert_close(found[row], expected)
    assert not found[4].any()


@pytest.mark.parametrize("aggregation", ["mean", "attention"])
@PARTITIONS
def test_fit_says_what_it_did_repeats_and_never_reads_test_items(
    planted: tuple[Split, UserAttributes], aggregation: str, partition: str
) -> None:
    split, people = planted
    before = split.train.matrix.toarray()
    method = protected_class("receraser")(shards=3, aggregation=aggregation, partition=partition)
    blind = replace(split, test_items=np.full_like(split.test_items, NO_ITEM))
    calls: list[tuple[str, int, int]] = []
    one, again, other = (
        method.fit("als", s, people, settings=SMALL, seed=seed, progress=lambda *call: calls.append(call))
        for s, seed in ((split, 1), (blind, 1), (split, 2))
    )
    assert same(one, again)
    assert not same(one, other)
    assert one.name == "als"
    assert one.users.ids.equals(split.train.users)
    assert one.settings["factors"] == 6
    assert one.settings["protection"] == {
        "name": "receraser",
        "shards": 3,
        "partition": partition,
        "aggregation": aggregation,
        "cap": 1.2,
        "forget": 0.1,
        "forgotten": round(0.1 * len(split.train)),
        "retrained": 3,
    }
    np.testing.assert_array_equal(split.train.matrix.toarray(), before)
    stages = {stage for stage, _, _ in calls}
    assert {"pre-training: training als", *(f"shard {n} of 3: training als" for n in (1, 2, 3))} <= stages


@PARTITIONS
def test_one_shard_by_the_mean_is_the_backbone(planted: tuple[Split, UserAttributes], partition: Any) -> None:
    split, people = planted
    method = RecEraser(shards=1, partition=partition, aggregation="mean", forget=0)
    assert same(method.fit("als", split, people, settings=SMALL), train("als", split, settings=SMALL))


def test_other_backbones_and_no_validation(planted: tuple[Split, UserAttributes]) -> None:
    split, people = planted
    bare = replace(split, validation_items=np.full_like(split.validation_items, NO_ITEM))
    for aggregation in ("mean", "attention"):
        method = RecEraser(shards=3, aggregation=aggregation)  # type: ignore[arg-type]
        bpr = method.fit("bpr", bare, people, settings=SMALL)
        assert bpr.history == ()
        assert bpr.users.dim == (7 if aggregation == "attention" else 21)
    torch_model = method.fit("bpr-mf", split, people, settings={"factors": 4, "epochs": 2, "threads": 1})
    assert torch_model.users.dim == 4


def test_the_mean_needs_no_torch() -> None:
    code = (
        "import sys\n"
        "class WithoutTorch:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] == 'torch':\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, WithoutTorch())\n"
        "from attrcloak.errors import MissingExtra\n"
        "from attrcloak.data.datasets.planted import planted_interactions, planted_leak\n"
        "from attrcloak.recommenders.protected.receraser import RecEraser\n"
        "table, people = planted_leak(users=60)\n"
        "split = planted_interactions(table, items=30, each=8).leave_one_out()\n"
        "RecEraser(shards=2, aggregation='mean').fit('als', split, people, settings={'factors': 4})\n"
        "try:\n    RecEraser(shards=2).fit('als', split, people, settings={'factors': 4})\n"
        "except MissingExtra as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'attrcloak[torch]'" in done.stdout
    assert 'aggregation="mean"' in done.stdout


def test_a_partition_of_another_size_is_refused(planted: tuple[Split, UserAttributes]) -> None:
    split, _ = planted
    method = RecEraser(shards=2)
    for wrong in (np.zeros(3, dtype=int), np.full(len(split.train), 2)):
        with pytest.raises(InvalidInput, match=r"shard_of has shape .* numbers in \[0, 2\)"):
            method.train_shards("als", split, settings=SMALL, shard_of=wrong)
    with pytest.raises(InvalidSettings, match="shards is 151 for 150 users"):
        RecEraser(shards=151).train_shards("als", split, settings=SMALL)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shards": 0}, "shards is 0"),
        ({"partition": "item"}, "no partition 'item'"),
        ({"aggregation": "sum"}, "no aggregation 'sum'"),
        ({"cap": 0.9}, "cap is 0.9"),
        ({"cap": float("nan")}, "cap is nan"),
        ({"forget": 1.0}, "forget is 1"),
        ({"forget": -0.1}, "forget is -0.1"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidSettings, match=message):
        RecEraser(**settings)


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("aggregation", ["mean", "attention"])
def test_on_movielens_forgetting_does_not_protect(aggregation: Any, shared_data: Callable[[str], Path]) -> None:
    dataset = load("ml-100k", shared_data("ml-100k"))
    split = dataset.interactions.leave_one_out(0)
    quick = replace(SOUND, known=(0.8,), seeds=1, permutations=99, resamples=99, equations_known=())
    attacked, utility = [], []
    for forget in (0.0, 0.1):
        model = RecEraser(aggregation=aggregation, forget=forget).fit("als", split, dataset.people)
        report = audit(model.users, dataset.people, attributes=["gender"], attackers=["logistic"], protocol=quick)
        attacked.append(report.results[0].balanced_accuracy)
        utility.append(evaluate(lambda rows, m=model: m.score(m.users.vectors[rows]), split).values["ndcg@10"])  # type: ignore[misc]
    # The standard error of the balanced accuracy over 943 users is about .017 each.
    assert abs(attacked[1] - attacked[0]) < 0.06
    assert min(attacked) > 0.56
    assert min(utility) > 0.035
