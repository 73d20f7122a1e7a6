"""An experiment's results as files (JSON, CSV, LaTeX, one page with figures) and as tables in the terminal."""

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from attrcloak.experiments.frontier import SCHEMA as FRONTIER_SCHEMA
from attrcloak.experiments.frontier import Curve
from attrcloak.experiments.measurement import Measurement
from attrcloak.experiments.plan import Plan
from attrcloak.experiments.tables import Row, blocks, diverged, measured_with, table_json, versions_of
from attrcloak.json_text import write_json
from attrcloak.reporting import experiment_figures, figures
from attrcloak.reporting.html import template
from attrcloak.whole_file import replacing

PROTOCOL_MEANS = {
    "paper": "As in the paper: trained on all interactions; utility ranks the training items, nothing masked; "
    "attackers know 20 % of the labels; plain accuracy on the rest, to be read against the largest class and guessing "
    "by shares",
    "sound": "Held out: utility ranks each user's last item among all unseen ones; attackers know 80 % of the labels; "
    "balanced accuracy, to be read against 1/K from both sides",
}


def write_tables(
    plan: Plan,
    name: str,
    measurements: Sequence[Measurement],
    rows: Mapping[str, Sequence[Row]],
    folder: Path,
    data: Mapping[str, Mapping[str, Any]],
) -> list[Path]:
    """Write NAME.json (protocol paper), NAME-sound.json, NAME.csv, NAME.tex and NAME.html with both, and its figures.

    Args:
        plan: what was run.
        name: of the files.
        measurements: all cells, for the histograms, settings and versions.
        rows: by protocol, in the plan's order.
        folder: made when it is not there.
        data: what each data set says of itself, by name (``Dataset.describe``).

    Returns:
        The files written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for protocol, of_protocol in rows.items():
        path = folder / (f"{name}.json" if protocol == "paper" else f"{name}-{protocol}.json")
        write_json(table_json(plan, of_protocol, protocol, measurements, data), path)
        written.append(path)
    drawn = _Figures.of(plan, measurements, rows)
    texts = {
        f"{name}.csv": _csv(rows),
        f"{name}.tex": _latex(plan, rows),
        f"{name}.html": _page(plan, name, measurements, rows, drawn, data),
        **{f"{name}-{figure}.svg": text for figure, text in drawn.by_name().items()},
    }
    return written + [_write(folder / file, text) for file, text in texts.items()]


def write_frontier(
    plan: Plan,
    name: str,
    curves: Sequence[Curve],
    folder: Path,
    measurements: Sequence[Measurement],
    data: Mapping[str, Mapping[str, Any]],
) -> list[Path]:
    """Write NAME-frontier.json and NAME-frontier.html, and a figure for each data set and recommender.

    Args:
        plan: what was run.
        name: of the files.
        curves: what ``frontier`` made of the measurements.
        folder: made when it is not there.
        measurements: all cells, for settings and versions.
        data: what each data set says of itself, by name (``Dataset.describe``).
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-frontier.json"
    content = {"schema": FRONTIER_SCHEMA, "title": plan.title, "seeds": plan.seeds}
    shown = measured_with([m for m in measurements if m.cell.protocol == "sound"], data)
    write_json({**content, "curves": [curve.to_json() for curve in curves], **shown}, path)
    pictures = [experiment_figures.frontier_figure(curve) for curve in curves]
    page = template("frontier.html").render(plan=plan, curves=curves, pictures=pictures)
    files = [path, _write(folder / f"{name}-frontier.html", page)]
    for curve, picture in zip(curves, pictures, strict=True):
        backbone = re.sub(r"[^a-z0-9.]+", "-", curve.backbone.lower()).strip("-")
        files.append(_write(folder / f"{name}-frontier-{curve.dataset}-{backbone}.svg", picture))
    return files


