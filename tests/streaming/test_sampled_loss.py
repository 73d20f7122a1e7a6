"""Triples that a hash draws: in expectation the batches of the recommender, and a user's own in every cut."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attrcloak.parts.id_keys import Keys, uniform
from attrcloak.parts.user_items import UserItems
from attrcloak.recommenders.recommender import TRIPLES_PER_USER
from attrcloak.streaming import sampled_loss
from attrcloak.streaming.sampled_loss import SampledLoss

USERS, ITEMS, DIM = 60, 9, 3


def made(seed=0, users=USERS):
    """Vectors, items, and who has seen what: nothing, some, all but one."""
    rng = np.random.default_rng(seed)
    seen = rng.random((users, ITEMS)) < rng.random((users, 1)) * 0.8
    seen[0], seen[1, :-1], seen[1, -1] = False, True, False
    seen[2:, 0] &= ~seen[2:].all(axis=1)
    starts = np.cumsum([0, *seen.sum(axis=1)])
    hashes = uniform(Keys(rng.permutation(1000)[:users].astype(np.uint64)))
    items = UserItems(hashes, starts, np.nonzero(seen)[1].astype(np.int32))
    return rng.normal(size=(users, DIM)), rng.normal(size=(ITEMS, DIM)), seen, items


def expected_gradient(vectors, items, seen):
    """Over all pairs evenly, with all unseen items of the user evenly, as a mean over a batch of TRIPLES_PER_USER n."""
    gradient, loss = np.zeros(vectors.shape), 0.0
    for row, mine in enumerate(seen):
        unseen = np.flatnonzero(~mine)
        for i in np.flatnonzero(mine):
            apart = items[i] - items[unseen]
            margin = apart @ vectors[row]
            gradient[row] -= ((1 / (1 + np.exp(margin)))[:, None] * apart).mean(axis=0)
            loss += np.log1p(np.exp(-margin)).mean()
    return gradient / seen.sum(), loss / seen.sum()


def test_in_the_mean_it_is_the_gradient_over_all_pairs():
    vectors, items, seen, mine = made()
    loss = SampledLoss.of(items, (), seed=3, users=USERS, useful=int(seen.sum()))
    pulls = [loss.gradient(vectors, mine, step) for step in range(4000)]
    gradient, value = expected_gradient(vectors, items, seen)
    each = np.stack([pull.gradient for pull in pulls])
    error = each.std(axis=0) / np.sqrt(len(pulls))
    assert (np.abs(each.mean(axis=0) - gradient) <= 5 * error + 1e-12).all()
    assert np.mean([pull.triples for pull in pulls]) == pytest.approx(TRIPLES_PER_USER * USERS, rel=0.01)
    assert sum(pull.loss for pull in pulls) / sum(pull.triples for pull in pulls) == pytest.approx(value, rel=0.01)
    assert not each[:, 0].any()  # has seen nothing
    assert each[:, 1].any()


@given(st.integers(1, USERS - 1), st.integers(0, 10), st.sampled_from([1, 7, 1 << 14]))
def test_a_user_has_the_same_triples_whoever_else_is_there(cut, step, at_once):
    vectors, items, seen, mine = made()
    loss = SampledLoss.of(items, (), seed=0, users=USERS, useful=int(seen.sum()))
    whole = loss.gradient(vectors, mine, step)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampled_loss, "TRIPLES_AT_ONCE", at_once)
        parts = [
            loss.gradient(vectors[low:high], mine.slice(low, high), step) for low, high in ((0, cut), (cut, USERS))
        ]
    np.testing.assert_allclose(np.vstack([part.gradient for part in parts]), whole.gradient, rtol=0, atol=1e-15)
    assert sum(part.triples for part in parts) == whole.triples
    assert sum(part.loss for part in parts) == pytest.approx(whole.loss, rel=1e-12)


def test_seed_and_step_draw_anew():
    vectors, items, seen, mine = made()
    found = {
        (seed, step): SampledLoss.of(items, (), seed=seed, users=USERS, useful=int(seen.sum()))
        .gradient(vectors, mine, step)
        .gradient.tobytes()
        for seed in (0, 1)
        for step in (0, 1)
    }
    assert len(set(found.values())) == 4


def test_negatives_are_unseen_even_where_all_but_one_are_seen(monkeypatch):
    monkeypatch.setattr(sampled_loss, "_ROUNDS", 2)  # so that the exact draw is taken
    seen = np.ones((5, ITEMS), dtype=bool)
    seen[np.arange(5), [3, 0, 8, 3, 4]] = False
    pairs = sampled_loss.Seen(*np.nonzero(seen), np.flatnonzero(seen.ravel()), ITEMS)
    starts = np.cumsum([0, *seen.sum(axis=1)])
    stream = uniform(Keys(np.arange(5, dtype=np.uint64)))
    rows, positives, negatives = sampled_loss.triples(pairs, starts, stream, np.full(5, 40))
    assert seen[rows, positives].all()
    assert (negatives == np.array([3, 0, 8, 3, 4])[rows]).all()
    assert all(len(set(positives[rows == row])) > 4 for row in range(5))


def test_nobody_has_no_loss():
    vectors, items, _, mine = made()
    loss = SampledLoss.of(items, (), seed=0, users=0, useful=0)
    pull = loss.gradient(vectors[:0], mine.slice(0, 0), 0)
    assert (pull.loss, pull.triples, pull.gradient.shape) == (0.0, 0, (0, DIM))
