"""What an audit lets one say of a table: protected or not, why, and what to try next."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from attrcloak.auditing import SOUND, AttackResult, AuditReport
from attrcloak.auditing.questions import ASKED
from attrcloak.auditing.report import EQUATIONS
from attrcloak.unlearning.calibrated import Calibrated
from attrcloak.unlearning.calibrated_dd import CalibratedDD
from attrcloak.unlearning.calibrated_flow import CalibratedFlow

COVER_SET = "UserAttributes.cover, --cover; for files, add users drawn at random to the requests"
"""How to move users along who did not ask."""
MARGIN = 0.03
"""How far from chance an attacker's balanced accuracy may lie, on either side, in a table called protected."""
_OF_MOMENTS = ("logistic", "qda")
"""Attackers that read means, and means and covariances."""
_PERHAPS_CHANCE = "among so few users that may be chance"


@dataclass(frozen=True)
class Verdict:
    """Whether the attackers of the audit are at chance, from both sides.

    Attributes:
        protected: every attacker on the vectors is, within the margin. With few users intervals are wide, and that
            says little.
        reasons: one sentence for each that is not, and for each attribute that could not be tested.
        next_steps: what to try.
        warnings: what the audit could not look at or could not see, such as classes with too few users or leaks within
            wide intervals; it protects nobody in there.
    """

    protected: bool
    reasons: tuple[str, ...]
    next_steps: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "protected": self.protected,
            "reasons": list(self.reasons),
            "next_steps": list(self.next_steps),
            "warnings": list(self.warnings),
        }


def judge(
    report: AuditReport,
    attributes: Sequence[str] | None = None,
    margin: float = MARGIN,
    method: str | None = None,
    affine: bool = False,
) -> Verdict:
    """Protected unless an attacker is away from chance.

    An attacker on the vectors counts against a table when its balanced accuracy lies more than ``margin`` from chance,
    above or below, whatever its interval; when its own 95 % interval excludes chance and it lies beyond a line that
    leaves room for what other folds and seeds would find: h / sqrt(seeds) before the margin, two standard deviations
    where h is half the width of its interval; or when relabelling its answers (the adaptive attacker) brings it beyond
    that line above chance, and beyond h. Intervals are not widened for there being many attackers, and a table of few
    users may be refused for nothing: that costs its owner another draw, where one that is passed with a leak costs its
    users more. The moment equations count above chance only. An attribute without any result counts against the table
    too: what was not tested is not called protected. Classes that were left out are warned of, and so are attributes
    whose intervals are wider than the margin, and a table that shows who asked: that is no class of an attribute, and
    hiding it is not what was asked for.

    Args:
        report: of the table.
        attributes: those that must have been tested; None takes what the report has.
        margin: how far from chance is still at chance.
        method: name of the method that made the table, so that the next steps are not what was just done.
        affine: whether it could move users by one affine map a class only, as in files.
    """
    seeds = int(report.protocol.get("seeds", SOUND.seeds))
    reasons = []
    widest: dict[str, float] = {}
    readers: dict[tuple[str, str], None] = {}  # in their order
    on_vectors = [result for result in report.results if result.surface == "vectors" and result.attribute != ASKED]
    for result in on_vectors:
        low, high = result.ci
        what = f"{result.attribute}: {result.attacker} with {result.known:.0%} of labels known"
        numbers = f"{result.balanced_accuracy:.3f} [{low:.3f}, {high:.3f}]"
        apart = result.balanced_accuracy - result.chance
        # Below chance the moment equations do not hold: that attacker has nothing to turn round.
        leak = apart if result.attacker == EQUATIONS else abs(apart)
        perhaps_chance = low <= result.chance <= high
        half_width = (high - low) / 2
        line = margin - half_width / np.sqrt(seeds)
        away = leak > margin or (leak > line and not perhaps_chance)
        if away:
            readers[result.attacker, result.attribute] = None
            side = "above" if apart > 0 else "below"
            but = f", though {_PERHAPS_CHANCE}" if perhaps_chance else ""
            reasons.append(f"{what} is at {numbers}, {side} chance ({result.chance:.3f}){but}")
        widest[result.attribute] = max(widest.get(result.attribute, 0.0), half_width)
        if result.adaptive_balanced_accuracy > result.chance + max(line, half_width) and (perhaps_chance or not away):
            readers[result.attacker, result.attribute] = None
            reasons.append(
                f"{what} reaches {result.adaptive_balanced_accuracy:.3f} with relabelled answers, "
                f"above chance ({result.chance:.3f})"
            )
    tested = {result.attribute for result in on_vectors}
    reasons += [
        f"{name}: no attacker could be tested (too few users with a known class)"
        for name in (tested if attributes is None else attributes)
        if name not in tested
    ]
    unseen = [
        f"{name}: with so few users intervals are {width:.3f} to either side, and a leak of that size may not show"
        for name, width in widest.items()
        if width > margin and not any(reason.startswith(f"{name}: ") for reason in reasons)
    ]
    warnings = (*report.notes, *unseen, *_not_in_moments(on_vectors, readers), *_shows_who_asked(report))
    return Verdict(not reasons, tuple(reasons), _next_steps(reasons, method, affine), warnings)


def _not_in_moments(results: Sequence[AttackResult], readers: Iterable[tuple[str, str]]) -> list[str]:
    """Attributes that are read, but by neither of the attackers of means and covariances."""
    found = []
    for attribute in dict.fromkeys(result.attribute for result in results):
        others = [attacker for attacker, read in readers if read == attribute]
        tested = {result.attacker for result in results if result.attribute == attribute}
        if others and tested.issuperset(_OF_MOMENTS) and not {*others} & {*_OF_MOMENTS, EQUATIONS}:
            found.append(
                f"{attribute}: {' and '.join(others)} read it where {' and '.join(_OF_MOMENTS)} do not, so it hardly "
                "lies in means and covariances, and a small surrogate says nothing of it"
            )
    return found


