"""The one training loop of the torch models: BPR loss, uniform negatives, Adam, early stopping, checkpoints."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from attrcloak.data.embeddings import EmbeddingTable
from attrcloak.data.interactions import Interactions, Split
from attrcloak.errors import InvalidSettings, MissingExtra
from attrcloak.progress import Progress
from attrcloak.recommenders.negatives import Seen
from attrcloak.recommenders.recommender import Recommender
from attrcloak.recommenders.validation import validation_ndcg

try:
    import torch
    from torch import Tensor, nn

    from attrcloak.recommenders.checkpoint import Checkpoint, Progressed, States, identity
except ImportError as error:
    raise MissingExtra("the models bpr-mf, ncf and lightgcn", "torch") from error

__all__ = [
    "Adversary",
    "Tensor",
    "TrainingSettings",
    "TwoSided",
    "Vectors",
    "embedding",
    "nn",
    "seeded",
    "served",
    "torch",
]


class Vectors(Protocol):
    """The vectors of users and items at the present parameters, scored by their dot product."""

    def user_vectors(self, rows: Tensor) -> Tensor:
        """(b, d) the vectors that are served for these users."""
        ...

    def item_vectors(self, rows: Tensor) -> Tensor:
        """(b, d) the vectors that are served for these items."""
        ...


class TwoSided(Protocol):
    """What the loop asks of a torch module."""

    def vectors(self) -> Vectors:
        """The vectors at the present parameters. Asked for once a step: what all rows share is computed here."""
        ...

    def penalty(self, users: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
        """Half the mean squared norm of the parameters that these triples read."""
        ...


class Adversary(Protocol):
    """Somebody who learns from the user vectors while they are trained, and whose success is held against them.

    Training against an adversary runs all epochs and serves the last state. The state that is best for validation is
    the one of before the adversary had learned anything: choosing by it would undo the protection.
    """

    networks: nn.Module
    optimiser: torch.optim.Optimizer

    @property
    def identity(self) -> Mapping[str, Any]:
        """What a checkpoint has to agree on to be continued: plain values."""
        ...

    def loss(self, vectors: Vectors, users: Tensor) -> Tensor:
        """Learn from the vectors of these users, detached, then give what is added to the recommender's loss.

        Args:
            vectors: of the present step.
            users: (b,) rows of the step's triples, with repetitions.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """What every torch model has in common.

    Attributes:
        factors: dimensions d of the served vectors.
        learning_rate: of Adam.
        weight_decay: weight of half the squared norm of the embeddings in a triple, per triple.
        batch: triples a step.
        epochs: at most that many passes over the interactions, each with fresh negatives.
        check_every: epochs between two looks at the validation items, and between two checkpoints.
        patience: looks without a new best before training stops; the best state is kept. Without validation items
            training runs all epochs and keeps the last.
        threads: of torch. With the same number the same seed gives the same vectors. On a machine that does other work
            too, threads that wait for one another make training several times slower; one never waits.
    """

    name: ClassVar[str]
    represents: ClassVar[str]

    factors: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    batch: int = 8192
    epochs: int = 60
    check_every: int = 2
    patience: int = 5
    threads: int = 1

    def __post_init__(self) -> None:
        for name in ("factors", "learning_rate", "batch", "epochs", "check_every", "patience", "threads"):
            if not getattr(self, name) > 0:
                raise InvalidSettings(f"{name} is {getattr(self, name)}, expected more than 0")
        if not self.weight_decay >= 0:
            raise InvalidSettings(f"weight_decay is {self.weight_decay}, expected 0 or more")

    def build(self, train: Interactions) -> nn.Module:
        """The module with fresh initial values; it follows ``TwoSided``."""
        raise NotImplementedError

    def fit(
        self,
        split: Split,
        seed: int = 0,
        progress: Progress | None = None,
        checkpoint: Path | None = None,
        adversary: Adversary | None = None,
    ) -> Recommender:
        """Train by BPR on ``split.train``, stopping early on the validation items.

        Args:
            split: interactions to learn from, and validation items that decide when to stop. Without any, training
                runs all epochs. Test items are never read.
            seed: of initial values, order and negatives.
            progress: called with (stage, done, total) after every epoch.
            checkpoint: a file (.safetensors) to write the state to every ``check_every`` epochs, and to continue from
                when it is there. A training continued from it ends in the same vectors, bit for bit, as one that was
                never interrupted.
            adversary: see ``Adversary``.

        Raises:
            InvalidInput: the checkpoint is of another training; what differs is named.
        """
        began = time.perf_counter()
        threads_before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            model = seeded(seed, lambda: self.build(split.train))
            reached = _descend(model, split, self, seed, progress, checkpoint, adversary)
            users, items = served(_two_sided(model), len(split.train.users), len(split.train.items))
        finally:
            torch.set_num_threads(threads_before)
        return Recommender(
            name=self.name,
            users=EmbeddingTable(split.train.users, users, represents=self.represents, scoring="dot"),
            items=items,
            settings=asdict(self),
            seed=seed,
            seconds=reached.seconds_before + time.perf_counter() - began,
            history=tuple(reached.history),
        )


def seeded(seed: int, build: Callable[[], nn.Module]) -> nn.Module:
    """Build a module with its initial values drawn from ``seed``, leaving torch's global random state as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def embedding(count: int, factors: int) -> nn.Embedding:
    """An embedding with Xavier uniform initial values."""
    layer = nn.Embedding(count, factors)
    nn.init.xavier_uniform_(layer.weight)
    return layer


