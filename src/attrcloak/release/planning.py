"""What unlearning would do to a table, before it does it."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from attrcloak.data.attributes import UserAttributes
from attrcloak.data.embeddings import EmbeddingTable
from attrcloak.unlearning.calibrated import Calibrated
from attrcloak.unlearning.calibrated_flow import CalibratedFlow
from attrcloak.unlearning.method import MomentMethod, RowMethod
from attrcloak.unlearning.running import require_device

FLOW_USERS = 10_000
"""Most users of a table that a flow is chosen for: minutes there, and its time grows with their square."""
FLOW_DIMENSIONS = 128
"""Most free columns of such a table: a metric of each user's list has their square, and some steps their cube."""


def method_for(table: EmbeddingTable) -> Calibrated:
    """The method for a table where none is named: ``CalibratedFlow``, and ``Calibrated`` for what is too large for it.

    A table of up to ``FLOW_USERS`` users in up to ``FLOW_DIMENSIONS`` free columns flows. Both methods bring what
    classes show to chance and not below it. The flow keeps more of the recommendations, and shows less to networks and
    neighbours; but classes go on to differ in the directions in which they did, by as much as chance would have it,
    and who knows these directions from an old table reads along them.

    Args:
        table: the vectors; only how many and how wide they are is looked at.

    Returns:
        The method with its default settings.
    """
    small = len(table) <= FLOW_USERS and len(table.free_columns) <= FLOW_DIMENSIONS
    return CalibratedFlow() if small else Calibrated()


@dataclass(frozen=True)
class Plan:
    """What an unlearning run would do; nothing is done yet.

    Attributes:
        method: name of the method.
        users: users of the table.
        moving: users who asked for at least one attribute.
        dimensions: free columns of the table.
        cells: combinations of classes that occur.
        lone_cells: cells with a single user; their maps give that user's vector away.
        small_classes: per attribute the classes with fewer users than dimensions, and their counts.
        memory_bytes: peak memory of moments, maps and both tables, roughly.
        seconds: rough time of both passes and the solve on this machine, without the audit.
    """

    method: str
    users: int
    moving: int
    dimensions: int
    cells: int
    lone_cells: int
    small_classes: Mapping[str, Mapping[str, int]]
    memory_bytes: int
    seconds: float
    warnings: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def plan(
    table: EmbeddingTable,
    people: UserAttributes,
    method: MomentMethod | RowMethod | None = None,
    *,
    attributes: Sequence[str] | None = None,
    device: str | None = None,
) -> Plan:
    """What ``unlearn`` would do on this table, without doing it; without a method, by ``method_for``.

    Args:
        table: the vectors.
        people: attributes and marks, joined by id.
        method: None takes the one of ``method_for``.
        attributes: which to unlearn; all by default.
        device: where torch would work; ``seconds`` and ``memory_bytes`` are those of NumPy all the same.

    Raises:
        InvalidInput: the table and the people do not fit.
        InvalidSettings, MissingExtra, NotSupported: what ``unlearn`` would say of the device.
    """
    method = method_for(table) if method is None else method
    require_device(device, method)
    people = people.align(table.ids)
    cells = people.cells(attributes)
    d = len(table.free_columns)
    counts = np.bincount(cells.of_user, minlength=len(cells.key))[~cells.key.unmarked]
    small: dict[str, dict[str, int]] = {}
    warnings = []
    for name in cells.key.attributes:
        column = people[name]
        marked = np.bincount(column.codes[column.marks], minlength=len(column.classes))
        few = {label: int(n) for label, n in zip(column.classes, marked, strict=True) if 0 < n < d}
        if few:
            small[name] = few
            warnings.append(f"{name}: {len(few)} classes have fewer users than the table has dimensions ({d})")
        unknown = int((~column.known).sum())
        if unknown:
            warnings.append(f"{name}: {unknown} users have no known class; they do not move and are not audited")
        if (marked > 0).sum() == 1:
            warnings.append(f"{name}: only one class occurs, so there is nothing to tell apart")
    steps = int(getattr(method, "steps", 1))
    products = 4 * len(table) * d * d + 12 * steps * len(cells.key) * d**3
    multiplications, more = method.cost(len(table), d) if isinstance(method, CalibratedFlow) else (0, 0)
    return Plan(
        method=method.name,
        users=len(table),
        moving=int(cells.moves.sum()),
        dimensions=d,
        cells=len(cells.key),
        lone_cells=int((counts == 1).sum()),
        small_classes=small,
        memory_bytes=int(2 * table.vectors.nbytes + 2 * 8 * len(table) * d + 6 * 8 * len(cells.key) * d * d) + more,
        seconds=(products + multiplications) / _multiplications_per_second(d),
        warnings=tuple(warnings),
    )


def _multiplications_per_second(d: int) -> float:
    block = np.ones((4096, d))
    began = time.perf_counter()
    for _ in range(4):
        block.T @ block
    return 4 * block.size * d / max(time.perf_counter() - began, 1e-6)