def terminal_tables(rows: Mapping[str, Sequence[Row]]) -> list[Table]:
    """One table for each protocol, data set, recommender and attacker; published numbers in brackets."""
    tables = []
    for protocol, of_protocol in rows.items():
        for block in blocks(of_protocol):
            table = Table(title=f"{block.heading} ({protocol} protocol)", title_justify="left")
            table.add_column("method", no_wrap=True)
            for column in block.columns:
                table.add_column(column, justify="right")
            for line, cells in block.lines.items():
                table.add_row(line, *(number(cell) for cell in cells))
            tables.append(table)
    return tables


def frontier_table(curve: Curve) -> Table:
    """One line a method and setting, least leakage first."""
    table = Table(title=f"{curve.dataset}, {curve.backbone}: privacy against utility", title_justify="left")
    for heading in ("method", "setting", "strongest attacker"):
        table.add_column(heading)
    for heading in ("leakage", "to classifiers", "NDCG@10 kept", "front", "area"):
        table.add_column(heading, justify="right")
    for point in sorted(curve.points, key=lambda point: point.leakage):
        table.add_row(
            point.method,
            point.setting,
            point.strongest,
            f"{point.leakage:.3f}",
            f"{point.leakage_to_classifiers:.3f}",
            f"{point.utility:.3f}",
            "*" if point.best else "",
            f"{curve.area[point.method]:.3f}",
        )
    return table


def number(row: Row | None) -> str:
    """Ours, half the width of its interval, and the published number in brackets."""
    if row is None:
        return "–"
    digits = 1 if row.metric == "seconds" else 3
    text = f"{row.value:.{digits}f}"
    if row.ci is not None and row.ci[0] < row.ci[1]:
        text += f" ±{(row.ci[1] - row.ci[0]) / 2:.{digits}f}"
    return text + ("" if row.published is None else f" ({row.published:.{digits}f})")


