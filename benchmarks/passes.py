"""Both passes against the floor: X^T X plus X M by NumPy on the same table, and their peak memory."""

from collections.abc import Iterator

import numpy as np
from threadpoolctl import threadpool_limits

from attrcloak.moments import cell_moments
from benchmarks.measuring import Figure, in_process, in_turn
from benchmarks.tables import named, planted, some_eraser

USERS, DIM, REPEATS = 2_000_000, 64, 7
LEVEL = "at most 3.0, aiming at 2.0"


def measure() -> Iterator[Figure]:
    """14 and 294 cells in float32; 14 cells in float16 and float64 too."""
    for classes, dtype in (((2, 7), "float32"), ((2, 7, 21), "float32"), ((2, 7), "float64"), ((2, 7), "float16")):
        yield from against_the_floor(classes, dtype)
    with threadpool_limits(1, "blas"):
        yield from against_the_floor((2, 7), "float32", " on one thread")
    for classes in ((2, 7), (2, 7, 21)):
        yield memory(classes)


def against_the_floor(classes: tuple[int, ...], dtype: str, threads: str = "") -> Iterator[Figure]:
    """Seconds of both passes over seconds of the floor, repetition by repetition.

    Once with a new array for the result on both sides, and once into one that was there before: a machine that lends
    its memory out takes longer to hand it back than a pass takes, and which side that falls on is chance.
    """
    vectors, cells, key = planted(USERS, DIM, classes, np.dtype(dtype).type)
    eraser = some_eraser(key, DIM)
    floor = vectors if dtype != "float16" else vectors.astype(np.float32)  # NumPy has no fast product in float16
    matrix = eraser.matrices[0].astype(floor.dtype)
    there = np.zeros_like(floor)
    moved = there if floor.dtype == vectors.dtype else np.zeros_like(vectors)
    took = in_turn(
        {
            "X^T X": lambda: floor.T @ floor,
            "X M": lambda: floor @ matrix,
            "pass 1": lambda: cell_moments(vectors, cells, key),
            "pass 2": lambda: eraser.apply(vectors, cells),
            "X M, into memory that was there": lambda: np.matmul(floor, matrix, out=there),
            "pass 2, into memory that was there": lambda: eraser.apply(vectors, cells, out=moved),
        },
        REPEATS,
    )
    table = named(USERS, DIM, len(key), dtype) + threads
    note = "the floor in float32" if dtype == "float16" else ""
    level = LEVEL if dtype == "float32" and not threads else ""
    for memory_of in ("", ", into memory that was there"):
        both, least = took["pass 1"] + took["pass 2" + memory_of], took["X^T X"] + took["X M" + memory_of]
        yield Figure.of(f"both passes over the floor{memory_of}", table, both / least, level=level, note=note)
        yield Figure.of("the same, fastest over fastest", table, both.min() / least.min(), level=level, note=note)
    for name, seconds in took.items():
        yield Figure.of(name, table, seconds, unit="s")


def memory(classes: tuple[int, ...]) -> Figure:
    """Peak memory of a process that makes the table and runs both passes, over input and output together."""
    code = f"""
from benchmarks.measuring import peak_memory
from benchmarks.tables import planted, some_eraser
from attrcloak.moments import cell_moments
warm, cells, key = planted(2_000, {DIM}, {classes})
cell_moments(warm, cells, key), some_eraser(key, {DIM}).apply(warm, cells)
before = peak_memory()
vectors, cells, key = planted({USERS}, {DIM}, {classes})
moments = cell_moments(vectors, cells, key)
moved = some_eraser(key, {DIM}).apply(vectors, cells)
print((peak_memory() - before) / (vectors.nbytes + moved.nbytes))
"""
    table = named(USERS, DIM, int(np.prod(classes)))
    values = [float(in_process(code)) for _ in range(3)]
    return Figure.of("peak memory over input and output", table, values, level="at most 1.2")
