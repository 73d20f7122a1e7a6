"""A trained recommender: user vectors, item vectors, and its own loss as a function of the user vectors."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attrcloak.data.embeddings import EmbeddingTable
from attrcloak.data.ids import Ids
from attrcloak.data.interactions import Interactions
from attrcloak.errors import InvalidInput, UnreadableFile
from attrcloak.moments.arrays import Array, beside, device_of, is_numpy_array, namespace, sums_of_runs
from attrcloak.recommenders.negatives import Seen
from attrcloak.whole_file import replacing

SCHEMA = "attrcloak/recommender/1"
TRIPLES_PER_USER = 5
USERS_PER_CHUNK = 1024


@dataclass(frozen=True, eq=False)
class Recommender:
    """Dot-product scoring of users and items: score(u, i) = <users[u], items[i]>.

    Attributes:
        name: of the model, such as "als".
        users: the user vectors that are served, and that unlearning moves; ``users.represents`` says what they are.
        items: (I, d) float32 item vectors in the order of the split's items; frozen from here on.
        settings: of the training.
        seed: of the training.
        seconds: wall time of the training.
        history: NDCG@10 on the validation items after each check; one value for models that are fitted in one go,
            empty when no user has a validation item.
    """

    name: str
    users: EmbeddingTable
    items: NDArray[np.float32]
    settings: Mapping[str, Any]
    seed: int
    seconds: float
    history: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        items = np.array(self.items, dtype=np.float32)
        if items.ndim != 2 or items.shape[1] != self.users.dim:
            raise InvalidInput(f"item vectors have shape {items.shape}, expected (items, {self.users.dim})")
        items.setflags(write=False)
        object.__setattr__(self, "items", items)

    def score(self, user_vectors: NDArray[np.floating]) -> NDArray[np.float32]:
        """(m, I) scores of all items for (m, d) user vectors, frozen columns included."""
        scores: NDArray[np.float32] = np.asarray(user_vectors, dtype=np.float32) @ self.items.T
        return scores

    def save(self, path: Path) -> None:
        """Write vectors, settings and history as a safetensors file, whole or not at all; ids are not in it."""
        from safetensors.numpy import save_file

        described = {
            "schema": SCHEMA,
            "name": self.name,
            "represents": self.users.represents,
            "frozen_columns": list(self.users.frozen_columns),
            "scoring": self.users.scoring,
            "settings": dict(self.settings),
            "seed": self.seed,
            "seconds": self.seconds,
            "history": list(self.history),
            "fingerprint": self.users.fingerprint(),
        }
        tensors = {"users": np.ascontiguousarray(self.users.vectors), "items": np.ascontiguousarray(self.items)}
        with replacing(path) as temporary:
            save_file(tensors, temporary, metadata={"attrcloak": json.dumps(described)})

    @classmethod
    def load(cls, path: Path, ids: Ids) -> "Recommender":
        """Read what ``save`` wrote.

        Args:
            path: the file.
            ids: of the users, in the order of the split it was trained on.

        Raises:
            UnreadableFile: not such a file.
            InvalidInput: it was trained on other users, or on the same in another order.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as file:
                described = json.loads((file.metadata() or {}).get("attrcloak", "{}"))
                if described.get("schema") != SCHEMA:
                    found = described.get("schema")
                    raise UnreadableFile(f"{path} is not a recommender ({SCHEMA}); its schema is {found!r}")
                users, items = file.get_tensor("users"), file.get_tensor("items")
        except (OSError, SafetensorError, ValueError) as error:
            raise UnreadableFile(
                f"{path} cannot be read as a recommender: {error}; delete it to train again"
            ) from error
        table = EmbeddingTable(
            ids,
            users,
            represents=described["represents"],
            frozen_columns=tuple(described["frozen_columns"]),
            scoring=described["scoring"],
        )
        if described["fingerprint"] != table.fingerprint():
            raise InvalidInput(f"{path} was trained on other users than these {len(ids)}, or the file was changed")
        return cls(
            described["name"],
            table,
            items,
            described["settings"],
            described["seed"],
            described["seconds"],
            tuple(described["history"]),
        )

    def loss(self, train: Interactions, batch: int | None = None) -> "BPRLoss":
        """The BPR loss of the user vectors on ``train``, items frozen: what AttrCloak-DD weighs leakage against.

        Args:
            train: what the loss samples from.
            batch: triples a gradient; five a user by default, so that its noise is the same at every size.
        """
        return BPRLoss.of(self.users, self.items, train, batch or TRIPLES_PER_USER * len(self.users))