def _shows_who_asked(report: AuditReport) -> list[str]:
    found = [result for result in report.results if result.surface == "vectors" and result.attribute == ASKED]
    telling = [result for result in found if result.ci[0] > result.chance + MARGIN]
    if not telling:
        return []
    best = max(telling, key=lambda result: result.balanced_accuracy)
    return [
        f"the table shows who asked: {best.attacker} tells it with balanced accuracy {best.balanced_accuracy:.3f} "
        f"[{best.ci[0]:.3f}, {best.ci[1]:.3f}]; a cover set ({COVER_SET}) moves others along"
    ]


FEW_USERS_STEP = (
    f"{_PERHAPS_CHANCE}, and no audit can tell: unlearn the table as it was with another key, or wait until more users "
    "have a known class or ask"
)

NEXT_STEPS = (
    (("below chance", "moment-equation"), "class moments were made equal, not calibrated: use --method calibrated"),
    (
        ("xgboost", "mlp", "knn", "qda"),
        "an attacker that sees more than two moments still finds the classes: use --method calibrated, and "
        "--length unit if the vectors are scored by a plain dot product",
    ),
    (
        ("logistic",),
        "a linear attacker still finds the classes: raise the strength (attrcloak-df: --set min_leakage_weight=0.99) "
        "or use --method calibrated",
    ),
    (("no attacker",), "merge small classes, or leave the attribute out and say so"),
)
"""Words that occur in reasons, and what to try then."""

CALIBRATED_NEXT_STEPS = (
    (
        ("moment-equation",),
        "there are few users for so many equations: merge small classes, unlearn fewer attributes at once, or use a "
        "table with fewer dimensions",
    ),
    (
        ("xgboost", "mlp", "knn", "qda", "logistic"),
        "classes still differ in shape: use the flow (--method calibrated-flow; its time grows with the square of the "
        "users) or more slices (--set slices=60), and --length unit if the vectors are scored by a plain dot product",
    ),
    (("no attacker",), "merge small classes, or leave the attribute out and say so"),
)
"""The same for a table that was made by the calibrated method."""


def _where_shapes_differ(step: str) -> tuple[tuple[tuple[str, ...], str], ...]:
    """The steps of the calibrated method, but for what to do where classes still differ in shape."""
    equations, shapes, untested = CALIBRATED_NEXT_STEPS
    return (equations, (shapes[0], step), untested)


FLOW_NEXT_STEPS = _where_shapes_differ(
    "classes still differ in a way that the flow does not move, or keep what they show by chance: try "
    "--method calibrated, which draws that anew and evens out single directions, as trees read them, and costs more of "
    "the recommendations; merge small classes where there are some"
)
"""The same for methods that flow."""

AFFINE_NEXT_STEPS = _where_shapes_differ(
    "classes still differ in shape, which one affine map a class does not mend: put the table into one file and "
    "unlearn it in memory, where slices follow; use --length unit if the vectors are scored by a plain dot product"
)
"""The same where no slices could follow, for tables in files."""


def _next_steps(reasons: Sequence[str], method: str | None, affine: bool) -> tuple[str, ...]:
    text = " ".join(reasons)
    steps: Sequence[tuple[tuple[str, ...], str]]
    if method in (CalibratedFlow.name, CalibratedDD.name):
        steps = FLOW_NEXT_STEPS
    elif method == Calibrated.name:
        steps = AFFINE_NEXT_STEPS if affine else CALIBRATED_NEXT_STEPS
    else:
        steps = NEXT_STEPS
    found = [step for words, step in steps if any(word in text for word in words)]
    if _PERHAPS_CHANCE in text:
        found.insert(0, FEW_USERS_STEP)
    return tuple(found)


def either(verdict: Verdict, by_others: Verdict, method: str) -> Verdict:
    """Protected from attackers of either knowledge: of a share of everybody, and of users who did not ask.

    Args:
        verdict: on attackers who know a share of everybody.
        by_others: on attackers who know only users who did not ask; its reasons say so in the verdict of both.
        method: name of the method that made the table.
    """
    taught: tuple[str, ...] = ()
    if by_others.reasons:
        taught = (CALIBRATED_TAUGHT_BY_OTHERS if method in CALIBRATED else TAUGHT_BY_OTHERS,)
    return Verdict(
        verdict.protected and by_others.protected,
        verdict.reasons + tuple(map(_by_others, by_others.reasons)),
        tuple(dict.fromkeys(verdict.next_steps + taught + by_others.next_steps)),
        verdict.warnings + tuple(_by_others(text) for text in by_others.warnings if text not in verdict.warnings),
    )


def _by_others(text: str) -> str:
    """A sentence about attackers who know only users who did not ask."""
    return f"{text}, knowing only users who did not ask"


CALIBRATED = (Calibrated.name, CalibratedDD.name, CalibratedFlow.name)

TAUGHT_BY_OTHERS = (
    "users who did not ask teach attackers what chance would explain among few: use --method calibrated, which takes "
    "all from the draw then, or move others along with a cover set "
    f"({COVER_SET})"
)

CALIBRATED_TAUGHT_BY_OTHERS = (
    f"users who did not ask teach what those who asked still show: move others along with a cover set ({COVER_SET})"
)
