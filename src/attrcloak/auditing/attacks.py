"""One attack: fit, score, relabel. And the same attack over all splits, gathered into one result."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attrcloak.attackers import Attacker
from attrcloak.auditing.intervals import bootstrap_interval
from attrcloak.auditing.measures import auc, balanced_accuracy, class_means, permutation_p, relabelling
from attrcloak.auditing.protocols import Protocol, rotations
from attrcloak.auditing.questions import Question
from attrcloak.auditing.report import AttackResult
from attrcloak.auditing.surfaces import Surface

VALIDATION = 0.25
"""Share of the known users the adaptive attacker keeps aside to choose its relabelling on."""


@dataclass(frozen=True, eq=False)
class Answers:
    """What one fit answered.

    Attributes:
        round: which repeat, in [0, seeds).
        users: (t,) users under attack, as positions in the question.
        predicted: (t,) answers.
        relabelled: (t,) answers of the adaptive attacker.
        auc: area under the ROC curve.
    """

    round: int
    users: NDArray[np.int64]
    predicted: NDArray[np.int64]
    relabelled: NDArray[np.int64]
    auc: float


def attack(
    attacker: Attacker, surface: Surface, question: Question, known: NDArray[np.bool_], round_: int, seed: int
) -> Answers:
    """Train on the known users, attack the others; relabel as the known users advise.

    The relabelling comes from a second fit of the same attacker on three quarters of the known users, judged on the
    last quarter, and is applied to the answers of the first fit. Users under attack have no part in it.
    """
    train, test = np.flatnonzero(known & question.may_know), np.flatnonzero(~known & question.under_attack)
    scores = _scores(attacker, surface, question, train, test, seed)
    predicted = scores.argmax(axis=1)
    fitting = rotations(question.codes[train], 1 - VALIDATION, 1, seed)[0]
    inner, held = train[fitting], train[~fitting]
    names = np.arange(len(question.classes))
    if len(inner) and len(held):
        answers = _scores(attacker, surface, question, inner, held, seed).argmax(axis=1)
        names = relabelling(answers, question.codes[held], len(names))
    return Answers(round_, test, predicted, names[predicted], auc(scores, question.codes[test]))


def permuted_control(
    attacker: Attacker, surface: Surface, question: Question, splits: Sequence[NDArray[np.bool_]], seed: int
) -> float:
    """Balanced accuracy of the same attack, fitted and judged on shuffled labels, mean over the splits."""
    shuffled = shuffle(question, seed)
    found = []
    for known in splits:
        train, test = np.flatnonzero(known & question.may_know), np.flatnonzero(~known & question.under_attack)
        predicted = _scores(attacker, surface, shuffled, train, test, seed).argmax(axis=1)
        found.append(balanced_accuracy(predicted, shuffled.codes[test], len(question.classes)))
    return float(np.mean(found))


def shuffle(question: Question, seed: int) -> Question:
    """The same question with the labels of the users to train on shuffled among them, and of those to test on too."""
    rng = np.random.default_rng([seed, 1])
    codes = question.codes.copy()
    both = question.may_know & question.under_attack
    for part in (both, question.may_know & ~both, question.under_attack & ~both):
        codes[part] = rng.permutation(codes[part])
    return Question(
        question.attribute, question.classes, question.rows, codes, question.may_know, question.under_attack
    )


def gather(
    question: Question,
    surface: str,
    attacker: str,
    known: float,
    answers: Sequence[Answers],
    permuted: float,
    protocol: Protocol,
    seed: int,
) -> AttackResult:
    """One result from the answers over all rotations and repeats."""
    codes, classes = question.codes, len(question.classes)
    rounds = 1 + max(found.round for found in answers)
    right, right_relabelled, times = (np.zeros((rounds, len(codes))) for _ in range(3))
    share = np.zeros((len(codes), classes))
    for found in answers:
        truth = codes[found.users]
        right[found.round, found.users] += found.predicted == truth
        right_relabelled[found.round, found.users] += found.relabelled == truth
        times[found.round, found.users] += 1
        share[found.users, found.predicted] += 1
    attacked = times.sum(axis=0) > 0
    times[times == 0] = np.nan
    rates, relabelled = right / times, right_relabelled / times
    rng = np.random.default_rng([seed, 2])
    found_share = float(class_means(rates, codes, classes).mean())
    shares = np.bincount(codes[attacked], minlength=classes) / attacked.sum()
    return AttackResult(
        attribute=question.attribute,
        attacker=attacker,
        surface=surface,
        known=known,
        balanced_accuracy=found_share,
        ci=bootstrap_interval(rates, codes, classes, protocol.resamples, rng),
        auc=float(np.mean([found.auc for found in answers])),
        accuracy=float(right.sum() / np.nansum(times)),
        chance=1 / classes,
        majority=float(shares.max()),
        leakage=abs(found_share - 1 / classes),
        adaptive_balanced_accuracy=float(class_means(relabelled, codes, classes).mean()),
        permutation_p=permutation_p(
            share[attacked] / share[attacked].sum(axis=1, keepdims=True), codes[attacked], protocol.permutations, rng
        ),
        sum_of_squares=float((shares**2).sum()),
        permuted_balanced_accuracy=permuted,
        users=int(attacked.sum()),
        classes=question.classes,
    )


def _scores(
    attacker: Attacker,
    surface: Surface,
    question: Question,
    train: NDArray[np.int64],
    test: NDArray[np.int64],
    seed: int,
) -> NDArray[np.float64]:
    features = surface.features(attacker.reads_sparse)
    return attacker.fit_predict(
        features[question.rows[train]],
        question.codes[train],
        features[question.rows[test]],
        len(question.classes),
        seed,
    )
