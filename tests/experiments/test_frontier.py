"""Who beats whom in privacy and utility."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attrcloak.errors import InvalidInput
from attrcloak.experiments import frontier
from attrcloak.experiments.frontier import Point, _area, pareto

points = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=12)


@given(points)
def test_a_point_of_the_front_is_beaten_by_none_and_every_other_by_one_of_the_front(found):
    best = pareto(found)
    front = [point for point, flag in zip(found, best, strict=True) if flag]
    assert front
    for point, flag in zip(found, best, strict=True):
        beaten = any(a <= point[0] and b >= point[1] and (a, b) != point for a, b in front)
        assert beaten is not flag


def test_the_front_of_a_picture_drawn_by_hand():
    assert pareto([(0.0, 0.8), (0.1, 0.9), (0.1, 0.7), (0.2, 0.9), (0.5, 1.0)]) == [True, True, False, False, True]


def point(leakage, utility):
    return Point(
        method="m",
        setting="",
        leakage=leakage,
        strongest="",
        leakage_to_classifiers=leakage,
        utility=utility,
        utility_ci=None,
        seeds=1,
    )


def test_area_is_one_where_nothing_is_lost_and_nothing_read():
    assert _area([point(0.0, 1.0)], 0.4) == pytest.approx(1.0)
    assert _area([point(0.2, 1.0)], 0.4) == pytest.approx(0.5)
    assert _area([point(0.2, 1.0), point(0.1, 0.6), point(0.3, 0.4)], 0.4) == pytest.approx((0.06 + 0.2) / 0.4)
    assert _area([point(0.5, 1.0)], 0.4) == 0.0


def is_original(measurement, attack) -> bool:
    """Logistic regression, the one trained attacker of the plan that looks at vectors, on the original."""
    cell = measurement.cell
    return (cell.method.name, cell.protocol, attack["attacker"]) == ("original", "sound", "logistic")


def test_the_original_leaks_most_and_keeps_everything(measured):
    (curve,) = frontier(measured)
    original = next(p for p in curve.points if p.method == "original")
    assert original.utility == 1.0
    assert original.leakage > 0.25
    assert original.strongest in ("logistic on group", "moment-equation on group")
    by_logistic = [
        abs(np.mean([a["balanced_accuracy"] for m in measured for a in m.attacks if is_original(m, a)]) - 0.5),
        np.mean([a["adaptive_balanced_accuracy"] for m in measured for a in m.attacks if is_original(m, a)]) - 0.5,
    ]
    assert original.leakage_to_classifiers == pytest.approx(max(by_logistic))
    assert all(p.leakage >= p.leakage_to_classifiers for p in curve.points)
    assert {p.setting for p in curve.points if p.method == "noise"} == {"scale=0.5", "scale=2.0"}
    assert set(curve.area) == {"original", "leace", "noise", "blurme"}
    assert all(0 <= area <= 1 for area in curve.area.values())


def test_without_the_original_there_is_nothing_to_take_a_share_of(measured):
    with pytest.raises(InvalidInput, match="the original was not measured"):
        frontier([m for m in measured if m.cell.method.name != "original"])


def test_what_only_the_moment_equations_read_does_not_count_as_read_by_classifiers(measured):
    def told(measurement):
        entry = {**measurement.attacks[0], "attacker": "moment-equation", "known": 0.33, "balanced_accuracy": 0.97}
        return replace(measurement, attacks=(*measurement.attacks, {**entry, "adaptive_balanced_accuracy": 0.97}))

    (before,), (after,) = frontier(measured), frontier([told(m) for m in measured])
    for one, other in zip(before.points, after.points, strict=True):
        assert other.leakage == pytest.approx(0.47)
        assert other.strongest == "moment-equation on group"
        assert other.leakage_to_classifiers == one.leakage_to_classifiers
