"""BPR-MF: matrix factorisation trained by Bayesian personalised ranking, in torch."""

from collections.abc import Callable
from dataclasses import dataclass

from attrcloak.data.interactions import Split
from attrcloak.recommenders.recommender import Recommender
from attrcloak.recommenders.training import Tensor, TrainingSettings, embedding, fit, nn


@dataclass(frozen=True, kw_only=True)
class BPRMF(TrainingSettings):
    """Matrix factorisation without biases, trained by BPR (Rendle et al. 2009).

    Served and unlearned: the user embedding itself. Settings: see ``TrainingSettings``.
    """

    learning_rate: float = 2e-3
    weight_decay: float = 1e-4

    def fit(self, split: Split, seed: int = 0, progress: Callable[[str, int, int], None] | None = None) -> Recommender:
        """Train on ``split.train``, stopping early on the validation items."""
        return fit(
            "bpr-mf",
            "BPR-MF user embedding",
            lambda users, items: Factors(users, items, self.factors),
            split,
            self,
            seed,
            progress,
        )


class Factors(nn.Module):
    """One embedding of users and one of items."""

    def __init__(self, users: int, items: int, factors: int) -> None:
        super().__init__()
        self.users = embedding(users, factors)
        self.items = embedding(items, factors)

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
