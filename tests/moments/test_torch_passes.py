"""The passes on torch tensors give what they give on arrays, on whatever device the tensors are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attrcloak.errors import InvalidInput, InvalidSettings, NotSupported
from attrcloak.moments import CellKey, Eraser, cell_moments

torch = pytest.importorskip("torch")

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from attrcloak.moments import pieces, torch_passes  # noqa: E402

CUDA = pytest.param("cuda", marks=pytest.mark.gpu)
DEVICES = pytest.mark.parametrize("device", ["cpu", CUDA], indirect=True)
TYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
TOLERANCE = {torch.float16: 2e-3, torch.bfloat16: 1e-2, torch.float32: 1e-6, torch.float64: 1e-10}
"""Relative to NumPy on the same numbers in float64: rounding of the sums, or of the result to the table's type."""

DIM, CELLS = 5, 9


@pytest.fixture
def device(request):
    """A device to run on; a test of CUDA is skipped where there is none."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return request.param


@pytest.fixture
def small_batches(monkeypatch):
    """Pieces of 20 rows in batches of 160 numbers and blocks of 300 rows, so that cells span all of these."""
    monkeypatch.setattr(torch_passes, "NUMBERS_PER_BATCH", dict.fromkeys(("cpu", "elsewhere"), 160 * DIM))
    monkeypatch.setattr(pieces, "PIECES_PER_BATCH", 1000)
    monkeypatch.setattr(torch_passes, "ROWS_PER_BLOCK", 300)
    monkeypatch.setattr(torch_passes, "ROWS_PER_CELL", 1)


def keyed(cell_count):
    names = tuple(map(str, range(cell_count - 1)))
    return CellKey(("a",), (names,), np.arange(-1, cell_count - 1)[:, None])


def table(seed=0, users=997, dim=DIM, cell_count=CELLS, offset=50.0):
    """Two large cells, small ones, one that is empty, a lone user, and cell 0 of those who asked for nothing."""
    rng = np.random.default_rng(seed)
    shares = np.array([3.0, 5.0, *([0.3] * (cell_count - 3)), 0.0])[:cell_count]
    cells = rng.choice(cell_count, size=users, p=shares / shares.sum()).astype(np.int32)
    cells[users // 2] = cell_count - 2
    x = rng.normal(size=(users, dim)) * (1 + cells[:, None]) + offset
    x[cells == 0, 0] = -0.0  # comes out of a product with the identity as 0.0
    return x, cells


def eraser(cell_count=CELLS, dim=DIM):
    rng = np.random.default_rng(1)
    return Eraser(keyed(cell_count), rng.normal(size=(cell_count, dim, dim)), rng.normal(size=(cell_count, dim)))


def as_array(tensor):
    return tensor.detach().cpu().to(torch.float64).numpy()


def bits(tensor):
    return tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()


def assert_same_moments(found, wanted):
    np.testing.assert_array_equal(found.count, wanted.count)
    np.testing.assert_allclose(found.mean, wanted.mean, rtol=1e-10)
    largest = np.abs(wanted.scatter).max(axis=(1, 2), initial=0.0)[:, None, None]
    assert (np.abs(found.scatter - wanted.scatter) <= 1e-10 * largest).all()
    assert (found.mean.dtype, found.scatter.dtype, found.count.dtype) == (np.float64, np.float64, np.int64)


@DEVICES
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.usefixtures("small_batches")
def test_both_passes_agree_with_numpy_in_every_type(device, dtype):
    x, cells = table()
    given = torch.tensor(x, dtype=dtype, device=device)
    before, exact = bits(given), as_array(given)
    assert_same_moments(cell_moments(given, cells, keyed(CELLS)), cell_moments(exact, cells, keyed(CELLS)))
    new = eraser().apply(given, cells)
    assert (new.dtype, new.device, new.shape) == (dtype, given.device, given.shape)
    wanted = eraser().apply(exact, cells)
    np.testing.assert_allclose(as_array(new), wanted, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    stayed = torch.tensor(cells == 0, device=device)
    assert bits(new[stayed]) == bits(given[stayed])
    assert bits(given) == before


@given(
    st.integers(0, 10_000),
    st.integers(0, 400),
    st.integers(1, 7),
    st.integers(3, 40),
    st.integers(1, 200),
    st.integers(1, 50),
)
def test_any_table_in_any_cut_agrees_with_numpy(seed, users, dim, cell_count, rows_per_block, rows_per_batch):
    x, cells = table(seed, users + 1, dim, cell_count)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_passes, "NUMBERS_PER_BATCH", dict.fromkeys(("cpu", "elsewhere"), rows_per_batch * dim))
        patch.setattr(torch_passes, "ROWS_PER_BLOCK", rows_per_block)
        patch.setattr(torch_passes, "ROWS_PER_CELL", 1)
        tensor = torch.tensor(x)
        found = cell_moments(tensor, cells, keyed(cell_count))
        cells[::5] = -1
        new = eraser(cell_count, dim).apply(tensor, torch.tensor(cells))
    cells_before = table(seed, users + 1, dim, cell_count)[1]
    assert_same_moments(found, cell_moments(x, cells_before, keyed(cell_count)))
    np.testing.assert_allclose(new.numpy(), eraser(cell_count, dim).apply(x, cells), rtol=1e-10, atol=1e-10)
    stayed = (cells == -1) | (cells == 0)
    assert new.numpy()[stayed].tobytes() == x[stayed].tobytes()


@DEVICES
def test_no_rows_are_no_users(device):
    nobody = torch.empty(0, DIM, device=device)
    moments = cell_moments(nobody, np.empty(0, dtype=np.int32), keyed(CELLS))
    assert (moments.users, moments.scatter.any()) == (0, False)
    assert eraser().apply(nobody, np.empty(0, dtype=np.int32)).shape == (0, DIM)


@DEVICES
@pytest.mark.usefixtures("small_batches")
def test_the_same_bits_every_time(device):
    x, cells = table()
    given = torch.tensor(x, dtype=torch.float32, device=device)
    results = []
    for _ in range(3):
        moments = cell_moments(given, cells, keyed(CELLS))
        results.append((moments.mean.tobytes(), moments.scatter.tobytes(), bits(eraser().apply(given, cells))))
    assert len(set(results)) == 1


def test_a_large_common_offset_costs_no_accuracy():
    x, cells = table(offset=0.0)
    near = cell_moments(torch.tensor(x), cells, keyed(CELLS))
    far = cell_moments(torch.tensor(x + 1e7), cells, keyed(CELLS))
    np.testing.assert_allclose(far.scatter, near.scatter, rtol=1e-6, atol=1e-4)


@pytest.mark.usefixtures("small_batches")
def test_what_is_not_finite_stays_in_its_cell():
    """Short pieces are padded with rows of other cells; these must not leak in."""
    x, cells = table()
    x[np.flatnonzero(cells == 3)[0]] = np.nan
    x[np.flatnonzero(cells == 0)[0]] = np.inf
    with np.errstate(invalid="ignore"):
        found, wanted = (cell_moments(v, cells, keyed(CELLS)) for v in (torch.tensor(x), x))
        np.testing.assert_array_equal(np.isfinite(found.scatter), np.isfinite(wanted.scatter))
        new = eraser().apply(torch.tensor(x), cells).numpy()
    np.testing.assert_array_equal(np.isfinite(new).all(axis=1), np.isfinite(x).all(axis=1))


@DEVICES
def test_the_result_can_go_to_a_tensor_even_to_the_same_one(device):
    x, cells = table()
    given = torch.tensor(x, device=device)
    wanted = eraser().apply(given, cells)
    place = torch.full_like(given, torch.nan)
    assert eraser().apply(given, cells, out=place) is place
    assert torch.equal(place, wanted)
    assert eraser().apply(given, cells, out=given) is given
    assert torch.equal(given, wanted)


def test_layout_gradients_and_autocast_change_nothing():
    x, cells = table()
    given = torch.tensor(x, dtype=torch.float32)
    moments, new = cell_moments(given, cells, keyed(CELLS)), eraser().apply(given, cells)
    weights = torch.nn.Parameter(given.T.contiguous().T)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        again, moved = cell_moments(weights, torch.tensor(cells), keyed(CELLS)), eraser().apply(weights, cells)
    assert again.scatter.tobytes() == moments.scatter.tobytes()
    assert torch.equal(moved, new)
    assert (moved.requires_grad, moved.is_contiguous()) == (False, True)


@pytest.mark.parametrize(
    ("out", "said"),
    [
        (np.empty((997, DIM)), "out is a ndarray, expected a tensor"),
        (torch.empty(997, DIM), r"out is torch.float32 \(997, 5\) on cpu, expected torch.float64"),
        (torch.empty(996, DIM, dtype=torch.float64), r"expected torch.float64 \(997, 5\)"),
        (torch.empty(DIM, 997, dtype=torch.float64).T, "in one piece"),
    ],
)
def test_a_place_that_does_not_fit_is_refused(out, said):
    x, cells = table()
    with pytest.raises(InvalidInput, match=said):
        eraser().apply(torch.tensor(x), cells, out=out)
    with pytest.raises(InvalidInput, match="out is a Tensor, expected an array"):
        eraser().apply(x, cells, out=torch.tensor(x))


BOTH = pytest.mark.parametrize(
    "pass_over", [lambda x, cells: cell_moments(x, cells, keyed(CELLS)), lambda x, cells: eraser().apply(x, cells)]
)


@BOTH
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x, cells: (x, cells[1:]), r"997 rows need the cell of each, shape \(997,\), not \(996,\)"),
        (lambda x, cells: (x, cells + 2), "users are in a cell past the last, 8 .up to 9"),
        (lambda x, cells: (x.to(torch.int64), cells), "vectors are torch.int64"),
        (lambda x, cells: (x.to_sparse(), cells), "torch.sparse_coo.*dense"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(pass_over, change, said):
    x, cells = table()
    with pytest.raises(InvalidInput, match=said):
        pass_over(*change(torch.tensor(x), cells))


def test_users_without_a_cell_are_refused_and_counted():
    x, cells = table()
    cells[:3] = -1
    with pytest.raises(InvalidInput, match="3 of 997 users are in no cell"):
        cell_moments(torch.tensor(x), torch.tensor(cells), keyed(CELLS))


@BOTH
def test_a_device_without_float64_is_refused(pass_over):
    x, cells = table()
    with pytest.raises(NotSupported, match="the device meta does not compute in float64"):
        pass_over(torch.tensor(x, device="meta"), cells)


@BOTH
def test_a_device_that_is_full_is_said_to_be(pass_over, monkeypatch):
    def full(*arguments, **options):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nSee the documentation")

    monkeypatch.setattr(torch, "sort", full)
    x, cells = table()
    with pytest.raises(NotSupported, match=r"too little memory \(CUDA out of memory. Tried to allocate 2.00 GiB.\)"):
        pass_over(torch.tensor(x), cells)


def test_a_list_is_neither_array_nor_tensor():
    with pytest.raises(InvalidInput, match="vectors are a list"):
        cell_moments([[1.0]], np.array([0]), keyed(CELLS))


def test_a_table_goes_to_a_device_read_only_or_not():
    x, _ = table()
    x.setflags(write=False)
    np.testing.assert_array_equal(torch_passes.to_device(x, "cpu").numpy(), x)


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "meta:0:1"])
def test_a_device_that_is_not_there_is_refused_with_those_that_are(name):
    with pytest.raises(InvalidSettings, match=f"device '{name}' cannot be used; there are: cpu"):
        torch_passes.to_device(np.ones(1), name)


class Calls(TorchDispatchMode):
    """Counts the operations torch is asked for, and the numbers of the largest float64 tensor that comes of one."""

    count = largest = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        made = operation(*args, **(kwargs or {}))
        self.count += 1
        if isinstance(made, torch.Tensor) and made.dtype == torch.float64:
            self.largest = max(self.largest, made.numel())
        return made


@pytest.mark.parametrize("cell_count", [3, 40, 4000])
def test_neither_calls_nor_memory_grow_with_cells(cell_count, monkeypatch):
    """On a GPU a call is a kernel launch. What is larger than a batch is the moments or the maps themselves."""
    numbers = 1 << 18
    monkeypatch.setattr(torch_passes, "NUMBERS_PER_BATCH", {"cpu": numbers, "elsewhere": numbers})
    x, cells = table(users=40_000, dim=8, cell_count=cell_count)
    given, maps = torch.tensor(x, dtype=torch.float32), eraser(cell_count, 8)
    for pass_over in (lambda: cell_moments(given, cells, keyed(cell_count)), lambda: maps.apply(given, cells)):
        with Calls() as calls:
            pass_over()
        assert calls.count < 400
        assert calls.largest <= max(numbers, cell_count * 8 * 8)


@pytest.mark.gpu
@pytest.mark.parametrize("device", ["cuda"], indirect=True)
def test_a_gpu_takes_no_more_memory_than_is_said(device):
    """Table, new table, moments or maps, and 0.6 GB."""
    users, dim, cell_count = 1_000_000, 64, 14
    cells = np.arange(users, dtype=np.int32) % cell_count
    given = torch.randn(users, dim, device=device)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    cell_moments(given, cells, keyed(cell_count))
    new = eraser(cell_count, dim).apply(given, cells)
    assert torch.cuda.max_memory_allocated() - before - new.nbytes < 0.6e9
