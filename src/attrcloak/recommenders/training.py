"""The one training loop of the torch models: BPR loss, uniform negatives, Adam, early stopping."""

import copy
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from attrcloak.data.embeddings import EmbeddingTable
from attrcloak.data.interactions import Split
from attrcloak.errors import InvalidSettings, MissingExtra
from attrcloak.recommenders.negatives import Seen
from attrcloak.recommenders.recommender import Recommender
from attrcloak.recommenders.validation import validation_ndcg

try:
    import torch
    from torch import Tensor, nn
except ImportError as error:
    raise MissingExtra("the models 'bpr-mf' and 'ncf'", "torch") from error

__all__ = ["Tensor", "TrainingSettings", "TwoSided", "embedding", "fit", "nn", "served"]

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """What every torch model has in common.

    Attributes:
        factors: dimensions d of the served vectors.
        learning_rate: of Adam.
        weight_decay: weight of half the squared norm of the embeddings in a triple, per triple.
        batch: triples a step.
        epochs: at most that many passes over the interactions, each with fresh negatives.
        check_every: epochs between two looks at the validation items.
        patience: looks without a new best before training stops; the best state is kept. Without validation items
            training runs all epochs.
        threads: of torch. With the same number the same seed gives the same vectors.
    """

    factors: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    batch: int = 8192
    epochs: int = 60
    check_every: int = 2
    patience: int = 5
    threads: int = 2

    def __post_init__(self) -> None:
        for name in ("factors", "learning_rate", "batch", "epochs", "check_every", "patience", "threads"):
            if not getattr(self, name) > 0:
                raise InvalidSettings(f"{name} is {getattr(self, name)}, expected more than 0")
        if not self.weight_decay >= 0:
            raise InvalidSettings(f"weight_decay is {self.weight_decay}, expected 0 or more")


class TwoSided(Protocol):
    """What the loop asks of a torch module: vectors of users and items, scored by their dot product."""

    def user_vectors(self, rows: Tensor) -> Tensor:
        """(b, d) the vectors that are served for these users."""
        ...

    def item_vectors(self, rows: Tensor) -> Tensor:
        """(b, d) the vectors that are served for these items."""
        ...

    def penalty(self, users: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
        """Half the mean squared norm of the parameters that these triples read."""
        ...


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
        users = model.user_vectors(torch.arange(user_count)).numpy().astype(np.float32)
        items = model.item_vectors(torch.arange(item_count)).numpy().astype(np.float32)
    return users, items


def fit(
    name: str,
    represents: str,
    build: Callable[[int, int], nn.Module],
    split: Split,
    settings: TrainingSettings,
    seed: int,
    progress: Progress | None = None,
) -> Recommender:
    """Train a module by BPR and take the vectors of its best epoch.

    Args:
        name: of the model.
        represents: which vector is served, in words.
        build: makes the module from the numbers of users and items; it follows ``TwoSided``.
        split: interactions to learn from, and validation items that decide when to stop.
        settings: of the loop.
        seed: of initial values, order and negatives.
        progress: called with (stage, done, total) after every epoch.
    """
    began = time.perf_counter()
    threads_before = torch.get_num_threads()
    torch.set_num_threads(settings.threads)
    try:
        users, items = len(split.train.users), len(split.train.items)
        model = seeded(seed, lambda: build(users, items))
        history = _descend(name, model, split, settings, seed, progress)
        user_vectors, item_vectors = served(_two_sided(model), users, items)
    finally:
        torch.set_num_threads(threads_before)
    return Recommender(
        name=name,
        users=EmbeddingTable(split.train.users, user_vectors, represents=represents, scoring="dot"),
        items=item_vectors,
        settings=asdict(settings),
        seed=seed,
        seconds=time.perf_counter() - began,
        history=tuple(history),
    )


def _two_sided(model: nn.Module) -> Any:
    return model  # nn.Module has no static type for the methods of TwoSided


def _descend(
    name: str, model: nn.Module, split: Split, settings: TrainingSettings, seed: int, progress: Progress | None
) -> list[float]:
    """Adam on the BPR loss; leaves the model at its best state and returns the validation scores."""
    sides = _two_sided(model)
    seen = Seen.of(split.train)
    rng = np.random.default_rng(seed)
    optimiser = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    history: list[float] = []
    best, best_state, stale = -1.0, copy.deepcopy(model.state_dict()), 0
    for epoch in range(1, settings.epochs + 1):
        order = rng.permutation(len(seen.users))
        for start in range(0, len(order), settings.batch):
            chosen = order[start : start + settings.batch]
            triple = (seen.users[chosen], seen.items[chosen], seen.unseen(seen.users[chosen], rng))
            u, i, j = (torch.from_numpy(rows) for rows in triple)
            vectors = sides.user_vectors(u)
            margin = (vectors * (sides.item_vectors(i) - sides.item_vectors(j))).sum(dim=1)
            loss = nn.functional.softplus(-margin).mean()
            if settings.weight_decay:
                loss = loss + settings.weight_decay * sides.penalty(u, i, j)
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
        if progress is not None:
            progress(f"training {name}", epoch, settings.epochs)
        if epoch % settings.check_every and epoch != settings.epochs:
            continue
        reached = validation_ndcg(*served(sides, len(split.train.users), len(split.train.items)), split)
        if reached is None:
            best_state = copy.deepcopy(model.state_dict())
            continue
        history.append(reached)
        if reached > best:
            best, best_state, stale = reached, copy.deepcopy(model.state_dict()), 0
            continue
        stale += 1
        if stale >= settings.patience:
            break
    model.load_state_dict(best_state)
    return history
