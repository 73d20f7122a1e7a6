"""Commands on experiments: reproduce (a table of the paper), compare (a plan of one's own)."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attrcloak.cli import files
from attrcloak.cli.recommendations import DataDir
from attrcloak.errors import AttrCloakError, DataNotFound, InvalidSettings

if TYPE_CHECKING:
    from attrcloak.data.datasets import Dataset
    from attrcloak.experiments import Measurement, Plan

Datasets = Annotated[str | None, typer.Option("--dataset", help="Data sets, comma-separated; all of the plan.")]
Quick = Annotated[bool, typer.Option("--quick", help="A short run: fewer seeds and epochs, as the plan says.")]
Seeds = Annotated[int | None, typer.Option(help="Number of seeds; as the plan says by default.", min=1)]
Methods = Annotated[str | None, typer.Option(help="Comma-separated methods; all of the plan.")]


def reproduce(
    table: Annotated[
        str,
        typer.Argument(
            metavar="TABLE",
            help="table1, table2, table4, table5, table6, table7, fig4, fig5 or fig6.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for results; finished cells in it are not run again.")] = (
        Path("reproduced")
    ),
    dataset: Datasets = None,
    protocol: Annotated[str | None, typer.Option(help="paper, sound or both; as the plan says by default.")] = None,
    methods: Methods = None,
    seeds: Seeds = None,
    quick: Quick = False,
    data_dir: DataDir = None,
) -> None:
    """Run a table or figure of the paper and put our numbers beside the published ones.

    Leaves TABLE.json (protocol paper), TABLE-sound.json, TABLE.csv, TABLE.tex, TABLE.html and its figures as SVG.

    Example: attrcloak reproduce table4 --dataset ml-100k --quick
    """
    from attrcloak.experiments import plan_of_table

    if protocol not in (None, "paper", "sound", "both"):
        raise InvalidSettings(f"--protocol is {protocol!r}, expected paper, sound or both")
    plan = plan_of_table(table)
    plan = (plan.quickened() if quick else plan).narrowed(
        datasets=files.names(dataset),
        methods=files.names(methods),
        seeds=seeds,
        protocols=None if protocol is None else ("paper", "sound") if protocol == "both" else (protocol,),
    )
    _run(plan, table, out, data_dir, skip_missing=dataset is None, curves=False, short=quick)


def compare(
    plan_file: Annotated[Path, typer.Argument(metavar="PLAN", help="A plan in TOML.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", help="Folder for results; finished cells in it are not run again.")] = (
        Path("compared")
    ),
    dataset: Datasets = None,
    methods: Methods = None,
    seeds: Seeds = None,
    quick: Quick = False,
    data_dir: DataDir = None,
) -> None:
    """Run a plan of your own: tables of every method, and privacy against utility with the Pareto front.

    Leaves the same files as reproduce under the name of the plan, and PLAN-frontier.json, .html and figures as SVG.

    Example: attrcloak compare experiments/frontier.toml --dataset ml-100k
    """
    from attrcloak.experiments import read_plan

    plan = read_plan(plan_file)
    plan = (plan.quickened() if quick else plan).narrowed(
        datasets=files.names(dataset), methods=files.names(methods), seeds=seeds
    )
    curves = "sound" in plan.protocols
    if curves and "original" not in plan.methods:
        raise InvalidSettings("the picture shows utility as a share of the original's; name original among the methods")
    _run(plan, plan_file.stem, out, data_dir, skip_missing=dataset is None, curves=curves, short=quick)


def _run(
    plan: "Plan", name: str, out: Path, data_dir: Path | None, skip_missing: bool, curves: bool, short: bool
) -> None:
    from attrcloak.data.datasets import load
    from attrcloak.experiments import frontier, rows_of, run
    from attrcloak.experiments.tables import diverged
    from attrcloak.reporting.experiment import (
        frontier_table,
        replaced,
        terminal_tables,
        write_frontier,
        write_tables,
    )
    from attrcloak.reporting.terminal import progress_bar, show

    files.refuse_a_file_as_folder(out)
    found: list[Dataset] = []
    missing: list[AttrCloakError] = []
    measurements: list[Measurement] = []
    with progress_bar() as progress:
        # All are read before the first is trained on: what is missing is no news for the end of a night.
        for dataset in plan.datasets:
            try:
                loaded = load(dataset, data_dir, progress)
                loaded.require_attributes()
            except AttrCloakError as error:
                # One missing set of several must not cost the others; asked for by name, it is an error.
                if not skip_missing:
                    raise
                missing.append(error)
                files.note(f"{dataset} is left out: {error}")
                continue
            files.note(f"{loaded.name} from {loaded.source}: {_sizes(loaded)}\n{loaded.licence}")
            found.append(loaded)
        if not found:
            raise DataNotFound(_all_missing(plan.datasets, missing))
        for loaded in found:
            measurements += run(plan, loaded, out, progress)
    data = {loaded.name: loaded.describe() for loaded in found}
    rows = {protocol: rows_of(plan, measurements, protocol) for protocol in plan.protocols}
    for table in terminal_tables(rows):
        show(table)
    for line in diverged(measurements):
        files.note(f"{line}; its numbers are of the vectors that leaked least before")
    for line in replaced(rows, name, out):
        files.note(line)
    written = write_tables(plan, name, measurements, rows, out, data)
    if curves:
        drawn = frontier(measurements)
        for curve in drawn:
            show(frontier_table(curve))
        written += write_frontier(plan, name, drawn, out, measurements, data)
    if short:
        files.note(
            "This was a short run, with fewer steps and seeds than the numbers in brackets; it need not be near them."
        )
    files.note(f"{', '.join(str(path) for path in written)} written; measurements are kept in {out / 'cells'}")


def _sizes(dataset: "Dataset") -> str:
    text = (
        f"{len(dataset.interactions.users):,} users, {len(dataset.interactions.items):,} items, "
        f"{len(dataset.interactions):,} interactions"
    )
    absent = dataset.users_without_interactions
    return text + (f"; {absent:,} more users are listed and have no interactions here" if absent else "")


def _all_missing(datasets: Sequence[str], missing: Sequence[AttrCloakError]) -> str:
    return f"none of the data sets {', '.join(datasets)} was found:\n" + "\n".join(str(error) for error in missing)
