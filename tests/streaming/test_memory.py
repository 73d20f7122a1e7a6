"""Memory does not grow with the number of users."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import attrcloak

SCRIPT = """
import re, sys
from attrcloak.streaming import Sources, unlearn_files
from attrcloak.unlearning import AttrCloakDD, Calibrated
folder, descends = sys.argv[1], len(sys.argv) > 2
more = {"interactions": f"{folder}/pairs.parquet", "items": f"{folder}/items.npy"} if descends else {}
sources = Sources(vectors=f"{folder}/users.npy", people=f"{folder}/people.parquet", output=f"{folder}/new.npy", **more)
unlearn_files(sources, AttrCloakDD(steps=1) if descends else Calibrated(), engine="in-process", check=False)
print(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
"""


def peak_megabytes(folder: Path, users: int, *descends: str) -> float:
    """Of a process that unlearns a table of so many users in 64 dimensions, with five interactions each."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    block = rng.normal(size=(10_000, 64)).astype(np.float32)
    table = np.lib.format.open_memmap(folder / "users.npy", "w+", dtype=np.float32, shape=(users, 64))
    for start in range(0, users, len(block)):
        table[start : start + len(block)] = block
    del table
    people = pa.table({"user_id": rng.permutation(users), "group": pa.array(rng.choice(["a", "b"], users))})
    pq.write_table(people, folder / "people.parquet")
    if descends:
        np.save(folder / "items.npy", block[:500])
        liked = pa.array(rng.integers(0, 500, 5 * users).astype(np.int32))
        pq.write_table(
            pa.table({"user_id": rng.integers(0, users, 5 * users), "item_id": liked}), folder / "pairs.parquet"
        )
    environment = {**os.environ, "PYTHONPATH": str(Path(attrcloak.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder), *descends],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    return json.loads(done.stdout) / 1000


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory from /proc")
def test_memory_does_not_grow_with_users(tmp_path):
    small = peak_megabytes(tmp_path / "small", 200_000)  # more than are looked at together
    large = peak_megabytes(tmp_path / "large", 1_000_000)
    assert (tmp_path / "large" / "users.npy").stat().st_size > 250e6
    assert large < small + 60


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory from /proc")
def test_memory_of_a_descent_does_not_grow_with_users_or_interactions(tmp_path):
    small = peak_megabytes(tmp_path / "small", 500_000, "descends")  # more interactions than are joined at once
    # The system takes mapped pages back when it likes, so a busy machine adds to a peak; growth would be in every run.
    large = (peak_megabytes(tmp_path / f"large-{run}", 1_000_000, "descends") for run in range(2))
    assert any(peak < small + 60 for peak in large)
