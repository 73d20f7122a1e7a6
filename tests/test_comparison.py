"""One recommender, several methods, measured alike."""

import json

import numpy as np
import pytest
from jsonschema import validate

from attrcloak.comparison import check_methods, compare, top_lists
from attrcloak.data.datasets import Dataset
from attrcloak.data.datasets.planted import planted_interactions, planted_leak
from attrcloak.errors import InvalidSettings
from attrcloak.json_text import dump
from attrcloak.recommenders import train
from attrcloak.reporting.json_files import schema


def test_the_report_follows_its_schema_and_is_plain(report):
    content = json.loads(dump(report))
    validate(content, schema("report"))
    for audit in content["audits"].values():
        validate(audit, schema("audit"))


def test_original_comes_first_and_every_method_is_measured_alike(report):
    names = ["original", "calibrated", "attrcloak-df", "leace"]
    assert list(report["audits"]) == list(report["utility"]) == names
    assert list(report["unlearning"]) == names[1:]
    vectors = {
        name: {(r["attribute"], r["attacker"]) for r in audit["results"] if r["surface"] == "vectors"}
        for name, audit in report["audits"].items()
    }
    assert all(vectors[name] >= vectors["original"] for name in names)


def test_surfaces_history_of_the_original_and_the_difference_of_the_rest(report):
    surfaces = {name: {r["surface"] for r in audit["results"]} for name, audit in report["audits"].items()}
    lists = {"vectors", "top-n masked", "top-n unmasked"}
    assert surfaces["original"] == lists | {"history"}
    assert surfaces["calibrated"] == lists | {"delta"}


def test_the_leak_is_there_before_and_lower_after(report):
    def leak(name):
        results = report["audits"][name]["results"]
        return max(
            r["leakage"]
            for r in results
            if (r["attribute"], r["surface"], r["attacker"], r["known"]) == ("group", "vectors", "logistic", 0.8)
        )

    assert leak("original") > 0.2
    assert leak("calibrated") < leak("original") / 2


def test_verdict_ratio_and_fingerprints(report):
    details = report["details"]
    assert not details["verdicts"]["original"]["protected"]
    assert details["paired_ratio"]["original"] == [1.0, 1.0, 1.0]
    low, middle, high = (details["paired_ratio"]["calibrated"][i] for i in (1, 0, 2))
    assert 0 < low <= middle <= high
    before = {entry["input_fingerprint"] for entry in report["unlearning"].values()}
    after = {entry["output_fingerprint"] for entry in report["unlearning"].values()}
    assert len(before) == 1
    assert len(after) == 3
    assert report["audits"]["original"]["fingerprint"] in before


def test_only_a_commitment_to_a_key_is_told_and_every_run_draws_anew(report):
    assert len(report["unlearning"]["calibrated"]["key_commitment"]) == 64
    assert report["unlearning"]["leace"]["key_commitment"] is None


def test_pictures_show_the_same_dimensions_before_and_after_and_no_ids(report):
    shown = {
        name: [shape["dimension"] for shape in pictures["histograms"]["group"]]
        for name, pictures in report["details"]["pictures"].items()
    }
    assert len({tuple(dimensions) for dimensions in shown.values()}) == 1
    for pictures in report["details"]["pictures"].values():
        assert set(pictures) == {"projection", "histograms"}
        points = np.array(pictures["projection"]["group"]["points"])
        assert points.shape[1] == 2
        assert len(points) == len(pictures["projection"]["group"]["codes"])


def test_unknown_methods_are_refused_before_any_work_with_the_nearest():
    table, people = planted_leak(users=60, dim=4)
    dataset = Dataset("planted", planted_interactions(table, items=30, each=8), people, "", "")
    with pytest.raises(InvalidSettings, match="calibrated"):
        compare(dataset, "als", ["calibratd"], progress=lambda *_: pytest.fail("work was done"))
    assert check_methods(["original", "noise", "noise"]) == ("noise",)


def test_lists_with_and_without_seen_items():
    table, _ = planted_leak(users=80, dim=4)
    split = planted_interactions(table, items=120, each=10).leave_one_out(0)
    recommender = train("als", split)
    lists = top_lists(recommender, recommender.users, split)
    seen = split.train.matrix.toarray() > 0
    masked, unmasked = (lists[f"top-n {kind}"].toarray() for kind in ("masked", "unmasked"))
    assert (masked.sum(axis=1) == 50).all()
    assert (unmasked.sum(axis=1) == 50).all()
    assert not (seen & (masked > 0)).any()
    scores = recommender.score(recommender.users.vectors)
    best = np.argsort(-scores, axis=1)[:, :50]
    assert all(set(np.flatnonzero(unmasked[row])) == set(best[row]) for row in range(80))
