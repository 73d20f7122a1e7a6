"""RecEraser: train in shards, so that forgetting an interaction retrains only the shards that held it."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from attrcloak.data.attributes import UserAttributes
from attrcloak.data.embeddings import EmbeddingTable
from attrcloak.data.interactions import NO_ITEM, Interactions, Split
from attrcloak.errors import InvalidInput, InvalidSettings
from attrcloak.progress import Progress
from attrcloak.recommenders import train
from attrcloak.recommenders.protected.balanced_shards import balanced_assignment, centres, squared_distances
from attrcloak.recommenders.recommender import Recommender
from attrcloak.recommenders.validation import validation_ndcg

Pairs = tuple[NDArray[Any], NDArray[Any]]

_SAMPLE = 20_000


@dataclass(frozen=True, kw_only=True)
class RecEraser:
    """Shards, sub-models and aggregation (Chen et al., WWW 2022; SISA: Bourtoule et al., S&P 2021).

    Interactions are split into shards of bounded size around k-means centres of vectors pre-trained on all of them (one
    balanced assignment, where the paper alternates it with new centres), each shard trains its
    own sub-model, and the sub-models become one table. To forget interactions, the shards that held them are trained
    again without them. It forgets interactions; it does not protect attributes, and is here to show that.

    Forgetting is exact given the partition: the result is the one that training without the interactions, with the
    same partition and seed, would give. The partition itself comes from vectors that saw them.

    A user or item counts only in shards that hold an interaction of it, and has the vector 0 in the others; the source
    keeps the untrained initial vectors there.

    Attributes:
        shards: number of shards k.
        partition: "user" keeps a user's interactions together; "interaction" does not.
        aggregation: "attention" learns one map a shard and attention over shards (needs torch). "mean" scores with the
            mean of the sub-models' scores, as SISA does: each vector is the sub-models' side by side, k times as long,
            over sqrt(k).
        cap: a shard holds at most cap * n / k users or interactions.
        forget: share of the interactions, drawn at random, that ``fit`` forgets; 0 forgets none.
    """

    name: ClassVar[str] = "receraser"

    shards: int = 10
    partition: Literal["user", "interaction"] = "user"
    aggregation: Literal["attention", "mean"] = "attention"
    cap: float = 1.2
    forget: float = 0.10

    def __post_init__(self) -> None:
        if self.shards < 1:
            raise InvalidSettings(f"shards is {self.shards}, expected at least 1")
        if self.partition not in ("user", "interaction"):
            raise InvalidSettings(f"there is no partition {self.partition!r}; there are: user, interaction")
        if self.aggregation not in ("attention", "mean"):
            raise InvalidSettings(f"there is no aggregation {self.aggregation!r}; there are: attention, mean")
        if not self.cap >= 1:
            raise InvalidSettings(f"cap is {self.cap}, expected at least 1: the shards have to hold everything")
        if not 0 <= self.forget < 1:
            raise InvalidSettings(f"forget is {self.forget}, expected at least 0 and less than 1")

    def fit(
        self,
        backbone: str,
        split: Split,
        people: UserAttributes,
        *,
        settings: Mapping[str, Any] | None = None,
        seed: int = 0,
        progress: Progress | None = None,
        checkpoints: Path | None = None,
    ) -> Recommender:
        """Train in shards, forget random interactions of everybody, aggregate; see ``ProtectedModel``.

        ``people`` is not read: the method knows no attributes. In the settings, "forgotten" is the number of
        interactions and "retrained" that of the shards trained again for them; random ones touch nearly every shard.
        """
        sharded = self.train_shards(
            backbone, split, settings=settings, seed=seed, progress=progress, checkpoints=checkpoints
        )
        count = round(self.forget * len(split.train))
        if count:
            chosen = np.random.default_rng(seed).choice(len(split.train), size=count, replace=False)
            train_set = split.train
            pairs = (
                train_set.users.values[train_set.user_rows[chosen]],
                train_set.items.values[train_set.item_rows[chosen]],
            )
            again = None if checkpoints is None else checkpoints / "forgotten"
            sharded = sharded.forget(*pairs, progress=progress, checkpoints=again)
        return sharded.recommender(progress)

    def train_shards(
        self,
        backbone: str,
        split: Split,
        *,
        settings: Mapping[str, Any] | None = None,
        seed: int = 0,
        shard_of: NDArray[np.integer] | None = None,
        progress: Progress | None = None,
        checkpoints: Path | None = None,
    ) -> "ShardedModel":
        """One sub-model a shard, nothing forgotten yet.

        Args:
            backbone: name of the recommender; pre-trained on everything, then once a shard.
            split: what to learn from.
            settings: of the backbone.
            seed: of the pre-training, the partition and every sub-model. All start from the same initial values, so
                that their spaces are alike.
            shard_of: (m,) shard of each interaction in [0, shards), to use a partition made before.
            progress: called with ("shard <number> of <shards>: <stage>", done, total).
            checkpoints: a folder for the states of the pre-training and of every shard; see ``ProtectedModel``.
        """
        seconds = 0.0
        if shard_of is None:
            stage = None if progress is None else _named("pre-training", progress)
            file = None if checkpoints is None else checkpoints / "pre-training.safetensors"
            whole = train(backbone, split, seed=seed, settings=settings, progress=stage, checkpoint=file)
            began = time.perf_counter()
            shard_of = self.assign(split.train, whole, seed)
            seconds = whole.seconds + time.perf_counter() - began
        shards: NDArray[np.int64] = np.array(shard_of, dtype=np.int64)
        if shards.shape != (len(split.train),) or shards.min() < 0 or shards.max() >= self.shards:
            raise InvalidInput(
                f"shard_of has shape {shards.shape}, expected ({len(split.train)},) of numbers in [0, {self.shards})"
            )
        shards.setflags(write=False)
        model = ShardedModel(
            self, backbone, dict(settings or {}), split, shards, (None,) * self.shards, seed, seconds=seconds
        )
        return model.trained(range(self.shards), progress, checkpoints)

    def assign(self, interactions: Interactions, whole: Recommender, seed: int) -> NDArray[np.int64]:
        """(m,) shard of each interaction, by k-means on pre-trained vectors and one balanced assignment.

        The centres are those of k-means, for interactions on at most 20,000 of them and on user and item vector side by
        side; then ``balanced_assignment`` with the cap.

        Raises:
            InvalidSettings: there are fewer users or interactions than shards.
        """
        users = whole.users.vectors.astype(np.float64)
        if self.partition == "user":
            active = np.unique(interactions.user_rows)
            distances = squared_distances(users[active], self._centres(users[active], seed))
            shard = np.zeros(len(users), dtype=np.int64)
            shard[active] = balanced_assignment(distances, self._capacity(len(active)))
            return shard[interactions.user_rows]
        items = whole.items.astype(np.float64)
        sample = np.arange(len(interactions))
        if len(sample) > _SAMPLE:
            sample = np.random.default_rng(seed).choice(sample, size=_SAMPLE, replace=False)
        points = np.hstack((users[interactions.user_rows[sample]], items[interactions.item_rows[sample]]))
        middles = self._centres(points, seed)
        width = users.shape[1]
        of_users, of_items = (
            squared_distances(users, middles[:, :width]),
            squared_distances(items, middles[:, width:]),
        )
        distances = of_users[interactions.user_rows] + of_items[interactions.item_rows]
        return balanced_assignment(distances, self._capacity(len(interactions)))

    def _capacity(self, points: int) -> int:
        return int(np.ceil(self.cap * points / self.shards))

    def _centres(self, points: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
        if len(points) < self.shards:
            raise InvalidSettings(
                f"shards is {self.shards} for {len(points)} {self.partition}s; use at most that many shards"
            )
        return centres(points, self.shards, seed)


@dataclass(frozen=True, eq=False)
class ShardedModel:
    """The sub-models of a partition, and what is needed to forget.

    Attributes:
        method: its settings.
        backbone: name of the recommender.
        settings: of the backbone, those that are set.
        split: what is still remembered.
        shard_of: (m,) shard of each interaction of ``split.train``.
        models: one a shard; None for a shard without interactions.
        seed: of every sub-model and the aggregation.
        forgotten: interactions forgotten so far.
        retrained: shards trained again so far, counted each time.
        seconds: wall time of the trainings so far, of interrupted runs as well.
    """

    method: RecEraser
    backbone: str
    settings: Mapping[str, Any]
    split: Split
    shard_of: NDArray[np.int64]
    models: tuple[Recommender | None, ...] = field(repr=False)
    seed: int
    forgotten: int = 0
    retrained: int = 0
    seconds: float = 0.0

    def forget(
        self,
        users: NDArray[Any],
        items: NDArray[Any],
        *,
        progress: Progress | None = None,
        checkpoints: Path | None = None,
    ) -> "ShardedModel":
        """A new model without these interactions; sub-models of shards that held none of them are kept as they are.

        Args:
            users: (f,) ids of the users.
            items: (f,) ids of the items.
            progress: called with ("shard <number> of <shards>: <stage>", done, total).
            checkpoints: a folder for the states of the shards trained again, another one than they were first trained
                with; see ``ProtectedModel``.

        Raises:
            InvalidInput: a pair is not among the remembered training interactions, or none would be left.
        """
        remembered = self.split.train
        if len(users) != len(items):
            raise InvalidInput(f"{len(users)} users for {len(items)} items")
        user_rows, item_rows = remembered.users.rows(users), remembered.items.rows(items)
        count = len(remembered.items)
        pairs = remembered.user_rows.astype(np.int64) * count + remembered.item_rows
        wanted = np.where((user_rows < 0) | (item_rows < 0), -1, user_rows * count + item_rows)
        unknown = int((~np.isin(wanted, pairs)).sum())
        if unknown:
            raise InvalidInput(
                f"{unknown} of {len(wanted)} pairs of user and item are not among the training interactions; were they "
                "forgotten before, or held out?"
            )
        gone = np.isin(pairs, wanted)
        if gone.all():
            raise InvalidInput(f"all {len(gone)} interactions are to be forgotten; there is nothing to train on")
        touched = np.unique(self.shard_of[gone]).tolist()
        left = replace(
            self,
            split=replace(self.split, train=remembered.keep(~gone)),
            shard_of=self.shard_of[~gone],
            forgotten=self.forgotten + int(gone.sum()),
            retrained=self.retrained + len(touched),
        )
        return left.trained(touched, progress, checkpoints)

    def trained(
        self, shards: Sequence[int], progress: Progress | None = None, checkpoints: Path | None = None
    ) -> "ShardedModel":
        """The same with the sub-models of these shards trained anew on what their shards hold."""
        models, seconds = list(self.models), self.seconds
        for shard in shards:
            inside = self.shard_of == shard
            if not inside.any():
                models[shard] = None
                continue
            interactions = self.split.train.keep(inside)
            # Only users of the shard say when its sub-model stops.
            here = np.isin(np.arange(len(interactions.users)), interactions.user_rows)
            own = replace(
                self.split,
                train=interactions,
                validation_items=np.where(here, self.split.validation_items, NO_ITEM).astype(np.int32),
            )
            stage = None if progress is None else _named(f"shard {shard + 1} of {len(models)}", progress)
            file = None if checkpoints is None else checkpoints / f"shard-{shard + 1}.safetensors"
            model = train(self.backbone, own, seed=self.seed, settings=self.settings, progress=stage, checkpoint=file)
            models[shard], seconds = model, seconds + model.seconds
        return replace(self, models=tuple(models), seconds=seconds)

    def stacked(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(k, U, d) and (k, I, d) vectors of the sub-models, 0 where a user or item has no interaction in the shard."""
        some = next(model for model in self.models if model is not None)
        train_set = self.split.train
        users = np.zeros((len(self.models), *some.users.vectors.shape), dtype=np.float32)
        items = np.zeros((len(self.models), *some.items.shape), dtype=np.float32)
        for shard, model in enumerate(self.models):
            if model is not None:
                inside = self.shard_of == shard
                rows, columns = np.unique(train_set.user_rows[inside]), np.unique(train_set.item_rows[inside])
                users[shard, rows] = model.users.vectors[rows]
                items[shard, columns] = model.items[columns]
        return users, items

    def recommender(self, progress: Progress | None = None) -> Recommender:
        """One table of users and items, scored by the dot product."""
        began = time.perf_counter()
        users, items = self.stacked()
        if self.method.aggregation == "attention":
            from attrcloak.recommenders.protected.shard_attention import aggregate

            users, items = aggregate(users, items, self.split, self.seed, progress)
        else:
            root = np.sqrt(np.float32(len(self.models)))
            users, items = (np.hstack(list(vectors)) / root for vectors in (users, items))
        reached = validation_ndcg(users, items, self.split)
        some = next(model for model in self.models if model is not None)
        spent = {
            "name": self.method.name,
            **asdict(self.method),
            "forgotten": self.forgotten,
            "retrained": self.retrained,
        }
        return Recommender(
            name=self.backbone,
            users=EmbeddingTable(
                ids=self.split.train.users,
                vectors=users,
                represents=f"{some.users.represents}, {len(self.models)} shards by {self.method.aggregation}",
                scoring="dot",
            ),
            items=items,
            settings={**some.settings, "protection": spent},
            seed=self.seed,
            seconds=self.seconds + time.perf_counter() - began,
            history=() if reached is None else (reached,),
        )


def _named(place: str, progress: Progress) -> Progress:
    return lambda stage, done, total: progress(f"{place}: {stage}", done, total)