@dataclass(frozen=True, eq=False)
class BPRLoss:
    """Bayesian personalised ranking of user vectors against frozen items (Rendle et al. 2009).

    In NumPy, or by torch where the user vectors are a tensor: triples are drawn in NumPy, so that they are the same on
    every device, and what is frozen goes to a device once.

    L = mean over sampled (u, i, j) of -log sigmoid(<x_u, v_i - v_j> + b_ui - b_uj), with i an item u interacted with,
    j a uniform draw from the rest, and b the part of the score that comes from frozen columns. The gradient on x_u
    is -sigmoid(-margin) (v_i - v_j), summed over the user's triples and divided by the number of triples.

    Attributes:
        items: (I, d_free) float64 item vectors of the free columns.
        frozen_users: (n, d_frozen) the users' frozen columns.
        frozen_items: (I, d_frozen) the items' values there.
        seen: the interactions to learn from.
        batch: triples of one call of ``gradient``.
    """

    items: NDArray[np.float64]
    frozen_users: NDArray[np.float64]
    frozen_items: NDArray[np.float64]
    seen: Seen = field(repr=False)
    batch: int = 32_768
    _frozen: dict[str, tuple[Array, Array, Array]] = field(init=False, repr=False, default_factory=dict)

    @classmethod
    def of(
        cls, users: EmbeddingTable, items: NDArray[np.floating], train: Interactions, batch: int = 32_768
    ) -> "BPRLoss":
        """From a table, its items and the interactions of the same users, in the same order."""
        if not users.ids.equals(train.users):
            raise InvalidInput(
                f"the table's {len(users)} users are not the {len(train.users)} users of the interactions in the same "
                "order; align them by id first"
            )
        if len(items) != len(train.items):
            raise InvalidInput(f"{len(items)} item vectors for {len(train.items)} items")
        if batch < 1:
            raise InvalidInput(f"a batch of {batch} triples is empty; use at least 1")
        frozen = list(users.frozen_columns)
        return cls(
            items=np.asarray(items[:, users.free_columns], dtype=np.float64),
            frozen_users=np.asarray(users.vectors[:, frozen], dtype=np.float64),
            frozen_items=np.asarray(items[:, frozen], dtype=np.float64),
            seen=Seen.of(train),
            batch=batch,
        )

    def gradient(self, user_vectors: Array, rng: np.random.Generator) -> tuple[float, Array]:
        """Loss and (n, d_free) gradient on one sampled batch of ``batch`` triples."""
        return self.on(user_vectors, *self.seen.triples(rng, self.batch))

    def best_unseen(
        self, user_vectors: NDArray[np.float64], count: int, constants: bool = True
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Each user's best items among those not in ``seen``.

        Args:
            user_vectors: (n, d_free) all users, in the order of the interactions.
            count: items in a list.
            constants: add what comes from frozen columns, such as item biases, to the score.

        Returns:
            (n, count) items, best first, -1 past the last unseen one, and their scores, 0 there.
        """
        users, known = np.divmod(self.seen.pairs, self.seen.item_count)
        length = min(count, len(self.items))
        items = np.full((len(user_vectors), count), -1, dtype=np.int64)
        found = np.zeros((len(user_vectors), count))
        for start in range(0, len(user_vectors), USERS_PER_CHUNK):
            part = slice(start, start + USERS_PER_CHUNK)
            scores = user_vectors[part] @ self.items.T
            if constants:
                scores += self.frozen_users[part] @ self.frozen_items.T
            first, last = np.searchsorted(users, [start, start + len(scores)])
            scores[users[first:last] - start, known[first:last]] = -np.inf
            best = np.argsort(-scores, axis=1, kind="stable")[:, :length]
            best_scores = np.take_along_axis(scores, best, axis=1)
            unseen = np.isfinite(best_scores)
            items[part, :length] = np.where(unseen, best, -1)
            found[part, :length] = np.where(unseen, best_scores, 0.0)
        return items, found

    def on(
        self,
        user_vectors: Array,
        users: NDArray[np.integer],
        positives: NDArray[np.integer],
        negatives: NDArray[np.integer],
    ) -> tuple[float, Array]:
        """Loss and (n, d_free) gradient on the given triples, each (b,); 0 and zeros when there are none."""
        xp = namespace(user_vectors)
        gradient = xp.zeros_like(user_vectors, dtype=xp.float64)
        if len(users) == 0:
            return 0.0, gradient
        order = np.argsort(users, kind="stable")
        users, positives, negatives = users[order], positives[order], negatives[order]
        first = np.flatnonzero(np.diff(users, prepend=-1))  # of each user's triples
        u, i, j = (beside(each, user_vectors) for each in (users, positives, negatives))
        items, frozen_users, frozen_items = self._frozen_beside(user_vectors)
        difference = items[i] - items[j]
        margin = xp.vecdot(user_vectors[u], difference)
        if frozen_users.shape[1]:
            margin += xp.vecdot(frozen_users[u], frozen_items[i] - frozen_items[j])
        zero = xp.zeros_like(margin)
        loss = float(xp.mean(xp.logaddexp(zero, -margin)))
        # sigmoid(-margin) by logaddexp, which neither overflows nor loses small values.
        difference *= (-xp.exp(-xp.logaddexp(zero, margin)) / len(users))[:, None]
        gradient[beside(users[first], user_vectors)] = sums_of_runs(difference, np.diff(first, append=len(users)))
        return loss, gradient

    def _frozen_beside(self, user_vectors: Array) -> tuple[Array, Array, Array]:
        """Items and frozen columns where the user vectors lie; what went to a device stays there as long as this."""
        if is_numpy_array(user_vectors):
            return self.items, self.frozen_users, self.frozen_items
        where = device_of(user_vectors)
        if where not in self._frozen:
            items, users, constants = (
                beside(each, user_vectors) for each in (self.items, self.frozen_users, self.frozen_items)
            )
            self._frozen[where] = (items, users, constants)
        return self._frozen[where]
