"""The metric of lists: moves that a user's list does not notice are free, and goals are met all the same."""

import numpy as np

from attrcloak.moments.cell_moments import ClassMoments
from attrcloak.unlearning import list_metric
from attrcloak.unlearning.list_metric import ListMetric


class Items:
    """A loss that knows items, and the same few unseen ones for every second user."""

    def __init__(self, items, lists):
        self.items, self.lists = items, lists

    def gradient(self, user_vectors, rng):
        raise AssertionError("a metric has no use for a gradient")

    def best_unseen(self, user_vectors, count, constants=True):
        assert not constants, "what all users are given alike says nothing of one of them"
        return self.lists[:, :count], np.zeros((len(self.lists), count))


def two_tastes(users: int = 40):
    """Lists of even users differ along the first axis only, those of odd users along the second; the third is idle."""
    rng = np.random.default_rng(0)
    first, second = (np.zeros((10, 3)) for _ in range(2))
    first[:, 0], second[:, 1] = rng.normal(size=(2, 10))
    items = np.vstack((first, second))
    lists = np.where(np.arange(users)[:, None] % 2 == 0, np.arange(10), np.arange(10, 20))
    return Items(items, lists), rng.normal(size=(users, 3))


def metric(loss, vectors):
    return ListMetric.of_unseen(loss, vectors, np.arange(len(vectors)), np.eye(3), 10)


def test_each_user_gives_way_where_their_own_list_does_not_look():
    loss, vectors = two_tastes()
    steps = metric(loss, vectors).bent(np.tile([1.0, 1.0, 0.0], (40, 1)))
    assert (abs(steps[::2, 1]) > 1.5 * abs(steps[::2, 0])).all()
    assert (abs(steps[1::2, 0]) > 1.5 * abs(steps[1::2, 1])).all()


def test_a_step_that_all_users_get_moves_their_mean_by_itself():
    loss, vectors = two_tastes()
    step = np.array([0.3, -1.0, 2.0])
    np.testing.assert_allclose(metric(loss, vectors).bent(np.tile(step, (40, 1))).mean(axis=0), step, atol=1e-5)


def test_class_means_are_reached_at_less_cost_for_the_lists_than_by_one_shift():
    loss, vectors = two_tastes()
    codes = (np.arange(40) // 2 % 2).astype(np.int32)[:, None]
    wanted = np.array([[0.5, -0.5, 0.0], [-0.5, 0.5, 0.0]])
    goal = ClassMoments(np.array([20, 20]), wanted, np.zeros((2, 3, 3)))
    moved = metric(loss, vectors).with_means(vectors, codes, [goal])
    means = np.stack([moved[codes[:, 0] == k].mean(axis=0) for k in (0, 1)])
    np.testing.assert_allclose(means, wanted, atol=1e-5)

    def disturbed(new):
        change = np.einsum("ud,uld->ul", new - vectors, loss.items[loss.lists])
        return change.var(axis=1).mean()

    shift = np.stack([wanted[k] - vectors[codes[:, 0] == k].mean(axis=0) for k in (0, 1)])
    assert disturbed(moved) < 0.6 * disturbed(vectors + shift[codes[:, 0]])


def test_places_past_the_last_unseen_item_count_for_nothing():
    loss, vectors = two_tastes()
    short = Items(loss.items, np.where(np.arange(10) < 6, loss.lists, -1))
    cut = Items(loss.items, loss.lists[:, :6])
    np.testing.assert_allclose(metric(short, vectors).compliance, metric(cut, vectors).compliance, rtol=1e-4, atol=1e-6)


def test_where_no_items_are_known_the_nearest_users_stand_for_them():
    rng = np.random.default_rng(1)
    vectors = np.zeros((80, 3))
    vectors[::2, 0], vectors[1::2, 1] = rng.uniform(1, 2, (2, 40))
    who = np.arange(20)
    metric = ListMetric.of_users(vectors, who, np.eye(3), 20, rng)
    steps = metric.bent(np.tile([1.0, 1.0, 0.0], (20, 1)))
    assert (abs(steps[::2, 1]) > 1.5 * abs(steps[::2, 0])).all()
    assert (abs(steps[1::2, 0]) > 1.5 * abs(steps[1::2, 1])).all()


def test_many_users_look_for_the_nearest_among_some(monkeypatch):
    monkeypatch.setattr(list_metric, "MOST_USERS", 30)
    vectors = np.random.default_rng(2).normal(size=(100, 4))
    metric = ListMetric.of_users(vectors, np.arange(100), np.eye(4), 50, np.random.default_rng(0))
    step = np.array([0.3, -1.0, 2.0, 0.0])
    np.testing.assert_allclose(metric.bent(np.tile(step, (100, 1))).mean(axis=0), step, atol=1e-5)
