"""What workers import beforehand is all that a first part takes; the command line begins with it where a pool runs."""

import subprocess
import sys

import pytest

import attrcloak.engines
from attrcloak.cli import streaming
from attrcloak.streaming.passes import WORKER

FIRST_PART = """
import importlib, sys
importlib.import_module({worker!r})
before = set(sys.modules)
from attrcloak.parts import Location, open_parts
(part,) = open_parts(Location.of({path!r}))
for _ in part.vectors():
    pass
ours = ("attrcloak", "scipy", "numpy.linalg", "pyarrow.c")
late = {{name for name in set(sys.modules) - before if name.startswith(ours)}}
assert not late, late
"""


def test_a_first_part_of_a_parquet_table_imports_nothing_more(world):
    script = FIRST_PART.format(worker=WORKER, path=str(next((world.folder / "table").iterdir())))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("files", "engine", "workers", "begins"),
    [
        (3, None, None, True), (3, "auto", 2, True), (1, "pool", None, True), (3, "auto", 1, False),
        (1, None, None, False), (3, "in-process", None, False), (3, "ray", None, False),
    ],
)  # fmt: skip
def test_imports_begin_where_a_pool_will_run(tmp_path, monkeypatch, files, engine, workers, begins):
    asked = []
    monkeypatch.setattr(attrcloak.engines, "import_for_workers", asked.append)
    for number in range(files):
        (tmp_path / f"{number}.parquet").touch()
    streaming.begin_imports(str(tmp_path), engine, workers)
    assert asked == ([WORKER] if begins else [])
