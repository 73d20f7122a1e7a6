"""A fitted eraser used again: on new users, on everybody, and backwards."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from attrcloak.data.attributes import UserAttributes
from attrcloak.data.embeddings import EmbeddingTable
from attrcloak.data.ids import Ids
from attrcloak.errors import InvalidInput, NotSupported
from attrcloak.moments.eraser import Eraser
from attrcloak.unlearning.lengths import unit_length
from attrcloak.unlearning.undo import OriginalRows


def apply_eraser(
    eraser: Eraser, table: EmbeddingTable, people: UserAttributes, *, users: Ids | None = None
) -> EmbeddingTable:
    """Move the users of a table by a fitted eraser; those who did not ask stay bit-identical.

    A class-conditional map fitted on some users can *raise* leakage for others: audit the result, or refit. An eraser
    with one map for everybody serves all who ask for any of its attributes, whatever their classes.

    Args:
        eraser: what was fitted.
        table: the vectors.
        people: attributes and marks, joined by id.
        users: move only these of those who asked; all of them by default.

    Raises:
        UnknownCell: a class or a combination of classes that the eraser was not fitted on; named, with its count.
        InvalidInput: an attribute of the eraser is missing among the people, or the widths differ.
    """
    people = people.select(eraser.key.attributes).align(table.ids)
    if users is not None:
        people = people.only(users)
    cells = people.cells()
    maps = eraser.under(cells.key, np.bincount(cells.of_user, minlength=len(cells.key)))
    return _moved(maps, table, cells.of_user, cells.moves)


def apply_to_everybody(eraser: Eraser, table: EmbeddingTable) -> EmbeddingTable:
    """Move every user of a table by an eraser that has one map for all, whether their class is known or not.

    Raises:
        NotSupported: the maps of the cells differ, so a user's class decides which one is theirs.
        InvalidInput: the widths differ.
    """
    if not eraser.has_one_map:
        raise NotSupported(
            f"this eraser has a map of its own for each of {int((~eraser.key.unmarked).sum())} combinations of classes,"
            " so it needs to know who is in which; methods with one map for everybody are leace and label-free"
        )
    cells = np.full(len(table), np.flatnonzero(~eraser.key.unmarked)[0])
    return _moved(eraser, table, cells, np.ones(len(table), dtype=bool))


def _moved(
    eraser: Eraser, table: EmbeddingTable, cells: NDArray[np.integer], moves: NDArray[np.bool_]
) -> EmbeddingTable:
    check_width(eraser, len(table.free_columns), "the table")
    scaled = unit_length(table, eraser.common_length)[0] if eraser.scaling == "unit" else table
    return scaled.with_free(eraser.apply(scaled.free, cells), moves)


def undo(
    how: Eraser | OriginalRows,
    table: EmbeddingTable,
    people: UserAttributes | None = None,
    *,
    users: Ids | None = None,
) -> EmbeddingTable:
    """Take unlearning back: exactly from the original rows, up to rounding from an eraser.

    Args:
        how: what was kept of the run.
        table: the unlearned table.
        people: attributes and marks as they were at the run; an eraser needs them.
        users: take it back for these alone, such as those who withdrew their request; everybody else stays
            bit-identical. None is everybody.

    Raises:
        NotSupported: a map has no inverse, or lengths were scaled and are not in the eraser.
        InvalidInput: an eraser without people, or rows or users that do not fit the table.
    """
    if isinstance(how, OriginalRows):
        return how.restore(table, users)
    if people is None:
        raise InvalidInput("an eraser needs the people it was fitted on, to know whom to move back by which map")
    return apply_eraser(way_back(how), table, people, users=users)


def check_width(eraser: Eraser, width: int, table: str) -> None:
    """Raise InvalidInput when maps are not for vectors of that many free columns; ``table`` is whose they are."""
    if width != eraser.dim:
        raise InvalidInput(
            f"{table} has {width} dimensions, and the eraser is for {eraser.dim}: its maps are of another table; give "
            "the two of one recommender"
        )


def way_back(eraser: Eraser) -> Eraser:
    """The maps that undo an eraser.

    Raises:
        NotSupported: a map has no inverse, or lengths were scaled and are not in the eraser.
    """
    if eraser.scaling == "unit":
        raise NotSupported(
            "this eraser first brought all vectors to one length and does not hold the lengths; use the undo file, or "
            "the old table"
        )
    undone = f"undo of {eraser.provenance.get('method', 'unnamed')}"
    return replace(eraser.inverse(), provenance={**eraser.provenance, "method": undone})
