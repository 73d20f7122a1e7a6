"""What unlearning would do to a table, before it does it."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from attrcloak.attackers import require_attackers
from attrcloak.data.attributes import UserAttributes
from attrcloak.data.census import Census
from attrcloak.data.embeddings import EmbeddingTable
from attrcloak.release.shortfalls import (
    PEOPLE,
    refuse_nothing_to_do,
    shortfalls_in_memory,
    too_small,
    unaudited_classes,
)
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


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What an unlearning run would do; nothing is done yet.

    Attributes:
        method: name of the method.
        users: users of the table.
        moving: users who asked for at least one attribute.
        unknown: users of whom no class is known, listed or not, whether they asked or not.
        dimensions: free columns of the table.
        cells: combinations of classes that occur.
        lone_cells: cells with a single user who moves, in words: "gender=F, age=56".
        classes: per attribute the users of each class.
        asked: likewise, those of them who ask for it.
        small_classes: per attribute the classes of which fewer users ask than there are dimensions, and their counts.
        unmet: per attribute the users who ask for it and whose class is not known.
        elsewhere: per attribute the requests of users whom the table does not have.
        memory_bytes: peak memory of moments, maps and both tables, roughly; of a table in files, which is never in
            memory, without its workers.
        seconds: rough time of both passes and the solve on this machine, without the audit; None for a table in files,
            where most of it is reading and writing.
        warnings: users and requests nothing can be done about, and classes too small, a sentence each.
    """

    method: str
    users: int
    moving: int
    unknown: int
    dimensions: int
    cells: int
    lone_cells: tuple[str, ...]
    classes: Mapping[str, Mapping[str, int]]
    asked: Mapping[str, Mapping[str, int]]
    small_classes: Mapping[str, Mapping[str, int]]
    unmet: Mapping[str, int]
    elsewhere: Mapping[str, int]
    memory_bytes: int
    seconds: float | None
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def planned_users(census: Census, dimensions: int) -> dict[str, Any]:
    """What a plan says of the users of a table, in memory or in files."""
    return {
        "users": census.users,
        "moving": census.moving,
        "unknown": census.unknown,
        "dimensions": dimensions,
        "cells": census.cells,
        "lone_cells": census.lone_cells,
        "classes": census.classes,
        "asked": census.asked,
        "small_classes": too_small(census, dimensions),
        "unmet": census.unmet,
        "elsewhere": census.elsewhere,
    }


def plan(
    table: EmbeddingTable,
    people: UserAttributes,
    method: MomentMethod | RowMethod | None = None,
    *,
    attributes: Sequence[str] | None = None,
    attackers: Sequence[str] = (),
    device: str | None = None,
) -> Plan:
    """What ``unlearn`` would do on this table, without doing it; without a method, by ``method_for``.

    Args:
        table: the vectors.
        people: attributes and marks, joined by id.
        method: None takes the one of ``method_for``.
        attributes: which to unlearn; all by default.
        attackers: of the audit that would follow; only whether they can run is looked at.
        device: where torch would work; ``seconds`` and ``memory_bytes`` are those of NumPy all the same.

    Raises:
        InvalidInput: the table and the people do not fit, or there is nothing to unlearn.
        InvalidSettings, MissingExtra, NotSupported: what ``unlearn`` would say of the device and the attackers.
    """
    method = method_for(table) if method is None else method
    require_device(device, method)
    require_attackers(attackers)
    census = Census.of(people, table.ids, attributes)
    refuse_nothing_to_do(census, PEOPLE)
    d = len(table.free_columns)
    steps = int(getattr(method, "steps", 1))
    products = 4 * len(table) * d * d + 12 * steps * census.cells * d**3
    multiplications, more = method.cost(len(table), d) if isinstance(method, CalibratedFlow) else (0, 0)
    return Plan(
        method=method.name,
        **planned_users(census, d),
        memory_bytes=int(2 * table.vectors.nbytes + 2 * 8 * len(table) * d + 6 * 8 * census.cells * d * d) + more,
        seconds=(products + multiplications) / _multiplications_per_second(d),
        warnings=(*shortfalls_in_memory(census, d, method), *unaudited_classes(census, PEOPLE)),
    )


def _multiplications_per_second(d: int) -> float:
    block = np.ones((4096, d))
    began = time.perf_counter()
    for _ in range(4):
        block.T @ block
    return 4 * block.size * d / max(time.perf_counter() - began, 1e-6)
