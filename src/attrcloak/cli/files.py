"""What several commands do with files and option texts: load tables and people, keep inputs safe, read settings."""

import csv
import os
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args, get_type_hints

from attrcloak.errors import InvalidInput, InvalidSettings, UnreadableFile, not_among, not_there, strange_requests

if TYPE_CHECKING:
    from attrcloak.auditing import AuditReport, Protocol
    from attrcloak.data import EmbeddingTable, Ids, UserAttributes
    from attrcloak.release import Plan, Verdict
    from attrcloak.unlearning.method import Length, MomentMethod, RowMethod


def names(text: str | None) -> tuple[str, ...] | None:
    """A comma-separated option."""
    if text is None:
        return None
    return tuple(part.strip() for part in text.split(",") if part.strip())


def load_people(
    path: Path, id_column: str | None, columns: str | None, requests: Path | None = None
) -> "UserAttributes":
    """Read people, mark those who ask where a list of requests is given, and cross attributes named "a x b"."""
    from attrcloak.data.attributes import CROSS
    from attrcloak.data.people_files import read_people

    wanted = names(columns)
    if wanted is None:
        people = read_people(path, id_column=id_column)
        return people if requests is None else _marked(people, requests)
    parts = [[part.strip() for part in name.split(CROSS)] for name in wanted]
    single = tuple(dict.fromkeys(part for each in parts for part in each))
    people = read_people(path, id_column=id_column, columns=single)
    if requests is not None:
        people = _marked(people, requests)
    for each in parts:
        if len(each) > 1:
            people = people.cross(*each)
    return people.select([CROSS.join(each) for each in parts])


def read_users(path: Path | None) -> "Ids | None":
    """The users named in a CSV with a column user_id, each once; a list of requests will do."""
    if path is None:
        return None
    import numpy as np

    from attrcloak.data import Ids

    rows = _read_columns(path, ("user_id",), "a list of users has a column user_id")
    if not rows:
        raise InvalidInput(f"{path}: names no user; list one user_id a line")
    return Ids(np.array(list(dict.fromkeys(user for (user,) in rows))))


def note_strangers(users: "Ids", table: "Ids", path: Path | None) -> None:
    """Say how many users of a list the table does not have.

    Raises:
        InvalidInput: it has none of them.
    """
    from attrcloak.data.named_columns import some

    strange = users.values[table.rows(users) < 0]
    if len(strange) == len(users):
        raise InvalidInput(
            f"{path}: none of its {len(users)} users is in the table ({some(strange)}); is it the right list?"
        )
    if len(strange):
        note(f"warning: {path}: {len(strange)} of its {len(users)} users are not in the table ({some(strange)})")


