"""The audit finds planted leaks, none where there is none, from both sides, whatever the order of rows."""

import json
import subprocess
import sys
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array

from attrcloak.attackers import LogisticRegressionAttacker
from attrcloak.auditing import PAPER, AttackResult, AuditReport, Protocol, audit
from attrcloak.data import EmbeddingTable, Ids, UserAttributes
from attrcloak.data.datasets.planted import planted_leak
from attrcloak.errors import InvalidInput, InvalidSettings

QUICK = Protocol(name="quick", known=(0.8,), seeds=1, permutations=199, resamples=199, equations_known=())
FIELDS = {
    "attribute", "attacker", "surface", "known", "balanced_accuracy", "ci", "auc", "accuracy", "chance", "majority",
    "leakage", "adaptive_balanced_accuracy", "permutation_p", "sum_of_squares", "permuted_balanced_accuracy", "users",
    "classes",
}  # fmt: skip


@dataclass(frozen=True)
class Contrary:
    """Answers the opposite of what it learnt: what a table moved past chance does to every attacker."""

    name: str = "contrary"
    reads_sparse: bool = False

    def fit_predict(self, train: Any, labels: Any, test: Any, classes: int, seed: int) -> Any:
        return 1 - LogisticRegressionAttacker().fit_predict(train, labels, test, classes, seed)


def leaky(users: int = 600, strength: float = 2.5, seed: int = 0) -> tuple[EmbeddingTable, UserAttributes]:
    return planted_leak("linear", users=users, dim=6, strength=strength, seed=seed)


def without_time(report: AuditReport) -> AuditReport:
    return replace(report, seconds=0.0)


def test_a_leak_is_found_by_all_and_gone_when_labels_mean_nothing() -> None:
    table, people = leaky()
    report = audit(table, people, protocol=QUICK)
    assert {result.attacker for result in report.results} == {"logistic", "mlp", "xgboost"}
    for result in report.results:
        assert result.balanced_accuracy > 0.8
        assert result.auc > 0.85
        assert result.ci[0] < result.balanced_accuracy < result.ci[1]
        assert result.permutation_p == pytest.approx(1 / 200)
        assert abs(result.permuted_balanced_accuracy - 0.5) < 0.1
        assert result.leakage == pytest.approx(result.balanced_accuracy - 0.5)
        assert (result.chance, result.users) == (0.5, 600)
    table, people = leaky(strength=0.0)
    for result in audit(table, people, protocol=QUICK).results:
        assert abs(result.balanced_accuracy - 0.5) < 0.08
        assert result.adaptive_balanced_accuracy < 0.58
        assert result.permutation_p > 0.005


def test_contrary_answers_leak_as_much_and_the_adaptive_attacker_turns_them() -> None:
    table, people = leaky()
    report = audit(table, people, attackers=["logistic", Contrary()], protocol=QUICK)
    straight, contrary = report.results
    assert contrary.balanced_accuracy < 0.2
    assert contrary.leakage > 0.3
    assert contrary.adaptive_balanced_accuracy == pytest.approx(straight.balanced_accuracy, abs=1e-9)
    assert contrary.permutation_p == pytest.approx(1 / 200)
    assert report.best("group") in (straight, contrary)
    broken = report.breaks({"group": 0.6})
    assert any("contrary" in line and "below chance" in line for line in broken)


def test_the_order_of_rows_and_people_changes_nothing() -> None:
    table, people = leaky(users=300)
    order = np.random.default_rng(1).permutation(300)
    shuffled = UserAttributes(
        people.ids.take(order),
        {"group": replace(people["group"], codes=people["group"].codes[order], marked=people["group"].marks[order])},
    )
    first = audit(table, people, protocol=QUICK)
    assert audit(table, shuffled, protocol=QUICK).results == first.results
    assert audit(table.take(order), people, protocol=QUICK, workers=1).results == first.results


def test_a_seed_repeats_and_another_one_differs() -> None:
    table, people = leaky(users=300, strength=1.0)
    again = [audit(table, people, protocol=QUICK, attackers=["logistic"], seed=seed) for seed in (0, 0, 5)]
    assert without_time(again[0]) == without_time(again[1])
    assert again[0].results != again[2].results


