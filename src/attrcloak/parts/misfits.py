"""What a join refuses, in words: ids that are there twice, and users of one list that another does not have."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from attrcloak.data.ids import read_as_floats
from attrcloak.errors import MOST_NAMED, InvalidInput, raise_if
from attrcloak.parts.id_join import Joined, Noted
from attrcloak.parts.id_keys import keys_of
from attrcloak.parts.location import Location
from attrcloak.parts.part import Part
from attrcloak.parts.people_scan import People, id_batches


def refuse_misfits(
    joined: Joined,
    people: People,
    source: Location,
    parts: Sequence[Part],
    table: str,
    rows: int,
    requests: Location | None,
    users: Location | None,
) -> None:
    """Raise InvalidInput for what does not fit together, with the count, some of the ids, and where these are.

    Args:
        joined: what the join found.
        people: as they were read.
        source: where.
        parts: the table.
        table: what messages call it.
        rows: of the table.
        requests: who asks for what; None where everybody does.
        users: whose requests alone count; None is everybody.
    """
    problems = []
    if joined.in_people.count:
        repeated = _repeated(joined.in_people, id_batches(source, people.id_column))
        problems.append(f"{source.shown}: column {people.id_column!r}: {repeated}")
    if joined.in_table.count:
        problems.append(f"{table}: {_repeated(joined.in_table, _ids(parts))}")
    raise_if(problems)
    if rows and not joined.matched:
        of_table, of_people = _first(_ids(parts)), _first(id_batches(source, people.id_column))
        raise InvalidInput(
            f"none of the {rows} users of the table is among the {people.listed.keys.rows} listed people (table: "
            f"{_in_words(of_table)}; people: {_in_words(of_people)}); "
            + (read_as_floats([*of_table, *of_people]) or "is the id column the right one?")
        )
    if requests is not None and joined.absent.count:
        asked = ", ".join(
            f"{count} for {name}"
            for name, count in zip(people.columns, joined.absent_asks.tolist(), strict=True)
            if count
        )
        named, mend = _places(joined.absent, requests)
        problems.append(
            f"{requests.shown}: requests are of users who are not listed in {source.shown} ({asked}): {named}; "
            + (mend or "drop these lines, or list the users")
        )
    if users is not None and joined.absent_named.count:
        named, mend = _places(joined.absent_named, users)
        problems.append(
            f"{users.shown}: {joined.absent_named.counted} of these users are not listed in {source.shown}: {named}; "
            + (mend or "drop these lines, or give the people as they were at the run")
        )
    elsewhere = Noted(joined.elsewhere_named.pairs - joined.absent_named.pairs)
    if users is not None and elsewhere.count:
        named, mend = _places(elsewhere, users)
        problems.append(
            f"{users.shown}: {elsewhere.counted} of these users are not in {table}: {named}; "
            + (mend or "drop these lines, or give the table that has them")
        )
    raise_if(problems)


def refuse_silent(silent: Noted, users: Location) -> None:
    """Raise InvalidInput for users whose requests alone count, and who asked for nothing that can be done.

    Args:
        silent: they.
        users: the list of users whose requests count.
    """
    if silent.count:
        raise InvalidInput(
            f"{users.shown}: {silent.counted} of these users asked for nothing, or their class is not known, so "
            f"nothing was done to them: {_places(silent, users)[0]}; drop these lines, or give the people and requests "
            "as they were at the run"
        )


def _places(noted: Noted, source: Location) -> tuple[str, str | None]:
    """Some of these ids, with where each is in a list, and what is amiss where they were read as floats."""
    found = _found(noted, id_batches(source, "user_id"), 1)
    named = ", ".join(f"{name} ({rows[0]})" for name, rows in found)
    return f"{named}{', ...' if noted.count > len(found) else ''}", read_as_floats(name for name, _ in found)


def _repeated(repeated: Noted, batches: Iterator[tuple[str, int, Any]]) -> str:
    """How many ids, and of the first three of them two rows each."""
    found = _found(repeated, batches, 2)
    named = "; ".join(f"{name} in {rows[0]} and {rows[1]}" for name, rows in found)
    more = "; ..." if repeated.count > len(found) else ""
    return f"{repeated.counted} ids occur more than once ({named}{more}); keep one row per id"


def _found(noted: Noted, batches: Iterator[tuple[str, int, Any]], times: int) -> list[tuple[str, list[str]]]:
    """Three of these ids, and so many rows of each; hashes of text do not tell, so ids are read again."""
    wanted = noted.pairs
    lows = np.array([low for low, _ in wanted], dtype=np.uint64)
    found: dict[tuple[int, int], tuple[str, list[str]]] = {}
    for file, first_row, batch in batches:
        keys = keys_of(batch, "ids")
        highs = keys.highs
        for row in np.flatnonzero(np.isin(keys.low, lows)).tolist():
            pair = (int(keys.low[row]), int(highs[row]))
            if pair in found or (pair in wanted and len(found) < MOST_NAMED):
                found.setdefault(pair, (str(batch[row]), []))[1].append(f"{file} row {first_row + row}")
        if len(found) == min(MOST_NAMED, len(wanted)):
            lows = np.array([low for low, _ in found], dtype=np.uint64)
            if all(len(rows) >= times for _, rows in found.values()):
                break
    return list(found.values())


def _ids(parts: Sequence[Part]) -> Iterator[tuple[str, int, Any]]:
    """(file, first row in it, ids)."""
    first = 0
    for part in parts:
        start = 0
        for batch in part.ids(first):
            yield part.name, start, batch
            start += len(batch)
        first += part.rows


def _first(batches: Iterator[tuple[str, int, Any]]) -> list[Any]:
    _, _, batch = next(batches)
    return list(batch[:3].tolist() if isinstance(batch, np.ndarray) else batch[:3].to_pylist())


def _in_words(ids: Sequence[Any]) -> str:
    return ", ".join(repr(value) for value in ids)
