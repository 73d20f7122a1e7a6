"""Methods that iterate over rows give by torch, where a device is named, what they give in NumPy."""

from dataclasses import replace

import numpy as np
import pytest

from attrcloak.data.attributes import UserAttributes
from attrcloak.data.datasets.planted import planted_interactions, planted_leak
from attrcloak.data.embeddings import EmbeddingTable
from attrcloak.errors import NotSupported
from attrcloak.moments.arrays import beside, device_of, on_host, sums_of_runs
from attrcloak.recommenders.recommender import BPRLoss
from attrcloak.unlearning import D2DR, METHODS, PAU, U2UR, AttrCloakDD, AttrCloakDF, run
from attrcloak.unlearning.adam import Adam
from attrcloak.unlearning.descent import RowSpace
from attrcloak.unlearning.pot_au import RankingHinge

torch = pytest.importorskip("torch")

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.fixture(autouse=True)
def _there_is_such_a_device(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("no CUDA device")


@pytest.fixture(scope="module")
def asked() -> tuple[EmbeddingTable, UserAttributes, BPRLoss]:
    """400 users with a frozen column, of whom 300 ask for one attribute and 200 for another."""
    table, people = planted_leak("linear", users=400, dim=6, seed=0)
    rng = np.random.default_rng(1)
    group = [people["group"].classes[code] for code in people["group"].codes]
    people = UserAttributes.from_values(
        table.ids, group=group, town=rng.choice(["north", "south", "west"], size=400)
    ).mark({"group": np.arange(300), "town": np.arange(200, 400)})
    # In float64, or a comparison would see no more than the last bit of float32.
    table = replace(table, vectors=table.vectors.astype(np.float64), frozen_columns=(2,), scoring="dot+constant")
    items = rng.normal(size=(50, table.dim))
    split = planted_interactions(table, items=50, each=8)
    return table, people, BPRLoss.of(table, items, split, batch=2000)


ON_DEVICE = [
    AttrCloakDF(space="rows", steps=20),
    AttrCloakDF(space="rows", solver="l-bfgs", steps=20),
    AttrCloakDD(steps=20),
    U2UR(steps=20),
    U2UR(steps=20, keep="ranking"),
    D2DR(steps=5, batch=128),
    D2DR(steps=5, factor=3.0, keep="ranking"),
]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("method", ON_DEVICE, ids=repr)
def test_rows_come_out_as_from_numpy(method, device, asked) -> None:
    table, people, loss = asked
    plain = run(method, table, people, recommendation=loss)
    there = run(method, table, people, recommendation=loss, device=device)
    # Pair matrices and hinges are in float32.
    near = 1e-9 if isinstance(method, AttrCloakDF | AttrCloakDD) else 1e-5
    assert plain.relative_move > 1e-4
    np.testing.assert_allclose(there.table.vectors, plain.table.vectors, rtol=0, atol=near)
    np.testing.assert_allclose(
        [[step.leakage, step.drift, step.weight] for step in there.trace],
        [[step.leakage, step.drift, step.weight] for step in plain.trace],
        rtol=0,
        atol=100 * near,
    )
    assert there.stopped == plain.stopped
    assert (there.table.vectors[:, 2] == table.vectors[:, 2]).all()


def test_only_methods_that_say_so_work_on_a_device(asked) -> None:
    table, people, _ = asked
    others = [kind() for name, kind in METHODS.items() if name not in {method.name for method in ON_DEVICE}]
    assert all(method.on_device for method in ON_DEVICE)
    assert not any(getattr(method, "on_device", False) for method in [*others, AttrCloakDF()])
    with pytest.raises(NotSupported, match="pau iterates over rows in NumPy alone"):
        run(PAU(steps=1), table, people, device="cpu")


@pytest.mark.parametrize("method", ON_DEVICE, ids=repr)
def test_the_steps_are_taken_on_the_device(method, asked, monkeypatch) -> None:
    """Not in NumPy and sent there afterwards."""
    table, people, loss = asked
    seen = []

    def watch(owner, name: str) -> None:
        original = getattr(owner, name)

        def watched(self, *given):
            seen.append({device_of(each) for each in given if isinstance(each, np.ndarray | torch.Tensor)})
            return original(self, *given)

        monkeypatch.setattr(owner, name, watched)

    watch(RowSpace, "field")
    watch(Adam, "step")
    watch(RankingHinge, "gradient")
    run(replace(method, steps=2), table, people, recommendation=loss, device="cpu")
    assert seen
    assert all(where == {"torch, cpu"} for where in seen)
    seen.clear()
    run(replace(method, steps=2), table, people, recommendation=loss)
    assert all(where == {"NumPy"} for where in seen)


class NumPyLoss:
    """A recommender's loss that knows nothing of tensors: it takes them on the CPU, where they are arrays too."""

    def __init__(self, goal: np.ndarray, *, far: bool = False, wrong: bool = False) -> None:
        self.goal, self.far, self.wrong = goal, far, wrong

    def gradient(self, user_vectors, rng):
        if self.far and not isinstance(user_vectors, np.ndarray):
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        if self.wrong:
            raise TypeError("unsupported operand type(s) for -: 'list' and 'list'")
        apart = np.asarray(user_vectors) - self.goal
        return float((apart**2).sum()), 1e-4 * apart


def test_a_loss_of_ones_own_may_answer_in_numpy_or_is_told_what_it_is_given(asked) -> None:
    table, people, _ = asked
    method, goal = AttrCloakDD(steps=3), np.zeros((len(table), 5))
    plain, there = (
        run(method, table, people, recommendation=NumPyLoss(goal), device=device).table.vectors
        for device in (None, "cpu")
    )
    np.testing.assert_allclose(there, plain, rtol=0, atol=1e-9)
    with pytest.raises(NotSupported, match=r"NumPyLoss.gradient does not take tensors.*name no device") as told:
        run(method, table, people, recommendation=NumPyLoss(goal, far=True), device="cpu")
    assert "can't convert" in str(told.value.__cause__)


@pytest.mark.parametrize("device", [None, "cpu"])
def test_a_loss_of_ones_own_that_is_wrong_shows_its_own_error(asked, device) -> None:
    table, people, _ = asked
    with pytest.raises(TypeError, match="unsupported operand"):
        run(AttrCloakDD(steps=3), table, people, recommendation=NumPyLoss(np.zeros(5), wrong=True), device=device)


def test_too_little_memory_for_steps_is_said_with_what_they_hold(asked, monkeypatch) -> None:
    table, people, loss = asked

    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(Adam, "step", full)
    with pytest.raises(NotSupported, match=r"too little memory \(CUDA out of memory.*rows in float64"):
        run(U2UR(steps=1), table, people, recommendation=loss, device="cpu")


@pytest.mark.parametrize("device", DEVICES)
def test_sums_of_runs_are_those_of_their_rows(device) -> None:
    values = np.random.default_rng(0).normal(size=(9, 2))
    expected = [values[:4].sum(axis=0), values[4], values[5:].sum(axis=0)]
    lengths = np.array([4, 1, 4])
    np.testing.assert_allclose(sums_of_runs(values, lengths), expected)
    found = sums_of_runs(torch.tensor(values, device=device), lengths)
    assert device_of(found).startswith(f"torch, {device}")
    np.testing.assert_allclose(on_host(found), expected)


def test_what_may_not_be_written_to_goes_to_a_device_all_the_same() -> None:
    values = np.arange(3)
    values.setflags(write=False)
    there = beside(values, torch.zeros(1))
    assert (there.dtype, there.tolist()) == (torch.int64, [0, 1, 2])
    assert beside(there, torch.zeros(1)) is there
    assert beside(values, np.zeros(1)) is values