def _read_columns(path: Path, columns: tuple[str, ...], form: str) -> list[tuple[str, ...]]:
    from attrcloak.data.named_columns import check_present

    check_present(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [name for name in columns if name not in (reader.fieldnames or ())]
            if missing:
                there = ", ".join(reader.fieldnames or ()) or "none"
                raise InvalidInput(f"{path}: no column {', '.join(missing)}; {form}, and there are: {there}")
            rows: list[tuple[str, ...]] = []
            for row in reader:
                short = [name for name in columns if row[name] is None]
                if short:
                    raise InvalidInput(f"{path}, line {reader.line_num}: ends before {', '.join(short)}; {form}")
                rows.append(tuple(row[name] for name in columns))
            return rows
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableFile(f"{path} cannot be read: {error}") from error


def _marked(people: "UserAttributes", requests: Path) -> "UserAttributes":
    """People of whom only those ask whom the list of requests names."""
    asked = _read_requests(requests, people.names)
    try:
        return people.mark(asked)
    except InvalidInput as error:
        raise InvalidInput([f"{requests}: {problem}" for problem in error.problems]) from error


def _read_requests(path: Path, known: Sequence[str]) -> dict[str, list[str]]:
    rows = _read_columns(path, ("attribute", "user_id"), "a list of requests has user_id,attribute")
    asked: dict[str, list[str]] = {}
    for attribute, user in rows:
        asked.setdefault(attribute, []).append(user)
    strange = sorted(set(asked) - set(known))
    if strange:
        raise InvalidInput(strange_requests(str(path), strange, known))
    return asked


def refuse_inputs_as_outputs(inputs: Sequence[Path | None], outputs: Sequence[Path | None]) -> None:
    """Inputs are never overwritten, two outputs never share a file, and each can be written when the work is done."""
    sources = {path.resolve() for path in inputs if path is not None}
    seen: set[Path] = set()
    problems = []
    for path in outputs:
        if path is None:
            continue
        if path.resolve() in sources:
            problems.append(f"{path} is another file of this command; give the output another name")
        if path.resolve() in seen:
            problems.append(f"{path} is named for two outputs")
        if path.is_dir():
            problems.append(f"{path} is a folder; name a file")
        folder = path.resolve().parent
        if not folder.is_dir():
            problems.append(f"{path}: the folder {folder} does not exist; make it first")
        elif not os.access(folder, os.W_OK | os.X_OK):
            problems.append(f"{path}: the folder {folder} cannot be written to; choose another")
        seen.add(path.resolve())
    if problems:
        raise InvalidInput(problems)


def refuse_a_file_as_folder(out: Path) -> None:
    """The folder for results is made when there are results; whether it can be is said before any work is done."""
    above = next(path for path in (out, *out.resolve().parents) if path.exists())
    if not above.is_dir():
        raise InvalidInput(f"{above} is a file, so {out} cannot be a folder for the results")
    if not os.access(above, os.W_OK | os.X_OK):
        raise InvalidInput(f"{above} cannot be written to; choose another folder for the results")


def refuse_another_format(source: Path, output: Path | None) -> None:
    """A table that is there goes back into the format it came in; said before any work is done."""
    from attrcloak.data.named_columns import check_present

    check_present(source)
    if output is not None and output.suffix.lower() != source.suffix.lower():
        raise InvalidInput(
            f"{output} is not a {source.suffix} file like {source}; give the output the same extension, so that names, "
            "types and other columns can be kept"
        )


def build_method(name: str, settings: Sequence[str]) -> "MomentMethod | RowMethod":
    """A method with ``key=value`` settings; unknown keys are an error that suggests the nearest known one."""
    from attrcloak.unlearning import METHODS

    if name not in METHODS:
        from attrcloak.comparison import check_methods

        check_methods([name])
        raise InvalidSettings(f"{name!r} is no method to run; known: {', '.join(METHODS)}")
    made = METHODS[name]
    known: dict[str, Any] = {field.name: field.default for field in fields(made)}  # type: ignore[arg-type]
    chosen: dict[str, Any] = {}
    for setting in settings:
        key, separator, text = setting.partition("=")
        if not separator or key not in known:
            raise InvalidSettings(not_among(f"{name} has no setting", key, tuple(known)) + "; write key=value")
        try:
            chosen[key] = type(known[key])(text)
        except ValueError as error:
            raise InvalidSettings(f"{name}: {key} is {text!r}, expected a {type(known[key]).__name__}") from error
        allowed = get_args(get_type_hints(made)[key])
        if allowed and chosen[key] not in allowed:
            raise InvalidSettings(f"{name}: {key} is {text!r}, expected one of {', '.join(map(str, allowed))}")
    return made(**chosen)


def read_key(path: Path | None) -> bytes | None:
    """Secret key material from a file of at least 16 bytes."""
    if path is None:
        return None
    if not path.exists():
        raise UnreadableFile(not_there(path, path))
    try:
        key = path.read_bytes().strip()
    except OSError as error:
        raise UnreadableFile(f"{path} cannot be read: {error}") from error
    if len(key) < 16:
        raise InvalidInput(f"{path} holds {len(key)} bytes; a key has at least 16 random ones (openssl rand -hex 32)")
    return key


def length_option(text: str) -> "Length":
    """--length, checked."""
    if text not in ("auto", "unit", "keep"):
        raise InvalidSettings(f"--length is {text!r}, expected auto, unit or keep")
    return cast("Length", text)


def keep_length(table: "EmbeddingTable", length: str) -> "EmbeddingTable":
    """The table with its scoring set by --length: "unit" says that vectors are scored by a plain dot product."""
    from dataclasses import replace

    length = length_option(length)
    if length == "unit" and not table.frozen_columns:
        return replace(table, scoring="dot")
    return replace(table, scoring="unknown") if length == "keep" and table.scoring == "dot" else table


def say_verdict(verdict: "Verdict | None") -> bool:
    """Print a verdict on standard error; False when a table is not protected."""
    if verdict is None:
        note("no verdict: the result was not audited")
        return True
    for text in verdict.warnings:
        note(f"warning: {text}")
    if verdict.protected:
        note("verdict: protected, in the sense that these attackers are at chance on held-out users")
        return True
    note("verdict: NOT protected; the table was written all the same")
    for text in (*verdict.reasons, *(f"next: {step}" for step in verdict.next_steps)):
        note(f"  {text}")
    return False


def show_plan(planned: "Plan") -> None:
    """Print what a run would do, and to whom."""
    # Of a table in files each worker holds a batch and its libraries, which outweigh moments and maps.
    took = (
        "moments and maps, beside some hundred MB a worker"
        if planned.seconds is None
        else f"memory and {planned.seconds:.1f} s"
    )
    print(
        f"{planned.moving} of {planned.users} users would move by {planned.method}, in {planned.cells} cells "
        f"of {planned.dimensions} dimensions; {planned.unknown} have no known class\n"
        f"about {planned.memory_bytes / 1e6:.0f} MB of {took}, without the audit"
    )
    for name, classes in planned.classes.items():
        asked = planned.asked[name]
        counted = [
            f"{label} {users}" if asked[label] == users else f"{label} {users} ({asked[label]} ask)"
            for label, users in classes.items()
        ]
        print(f"{name}: {', '.join(counted)}")
    if planned.lone_cells:
        print(f"cells of a single user: {'; '.join(planned.lone_cells)}")
    for text in planned.warnings:
        print(f"warning: {text}")


def warn_of_other_vectors(path: Path, vector_column: str | None) -> None:
    """Say which other columns of a Parquet file hold vectors too, for these stay as they were."""
    if path.suffix.lower() != ".parquet":
        return
    import pyarrow.parquet as pq

    from attrcloak.data.vector_files import OTHER_VECTORS_STAY, list_column, other_vectors

    schema = pq.read_schema(path)
    for name in other_vectors(schema, list_column(schema.empty_table(), vector_column)):
        note(f"warning: column {name!r} of {path} {OTHER_VECTORS_STAY}")


def show_attacks(report: "AuditReport") -> None:
    """Print what every attacker found, and on standard error by how many seeds."""
    from attrcloak.reporting.terminal import audit_table, show

    show(audit_table(report.results))
    seeds = report.protocol["seeds"]
    note(f"attacked by {seeds} seed{'s' if seeds > 1 else ''} of folds and attackers")


def show_audit(report: "AuditReport") -> None:
    """Print a report of attackers, its notes on standard error."""
    show_attacks(report)
    for text in report.notes:
        note(f"note: {text}")


def show_audit_by_others(report: "AuditReport | None") -> None:
    """Print what attackers find who know only users who did not ask, where there was such an audit."""
    if report is not None:
        note("the same by attackers who know only users who did not ask:")
        show_attacks(report)


def note(text: str) -> None:
    """A message for the reader, on standard error."""
    print(text, file=sys.stderr)


def read_protocol(name: str, known: str, seeds: int) -> "Protocol":
    """The protocol of that name, with shares of known labels and a number of seeds for the sound one."""
    from attrcloak.auditing import PAPER, SOUND

    if name not in ("sound", "paper"):
        raise InvalidSettings(f"--protocol is {name!r}, expected sound or paper")
    if name == "paper":
        return PAPER
    try:
        shares = tuple(float(part) for part in known.split(","))
    except ValueError as error:
        raise InvalidSettings(f"--known is {known!r}, expected shares such as 0.8 or 0.05,0.2,0.8") from error
    return replace(SOUND, known=shares, seeds=seeds)
