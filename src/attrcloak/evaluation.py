"""How good recommendations are: NDCG and hit rate per user, with intervals, overall and per class.

Three protocols of a split (every number names the one it was measured by):

    leave-one-out   the user's last item among all items the user has not seen in training or validation
    sampled-99      the user's last item among itself and 99 random unseen items; higher numbers, not comparable
    paper           how well the training items are ranked, nothing masked (Wu et al. 2025): fit, not foresight

``evaluate_held_out`` has no split, only who has seen and who took what:

    held-out        all items a user took later, one or more, among all that the user had not seen

Items of equal score: the relevant ones are placed last. A model that scores everything alike earns nothing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from attrcloak.data.attributes import UserAttributes
from attrcloak.data.interactions import NO_ITEM, Split
from attrcloak.errors import InvalidInput, InvalidSettings
from attrcloak.progress import Progress

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Protocol = Literal["leave-one-out", "sampled-99", "paper", "held-out"]
Interval = tuple[float, float]
PROTOCOLS: tuple[Protocol, ...] = ("leave-one-out", "sampled-99", "paper")
CUTOFFS = (5, 10)
METRICS = ("ndcg@5", "ndcg@10", "hr@5", "hr@10")
RESAMPLES = 1000
SAMPLED_NEGATIVES = 99

_CHUNK = 512
_CHUNK_BYTES = 1 << 26
"""Scores of a chunk in float64, where items may be millions; some four times that is held at once."""
_DISCOUNTS = 1 / np.log2(np.arange(2, max(CUTOFFS) + 2))


@dataclass(frozen=True, eq=False)
class UtilityReport:
    """NDCG and hit rate of one set of user vectors.

    Attributes:
        protocol: what the numbers mean.
        users: users who have something to be ranked; the others are left out.
        values: mean over these users of "ndcg@5", "ndcg@10", "hr@5", "hr@10", each in [0, 1].
        ci: 95 % interval of each mean: normal, over users.
        per_user: (users,) values of each metric, in the order of ``rows``.
        rows: (users,) rows of these users in the split.
        per_class: for each attribute and class the users, "ndcg@10", "hr@10" and their "ci"; classes without a user
            are left out.
        seed: of the sampled negatives.
    """

    protocol: Protocol
    users: int
    values: Mapping[str, float]
    ci: Mapping[str, Interval]
    per_user: Mapping[str, NDArray[np.float64]] = field(repr=False)
    rows: NDArray[np.int64] = field(repr=False)
    per_class: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(repr=False)
    seed: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain values for a report file; nothing per user."""
        return {
            "protocol": self.protocol,
            "users": self.users,
            **self.values,
            "ci": {metric: list(interval) for metric, interval in self.ci.items()},
            "per_class": {
                attribute: {
                    label: {**cell, "ci": {metric: list(interval) for metric, interval in cell["ci"].items()}}
                    for label, cell in classes.items()
                }
                for attribute, classes in self.per_class.items()
            },
            "seed": self.seed,
        }

    def paired_ratio(
        self, before: "UtilityReport", metric: str = "ndcg@10", seed: int = 0
    ) -> tuple[float, float, float]:
        """This report's mean as a share of the one before, with a paired interval: see ``paired_ratio``."""
        return paired_ratio(self, before, metric, seed)


