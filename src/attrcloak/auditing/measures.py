"""What is read off an attack: balanced accuracy, AUC, the best relabelling, a permutation p-value."""

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Codes = NDArray[np.integer]


def class_means(rates: Matrix, codes: Codes, classes: int) -> Matrix:
    """(..., K) mean over the users of each class.

    Args:
        rates: (..., n) a number for each user; NaN for users who were not attacked.
        codes: (n,) classes.
        classes: K.
    """
    there = ~np.isnan(rates)
    members = np.eye(classes)[codes]
    return np.asarray((np.where(there, rates, 0.0) @ members) / np.maximum(there.astype(np.float64) @ members, 1e-300))


def balanced_accuracy(predicted: Codes, codes: Codes, classes: int) -> float:
    """Mean over the classes that occur of the share of that class found."""
    occurs = np.bincount(codes, minlength=classes) > 0
    return float(class_means((predicted == codes).astype(np.float64), codes, classes)[occurs].mean())


def auc(scores: Matrix, codes: Codes) -> float:
    """Area under the ROC curve, each class against the rest, mean over classes; ties count one half.

    Args:
        scores: (t, K) a score for each class.
        codes: (t,) true classes; those that do not occur, or alone occur, are left out. NaN when none is left.
    """
    from scipy.stats import rankdata

    counts = np.bincount(codes, minlength=scores.shape[1])
    usable = (counts > 0) & (counts < len(codes))
    if not usable.any():
        return float("nan")
    ranks = rankdata(scores, axis=0)
    sums = np.einsum("tk,tk->k", ranks, np.eye(scores.shape[1])[codes])
    areas = (sums - counts * (counts + 1) / 2) / np.maximum(counts * (len(codes) - counts), 1)
    return float(areas[usable].mean())


def relabelling(predicted: Codes, codes: Codes, classes: int) -> NDArray[np.int64]:
    """The one-to-one relabelling of answers that gains most balanced accuracy on users whose class is known.

    With a handful of users a class, some relabelling always looks better by luck, and an attacker who believed it
    would do worse. So the validation users are halved, the best relabelling of each half is judged on the other, and
    the one of both halves together is taken only where that gain is more than its own standard error.

    Args:
        predicted: (v,) answers on the validation users.
        codes: (v,) their classes.
        classes: K.

    Returns:
        (K,) the new answer for each old one.
    """
    half = np.zeros(len(codes), dtype=np.int64)
    for k in range(classes):
        half[codes == k] = np.arange((codes == k).sum()) % 2
    gains = np.empty(len(codes))
    for side in (0, 1):
        names = _best_relabelling(predicted[half == side], codes[half == side], classes)
        other = half != side
        gains[other] = (names[predicted[other]] == codes[other]) * 1.0 - (predicted[other] == codes[other])
    mean = class_means(gains, codes, classes)
    spread = class_means(gains**2, codes, classes) - mean**2
    counts = np.bincount(codes, minlength=classes)
    occurs = counts > 0
    error = np.sqrt((spread[occurs] / counts[occurs]).sum()) / max(occurs.sum(), 1)
    if not occurs.any() or mean[occurs].mean() <= error:
        return np.arange(classes)
    return _best_relabelling(predicted, codes, classes)


def _best_relabelling(predicted: Codes, codes: Codes, classes: int) -> NDArray[np.int64]:
    from scipy.optimize import linear_sum_assignment

    confusion = np.zeros((classes, classes))
    np.add.at(confusion, (codes, predicted), 1)
    # Answers that never came up stay as they are where nothing is gained by moving them.
    gain = confusion / np.maximum(confusion.sum(axis=1), 1)[:, None] + 1e-9 * np.eye(classes)
    truth, answers = linear_sum_assignment(-gain)
    found = np.empty(classes, dtype=np.int64)
    found[answers] = truth
    return found


def permutation_p(answers: Matrix, codes: Codes, shuffles: int, rng: np.random.Generator) -> float:
    """How often shuffled labels are met as well, from either side, by answers that stay as they are.

    Args:
        answers: (n, K) how often each user got each answer, as shares; rows of users under attack sum to 1.
        codes: (n,) true classes, all K of them.
        shuffles: number of label permutations.
        rng: draws them.

    Returns:
        (1 + shuffles at least as far from the mean of all) / (1 + shuffles). The attackers are not fitted again, so
        this asks whether the answers go with the labels, not what fitting on noise would give.
    """
    counts = np.bincount(codes, minlength=answers.shape[1])
    worth = answers / (answers.shape[1] * np.maximum(counts, 1))
    users = np.arange(len(codes))
    found = float(worth[users, codes].sum())
    drawn = np.array([worth[users, rng.permutation(codes)].sum() for _ in range(shuffles)])
    centre = float(worth.sum(axis=0) @ (counts / len(codes)))
    return float((1 + (np.abs(drawn - centre) >= abs(found - centre) - 1e-12).sum()) / (1 + shuffles))
