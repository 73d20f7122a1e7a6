"""What a run leaves as it was, though it may give attributes away: requests it cannot meet, and other vectors."""

from collections.abc import Sequence

import numpy as np

from attrcloak.data.vector_files import OTHER_VECTORS_STAY
from attrcloak.errors import MOST_NAMED
from attrcloak.moments.cell_key import NOT_MARKED
from attrcloak.parts import Groups, Part

UNKNOWN_BY_NAME = frozenset({"na", "n/a", "#n/a", "null", "none", "unknown", "-", "?"})
"""Classes, in small letters, that mostly mean that nobody knows the class."""


def left_alone(parts: Sequence[Part], groups: Groups, table: str, people: str, requests: str | None) -> tuple[str, ...]:
    """A sentence for everything that stays, or may be there by mistake.

    Args:
        parts: the table.
        groups: who is in which.
        table: what messages call the table.
        people: likewise.
        requests: likewise; None where there is no list and everybody asks.
    """
    return (
        *_unknown_users(parts, groups, people),
        *_unmet(groups, table, people, requests),
        *_unknown_by_name(groups, people),
        *single_classes(groups, people),
        *_other_vectors(parts),
    )


def _unmet(groups: Groups, table: str, people: str, requests: str | None) -> list[str]:
    """Who asks for an attribute and cannot be moved for it: of unknown class, or not in the table."""
    without_any = 0 if requests else int(groups.counts[(groups.codes == NOT_MARKED).all(axis=1)].sum())
    who = "who are listed" if requests is None else f"of {requests}"
    found = [
        f"{name}: {count - without_any} users {who} have no {name} in {people}, so nothing is done about theirs; fill "
        "it in, or tell them"
        for name, count in groups.unmet.items()
        if count > without_any
    ]
    elsewhere = ", ".join(f"{count} for {name}" for name, count in groups.elsewhere.items() if count)
    if elsewhere:
        found.append(
            f"requests of {requests} are of users who are not in {table} ({elsewhere}), so nothing is done about them; "
            "is a file missing?"
        )
    return found


def _unknown_by_name(groups: Groups, people: str) -> list[str]:
    return [
        f"attribute {name!r} of {people} has a class {label!r}; if that means that it is unknown, leave the field empty"
        for name, labels in groups.classes.items()
        for label in labels
        if label.strip().lower() in UNKNOWN_BY_NAME
    ]


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
