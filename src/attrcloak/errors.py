"""Every error AttrCloak raises on purpose.

    AttrCloakError                 anything below; the command line prints it and exits 1
    ├── InvalidInput               data that cannot be used, with every problem found listed
    │   ├── UnknownCell            an eraser meets a combination of classes it was not fitted on
    │   └── UnreadableFile         a file that is empty, cut short, of another kind or unsafe to open
    ├── DamagedWork                notes of an unfinished run that are not as the run left them
    ├── InvalidSettings            a setting out of range or unknown, with the nearest known one
    ├── DataNotFound               a data set that none of its sources could supply
    ├── MissingExtra               an optional dependency that is not installed
    ├── NotSupported               a combination that would give a wrong answer, so it is refused
    └── WorkerLost                 processes of an engine died more often than they are replaced

A message says what, where, how many, and the next step. A parameter that mends it is written with its equals sign, as
in ``vector_column=``, and the command line puts its own option there.
"""

from collections.abc import Sequence
from pathlib import Path

MOST_NAMED = 3
"""Files, ids or rows that are named where there are many."""


class AttrCloakError(Exception):
    """The root of every error raised on purpose."""


class InvalidInput(AttrCloakError):
    """Data that cannot be used. ``problems`` holds every problem found, not only the first."""

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self.problems))


class UnknownCell(InvalidInput):
    """An eraser was given users of a combination of classes it has no map for."""


class UnreadableFile(InvalidInput):
    """A file that is missing, empty, cut short, of another kind, or unsafe to open."""


class DamagedWork(AttrCloakError):
    """What an unfinished run had done is not as the run left it, so that nobody can go on with it."""


class InvalidSettings(AttrCloakError):
    """A setting out of its range, or a name that is not known."""


class DataNotFound(AttrCloakError):
    """A data set could not be had from any of its sources; the message lists what was tried."""


class MissingExtra(AttrCloakError):
    """An optional dependency is not installed."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(
            f"an optional dependency is missing for {feature}: pip install 'attrcloak[{extra}]', or in a checkout "
            f"pip install -c constraints.txt '.[{extra}]'"
        )


class NotSupported(AttrCloakError):
    """A combination of model, method and setting that would give a wrong answer."""


class WorkerLost(AttrCloakError):
    """An engine's workers died more often than they are replaced; what was finished is kept."""


def not_among(what: str, name: str, known: Sequence[str]) -> str:
    """The message for a name that is not known: "no method 'leece'; did you mean 'leace'? There are: ..."."""
    from difflib import get_close_matches

    near = get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}? There are" if near else "there are"
    return f"{what} {name!r}; {hint}: {', '.join(known) or 'none'}"


def strange_requests(shown: str, strange: Sequence[str], known: Sequence[str]) -> str:
    """The message for requests of attributes that there are not; an empty name is written "(empty)"."""
    from difflib import get_close_matches

    named = ", ".join(name.strip() or "(empty)" for name in strange)
    near = next((match for name in strange for match in get_close_matches(name, known, n=1)), None)
    hint = "" if near is None else f"; did you mean {near!r}?"
    return f"{shown}: requests for {named}, but the attributes are {', '.join(known)}{hint}"


def not_there(shown: str | Path, path: Path, what: str = "file") -> str:
    """The message for a file that is not there: "usrs.npy: there is no such file; did you mean 'users.npy'?".

    Args:
        shown: what the message calls it.
        path: where it was looked for.
        what: was looked for.
    """
    from difflib import get_close_matches

    folder = path.absolute().parent
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except OSError as error:
        return f"{shown}: there is no such {what}; its folder {folder} cannot be looked into ({error.strerror})"
    # Names of one ending are alike by that alone.
    near = get_close_matches(path.name, names, n=1, cutoff=0.8)
    hint = f"; did you mean {near[0]!r}?" if near else f" in {folder}; check the name and the folder"
    return f"{shown}: there is no such {what}{hint}"


def raise_if(problems: Sequence[str]) -> None:
    """Raise one InvalidInput that lists all ``problems``, or return when there are none."""
    if problems:
        raise InvalidInput(problems)