def test_users_whose_class_is_unknown_are_left_out() -> None:
    table, people = leaky(users=400)
    codes = people["group"].codes.copy()
    codes[:100] = -1
    part = UserAttributes(people.ids, {"group": replace(people["group"], codes=codes, marked=None)})
    report = audit(table, part, protocol=QUICK, attackers=["logistic"])
    assert report.results[0].users == 300
    assert any("100 users is unknown" in note for note in report.notes)


def test_small_classes_are_left_out_by_name() -> None:
    rng = np.random.default_rng(0)
    labels = np.array(["a"] * 150 + ["b"] * 140 + ["rare"] * 10)
    table = EmbeddingTable(Ids.range(300), rng.normal(size=(300, 4)) + (labels == "a")[:, None])
    report = audit(table, UserAttributes.from_values(range(300), kind=labels), protocol=QUICK, attackers=["qda"])
    assert report.results[0].classes == ("a", "b")
    assert report.results[0].chance == 0.5
    assert any("rare (10)" in note for note in report.notes)


def test_one_class_is_a_clear_error() -> None:
    table = EmbeddingTable(Ids.range(50), np.random.default_rng(0).normal(size=(50, 3)))
    with pytest.raises(InvalidInput, match=r"'gender' has 1 classes.*F: 50.*needs two"):
        audit(table, UserAttributes.from_values(range(50), gender=["F"] * 50), protocol=QUICK)


def test_the_old_table_gives_away_a_map_that_depends_on_the_label() -> None:
    table, people = leaky(users=500, strength=0.0)
    moved = table.with_free(table.free + 0.02 * (people["group"].codes == 1)[:, None])
    report = audit(moved, people, protocol=QUICK, original=table)
    assert abs(report.best("group").balanced_accuracy - 0.5) < 0.1
    assert report.best("group", "delta").balanced_accuracy > 0.97
    assert not [result for result in report.results if result.attribute == "asked"]


def test_the_old_table_gives_away_who_asked() -> None:
    table, people = leaky(users=500, strength=0.0)
    some = people.mark({"group": np.arange(0, 500, 3)})
    moved = table.with_free(table.free + 0.1, some["group"].marks)
    report = audit(moved, some, protocol=QUICK, original=table)
    assert report.best("asked", "delta").balanced_accuracy > 0.97
    assert abs(report.best("asked").balanced_accuracy - 0.5) < 0.12
    assert report.best("asked").classes == ("no", "yes")


def test_lists_and_history_are_surfaces_of_their_own() -> None:
    table, people = leaky(users=400, strength=0.0)
    rng = np.random.default_rng(0)
    labels = people["group"].codes
    plain = rng.random((400, 120)) < 0.1
    telling = plain.copy()
    telling[:, :30] |= (labels == 1)[:, None] & (rng.random((400, 30)) < 0.15)
    report = audit(
        table,
        people,
        protocol=QUICK,
        lists={"top-n masked": csr_array(telling.astype(float)), "top-n unmasked": csr_array(plain.astype(float))},
        history=csr_array(telling.astype(float)),
    )
    assert report.best("group", "top-n masked").balanced_accuracy > 0.75
    assert report.best("group", "history").balanced_accuracy > 0.75
    assert abs(report.best("group", "top-n unmasked").balanced_accuracy - 0.5) < 0.12


def test_surfaces_that_do_not_fit_are_all_reported() -> None:
    table, people = leaky(users=100)
    other = EmbeddingTable(Ids.range(50), np.ones((50, 6)))
    with pytest.raises(InvalidInput) as caught:
        audit(table, people, protocol=QUICK, original=other, history=csr_array(np.ones((99, 3))))
    assert len(caught.value.problems) == 2


def test_an_attacker_may_learn_from_those_who_did_not_ask() -> None:
    table, people = leaky(users=600)
    asked = np.arange(600) % 4 == 0
    report = audit(table, people, protocol=QUICK, attackers=["logistic"], train_on=~asked, test_on=asked)
    assert report.results[0].users == 150
    assert report.results[0].balanced_accuracy > 0.8
    turned = table.free.copy()
    turned[asked, 0] *= -1
    report = audit(
        table.with_free(turned), people, protocol=QUICK, attackers=["logistic"], train_on=~asked, test_on=asked
    )
    assert report.results[0].balanced_accuracy < 0.2
    assert report.results[0].adaptive_balanced_accuracy < 0.2, "those who asked had a part in the relabelling"


