"""Who interacted with what, and when: users × items, always in that orientation."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from attrcloak.data.ids import Ids
from attrcloak.errors import InvalidInput, raise_if

if TYPE_CHECKING:
    from scipy.sparse import csr_array

NO_ITEM = -1


@dataclass(frozen=True, eq=False)
class Interactions:
    """Implicit feedback in file order, each pair of user and item once.

    Attributes:
        users: U unique ids.
        items: I unique ids.
        user_rows: (m,) row of the user of each interaction, in [0, U).
        item_rows: (m,) row of the item of each interaction, in [0, I).
        times: (m,) seconds or any increasing number; None when the source has none. Ties break by file order.
        ratings: (m,) the source's rating, None when it has none. Used by no recommender here; profile methods read it.
        last_item: (U,) known last item of each user, -1 where not known; overrides times (see DATA of ML-1M, whose
            timestamps are incomplete in some copies). None when the source does not say.
    """

    users: Ids
    items: Ids
    user_rows: NDArray[np.int32]
    item_rows: NDArray[np.int32]
    times: NDArray[np.int64] | None = None
    ratings: NDArray[np.float32] | None = None
    last_item: NDArray[np.int32] | None = None

    def __post_init__(self) -> None:
        m = len(self.user_rows)
        problems = []
        if m == 0:
            problems.append("there are no interactions")
        for name in ("item_rows", "times", "ratings"):
            column = getattr(self, name)
            if column is not None and len(column) != m:
                problems.append(f"{name} has {len(column)} entries for {m} interactions")
        raise_if(problems)
        for name, rows, size in (("user", self.user_rows, len(self.users)), ("item", self.item_rows, len(self.items))):
            if rows.min() < 0 or rows.max() >= size:
                problems.append(f"{name} rows reach outside [0, {size})")
        pairs = self.user_rows.astype(np.int64) * len(self.items) + self.item_rows
        if self.last_item is not None and len(self.last_item) != len(self.users):
            problems.append(f"last_item has {len(self.last_item)} entries for {len(self.users)} users")
        repeated = m - len(np.unique(pairs))
        if repeated:
            problems.append(f"{repeated} pairs of user and item occur more than once; use Interactions.from_ids")
        raise_if(problems)
        for name in ("user_rows", "item_rows", "times", "ratings", "last_item"):
            column = getattr(self, name)
            if column is not None:
                column = column.view()
                column.setflags(write=False)
                object.__setattr__(self, name, column)

    @classmethod
    def from_ids(
        cls,
        users: NDArray[Any],
        items: NDArray[Any],
        times: NDArray[Any] | None = None,
        ratings: NDArray[Any] | None = None,
    ) -> "Interactions":
        """From two columns of ids. A pair that occurs more than once is kept at its last time."""
        users, items = np.asarray(users), np.asarray(items)
        if len(users) != len(items):
            raise InvalidInput(f"{len(users)} users for {len(items)} items")
        user_ids, user_rows = np.unique(users, return_inverse=True)
        item_ids, item_rows = np.unique(items, return_inverse=True)
        order = np.arange(len(users)) if times is None else np.argsort(times, kind="stable")
        pairs = (user_rows.astype(np.int64) * max(len(item_ids), 1) + item_rows)[order]
        # The last occurrence of each pair: np.unique keeps the first, so look from the end.
        _, from_end = np.unique(pairs[::-1], return_index=True)
        keep = np.sort(order[len(order) - 1 - from_end])
        return cls(
            users=Ids(user_ids),
            items=Ids(item_ids),
            user_rows=user_rows[keep].astype(np.int32),
            item_rows=item_rows[keep].astype(np.int32),
            times=None if times is None else np.asarray(times)[keep].astype(np.int64),
            ratings=None if ratings is None else np.asarray(ratings)[keep].astype(np.float32),
        )

    def __len__(self) -> int:
        return len(self.user_rows)

    @cached_property
    def matrix(self) -> "csr_array":
        """(U, I) sparse float32 matrix with a 1 for each interaction, columns sorted in each row."""
        from scipy.sparse import csr_array

        ones = np.ones(len(self), dtype=np.float32)
        matrix = csr_array((ones, (self.user_rows, self.item_rows)), shape=(len(self.users), len(self.items)))
        matrix.sort_indices()
        return matrix

    def leave_one_out(self, seed: int = 0, validation: bool = True) -> "Split":
        """Hold out each user's last interaction for the test and a random one of the rest for validation.

        Ties in time break by file order: the interaction that stands later in the file is the later one. Users with
        fewer than three interactions (two without validation) give none to the held-out items.

        Args:
            seed: draws the validation items.
            validation: hold out a validation item as well.
        """
        times = np.zeros(len(self)) if self.times is None else self.times
        order = np.lexsort((np.arange(len(self)), times, self.user_rows))
        counts = np.bincount(self.user_rows, minlength=len(self.users))
        ends = np.cumsum(counts)
        test = np.full(len(self.users), -1, dtype=np.int64)
        enough = counts >= (3 if validation else 2)
        test[enough] = order[ends[enough] - 1]
        if self.last_item is not None:
            wanted = np.flatnonzero(self.last_item[self.user_rows] == self.item_rows)
            wanted = wanted[enough[self.user_rows[wanted]]]
            test[self.user_rows[wanted]] = wanted
        held_out = np.zeros(len(self), dtype=bool)
        held_out[test[test >= 0]] = True
        valid = np.full(len(self.users), -1, dtype=np.int64)
        if validation:
            # One random interaction of the rest a user: shuffle, then take the first that occurs of each user.
            rest = np.random.default_rng(seed).permutation(np.flatnonzero(~held_out & enough[self.user_rows]))
            chosen_users, first = np.unique(self.user_rows[rest], return_index=True)
            valid[chosen_users] = rest[first]
            held_out[rest[first]] = True
        return Split(
            train=self.keep(~held_out),
            test_items=np.where(test >= 0, self.item_rows[test], NO_ITEM).astype(np.int32),
            validation_items=np.where(valid >= 0, self.item_rows[valid], NO_ITEM).astype(np.int32),
            seed=seed,
        )

    def without_held_out(self) -> "Split":
        """Learn from everything and hold out nothing, to measure fit by the protocol "paper".

        Without validation items a training runs all its epochs; without test items nothing else can be evaluated.
        """
        nothing = np.full(len(self.users), NO_ITEM, dtype=np.int32)
        return Split(train=self, test_items=nothing, validation_items=nothing, seed=0)

    def keep(self, chosen: NDArray[np.bool_]) -> "Interactions":
        """The chosen interactions over all users and items, so rows mean the same; without ``last_item``."""
        return Interactions(
            users=self.users,
            items=self.items,
            user_rows=self.user_rows[chosen],
            item_rows=self.item_rows[chosen],
            times=None if self.times is None else self.times[chosen],
            ratings=None if self.ratings is None else self.ratings[chosen],
        )


@dataclass(frozen=True, eq=False)
class Split:
    """Leave-one-out: what a recommender may learn from, and what it is tested on.

    Attributes:
        train: the rest, over all users and items, so rows mean the same as before.
        test_items: (U,) held-out item of each user, -1 for users with none.
        validation_items: (U,) held-out item for early stopping, -1 for users with none.
        seed: the seed that drew the validation items.
    """

    train: Interactions
    test_items: NDArray[np.int32]
    validation_items: NDArray[np.int32]
    seed: int