def served(model: TwoSided, user_count: int, item_count: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(U, d) and (I, d) the vectors as they are served."""
    with torch.no_grad():
        vectors = model.vectors()
        users = vectors.user_vectors(torch.arange(user_count)).numpy().astype(np.float32)
        items = vectors.item_vectors(torch.arange(item_count)).numpy().astype(np.float32)
    return users, items


def _two_sided(model: nn.Module) -> Any:
    return model  # nn.Module has no static type for the methods of TwoSided


def _descend(
    model: nn.Module,
    split: Split,
    settings: TrainingSettings,
    seed: int,
    progress: Progress | None,
    checkpoint: Path | None,
    adversary: Adversary | None,
) -> Progressed:
    """Adam on the BPR loss; leaves the model at its best state and says how far it came."""
    began = time.perf_counter()
    sides = _two_sided(model)
    seen = Seen.of(split.train)
    # The only randomness after the initial values: torch draws nothing here.
    rng = np.random.default_rng(seed)
    optimiser = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    learners: States = {"model": (model, optimiser)}
    if adversary is not None:
        learners["adversary"] = (adversary.networks, adversary.optimiser)
    kept = None
    if checkpoint is not None:
        opponent = {} if adversary is None else adversary.identity
        kept = Checkpoint(checkpoint, identity(settings.name, asdict(settings), seed, split, opponent))
    now = kept.read(learners, rng) if kept is not None and kept.path.exists() else Progressed.start(model)
    for epoch in range(now.epoch + 1, settings.epochs + 1):
        if now.stale >= settings.patience:
            if progress is not None:
                progress(f"training {settings.name}", settings.epochs, settings.epochs)
            break
        order = rng.permutation(len(seen.users))
        for start in range(0, len(order), settings.batch):
            chosen = order[start : start + settings.batch]
            triple = (seen.users[chosen], seen.items[chosen], seen.unseen(seen.users[chosen], rng))
            u, i, j = (torch.from_numpy(rows) for rows in triple)
            vectors: Vectors = sides.vectors()
            difference = vectors.item_vectors(i) - vectors.item_vectors(j)
            margin = (vectors.user_vectors(u) * difference).sum(dim=1)
            loss = nn.functional.softplus(-margin).mean()
            if settings.weight_decay:
                loss = loss + settings.weight_decay * sides.penalty(u, i, j)
            if adversary is not None:
                loss = loss + adversary.loss(vectors, u)
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
        if progress is not None:
            progress(f"training {settings.name}", epoch, settings.epochs)
        if epoch % settings.check_every and epoch != settings.epochs:
            continue
        reached = validation_ndcg(*served(sides, len(split.train.users), len(split.train.items)), split)
        now = now.after(epoch, reached, model, choose_best=adversary is None)
        if kept is not None:
            kept.write(now, learners, rng, now.seconds_before + time.perf_counter() - began)
    model.load_state_dict(now.best_state)
    return now
