"""Calibrated with interactions: goals of the flow, met by moves that leave each user's own list alone."""

import numpy as np
import pytest

from attrcloak.data.datasets.planted import planted_leak
from attrcloak.errors import InvalidSettings, NotSupported
from attrcloak.unlearning import Calibrated, CalibratedDD, run

KEY = b"0123456789abcdef0123456789abcdef"


class Lists:
    """Three hundred made-up items of which nobody has seen any."""

    def __init__(self, dim):
        self.items = np.random.default_rng(0).normal(size=(300, dim))

    def gradient(self, user_vectors, rng):
        raise AssertionError("lists are all that counts")

    def best_unseen(self, user_vectors, count, constants=True):
        scores = user_vectors @ self.items.T
        best = np.argsort(-scores, axis=1)[:, :count]
        return best, np.take_along_axis(scores, best, axis=1)


@pytest.mark.parametrize("seed", [0, 1])
def test_more_of_each_list_stays_and_class_means_come_as_near(seed):
    table, people = planted_leak("linear", users=900, dim=24, strength=2.0, seed=seed)
    loss = Lists(24)
    codes = people.marked_codes()[:, 0]
    before = loss.best_unseen(table.free, 10)[0]

    def apart(vectors):
        return np.ptp([vectors[codes == k].mean(axis=0) for k in np.unique(codes)], axis=0).max()

    kept = {}
    for method in (Calibrated(), CalibratedDD(lists=20)):
        moved = run(method, table, people, key=KEY, recommendation=loss).table.free
        pairs = zip(before, loss.best_unseen(moved, 10)[0], strict=True)
        kept[method.name] = np.mean([len(np.intersect1d(*pair)) / 10 for pair in pairs])
        assert apart(moved) < 0.4 * apart(table.free)
    assert kept["calibrated-dd"] > kept["calibrated"] + 0.01


def test_without_interactions_it_says_what_to_use_instead():
    table, people = planted_leak("linear", users=60, dim=4, seed=0)
    with pytest.raises(NotSupported, match="without them use calibrated-flow"):
        run(CalibratedDD(), table, people, key=KEY)


@pytest.mark.parametrize("settings", [{"slices": 0}, {"lists": 1}])
def test_settings_that_leave_nothing_to_do_are_refused(settings):
    with pytest.raises(InvalidSettings, match="calibrated-dd"):
        CalibratedDD(**settings)
