"""AttrCloak-DF: the two-pass theorem, and what the objective's settings do."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attrcloak.data import EmbeddingTable, Ids, UserAttributes
from attrcloak.data.datasets.planted import planted_leak
from attrcloak.errors import InvalidSettings
from attrcloak.moments import CellKey, cell_moments, leakage_weight
from attrcloak.unlearning import AttrCloakDF, Barycentre, run
from attrcloak.unlearning.method import objective


def planted(seed: int, users: int = 240, dim: int = 4):
    """Two attributes with unknown labels and unmarked users, and one cell with fewer users than dimensions."""
    rng = np.random.default_rng(seed)
    codes = np.stack([rng.integers(-1, 2, users), rng.integers(-1, 3, users)], axis=1)
    codes[codes[:, 1] == 2, 0] = 0
    codes[0] = (1, 2)
    x = rng.normal(size=(users, dim)) * (1 + 0.5 * (codes[:, [0]] == 1)) + 0.7 * codes[:, [1]]
    key, cells = CellKey.of(("a", "b"), (("0", "1"), ("0", "1", "2")), codes)
    return x, cells, key


def descent_by_the_book(x0, cells, key, *, steps, rate, floor, ridge):
    """Algorithm 1 on rows with the covariances, gradients and weight written out once more, for comparison."""
    codes, x = key.combinations[cells], x0.copy()
    asked = (codes >= 0).any(axis=1)
    variance = x0[asked].var(axis=0).mean()
    users, d = asked.sum(), x0.shape[1]
    scale = 1 / (variance * d * users)
    for _ in range(steps):
        leak = np.zeros_like(x)
        for column in codes.T:
            everyone = x[column >= 0]
            total = np.linalg.inv(np.cov(everyone.T, bias=True) + ridge * variance * np.eye(d))
            for k in np.unique(column[column >= 0]):
                rows = column == k
                own = np.linalg.inv(np.cov(x[rows].T, bias=True) + ridge * variance * np.eye(d))
                pull = (x[rows] - everyone.mean(axis=0)) @ total - (x[rows] - x[rows].mean(axis=0)) @ own
                leak[rows] += pull / len(everyone) / codes.shape[1]
        back = 2 * scale * (x - x0)
        a = leakage_weight((back**2).sum(), (back * leak).sum(), (leak**2).sum(), floor)
        x = x - rate * variance * users * (a * leak + (1 - a) * back)
    return x


@settings(max_examples=15)
@given(st.integers(0, 10_000))
def test_moment_space_equals_rows(seed):
    x, cells, key = planted(seed)
    method = AttrCloakDF(steps=50, ridge=0.05)
    solution = method.solve(cell_moments(x, cells, key))
    rows = descent_by_the_book(x, cells, key, steps=50, rate=method.learning_rate, floor=0.9, ridge=0.05)
    np.testing.assert_allclose(solution.eraser.apply(x, cells), rows, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("solver", ["gradient descent", "l-bfgs"])
def test_both_spaces_run_the_same_descent(solver):
    x, cells, key = planted(3)
    table, people = as_table(x, cells, key)
    rows = run(AttrCloakDF(space="rows", solver=solver, steps=20), table, people)
    moments = run(AttrCloakDF(space="moments", solver=solver, steps=20), table, people)
    np.testing.assert_allclose(rows.table.vectors, moments.table.vectors, rtol=1e-8, atol=1e-9)
    assert rows.eraser is None
    assert moments.eraser is not None


def test_moment_space_survives_many_steps_on_cells_of_few_users():
    """Unsupported directions of a small cell must not be multiplied until they overflow."""
    rng = np.random.default_rng(0)
    codes = np.stack([rng.integers(0, 2, 120), rng.integers(0, 7, 120), rng.integers(0, 5, 120)], axis=1)
    key, cells = CellKey.of("abc", [[str(i) for i in range(k)] for k in (2, 7, 5)], codes)
    x = rng.normal(size=(120, 16)) + codes[:, [0]]
    solution = AttrCloakDF(steps=200).solve(cell_moments(x, cells, key))
    assert solution.stopped == "max steps"
    assert np.abs(solution.eraser.apply(x, cells)).max() < 100


def test_nothing_moves_when_the_floor_is_zero():
    x, cells, key = planted(1)
    solution = AttrCloakDF(min_leakage_weight=0.0, steps=20).solve(cell_moments(x, cells, key))
    np.testing.assert_allclose(solution.eraser.apply(x, cells), x, atol=1e-12)


@pytest.mark.parametrize("solver", ["gradient descent", "l-bfgs"])
def test_the_objective_falls(solver):
    x, cells, key = planted(2)
    trace = AttrCloakDF(solver=solver, steps=100).solve(cell_moments(x, cells, key)).trace
    assert trace[-1].leakage < 0.2 * trace[0].leakage


def test_a_higher_floor_leaves_less_leakage_for_more_drift():
    x, cells, key = planted(2)
    moments = cell_moments(x, cells, key)
    ends = [AttrCloakDF(min_leakage_weight=a, steps=300).solve(moments).trace[-1] for a in (0.05, 0.5, 0.95)]
    assert ends[0].leakage > ends[1].leakage > ends[2].leakage
    assert ends[0].drift < ends[1].drift < ends[2].drift


def test_neither_the_scale_nor_the_size_of_a_table_changes_what_a_step_means():
    x, cells, key = planted(4)
    method = AttrCloakDF(steps=30)
    once = method.solve(cell_moments(x, cells, key)).eraser.apply(x, cells)
    scaled = method.solve(cell_moments(1000 * x, cells, key)).eraser.apply(1000 * x, cells)
    twice = method.solve(cell_moments(np.tile(x, (2, 1)), np.tile(cells, 2), key)).eraser.apply(x, cells)
    np.testing.assert_allclose(scaled / 1000, once, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(twice, once, rtol=1e-8, atol=1e-9)


def test_the_barycentre_reaches_zero_with_no_larger_move_than_the_solver_driven_to_the_same_place():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 600)
    x = rng.normal(size=(600, 4)) * (1 + 0.4 * labels[:, None]) + labels[:, None]
    key, cells = CellKey.of(("a",), (("0", "1", "2"),), labels[:, None])
    moments = cell_moments(x, cells, key)
    exact = Barycentre().solve(moments).eraser.apply(x, cells)
    solver = AttrCloakDF(solver="l-bfgs", min_leakage_weight=1.0, steps=2000, tolerance=1e-14, ridge=0.0)
    driven = solver.solve(moments).eraser.apply(x, cells)
    assert objective(cell_moments(exact, cells, key), 1e-9) == pytest.approx(0.0, abs=1e-8)
    assert objective(cell_moments(driven, cells, key), 1e-9) < 1e-4
    assert ((exact - x) ** 2).sum() <= ((driven - x) ** 2).sum() * (1 + 1e-6)


def test_settings_out_of_range_are_refused():
    with pytest.raises(InvalidSettings, match=r"expected a number in \[0, 1\]"):
        AttrCloakDF(min_leakage_weight=1.5)


def as_table(x, cells, key) -> tuple[EmbeddingTable, UserAttributes]:
    codes = key.combinations[cells]
    values = {
        name: [None if c < 0 else key.classes[a][c] for c in codes[:, a]] for a, name in enumerate(key.attributes)
    }
    return EmbeddingTable(Ids.range(len(x)), x), UserAttributes.from_values(np.arange(len(x)), **values)


def test_a_fixed_weight_is_held_and_the_rule_is_one_of_many() -> None:
    table, people = planted_leak("linear", users=300, dim=5)
    fixed = run(AttrCloakDF(weight=0.4, steps=20), table, people)
    assert {step.weight for step in fixed.trace} == {0.4}
    still = run(AttrCloakDF(weight=0.0, steps=20), table, people)
    np.testing.assert_array_equal(still.table.vectors, table.vectors)
    with pytest.raises(InvalidSettings, match="mgda"):
        AttrCloakDF(weight=1.2)


@pytest.mark.parametrize("weight", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("drift", ["relative", "sum"])
def test_a_fixed_weight_reaches_the_minimum_of_its_objective_however_large_the_drift_is(weight, drift):
    """A sum over 900 users outweighs everything at the rate that suits the leakage; it must hold back, not blow up."""
    x, cells, key = planted(5, users=900)
    moments = cell_moments(x, cells, key)

    def end(**settings):
        solution = AttrCloakDF(weight=weight, drift=drift, ridge=0.05, **settings).solve(moments)
        assert solution.stopped != "diverged"
        last = solution.trace[-1]
        return weight * last.leakage + (1 - weight) * last.drift, last

    reached, last = end(steps=2000)
    least, _ = end(solver="l-bfgs", tolerance=1e-12)
    start = weight * AttrCloakDF(steps=1, ridge=0.05).solve(moments).trace[0].leakage
    assert reached - least < 0.02 * (start - least)
    assert last.drift > 0