def test_those_who_asked_are_judged_by_attackers_who_know_the_others() -> None:
    """Whoever asked is turned round: attackers who know only the others are wrong, and that is what is measured."""
    table, people = leaky(users=600)
    asked = people.mark({"group": np.arange(0, 600, 2)})
    marks = asked["group"].marks
    turned = table.free.copy()
    turned[marks, 0] *= -1
    moved = table.with_free(turned)
    report = audit(moved, asked, protocol=QUICK, attackers=["logistic"], knows="others", judged="requests")
    attribute, who = report.results
    assert (attribute.attribute, attribute.users) == ("group", 300)
    assert attribute.balanced_accuracy < 0.2
    assert attribute.adaptive_balanced_accuracy < 0.2
    assert (who.attribute, who.surface, who.users) == ("asked", "vectors", 600)
    assert report.settings["knows"] == "others"
    everybody = audit(moved, asked, protocol=QUICK, attackers=["logistic"], judged="requests").best("group")
    assert everybody.users == 300
    assert everybody.balanced_accuracy > 0.35, "whoever knows some of those who asked sees both ways round"
    assert audit(moved, asked, protocol=QUICK, attackers=["logistic"]).best("group").users == 600


def test_others_are_those_who_did_not_ask_for_this_attribute() -> None:
    table, people = leaky(users=400)
    town = np.random.default_rng(1).choice(["n", "s"], size=400)
    group = [people["group"].classes[code] for code in people["group"].codes]
    both = UserAttributes.from_values(people.ids, group=group, town=town)
    some = both.mark({"group": np.arange(100), "town": np.arange(50, 250)})
    report = audit(table, some, protocol=QUICK, attackers=["logistic"], knows="others", judged="requests")
    assert {r.attribute: r.users for r in report.results} == {"group": 100, "town": 200, "asked": 400}


def test_others_and_requests_that_are_not_there_are_said() -> None:
    table, people = leaky(users=100)
    with pytest.raises(InvalidInput, match="everybody with a known class asked"):
        audit(table, people, protocol=QUICK, knows="others")
    with pytest.raises(InvalidInput, match="nobody asked"):
        audit(table, people.mark({}), protocol=QUICK, judged="requests")
    with pytest.raises(InvalidSettings, match="expected one of everybody, others"):
        audit(table, people, protocol=QUICK, knows="nobody")  # type: ignore[arg-type]


def test_frozen_columns_are_not_shown_to_attackers() -> None:
    table, people = leaky(users=300, strength=0.0)
    vectors = np.column_stack((table.free, people["group"].codes))
    hidden = EmbeddingTable(table.ids, vectors, frozen_columns=(6,))
    assert audit(hidden, people, protocol=QUICK, attackers=["logistic"]).best("group").balanced_accuracy < 0.62


def test_equal_class_moments_are_read_by_the_equations_alone() -> None:
    table, people = planted_leak("linear", users=900, dim=24, seed=2)
    labels, x = people["group"].codes, table.free
    for k in (0, 1):
        centred = x[labels == k] - x[labels == k].mean(axis=0)
        values, directions = np.linalg.eigh(np.cov(centred.T, bias=True))
        x[labels == k] = centred @ (directions / np.sqrt(values)) @ directions.T
    protocol = replace(QUICK, equations_known=(0.2, 0.5, 0.8))
    report = audit(table.with_free(x), people, protocol=protocol, attackers=["logistic"])
    by_known = {r.known: r for r in report.results if r.attacker == "moment-equation"}
    assert by_known[0.8].balanced_accuracy > 0.97
    assert by_known[0.8].balanced_accuracy > by_known[0.5].balanced_accuracy > by_known[0.2].balanced_accuracy > 0.55
    assert all(abs(r.permuted_balanced_accuracy - 0.5) < 0.12 for r in by_known.values())
    assert report.best("group").attacker == "moment-equation"


def test_the_equations_run_over_those_who_asked() -> None:
    table, people = leaky(users=300)
    few = people.mark({"group": np.arange(12)})
    report = audit(table, few, protocol=replace(QUICK, equations_known=(0.5,)), attackers=["logistic"])
    assert {result.attacker for result in report.results} == {"logistic"}
    assert any("no moment equations" in note for note in report.notes)


def test_the_paper_s_protocol_is_one_split_with_two_attackers() -> None:
    table, people = leaky(users=500)
    report = audit(table, people, protocol=PAPER)
    assert [(r.attacker, r.known, r.users) for r in report.results] == [("mlp", 0.2, 400), ("xgboost", 0.2, 400)]
    assert report.protocol["metric"] == "accuracy"
    assert report.settings["attackers"]["mlp"]["balanced"] is False


