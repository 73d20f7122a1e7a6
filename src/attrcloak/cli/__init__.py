"""The commands. Each parses, loads, calls one library function, writes, and sets the exit code."""

import re
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Annotated

import typer

from attrcloak import __version__
from attrcloak.cli.auditing import audit
from attrcloak.cli.experiments import compare, reproduce
from attrcloak.cli.kept_maps import apply, undo
from attrcloak.cli.recommendations import data, demo, doctor, evaluate, report, train
from attrcloak.cli.unlearning import unlearn
from attrcloak.errors import AttrCloakError

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Measure what user embeddings give away about people, and lower it after training. "
    "Exit codes: 0 fine, 1 an error, 2 a wrong command line, 3 a gate not passed, 130 and 143 interrupted or ended.",
)


def _say_version(asked: bool) -> None:
    if asked:
        print(f"attrcloak {__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error was raised.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_say_version, is_eager=True)
    ] = False,
) -> None:
    """``--debug`` is documented here and read by ``main``."""


for command in (demo, train, audit, unlearn, apply, undo, evaluate, compare, reproduce, report, data, doctor):
    app.command()(command)


def main() -> None:
    """Run a command; turn errors raised on purpose into a message and exit code 1."""
    signal.signal(signal.SIGINT, _stop)
    signal.signal(signal.SIGTERM, _stop)
    # Taken out here, so that it may stand anywhere on the line and covers errors raised before a command starts.
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        app(arguments, prog_name="attrcloak")
    except (AttrCloakError, OSError, MemoryError) as error:
        if len(arguments) < len(sys.argv) - 1:
            raise
        print(f"error: {_with_options(_message(error), arguments)}", file=sys.stderr)
        sys.exit(1)


def _stop(number: int, frame: FrameType | None) -> None:
    """Leave through every ``finally``, so that half-written files are removed."""
    print(
        "interrupted; no output is half-written; unlearning of files and experiments go on with the same command",
        file=sys.stderr,
    )
    sys.exit(128 + number)


def _message(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return (
            f"{where}{error.strerror}. The output was not written; free space or choose another folder and run again. "
            "What a run over files had finished is kept, and the same command goes on from there"
        )
    if isinstance(error, MemoryError):
        return (
            "out of memory. The output was not written; --plan says what a table in memory needs, and with --engine "
            "files are streamed"
        )
    return str(error)


def _with_options(message: str, arguments: Sequence[str]) -> str:
    """A message in which parameters, written ``vector_column=``, are the options of the command: ``--vector``."""
    commands = typer.main.get_group(app).commands
    parameters = next((commands[word].params for word in arguments if word in commands), [])
    options = {parameter.name: parameter.opts[0] for parameter in parameters if parameter.opts[0].startswith("--")}
    return re.sub(r"\b(\w+)=(?=[\s,.;)]|$)", lambda found: options.get(found[1], found[0]), message)
