"""From measurements to the rows of a table: means over seeds, intervals, and the published numbers beside them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from attrcloak.attackers import RandomAttacker
from attrcloak.auditing import PAPER, SOUND
from attrcloak.auditing.measurement import attackers_for
from attrcloak.evaluation import METRICS as UTILITY_METRICS
from attrcloak.experiments.measurement import Measurement
from attrcloak.experiments.plan import ATTACK_METRICS, Plan
from attrcloak.experiments.published import published

SCHEMA = "attrcloak/table/1"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One number.

    Attributes:
        dataset: of the cells.
        backbone: recommender.
        method: method or protection, "original" for none.
        setting: what varies, of the recommender or the method, such as "weight=0.2"; empty where nothing does.
        attacker: empty for utility, seconds and shapes. "majority" and "proportional" are controls: always the
            largest class, and guessing by class shares.
        attribute: empty where the number is of no attribute.
        metric: such as "accuracy", "ndcg@10", "seconds", "share of training".
        value: mean over the seeds.
        ci: 95 % interval. With two seeds or more, Student's over seeds: recommender, key, validation items and the
            attackers' splits drawn anew, the users and their test items the same. With one seed, over users; None for
            a single time or a relabelled attack. "majority" and "proportional" are exact for the users attacked with a
            seed: with one, both ends are the value.
        seeds: number of seeds.
        published: the paper's number, None where it prints none.
    """

    dataset: str
    backbone: str
    method: str
    setting: str
    attacker: str
    attribute: str
    metric: str
    value: float
    ci: tuple[float, float] | None
    seeds: int
    published: float | None

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {**asdict(self), "ci": None if self.ci is None else list(self.ci)}


def rows_of(plan: Plan, measurements: Iterable[Measurement], protocol: str) -> list[Row]:
    """The rows of one protocol, in the order of the plan's grid.

    Args:
        plan: says what is tabled, and beside which published table.
        measurements: of any cells; those of other protocols are passed over.
        protocol: "paper" or "sound".
    """
    groups: dict[tuple[str, str, str, str], list[Measurement]] = {}
    for measurement in measurements:
        cell = measurement.cell
        if cell.protocol == protocol:
            setting = ", ".join(label for label in (cell.backbone.label, cell.method.label) if label)
            groups.setdefault((cell.dataset, cell.backbone.name, cell.method.name, setting), []).append(measurement)
    rows = []
    with_controls: set[tuple[str, str]] = set()
    for (dataset, backbone, method, setting), found in groups.items():
        # Controls never look at a vector, so the first method has those of all.
        controls = (dataset, backbone) not in with_controls
        with_controls.add((dataset, backbone))
        for attacker, attribute, metric, values, single in _numbers(plan, found, protocol, controls):
            rows.append(
                Row(
                    dataset=dataset,
                    backbone=backbone,
                    method=method,
                    setting=setting,
                    attacker=attacker,
                    attribute=attribute,
                    metric=metric,
                    value=float(np.mean(values)),
                    ci=interval(values) if len(values) > 1 else single,
                    seeds=len(values),
                    published=None
                    if protocol != "paper" or setting
                    else published(plan.table, dataset, backbone, method, attacker, attribute, metric),
                )
            )
    return rows


def interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the mean of independent redraws, by Student's t."""
    from scipy.stats import t

    half = float(t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return float(np.mean(values)) - half, float(np.mean(values)) + half


_Number = tuple[str, str, str, Sequence[float], tuple[float, float] | None]


def _numbers(plan: Plan, found: Sequence[Measurement], protocol: str, controls: bool) -> Iterator[_Number]:
    """(attacker, attribute, metric, value of every seed, interval of a single seed)."""
    if "attacks" in plan.measures:
        yield from _attacks(plan, found, protocol, controls)
    if "utility" in plan.measures:
        for metric in [m for m in UTILITY_METRICS if not plan.metrics or m in plan.metrics]:
            low, high = found[0].utility["ci"][metric]
            yield "", "", metric, [m.utility[metric] for m in found], (low, high)
    if "seconds" in plan.measures and found[0].cell.method.name != "original":
        yield "", "", "seconds", [m.seconds for m in found], None
        yield "", "", "share of training", [m.seconds / m.training_seconds for m in found], None
    elif "seconds" in plan.measures:
        yield "", "", "seconds", [m.training_seconds for m in found], None
    if "shapes" in plan.measures:
        yield from _shapes(found)


def _attacks(plan: Plan, found: Sequence[Measurement], protocol: str, controls: bool) -> Iterator[_Number]:
    asked = [m for m in ATTACK_METRICS[protocol] if m in plan.metrics]
    # A plan that names "accuracy" for the paper's protocol still wants the attacks of the sound one.
    metrics = asked or ATTACK_METRICS[protocol]
    entries = [{(e["attacker"], e["attribute"], e["known"]): e for e in m.attacks} for m in found]
    for attacker, attribute, known in entries[0]:
        if attacker == RandomAttacker.name and not controls:
            continue
        of_seeds = [entry[attacker, attribute, known] for entry in entries if (attacker, attribute, known) in entry]
        # The equations are solved for several shares of known labels; every other attacker knows one.
        shares = {k for a, b, k in entries[0] if (a, b) == (attacker, attribute)}
        name = attacker if len(shares) == 1 else f"{attacker} ({known:.0%} known)"
        for metric in metrics:
            single: tuple[float, float] | None = None
            if metric == "accuracy":
                single = _binomial(of_seeds[0])
            elif metric == "balanced_accuracy":
                single = (of_seeds[0]["ci"][0], of_seeds[0]["ci"][1])
            yield name, attribute, metric, [e[metric] for e in of_seeds], single
    if controls and protocol == "paper":
        yield from _controls(found)


def _controls(found: Sequence[Measurement]) -> Iterator[_Number]:
    """Plain accuracy of always naming the largest class, and of guessing by the shares of the classes."""
    of_seeds = [{entry["attribute"]: entry for entry in m.attacks} for m in found]
    for attribute in of_seeds[0]:
        for control, share in (("majority", "majority"), ("proportional", "sum_of_squares")):
            values = [of_seed[attribute][share] for of_seed in of_seeds]
            yield control, attribute, "accuracy", values, (values[0], values[0])


def _binomial(entry: Mapping[str, Any]) -> tuple[float, float]:
    half = 1.96 * float(np.sqrt(entry["accuracy"] * (1 - entry["accuracy"]) / entry["users"]))
    return entry["accuracy"] - half, entry["accuracy"] + half


def _shapes(found: Sequence[Measurement]) -> Iterator[_Number]:
    """How far apart the two largest classes are along the dimensions shown, in their common deviations."""
    for attribute, shapes in found[0].shapes.items():
        for place in range(len(shapes)):
            drawn = [m.shapes[attribute][place] for m in found]
            if len(drawn[0]["mean"]) < 2:
                continue
            yield "", attribute, f"gap of means, place {place + 1}", [_gap(shape) for shape in drawn], None


def _gap(shape: Mapping[str, Any]) -> float:
    (a, b), spreads = shape["mean"].values(), list(shape["std"].values())
    return float(abs(a - b) / max(float(np.sqrt(np.mean(np.square(spreads)))), 1e-12))


CONTROLS = ("random", "majority", "proportional")
"""Attackers that never look at a vector: lines at the foot of each block."""


@dataclass(frozen=True)
class Block:
    """Rows laid out as a printed table has them.

    Attributes:
        heading: data set, recommender and attacker.
        columns: attribute and metric of each column.
        lines: of each method and setting, the row in each column, None where there is none.
    """

    heading: str
    columns: tuple[str, ...]
    lines: Mapping[str, tuple[Row | None, ...]]


def blocks(rows: Sequence[Row]) -> list[Block]:
    """One block for each data set, recommender and attacker: methods down, attributes and metrics across."""
    found = []
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        if row.attacker not in CONTROLS:
            groups.setdefault((row.dataset, row.backbone, row.attacker), []).append(row)
    for (dataset, backbone, attacker), group in groups.items():
        if attacker:
            group += [
                row for row in rows if (row.dataset, row.backbone) == (dataset, backbone) and row.attacker in CONTROLS
            ]
        columns = tuple(dict.fromkeys(_column(row) for row in group))
        lines: dict[str, list[Row | None]] = {}
        for row in group:
            named = row.attacker if row.attacker in CONTROLS else f"{row.method} {row.setting}".strip()
            lines.setdefault(named, [None] * len(columns))[columns.index(_column(row))] = row
        heading = ", ".join(part for part in (dataset, backbone, attacker) if part)
        found.append(Block(heading, columns, {name: tuple(line) for name, line in lines.items()}))
    return found


def _column(row: Row) -> str:
    return " ".join(part for part in (row.attribute, row.metric.replace("_", " ")) if part)


def table_json(
    plan: Plan,
    rows: Sequence[Row],
    protocol: str,
    measurements: Sequence[Measurement],
    data: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """The content of a table's JSON file: the rows, and what they were measured with.

    Args:
        plan: what was run.
        rows: of the protocol.
        protocol: "paper" or "sound".
        measurements: all cells.
        data: what each data set says of itself, by name (``Dataset.describe``).
    """
    of_protocol = [m for m in measurements if m.cell.protocol == protocol]
    return {
        "schema": SCHEMA,
        "title": plan.title,
        "table": plan.table,
        "protocol": protocol,
        "seeds": plan.seeds,
        "interval": "Student's t over seeds; over users with one seed",
        "rows": [row.to_json() for row in rows],
        "notes": diverged(of_protocol),
        **measured_with(of_protocol, data),
    }


def measured_with(measurements: Sequence[Measurement], data: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Settings, attackers, data and versions of the cells of one protocol, as plain values for a file of results."""
    variants = {
        (variant.name, variant.label, m.cell.dataset): variant.resolved()
        for m in measurements
        for variant in (m.cell.backbone, m.cell.method)
        if variant.name != "original"
    }
    return {
        "settings": [
            {"dataset": dataset, "name": name, "setting": label, "settings": settings}
            for (name, label, dataset), settings in variants.items()
        ],
        "attackers": {
            attacker.name: {"protocol": protocol, **asdict(attacker)}  # type: ignore[call-overload]
            for protocol, names in dict.fromkeys((m.cell.protocol, m.cell.attackers) for m in measurements)
            for attacker in attackers_for(names, PAPER if protocol == "paper" else SOUND)
        },
        "data": {m.cell.dataset: {"fingerprint": m.cell.data, **data.get(m.cell.dataset, {})} for m in measurements},
        "versions": versions_of(measurements),
    }


def diverged(measurements: Iterable[Measurement]) -> list[str]:
    """One line for every cell whose method blew up: its numbers are of what was least bad before, not of the method."""
    return [
        f"{m.cell.dataset}, {m.cell.title}: diverged after {m.details['unlearning']['steps']} steps"
        for m in measurements
        if m.details["unlearning"].get("stopped") == "diverged"
    ]


def versions_of(measurements: Iterable[Measurement]) -> dict[str, str]:
    """The versions of Python and libraries the cells were measured with; all of them, where cells differ."""
    found: dict[str, set[str]] = {}
    for measurement in measurements:
        for name, version in measurement.details["versions"].items():
            found.setdefault(name, set()).add(version)
    return {name: ", ".join(sorted(versions)) for name, versions in found.items()}
