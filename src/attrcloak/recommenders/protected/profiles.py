"""Profiles that are rewritten before training: which interactions stay, which are added, and the training on them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attrcloak.data.interactions import NO_ITEM, Interactions, Split
from attrcloak.progress import Progress
from attrcloak.recommenders import train
from attrcloak.recommenders.recommender import Recommender


@dataclass(frozen=True, eq=False)
class Profiles:
    """The items of each user.

    Attributes:
        items: (m,) rows of items, users in order.
        ends: (U + 1,) user u has ``items[ends[u] : ends[u + 1]]``.
    """

    items: NDArray[np.int32]
    ends: NDArray[np.int64]

    @classmethod
    def of(cls, interactions: Interactions) -> "Profiles":
        """From interactions; items in rising order for each user."""
        order = np.lexsort((interactions.item_rows, interactions.user_rows))
        counts = np.bincount(interactions.user_rows, minlength=len(interactions.users))
        return cls(interactions.item_rows[order], np.concatenate(([0], np.cumsum(counts))).astype(np.int64))

    def __getitem__(self, user: int) -> NDArray[np.int32]:
        return self.items[self.ends[user] : self.ends[user + 1]]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(U,) number of items of each user."""
        return np.diff(self.ends)


def rewrite(
    interactions: Interactions,
    keep: NDArray[np.bool_],
    user_rows: NDArray[np.integer],
    item_rows: NDArray[np.integer],
    rng: np.random.Generator,
) -> Interactions:
    """New interactions: those to keep, then the added ones; the input is untouched.

    An added item takes the time of a random interaction of its user, so that times do not tell it from the others, and
    the mean rating of the item (over all items where nobody rated it), where the source has times and ratings.

    Args:
        interactions: the original; every user of an added item has at least one.
        keep: (m,) which of them stay.
        user_rows: (a,) users of the added interactions.
        item_rows: (a,) their items.
        rng: draws the times.
    """
    if not len(user_rows) and keep.all():
        return interactions
    times, ratings = interactions.times, interactions.ratings
    if times is not None:
        order = np.argsort(interactions.user_rows, kind="stable")
        counts = np.bincount(interactions.user_rows, minlength=len(interactions.users))
        starts = np.cumsum(counts) - counts
        like = order[starts[user_rows] + rng.integers(0, counts[user_rows])]
        times = np.concatenate((times[keep], times[like]))
    if ratings is not None:
        count = np.bincount(interactions.item_rows, minlength=len(interactions.items))
        total = np.bincount(interactions.item_rows, weights=ratings, minlength=len(interactions.items))
        mean = np.where(count > 0, total / np.maximum(count, 1), ratings.mean())
        ratings = np.concatenate((ratings[keep], mean[item_rows].astype(np.float32)))
    return replace(
        interactions,
        user_rows=np.concatenate((interactions.user_rows[keep], user_rows)).astype(np.int32),
        item_rows=np.concatenate((interactions.item_rows[keep], item_rows)).astype(np.int32),
        times=times,
        ratings=ratings,
    )


def train_on(
    rewritten: Interactions,
    backbone: str,
    split: Split,
    protection: Mapping[str, Any],
    *,
    settings: Mapping[str, Any] | None,
    seed: int,
    progress: Progress | None,
    checkpoints: Path | None,
    rewriting_seconds: float,
) -> Recommender:
    """Train the backbone on rewritten profiles, and say in its settings what was done.

    The held-out items stay as they are, and the result is to be evaluated on the original split: what was added is not
    known to be seen, so it competes for places in the list. A validation item that was added by chance no longer says
    when to stop, for that user only.

    Args:
        rewritten: what to train on, over the users and items of ``split``.
        backbone: name of the recommender.
        split: the original.
        protection: goes into the settings as "protection".
        settings: of the backbone.
        seed: of the backbone.
        progress: called with (stage, done, total).
        checkpoints: see ``ProtectedModel``. After an interruption profiles are rewritten once more, to the same ones.
        rewriting_seconds: what the profiles took; added to the seconds of the training.
    """
    validation = split.validation_items
    given = np.flatnonzero(validation != NO_ITEM)
    pairs = rewritten.user_rows.astype(np.int64) * len(rewritten.items) + rewritten.item_rows
    hit = np.isin(given * len(rewritten.items) + validation[given], pairs)
    if hit.any():
        validation = validation.copy()
        validation[given[hit]] = NO_ITEM
    new = replace(split, train=rewritten, validation_items=validation)
    checkpoint = None if checkpoints is None else checkpoints / "recommender.safetensors"
    model = train(backbone, new, seed=seed, settings=settings, progress=progress, checkpoint=checkpoint)
    return replace(
        model,
        settings={**model.settings, "protection": dict(protection)},
        seconds=rewriting_seconds + model.seconds,
    )


def held_out_known(split: Split) -> Interactions:
    """The profiles as they are known while training: ``split.train`` and the validation items, never the test items."""
    given = np.flatnonzero(split.validation_items != NO_ITEM)
    if not len(given):
        return split.train
    return Interactions(
        users=split.train.users,
        items=split.train.items,
        user_rows=np.concatenate((split.train.user_rows, given)).astype(np.int32),
        item_rows=np.concatenate((split.train.item_rows, split.validation_items[given])).astype(np.int32),
    )
