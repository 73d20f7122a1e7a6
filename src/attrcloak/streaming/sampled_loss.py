"""A recommender's own loss on some users, its triples drawn by a hash of user and step alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attrcloak.moments.cell_moments import Matrix
from attrcloak.parts.id_keys import Words, mixed
from attrcloak.parts.user_items import UserItems
from attrcloak.recommenders.negatives import Seen
from attrcloak.recommenders.recommender import TRIPLES_PER_USER, BPRLoss

TRIPLES_AT_ONCE = 1 << 14
"""Triples of one call of the loss: their item vectors lie in memory, and better in the cache."""
_ROUNDS = 50
_POSITIVE, _NEGATIVE = np.uint64(0x5851F42D4C957F2D), np.uint64(0x14057B7EF767814F)


@dataclass(frozen=True, eq=False)
class Pull:
    """L^Rec of some users.

    Attributes:
        gradient: (k, d_free) of the mean loss over everybody's triples.
        loss: sum over the triples.
        triples: how many.
    """

    gradient: Matrix
    loss: float
    triples: int


@dataclass(frozen=True, eq=False)
class SampledLoss:
    """BPR of user vectors against frozen items (``BPRLoss``), a part of the users at a time.

    At every step a user with c items gets about ``rate`` * c triples: the whole part of it, and one more with the
    probability of the rest. In expectation that is the gradient of ``BPRLoss`` on one batch of ``batch`` pairs drawn
    from everybody's. All draws come from a hash of (seed, step, user id, number of the draw), so a user has the same
    triples in every cut of the table into files, on every engine, and when a killed run does the part again.

    Attributes:
        items: (I, d_free) item vectors of the free columns.
        frozen_items: (I, d_frozen) the rest; the users' frozen columns hold ones (``Part.frozen_columns``).
        seed: of the draws.
        rate: triples expected for each interaction.
        batch: triples expected in all; the loss is a mean over so many.
    """

    items: Matrix
    frozen_items: Matrix
    seed: int
    rate: float
    batch: float

    @classmethod
    def of(cls, vectors: Matrix, frozen: Sequence[int], *, seed: int, users: int, useful: int) -> "SampledLoss":
        """With as many triples a step as ``Recommender.loss`` has.

        Args:
            vectors: (I, d) of the items.
            frozen: columns that are part of the scoring and not of the user.
            seed: of the draws.
            users: of the whole table.
            useful: interactions of users who have not seen every item.
        """
        batch = float(TRIPLES_PER_USER * users)
        free = np.delete(vectors, list(frozen), axis=1)
        return cls(free, vectors[:, list(frozen)], seed, batch / max(useful, 1), batch)

    def gradient(self, vectors: Matrix, users: UserItems, step: int) -> Pull:
        """The loss and its gradient.

        Args:
            vectors: (k, d_free) of the users.
            users: the same users with their items.
            step: number of the step.
        """
        stream = mixed(users.users ^ mixed(mixed(np.array([self.seed % (1 << 64)], dtype=np.uint64)) + np.uint64(step)))
        expected = self.rate * np.diff(users.starts)
        counts = np.floor(expected + _fraction(stream)).astype(np.int64)
        gradient, loss = np.zeros(vectors.shape), 0.0
        for first, last in _slices(counts):
            part = self._on(vectors[first:last], users.slice(first, last), stream[first:last], counts[first:last])
            gradient[first:last], loss = part[1], loss + part[0]
        return Pull(gradient, loss, int(counts.sum()))

    def _on(self, vectors: Matrix, users: UserItems, stream: Words, counts: NDArray[np.int64]) -> tuple[float, Matrix]:
        seen = np.repeat(np.arange(len(stream)), np.diff(users.starts))
        pairs = Seen(seen, users.items.astype(np.int64), seen * len(self.items) + users.items, len(self.items))
        rows, positives, negatives = triples(pairs, users.starts, stream, counts)
        ones = np.ones((len(stream), self.frozen_items.shape[1]))
        loss, gradient = BPRLoss(self.items, ones, self.frozen_items, pairs).on(vectors, rows, positives, negatives)
        return loss * len(rows), gradient * (len(rows) / self.batch)


def triples(
    seen: Seen, starts: NDArray[np.int64], stream: Words, counts: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """User, seen item, unseen item, each (b,): items drawn uniformly from each user's own, and from the rest.

    Args:
        seen: pairs of user and item, ascending.
        starts: (k + 1,) where each user's pairs begin.
        stream: (k,) what each user's draws come from.
        counts: (k,) triples of each user, 0 where they have seen nothing or everything.
    """
    rows = np.repeat(np.arange(len(counts)), counts)
    number = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    draw = mixed(stream[rows] + number.astype(np.uint64))
    owned = np.diff(starts)[rows]
    positives = seen.items[starts[rows] + _below(mixed(draw ^ _POSITIVE), owned)]
    negatives = np.empty(len(rows), dtype=np.int64)
    again, word = np.arange(len(rows)), draw ^ _NEGATIVE
    for _ in range(_ROUNDS):
        word = mixed(word)
        negatives[again] = _below(word, seen.item_count)
        hit = seen.contains(rows[again], negatives[again])
        again, word = again[hit], word[hit]
        if not len(again):
            return rows, positives, negatives
    every = np.arange(seen.item_count)
    for place, last in zip(again.tolist(), mixed(word), strict=True):  # nearly everything seen
        left = every[~seen.contains(np.full(len(every), rows[place]), every)]
        negatives[place] = left[int(_below(last, len(left)))]
    return rows, positives, negatives


def _fraction(words: Words) -> Matrix:
    """Numbers in [0, 1) with 53 bits."""
    return np.asarray((words >> np.uint64(11)) * 2.0**-53)


def _below(words: Words, bounds: NDArray[np.int64] | int) -> NDArray[np.int64]:
    """Whole numbers in [0, bound)."""
    return np.asarray(_fraction(words) * bounds).astype(np.int64)


def _slices(counts: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Runs of users that have ``TRIPLES_AT_ONCE`` triples together, or one user with more."""
    if not len(counts):
        return []
    number = (np.cumsum(counts) - counts) // TRIPLES_AT_ONCE
    edges = np.flatnonzero(np.diff(number, prepend=-1, append=number[-1] + 1))
    return list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))
