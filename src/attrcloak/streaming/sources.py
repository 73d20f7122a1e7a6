"""The files of a run, looked at before any work: whether they can be read, and whether what is new has a place."""

import os
from dataclasses import asdict, dataclass, is_dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from attrcloak import __version__
from attrcloak.errors import InvalidInput, InvalidSettings, NotSupported
from attrcloak.moments.eraser import Eraser, Scaling
from attrcloak.parts import Location, Part, open_parts, refuse_containing, refuse_nesting
from attrcloak.parts.item_table import ItemTable, read_items
from attrcloak.streaming.kept_maps import KeptMaps
from attrcloak.streaming.workspace import Workspace, has_room
from attrcloak.unlearning import METHODS
from attrcloak.unlearning.attrcloak_dd import AttrCloakDD
from attrcloak.unlearning.calibrated import Calibrated
from attrcloak.unlearning.lengths import frozen_length
from attrcloak.unlearning.method import Length, MomentMethod, RowMethod
from attrcloak.unlearning.running import key_commitment
from attrcloak.whole_file import refuse_to_lose_a_way_back

_JOIN_BYTES_PER_USER = 60


@dataclass(frozen=True, kw_only=True)
class Sources:
    """The files of a run.

    Attributes:
        vectors: file or folder, local or a URI.
        people: likewise.
        output: what the new table is to be called: a file when ``vectors`` is one, else a folder. None only where
            nothing is to be written, as for a plan.
        requests: who asks for what; None lets everybody ask whose class is known.
        users: file or folder with user_id, for ``KeptMaps``: of those who ask, only these move. None is all of them.
        work: folder of this machine for what is not finished; by default beside a local output.
        id_column: name of the ids in vectors and people; None finds them.
        vector_column: name of the vectors; None finds them.
        columns: the attributes; None takes every other column of the people.
        interactions: file or folder with user_id and item_id, for attrcloak-dd.
        items: the vectors of the same recommender's items, likewise; those of Parquet have their ids in item_id, row i
            of a .npy file is item i.
    """

    vectors: str
    people: str
    output: str | None = None
    requests: str | None = None
    users: str | None = None
    work: str | None = None
    id_column: str | None = None
    vector_column: str | None = None
    columns: tuple[str, ...] | None = None
    interactions: str | None = None
    items: str | None = None


@dataclass(frozen=True, eq=False)
class Opened:
    """What a run reads, and how.

    Attributes:
        method: in the form that streams.
        parts: of the table.
        inputs: all that is read, by what it is.
        items: for attrcloak-dd.
        kept: maps that are there already; None for a method that solves for them.
        columns: the attributes; None takes every column of the people but the ids.
        scaling: whether vectors are brought to one length first.
    """

    method: MomentMethod | Calibrated | AttrCloakDD
    parts: tuple[Part, ...]
    inputs: dict[str, Location]
    items: ItemTable | None
    kept: Eraser | None
    columns: tuple[str, ...] | None
    scaling: Scaling

    @cached_property
    def files(self) -> dict[str, dict[str, Location]]:
        """{what: {name: file}} of all that is read."""
        return {what: dict(place.files()) for what, place in self.inputs.items()}

    @property
    def join_bytes(self) -> int:
        """Room that the join takes, roughly."""
        return _JOIN_BYTES_PER_USER * sum(part.rows for part in self.parts)

    @property
    def disk_bytes(self) -> int:
        """Room that a run takes, for the new table and for the join, roughly."""
        return self.join_bytes + sum(part.location.stamp()[0] for part in self.parts)


@dataclass(frozen=True, eq=False)
class Target:
    """Where a run writes.

    Attributes:
        output: the new table.
        staging: for new parts until all are there.
        space: for what is not finished.
    """

    output: Location
    staging: Location
    space: Workspace

    @property
    def manifest(self) -> Location:
        """The manifest of the new table."""
        return self.output.beside(f"{self.output.name}.manifest.json")


def open_sources(sources: Sources, method: MomentMethod | RowMethod, length: Length) -> Opened:
    """See that a table can be streamed by this method; only headers and items are read.

    Raises:
        NotSupported: a method that needs rows, AttrCloakDD without interactions and items, or unit length where scores
            depend on length.
        InvalidInput: files that cannot be used.
    """
    method = _streamable(method, sources)
    places = {
        "vectors": sources.vectors, "people": sources.people, "requests": sources.requests,
        "users": sources.users, "interactions": sources.interactions, "items": sources.items,
    }  # fmt: skip
    inputs = {what: Location.of(named) for what, named in places.items() if named is not None}
    parts = open_parts(inputs["vectors"], sources.id_column, sources.vector_column)
    items = _items(inputs.get("items"), parts[0])
    kept, columns = None, sources.columns
    if sources.users is not None and not isinstance(method, KeptMaps):
        raise InvalidSettings(
            f"users are for maps that are there already; for {method.name}, name them in the requests"
        )
    if isinstance(method, KeptMaps):
        kept, columns = method.eraser, method.columns_for(parts[0], sources.columns)
    return Opened(method, parts, inputs, items, kept, columns, _scaling(method, parts[0], length))


def about_run(sources: Sources, opened: Opened, key: bytes | None, seed: int) -> dict[str, Any]:
    """What a run is about, as plain values: one that is not finished goes on where all of this is the same.

    Args:
        sources: the files.
        opened: what is read of them.
        key: secret key of the null draw; only a commitment to it is among the values.
        seed: of what is random but not secret.
    """
    method = opened.method
    about: dict[str, Any] = {
        "version": __version__,
        "method": method.name,
        "settings": asdict(method) if is_dataclass(method) and not isinstance(method, type) else {"repr": repr(method)},
        "scaling": opened.scaling,
        "seed": seed,
        "key": "drawn" if key is None else "given",
        "columns": None if opened.columns is None else list(opened.columns),
        "id_column": sources.id_column,
        "vector_column": sources.vector_column,
        "inputs": {what: {name: list(file.stamp()) for name, file in of.items()} for what, of in opened.files.items()},
    }
    return about if key is None else {**about, "key_commitment": key_commitment(key)}


