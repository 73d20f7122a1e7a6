"""What a run over files leaves as it was, though it may give attributes away: shortfalls, and other vectors."""

from collections.abc import Sequence

import numpy as np

from attrcloak.data.census import Census
from attrcloak.data.vector_files import OTHER_VECTORS_STAY
from attrcloak.errors import MOST_NAMED
from attrcloak.moments.cell_key import NOT_MARKED
from attrcloak.parts import Groups, Part
from attrcloak.release.shortfalls import lone_users, unknown_users, unlearnable_classes, unmet_requests
from attrcloak.streaming.passes import free_columns

UNKNOWN_BY_NAME = frozenset({"na", "n/a", "#n/a", "null", "none", "unknown", "-", "?"})
"""Classes, in small letters, that mostly mean that nobody knows the class."""


def left_alone(
    parts: Sequence[Part],
    groups: Groups,
    census: Census,
    table: str,
    people: str,
    requests: str | None,
    *,
    by_kept_maps: bool = False,
) -> tuple[str, ...]:
    """A sentence for everything that stays, or may be there by mistake.

    Args:
        parts: the table.
        groups: who is in which.
        census: the same in numbers.
        table: what messages call the table.
        people: likewise.
        requests: likewise; None where there is no list and everybody asks.
        by_kept_maps: whether the maps are there already, so that nothing depends on how many are in a class.
    """
    return (
        *unknown_users(census, people, _with_most_unknown(parts, groups)),
        *unmet_requests(census, table, people, requests or ""),
        *(
            []
            if by_kept_maps
            else (*unlearnable_classes(census, len(free_columns(parts[0])), people), *lone_users(census))
        ),
        *_unknown_by_name(groups, people),
        *_other_vectors(parts),
    )


def _unknown_by_name(groups: Groups, people: str) -> list[str]:
    return [
        f"attribute {name!r} of {people} has a class {label!r}; if that means that it is unknown, leave the field empty"
        for name, labels in groups.classes.items()
        for label in labels
        if label.strip().lower() in UNKNOWN_BY_NAME
    ]


def _with_most_unknown(parts: Sequence[Part], groups: Groups) -> str:
    """The files with most of the users of whom no class is known."""
    unknown = (groups.codes == NOT_MARKED).all(axis=1)
    if not groups.counts[unknown].any():
        return ""
    in_parts = [int(groups.rows(number).counts(len(unknown))[unknown].sum()) for number in range(len(parts))]
    most = [number for number in np.argsort(in_parts)[::-1][:MOST_NAMED].tolist() if in_parts[number]]
    named = ", ".join(f"{parts[number].name} {in_parts[number]} of {parts[number].rows}" for number in most)
    return named + (", ..." if np.count_nonzero(in_parts) > len(most) else "")


def _other_vectors(parts: Sequence[Part]) -> list[str]:
    others: dict[str, list[Part]] = {}
    for part in parts:
        for column in part.other_vectors:
            others.setdefault(column, []).append(part)
    return [
        f"column {column!r} of {len(having)} of {len(parts)} files {OTHER_VECTORS_STAY}"
        for column, having in others.items()
    ]