def evaluate(
    score: Callable[[NDArray[np.int64]], NDArray[np.floating]],
    split: Split,
    *,
    protocol: Protocol = "leave-one-out",
    people: UserAttributes | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> UtilityReport:
    """Rank items for every user of a split and measure the ranking. A chunk of users at a time.

    Args:
        score: takes (m,) rows of users and returns (m, I) scores of all items, higher is better; never changed.
        split: what was trained on and what is held out.
        protocol: see the module.
        people: attributes for the table per class, joined by id.
        seed: of the negatives of sampled-99. The same seed draws the same for every model, so reports can be paired.
        progress: called with ("evaluating", users done, users).

    Raises:
        InvalidInput: nobody can be evaluated, or ``score`` returns another shape or values that are not numbers.
        InvalidSettings: there is no such protocol.
    """
    if protocol not in PROTOCOLS:
        raise InvalidSettings(f"there is no protocol {protocol!r}; there are: {', '.join(PROTOCOLS)}")
    users, items = len(split.train.users), len(split.train.items)
    eligible = split.test_items != NO_ITEM
    if protocol == "paper":
        eligible = np.bincount(split.train.user_rows, minlength=users) > 0
    rows = np.flatnonzero(eligible)
    if len(rows) == 0:
        raise InvalidInput(f"none of the {users} users has a held-out item; there is nothing to evaluate")
    rng = np.random.default_rng(seed)
    per_user = {metric: np.empty(len(rows)) for metric in METRICS}
    for start in range(0, len(rows), _CHUNK):
        chunk = rows[start : start + _CHUNK]
        scores = _checked(score(chunk), len(chunk), items)
        if protocol == "paper":
            measured = _several(scores, split.train.matrix[chunk])
        else:
            measured = _held_out(_places(scores, chunk, split, rng if protocol == "sampled-99" else None))
        for metric, values in measured.items():
            per_user[metric][start : start + len(chunk)] = values
        if progress is not None:
            progress("evaluating", start + len(chunk), len(rows))
    classes = {} if people is None else _per_class(per_user, people.align(split.train.users.take(rows)))
    return _report(protocol, per_user, rows, classes, seed)


def evaluate_held_out(
    score: Callable[[NDArray[np.int64]], NDArray[np.floating]],
    seen: "csr_array",
    held_out: "csr_array",
    *,
    progress: Progress | None = None,
) -> UtilityReport:
    """Rank, for every user, all items that the user had not seen, and find those that the user took later.

    NDCG with all of these relevant alike, ideal at min(K, relevant) of them on top; HR@K = hits / min(K, relevant).

    Args:
        score: as in ``evaluate``.
        seen: (m, I) 1 for items of training; never recommended, and not counted where they are held out too.
        held_out: (m, I) 1 for items to find; a user without any is left out.
        progress: called with ("evaluating", users done, users).

    Raises:
        InvalidInput: nobody has an item to find, or ``score`` returns another shape or values that are not numbers.
    """
    relevant = held_out - held_out * seen
    relevant.eliminate_zeros()
    rows = np.flatnonzero(np.diff(relevant.indptr))
    if len(rows) == 0:
        raise InvalidInput(
            f"none of {held_out.shape[0]} users has a held-out item not seen before; there is nothing to evaluate"
        )
    per_user = {metric: np.empty(len(rows)) for metric in METRICS}
    at_once = min(max(_CHUNK_BYTES // (8 * held_out.shape[1]), 1), _CHUNK)
    for start in range(0, len(rows), at_once):
        chunk = rows[start : start + at_once]
        scores = _checked(score(chunk), len(chunk), held_out.shape[1])
        pairs = seen[chunk].tocoo()
        known = pairs.data != 0
        scores[pairs.row[known], pairs.col[known]] = -np.inf
        for metric, values in _several(scores, relevant[chunk]).items():
            per_user[metric][start : start + len(chunk)] = values
        if progress is not None:
            progress("evaluating", start + len(chunk), len(rows))
    return _report("held-out", per_user, rows, {}, 0)


def _report(
    protocol: Protocol,
    per_user: Mapping[str, NDArray[np.float64]],
    rows: NDArray[np.int64],
    per_class: Mapping[str, Mapping[str, Mapping[str, Any]]],
    seed: int,
) -> UtilityReport:
    return UtilityReport(
        protocol=protocol,
        users=len(rows),
        values={metric: float(values.mean()) for metric, values in per_user.items()},
        ci={metric: _interval(values) for metric, values in per_user.items()},
        per_user=per_user,
        rows=rows,
        per_class=per_class,
        seed=seed,
    )


def paired_ratio(
    after: UtilityReport, before: UtilityReport, metric: str = "ndcg@10", seed: int = 0
) -> tuple[float, float, float]:
    """Mean after / mean before, with a 95 % interval that resamples users, the same ones in both.

    Args:
        after: report of the changed vectors.
        before: report of the original, over the same users by the same protocol and seed.
        metric: one of "ndcg@5", "ndcg@10", "hr@5", "hr@10".
        seed: of the resampling.

    Returns:
        Ratio, lower and upper end. A ratio of a weak model means little: print the means beside it.

    Raises:
        InvalidInput: the reports are not over the same users, protocol or draw, or the mean before is 0.
        InvalidSettings: there is no such metric.
    """
    if metric not in METRICS:
        raise InvalidSettings(f"there is no metric {metric!r}; there are: {', '.join(METRICS)}")
    problems = []
    if after.protocol != before.protocol:
        problems.append(f"one report is {after.protocol}, the other {before.protocol}; compare within one protocol")
    elif after.protocol == "sampled-99" and after.seed != before.seed:
        problems.append(f"the negatives are of seeds {after.seed} and {before.seed}; evaluate both with one seed")
    if not np.array_equal(after.rows, before.rows):
        problems.append(f"the reports cover {after.users} and {before.users} users, and not the same ones")
    if before.values[metric] == 0:
        problems.append(f"{metric} before is 0, so there is no ratio; is the original model trained?")
    if problems:
        raise InvalidInput(problems)
    x, y = after.per_user[metric], before.per_user[metric]
    rng = np.random.default_rng(seed)
    ratios = np.empty(RESAMPLES)
    for draw in range(RESAMPLES):
        chosen = rng.integers(0, len(x), size=len(x))
        below = y[chosen].sum()
        ratios[draw] = x[chosen].sum() / below if below > 0 else np.nan
    low, high = np.nanquantile(ratios, (0.025, 0.975))
    return float(x.mean() / y.mean()), float(low), float(high)


def _checked(scores: NDArray[np.floating], users: int, items: int) -> NDArray[np.floating]:
    """A copy that may be masked in place; scores must be finite, or a mask would not be told from a bad score."""
    scores = np.array(scores)
    if scores.shape != (users, items):
        raise InvalidInput(f"scores have shape {scores.shape}, expected (users, items) = ({users}, {items})")
    if scores.dtype.kind != "f":
        scores = scores.astype(np.float64)
    bad = int((~np.isfinite(scores)).sum())
    if bad:
        raise InvalidInput(f"{bad} scores are NaN or infinite; the model did not train to the end?")
    return scores


def _places(
    scores: NDArray[np.floating], rows: NDArray[np.int64], split: Split, rng: np.random.Generator | None
) -> NDArray[np.int64]:
    """(m,) place of each test item, 0 is the top: among all unseen items, or among 99 of them drawn by ``rng``."""
    here = np.arange(len(rows))
    target = split.test_items[rows]
    hidden = np.zeros(scores.shape, dtype=bool)
    seen = split.train.matrix[rows].tocoo()
    hidden[seen.row, seen.col] = True
    validation = split.validation_items[rows]
    has_validation = validation != NO_ITEM
    hidden[here[has_validation], validation[has_validation]] = True
    hidden[here, target] = True  # the item itself is no rival
    if rng is not None:
        # The smallest 99 of random keys are a uniform draw without replacement; masked items get keys above all.
        keys = rng.random(scores.shape)
        keys[hidden] = 2.0
        if scores.shape[1] > SAMPLED_NEGATIVES:
            limit = np.partition(keys, SAMPLED_NEGATIVES - 1, axis=1)[:, SAMPLED_NEGATIVES - 1 : SAMPLED_NEGATIVES]
            hidden |= keys > limit
    ahead = (scores >= scores[here, target][:, None]) & ~hidden
    places: NDArray[np.int64] = ahead.sum(axis=1)
    return places


def _held_out(places: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """Metrics of one relevant item at the given place: NDCG = 1 / log2(place + 2) within the list, else 0."""
    measured = {}
    for cutoff in CUTOFFS:
        inside = places < cutoff
        measured[f"ndcg@{cutoff}"] = np.where(inside, 1 / np.log2(places + 2.0), 0.0)
        measured[f"hr@{cutoff}"] = inside.astype(np.float64)
    return measured


def _several(scores: NDArray[np.floating], relevant: "csr_array") -> dict[str, NDArray[np.float64]]:
    """Metrics with several relevant items (m, I) each: HR@K = hits / min(K, relevant), ideal NDCG likewise."""
    length = min(max(CUTOFFS), scores.shape[1])
    is_relevant = np.zeros(scores.shape, dtype=bool)
    pairs = relevant.tocoo()
    is_relevant[pairs.row, pairs.col] = True
    # Ties: lexsort by score, then irrelevant before relevant, on the few items that can reach the list.
    limit = np.partition(scores, scores.shape[1] - length, axis=1)[:, scores.shape[1] - length]
    hits = np.zeros((len(scores), max(CUTOFFS)), dtype=np.float64)
    for row in range(len(scores)):
        candidates = np.flatnonzero(scores[row] >= limit[row])
        order = np.lexsort((is_relevant[row, candidates], -scores[row, candidates]))[:length]
        hits[row, : len(order)] = is_relevant[row, candidates[order]]
    counts = is_relevant.sum(axis=1)
    ideal = np.concatenate(([0.0], np.cumsum(_DISCOUNTS)))
    measured = {}
    for cutoff in CUTOFFS:
        possible = np.minimum(counts, cutoff)
        measured[f"ndcg@{cutoff}"] = hits[:, :cutoff] @ _DISCOUNTS[:cutoff] / ideal[possible]
        measured[f"hr@{cutoff}"] = hits[:, :cutoff].sum(axis=1) / possible
    return measured


def _interval(values: NDArray[np.float64]) -> Interval:
    """95 % normal interval of a mean over users, within [0, 1]; the whole of it with a single user."""
    if len(values) < 2:
        return 0.0, 1.0
    mean, half = float(values.mean()), 1.96 * float(values.std(ddof=1)) / float(np.sqrt(len(values)))
    return max(0.0, mean - half), min(1.0, mean + half)


def _per_class(
    per_user: Mapping[str, NDArray[np.float64]], people: UserAttributes
) -> dict[str, dict[str, dict[str, Any]]]:
    table: dict[str, dict[str, dict[str, Any]]] = {}
    for name, attribute in people.columns.items():
        table[name] = {}
        for code, label in enumerate(attribute.classes):
            members = attribute.codes == code
            if not members.any():
                continue
            shown = {metric: per_user[metric][members] for metric in ("ndcg@10", "hr@10")}
            table[name][label] = {
                "users": int(members.sum()),
                **{metric: float(values.mean()) for metric, values in shown.items()},
                "ci": {metric: _interval(values) for metric, values in shown.items()},
            }
    return table
