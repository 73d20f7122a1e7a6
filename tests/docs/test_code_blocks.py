"""What README and docs show is run: Python blocks, console blocks, and the form of every command line.

In a document, blocks run in order, in one namespace and one empty folder:

    python      is executed
    console     lines that begin with ``$ attrcloak`` are executed, in this process; ``# exit 3`` at the end of such a
                line states the exit code, 0 otherwise
    sh          ``attrcloak`` commands are only parsed, so that an option that is gone or misspelt is noticed

Secret keys, which nobody chooses otherwise, are drawn from a counter here, so that a verdict is the same in every run.
"""

import contextlib
import hashlib
import io
import itertools
import re
import secrets
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sybil import Document, Example
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser, SkipParser

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


def name(document: Path) -> str:
    return str(document.relative_to(ROOT))


def commands(block: str) -> list[str]:
    """The ``attrcloak`` command lines of a shell block, continuation lines joined."""
    lines = block.replace("\\\n", " ").splitlines()
    return [
        line.strip().removeprefix("$ ") for line in lines if line.strip().removeprefix("$ ").startswith("attrcloak")
    ]


def run_console(example: Example) -> None:
    from attrcloak.cli import main

    for command in commands(example.parsed):
        text, _, comment = command.partition(" # exit ")
        words = shlex.split(text.partition(" > ")[0])
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            patch.setattr(sys, "argv", words)
            try:
                code = main()
            except SystemExit as stop:
                code = stop.code
        assert (code or 0) == int(comment or 0), f"{command}\nexit {code}\n{out.getvalue()}\n{err.getvalue()}"


def check_form(example: Example) -> None:
    import typer

    from attrcloak.cli import app

    group = typer.main.get_command(app)
    for command in commands(example.parsed):
        words = shlex.split(command, comments=True)[1:]
        words = words[: words.index(">")] if ">" in words else words
        with group.make_context("attrcloak", list(words), resilient_parsing=False) as outer:
            _, inner, rest = group.resolve_command(outer, [*outer._protected_args, *outer.args])
            inner.make_context(inner.name, rest, parent=outer).close()


PARSERS = [
    PythonCodeBlockParser(),
    CodeBlockParser(language="console", evaluator=run_console),
    CodeBlockParser(language="sh", evaluator=check_form),
    SkipParser(),
]


@pytest.fixture
def repeatable_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    counter = itertools.count()

    def draw(size: int) -> bytes:
        return hashlib.sha256(b"documents %d" % next(counter)).digest()[:size]

    monkeypatch.setattr(secrets, "token_bytes", draw)


@pytest.fixture
def signal_handlers_kept() -> Iterator[None]:
    """The command line sets handlers of its own; they end with the test."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.mark.slow
@pytest.mark.usefixtures("repeatable_keys", "signal_handlers_kept")
@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_code_blocks_run(document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    parsed = Document.parse(str(document), *PARSERS)
    for example in parsed.examples():
        example.evaluate()


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_links_lead_somewhere(document: Path) -> None:
    targets = [target.partition("#")[0] for target in LINK.findall(document.read_text(encoding="utf-8"))]
    local = [target for target in targets if target and not re.match(r"[a-z]+:", target)]
    missing = [target for target in local if not (document.parent / target).exists()]
    assert not missing


def test_every_page_is_listed() -> None:
    """The index names every page of the docs."""
    index = ROOT / "docs" / "index.md"
    listed = {(index.parent / target.partition("#")[0]).resolve() for target in LINK.findall(index.read_text("utf-8"))}
    pages = {page for page in (ROOT / "docs").rglob("*.md") if page != index}
    assert pages <= listed, sorted(name(page) for page in pages - listed)
