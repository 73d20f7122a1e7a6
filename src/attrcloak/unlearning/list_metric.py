"""What a move does to a user's own list of recommendations, and moves that disturb it least."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attrcloak.moments.cell_moments import ClassMoments, Matrix
from attrcloak.unlearning.method import RankingLoss

_CATALOGUE = 0.5
"""Weight of all items beside those of the list, so that no stranger climbs into it."""
_RIDGE = 0.1
"""Weight of the plain squared move beside both: a direction that no item uses is not free of charge."""
_ROUNDS = 6
"""Rounds over the attributes until all class means all but agree."""
_CHUNK = 512
MOST_USERS = 8192
"""Users among whom each user's nearest are looked for, where users stand for items."""


@dataclass(frozen=True, eq=False)
class ListMetric:
    """The cost of a move delta of user u is delta^T H_u delta.

        H_u = C_u / tr C_u + 1/2 G / tr G + 1/10 I / d,

    C_u the covariance of the item vectors at the head of u's list of unseen items: the first term is the variance of
    the changes of their scores, and a move that lifts all of them alike costs nothing there. G is the covariance of
    all items. Users differ, so the moves that change a class mean by m at least cost are H_u^-1 (mean H^-1)^-1 m: each
    gives way where their own list lets them.

    Attributes:
        compliance: (n, d, d) float32 H_u^-1, divided by their mean from the right, so that a pull all users get
            alike moves their mean by just that pull.
    """

    compliance: NDArray[np.float32]

    @classmethod
    def of_unseen(
        cls, loss: RankingLoss, vectors: Matrix, who: NDArray[np.int64], basis: Matrix, length: int
    ) -> "ListMetric":
        """From the unseen items that suit each user best, whatever constants are added to the score.

        Args:
            loss: knows items and what was seen.
            vectors: (n, d_free) all users.
            who: (m,) rows of the users whose metric is wanted.
            basis: (d_free, d) orthonormal directions in which they will move.
            length: unseen items of a list that count.
        """
        return cls.of_lists(loss.items @ basis, loss.best_unseen(vectors, length, constants=False)[0][who])

    @classmethod
    def of_users(
        cls, vectors: Matrix, who: NDArray[np.int64], basis: Matrix, length: int, rng: np.random.Generator
    ) -> "ListMetric":
        """From the users nearest to each, where no items are known.

        Vectors of items lie where those of their users do, so users stand for items here: those whom a user agrees with
        most, by the product of what is theirs beyond the mean, the user among them.

        Args:
            vectors: (n, d_free) all users.
            who: (m,) rows of the users whose metric is wanted.
            basis: (d_free, d) orthonormal directions in which they will move.
            length: users of a list.
            rng: chooses whom to look among, where there are more than ``MOST_USERS``.
        """
        places = vectors @ basis
        places = (places - places.mean(axis=0)).astype(np.float32)
        known = len(places) if len(places) <= MOST_USERS else MOST_USERS
        others = places if known == len(places) else places[rng.choice(len(places), known, replace=False)]
        lists = np.empty((len(who), min(length, known)), dtype=np.int64)
        for start in range(0, len(who), _CHUNK):
            scores = places[who[start : start + _CHUNK]] @ others.T
            lists[start : start + _CHUNK] = np.argpartition(-scores, lists.shape[1] - 1, axis=1)[:, : lists.shape[1]]
        return cls.of_lists(others.astype(np.float64), lists)

    @classmethod
    def of_lists(cls, items: Matrix, lists: NDArray[np.int64]) -> "ListMetric":
        """From the head of every user's list.

        Args:
            items: (I, d).
            lists: (m, length) rows of ``items``, -1 past the end of a list.
        """
        d = items.shape[1]
        catalogue = np.atleast_2d(np.cov(items.T, bias=True))
        floor = _CATALOGUE * catalogue / _trace(catalogue) + _RIDGE * np.eye(d) / d
        compliance = np.empty((len(lists), d, d), dtype=np.float32)
        for start in range(0, len(lists), _CHUNK):
            chosen = lists[start : start + _CHUNK]
            listed = (chosen >= 0)[:, :, None]
            head = items[chosen] * listed
            head = (head - head.sum(axis=1, keepdims=True) / np.maximum(listed.sum(axis=1, keepdims=True), 1)) * listed
            covariance = np.swapaxes(head, 1, 2) @ head
            compliance[start : start + _CHUNK] = np.linalg.inv(covariance / _trace(covariance) + floor)
        whole = np.linalg.inv(compliance.mean(axis=0, dtype=np.float64)).astype(np.float32)
        for start in range(0, len(lists), _CHUNK):
            compliance[start : start + _CHUNK] = compliance[start : start + _CHUNK] @ whole
        return cls(compliance)

    def bent(self, steps: Matrix) -> Matrix:
        """(n, d) steps turned to where each user's list minds less; where all users get one step, its mean stays."""
        narrow = steps.astype(np.float32)[:, :, None]
        return np.asarray(np.matmul(self.compliance, narrow)[:, :, 0], dtype=np.float64)

    def with_means(self, vectors: Matrix, codes: NDArray[np.int32], goals: Sequence[ClassMoments]) -> Matrix:
        """(n, d) vectors whose class means are near those of the goals, at least cost for the lists.

        Args:
            vectors: (n, d).
            codes: (n, A) classes, -1 where not marked.
            goals: one set of class moments an attribute; only the means are read.
        """
        now = vectors.copy()
        members = [[np.flatnonzero(codes[:, a] == k) for k in range(len(goal.count))] for a, goal in enumerate(goals)]
        mean_compliance = [
            [self.compliance[rows].mean(axis=0, dtype=np.float64) if len(rows) else None for rows in classes]
            for classes in members
        ]
        for _ in range(_ROUNDS):
            for goal, classes, compliances in zip(goals, members, mean_compliance, strict=True):
                for wanted, rows, compliance in zip(goal.mean, classes, compliances, strict=True):
                    if compliance is not None:
                        pull = np.linalg.solve(compliance, wanted - now[rows].mean(axis=0))
                        now[rows] += self.compliance[rows] @ pull.astype(np.float32)
        return now


def shifted(vectors: Matrix, codes: NDArray[np.int32], goals: Sequence[ClassMoments]) -> Matrix:
    """(n, d) vectors whose class means are near those of the goals, every user of a class moved alike.

    Args:
        vectors: (n, d).
        codes: (n, A) classes, -1 where not marked.
        goals: one set of class moments an attribute; only the means are read.
    """
    now = vectors.copy()
    for _ in range(_ROUNDS):
        for goal, column in zip(goals, codes.T, strict=True):
            for k, wanted in enumerate(goal.mean):
                rows = column == k
                if rows.any():
                    now[rows] += wanted - now[rows].mean(axis=0)
    return now


def _trace(matrices: Matrix) -> Matrix:
    """(..., 1, 1) traces, 1 where a matrix is 0."""
    traces = np.trace(matrices, axis1=-2, axis2=-1)[..., None, None]
    return np.asarray(np.where(traces > 0, traces, 1.0))
