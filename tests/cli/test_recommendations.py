"""demo, train, evaluate, report and data on a small data set of one's own."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from jsonschema import validate

from attrcloak.reporting.json_files import schema

METHODS = "attrcloak-df,attrcloak-dd,calibrated,barycentre,leace,mean-removal,noise"
FIELDS = {
    "attribute", "attacker", "surface", "known", "balanced_accuracy", "ci", "auc", "accuracy", "chance", "majority",
    "leakage", "adaptive_balanced_accuracy", "permutation_p",
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """150 users of two groups with different taste, over 60 items."""
    rng = np.random.default_rng(0)
    group = rng.choice(["a", "b"], size=150, p=[0.4, 0.6])
    users, items = [], []
    for user in range(150):
        weight = np.where((np.arange(60) < 30) == (group[user] == "a"), 3.0, 1.0)
        chosen = rng.choice(60, size=15, replace=False, p=weight / weight.sum())
        users += [user] * 15
        items += chosen.tolist()
    own = tmp_path / "own"
    own.mkdir()
    pairs = pa.table({"user_id": users, "item_id": items, "timestamp": np.arange(len(users))})
    pq.write_table(pairs, own / "interactions.parquet")
    pq.write_table(pa.table({"user_id": np.arange(150), "group": group}), own / "users.parquet")
    monkeypatch.chdir(tmp_path)
    return own


@pytest.mark.slow
def test_demo_writes_report_json_by_the_contract_and_a_page_of_its_own(folder, run):
    done = run(
        "demo", "--dataset", "own", "--data-dir", folder, "--model", "als", "--methods", METHODS, "--seeds", 1,
        "--out", "out",
    )  # fmt: skip
    assert done.code == 0, done.err
    text = Path("out/report.json").read_text()
    content = json.loads(text)
    validate(content, schema("report"))
    everyone = ["original", *METHODS.split(",")]
    assert (content["dataset"], content["model"], content["seed"]) == ("own", "als", 0)
    assert list(content["audits"]) == list(content["utility"]) == everyone
    assert list(content["unlearning"]) == everyone[1:]
    for audit in content["audits"].values():
        assert audit["protocol"]
        assert {"vectors"} <= {result["surface"] for result in audit["results"]}
        for result in audit["results"]:
            assert set(result) >= FIELDS
    for utility in content["utility"].values():
        assert set(utility["ci"]) >= {"ndcg@5", "ndcg@10", "hr@5", "hr@10"}
    for entry in content["unlearning"].values():
        assert {"before", "after"} <= set(entry["objective"])
    page = Path("out/report.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "")
    assert "<script" not in page
    assert "calibrated" in done.out
    assert "data" in done.err  # the licence terms
    again = run("report", "out/report.json", "-o", "again.html")
    assert again.code == 0
    assert Path("again.html").read_text() == page


@pytest.mark.parametrize("words", [("--methods", "calibratd"), ("--model", "alz"), ("--dataset", "ml-100")])
def test_demo_refuses_unknown_names_and_leaves_nothing(tmp_path, monkeypatch, run, words):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    done = run("demo", *words, "--out", "out", *(("--data-dir", tmp_path / "none") if words[0] == "--model" else ()))
    assert done.code in (1, 2)
    assert "did you mean" in done.err or "not found" in done.err
    assert not Path("out").exists()


@pytest.mark.parametrize("command", ["demo", "train"])
def test_a_file_where_the_results_should_go_is_refused_before_any_work(folder, run, command):
    Path("out").write_text("mine")
    done = run(command, "--dataset", "own", "--data-dir", folder, "--out", "out/deeper")
    assert done.code == 1
    assert "is a file" in done.err
    assert Path("out").read_text() == "mine"


@pytest.mark.parametrize("model", ["als", "bpr"])
def test_train_evaluate_unlearn_evaluate(folder, run, model):
    source = ("--dataset", "own", "--data-dir", folder)
    assert run("train", *source, "--model", model, "--out", "model").code == 0
    made = {path.name for path in Path("model").iterdir()}
    assert {"users.npz", "model.json"} <= made
    before = run("evaluate", "model/users.npz", "--items", "model/items.npy", *source, "--json")
    assert before.code == 0, before.err
    assert 0 < before.json["ndcg@10"] <= 1
    done = run(
        "unlearn", "model/users.npz", "--attributes", "model/people.csv", "--columns", "group", "--no-audit",
        "--method", "mean-removal", "-o", "new.npz",
    )  # fmt: skip
    assert done.code == 0, done.err
    after = run("evaluate", "new.npz", "--items", "model/items.npy", *source, "--json")
    assert after.code == 0, after.err
    held = _held_out(Path("model"))
    words = ("evaluate", "new.npz", "--items", "model/items.parquet", "--held-out", "later.csv")
    beside = run(*words, "--original", "model/users.npz", "--json")
    assert beside.code == 0, beside.err
    assert beside.json["vectors"]["users"] == held
    if model == "bpr":  # its last column is a constant 1 of the scoring, and no method may move it
        np.testing.assert_array_equal(_vectors("new.npz")[:, -1], 1.0)


def _held_out(model: Path) -> int:
    """Some pairs in the ids of the data set, as later.csv; returns their users."""
    items = pq.read_table(model / "items.parquet")["item_id"].to_pylist()
    lines = [f"{user},{items[user % len(items)]}" for user in range(20)]  # users have the ids 0, 1, 2, ...
    Path("later.csv").write_text("\n".join(["user_id,item_id", *lines]) + "\n")
    return len(lines)


def _vectors(path: str) -> np.ndarray:
    with np.load(path) as content:
        return next(content[name] for name in content.files if content[name].ndim == 2)


def test_data_writes_what_can_be_read_again(folder, run):
    first = run("data", "own", "--data-dir", folder, "--out", "one")
    second = run("data", "own", "--data-dir", "one", "--out", "two")
    assert first.code == second.code == 0, first.err + second.err
    for name in ("interactions.parquet", "users.parquet"):
        assert pq.read_table(f"one/{name}").equals(pq.read_table(f"two/{name}"))


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema": "other"}', '{"schema": "attrcloak/report/1"}'])
def test_a_report_that_is_none_is_refused(tmp_path, monkeypatch, run, content):
    monkeypatch.chdir(tmp_path)
    Path("report.json").write_text(content)
    done = run("report", "report.json", "-o", "page.html")
    assert done.code == 1, done.err
    assert "report.json" in done.err
    assert not Path("page.html").exists()


@pytest.mark.slow
@pytest.mark.data
def test_demo_on_movielens(shared_data, tmp_path, run):
    done = run("demo", "--data-dir", shared_data("ml-100k"), "--methods", "calibrated", "--seeds", 1, "--out", tmp_path)
    assert done.code == 0, done.err
    content = json.loads((tmp_path / "report.json").read_text())
    leak = {r["attribute"]: r["leakage"] for r in content["audits"]["original"]["results"] if r["surface"] == "vectors"}
    assert leak["gender"] > 0.05
    assert "MovieLens" in done.err


def test_training_on_data_that_says_nothing_of_its_users_says_so(folder, run):
    pq.write_table(pa.table({"user_id": np.arange(150)}), folder / "users.parquet")
    done = run("train", "--dataset", "own", "--data-dir", folder, "--out", "model")
    assert done.code == 0, done.err
    assert "says nothing of its users" in done.err
    assert Path("model/people.csv").read_text().splitlines()[0] == "user_id"


def test_a_protection_during_training_is_sent_to_where_it_runs(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run("demo", "--methods", "rap")
    assert done.code == 1
    assert "attrcloak compare PLAN" in done.err
    assert "did you mean" not in done.err


def test_a_training_that_was_interrupted_goes_on_in_its_folder(folder, run, monkeypatch):
    pytest.importorskip("torch")
    from attrcloak.recommenders import training

    source = ("--dataset", "own", "--data-dir", folder, "--model", "bpr-mf")
    assert run("train", *source, "--out", "whole").code == 0
    looked = training.validation_ndcg
    looks = []

    def interrupting(*given):
        looks.append(given)
        if len(looks) == 3:
            raise KeyboardInterrupt
        return looked(*given)

    monkeypatch.setattr(training, "validation_ndcg", interrupting)
    assert run("train", *source, "--out", "cut").code != 0
    assert [path.name for path in Path("cut").iterdir()] == ["training.checkpoint"]
    assert run("train", *source, "--out", "cut").code == 0
    np.testing.assert_array_equal(_vectors("cut/users.npz"), _vectors("whole/users.npz"))
    assert {path.name for path in Path("cut").iterdir()} == {path.name for path in Path("whole").iterdir()}
    done = run("train", *source, "--out", "cut", "--seed", 1)
    assert done.code == 0, done.err
