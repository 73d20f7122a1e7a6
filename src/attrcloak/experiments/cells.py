"""The cells of an experiment: one data set, recommender, method, protocol and seed each, measured once and kept."""

import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from attrcloak.auditing import PAPER, SOUND, AuditReport, audit
from attrcloak.comparison import versions
from attrcloak.data.attributes import UserAttributes
from attrcloak.data.datasets import Dataset
from attrcloak.data.embeddings import EmbeddingTable
from attrcloak.data.interactions import Split
from attrcloak.errors import InvalidInput
from attrcloak.evaluation import UtilityReport, evaluate
from attrcloak.experiments.measurement import Cell, Measurement
from attrcloak.experiments.plan import Plan
from attrcloak.json_text import write_json
from attrcloak.pictures import histograms
from attrcloak.progress import Progress
from attrcloak.recommenders import train
from attrcloak.recommenders.protected import PROTECTED, protected_class
from attrcloak.recommenders.recommender import Recommender
from attrcloak.unlearning import METHODS
from attrcloak.unlearning.method import UnlearningResult
from attrcloak.unlearning.running import run as run_method


def cells_of(plan: Plan, dataset: Dataset) -> Iterator[Cell]:
    """Every cell of a data set; those that share a recommender follow one another."""
    data = dataset.fingerprint()
    for protocol in plan.protocols:
        for backbone in plan.variants_of(plan.backbones, protocol, dataset.name):
            for seed in range(plan.seeds):
                for method in plan.variants_of(plan.methods, protocol, dataset.name):
                    yield Cell(dataset.name, data, protocol, backbone, method, plan.attributes, plan.attackers, seed)


def run(plan: Plan, dataset: Dataset, folder: Path, progress: Progress | None = None) -> list[Measurement]:
    """Measure the cells of a plan on one data set, or take them from where an earlier run left them.

    Args:
        plan: what to run.
        dataset: interactions and people.
        folder: where measurements ("cells") and trained recommenders ("models") are kept. Interrupt the run and start
            it again with the same folder: finished cells are read, the others measured, and a training of a torch
            model goes on from its last check.
        progress: called with (stage, done, total): for the plan, for each cell, and for what is done in it.

    Raises:
        InvalidInput: the data set says nothing of its users, or a kept measurement is of another version.
    """
    dataset.require_attributes()
    cells = list(cells_of(plan, dataset))
    paths = {cell.file: folder / "cells" / f"{cell.file}.json" for cell in cells}
    measured = {cell.file: _kept(paths[cell.file], cell) for cell in cells if paths[cell.file].is_file()}
    missing = {cell.file: cell for cell in cells if cell.file not in measured}
    say = progress or (lambda stage, done, total: None)
    stage = f"{plan.table or 'experiment'} on {dataset.name}"
    for done, cell in enumerate(missing.values(), len(measured)):
        say(stage, done, len(paths))
        say(cell.title, 0, 1)
        write_json(measure(cell, dataset, folder / "models", progress).to_json(), paths[cell.file])
        measured[cell.file] = _kept(paths[cell.file], cell)
        shutil.rmtree(_checkpoints(cell, folder / "models"), ignore_errors=True)
        say(cell.title, 1, 1)
    say(stage, len(paths), len(paths))
    return [replace(measured[cell.file], cell=cell) for cell in cells]


@dataclass(frozen=True, eq=False)
class _Served:
    """What is attacked and evaluated in a cell.

    Attributes:
        recommender: whose items score.
        table: the user vectors that are served.
        unlearning: what was done to them after training; None for the original and for protections.
        seconds: of the method, of the whole training for protections, 0 for the original.
    """

    recommender: Recommender
    table: EmbeddingTable
    unlearning: UnlearningResult | None
    seconds: float


