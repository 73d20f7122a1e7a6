"""Work by torch on a GPU against NumPy on the same table.

Both passes, with the vectors there already or on their way and back; and steps of the methods that iterate over rows.
"""

from collections.abc import Iterator

import numpy as np

from attrcloak.data import Cells, EmbeddingTable, Ids
from attrcloak.data.datasets.planted import planted_interactions
from attrcloak.moments import cell_moments
from attrcloak.recommenders import BPRLoss
from attrcloak.unlearning import D2DR, U2UR, AttrCloakDD, AttrCloakDF
from attrcloak.unlearning.method import Rows
from benchmarks.measuring import Figure, in_turn
from benchmarks.tables import named, planted, some_eraser

USERS, DIM, REPEATS = 2_000_000, 64, 5
ROWS, ITEMS, STEPS = 100_000, 200, 3
TABLES = (((2, 7), "float32"), ((2, 7), "float16"), ((2,), "float32"), ((50, 100), "float32"))


def measure() -> Iterator[Figure]:
    """2, 14 and 5,000 cells in float32, 14 cells in float16; nothing where there is no GPU."""
    import torch

    if not torch.cuda.is_available():
        print("no CUDA device")
        return
    name = f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    for classes, dtype in TABLES:
        yield from against_numpy("cuda", name, USERS, classes, dtype)
    yield from iterations("cuda", name, ROWS)
    yield memory((2, 7))


def against_numpy(device: str, name: str, users: int, classes: tuple[int, ...], dtype: str) -> Iterator[Figure]:
    """Seconds of NumPy over seconds of the device, round by round, and how far their results are apart."""
    import torch

    from attrcloak.moments.torch_passes import to_device

    def finished() -> None:
        if device == "cuda":  # calls return before the work is done
            torch.cuda.synchronize()

    vectors, cells, key = planted(users, DIM, classes, np.dtype(dtype).type)
    eraser = some_eraser(key, DIM)
    there, cells_there = to_device(vectors, device), torch.tensor(cells, device=device)
    moved = eraser.apply(there, cells_there)

    def pass_2() -> None:
        eraser.apply(there, cells_there)
        finished()

    def all_the_way() -> None:
        sent = to_device(vectors, device)
        cell_moments(sent, cells, key)
        eraser.apply(sent, cells).cpu()

    def send() -> None:
        to_device(vectors, device)
        finished()

    took = in_turn(
        {
            "NumPy, pass 1": lambda: cell_moments(vectors, cells, key),
            "NumPy, pass 2": lambda: eraser.apply(vectors, cells),
            "device, pass 1": lambda: cell_moments(there, cells_there, key),
            "device, pass 2": pass_2,
            "device, transfers, both passes": all_the_way,
            "the table to the device": send,
            "the table back": moved.cpu,
        },
        REPEATS,
    )
    table = named(users, DIM, len(key), dtype)
    numpy = took["NumPy, pass 1"] + took["NumPy, pass 2"]
    on_device = took["device, pass 1"] + took["device, pass 2"]
    apart = np.abs(moved.cpu().numpy().astype(np.float64) - eraser.apply(vectors, cells)).max()
    note = f"{name}; largest difference of a coordinate {apart:.1g}"
    yield Figure.of("NumPy over device, both passes, vectors there", table, numpy / on_device, note=note)
    yield Figure.of(
        "NumPy over device, transfers included", table, numpy / took["device, transfers, both passes"], note=name
    )
    for what, seconds in took.items():
        yield Figure.of(what, table, seconds, unit="s", note="" if what.startswith("NumPy") else name)


def iterations(device: str, name: str, users: int) -> Iterator[Figure]:
    """Seconds of NumPy over seconds of the device for some steps of each method, the way there and back included."""
    vectors, cells, key = planted(users, DIM)
    table, rng = EmbeddingTable(Ids.range(users), vectors), np.random.default_rng(0)
    items = rng.normal(size=(ITEMS, DIM))
    loss = BPRLoss.of(table, items, planted_interactions(table, items=ITEMS), batch=5 * users)
    everybody = Cells(key, cells)
    for method in (
        AttrCloakDF(space="rows", steps=STEPS), AttrCloakDD(steps=STEPS), U2UR(steps=STEPS), D2DR(steps=STEPS),
    ):  # fmt: skip
        in_numpy, on_device = (Rows(table, everybody, bytes(32), 0, loss, where) for where in (None, device))
        took = in_turn(
            {
                "NumPy": lambda method=method, rows=in_numpy: method.move(rows),
                "device": lambda method=method, rows=on_device: method.move(rows),
            },
            REPEATS,
        )
        yield Figure.of(
            f"NumPy over device, {STEPS} steps of {method.name} on rows",
            named(users, DIM, len(key)),
            took["NumPy"] / took["device"],
            note=name,
        )


def memory(classes: tuple[int, ...]) -> Figure:
    """Most memory of the device that both passes take, over input and output together."""
    import torch

    from attrcloak.moments.torch_passes import to_device

    vectors, cells, key = planted(USERS, DIM, classes)
    there = to_device(vectors, "cuda")
    torch.cuda.reset_peak_memory_stats()
    cell_moments(there, cells, key)
    some_eraser(key, DIM).apply(there, cells)
    peak = torch.cuda.max_memory_allocated() / (2 * vectors.nbytes)
    return Figure.of("peak device memory over input and output", named(USERS, DIM, len(key)), peak)
