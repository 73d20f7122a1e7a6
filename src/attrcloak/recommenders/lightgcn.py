"""LightGCN: embeddings smoothed over the graph of users and items, in torch with SciPy's sparse products."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from scipy.sparse import csr_array

from attrcloak.data.interactions import Interactions
from attrcloak.errors import InvalidSettings
from attrcloak.recommenders.bpr_mf import Factors
from attrcloak.recommenders.training import Tensor, TrainingSettings, Vectors, nn, torch

if TYPE_CHECKING:
    Graph = csr_array[np.float32]


@dataclass(frozen=True, kw_only=True)
class LightGCN(TrainingSettings):
    """Light graph convolution (He et al., SIGIR 2020), trained by BPR with an L2 penalty on the layer-0 embeddings.

    E_{l+1} = D^-1/2 A D^-1/2 E_l over the graph A of users and items (eq. 7), and the mean of E_0 ... E_L is scored
    by the dot product (eq. 4 with equal weights). The graph is that of the training interactions.

    Served and unlearned: the pooled user vector, not the embedding below it; only that vector enters the score.
    Settings: see ``TrainingSettings``; the penalty of ``weight_decay`` reads the layer-0 embeddings, as in eq. 15.

    Attributes:
        layers: steps of propagation L.
    """

    name: ClassVar[str] = "lightgcn"
    represents: ClassVar[str] = "LightGCN pooled user vector"

    learning_rate: float = 2e-2
    weight_decay: float = 1e-4
    layers: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layers < 0:
            raise InvalidSettings(f"layers is {self.layers}, expected 0 or more")

    def build(self, train: Interactions) -> nn.Module:
        """See ``TrainingSettings``."""
        return Convolution(train, self.factors, self.layers)


class Convolution(Factors):
    """Layer-0 embeddings of users and items, and the graph they are smoothed over."""

    def __init__(self, train: Interactions, factors: int, layers: int) -> None:
        super().__init__(len(train.users), len(train.items), factors)
        self.graph = normalised_graph(train)
        self.layers = layers

    def vectors(self) -> Vectors:
        """Smooth all embeddings, once for everything the step reads."""
        base = torch.cat([self.users.weight, self.items.weight])
        pooled: Tensor = Smoothing.apply(base, self.graph, self.layers)  # type: ignore[no-untyped-call]
        return Pooled(pooled, len(self.users.weight))


@dataclass(frozen=True, eq=False)
class Pooled:
    """(U + I, d) pooled vectors, those of the users first."""

    table: Tensor
    user_count: int

    def user_vectors(self, rows: Tensor) -> Tensor:
        """(b, d) pooled vectors of these users."""
        return self.table[rows]

    def item_vectors(self, rows: Tensor) -> Tensor:
        """(b, d) pooled vectors of these items."""
        return self.table[rows + self.user_count]


class Smoothing(torch.autograd.Function):
    """Mean of E, G E, ..., G^L E. G is symmetric, so the gradient is smoothed by the same map.

    SciPy's product is as fast on a CPU as torch's compressed rows, several times faster than torch's coordinates, and
    not announced as unfinished.
    """

    @staticmethod
    def forward(context: Any, base: Tensor, graph: "Graph", layers: int) -> Tensor:
        """(U + I, d) smoothed embeddings."""
        context.graph, context.layers = graph, layers
        return torch.from_numpy(smoothed(base.detach().numpy(), graph, layers))

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """(U + I, d) gradient on the embeddings."""
        return torch.from_numpy(smoothed(gradient.numpy(), context.graph, context.layers)), None, None


def smoothed(base: Any, graph: "Graph", layers: int) -> Any:
    """(E + G E + ... + G^L E) / (L + 1), by Horner's rule: one product a layer, no layer kept."""
    pooled = base
    for _ in range(layers):
        pooled = base + graph @ pooled
    return pooled / np.float32(layers + 1)


def normalised_graph(train: Interactions) -> "Graph":
    """(U + I, U + I) D^-1/2 A D^-1/2, with users first; users and items without interactions have no edge."""
    users, items = train.user_rows, train.item_rows + len(train.users)
    size = len(train.users) + len(train.items)
    degrees = np.bincount(users, minlength=size) + np.bincount(items, minlength=size)
    weights = (1 / np.sqrt(degrees[users] * degrees[items])).astype(np.float32)
    edges = np.concatenate([users, items]), np.concatenate([items, users])
    graph = csr_array((np.tile(weights, 2), edges), shape=(size, size))
    graph.sort_indices()
    return graph
