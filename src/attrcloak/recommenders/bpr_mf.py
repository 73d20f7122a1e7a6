"""BPR-MF: matrix factorisation trained by Bayesian personalised ranking, in torch."""

from dataclasses import dataclass
from typing import ClassVar

from attrcloak.data.interactions import Interactions
from attrcloak.recommenders.training import Tensor, TrainingSettings, Vectors, embedding, nn


@dataclass(frozen=True, kw_only=True)
class BPRMF(TrainingSettings):
    """Matrix factorisation without biases, trained by BPR (Rendle et al. 2009).

    Served and unlearned: the user embedding itself. Settings: see ``TrainingSettings``.
    """

    name: ClassVar[str] = "bpr-mf"
    represents: ClassVar[str] = "BPR-MF user embedding"

    learning_rate: float = 2e-3
    weight_decay: float = 1e-4

    def build(self, train: Interactions) -> nn.Module:
        """See ``TrainingSettings``."""
        return Factors(len(train.users), len(train.items), self.factors)


class Factors(nn.Module):
    """One embedding of users and one of items."""

    def __init__(self, users: int, items: int, factors: int) -> None:
        super().__init__()
        self.users = embedding(users, factors)
        self.items = embedding(items, factors)

    def vectors(self) -> Vectors:
        """Rows share nothing here: the embeddings themselves."""
        return self

    def user_vectors(self, rows: Tensor) -> Tensor:
        """(b, d) user embeddings."""
        vectors: Tensor = self.users(rows)
        return vectors

    def item_vectors(self, rows: Tensor) -> Tensor:
        """(b, d) item embeddings."""
        vectors: Tensor = self.items(rows)
        return vectors

    def penalty(self, users: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
        """Half the mean squared norm of the embeddings of these triples."""
        read = (self.users(users), self.items(positives), self.items(negatives))
        total: Tensor = sum((vectors.square().sum(dim=1) for vectors in read), start=users.new_zeros(()))
        return total.mean() / 2