def measure(cell: Cell, dataset: Dataset, models: Path, progress: Progress | None = None) -> Measurement:
    """Train or load the recommender of a cell, run its method, attack and evaluate the result.

    Keys of null draws come from the seed here, so that a number can be had again. A release draws its own.
    """
    paper = cell.protocol == "paper"
    split = dataset.interactions.without_held_out() if paper else dataset.interactions.leave_one_out(cell.seed)
    people = dataset.people.align(dataset.interactions.users)
    if cell.attributes:
        people = people.select(cell.attributes)
    original = _trained(cell, split, models, progress)
    served = _served(cell, original, split, people, models, progress)
    report = audit(
        served.table,
        people,
        protocol=PAPER if paper else replace(SOUND, known=(0.8,), seeds=1),
        attackers=cell.attackers,
        min_users=2 if paper else 20,
        seed=cell.seed,
        progress=progress,
    )
    utility = evaluate(
        lambda rows: served.recommender.score(served.table.vectors[rows]),
        split,
        protocol="paper" if paper else "leave-one-out",
        seed=cell.seed,
    )
    return Measurement(
        cell=cell,
        attacks=_plain_attacks(report),
        utility=_plain_utility(utility),
        seconds=served.seconds,
        training_seconds=original.seconds,
        details={
            "unlearning": _plain_result(served.unlearning),
            "protection": dict(served.recommender.settings.get("protection", {})),
            "represents": served.table.represents,
            "dimensions": served.table.dim,
            "notes": list(report.notes),
            "versions": versions(),
        },
        shapes=histograms(served.table, people, histograms(original.users, people)),
    )


def _trained(cell: Cell, split: Split, models: Path, progress: Progress | None) -> Recommender:
    path = models / f"{cell.model}.safetensors"
    if path.is_file():
        return Recommender.load(path, split.train.users)
    models.mkdir(parents=True, exist_ok=True)
    checkpoint = models / f"{cell.model}.checkpoint"
    recommender = train(
        cell.backbone.name,
        split,
        seed=cell.seed,
        settings=cell.backbone.settings,
        progress=progress,
        checkpoint=checkpoint,
    )
    recommender.save(path)
    checkpoint.unlink(missing_ok=True)
    return recommender


def _checkpoints(cell: Cell, models: Path) -> Path:
    """Where the trainings of a protection keep how far they are, until the cell is measured."""
    return models / f"{cell.file}.checkpoints"


def _served(
    cell: Cell,
    original: Recommender,
    split: Split,
    people: UserAttributes,
    models: Path,
    progress: Progress | None,
) -> _Served:
    name, settings = cell.method.name, cell.method.settings
    if name == "original":
        return _Served(original, original.users, None, 0.0)
    if name in PROTECTED:
        trained: Recommender = protected_class(name)(**settings).fit(
            cell.backbone.name,
            split,
            people,
            settings=cell.backbone.settings,
            seed=cell.seed,
            progress=progress,
            checkpoints=_checkpoints(cell, models),
        )
        return _Served(trained, trained.users, None, trained.seconds)
    began = time.perf_counter()
    result = run_method(
        METHODS[name](**settings),
        original.users,
        people,
        key=hashlib.sha256(f"attrcloak experiment {cell.seed}".encode()).digest(),
        seed=cell.seed,
        recommendation=original.loss(split.train),
        progress=progress,
    )
    return _Served(original, result.table, result, time.perf_counter() - began)


def _kept(path: Path, cell: Cell) -> Measurement:
    """A measurement from its file, under the labels of the plan that asks for it and not of the one that made it."""
    try:
        return replace(Measurement.from_json(json.loads(path.read_text(encoding="utf-8"))), cell=cell)
    except (OSError, ValueError, TypeError, KeyError, InvalidInput) as error:
        raise InvalidInput(
            f"{path} is not a measurement of this version ({error}); delete it to measure again"
        ) from error


def _plain_attacks(report: AuditReport) -> tuple[dict[str, Any], ...]:
    kept = (
        "attribute",
        "attacker",
        "known",
        "accuracy",
        "balanced_accuracy",
        "ci",
        "adaptive_balanced_accuracy",
        "auc",
        "chance",
        "majority",
        "sum_of_squares",
        "users",
    )
    entries = [result.to_json() for result in report.results if result.surface == "vectors"]
    return tuple({name: entry[name] for name in kept} for entry in entries)


def _plain_utility(report: UtilityReport) -> dict[str, Any]:
    content = report.to_json()
    return {name: content[name] for name in ("protocol", "users", *report.values, "ci")}


def _plain_result(result: UnlearningResult | None) -> dict[str, Any]:
    if result is None:
        return {}
    return {
        "steps": result.steps,
        "stopped": result.stopped,
        "objective": {"before": result.objective_before, "after": result.objective_after},
        "relative_move": result.relative_move,
        "scale": result.scale,
        "scaling": result.scaling,
    }
