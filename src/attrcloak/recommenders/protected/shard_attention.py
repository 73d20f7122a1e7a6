"""RecEraser's attention over sub-models: one map a shard, and weights of users and of items, learned by BPR."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from attrcloak.data.interactions import Split
from attrcloak.errors import MissingExtra
from attrcloak.progress import Progress
from attrcloak.recommenders.negatives import Seen
from attrcloak.recommenders.validation import validation_ndcg

try:
    import torch
    from torch import Tensor, nn
except ImportError as error:
    raise MissingExtra('RecEraser with aggregation="attention" (aggregation="mean" does without)', "torch") from error

EPOCHS = 30
BATCH = 8192
MIN_STEPS = 20
LEARNING_RATE = 3e-3
PATIENCE = 3


class ShardAttention(nn.Module):
    """One vector from the k of the sub-models (Chen et al., WWW 2022, section 3.4).

    p_i = W_i x_i + b_i moves shard i into a common space, and the weights over shards are
    softmax_i(h . relu(A p_i + a)), with h, A and a of users and of items. Shards that do not know the user or item have
    weight 0, and one whom none knows has the vector 0. The maps start as the identity and h as 0: the plain mean.
    """

    def __init__(self, shards: int, factors: int) -> None:
        super().__init__()
        self.maps = nn.Parameter(torch.eye(factors).repeat(shards, 1, 1))
        self.offsets = nn.Parameter(torch.zeros(shards, 1, factors))
        self.hidden = nn.ModuleList(nn.Linear(factors, factors) for _ in ("users", "items"))
        self.heads = nn.ParameterList(torch.zeros(factors) for _ in ("users", "items"))

    def forward(self, vectors: Tensor, side: int) -> Tensor:
        """(n, d) vectors of users (side 0) or items (1) from the (k, n, d) of the sub-models.

        Only pairs of shard and row that know each other are computed; most items are known by few shards.
        """
        known = (vectors != 0).any(dim=2)
        shard, row = known.nonzero(as_tuple=True)
        of_shards = zip(vectors, known, self.maps, self.offsets, strict=True)
        moved = torch.cat([own[knows] @ to_common + offset for own, knows, to_common, offset in of_shards])
        scores = moved.new_full(known.shape, -1e9)
        scores[shard, row] = torch.relu(self.hidden[side](moved)) @ self.heads[side]
        weights = torch.softmax(scores, dim=0)[shard, row]
        mixed: Tensor = moved.new_zeros(vectors.shape[1:]).index_add(0, row, weights[:, None] * moved)
        return mixed


def aggregate(
    users: NDArray[np.float32],
    items: NDArray[np.float32],
    split: Split,
    seed: int,
    progress: Progress | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Learn the attention on ``split.train`` with the sub-models frozen, and apply it.

    Adam on the BPR loss with uniform negatives; stops early on the validation items. The source does not state its
    epochs and steps for this part: at most 30 epochs of batches of 8192, or of smaller ones where that makes fewer than
    20 steps, at rate 3e-3, the best one kept, after three without a new best. The vectors are scaled to a mean squared
    length of d over all users, and over all items, before, so that one rate fits every backbone. One thread, so the
    same seed gives the same vectors.

    Args:
        users: (k, U, d) vectors of the sub-models.
        items: (k, I, d) likewise.
        split: what is remembered.
        seed: of initial values, order and negatives.
        progress: called with ("aggregating shards", epochs done, epochs).

    Returns:
        (U, d) and (I, d).
    """
    threads_before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model: Any = ShardAttention(users.shape[0], users.shape[2])
        sides = [torch.from_numpy(_scaled(vectors)) for vectors in (users, items)]
        return _descend(model, sides, split, seed, progress)
    finally:
        torch.set_num_threads(threads_before)


def _scaled(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    known = vectors[(vectors != 0).any(axis=2)]
    scale = np.sqrt(np.mean(known.astype(np.float64) ** 2)) if len(known) else 1.0
    return (vectors / scale).astype(np.float32)


def _descend(
    model: Any, sides: list[Tensor], split: Split, seed: int, progress: Progress | None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The vectors of the best epoch, or of the last where there are no validation items."""

    def served() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        with torch.no_grad():
            return model(sides[0], 0).numpy(), model(sides[1], 1).numpy()

    seen = Seen.of(split.train)
    rng = np.random.default_rng(seed)
    optimiser = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    batch = max(1, min(BATCH, len(seen.users) // MIN_STEPS))
    best = served()
    best_score, stale = validation_ndcg(*best, split), 0
    for epoch in range(1, EPOCHS + 1):
        order = rng.permutation(len(seen.users))
        for start in range(0, len(order), batch):
            chosen = order[start : start + batch]
            triple = (seen.users[chosen], seen.items[chosen], seen.unseen(seen.users[chosen], rng))
            u, i, j = (torch.from_numpy(rows) for rows in triple)
            # The vectors of the rows that the triples read, each once: a catalogue can be far larger than a batch.
            users, of_triple = torch.unique(u, return_inverse=True)
            items, of_pair = torch.unique(torch.stack([i, j]), return_inverse=True)
            user_vectors, item_vectors = model(sides[0][:, users], 0), model(sides[1][:, items], 1)
            margin = (user_vectors[of_triple] * (item_vectors[of_pair[0]] - item_vectors[of_pair[1]])).sum(dim=1)
            optimiser.zero_grad()
            torch.autograd.backward(nn.functional.softplus(-margin).mean())
            optimiser.step()
        if progress is not None:
            progress("aggregating shards", epoch, EPOCHS)
        vectors = served()
        score = validation_ndcg(*vectors, split)
        if score is None or best_score is None or score > best_score:
            best, best_score, stale = vectors, score, 0
            continue
        stale += 1
        if stale >= PATIENCE:
            if progress is not None:
                progress("aggregating shards", EPOCHS, EPOCHS)
            break
    return best
