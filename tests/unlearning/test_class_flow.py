"""The flow lowers what near neighbours tell, stops at chance, and does not care in what portions it looks."""

import numpy as np
import pytest

from attrcloak import EmbeddingTable, Ids, UserAttributes
from attrcloak.attackers import KNNAttacker
from attrcloak.errors import InvalidSettings
from attrcloak.unlearning import CalibratedFlow, class_flow, run
from attrcloak.unlearning.class_energies import ClassEnergies
from attrcloak.unlearning.class_flow import WIDEST, ClassFlow
from attrcloak.unlearning.kernel_rows import BANDS, KernelSums

KEY = b"0123456789abcdef0123456789abcdef"


def rings(users=600, dim=8, seed=0):
    """Two classes with one mean and nearly one covariance: what tells them apart are their neighbourhoods."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 2, users)
    centres = rng.normal(size=(12, dim)) * 2.5
    mixture = np.where(codes == 0, rng.integers(0, 6, users), rng.integers(6, 12, users))
    x = centres[mixture] + rng.normal(size=(users, dim))
    for k in range(2):
        x[codes == k] -= x[codes == k].mean(axis=0)
    return x, codes[:, None].astype(np.int32), rng.permutation(codes)[:, None].astype(np.int32)


def knn_accuracy(x, codes, seed=0):
    known = np.random.default_rng(seed).random(len(x)) < 0.7
    scores = KNNAttacker().fit_predict(x[known], codes[known, 0], x[~known], 2, 0)
    right = scores.argmax(axis=1) == codes[~known, 0]
    return np.mean([right[codes[~known, 0] == k].mean() for k in range(2)])


def flown(x, codes, drawn, rounds):
    flow = ClassFlow(codes, drawn)
    for _ in range(rounds):
        x = x + flow.steps(x)
    return x


def test_neighbours_tell_and_after_the_flow_they_do_not():
    x, codes, drawn = rings()
    assert knn_accuracy(x, codes) > 0.85
    after = np.mean([knn_accuracy(flown(x, codes, drawn, 40), codes, seed) for seed in range(3)])
    assert abs(after - 0.5) < 0.06


def test_classes_that_are_chance_already_hardly_move():
    rng = np.random.default_rng(2)
    x, _, drawn = rings()
    codes = rng.permutation(drawn)
    leaky, true, _ = rings()

    def moved(vectors, labels):
        return ((flown(vectors, labels, drawn, 20) - vectors) ** 2).sum()

    assert moved(x, codes) < 0.2 * moved(leaky, true)


def test_energy_is_the_unbiased_mmd_of_a_class_and_everybody():
    x, codes, drawn = rings(users=60)
    z = ((x - x.mean(axis=0)) / x.std(axis=0)).astype(np.float32)
    found = {}

    class Spy(ClassFlow):
        def _set_speeds(self, seen):
            found["energies"] = seen.unbiased()

    Spy(codes, drawn).steps(x)
    distance = ((z[:, None] - z[None]) ** 2).sum(axis=2)
    for band in range(BANDS):
        kernel = np.exp(-distance / (2 * z.shape[1] * WIDEST / 2**band))
        np.fill_diagonal(kernel, 0)
        everybody = kernel.sum() / (60 * 59)
        for k in range(2):
            inside = codes[:, 0] == k
            n = inside.sum()
            within = kernel[np.ix_(inside, inside)].sum() / (n * (n - 1))
            across = kernel[inside].sum() / (n * 59)
            energy = n * (within - 2 * across + everybody)
            np.testing.assert_allclose(found["energies"][k, band], energy, rtol=1e-3, atol=1e-4)


def test_kernels_that_are_left_out_move_nobody():
    x, codes, drawn = rings()
    some, none = ClassFlow(codes, drawn, left_out=2), ClassFlow(codes, drawn, left_out=BANDS)
    for _ in range(2):
        assert some.steps(x).any()
        assert not none.steps(x).any()
    assert not some._speeds[:, :2].any()
    assert some._speeds[:, 2:].any()


def test_portions_of_rows_change_nothing(monkeypatch):
    x, codes, drawn = rings(users=100)
    whole = ClassFlow(codes, drawn).steps(x)
    monkeypatch.setattr(class_flow, "_ROWS_AT_ONCE", 7)
    np.testing.assert_allclose(ClassFlow(codes, drawn).steps(x), whole, atol=1e-4)


@pytest.mark.parametrize(
    "x", [np.zeros((5, 3)), np.ones((1, 3)), np.empty((0, 3)), np.array([[0.0, 1], [0, 1], [1, 1], [1e6, 1]])]
)
def test_tables_with_nothing_to_compare_stay_finite(x):
    codes = np.arange(len(x), dtype=np.int32)[:, None] % 2
    steps = ClassFlow(codes, codes[::-1]).steps(x)
    assert np.isfinite(steps).all()
    assert steps.shape == x.shape
    assert not steps[:, (x == x[:1]).all(axis=0)].any()


def test_users_without_a_class_are_not_pulled():
    x, codes, drawn = rings(users=80)
    codes, drawn = np.hstack([codes, codes]), np.hstack([drawn, drawn])
    codes[:10], drawn[:10] = -1, -1
    steps = ClassFlow(codes, drawn).steps(x)
    assert not steps[:10].any()
    assert steps[10:].any(axis=1).all()


def test_a_class_of_one_user_has_no_energy():
    energies = ClassEnergies(np.array([1, 3]), 4)
    sums = KernelSums(np.ones((4, 1, BANDS), dtype=np.float32), np.ones((4, BANDS + 1), dtype=np.float32))
    energies.add(np.array([[0], [1], [1], [1]], dtype=np.int32), sums)
    assert not energies.unbiased()[0].any()
    assert energies.unbiased()[1].all()


def test_without_classes_nobody_moves():
    x, codes, _ = rings(users=30)
    nobody = np.full_like(codes, -1)
    assert not ClassFlow(nobody, nobody).steps(x).any()


def test_vectors_without_a_direction_stay_where_directions_are_all():
    x, codes, _ = rings()
    x[:20] = 0
    ids = np.arange(len(x))
    people = UserAttributes.from_values(ids, gender=["FM"[c] for c in codes[:, 0]])
    moved = run(CalibratedFlow(), EmbeddingTable(Ids(ids), x, scoring="dot"), people, key=KEY).table.vectors
    assert not moved[:20].any()
    assert np.linalg.norm(moved[20:], axis=1) == pytest.approx(np.linalg.norm(moved[20]), rel=1e-6)


def test_the_method_flows_where_all_asked_and_not_where_others_show_their_class():
    x, codes, _ = rings()
    ids = np.arange(len(x))
    table = EmbeddingTable(Ids(ids), x)
    people = UserAttributes.from_values(ids, gender=["FM"[c] for c in codes[:, 0]])
    short, long = (run(CalibratedFlow(rounds=n), table, people, key=KEY).table.vectors for n in (1, 20))
    assert np.abs(short - long).max() > 0.01
    assert abs(knn_accuracy(long, codes) - 0.5) < 0.1 < knn_accuracy(x, codes) - 0.5
    some = people.mark({"gender": ids[:300]})
    one, other = (run(CalibratedFlow(rounds=n), table, some, key=KEY).table.vectors for n in (1, 20))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("settings", [{"slices": 0}, {"rounds": 0}, {"lists": 1}])
def test_settings_that_leave_nothing_to_do_are_refused(settings):
    with pytest.raises(InvalidSettings, match="calibrated-flow"):
        CalibratedFlow(**settings)
