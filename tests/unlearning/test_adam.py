"""Adam equals the one of torch; the descent stops for the reason it says and touches only who asked."""

import numpy as np
import pytest

from attrcloak.data import EmbeddingTable, Ids, UserAttributes
from attrcloak.errors import InvalidSettings
from attrcloak.unlearning.adam import TRACED_EVERY, Adam, descend
from attrcloak.unlearning.method import OBJECTIVE_RIDGE, Rows, objective


def rows(offset: float = 0.0) -> Rows:
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    x = rng.normal(size=(60, 3)) + labels[:, None] + offset
    people = UserAttributes.from_values(np.arange(60), a=labels.tolist()).mark({"a": np.arange(40)})
    return Rows(EmbeddingTable(Ids.range(60), x), people.cells(), b"key")


def test_steps_equal_those_of_torch():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    start, target = rng.normal(size=(6, 4)), rng.normal(size=(6, 4))
    adam = Adam(learning_rate=0.03, mean_decay=0.8, square_decay=0.95, epsilon=1e-5)
    parameter = torch.tensor(start, requires_grad=True)
    oracle = torch.optim.Adam([parameter], lr=0.03, betas=(0.8, 0.95), eps=1e-5)
    position, state = start, adam.start(start)
    for _ in range(50):
        oracle.zero_grad()
        ((parameter - torch.tensor(target)) ** 4).sum().backward()
        oracle.step()
        state, change = adam.step(state, 4 * (position - target) ** 3)
        position = position - change
    np.testing.assert_allclose(position, parameter.detach().numpy(), rtol=1e-10, atol=1e-12)
    assert state.taken == 50


def test_a_step_changes_neither_the_state_nor_the_gradient_it_was_given():
    adam = Adam()
    first, gradient = adam.start(np.zeros((2, 2))), np.ones((2, 2))
    adam.step(first, gradient)
    assert first.taken == 0
    assert not first.mean.any()
    assert (gradient == 1).all()


def test_a_coordinate_moves_by_the_learning_rate_while_its_gradient_keeps_its_sign_however_large_it_is():
    adam = Adam(learning_rate=0.1)
    state, moved = adam.start(np.zeros((1, 2))), np.zeros((1, 2))
    for _ in range(20):
        state, change = adam.step(state, np.array([[1e-3, -1e6]]))
        moved = moved - change
    np.testing.assert_allclose(moved, [[-2.0, 2.0]], rtol=1e-4)


def test_only_users_who_asked_move_and_what_has_no_gradient_stays_bit_for_bit():
    table = rows(offset=1e6)
    moved = descend(
        table, Adam(), lambda position: np.ones_like(position) * [1, 0, 1], name="a method", steps=3, unit=0.5
    ).vectors
    np.testing.assert_array_equal(moved[40:], table.vectors[40:])
    np.testing.assert_array_equal(moved[:, 1], table.vectors[:, 1])
    np.testing.assert_allclose(moved[:40, 0] - table.vectors[:40, 0], -3 * 0.5e-3, rtol=1e-4)


def test_the_trace_has_the_objective_of_every_tenth_step_and_the_move_of_each():
    table = rows()
    calls = []
    moved = descend(
        table,
        Adam(learning_rate=0.1),
        lambda position: position + 1,
        name="a method",
        steps=2 * TRACED_EVERY,
        unit=1.0,
        progress=lambda *call: calls.append(call),
    )
    assert moved.stopped == "max steps"
    assert len(moved.trace) == 2 * TRACED_EVERY
    assert calls[-1] == ("a method", 2 * TRACED_EVERY, 2 * TRACED_EVERY)
    moments = table.moments
    before = objective(moments, OBJECTIVE_RIDGE * moments.mean_variance)
    assert [step.leakage for step in moved.trace[:TRACED_EVERY]] == [before] * TRACED_EVERY
    asked = table.vectors[:40]
    spread = ((asked - asked.mean(axis=0)) ** 2).sum()
    assert moved.trace[0].drift == 0.0
    assert moved.trace[1].drift == pytest.approx(asked.size * 0.1**2 / spread)


def test_no_gradient_is_convergence_and_a_broken_one_gives_back_the_last_position():
    table = rows()
    still = descend(table, Adam(), np.zeros_like, name="a method", steps=5, unit=1.0)
    assert (still.stopped, still.trace) == ("converged", ())
    np.testing.assert_array_equal(still.vectors, table.vectors)

    broken = descend(
        table,
        Adam(),
        lambda position: np.full_like(position, np.nan) if position.any() else position + 1,
        name="a method",
        steps=5,
        unit=1.0,
    )
    assert broken.stopped == "diverged"
    assert len(broken.trace) == 1
    assert np.isfinite(broken.vectors).all()


@pytest.mark.parametrize(
    "wrong", [{"learning_rate": 0.0}, {"mean_decay": 1.0}, {"square_decay": -0.1}, {"epsilon": 0.0}]
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(InvalidSettings):
        Adam(**wrong)
