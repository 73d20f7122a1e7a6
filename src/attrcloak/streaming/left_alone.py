"""What a run leaves as it was, though it may give attributes away: users without a class, and other vectors."""

from collections.abc import Sequence

import numpy as np

from attrcloak.data.vector_files import OTHER_VECTORS_STAY
from attrcloak.errors import MOST_NAMED
from attrcloak.moments.cell_key import NOT_MARKED
from attrcloak.parts import Groups, Part


def left_alone(parts: Sequence[Part], groups: Groups, people: str) -> tuple[str, ...]:
    """A sentence for everything that stays.

    Args:
        parts: the table.
        groups: who is in which.
        people: what messages call the people.
    """
    return (*_unknown_users(parts, groups, people), *single_classes(groups, people), *_other_vectors(parts))


def _unknown_users(parts: Sequence[Part], groups: Groups, people: str) -> list[str]:
    """Users of whom no class of any attribute is known, with the files that have most of them."""
    unknown = (groups.codes == NOT_MARKED).all(axis=1)
    count = int(groups.counts[unknown].sum())
    if not count:
        return []
    in_parts = [int(groups.rows(number).counts(len(unknown))[unknown].sum()) for number in range(len(parts))]
    most = [number for number in np.argsort(in_parts)[::-1][:MOST_NAMED].tolist() if in_parts[number]]
    named = ", ".join(f"{parts[number].name} {in_parts[number]} of {parts[number].rows}" for number in most)
    more = ", ..." if np.count_nonzero(in_parts) > len(most) else ""
    return [
        f"{count} of {groups.users} users have no class in {people} and stay as they were ({named}{more}); if that is "
        "more than expected, look whether ids are written alike in both"
    ]


def single_classes(groups: Groups, people: str) -> list[str]:
    """A sentence for every attribute in which all users of the table are alike, as far as is known."""
    occurs = groups.codes[groups.counts > 0]
    return [
        f"attribute {name!r} of {people} has one class among the users of this table, {names[codes.max()]!r}, so there "
        "is nothing in it to unlearn; is it the right column?"
        for (name, names), codes in zip(groups.classes.items(), occurs.T, strict=True)
        if len(np.unique(codes[codes != NOT_MARKED])) == 1
    ]


def _other_vectors(parts: Sequence[Part]) -> list[str]:
    others: dict[str, list[Part]] = {}
    for part in parts:
        for column in part.other_vectors:
            others.setdefault(column, []).append(part)
    return [
        f"column {column!r} of {len(having)} of {len(parts)} files {OTHER_VECTORS_STAY}"
        for column, having in others.items()
    ]
