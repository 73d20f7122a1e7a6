"""Ray core tasks: on the cluster that this process is connected to, or on this machine."""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any

from attrcloak.engines.engine import Item, Result
from attrcloak.errors import AttrCloakError, MissingExtra, WorkerLost

RETRIES = 3
"""How often Ray starts a task again whose worker dies."""


class RayTasks:
    """One task an item. Connects to a running cluster where ``ray.init`` was called or ``RAY_ADDRESS`` is set.

    Otherwise Ray is started on this machine, reachable from this machine only, and stopped by ``close``, with which
    its folder of logs goes too unless Ray gave up. On a cluster every machine needs attrcloak installed and has to see
    the files under the same names.

    Args:
        workers: tasks at the same time; as many as the cluster has cores by default.
    """

    name = "ray"
    in_this_process = False

    def __init__(self, workers: int | None = None) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        if not os.environ.get("RAY_ADDRESS"):
            # Without it Ray turns 127.0.0.1 into an address that other machines reach, and listens to all of them.
            os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        try:
            import ray
        except ImportError as error:
            raise MissingExtra("the engine ray", "ray") from error
        self.again: list[Any] = []
        self._ray: Any = ray
        self._started = False
        self._session: str | None = None  # the folder of a Ray that was started here
        if not ray.is_initialized():
            if os.environ.get("RAY_ADDRESS"):
                ray.init(log_to_driver=False)
            else:
                # Without "local" Ray would join one that `ray start` left running, and that one's folder is not ours.
                context: Any = ray.init(
                    address="local",
                    num_cpus=workers,
                    include_dashboard=False,
                    log_to_driver=False,
                    configure_logging=False,
                    _node_ip_address="127.0.0.1",
                )
                self._session = context.address_info["session_dir"]
            self._started = True
        self.workers = workers or max(int(self._ray.cluster_resources().get("CPU", 1)), 1)

    def prepare(self, module: str) -> None:
        """Have as many workers as there will be tasks at once import the module."""
        task = self._ray.remote(max_retries=0)(_import)
        for _ in range(self.workers):
            task.remote(module)  # nobody waits for it

    def map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[tuple[int, Result]]:
        """(position, result) of every item as they are done."""
        ray = self._ray
        task = ray.remote(max_retries=RETRIES)(_counted)
        shared = ray.put(function)
        waiting = list(range(len(items)))[::-1]
        running: dict[Any, int] = {}
        while waiting or running:
            while waiting and len(running) <= self.workers:
                position = waiting.pop()
                running[task.remote(shared, items[position])] = position
            done, _ = ray.wait(list(running), num_returns=1)
            for reference in done:
                position = running.pop(reference)
                try:
                    ran_before, result = ray.get(reference)
                except ray.exceptions.RayError as error:
                    logs = "" if self._session is None else f" (its logs are in {self._session})"
                    self._session = None  # and stay there
                    raise WorkerLost(
                        f"Ray gave up on part {position + 1} of {len(items)}: {error}{logs}. What is finished is kept: "
                        "run the same command again"
                    ) from error
                self.again += [items[position]] * ran_before
                if isinstance(result, AttrCloakError):
                    raise result
                yield position, result

    def close(self) -> None:
        """Stop Ray where it was started here."""
        if self._started:
            self._ray.shutdown()
            self._started = False
        if self._session is not None:
            shutil.rmtree(self._session, ignore_errors=True)
            self._session = None


def _import(module: str) -> None:
    with suppress(ImportError):  # the first part says so
        import_module(module)


def _counted(function: Callable[[Item], Result], item: Item) -> tuple[int, Result | AttrCloakError]:
    """How often this task ran before and its worker died, and its result.

    Errors raised on purpose come back as values, so that they arrive as what they are.
    """
    try:
        return _attempts_before(), function(item)
    except AttrCloakError as error:
        return _attempts_before(), error


def _attempts_before() -> int:
    """Of this task. No public place tells; where a version of Ray has it elsewhere, only the count is missing."""
    try:
        from ray._private.worker import global_worker

        worker: Any = global_worker
        return int(worker.core_worker.get_current_task_attempt_number())
    except (ImportError, AttributeError):
        return 0
