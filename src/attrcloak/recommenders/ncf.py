"""NCF as the paper uses it: an embedding and a tower on each side, scored by the dot product."""

from dataclasses import dataclass
from typing import ClassVar

from attrcloak.data.interactions import Interactions
from attrcloak.recommenders.bpr_mf import Factors
from attrcloak.recommenders.training import Tensor, TrainingSettings, nn


@dataclass(frozen=True, kw_only=True)
class NCF(TrainingSettings):
    """Neural collaborative filtering with dot-product scoring (Wu et al. 2025, section on settings).

    Served and unlearned: the output of the user tower, not the embedding below it; only that vector enters the score.
    The defaults keep the paper's architecture and loss and take larger and fewer steps, which reaches the same kind of
    model in minutes; ``NCF.paper()`` has the step the paper prints. Settings: see ``TrainingSettings``.

    Attributes:
        layers: fully connected layers of each tower, each d wide, with ReLU between them.
    """

    name: ClassVar[str] = "ncf"
    represents: ClassVar[str] = "NCF user tower output"

    factors: int = 128
    learning_rate: float = 3e-3
    batch: int = 4096
    layers: int = 2

    @classmethod
    def paper(cls) -> "NCF":
        """Embedding 128, two layers, Adam with rate 1e-4, batches of 512: the form the paper prints."""
        return cls(learning_rate=1e-4, batch=512)

    def build(self, train: Interactions) -> nn.Module:
        """See ``TrainingSettings``."""
        return Towers(len(train.users), len(train.items), self.factors, self.layers)


class Towers(Factors):
    """Embeddings with one tower on each side."""

    def __init__(self, users: int, items: int, factors: int, layers: int) -> None:
        super().__init__(users, items, factors)
        self.user_tower = _tower(factors, layers)
        self.item_tower = _tower(factors, layers)

    def user_vectors(self, rows: Tensor) -> Tensor:
        """(b, d) outputs of the user tower."""
        vectors: Tensor = self.user_tower(self.users(rows))
        return vectors

    def item_vectors(self, rows: Tensor) -> Tensor:
        """(b, d) outputs of the item tower."""
        vectors: Tensor = self.item_tower(self.items(rows))
        return vectors


def _tower(factors: int, layers: int) -> nn.Sequential:
    """Layers of one width with ReLU between them; the last is linear, so that vectors may point anywhere."""
    steps: list[nn.Module] = []
    for number in range(layers):
        layer = nn.Linear(factors, factors)
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)
        steps += [layer] if number == layers - 1 else [layer, nn.ReLU()]
    return nn.Sequential(*steps)
