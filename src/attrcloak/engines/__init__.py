"""Who runs the passes: this process, a pool of processes, Ray or Spark. They map functions and know no table."""

from collections.abc import Callable

from attrcloak.engines.engine import Engine
from attrcloak.engines.in_process import InProcess
from attrcloak.engines.process_pool import ProcessPool, import_for_workers
from attrcloak.engines.ray_tasks import RayTasks
from attrcloak.engines.spark_files import SparkFiles
from attrcloak.errors import InvalidSettings, not_among

ENGINES: dict[str, Callable[[int | None], Engine]] = {
    "in-process": lambda workers: InProcess(),
    "pool": ProcessPool,
    "ray": RayTasks,
    "spark": SparkFiles,
}

__all__ = [
    "ENGINES",
    "Engine",
    "InProcess",
    "ProcessPool",
    "RayTasks",
    "SparkFiles",
    "engine_of",
    "import_for_workers",
    "named",
]


def named(name: str, parts: int, workers: int | None = None) -> str:
    """The name of the engine for so many parts: "auto" is this process for one part or one worker, a pool for more."""
    if name != "auto":
        return name
    return "in-process" if parts == 1 or workers == 1 else "pool"


def engine_of(name: str, parts: int, workers: int | None = None) -> Engine:
    """The engine of that name, or for "auto" the one that ``named`` tells.

    Raises:
        InvalidSettings: a name that is not known.
        MissingExtra: Ray or Spark is not installed.
    """
    name = named(name, parts, workers)
    if name not in ENGINES:
        raise InvalidSettings(not_among("there is no engine", name, ("auto", *ENGINES)))
    return ENGINES[name](workers if workers is None or name in ("ray", "spark") else min(workers, max(parts, 1)))
