"""What is asked about whom: one attribute, its classes, and the users it is known of."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attrcloak.data.attributes import UserAttributes
from attrcloak.errors import InvalidInput

ASKED = "asked"


@dataclass(frozen=True, eq=False)
class Question:
    """One attribute to attack.

    Attributes:
        attribute: its name.
        classes: names of the K classes kept.
        rows: (n,) users whose class is known and kept, as rows of the surfaces.
        codes: (n,) their classes in [0, K).
        may_know: (n,) users an attacker may train on.
        under_attack: (n,) users it is measured on.
    """

    attribute: str
    classes: tuple[str, ...]
    rows: NDArray[np.int64]
    codes: NDArray[np.int64]
    may_know: NDArray[np.bool_]
    under_attack: NDArray[np.bool_]


def questions(
    people: UserAttributes,
    names: Sequence[str],
    train_on: NDArray[np.bool_],
    test_on: NDArray[np.bool_],
    min_users: int,
    ask_who_asked: bool,
    know_others_only: bool = False,
    judge_requests_only: bool = False,
) -> tuple[list[Question], list[str]]:
    """One question for each attribute that can be measured, and notes on what was left out.

    Classes with fewer than ``min_users`` users to train on, or to test on, can be neither learnt nor scored: they are
    left out, and named.

    Args:
        people: over the users of the surfaces, in their order.
        names: attributes.
        train_on: (n,) users an attacker may know.
        test_on: (n,) users to measure on.
        min_users: least number of users in a class, on either side.
        ask_who_asked: add the question who asked, where some users did not.
        know_others_only: for each attribute, users who asked for it cannot be trained on.
        judge_requests_only: for each attribute, only users who asked for it are measured on.

    Raises:
        InvalidInput: no attribute has two classes left; says so for each.
    """
    found, notes, problems = [], [], []
    for name in names:
        column = people[name]
        if not column.marks.any() and judge_requests_only:
            problems.append(f"nobody asked for attribute {name!r}, so there is nobody to measure on")
            continue
        others = train_on & ~column.marks if know_others_only else train_on
        if know_others_only and not (others & column.known).any():
            problems.append(
                f"everybody with a known class asked for attribute {name!r}, so an attacker who knows only the others "
                "knows nobody"
            )
            continue
        judged = test_on & column.marks if judge_requests_only else test_on
        question, left_out = _question(name, column.classes, column.codes, others, judged, min_users)
        if question is None:
            asked = np.bincount(column.codes[column.marks], minlength=len(column.classes))
            who, counts, mend = (
                ("users who asked", asked, "wait for more requests, or merge small classes in the list of people")
                if judge_requests_only
                else ("known users", column.counts, "is it the right column? Merge small classes in the list of people")
            )
            problems.append(
                f"attribute {name!r} has {len(column.classes) - len(left_out)} classes with at least {min_users} {who} "
                f"({_shares(column.classes, counts)}), and an attack needs two; {mend}"
            )
            continue
        unknown = int((~column.known).sum())
        if unknown:
            notes.append(f"{name}: the class of {unknown} users is unknown, or put aside; they are left out")
        if left_out:
            notes.append(f"{name}: left out, with fewer than {min_users} known users: {', '.join(left_out)}")
        found.append(question)
    if not found:
        raise InvalidInput(problems or ["there is no attribute to attack"])
    notes += [f"not attacked: {problem}" for problem in problems]
    if ask_who_asked and ASKED not in people.names:
        known = np.any([people[name].known for name in names], axis=0)
        asked = np.any([people[name].marks for name in names], axis=0)
        codes = np.where(known, asked.astype(np.int32), -1)
        if (known & ~asked).any() and asked.any():
            question, left_out = _question(
                ASKED, ("no", "yes"), codes, np.ones_like(train_on), np.ones_like(test_on), min_users
            )
            if question is None:
                notes.append(f"{ASKED}: not attacked, since fewer than {min_users} users asked or did not ask")
            else:
                found.append(question)
    return found, notes


def _question(
    name: str,
    classes: tuple[str, ...],
    codes: NDArray[np.int32],
    train_on: NDArray[np.bool_],
    test_on: NDArray[np.bool_],
    min_users: int,
) -> tuple[Question | None, list[str]]:
    counts = [np.bincount(codes[side & (codes >= 0)], minlength=len(classes)) for side in (train_on, test_on)]
    kept = np.minimum(*counts) >= min_users
    left_out = [
        f"{label} ({count})" for label, count, keep in zip(classes, np.minimum(*counts), kept, strict=True) if not keep
    ]
    if kept.sum() < 2:
        return None, left_out
    new_code = np.append(np.where(kept, np.cumsum(kept) - 1, -1), -1)[codes]
    rows = np.flatnonzero((new_code >= 0) & (train_on | test_on))
    names = tuple(label for label, keep in zip(classes, kept, strict=True) if keep)
    return Question(name, names, rows, new_code[rows], train_on[rows], test_on[rows]), left_out


def _shares(classes: Sequence[str], counts: NDArray[np.int64]) -> str:
    return ", ".join(f"{label}: {count}" for label, count in zip(classes[:8], counts[:8], strict=True)) or "no class"
