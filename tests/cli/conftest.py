"""A small world of files for the commands, and a way to run them in this process."""

import json
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attrcloak.cli import main


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, all of it, as JSON."""
        return json.loads(self.out)


Run = Callable[..., Done]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """``run("audit", ...)``: exit code, standard output and standard error."""

    def command(*words: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["attrcloak", *(str(word) for word in words)])
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        written = capsys.readouterr()
        return Done(code, written.out, written.err)

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield command
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: vectors of 240 users that give away a group, and what is known of the people."""
    rng = np.random.default_rng(0)
    group = rng.choice(["a", "b"], size=240)
    colour = rng.choice(["red", "green", "blue"], size=240)
    vectors = rng.normal(size=(240, 6)).astype(np.float32)
    vectors[group == "a", 0] += 2.5
    np.savez(tmp_path / "users.npz", ids=np.arange(240), vectors=vectors)
    np.save(tmp_path / "users.npy", vectors)
    lines = [f"{i},{g},{c}" for i, (g, c) in enumerate(zip(group, colour, strict=True))]
    (tmp_path / "people.csv").write_text("\n".join(["user_id,group,colour", *lines]) + "\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path
