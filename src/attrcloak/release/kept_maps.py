"""A fitted eraser used again: on new users, on everybody, and backwards."""

import numpy as np
from numpy.typing import NDArray

from attrcloak.data.attributes import UserAttributes
from attrcloak.data.embeddings import EmbeddingTable
from attrcloak.data.ids import Ids
from attrcloak.errors import InvalidInput, NotSupported, UnknownCell
from attrcloak.moments.cell_key import NOT_MARKED
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
    if _one_map(eraser):
        asked = np.any([column.marks for column in people.columns.values()], axis=0)
        return _with_one_map(eraser, table, asked)
    codes = np.full((len(table), len(eraser.key.attributes)), NOT_MARKED, dtype=np.int32)
    strange = []
    for column, (name, classes) in enumerate(zip(eraser.key.attributes, eraser.key.classes, strict=True)):
        attribute = people[name]
        code_of = {label: code for code, label in enumerate(classes)}
        translated = np.array([code_of.get(label, -2) for label in attribute.classes] + [NOT_MARKED], dtype=np.int32)
        codes[:, column] = np.where(attribute.marks, translated[attribute.codes], NOT_MARKED)
        for code, label in enumerate(attribute.classes):
            count = int((attribute.marks & (attribute.codes == code)).sum())
            if label not in code_of and count:
                strange.append(f"{name}={label} ({count} users)")
    if strange:
        raise UnknownCell(
            f"{len(strange)} classes were not seen when the eraser was fitted: {', '.join(strange)}. "
            "Refit with these users, or merge their classes into ones that were seen."
        )
    cells = eraser.locate(codes)
    if len(table.free_columns) != eraser.dim:
        raise InvalidInput(f"the eraser is for {eraser.dim} dimensions, the table has {len(table.free_columns)}")
    scaled = unit_length(table, eraser.common_length)[0] if eraser.scaling == "unit" else table
    return scaled.with_free(eraser.apply(scaled.free, cells), (codes != NOT_MARKED).any(axis=1))


def apply_to_everybody(eraser: Eraser, table: EmbeddingTable) -> EmbeddingTable:
    """Move every user of a table by an eraser that has one map for all, whether their class is known or not.

    Raises:
        NotSupported: the maps of the cells differ, so a user's class decides which one is theirs.
        InvalidInput: the widths differ.
    """
    if not _one_map(eraser):
        raise NotSupported(
            f"this eraser has a map of its own for each of {int((~eraser.key.unmarked).sum())} combinations of classes,"
            " so it needs to know who is in which; methods with one map for everybody are leace and label-free"
        )
    return _with_one_map(eraser, table, np.ones(len(table), dtype=bool))


def _one_map(eraser: Eraser) -> bool:
    fitted = ~eraser.key.unmarked
    matrices, offsets = eraser.matrices[fitted], eraser.offsets[fitted]
    return bool((matrices == matrices[:1]).all() and (offsets == offsets[:1]).all())


def _with_one_map(eraser: Eraser, table: EmbeddingTable, moves: NDArray[np.bool_]) -> EmbeddingTable:
    if len(table.free_columns) != eraser.dim:
        raise InvalidInput(f"the eraser is for {eraser.dim} dimensions, the table has {len(table.free_columns)}")
    scaled = unit_length(table, eraser.common_length)[0] if eraser.scaling == "unit" else table
    cells = np.where(moves, np.flatnonzero(~eraser.key.unmarked)[0], -1).astype(np.int32)
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
    if how.scaling == "unit":
        raise NotSupported(
            "this eraser first brought all vectors to one length and does not hold the lengths; use the undo file"
        )
    return apply_eraser(how.inverse(), table, people, users=users)
