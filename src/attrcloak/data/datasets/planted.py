"""Tables whose leak is known, to see attackers find it and methods lower it."""

from typing import Literal

import numpy as np

from attrcloak.data.attributes import UserAttributes
from attrcloak.data.embeddings import EmbeddingTable
from attrcloak.data.ids import Ids
from attrcloak.data.interactions import Interactions
from attrcloak.errors import InvalidSettings

Kind = Literal["linear", "quadratic", "higher-order"]


def planted_leak(
    kind: Kind = "linear", *, users: int = 1000, dim: int = 16, strength: float = 2.0, seed: int = 0
) -> tuple[EmbeddingTable, UserAttributes]:
    """Normal vectors that give away a two-class attribute "group" in one known way.

    | kind | what differs between the classes | blind to it |
    |---|---|---|
    | linear | the mean of column 0, by ``strength`` standard deviations | nobody |
    | quadratic | the variance of column 0, by a factor of (1 + strength)^2 | linear attackers |
    | higher-order | the sign of the product of columns 0, 1 and 2 | linear and Gaussian attackers |

    Args:
        kind: the way.
        users: rows, at least 2.
        dim: columns, at least 3.
        strength: 0 leaks nothing; for "higher-order" the share of users whose sign is set is min(strength / 2, 1).
        seed: draws everything.
    """
    if kind not in ("linear", "quadratic", "higher-order") or users < 2 or dim < 3 or strength < 0:
        raise InvalidSettings(
            f"planted_leak(kind={kind!r}, users={users}, dim={dim}, strength={strength}): the kind is linear, "
            "quadratic or higher-order, users at least 2, dim at least 3, strength at least 0"
        )
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(users) % 2)
    vectors = rng.normal(size=(users, dim))
    if kind == "linear":
        vectors[:, 0] += strength * (labels - 0.5)
    elif kind == "quadratic":
        vectors[labels == 1, 0] *= 1 + strength
    else:
        wrong = np.sign(vectors[:, :3].prod(axis=1)) != 2 * labels - 1
        turned = wrong & (rng.random(users) < min(strength / 2, 1))
        vectors[turned, 2] *= -1
    people = UserAttributes.from_values(Ids.range(users), group=[("a", "b")[label] for label in labels.tolist()])
    return EmbeddingTable(Ids.range(users), vectors.astype(np.float32), f"planted {kind} leak", scoring="dot"), people


def planted_interactions(table: EmbeddingTable, *, items: int = 200, each: int = 20, seed: int = 0) -> Interactions:
    """Each user takes the ``each`` items of the highest noisy dot product with random item vectors, in random order."""
    rng = np.random.default_rng(seed)
    scores = table.free @ rng.normal(size=(table.free.shape[1], items)) + rng.gumbel(size=(len(table), items))
    chosen = np.argsort(-scores, axis=1)[:, :each]
    times = rng.random(chosen.shape).argsort(axis=1)
    return Interactions.from_ids(np.repeat(table.ids.values, chosen.shape[1]), chosen.reshape(-1), times.reshape(-1))
