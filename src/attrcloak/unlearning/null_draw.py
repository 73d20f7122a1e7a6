"""The secret permutation of labels that a calibrated table is made to look like."""

import hmac
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attrcloak.moments.cell_key import NOT_MARKED


def null_labels(codes: NDArray[np.int32], ids: NDArray[Any], key: bytes) -> NDArray[np.int32]:
    """Labels under a random permutation of the users, the same one for all attributes.

    Every user gets two pseudo-random places from the key and the user's own id (HMAC-SHA256): one in the order of
    givers and one in the order of takers. For each attribute, the r-th taker among the users marked for it receives
    the class of the r-th giver among them. Where all users marked the same attributes this is one permutation, so
    whole combinations of classes travel together; where marks differ, every attribute keeps its own class counts.
    Nothing depends on the order of rows, so any machine that has the key and the ids draws the same labels.

    Args:
        codes: (n, A) class codes, -1 where not marked.
        ids: (n,) user ids.
        key: secret key. Whoever has it can undo the protection against the moment-equation attack.

    Returns:
        (n, A) drawn class codes; -1 exactly where ``codes`` is.
    """
    givers, takers = (_order(ids, key, purpose) for purpose in (b"give", b"take"))
    drawn = np.full_like(codes, NOT_MARKED)
    for attribute in range(codes.shape[1]):
        marked = codes[:, attribute] != NOT_MARKED
        drawn[takers[marked[takers]], attribute] = codes[givers[marked[givers]], attribute]
    return drawn


def _order(ids: NDArray[Any], key: bytes, purpose: bytes) -> NDArray[np.int64]:
    places = [hmac.digest(key, purpose + str(value).encode(), "sha256")[:16] for value in ids.tolist()]
    return np.argsort(np.array(places, dtype="S16"), kind="stable")


def secret_generator(key: bytes, purpose: bytes) -> np.random.Generator:
    """A random generator that only the holder of the key can repeat."""
    return np.random.default_rng(np.frombuffer(hmac.digest(key, purpose, "sha256"), dtype=np.uint64))
