"""A whole process in memory: start, read .npy, find cells, two passes and a solve, write .npy, and its peak memory."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.measuring import Figure, in_process
from benchmarks.tables import named, planted

USERS, DIM, CLASSES, REPEATS = 1_000_000, 64, (2, 7), 5


def measure() -> Iterator[Figure]:
    """Seconds from the first import to the written file, and what share of them the passes are."""
    with tempfile.TemporaryDirectory() as folder:
        vectors, cells, key = planted(USERS, DIM, CLASSES)
        np.save(Path(folder) / "vectors.npy", vectors)
        np.save(Path(folder) / "codes.npy", key.combinations[cells])
        runs = [json.loads(in_process(CODE.format(folder=folder, classes=CLASSES))) for _ in range(REPEATS)]
    table = named(USERS, DIM, len(key))
    for part in ("whole process", "start", "read", "cells", "pass 1", "solve", "pass 2", "write"):
        what = part if part == "whole process" else f"of it: {part}"
        yield Figure.of(what, table, [run[part] for run in runs], unit="s")
    yield Figure.of(
        "peak memory over input and output", table, [run["peak"] / (2 * vectors.nbytes) for run in runs],
        note="libraries included",
    )  # fmt: skip


CODE = """
import json, time
began = time.perf_counter()
import numpy as np
from pathlib import Path
from attrcloak.moments import CellKey, cell_moments
from attrcloak.unlearning import Barycentre
from benchmarks.measuring import peak_memory

marks = dict(start=time.perf_counter())
folder = Path({folder!r})
vectors, codes = np.load(folder / "vectors.npy"), np.load(folder / "codes.npy")
marks["read"] = time.perf_counter()
key, cells = CellKey.of(("a", "b"), [tuple(map(str, range(k))) for k in {classes}], codes)
marks["cells"] = time.perf_counter()
moments = cell_moments(vectors, cells, key)
marks["pass 1"] = time.perf_counter()
eraser = Barycentre().solve(moments).eraser
marks["solve"] = time.perf_counter()
moved = eraser.apply(vectors, cells)
marks["pass 2"] = time.perf_counter()
np.save(folder / "moved.npy", moved)
marks["write"] = time.perf_counter()
took = dict(zip(marks, np.diff([began, *marks.values()])))
print(json.dumps(took | {{"whole process": marks["write"] - began, "peak": peak_memory()}}))
"""
