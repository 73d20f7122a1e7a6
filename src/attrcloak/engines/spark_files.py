"""Spark, over a list of files: ``parallelize(items).map(function)``, no DataFrame, so the files keep their layout."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from attrcloak.engines.engine import Item, Result
from attrcloak.errors import AttrCloakError, MissingExtra, NotSupported, WorkerLost

MOST_ATTEMPTS = 4
WAVES_AHEAD = 2
"""Items a core gets in one job. What a job has done is known only when all of it is done."""


class SparkFiles:
    """One Spark task an item, in the session that is active, else in a local one on this machine only.

    On a cluster every machine needs attrcloak installed and has to see the files under the same names.

    Args:
        workers: cores of a local session; all by default. An active session keeps its own.
    """

    name = "spark"
    in_this_process = False

    def __init__(self, workers: int | None = None) -> None:
        try:
            from pyspark.sql import SparkSession
        except ImportError as error:
            raise MissingExtra("the engine spark", "spark") from error
        active = SparkSession.getActiveSession()
        self._started = active is None
        if active is None:
            os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
            active = _session_here(
                SparkSession.builder.master(f"local[{workers or '*'}, {MOST_ATTEMPTS}]")
                .appName("attrcloak")
                .config("spark.ui.enabled", "false")
                .config("spark.driver.bindAddress", "127.0.0.1")
                .config("spark.driver.host", "127.0.0.1")
                .config("spark.log.level", "ERROR")
                .config("spark.ui.showConsoleProgress", str(sys.stderr.isatty()).lower())
            )
        self.again: list[Any] = []
        self._session: Any = active

    def prepare(self, module: str) -> None:
        """Spark starts its Python workers with their first task."""

    def map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[tuple[int, Result]]:
        """(position, result) of every item, job by job."""
        context = self._session.sparkContext
        step = max(WAVES_AHEAD * context.defaultParallelism, 1)
        for start in range(0, len(items), step):
            chosen = [items[position] for position in range(start, min(start + step, len(items)))]
            try:
                results = context.parallelize(chosen, len(chosen)).map(_counting(function)).collect()
            except Exception as error:  # Py4J wraps whatever happened on a worker
                raise WorkerLost(
                    f"Spark gave up on parts {start + 1} to {start + len(chosen)} of {len(items)}: "
                    f"{str(error).splitlines()[0]}. What is finished is kept: run the same command again"
                ) from error
            for position, (ran_before, result) in enumerate(results, start):
                self.again += [items[position]] * ran_before
                if isinstance(result, AttrCloakError):
                    raise result
                yield position, result

    def close(self) -> None:
        """Stop the session where it was started here."""
        if self._started:
            self._session.stop()


def _session_here(builder: Any) -> Any:
    """A session on this machine."""
    from pyspark.errors import PySparkRuntimeError

    try:
        return builder.getOrCreate()
    except (PySparkRuntimeError, OSError) as error:
        raise NotSupported(
            "Spark could not start its Java process: it needs Java 17 or newer, on the PATH or in JAVA_HOME; or name "
            "another engine, such as pool (engine=)"
        ) from error


def _counting(function: Callable[[Item], Result]) -> Callable[[Item], tuple[int, Result | AttrCloakError]]:
    """The function, and how often its task ran before.

    Errors raised on purpose come back as values, so that they arrive as what they are.
    """

    def call(item: Item) -> tuple[int, Result | AttrCloakError]:
        from pyspark import TaskContext

        context = TaskContext.get()
        assert context is not None  # in a task
        ran_before = context.attemptNumber()
        try:
            return ran_before, function(item)
        except AttrCloakError as error:
            return ran_before, error

    return call
