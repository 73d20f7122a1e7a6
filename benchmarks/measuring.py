"""Timing in turn, peak memory in a process of its own, and the figures that come of it."""

import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_info

Times = dict[str, np.ndarray]


@dataclass(frozen=True)
class Figure:
    """One measured number.

    Attributes:
        what: what was measured.
        table: on which table.
        median: over the repetitions.
        low: smallest of them.
        high: largest of them.
        repeats: number of repetitions.
        unit: "times" for a ratio, "s", "users/s", "slope".
        level: the level it is held against, in words; empty for none.
        note: anything a reader has to know, such as that a few steps were timed and scaled.
    """

    what: str
    table: str
    median: float
    low: float
    high: float
    repeats: int
    unit: str = "times"
    level: str = ""
    note: str = ""

    @classmethod
    def of(cls, what: str, table: str, values: Any, **rest: str) -> "Figure":
        """From the repetitions themselves."""
        each = np.atleast_1d(np.asarray(values, dtype=np.float64))
        rounded = (float(f"{value:.4g}") for value in (np.median(each), each.min(), each.max()))
        return cls(what, table, *rounded, len(each), **rest)

    def as_json(self) -> dict[str, Any]:
        """The fields by name."""
        return asdict(self)

    def __str__(self) -> str:
        tail = f" (level: {self.level})" if self.level else ""
        return (
            f"{self.table:>36}  {self.what}: {self.median:.4g} {self.unit} "
            f"[{self.low:.4g}, {self.high:.4g}], {self.repeats} repeats{tail}"
        )


def in_turn(actions: Mapping[str, Callable[[], Any]], repeats: int) -> Times:
    """Seconds of each action in each repetition; all have their turn before any has its next.

    One round goes before and is not counted: it loads libraries and fills caches.
    """
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for repetition in range(repeats + 1):
        for name, action in actions.items():
            began = time.perf_counter()
            action()
            if repetition:
                seconds[name].append(time.perf_counter() - began)
    return {name: np.array(values) for name, values in seconds.items()}


def in_process(code: str) -> str:
    """What Python code prints in a process of its own; it may import from here."""
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def peak_memory() -> int:
    """Most bytes this process has had in memory."""
    status = Path("/proc/self/status")
    if status.exists():  # the figure of getrusage is inherited from the process that started this one
        return 1024 * int(next(line.split()[1] for line in status.open() if line.startswith("VmHWM")))
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def conditions() -> dict[str, Any]:
    """What a figure depends on besides the code."""
    blas = {each["internal_api"]: each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"}
    return {
        "date": date.today().isoformat(),
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "blas threads": blas,
    }


def processor() -> str:
    """Family and instruction set, as far as the system tells."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            lines = dict(line.split(":", 1) for line in file if ":" in line)
    except OSError:
        return platform.machine()
    fields = {name.strip(): value.strip() for name, value in lines.items()}
    wide = "AVX-512" if "avx512f" in fields.get("flags", "") else "AVX2" if "avx2" in fields.get("flags", "") else ""
    return " ".join(filter(None, (fields.get("model name", platform.machine()), wide)))
