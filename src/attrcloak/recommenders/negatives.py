"""Who has seen what, and draws of items a user has not seen."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attrcloak.data.interactions import Interactions

_ROUNDS = 50


@dataclass(frozen=True, eq=False)
class Seen:
    """Pairs of user and item, ready for drawing training triples.

    Attributes:
        users: (m,) row of the user of each pair, only users who have not seen every item.
        items: (m,) its item.
        pairs: sorted user * item_count + item of every pair.
        item_count: number of items.
    """

    users: NDArray[np.int64]
    items: NDArray[np.int64]
    pairs: NDArray[np.int64]
    item_count: int

    @classmethod
    def of(cls, interactions: Interactions) -> "Seen":
        """From interactions. Users who have seen every item have no negatives and give no triples."""
        users = interactions.user_rows.astype(np.int64)
        items = interactions.item_rows.astype(np.int64)
        count = len(interactions.items)
        useful = np.bincount(users, minlength=len(interactions.users))[users] < count
        return cls(users[useful], items[useful], np.sort(users * count + items), count)

    def contains(self, users: NDArray[np.int64], items: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(b,) whether each user has seen the item."""
        wanted = users * self.item_count + items
        place = np.minimum(np.searchsorted(self.pairs, wanted), len(self.pairs) - 1)
        found: NDArray[np.bool_] = self.pairs[place] == wanted
        return found

    def unseen(self, users: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        """(b,) for each user one item drawn uniformly from those the user has not seen.

        Draws that hit a seen item are drawn again; the few users for whom that takes too long (nearly everything
        seen) get an exact draw from the list of what is left.
        """
        drawn = rng.integers(0, self.item_count, size=len(users))
        again = np.flatnonzero(self.contains(users, drawn))
        for _ in range(_ROUNDS):
            if len(again) == 0:
                return drawn
            drawn[again] = rng.integers(0, self.item_count, size=len(again))
            again = again[self.contains(users[again], drawn[again])]
        every = np.arange(self.item_count)
        for place in again.tolist():
            left = every[~self.contains(np.full(self.item_count, users[place]), every)]
            drawn[place] = rng.choice(left)
        return drawn

    def triples(
        self, rng: np.random.Generator, size: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """``size`` triples of user, seen item, unseen item; pairs drawn with replacement. Empty without any pair."""
        if len(self.users) == 0:
            empty = np.zeros(0, dtype=np.int64)
            return empty, empty, empty
        chosen = rng.integers(0, len(self.users), size=size)
        return self.users[chosen], self.items[chosen], self.unseen(self.users[chosen], rng)
