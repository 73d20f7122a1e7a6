"""Maps that are there already, in place of a method that solves for them: other users in files, and the way back."""

import json
from collections.abc import Sequence
from typing import Any

from attrcloak.errors import InvalidInput
from attrcloak.moments.cell_moments import CellMoments
from attrcloak.moments.eraser import Eraser
from attrcloak.parts import Location, Part
from attrcloak.release.kept_maps import check_width
from attrcloak.streaming.passes import free_columns
from attrcloak.streaming.workspace import SCHEMA
from attrcloak.unlearning.method import Length, Solution


class KeptMaps:
    """A fitted eraser for ``unlearn_files``: its maps, with classes matched by name, instead of new ones.

    No dataclass: the settings of those are written to the manifest, and maps are a secret.

    Args:
        eraser: the maps, fitted on other users, or the way back of those fitted on these.
        fingerprint_after: of the maps by which most users are moved afterwards, where a way back is for some alone;
            None is that of ``eraser``.
    """

    name = "kept maps"

    def __init__(self, eraser: Eraser, fingerprint_after: str | None = None) -> None:
        self.eraser = eraser
        self.fingerprint_after = fingerprint_after or eraser.fingerprint

    def __repr__(self) -> str:
        """The maps by their digest: a run that is taken up again has to have the same."""
        return f"KeptMaps({self.eraser.provenance.get('method', 'unnamed')}, {self.eraser.fingerprint})"

    @property
    def length(self) -> Length:
        """Whether vectors are brought to one length first: as when the eraser was fitted."""
        return "unit" if self.eraser.scaling == "unit" else "keep"

    def columns_for(self, part: Part, asked: Sequence[str] | None) -> tuple[str, ...]:
        """The attributes to read, which are those of the maps.

        Args:
            part: of the table.
            asked: those that were named; None for those of the maps.

        Raises:
            InvalidInput: others were named, or the table has another width than the maps.
        """
        attributes = self.eraser.key.attributes
        check_width(self.eraser, len(free_columns(part)), part.location.shown)
        if asked is not None and tuple(asked) != attributes:
            raise InvalidInput(f"the eraser is for {', '.join(attributes)}, and {', '.join(asked)} were named")
        return attributes

    def solve(self, moments: CellMoments) -> Solution:
        """The maps for the cells of these users."""
        return Solution(self.eraser.under(moments.key, moments.count))


def moved_already(table: Location, eraser: Eraser) -> tuple[str, ...]:
    """What the manifest beside a table says against applying these maps to it; nothing where there is none of a run."""
    manifest, run = _run_of(table)
    if run.get("maps") != eraser.fingerprint:
        return ()
    return (f"{table.shown}: moved by these maps already, says {manifest.shown}; twice they tell classes apart again",)


def other_than_at_the_run(
    table: Location, people: Location, requests: Location | None, eraser: Eraser
) -> tuple[str, ...]:
    """What the manifest beside an unlearned table says against undoing it so; nothing where there is none of a run.

    Args:
        table: that was unlearned.
        people: as they are given now.
        requests: likewise.
        eraser: the maps that are to be undone.
    """
    manifest, run = _run_of(table)
    if not run:
        return ()
    found = []
    if run.get("maps") != eraser.fingerprint:
        found.append(
            f"the maps are not those by which {table.shown} was moved, says {manifest.shown}; what comes out is not "
            "what was there before"
        )
    # Only the list is remembered, by its digest, so whether another list names some of them again nobody can tell.
    if _digests(run, "users"):
        found.append(
            f"the maps were undone for some users of {table.shown} already, says {manifest.shown}; undone twice, they "
            "are not what they were: see that none of them is named again"
        )
    for what, place in (("people", people), ("requests", requests)):
        if _digests(run, what) != _digests_of(place):
            given = f"no {what}" if place is None else place.shown
            found.append(
                f"{given}: not the {what} of the run in {manifest.shown}; users whose class or request differs go back "
                "by a map that is not theirs, or not at all"
            )
    return tuple(found)


def _digests(run: dict[str, Any], what: str) -> list[str]:
    """Of the files of that kind that a run had."""
    return sorted(entry["sha256"] for entry in run["inputs"].get(what, {}).values())


def _digests_of(place: Location | None) -> list[str]:
    return [] if place is None else sorted(file.digest() for _, file in place.files())


def _run_of(table: Location) -> tuple[Location, dict[str, Any]]:
    """The manifest beside a table and what it says; nothing where there is none, or one of somebody else."""
    manifest = table.beside(f"{table.name}.manifest.json")
    if not manifest.exists:
        return manifest, {}
    with manifest.open() as file:
        try:
            run: Any = json.loads(file.read())
        except ValueError:
            return manifest, {}
    return manifest, run if isinstance(run, dict) and run.get("schema") == SCHEMA else {}
