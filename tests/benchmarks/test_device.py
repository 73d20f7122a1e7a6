"""The section of the benchmarks that wants a GPU says so where there is none, and what it measures runs anywhere."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

ROOT = Path(__file__).resolve().parents[2]


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A Python process in the root of the project that sees no GPU."""
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")])
    hidden = os.environ | {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": path}
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, env=hidden, capture_output=True, text=True)


def test_without_a_gpu_it_says_so_and_leaves_the_figures(tmp_path: Path) -> None:
    results = tmp_path / "scale.json"
    results.write_text(json.dumps({"device": "as measured elsewhere"}))
    done = python("-m", "benchmarks", "device", "--results", str(results))
    assert (done.returncode, done.stdout) == (0, "no CUDA device\n"), done.stderr
    assert json.loads(results.read_text()) == {"device": "as measured elsewhere"}


def test_what_it_measures_can_be_measured_on_any_device() -> None:
    code = (
        "from benchmarks import device\n"
        "device.REPEATS = 1\n"
        "from itertools import chain\n"
        "passes = device.against_numpy('cpu', 'a processor', 4000, (2, 7), 'float32')\n"
        "for figure in chain(passes, device.iterations('cpu', 'a processor', 500)):\n"
        "    print(figure.what, figure.median > 0, sep=': ')\n"
    )
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 9 + 4
    assert all(line.endswith(": True") for line in lines)