def _csv(rows: Mapping[str, Sequence[Row]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    names = ("dataset", "backbone", "method", "setting", "attacker", "attribute", "metric")
    writer.writerow(["protocol", *names, "value", "low", "high", "seeds", "published"])
    for protocol, of_protocol in rows.items():
        for row in of_protocol:
            low, high = row.ci or ("", "")
            published = "" if row.published is None else row.published
            described = [getattr(row, name) for name in names]
            writer.writerow([protocol, *described, row.value, low, high, row.seeds, published])
    return buffer.getvalue()


def _latex(plan: Plan, rows: Mapping[str, Sequence[Row]]) -> str:
    """One tabular a block, for the booktabs package."""
    parts = [f"% {plan.title}; {plan.seeds} seed{'s' * (plan.seeds != 1)}; published numbers in brackets"]
    for protocol, of_protocol in rows.items():
        for block in blocks(of_protocol):
            head = " & ".join(["method", *map(_escaped, block.columns)])
            lines = [f"{_escaped(f'% {block.heading}, {protocol} protocol')[1:]}"]
            lines += [r"\begin{tabular}{l" + "r" * len(block.columns) + "}", r"\toprule", head + r" \\", r"\midrule"]
            lines += [
                " & ".join([_escaped(line), *(_escaped(number(cell)) for cell in cells)]) + r" \\"
                for line, cells in block.lines.items()
            ]
            parts.append("\n".join([*lines, r"\bottomrule", r"\end{tabular}"]))
    return "\n\n".join(parts) + "\n"


def _escaped(text: str) -> str:
    for sign in "&%_#":
        text = text.replace(sign, f"\\{sign}")
    return text.replace("±", r"$\pm$").replace("–", "--")


@dataclass(frozen=True)
class _Figures:
    """The figures of a page, as SVG.

    Attributes:
        agreement: ours against the published numbers; None where none are published.
        sweeps: by protocol, results over the setting that varies; None where nothing does.
        shapes: by attribute, single dimensions by class.
    """

    agreement: str | None
    sweeps: Mapping[str, str | None]
    shapes: Mapping[str, str]

    @classmethod
    def of(cls, plan: Plan, measurements: Sequence[Measurement], rows: Mapping[str, Sequence[Row]]) -> "_Figures":
        shapes = _shapes(measurements) if "shapes" in plan.measures else {}
        return cls(
            experiment_figures.agreement_figure(rows.get("paper", ())),
            {protocol: experiment_figures.sweep_figure(of_protocol) for protocol, of_protocol in rows.items()},
            {attribute: figures.shapes_figure(of_method, attribute) for attribute, of_method in shapes.items()},
        )

    def by_name(self) -> dict[str, str]:
        """Those there are, by a name for a file."""
        named = {
            "agreement": self.agreement,
            **{f"sweep-{protocol}": figure for protocol, figure in self.sweeps.items()},
            **{f"shapes-{attribute}": figure for attribute, figure in self.shapes.items()},
        }
        return {name: figure for name, figure in named.items() if figure is not None}


def _page(
    plan: Plan,
    name: str,
    measurements: Sequence[Measurement],
    rows: Mapping[str, Sequence[Row]],
    drawn: _Figures,
    data: Mapping[str, Mapping[str, Any]],
) -> str:
    return template("experiment.html").render(
        plan=plan,
        name=name,
        means=PROTOCOL_MEANS,
        blocks={protocol: blocks(of_protocol) for protocol, of_protocol in rows.items()},
        number=number,
        agreement=drawn.agreement,
        sweeps=drawn.sweeps,
        shapes=drawn.shapes,
        notes=diverged(measurements),
        versions=versions_of(measurements),
        data=[
            described for described in data.values() if any(m.cell.dataset == described["name"] for m in measurements)
        ],
        scopes=_scopes(measurements),
    )


def _scopes(measurements: Sequence[Measurement]) -> set[str]:
    """Where settings of a plan hold, as far as something was run there."""
    found = {"both"}
    for cell in (measurement.cell for measurement in measurements):
        found |= {cell.protocol, f"{cell.protocol} on {cell.dataset}"}
    return found


def replaced(rows: Mapping[str, Sequence[Row]], name: str, folder: Path) -> list[str]:
    """What tables of an earlier run in the folder have that these rows do not, one line a file.

    Args:
        rows: by protocol, about to be written.
        name: of the files.
        folder: where they go.
    """
    lost = []
    for path in (folder / f"{name}.json", folder / f"{name}-sound.json"):
        try:
            earlier = json.loads(path.read_text(encoding="utf-8"))
            protocol = earlier["protocol"]
            had = {tuple(row[field] for field in ROW_OF): row["seeds"] for row in earlier["rows"]}
        except (OSError, ValueError, KeyError, TypeError):
            continue  # nothing there, or nothing of this version
        if protocol not in rows:
            lost.append(f"{path} is of an earlier run and stays; {name}.csv and the page are without it now")
            continue
        new = {tuple(getattr(row, field) for field in ROW_OF): row.seeds for row in rows[protocol]}
        gone = [" ".join(filter(None, each)) for each, seeds in sorted(had.items()) if new.get(each, 0) < seeds]
        if gone:
            more = f" and {len(gone) - 5} more" if len(gone) > 5 else ""
            lost.append(
                f"{path} is replaced: it had {', '.join(gone[:5])}{more}, with more seeds or not in this run at all; "
                "what was measured is kept, so name all of it and the table has it again"
            )
    return lost


ROW_OF = ("method", "setting", "dataset", "backbone")
"""What makes a line of a table."""


def _shapes(measurements: Sequence[Measurement]) -> dict[str, dict[str, Any]]:
    """By attribute and method, the histograms of the first data set, recommender, protocol and seed."""
    found: dict[str, dict[str, Any]] = {}
    first = measurements[0].cell
    for measurement in measurements:
        cell = measurement.cell
        if (cell.dataset, cell.backbone, cell.protocol) == (first.dataset, first.backbone, first.protocol):
            for attribute, shapes in measurement.shapes.items():
                found.setdefault(attribute, {}).setdefault(f"{cell.method.name} {cell.method.label}".strip(), shapes)
    return found


def _write(path: Path, text: str) -> Path:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path
