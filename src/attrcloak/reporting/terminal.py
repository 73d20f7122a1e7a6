"""Progress and tables for the terminal."""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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


class _Rate(ProgressColumn):
    """Steps a second."""

    def render(self, task: Task) -> Text:
        """Empty until there is something to tell."""
        return Text("" if not task.speed else f"{task.speed:,.0f}/s", style="dim")


@contextmanager
def progress_bar(quiet: bool = False) -> Iterator[Callback | None]:
    """A callback (stage, done, total) that draws one bar a stage on standard error; None when quiet."""
    if quiet:
        yield None
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
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, Any] = {}

        def advance(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=max(total, 1))
            bars.update(tasks[stage], completed=done, total=max(total, 1))
            if done >= total:
                bars.remove_task(tasks.pop(stage))

        yield advance


@contextmanager
def rows_progress(quiet: bool = False, every: float = 10.0) -> Iterator[Callback | None]:
    """``progress_bar`` for work that is counted in rows, with rate and time left.

    Where standard error is no terminal, a line of text every ``every`` seconds, and one at the end of each stage.
    """
    console = Console(stderr=True)
    if quiet:
        yield None
    elif console.is_terminal:
        with progress_bar() as advance:
            yield advance
    else:
        yield _Lines(every)


class _Lines:
    """Progress as lines: stage, share, rate, time left."""

    def __init__(self, every: float) -> None:
        self._every = every
        self._stage = ""
        self._said = self._began = 0.0
        self._first = 0

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if stage != self._stage:
            self._stage, self._began, self._said, self._first = stage, now, now, done
            if done < total:
                return
        if done < total and now - self._said < self._every:
            return
        self._said = now
        rate = (done - self._first) / max(now - self._began, 1e-9)
        left = f", {(total - done) / rate:.0f} s left" if done < total and rate > 0 else ""
        print(f"{stage}: {done:,} of {total:,} ({rate:,.0f} a second{left})", file=sys.stderr, flush=True)


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
