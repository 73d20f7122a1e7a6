"""Mean removal, LEACE and the barycentre, against what their sources promise and against ``concept-erasure``."""

from dataclasses import replace

import numpy as np
import pytest

from attrcloak.auditing import SOUND, audit
from attrcloak.data.datasets.planted import planted_leak
from attrcloak.errors import InvalidSettings
from attrcloak.moments import CellKey, cell_moments
from attrcloak.unlearning import LEACE, Barycentre, MeanRemoval, run
from attrcloak.unlearning.method import objective

TORCH_SCRIPT = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
"""What the oracle's own import warns about."""


def planted(seed: int = 0, users: int = 900, dim: int = 5, attributes: int = 2, unknown: bool = False):
    """Classes that differ in mean and covariance; the attributes depend on each other."""
    rng = np.random.default_rng(seed)
    first = rng.integers(0, 2, users)
    second = np.where(rng.random(users) < 0.4, first, rng.integers(0, 3, users))
    codes = np.stack([first, second], axis=1)[:, :attributes]
    if unknown:
        codes[rng.random(codes.shape) < 0.2] = -1
    x = rng.normal(size=(users, dim)) @ rng.normal(size=(dim, dim)) + 3.0
    x[first == 1] *= 1.4
    x[:, 0] += 2.0 * first - 1.5 * second
    x[second == 2] = x[second == 2][:, ::-1]
    names = ("a", "b")[:attributes]
    key, cells = CellKey.of(names, [("0", "1"), ("0", "1", "2")][:attributes], codes)
    return x, cells, key


def one_hot(labels: np.ndarray) -> np.ndarray:
    return (labels[:, None] == np.unique(labels)).astype(float)


def test_matching_means_on_all_users_puts_a_linear_attacker_below_chance_and_relabelling_turns_that_into_a_leak():
    """The users an attacker has not labelled must lean the other way, for all means to be equal."""
    table, people = planted_leak("linear", users=300, dim=40, seed=0)
    protocol = replace(SOUND, known=(0.8,), seeds=1, permutations=99, resamples=99, equations_known=())

    def read(of):
        (result,) = audit(of, people, attackers=["logistic"], protocol=protocol, workers=1).results
        return result

    assert read(table).balanced_accuracy > 0.75
    after = read(run(MeanRemoval(), table, people).table)
    assert after.balanced_accuracy < 0.4
    assert after.adaptive_balanced_accuracy > 0.6


@pytest.mark.parametrize("unknown", [False, True])
def test_mean_removal_makes_the_class_means_of_all_attributes_agree(unknown):
    x, cells, key = planted(unknown=unknown)
    solution = MeanRemoval(sweeps=100).solve(cell_moments(x, cells, key))
    assert solution.stopped == "converged"
    moved = cell_moments(solution.eraser.apply(x, cells), cells, key)
    for marginal in moved.marginals():
        np.testing.assert_allclose(marginal.mean, np.tile(marginal.global_mean, (len(marginal.mean), 1)), atol=1e-8)
    np.testing.assert_allclose(moved.scatter, cell_moments(x, cells, key).scatter, atol=1e-8)


def test_mean_removal_of_one_attribute_is_the_formula():
    x, cells, key = planted(attributes=1)
    moved = MeanRemoval().solve(cell_moments(x, cells, key)).eraser.apply(x, cells)
    for k in (0, 1):
        expected = x[cells == k] - x[cells == k].mean(axis=0) + x.mean(axis=0)
        np.testing.assert_allclose(moved[cells == k], expected, atol=1e-12)


@TORCH_SCRIPT
@pytest.mark.parametrize("attributes", [1, 2])
def test_leace_equals_concept_erasure(attributes):
    torch = pytest.importorskip("torch")
    from concept_erasure import LeaceFitter

    x, cells, key = planted(attributes=attributes)
    codes = key.combinations[cells]
    z = np.concatenate([one_hot(column) for column in codes.T], axis=1)
    fitter = LeaceFitter(
        x.shape[1], z.shape[1], dtype=torch.float64, shrinkage=False, constrain_cov_trace=False, svd_tol=1e-6
    )
    fitter.update(torch.from_numpy(x), torch.from_numpy(z))
    ours = LEACE().solve(cell_moments(x, cells, key)).eraser.apply(x, cells)
    np.testing.assert_allclose(ours, fitter.eraser(torch.from_numpy(x)).numpy(), atol=1e-9)


@pytest.mark.parametrize("unknown", [False, True])
def test_after_leace_vectors_and_classes_have_no_covariance_and_everyone_has_the_same_map(unknown):
    x, cells, key = planted(unknown=unknown)
    eraser = LEACE().solve(cell_moments(x, cells, key)).eraser
    asked = ~key.unmarked[cells]
    moved = eraser.apply(x, cells)[asked]
    codes = key.combinations[cells][asked]
    for column in codes.T:
        z = one_hot(column)[:, -len(np.unique(column[column >= 0])) :]
        np.testing.assert_allclose((moved - moved.mean(axis=0)).T @ (z - z.mean(axis=0)) / len(z), 0.0, atol=1e-9)
    marked = ~key.unmarked
    assert (eraser.matrices[marked] == eraser.matrices[marked][0]).all()
    np.testing.assert_allclose(moved.mean(axis=0), x[asked].mean(axis=0), atol=1e-10)


