"""Cells are measured once, kept whole, and found again."""

import json
from dataclasses import replace

import numpy as np
import pytest

from attrcloak.errors import InvalidInput
from attrcloak.experiments import Measurement, Plan, cells, run
from attrcloak.experiments.cells import cells_of


def test_every_point_of_the_grid_is_a_cell(plan, dataset, measured):
    assert len(measured) == 2 * 2 * 5  # protocols, seeds, and five variants of four methods
    assert [m.cell for m in measured] == list(cells_of(plan, dataset))


def test_the_same_run_again_measures_nothing(plan, dataset, folder, measured, monkeypatch):
    monkeypatch.setattr(cells, "measure", lambda *_, **__: pytest.fail("measured again"))
    again = run(plan, dataset, folder)
    assert [m.to_json() for m in again] == [m.to_json() for m in measured]


def test_a_cell_that_was_lost_comes_back_the_same(plan, dataset, folder, measured):
    lost = next(m for m in measured if m.cell.method.name == "blurme" and m.cell.protocol == "sound")
    path = folder / "cells" / f"{lost.cell.file}.json"
    path.unlink()
    again = {m.cell.file: m for m in run(plan, dataset, folder)}[lost.cell.file]
    assert path.is_file()
    assert (again.attacks, again.utility) == (lost.attacks, lost.utility)
    assert not list(folder.rglob("*.part*"))


def test_other_settings_are_other_cells(plan, dataset, measured):
    files = [m.cell.file for m in measured]
    assert len(set(files)) == len(files)
    other = next(iter(cells_of(plan.narrowed(attackers=("logistic",)), dataset)))
    assert other.file not in files
    assert other.model == measured[0].cell.model  # what is trained does not depend on who attacks it


def test_protocols_train_and_rank_differently(measured):
    of = {m.cell.protocol: m for m in measured if m.cell.method.name == "original" and m.cell.seed == 0}
    assert of["paper"].utility["protocol"] == "paper"
    assert of["sound"].utility["protocol"] == "leave-one-out"
    assert of["paper"].utility["ndcg@10"] > 2 * of["sound"].utility["ndcg@10"]  # fit is not foresight
    assert {a["known"] for a in of["paper"].attacks} == {0.2}


def test_the_planted_leak_is_there_before_and_lower_after_leace(measured):
    def read(method):
        found = [m for m in measured if m.cell.method.name == method and m.cell.protocol == "sound"]
        return np.mean([a["balanced_accuracy"] for m in found for a in m.attacks if a["attacker"] == "logistic"])

    assert read("original") > 0.75
    assert read("leace") < read("original") - 0.15


def test_a_file_of_another_version_is_named(plan, dataset, folder, measured):
    path = folder / "cells" / f"{measured[0].cell.file}.json"
    kept = path.read_text()
    path.write_text(json.dumps({**json.loads(kept), "schema": "attrcloak/cell/0"}))
    try:
        with pytest.raises(InvalidInput, match="delete it to measure again"):
            run(plan, dataset, folder)
    finally:
        path.write_text(kept)


def test_measurements_round_trip(measured):
    for measurement in measured:
        content = json.loads(json.dumps(measurement.to_json()))
        assert Measurement.from_json(content).to_json() == measurement.to_json()


def test_a_changed_default_is_another_cell(measured, monkeypatch):
    from attrcloak.unlearning import GaussianNoise

    cell = next(m.cell for m in measured if m.cell.method.name == "noise")
    assert cell.method.resolved() == {"scale": 0.5}
    plain = type(cell.method)("noise", {})
    before = plain.resolved()
    monkeypatch.setattr(GaussianNoise.__init__, "__kwdefaults__", {"scale": 3.0})
    assert plain.resolved() != before


def test_two_plans_share_a_cell_and_keep_their_own_labels(plan, dataset, folder, measured, monkeypatch):
    monkeypatch.setattr(cells, "measure", lambda *_, **__: pytest.fail("measured again"))
    fixed = Plan(
        title="other",
        methods=("original", "noise"),
        attackers=plan.attackers,
        protocols=("sound",),
        seeds=2,
        settings={**plan.settings, "both": {**plan.settings["both"], "noise": {"scale": 2.0}}},
    )
    again = run(fixed, dataset, folder)
    assert {m.cell.method.label for m in again} == {""}
    labelled = {m.cell.file for m in measured if m.cell.method.label == "scale=2.0"}
    assert {m.cell.file for m in again if m.cell.method.name == "noise"} <= labelled


def test_other_data_of_the_same_name_are_other_cells(plan, dataset):
    kept = np.ones(len(dataset.interactions), dtype=bool)
    kept[0] = False
    other = replace(dataset, interactions=dataset.interactions.keep(kept))
    assert next(cells_of(plan, other)).file != next(cells_of(plan, dataset)).file


def test_a_protection_that_was_interrupted_goes_on_where_it_was_and_leaves_no_state(dataset, tmp_path):
    plan = Plan(
        title="t",
        backbones=("bpr-mf",),
        methods=("original", "rap"),
        attackers=("random",),
        protocols=("sound",),
        seeds=1,
        settings={"both": {"bpr-mf": {"factors": 4, "epochs": 6}}},
    )
    (whole,) = [m for m in run(plan, dataset, tmp_path / "whole") if m.cell.method.name == "rap"]

    def interrupting(stop_at, epochs):
        def progress(stage, done, total):
            if stage == "training bpr-mf":
                epochs.append(done)
            if len(epochs) == stop_at:
                raise KeyboardInterrupt

        return progress

    with pytest.raises(KeyboardInterrupt):
        run(plan, dataset, tmp_path / "cut", interrupting(6 + 5, []))
    (states,) = (tmp_path / "cut" / "models").glob("*.checkpoints")
    epochs = []
    (went_on,) = [m for m in run(plan, dataset, tmp_path / "cut", interrupting(None, epochs)) if m.cell == whole.cell]
    assert epochs == [5, 6]
    assert (went_on.attacks, went_on.utility) == (whole.attacks, whole.utility)
    assert not states.exists()


def test_progress_counts_cells_from_those_that_were_kept_and_names_each(plan, dataset, folder, measured, tmp_path):
    lost = [m.cell for m in measured if m.cell.method.name == "leace"]
    for cell in lost:
        (folder / "cells" / f"{cell.file}.json").unlink()
    calls = []
    run(plan, dataset, folder, lambda *call: calls.append(call))
    of_plan = [call[1:] for call in calls if call[0] == "table4 on planted"]
    assert of_plan == [(done, len(measured)) for done in range(len(measured) - len(lost), len(measured) + 1)]
    assert [c for c in calls if c[0] == "leace on als, sound, seed 1"] == [
        ("leace on als, sound, seed 1", 0, 1),
        ("leace on als, sound, seed 1", 1, 1),
    ]
