"""Progress and tables for the terminal."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from attrcloak.auditing.report import EQUATIONS
from attrcloak.progress import Progress as Callback

LINE_EVERY = 10.0
"""Seconds between two lines of progress, and before the first, where there is no terminal to draw on."""


class _Rate(ProgressColumn):
    """Steps a second."""

    def render(self, task: Task) -> Text:
        """Empty until there is something to tell."""
        return Text("" if not task.speed else f"{task.speed:,.0f}/s", style="dim")


@contextmanager
def progress_bar(quiet: bool = False) -> Iterator[Callback | None]:
    """A callback (stage, done, total) that shows progress on standard error; None when quiet.

    One bar a stage on a terminal. Elsewhere, as in a log, a plain line every ``LINE_EVERY`` seconds.
    """
    if quiet:
        yield None
        return
    console = Console(stderr=True)
    if not console.is_terminal:
        yield ProgressLines(lambda line: print(line, file=sys.stderr, flush=True))
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description:<34}"),
        BarColumn(bar_width=30),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        _Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        tasks: dict[str, Any] = {}

        def advance(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=max(total, 1))
            bars.update(tasks[stage], completed=done, total=max(total, 1))
            for ended in _ended(tasks, stage, done >= total):
                bars.remove_task(tasks.pop(ended))

        yield advance


@dataclass
class _Stage:
    """Where a stage began and where it is."""

    began: float
    done_before: int
    done: int
    total: int

    def text(self, name: str, now: float) -> str:
        """Such as "training ncf 14/33, 2 min left", with the rate where it is large, as of rows.

        Without a count for what is done in one go.
        """
        if self.total <= 1:
            return name
        counted = f"{name} {self.done:,}/{self.total:,}"
        if self.done <= self.done_before or now <= self.began:
            return counted
        rate = (self.done - self.done_before) / (now - self.began)
        if self.done >= self.total:
            when = f"in {_duration(now - self.began)}"
        else:
            when = f"{_duration((self.total - self.done) / rate)} left"
        return f"{counted}, {when}" + (f" ({rate:,.0f} a second)" if rate >= 100 else "")


class ProgressLines:
    """Progress as lines of a log, each with the stages that are under way, the outermost first.

    One every ``LINE_EVERY`` seconds, and one at the end of an outermost stage that took as long.
    """

    def __init__(self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        """``write`` takes a line without its end; ``clock`` gives seconds."""
        self._write = write
        self._clock = clock
        self._last = clock()
        self._stages: dict[str, _Stage] = {}

    def __call__(self, stage: str, done: int, total: int) -> None:
        """See ``attrcloak.progress``."""
        now = self._clock()
        known = self._stages.setdefault(stage, _Stage(now, done, done, total))
        known.done, known.total = done, total
        for inner in _ended(self._stages, stage, itself=False):
            del self._stages[inner]
        over = done >= total and stage == next(iter(self._stages)) and now - known.began >= LINE_EVERY
        if over or now - self._last >= LINE_EVERY:
            parts = [under_way.text(name, now) for name, under_way in self._stages.items()]
            self._write(f"{time.strftime('%H:%M:%S')} {'; '.join(parts)}")
            self._last = now
        if done >= total:
            del self._stages[stage]


def _ended(stages: Mapping[str, Any], stage: str, itself: bool) -> list[str]:
    """The stages that are over when one reports: those that began after it, and itself where it is done."""
    names = list(stages)
    return names[names.index(stage) + (0 if itself else 1) :]


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def show(table: Table) -> None:
    """Print a table on standard output; wide enough for all columns where there is no terminal to fit."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=140)
    console.print(table)


def audit_table(results: Sequence[Any], surface: str | None = None) -> Table:
    """One line a result of an audit, against its controls."""
    table = Table(title="How well attackers read attributes", title_justify="left")
    for heading in ("attribute", "attacker", "surface", "known"):
        table.add_column(heading)
    for heading in ("balanced acc.", "95 % interval", "chance", "adaptive", "AUC", "p"):
        table.add_column(heading, justify="right")
    for result in results:
        if surface is not None and result.surface != surface:
            continue
        table.add_row(
            result.attribute,
            result.attacker,
            result.surface,
            f"{result.known:.0%}",
            f"{result.balanced_accuracy:.3f}",
            "{:.3f}–{:.3f}".format(*result.ci),
            f"{result.chance:.3f}",
            _number(result.adaptive_balanced_accuracy),
            _number(result.auc),
            _number(result.permutation_p),
        )
    return table


def comparison_table(report: Mapping[str, Any]) -> Table:
    """One line a method: utility, and the strongest attacker on each attribute's vectors, from report.json."""
    attributes = list(dict.fromkeys(result["attribute"] for result in report["audits"]["original"]["results"]))
    table = Table(title=f"{report['dataset']}, {report['model']}, seed {report['seed']}", title_justify="left")
    table.caption = "under each attribute its chance level; below, the attacker furthest from it"
    table.add_column("method", no_wrap=True)
    table.add_column("NDCG@10", justify="right")
    table.add_column("kept", justify="right")
    for attribute in attributes:
        table.add_column(f"{attribute}\n{chance_of(report, attribute):.3f}", justify="right")
    table.add_column("at chance", no_wrap=True)
    for name, audit in report["audits"].items():
        cells = []
        for attribute in attributes:
            worst = strongest(audit["results"], attribute)
            cells.append("–" if worst is None else f"{worst['balanced_accuracy']:.3f}\n{worst['attacker']}")
        verdict = report["details"]["verdicts"][name]
        table.add_row(
            name,
            f"{report['utility'][name]['ndcg@10']:.4f}",
            f"{report['details']['paired_ratio'][name][0]:.1%}",
            *cells,
            "yes" if verdict["protected"] else "no",
        )
    return table


def strongest(results: Sequence[Mapping[str, Any]], attribute: str) -> Mapping[str, Any] | None:
    """The result on the vectors that lies furthest from chance as the verdict counts it; None where there is none."""
    on_vectors = [r for r in results if r["attribute"] == attribute and r["surface"] == "vectors"]
    return max(on_vectors, key=distance, default=None)


def distance(result: Mapping[str, Any]) -> float:
    """How far an attacker is from chance: from either side, but for the moment equations, which count above only."""
    apart = float(result["balanced_accuracy"] - result["chance"])
    return max(apart, 0.0) if result["attacker"] == EQUATIONS else abs(apart)


def chance_of(report: Mapping[str, Any], attribute: str) -> float:
    """1/K of an attribute, from its first result."""
    return float(next(r["chance"] for r in report["audits"]["original"]["results"] if r["attribute"] == attribute))


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