def test_the_json_has_the_agreed_fields_and_comes_back() -> None:
    table, people = leaky(users=200)
    report = audit(table, people, attackers=["logistic", "mlp"], protocol=QUICK)
    values = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert {"schema", "protocol", "results", "fingerprint", "seconds", "settings", "notes"} == set(values)
    assert {"name", "known", "folds", "seeds", "metric"} <= set(values["protocol"])
    assert all(set(result) == FIELDS for result in values["results"])
    assert AuditReport.from_json(values) == report
    with pytest.raises(InvalidInput, match="schema"):
        AuditReport.from_json({**values, "schema": "another"})
    with pytest.raises(InvalidInput, match="auc"):
        AuditReport.from_json({**values, "results": [{k: v for k, v in values["results"][0].items() if k != "auc"}]})


def test_the_text_names_what_it_shows() -> None:
    table, people = leaky(users=200)
    report = audit(table, people, attackers=["knn"], protocol=QUICK)
    text = str(report)
    for word in ("group", "knn", "80%", "balanced accuracy", "chance", "permuted", "adaptive", "quick"):
        assert word in text


def result(**changes: Any) -> AttackResult:
    found = AttackResult(
        attribute="age", attacker="mlp", surface="vectors", known=0.8, balanced_accuracy=0.25, ci=(0.2, 0.3), auc=0.5,
        accuracy=0.3, chance=0.25, majority=0.4, leakage=0.0, adaptive_balanced_accuracy=0.25, permutation_p=0.5,
        sum_of_squares=0.3, permuted_balanced_accuracy=0.25, users=100, classes=("a", "b", "c", "d"),
    )  # fmt: skip
    return replace(found, **changes)


@pytest.mark.parametrize(
    ("changes", "broken"),
    [
        ({}, False),
        ({"balanced_accuracy": 0.31}, True),
        ({"balanced_accuracy": 0.29}, False),
        ({"balanced_accuracy": 0.19}, True),
        ({"balanced_accuracy": 0.21}, False),
        ({"adaptive_balanced_accuracy": 0.31}, True),
        ({"adaptive_balanced_accuracy": 0.1}, False),
        ({"attacker": "moment-equation", "balanced_accuracy": 0.9}, True),
        ({"surface": "delta", "balanced_accuracy": 0.9}, False),
    ],
)
def test_gates_hold_from_either_side(changes: dict[str, Any], broken: bool) -> None:
    report = AuditReport({"name": "quick"}, (result(), result(**changes)), "", 0.0, {})
    assert len(report.breaks({"age": 0.3})) == int(broken)


def test_a_gate_that_cannot_be_judged_is_an_error() -> None:
    report = AuditReport({"name": "quick"}, (result(),), "", 0.0, {})
    with pytest.raises(InvalidInput, match="'gender'"):
        report.breaks({"gender": 0.6})
    with pytest.raises(InvalidSettings, match="chance"):
        report.breaks({"age": 0.2})


def test_an_unknown_attacker_is_named_with_the_nearest() -> None:
    table, people = leaky(users=100)
    with pytest.raises(InvalidSettings, match="did you mean 'xgboost'"):
        audit(table, people, attackers=["xgbost"])


def test_progress_counts_up_to_the_total() -> None:
    table, people = leaky(users=100)
    seen: list[tuple[int, int]] = []
    audit(
        table,
        people,
        attackers=["logistic"],
        protocol=QUICK,
        progress=lambda _, done, total: seen.append((done, total)),
    )
    assert [done for done, _ in seen] == list(range(1, seen[-1][1] + 1))


def test_an_error_in_an_attacker_comes_through() -> None:
    @dataclass(frozen=True)
    class Broken(Contrary):
        def fit_predict(self, train: Any, labels: Any, test: Any, classes: int, seed: int) -> Any:
            raise ZeroDivisionError("inside")

    table, people = leaky(users=100)
    with pytest.raises(ZeroDivisionError, match="inside"):
        audit(table, people, attackers=[Broken()], protocol=QUICK)


def test_importing_the_room_loads_no_learning_library() -> None:
    code = (
        "import attrcloak.auditing, sys; "
        "print([m for m in ('sklearn', 'xgboost', 'torch', 'pyarrow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