@TORCH_SCRIPT
def test_the_barycentre_of_one_attribute_equals_concept_erasure():
    """Both classes equally large, because the oracle centres on the unweighted mean of the class means.

    The oracle divides by n_k - 1 and we by n_k: with equal classes one factor for all, which no map depends on.
    """
    torch = pytest.importorskip("torch")
    from concept_erasure import QuadraticFitter

    rng = np.random.default_rng(5)
    labels = np.arange(600) % 2
    x = rng.normal(size=(600, 4)) @ rng.normal(size=(4, 4))
    x[labels == 1] = 1.5 * x[labels == 1] @ rng.normal(size=(4, 4)) + 1
    fitter = QuadraticFitter(4, 2, dtype=torch.float64, shrinkage=False)
    fitter.update(torch.from_numpy(x), torch.from_numpy(labels))
    expected = fitter.eraser(torch.from_numpy(x), torch.from_numpy(labels)).numpy()
    key, cells = CellKey.of(("a",), [("0", "1")], labels[:, None])
    ours = Barycentre(ridge=0.0).solve(cell_moments(x, cells, key)).eraser.apply(x, cells)
    np.testing.assert_allclose(ours, expected, atol=1e-7)


@pytest.mark.parametrize("unknown", [False, True])
@pytest.mark.parametrize("attributes", [1, 2])
def test_the_barycentre_leaves_no_surrogate(attributes, unknown):
    x, cells, key = planted(attributes=attributes, unknown=unknown)
    before = cell_moments(x, cells, key)
    moved = Barycentre(sweeps=100).solve(before).eraser.apply(x, cells)
    assert objective(before, 1e-9) > 0.2
    assert objective(cell_moments(moved, cells, key), 1e-9) == pytest.approx(0.0, abs=1e-7)


def test_two_attributes_agree_also_where_every_mean_is_equal_from_the_start():
    """Nothing but covariances can tell here whether another sweep is needed."""
    x, cells, key = planted()
    for cell in np.unique(cells):
        x[cells == cell] -= x[cells == cell].mean(axis=0)
    moved = Barycentre(sweeps=100).solve(cell_moments(x, cells, key)).eraser.apply(x, cells)
    assert objective(cell_moments(moved, cells, key), 1e-9) == pytest.approx(0.0, abs=1e-7)


def test_a_class_too_small_for_a_covariance_is_moved_with_the_others_and_its_mean_still_matches():
    x, cells, key = planted(attributes=1)
    codes = np.where(np.arange(len(x)) < 3, 2, key.combinations[cells][:, 0])
    key, cells = CellKey.of(("a",), [("0", "1", "2")], codes[:, None])
    moved = Barycentre().solve(cell_moments(x, cells, key)).eraser.apply(x, cells)
    marginal = cell_moments(moved, cells, key).marginal(0)
    np.testing.assert_allclose(marginal.mean[2], marginal.mean[0], atol=1e-8)
    assert np.abs(moved).max() < 10 * np.abs(x).max()


@pytest.mark.parametrize("method", [MeanRemoval(), Barycentre(), LEACE()])
def test_a_constant_column_stays_bit_for_bit(method):
    """A difference of 1e-15 between classes is all that an attacker who standardises columns needs."""
    x, cells, key = planted()
    x[:, 2] = 0.7
    moved = method.solve(cell_moments(x, cells, key)).eraser.apply(x, cells)
    np.testing.assert_array_equal(moved[:, 2], 0.7)


def test_the_trace_holds_the_leakage_before_each_sweep():
    x, cells, key = planted()
    moments = cell_moments(x, cells, key)
    trace = Barycentre().solve(moments).trace
    assert trace[0].leakage == pytest.approx(objective(moments, 1e-3 * moments.mean_variance))
    assert trace[-1].leakage < 1e-3 * trace[0].leakage


@pytest.mark.parametrize("attributes", [1, 2])
def test_a_direction_in_which_nobody_differs_stays_to_rounding(attributes):
    x, cells, key = planted(attributes=attributes)
    x[:, 4] = 2 * x[:, 1] - x[:, 3] + 5
    moved = Barycentre().solve(cell_moments(x, cells, key)).eraser.apply(x, cells)
    np.testing.assert_allclose(moved[:, 4] - 2 * moved[:, 1] + moved[:, 3], 5.0, atol=1e-11)


@pytest.mark.parametrize(
    ("make", "wrong"),
    [(MeanRemoval, {"sweeps": 0}), (Barycentre, {"sweeps": 0}), (Barycentre, {"ridge": -1.0})],
)
def test_settings_out_of_range_are_refused(make, wrong):
    with pytest.raises(InvalidSettings):
        make(**wrong)
