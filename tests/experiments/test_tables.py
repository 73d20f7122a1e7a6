"""Means, intervals and the published numbers."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import t

from attrcloak.experiments import rows_of
from attrcloak.experiments.published import published
from attrcloak.experiments.tables import blocks, diverged, interval, table_json


def test_a_row_is_the_mean_over_seeds_with_students_interval(plan, measured):
    rows = rows_of(plan, measured, "sound")
    row = next(r for r in rows if (r.method, r.attacker, r.metric) == ("leace", "logistic", "balanced_accuracy"))
    values = [
        a["balanced_accuracy"]
        for m in measured
        for a in m.attacks
        if (m.cell.protocol, m.cell.method.name, a["attacker"]) == ("sound", "leace", "logistic")
    ]
    assert row.value == pytest.approx(np.mean(values))
    assert row.ci == pytest.approx(t.interval(0.95, 1, np.mean(values), np.std(values, ddof=1) / np.sqrt(2)))
    assert row.seeds == 2


def test_every_setting_has_its_rows_and_controls_stand_once(plan, measured):
    rows = rows_of(plan, measured, "paper")
    assert {r.setting for r in rows if r.method == "noise"} == {"scale=0.5", "scale=2.0"}
    controls = [r for r in rows if r.attacker in ("majority", "proportional")]
    assert {r.method for r in controls} == {"original"}
    majority = next(r for r in controls if r.attacker == "majority")
    proportional = next(r for r in controls if r.attacker == "proportional")
    assert 0.5 <= proportional.value <= majority.value < 1
    shares = {m.cell.seed: m.attacks[0]["majority"] for m in measured if m.cell.protocol == "paper"}
    assert majority.value == pytest.approx(np.mean(list(shares.values())))
    alone = [m for m in measured if m.cell.seed == 0]
    assert all(r.ci[0] <= r.value <= r.ci[1] for r in rows_of(plan, alone, "paper") if r.attacker)


def test_controls_are_there_without_the_original(plan, measured):
    narrowed = [m for m in measured if m.cell.method.name in ("noise", "leace")]
    rows = rows_of(plan, narrowed, "paper")
    controls = [r for r in rows if r.attacker in ("random", "majority", "proportional")]
    assert sorted(r.attacker for r in controls) == ["majority", "proportional", "random"]
    assert {r.method for r in controls} == {"leace"}


def test_seconds_are_of_the_method_and_a_share_of_training(plan, measured):
    rows = {(r.method, r.setting, r.metric): r.value for r in rows_of(plan, measured, "paper") if not r.attacker}
    assert rows["leace", "", "share of training"] > 0
    assert rows["blurme", "", "seconds"] > rows["leace", "", "seconds"]  # a training against a closed form
    assert ("original", "", "share of training") not in rows


def test_blocks_have_methods_down_and_attributes_across(plan, measured):
    found = blocks(rows_of(plan, measured, "paper"))
    block = next(b for b in found if b.heading.endswith("logistic"))
    assert list(block.lines) == [
        "original",
        "leace",
        "noise scale=0.5",
        "noise scale=2.0",
        "blurme",
        "random",
        "majority",
        "proportional",
    ]
    assert block.columns == ("group accuracy",)


def test_the_json_says_protocol_and_seeds(plan, dataset, measured):
    content = table_json(plan, rows_of(plan, measured, "paper"), "paper", measured, {"planted": dataset.describe()})
    assert (content["protocol"], content["seeds"]) == ("paper", 2)
    needed = {"dataset", "backbone", "method", "attacker", "attribute", "metric", "value", "ci", "published"}
    assert all(needed <= set(row) for row in content["rows"])
    settings = {(each["name"], each["setting"]): each["settings"] for each in content["settings"]}
    assert settings["noise", "scale=2.0"] == {"scale": 2.0}
    assert settings["als", ""]["factors"] == 8
    assert settings["als", ""]["iterations"] != 5  # that is of the other protocol
    described = content["data"]["planted"]
    assert (described["fingerprint"], described["users"]) == (measured[0].cell.data, 240)
    assert content["attackers"]["logistic"]["balanced"] is False  # as in the paper
    assert content["versions"]["numpy"] == np.__version__


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (("table4", "ml-100k", "ncf", "original", "xgboost", "gender", "accuracy"), 0.7626),
        (("table4", "ml-1m", "ncf", "d2d-r", "mlp", "occupation", "accuracy"), 0.0348),
        (("table4", "lastfm-1k", "ncf", "rap", "xgboost", "continent", "accuracy"), 0.9281),
        (("table5", "ml-1m", "ncf", "u2u-r", "", "", "hr@5"), 0.6467),
        (("table6", "ml-100k", "ncf", "blurme", "", "", "seconds"), 678.69),
        (("table7", "ml-100k", "lightgcn", "ldp-sh", "mlp", "age", "accuracy"), 0.2719),
        (("table7", "ml-100k", "lightgcn", "d2d-r", "", "", "hr@10"), 0.6036),
        (("table1", "lastfm-1k", "ncf", "receraser", "xgboost", "age", "accuracy"), 0.632),
        (("table4", "ml-100k", "als", "original", "xgboost", "gender", "accuracy"), None),
        (("table4", "ml-100k", "ncf", "calibrated", "xgboost", "gender", "accuracy"), None),
        (("table4", "ml-100k", "ncf", "original", "xgboost", "gender", "balanced_accuracy"), None),
        (("", "ml-100k", "ncf", "original", "xgboost", "gender", "accuracy"), None),
    ],
)
def test_published_numbers_are_those_of_the_paper(cell, expected):
    assert published(*cell) == expected


def test_no_number_of_the_paper_is_put_beside_another_protocol_or_setting(plan, measured):
    assert all(r.published is None for r in rows_of(plan, measured, "sound"))
    assert all(r.published is None for r in rows_of(plan, measured, "paper") if r.setting)


def test_the_interval_of_two_redraws_is_wide():
    low, high = interval([0.5, 0.6])
    assert low == pytest.approx(0.55 - 12.706 * 0.05, rel=1e-3)
    assert high == pytest.approx(0.55 + 12.706 * 0.05, rel=1e-3)


def test_a_cell_that_diverged_is_said(plan, measured):
    assert diverged(measured) == []
    broken = next(m for m in measured if m.cell.method.name == "leace" and m.cell.protocol == "paper")
    details = {**broken.details, "unlearning": {**broken.details["unlearning"], "stopped": "diverged", "steps": 4}}
    all_of_them = [replace(m, details=details) if m is broken else m for m in measured]
    (note,) = table_json(plan, [], "paper", all_of_them, {})["notes"]
    assert note == f"planted, leace on als, paper, seed {broken.cell.seed}: diverged after 4 steps"
    assert table_json(plan, [], "sound", all_of_them, {})["notes"] == []
