"""The recommender's loss on user vectors: equal to autograd, frozen columns respected, negatives unseen."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attrcloak.data.embeddings import EmbeddingTable
from attrcloak.data.ids import Ids
from attrcloak.data.interactions import Interactions
from attrcloak.errors import InvalidInput
from attrcloak.recommenders import BPRLoss
from attrcloak.recommenders.negatives import Seen


def example(seed: int, frozen: bool) -> tuple[EmbeddingTable, np.ndarray, Interactions]:
    rng = np.random.default_rng(seed)
    users, items, dim = 12, 15, 4
    seen = rng.random((users, items)) < 0.4
    seen[np.arange(users), rng.integers(0, items, users)] = True
    rows, columns = np.nonzero(seen)
    train = Interactions(Ids.range(users), Ids.range(items), rows.astype(np.int32), columns.astype(np.int32))
    vectors = rng.normal(size=(users, dim))
    if frozen:
        vectors[:, -1] = 1
    return (
        EmbeddingTable(Ids.range(users), vectors, frozen_columns=(dim - 1,) if frozen else ()),
        rng.normal(size=(items, dim)),
        train,
    )


@given(st.integers(0, 10_000), st.booleans())
def test_gradient_equals_autograd(seed: int, frozen: bool) -> None:
    import torch

    table, items, train = example(seed, frozen)
    loss = BPRLoss.of(table, items, train)
    u, i, j = loss.seen.triples(np.random.default_rng(seed), 64)
    value, gradient = loss.on(table.free, u, i, j)

    free = torch.tensor(table.free, requires_grad=True)
    fixed = torch.tensor(table.vectors[:, list(table.frozen_columns)])
    margin = (torch.cat([free, fixed], dim=1)[u] * torch.tensor(items[i] - items[j])).sum(dim=1)
    expected = -torch.nn.functional.logsigmoid(margin).mean()
    expected.backward()
    assert value == pytest.approx(expected.item(), rel=1e-12)
    np.testing.assert_allclose(gradient, free.grad.numpy(), rtol=1e-10, atol=1e-15)


def test_gradient_repeats_under_a_seed_and_leaves_its_input() -> None:
    table, items, train = example(0, False)
    loss = BPRLoss.of(table, items, train, batch=100)
    vectors = table.free
    before = vectors.copy()
    one = loss.gradient(vectors, np.random.default_rng(5))
    two = loss.gradient(vectors, np.random.default_rng(5))
    assert one[0] == two[0]
    np.testing.assert_array_equal(one[1], two[1])
    np.testing.assert_array_equal(vectors, before)
    assert one[1].shape == vectors.shape


def test_descent_lowers_the_loss() -> None:
    table, items, train = example(1, True)
    loss = BPRLoss.of(table, items, train, batch=2000)
    vectors, rng = table.free, np.random.default_rng(0)
    start = loss.gradient(vectors, rng)[0]
    for _ in range(300):
        vectors = vectors - 2.0 * loss.gradient(vectors, rng)[1]
    assert loss.gradient(vectors, rng)[0] < start / 2


def test_huge_margins_neither_overflow_nor_vanish_into_nan() -> None:
    table, items, train = example(2, False)
    loss = BPRLoss.of(table, items, train)
    value, gradient = loss.gradient(table.free * 1e6, np.random.default_rng(0))
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def test_other_users_or_items_are_refused() -> None:
    table, items, train = example(3, False)
    with pytest.raises(InvalidInput, match="same order"):
        BPRLoss.of(table.take(np.arange(11, -1, -1)), items, train)
    with pytest.raises(InvalidInput, match="14 item vectors for 15 items"):
        BPRLoss.of(table, items[:14], train)
    with pytest.raises(InvalidInput, match="empty"):
        BPRLoss.of(table, items, train, batch=0)


@given(st.integers(0, 10_000))
def test_negatives_are_unseen(seed: int) -> None:
    _, _, train = example(seed, False)
    u, i, j = Seen.of(train).triples(np.random.default_rng(seed), 200)
    seen = train.matrix.toarray() > 0
    assert seen[u, i].all()
    assert not seen[u, j].any()


def test_negatives_are_uniform_over_the_unseen() -> None:
    _, _, train = example(4, False)
    draws = Seen.of(train).unseen(np.zeros(30_000, dtype=np.int64), np.random.default_rng(0))
    left = np.flatnonzero(train.matrix.toarray()[0] == 0)
    counts = np.bincount(draws, minlength=15)
    assert set(np.flatnonzero(counts)) == set(left)
    expected = 30_000 / len(left)
    assert np.abs(counts[left] - expected).max() < 5 * np.sqrt(expected)


def test_a_user_who_saw_everything_gives_no_triple_and_one_item_left_is_found() -> None:
    items = 3000
    rows = np.concatenate([np.zeros(items), np.ones(items - 1), [2]]).astype(np.int32)
    columns = np.concatenate([np.arange(items), np.arange(1, items), [5]]).astype(np.int32)
    seen = Seen.of(Interactions(Ids.range(3), Ids.range(items), rows, columns))
    users, _, negatives = seen.triples(np.random.default_rng(0), 500)
    assert 0 not in users
    assert set(negatives[users == 1]) == {0}


def test_without_anything_to_learn_the_gradient_is_zero() -> None:
    full = Interactions(Ids.range(1), Ids.range(2), np.zeros(2, dtype=np.int32), np.arange(2, dtype=np.int32))
    table = EmbeddingTable(Ids.range(1), np.ones((1, 3)))
    value, gradient = BPRLoss.of(table, np.ones((2, 3)), full).gradient(table.free, np.random.default_rng(0))
    assert value == 0
    assert not gradient.any()


@pytest.mark.parametrize("frozen", [False, True])
def test_the_best_unseen_items_are_those_of_a_full_sort_and_lists_end_where_nothing_is_unseen(
    frozen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, items, train = example(3, frozen)
    monkeypatch.setattr("attrcloak.recommenders.recommender.USERS_PER_CHUNK", 5)
    count = 9
    found, scores = BPRLoss.of(table, items, train).best_unseen(table.free, count)
    assert found.shape == scores.shape == (12, count)
    assert (found < 0).any()
    for user in range(12):
        unseen = np.setdiff1d(np.arange(15), train.item_rows[train.user_rows == user])
        own = table.vectors[user] @ items[unseen].T
        order = np.argsort(-own)[:count]
        listed = found[user] >= 0
        np.testing.assert_array_equal(found[user][listed], unseen[order])
        np.testing.assert_allclose(scores[user][listed], own[order], rtol=1e-12)
        assert listed.sum() == min(count, len(unseen))
        assert not scores[user][~listed].any()