def target_of(sources: Sources, opened: Opened) -> Target:
    """Where a run writes, apart from what it reads; nothing is made yet.

    Args:
        sources: the files.
        opened: what is read of them.

    Raises:
        InvalidSettings: there is no name for the new table, or no folder for what is not finished.
        InvalidInput: an input would be written over or removed, or the name has another ending.
    """
    if sources.output is None:
        raise InvalidSettings("there is no name for the new table; give it one (output=)")
    place, inputs = opened.inputs["vectors"], list(opened.inputs.values())
    output = Location.of(sources.output)
    refuse_nesting(inputs, output)
    if not place.is_folder and output.suffix != place.suffix:
        raise InvalidInput(
            f"{output.shown} has not the ending of {place.shown}; give it {place.suffix}, for it will be such a file"
        )
    staging = output.beside(f"{output.name}.partial")
    space = Workspace(_work_folder(sources, output, staging))
    work = Location.of(space.folder)
    refuse_containing(work, [*inputs, output])
    refuse_nesting(inputs, work)
    return Target(output, staging, space)


def refuse_what_is_in_the_way(target: Target, opened: Opened, eraser_file: Path | None) -> None:
    """See that all a run writes has a place that is free, and that there is room for it.

    Args:
        target: where it writes.
        opened: what it reads.
        eraser_file: where the maps are to be kept.

    Raises:
        InvalidInput: something is in the way, or the disk is full.
    """
    output, staging, space = target.output, target.staging, target.space
    if eraser_file is not None:
        taken = [*opened.inputs.values(), output, staging, Location.of(space.folder)]
        _check_eraser_file(eraser_file, taken, target.manifest)
        if not space.holds_eraser(eraser_file):
            refuse_to_lose_a_way_back([eraser_file])
    if staging.exists and not space.is_begun and Path(staging.path) != space.folder:
        raise InvalidInput(f"{staging.shown} is there already, and no run in {space.folder} left it; remove it")
    if output.exists and not space.lacks_names_only:
        raise InvalidInput(f"{output.shown} is there already; remove it or give the output another name")
    if output.is_local and not space.is_begun:
        has_room(Path(staging.path), opened.disk_bytes)


def _streamable(method: MomentMethod | RowMethod, sources: Sources) -> MomentMethod | Calibrated | AttrCloakDD:
    """The method in a form that streams."""
    names = [name for name, kind in METHODS.items() if kind is Calibrated or hasattr(kind, "solve")]
    if isinstance(method, AttrCloakDD):
        if sources.interactions is None or sources.items is None:
            raise NotSupported(
                "attrcloak-dd needs the interactions and the items of the recommender (interactions=, items=); "
                f"methods that can do without: {', '.join(names)}"
            )
        return method
    if sources.interactions is not None or sources.items is not None:
        raise InvalidSettings(
            f"interactions and items are for attrcloak-dd, and {method.name} would not look at them; leave them out or "
            "choose attrcloak-dd (method=)"
        )
    if type(method) is Calibrated:  # those derived from it move row by row
        return replace(method, slices=0)
    if isinstance(method, MomentMethod):
        return method
    raise NotSupported(
        f"{method.name} moves rows one by one and cannot stream; methods that can: {', '.join(names)}, and "
        "attrcloak-dd with interactions. Choose one (method=), or unlearn a file that fits in memory, without an engine"
    )


def _items(place: Location | None, part: Part) -> ItemTable | None:
    """The items, of the width of the users."""
    if place is None:
        return None
    items = read_items(place)
    width = items.vectors.shape[1]
    if width != part.dim:
        raise InvalidInput(
            f"{place.shown}: items have {width} dimensions and users {part.dim}; give the items of the same recommender"
        )
    return items


def _scaling(method: MomentMethod | Calibrated | AttrCloakDD, part: Part, length: Length) -> Scaling:
    scoring = part.scoring
    if length == "unit" and not part.frozen_columns:
        scoring = "dot"
    elif length == "keep" and scoring == "dot":
        scoring = "unknown"
    wanted: Length = getattr(method, "length", "keep")
    if wanted == "unit" and (part.frozen_columns or scoring == "dot+constant"):
        raise frozen_length("user factors")
    return "unit" if wanted == "unit" or (wanted == "auto" and scoring == "dot") else "none"


def _check_eraser_file(path: Path, taken: list[Location], manifest: Location) -> None:
    """The maps go where nothing of this run lies, is written or is removed, and there is a folder for them."""
    place = Location.of(str(path))
    refuse_nesting(taken, place)
    if manifest.path == place.path and manifest.filesystem.equals(place.filesystem):
        raise InvalidInput(f"{path} is the manifest of this run; give the maps another name")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise InvalidInput(f"{path}: the folder {folder} does not exist; make it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InvalidInput(f"{path}: the folder {folder} cannot be written to; choose another")


def _work_folder(sources: Sources, output: Location, staging: Location) -> Path:
    if sources.work is not None:
        return Path(sources.work).absolute()
    if not output.is_local:
        raise InvalidSettings(
            f"{output.shown} is not on this machine; name a local folder for what is not finished (work=)"
        )
    return Path(staging.path)
