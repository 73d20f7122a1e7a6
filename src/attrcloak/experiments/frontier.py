"""Privacy against utility: every method a curve over its settings, and the points no other point beats."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from attrcloak.auditing.report import EQUATIONS
from attrcloak.errors import InvalidInput
from attrcloak.experiments.measurement import Measurement
from attrcloak.experiments.tables import interval
from attrcloak.release import MARGIN

SCHEMA = "attrcloak/frontier/1"


@dataclass(frozen=True, kw_only=True)
class Point:
    """One method at one setting.

    Attributes:
        method: its name.
        setting: what varies, empty where nothing does.
        leakage: of the strongest attacker: the largest over attackers and attributes of |balanced accuracy - chance|,
            the balanced accuracy first averaged over seeds. In [0, 1 - chance]. The moment equations count above chance
            only, relabelled answers as well. The largest of many noisy numbers is never 0, not even for noise: the
            fewer the users, the higher that floor.
        strongest: which attacker on which attribute that is.
        leakage_to_classifiers: the same over attackers that are trained on known users, the moment equations left out:
            what somebody can read who has no exact means and covariances to solve for.
        utility: NDCG@10 as a share of the original's, mean over seeds.
        utility_ci: 95 % interval over seeds; None with one seed.
        seeds: number of seeds.
        best: no other point has less leakage and at least this utility, or as little and more.
    """

    method: str
    setting: str
    leakage: float
    strongest: str
    leakage_to_classifiers: float
    utility: float
    utility_ci: tuple[float, float] | None
    seeds: int
    best: bool = False


@dataclass(frozen=True)
class Curve:
    """All points of one data set and recommender.

    Attributes:
        dataset: name.
        backbone: recommender.
        points: every method at every setting.
        area: by method: area under its own best utility for each leakage from 0 to that of the original, as a share of
            the whole. In [0, 1]; a method that costs nothing at no leakage has 1.
        utility_at_chance: by method: its best utility with leakage of at most ``MARGIN``; None where it has none.
    """

    dataset: str
    backbone: str
    points: tuple[Point, ...]
    area: Mapping[str, float]
    utility_at_chance: Mapping[str, float | None]

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def frontier(measurements: Iterable[Measurement]) -> list[Curve]:
    """One curve for each data set and recommender, from measurements of the sound protocol.

    Raises:
        InvalidInput: the original was not measured.
    """
    groups: dict[tuple[str, str], dict[tuple[str, str], list[Measurement]]] = {}
    for measurement in measurements:
        cell = measurement.cell
        if cell.protocol == "sound":
            backbone = cell.backbone.name + (f" ({cell.backbone.label})" if cell.backbone.label else "")
            of_method = groups.setdefault((cell.dataset, backbone), {})
            of_method.setdefault((cell.method.name, cell.method.label), []).append(measurement)
    return [_curve(dataset, backbone, of_method) for (dataset, backbone), of_method in groups.items()]


def pareto(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Which of the points (leakage, utility) no other point beats in one and equals or beats in the other."""
    return [
        not any(other[0] <= point[0] and other[1] >= point[1] and other != point for other in points)
        for point in points
    ]


def _curve(dataset: str, backbone: str, of_method: Mapping[tuple[str, str], list[Measurement]]) -> Curve:
    baseline = {m.cell.seed: m.utility["ndcg@10"] for m in of_method.get(("original", ""), ())}
    if not baseline:
        raise InvalidInput(f"{dataset}, {backbone}: the original was not measured, and utility is a share of its own")
    points = []
    for (method, setting), found in of_method.items():
        paired = [m for m in found if m.cell.seed in baseline]
        if not paired:
            continue
        ratios = [m.utility["ndcg@10"] / baseline[m.cell.seed] for m in paired]
        leakage, strongest = _leakage(paired)
        trained, _ = _leakage(paired, left_out=(EQUATIONS,))
        points.append(
            Point(
                method=method,
                setting=setting,
                leakage=leakage,
                strongest=strongest,
                leakage_to_classifiers=trained,
                utility=float(np.mean(ratios)),
                utility_ci=interval(ratios) if len(ratios) > 1 else None,
                seeds=len(ratios),
            )
        )
    best = pareto([(point.leakage, point.utility) for point in points])
    points = [Point(**{**asdict(point), "best": flag}) for point, flag in zip(points, best, strict=True)]
    worst = max((point.leakage for point in points if point.method == "original"), default=1.0)
    names = dict.fromkeys(point.method for point in points)
    return Curve(
        dataset,
        backbone,
        tuple(points),
        {name: _area([p for p in points if p.method == name], worst) for name in names},
        {
            name: max((p.utility for p in points if p.method == name and p.leakage <= MARGIN), default=None)
            for name in names
        },
    )


def _leakage(found: Sequence[Measurement], left_out: Sequence[str] = ()) -> tuple[float, str]:
    entries: dict[tuple[str, str, float], list[Mapping[str, Any]]] = {}
    for measurement in found:
        for entry in measurement.attacks:
            if entry["attacker"] in left_out:
                continue
            entries.setdefault((entry["attacker"], entry["attribute"], entry["known"]), []).append(entry)
    best, strongest = 0.0, ""
    for (attacker, attribute, _), of_seeds in entries.items():
        chance = of_seeds[0]["chance"]
        apart = float(np.mean([e["balanced_accuracy"] for e in of_seeds])) - chance
        relabelled = float(np.mean([e["adaptive_balanced_accuracy"] for e in of_seeds])) - chance
        distance = max(apart, relabelled) if attacker == EQUATIONS else max(abs(apart), relabelled)
        if distance > best:
            best, strongest = distance, f"{attacker} on {attribute}"
    return best, strongest


def _area(points: Sequence[Point], worst: float) -> float:
    """Area under the step function: at each leakage the best utility of a point that leaks no more."""
    if worst <= 0:
        return 0.0
    inside = sorted((p.leakage, min(p.utility, 1.0)) for p in points if p.leakage < worst)
    total, reached = 0.0, 0.0
    for place, (leakage, utility) in enumerate(inside):
        reached = max(reached, utility)
        until = inside[place + 1][0] if place + 1 < len(inside) else worst
        total += reached * (until - leakage)
    return total / worst
