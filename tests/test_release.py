"""A release: the method is run, the result is audited, and the verdict says what the audit says."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from attrcloak.auditing import SOUND, AttackResult, AuditReport, audit
from attrcloak.data.attributes import UserAttributes
from attrcloak.data.datasets.planted import planted_interactions, planted_leak
from attrcloak.data.embeddings import EmbeddingTable
from attrcloak.data.ids import Ids
from attrcloak.errors import InvalidInput, NotSupported, UnknownCell
from attrcloak.moments.blas_threads import threads_of_blas
from attrcloak.recommenders import train
from attrcloak.release import (
    FLOW_DIMENSIONS,
    FLOW_USERS,
    Verdict,
    apply_eraser,
    apply_to_everybody,
    check_protocol,
    judge,
    method_for,
    plan,
    undo,
    unlearn,
)
from attrcloak.release.verdict import either
from attrcloak.unlearning import (
    LEACE,
    AttrCloakDF,
    Barycentre,
    Calibrated,
    CalibratedFlow,
    GaussianNoise,
    LabelFree,
    MeanRemoval,
    run,
)
from attrcloak.unlearning.method import Moved
from attrcloak.unlearning.undo import OriginalRows

QUICK = replace(SOUND, known=(0.8,), seeds=1, permutations=99, resamples=99, equations_known=(0.8,))


def found(**changes: object) -> AttackResult:
    """An attacker at chance on a two-class attribute, but for the changes."""
    values: dict[str, object] = {
        "attribute": "gender", "attacker": "logistic", "surface": "vectors", "known": 0.8, "balanced_accuracy": 0.505,
        "ci": (0.48, 0.53), "auc": 0.5, "accuracy": 0.6, "chance": 0.5, "majority": 0.7, "leakage": 0.005,
        "adaptive_balanced_accuracy": 0.51, "permutation_p": 0.6, "sum_of_squares": 0.58,
        "permuted_balanced_accuracy": 0.5, "users": 1000, "classes": ("F", "M"),
    }  # fmt: skip
    return AttackResult(**{**values, **changes})  # type: ignore[arg-type]


def report(*results: AttackResult) -> AuditReport:
    return AuditReport({"name": "sound"}, results, "f", 1.0, {})


def test_at_chance_is_protected() -> None:
    assert judge(report(found(), found(attacker="mlp"))).protected


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"balanced_accuracy": 0.56, "ci": (0.53, 0.59)}, "above"),
        ({"balanced_accuracy": 0.44, "ci": (0.41, 0.47)}, "below"),
        ({"adaptive_balanced_accuracy": 0.58}, "relabelled"),
        (
            {"attacker": "moment-equation", "known": 0.2, "balanced_accuracy": 0.81, "ci": (0.79, 0.83)},
            "moment-equation",
        ),
    ],
)
def test_one_attacker_away_from_chance_is_named(changes: dict[str, object], word: str) -> None:
    verdict = judge(report(found(), found(attacker="mlp"), found(**changes)))
    assert not verdict.protected
    assert len(verdict.reasons) == 1
    assert word in verdict.reasons[0]
    assert "gender" in verdict.reasons[0]
    assert verdict.next_steps


def test_within_the_margin_is_protected_however_sure_it_is() -> None:
    assert judge(report(found(balanced_accuracy=0.52, ci=(0.505, 0.535)))).protected


@pytest.mark.parametrize("side", [1, -1])
def test_beyond_the_margin_is_refused_and_said_to_be_chance_perhaps(side: int) -> None:
    wide = found(balanced_accuracy=0.5 + side * 0.034, ci=(0.5 + side * 0.034 - 0.037, 0.5 + side * 0.034 + 0.037))
    verdict = judge(report(found(), wide))
    assert not verdict.protected
    [reason] = verdict.reasons
    assert "among so few users that may be chance" in reason
    assert "another key" in verdict.next_steps[0]
    sure = judge(report(replace(wide, ci=(0.5 + side * 0.033, 0.5 + side * 0.035))))
    assert "may be chance" not in sure.reasons[0]
    assert not any("another key" in step for step in sure.next_steps)
    assert judge(report(replace(wide, balanced_accuracy=0.5 + side * 0.029))).protected


def test_the_line_leaves_room_for_what_other_seeds_find() -> None:
    """Two standard deviations, h / sqrt(seeds), before the margin."""
    close = found(balanced_accuracy=0.524, ci=(0.508, 0.540))
    by_seeds = {
        seeds: judge(replace(report(close), protocol={"name": "sound", "seeds": seeds})).protected
        for seeds in (3, 7, 8, 10)
    }
    assert by_seeds == {3: False, 7: False, 8: True, 10: True}  # .016 / sqrt(7.1) = .006


def test_relabelling_counts_even_where_the_plain_answers_are_within_their_interval() -> None:
    verdict = judge(report(found(balanced_accuracy=0.44, ci=(0.38, 0.51), adaptive_balanced_accuracy=0.6)))
    assert "relabelled" in " ".join(verdict.reasons)


def test_a_leak_that_means_and_covariances_do_not_show_is_said_to_be_one() -> None:
    trees = found(attacker="xgboost", balanced_accuracy=0.56, ci=(0.53, 0.59))
    said = "gender: xgboost read it where logistic and qda do not, so it hardly lies in means and covariances"
    calm = [found(), found(attacker="qda")]
    (warning,) = judge(report(*calm, trees, replace(trees, known=0.2))).warnings
    assert warning.startswith(said)
    for shown in (
        [*calm],  # nobody reads anything
        [found(), found(attacker="qda", adaptive_balanced_accuracy=0.6), trees],
        [found(), found(attacker="qda", surface="delta"), trees],
        [found(), trees],  # covariances were not looked at
        [found(), found(attacker="qda", balanced_accuracy=0.56, ci=(0.53, 0.59)), trees],
        [*calm, trees, found(attacker="moment-equation", known=0.2, balanced_accuracy=0.6, ci=(0.58, 0.62))],
    ):
        assert not any("surrogate" in text for text in judge(report(*shown)).warnings)


def test_other_surfaces_do_not_speak_of_the_table() -> None:
    assert judge(report(found(), found(surface="delta", balanced_accuracy=1.0, ci=(1.0, 1.0)))).protected


@pytest.mark.parametrize("kind", ["linear", "quadratic"])
def test_a_planted_leak_is_found_before_and_not_after(kind: str) -> None:
    table, people = planted_leak(kind, users=1200, dim=6, seed=1)  # type: ignore[arg-type]
    before = unlearn(table, people, GaussianNoise(scale=0.0), attackers=("logistic", "qda"), protocol=QUICK)
    after = unlearn(table, people, Calibrated(), key=b"k" * 32, attackers=("logistic", "qda"), protocol=QUICK)
    assert before.verdict is not None
    assert after.verdict is not None
    assert not before.verdict.protected
    assert after.verdict.protected, after.verdict.reasons


def test_equal_moments_are_refused_because_of_the_moment_equations() -> None:
    table, people = planted_leak("linear", users=600, dim=24, strength=1.0, seed=0)
    release = unlearn(table, people, Barycentre(), attackers=("logistic",), protocol=QUICK)
    assert release.verdict is not None
    assert not release.verdict.protected


def test_a_leak_of_higher_order_is_left_and_said_so() -> None:
    table, people = planted_leak("higher-order", users=1500, dim=4, strength=2.0, seed=0)
    release = unlearn(table, people, MeanRemoval(), attackers=("knn",), protocol=replace(QUICK, equations_known=()))
    assert release.verdict is not None
    assert "knn" in " ".join(release.verdict.reasons)


def test_only_those_who_asked_are_judged_and_by_attackers_who_know_the_others_too() -> None:
    table, people = planted_leak("linear", users=1600, dim=4, strength=2.0, seed=0)
    asked = people.mark({"group": np.arange(0, 1600, 2)})
    release = unlearn(table, asked, Calibrated(), key=b"k" * 32, attackers=("logistic",), protocol=QUICK)
    assert release.audit is not None
    assert release.audit_by_others is not None
    assert release.verdict is not None
    assert release.verdict.protected, release.verdict.reasons
    assert release.audit.best("group").users == 800
    assert release.audit_by_others.settings["knows"] == "others"
    counted = [
        [r.attacker for r in each.results].count("moment-equation") for each in (release.audit, release.audit_by_others)
    ]
    assert counted == [1, 0]  # they are the same by either knowledge


def test_what_only_those_who_did_not_ask_teach_is_found() -> None:
    """Everybody who asked is turned round: half and half, the classes lie alike, yet the others show which is which."""

    class TurnedRound:
        name = "turned round"

        def move(self, rows, progress=None):  # type: ignore[no-untyped-def]
            return Moved(2 * rows.vectors.mean(axis=0) - rows.vectors)

    table, people = planted_leak("linear", users=1600, dim=4, strength=2.0, seed=0)
    asked = people.mark({"group": np.arange(0, 1600, 2)})
    release = unlearn(table, asked, TurnedRound(), attackers=("logistic",), protocol=replace(QUICK, equations_known=()))
    assert release.audit is not None
    assert release.audit_by_others is not None
    assert abs(release.audit.best("group").balanced_accuracy - 0.5) < 0.1
    assert release.audit_by_others.best("group").balanced_accuracy < 0.2
    assert release.verdict is not None
    assert not release.verdict.protected
    assert any("teach attackers" in step for step in release.verdict.next_steps)
    assert any("below chance (0.500), knowing only users who did not ask" in r for r in release.verdict.reasons)


def test_one_attacker_in_twelve_beyond_its_own_interval_is_enough() -> None:
    alike = [found(attacker=f"attacker {n}") for n in range(11)]
    beyond = found(attacker="mlp", balanced_accuracy=0.526, ci=(0.501, 0.551))
    assert not judge(report(*alike, beyond)).protected
    assert judge(report(*alike, replace(beyond, ci=(0.499, 0.553)))).protected
    assert judge(report(*alike, replace(beyond, balanced_accuracy=0.515))).protected  # .03, less .025 / sqrt(3)


def test_what_wide_intervals_cannot_show_is_warned_of() -> None:
    narrow = found(attribute="age", ci=(0.49, 0.52))
    wide = found(balanced_accuracy=0.52, ci=(0.39, 0.65))
    verdict = judge(report(narrow, wide))
    assert verdict.protected
    [warning] = verdict.warnings
    assert warning.startswith("gender: with so few users intervals are 0.130 to either side")
    leaking = judge(report(narrow, wide, found(attacker="mlp", balanced_accuracy=0.9, ci=(0.8, 1.0))))
    assert not leaking.protected
    assert not leaking.warnings  # the leak did show


def test_fewer_users_are_attacked_by_more_seeds_unless_a_protocol_is_given() -> None:
    few = UserAttributes.from_values(Ids.range(30_000), group=["a", "b"] * 15_000)
    by_users = {
        users: check_protocol(few.align(Ids.range(users)), ["group"]).seeds
        for users in (2, 900, 2400, 4000, 6040, 10**4, 30_000)
    }
    assert list(by_users.values()) == [10, 10, 9, 5, 4, 3, 3]
    table, people = planted_leak("linear", users=2700, dim=4, seed=0)
    people = UserAttributes.from_values(
        people.ids, group=[None if user % 10 == 0 else people["group"].codes[user] for user in range(2700)]
    )
    attacked = partial(unlearn, table, people, MeanRemoval(), attackers=("logistic",))
    assert attacked().audit.protocol["seeds"] == 9  # of 2,430 whose class is known
    twice = UserAttributes(people.ids, {**people.columns, "side": planted_leak(users=2700, dim=4)[1]["group"]})
    assert check_protocol(twice, ["group", "side"]).seeds == 9 > check_protocol(twice, ["side"]).seeds
    assert attacked().audit.protocol["known"] == [0.8]
    assert attacked(protocol=QUICK).audit.protocol["seeds"] == 1


def test_too_few_requests_to_measure_are_not_called_protected() -> None:
    table, people = planted_leak("linear", users=400, dim=4, seed=0)
    release = unlearn(table, people.mark({"group": np.arange(12)}), MeanRemoval(), attackers=("logistic",))
    assert release.verdict is not None
    assert not release.verdict.protected
    assert release.audit is None
    assert any("--cover" in step for step in release.verdict.next_steps)
    assert (release.table.vectors[:12] != table.vectors[:12]).any(axis=1).all()


def test_a_table_that_shows_who_asked_is_warned_of_and_not_condemned() -> None:
    asked = found(attribute="asked", classes=("no", "yes"), balanced_accuracy=0.9, ci=(0.88, 0.92))
    verdict = judge(report(found(), asked), ["gender"])
    assert verdict.protected
    assert any("who asked" in text and "0.900" in text for text in verdict.warnings)
    assert not judge(report(found(), replace(asked, ci=(0.52, 0.98)))).warnings


def test_without_a_method_a_table_flows_as_long_as_that_takes_minutes() -> None:
    small, people = planted_leak(users=100, dim=4)
    assert plan(small, people).method == "calibrated-flow"
    assert unlearn(small, people, check=False).result.method == "calibrated-flow"
    for users, dim, frozen, method in (
        (FLOW_USERS, 2, (), "calibrated-flow"),
        (FLOW_USERS + 1, 2, (), "calibrated"),
        (10, FLOW_DIMENSIONS, (), "calibrated-flow"),
        (10, FLOW_DIMENSIONS + 1, (), "calibrated"),
        (10, FLOW_DIMENSIONS + 1, (0,), "calibrated-flow"),
    ):
        table = EmbeddingTable(Ids.range(users), np.zeros((users, dim), np.float32), "made up", frozen_columns=frozen)
        assert method_for(table).name == method
    largest = EmbeddingTable(Ids.range(FLOW_USERS), np.zeros((FLOW_USERS, FLOW_DIMENSIONS), np.float32), "made up")
    group = UserAttributes.from_values(largest.ids, group=np.arange(FLOW_USERS) % 2)
    assert plan(largest, group).memory_bytes < 2**31


def test_without_a_check_there_is_no_verdict() -> None:
    table, people = planted_leak(users=100, dim=4)
    release = unlearn(table, people, MeanRemoval(), check=False)
    assert release.verdict is None
    assert release.audit is None
    assert release.table is release.result.table


def small() -> tuple[EmbeddingTable, UserAttributes]:
    """200 users; gender with a class of 3, and an attribute nobody could be tested on."""
    rng = np.random.default_rng(0)
    table = EmbeddingTable(Ids.range(200), rng.normal(size=(200, 8)).astype(np.float32), "made up")
    gender = ["x"] * 3 + ["F"] * 90 + ["M"] * 100 + [None] * 7
    town = ["north"] * 5 + ["south"] * 195
    return table, UserAttributes.from_values(table.ids, gender=gender, town=town)


@pytest.mark.parametrize("method", [Calibrated(), Calibrated(learned_from="everybody")])
def test_an_attribute_of_one_class_is_warned_of_whoever_is_learnt_from(method: Calibrated) -> None:
    table, people = small()
    gender = [None if code < 0 else str(code) for code in people["gender"].codes]
    alike = UserAttributes.from_values(people.ids, gender=gender, town=["north"] * 200)
    assert any("has one class among the users" in text for text in plan(table, alike, method).warnings)
    for unmoved in (plan, unlearn):
        with pytest.raises(InvalidInput, match="attribute 'town' of the list of people has one class among the users"):
            unmoved(table, alike.select(["town"]), method)


def test_the_plan_counts_and_does_nothing() -> None:
    table, people = small()
    planned = plan(table, people, Calibrated(), attributes=["gender"])
    assert (planned.users, planned.moving, planned.dimensions, planned.cells) == (200, 193, 8, 4)
    assert planned.small_classes == {"gender": {"x": 3}}
    assert planned.memory_bytes > table.vectors.nbytes
    assert planned.seconds > 0
    unknown, few, unaudited = planned.warnings
    assert unknown.startswith("7 of 200 users have no class in the list of people")
    assert few.startswith("gender: 1 classes (x 3) have fewer users than the table has dimensions (8)")
    assert unaudited.startswith("gender: 1 classes (x 3) have fewer than 20 users")
    assert planned.classes == planned.asked == {"gender": {"F": 90, "M": 100, "x": 3}}
    assert (planned.unmet, planned.elsewhere) == ({"gender": 7}, {"gender": 0})
    asked = people.mark({"gender": [0, 5, 6]})
    assert plan(table, asked, MeanRemoval()).moving == 3
    assert plan(table, asked, MeanRemoval(), attributes=["gender"]).unknown == planned.unknown == 7
    flow = plan(table, people, CalibratedFlow(rounds=50_000), attributes=["gender"])
    assert (
        flow.memory_bytes - planned.memory_bytes
        == 4 * 200 * 8**2 + threads_of_blas() * 8 * 4 * 128 * 200 + 3 * 8 * 36**2
    )
    assert flow.seconds > 10 * planned.seconds
    assert plan(table, asked, MeanRemoval()).lone_cells == ("gender=x, town=–",)
    lone = "1 of 3 combinations of classes are of a single user each (a plan names them); where combinations have maps"
    assert plan(table, asked, MeanRemoval()).warnings[-2].startswith(lone)
    assert unlearn(table, asked, MeanRemoval(), check=False).warnings[-1].startswith(lone)


@pytest.mark.parametrize("method", [MeanRemoval(), Barycentre(), AttrCloakDF(space="moments", steps=20)], ids=repr)
def test_an_eraser_applies_as_it_was_fitted_and_comes_back(method: MeanRemoval) -> None:
    table, people = planted_leak(users=300, dim=5)
    result = unlearn(table, people, method, check=False).result
    assert result.eraser is not None
    shuffled = table.take(np.random.default_rng(0).permutation(300))
    again = apply_eraser(result.eraser, shuffled, people)
    np.testing.assert_allclose(again.vectors[again.ids.rows(table.ids)], result.table.vectors, rtol=1e-4, atol=1e-5)
    back = undo(result.eraser, result.table, people)
    np.testing.assert_allclose(back.vectors, table.vectors, atol=1e-4)


def test_classes_are_matched_by_name_not_by_code() -> None:
    table, people = planted_leak(users=300, dim=5)
    eraser = unlearn(table, people, MeanRemoval(), check=False).result.eraser
    column = people["group"]
    names = np.array(column.classes)[column.codes]
    turned = replace(column, classes=column.classes[::-1], codes=len(column.classes) - 1 - column.codes)
    assert (np.array(turned.classes)[turned.codes] == names).all()
    assert eraser is not None
    other = apply_eraser(eraser, table, UserAttributes(people.ids, {"group": turned}))
    np.testing.assert_array_equal(other.vectors, apply_eraser(eraser, table, people).vectors)


def test_unseen_classes_and_combinations_are_named_and_counted() -> None:
    table, people = small()
    eraser = unlearn(table, people, MeanRemoval(), attributes=["gender", "town"], check=False).result.eraser
    assert eraser is not None
    stranger = UserAttributes.from_values(table.ids, gender=["D"] * 2 + ["F"] * 198, town=["north"] * 200)
    with pytest.raises(UnknownCell, match=r"gender=D \(2 users\)"):
        apply_eraser(eraser, table, stranger)
    mixed = UserAttributes.from_values(table.ids, gender=["M"] * 200, town=["north"] * 4 + ["south"] * 196)
    with pytest.raises(UnknownCell, match=r"gender=M, town=north \(4 users\)"):
        apply_eraser(eraser, table, mixed)


def test_users_who_did_not_ask_stay_bit_identical_through_eraser_and_undo() -> None:
    table, people = planted_leak(users=300, dim=5)
    asked = people.mark({"group": np.arange(100)})
    result = unlearn(table, asked, MeanRemoval(), check=False).result
    assert result.eraser is not None
    for vectors in (result.table.vectors, apply_eraser(result.eraser, table, asked).vectors):
        np.testing.assert_array_equal(vectors[100:], table.vectors[100:])
        assert (vectors[:100] != table.vectors[:100]).any(axis=1).all()


@pytest.mark.parametrize("length", ["keep", "unit"])
def test_original_rows_undo_exactly(length: str, tmp_path) -> None:  # type: ignore[no-untyped-def]
    table, people = planted_leak(users=200, dim=5)
    result = unlearn(table, people, Calibrated(length=length), check=False).result  # type: ignore[arg-type]
    OriginalRows.of(table, result).save(tmp_path / "undo.safetensors")
    assert (tmp_path / "undo.safetensors").stat().st_mode & 0o077 == 0
    back = undo(OriginalRows.load(tmp_path / "undo.safetensors"), result.table)
    np.testing.assert_array_equal(back.vectors, table.vectors)


@pytest.mark.parametrize("length", ["keep", "unit"])
def test_a_withdrawal_is_undone_alone(length: str, tmp_path) -> None:  # type: ignore[no-untyped-def]
    table, people = planted_leak(users=200, dim=5)
    asked = people.mark({"group": np.arange(120)})
    result = unlearn(table, asked, Calibrated(length=length), check=False).result  # type: ignore[arg-type]
    OriginalRows.of(table, result).save(tmp_path / "undo.safetensors")
    kept = OriginalRows.load(tmp_path / "undo.safetensors")
    back = undo(kept, result.table, users=Ids(np.array([7, 11])))
    stays = np.setdiff1d(np.arange(200), [7, 11])
    np.testing.assert_array_equal(back.vectors[stays], result.table.vectors[stays])
    if length == "keep":
        np.testing.assert_array_equal(back.vectors[[7, 11]], table.vectors[[7, 11]])
    else:  # like somebody who never asked: the original direction at the table's length
        scale = np.linalg.norm(result.table.vectors[199]) / np.linalg.norm(table.vectors[[7, 11]], axis=1)
        np.testing.assert_allclose(back.vectors[[7, 11]], table.vectors[[7, 11]] * scale[:, None], rtol=1e-5)
    if length == "keep":
        with pytest.raises(InvalidInput, match=r"1 of the 2 users named are not in the undo file \(150\)"):
            undo(kept, result.table, users=Ids(np.array([7, 150])))


def test_a_withdrawal_is_undone_alone_by_an_eraser_too() -> None:
    table, people = planted_leak(users=200, dim=5)
    asked = people.mark({"group": np.arange(120)})
    result = unlearn(table, asked, MeanRemoval(), check=False).result
    assert result.eraser is not None
    back = undo(result.eraser, result.table, asked, users=Ids(np.array([7])))
    np.testing.assert_allclose(back.vectors[7], table.vectors[7], atol=1e-5)
    stays = np.setdiff1d(np.arange(200), [7])
    np.testing.assert_array_equal(back.vectors[stays], result.table.vectors[stays])
    with pytest.raises(InvalidInput, match="asked for nothing"):
        undo(result.eraser, result.table, asked, users=Ids(np.array([150])))


def test_one_map_for_everybody_moves_users_of_unknown_class() -> None:
    table, people = planted_leak(users=300, dim=5)
    asked = people.mark({"group": np.arange(200)})
    fitted = unlearn(table, asked, LabelFree(length="keep"), check=False).result
    assert fitted.eraser is not None
    moved = apply_to_everybody(fitted.eraser, table)
    np.testing.assert_array_equal(moved.vectors[:200], fitted.table.vectors[:200])
    assert (moved.vectors[200:] != table.vectors[200:]).any(axis=1).all()
    everybody = people.mark({"group": np.arange(300)})
    only = apply_eraser(fitted.eraser, table, everybody, users=Ids(np.array([250])))
    np.testing.assert_array_equal(only.vectors[250], moved.vectors[250])
    np.testing.assert_array_equal(np.delete(only.vectors, 250, axis=0), np.delete(table.vectors, 250, axis=0))
    by_class = unlearn(table, asked, MeanRemoval(), check=False).result.eraser
    assert by_class is not None
    with pytest.raises(NotSupported, match="label-free"):
        apply_to_everybody(by_class, table)


def test_a_second_run_leaves_everybody_else_bit_identical_at_one_length_too() -> None:
    table, people = planted_leak(users=400, dim=5)
    first = unlearn(table, people.mark({"group": np.arange(100)}), Calibrated(length="unit"), check=False).table
    second = unlearn(first, people.mark({"group": np.arange(100, 200)}), Calibrated(length="unit"), check=False).table
    stays = np.r_[0:100, 200:400]
    np.testing.assert_array_equal(second.vectors[stays], first.vectors[stays])
    assert (second.vectors[100:200] != first.vectors[100:200]).any(axis=1).all()


def test_what_cannot_be_undone_says_so() -> None:
    table, people = planted_leak(users=200, dim=5)
    projected = unlearn(table, people, LEACE(), check=False).result
    assert projected.eraser is not None
    with pytest.raises(NotSupported, match="no inverse"):
        undo(projected.eraser, projected.table, people)
    scaled = unlearn(table, people, Calibrated(slices=0, length="unit"), check=False).result
    assert scaled.eraser is not None
    with pytest.raises(NotSupported, match="length"):
        undo(scaled.eraser, scaled.table, people)
    with pytest.raises(InvalidInput, match="people"):
        undo(projected.eraser, projected.table)


def test_an_attribute_that_could_not_be_tested_is_not_called_protected() -> None:
    table, people = small()
    release = unlearn(table, people, Calibrated(), key=b"k" * 32, attackers=("logistic",), protocol=QUICK)
    assert release.verdict is not None
    assert not release.verdict.protected
    assert "town" in " ".join(release.verdict.reasons)


def test_classes_too_small_to_audit_are_warned_of_by_name() -> None:
    table, people = small()
    release = unlearn(table, people, Calibrated(), attributes=["gender"], attackers=("logistic",), protocol=QUICK)
    assert release.verdict is not None
    assert any("left out" in text and "x (3" in text for text in release.verdict.warnings), release.verdict.warnings


def test_next_steps_of_a_calibrated_table_do_not_send_to_calibrated() -> None:
    leaky = report(found(balanced_accuracy=0.9, ci=(0.88, 0.92)))
    assert any("--method calibrated" in step for step in judge(leaky, method="leace").next_steps)
    safe = Verdict(True, (), ())
    assert any("--method calibrated" in step for step in either(safe, judge(leaky, method="leace"), "leace").next_steps)
    calibrated = judge(leaky, method="calibrated")
    for steps in (calibrated.next_steps, either(safe, calibrated, "calibrated").next_steps):
        assert steps
        assert not any("--method calibrated" in step.replace("--method calibrated-flow", "") for step in steps)
    assert any("--method calibrated-flow" in step for step in calibrated.next_steps)
    assert any("--cover" in step for step in either(safe, calibrated, "calibrated").next_steps)


@pytest.mark.parametrize("method", ["calibrated-flow", "calibrated-dd"])
def test_the_next_step_after_a_flow_is_what_moves_what_it_does_not(method) -> None:
    steps = judge(report(found(balanced_accuracy=0.9, ci=(0.88, 0.92))), method=method).next_steps
    assert any("--method calibrated," in step for step in steps)
    assert not any("--set" in step or "--method calibrated-flow" in step for step in steps)


def test_a_shape_in_single_columns_is_left_by_the_flow_and_mended_by_its_next_step() -> None:
    """Two columns of one class with two peaks, at the same mean and variance: trees alone see that."""
    rng = np.random.default_rng(1200)
    x, first = rng.normal(size=(1200, 16)), rng.integers(0, 2, 1200) == 1
    peaks = np.where(rng.random((first.sum(), 2)) < 0.5, 0.9, -0.9)
    x[first, :2] = peaks + rng.normal(size=peaks.shape) * np.sqrt(1 - 0.9**2)
    people = UserAttributes.from_values(Ids.range(1200), gender=np.where(first, "F", "M").tolist())
    table = EmbeddingTable(people.ids, x.astype(np.float32), "made up")
    protocol = replace(QUICK, equations_known=())
    options = {"key": b"k" * 32, "attackers": ("logistic", "qda", "xgboost"), "protocol": protocol}
    flow = unlearn(table, people, CalibratedFlow(), **options)
    assert not flow.verdict.protected
    assert any("xgboost read it where logistic and qda do not" in text for text in flow.verdict.warnings)
    assert "--method calibrated," in flow.verdict.next_steps[-1]
    by_trees = [
        next(r.balanced_accuracy for r in release.audit.results if r.attacker == "xgboost")
        for release in (flow, unlearn(table, people, Calibrated(), **options))
    ]
    assert by_trees[0] > 0.6
    assert by_trees[1] < 0.55


@pytest.mark.slow
def test_few_users_for_the_dimensions_do_not_end_below_chance() -> None:
    """300 users in 64 dimensions: what is only sampling noise must stay, or class means end up closer than chance."""
    table, people = planted_leak("linear", users=300, dim=6, strength=3.0, seed=0)
    split = planted_interactions(table, items=80, each=15).leave_one_out(0)
    users = train("als", split, seed=0).users
    protocol = replace(SOUND, known=(0.8,), seeds=1, permutations=99, resamples=99, equations_known=())
    before = audit(users, people, protocol=protocol, attackers=["logistic"]).results[0].balanced_accuracy
    after = []
    for key in range(8):
        moved = run(Calibrated(), users, people, key=bytes([key]) * 32).table
        after += [audit(moved, people, protocol=protocol, attackers=["logistic"]).results[0].balanced_accuracy]
    assert before > 0.8
    # One key has a standard deviation of .04.
    assert abs(np.mean(after) - 0.5) < 0.045


def test_an_object_that_neither_solves_nor_moves_is_no_method() -> None:
    table, people = small()
    with pytest.raises(InvalidInput, match="str is no method: it has neither solve"):
        run("leace", table, people)  # type: ignore[arg-type]


@pytest.mark.parametrize(("frozen", "scoring"), [((), "dot"), ((0,), "dot+constant")])
def test_on_a_device_the_table_comes_out_as_from_numpy(frozen: tuple[int, ...], scoring: str) -> None:
    """Columns that are frozen stay, vectors are scaled as ever, and those who did not ask keep their bits."""
    pytest.importorskip("torch")
    table, people = planted_leak("linear", users=300, dim=5, seed=0)
    table = replace(table, vectors=table.vectors.astype(np.float32), frozen_columns=frozen, scoring=scoring)
    people = people.mark({"group": table.ids.values[:200]})
    plain, device = (run(Barycentre(), table, people, device=name) for name in (None, "cpu"))
    np.testing.assert_allclose(device.table.vectors, plain.table.vectors, rtol=1e-6, atol=1e-6)
    still = ~plain.moved
    assert device.table.vectors[still].tobytes() == plain.table.vectors[still].tobytes()
    assert (device.table.vectors[:, frozen] == table.vectors[:, frozen]).all()
    assert device.table.vectors.dtype == np.float32
    assert device.objective_after == pytest.approx(plain.objective_after, rel=1e-4)
    assert device.relative_move == pytest.approx(plain.relative_move, rel=1e-5)


def test_a_method_that_iterates_over_rows_does_not_run_on_a_device() -> None:
    table, people = planted_leak("linear", users=300, dim=5, seed=0)
    with pytest.raises(NotSupported, match="calibrated iterates over rows in NumPy alone"):
        unlearn(table, people, Calibrated(), check=False, device="cpu")
