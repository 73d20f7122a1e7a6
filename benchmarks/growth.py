"""How the two passes grow with users, dimensions, cells and attributes; the solve of AttrCloak-DF beside them."""

from collections.abc import Iterator
from functools import partial

import numpy as np

from attrcloak.moments import CellKey, cell_moments
from attrcloak.unlearning import AttrCloakDF
from benchmarks.measuring import Figure, in_turn
from benchmarks.tables import named, planted, some_eraser

DIM, CLASSES, STEPS, REPEATS = 64, (2, 7), 20, 5
USERS = (10_000, 100_000, 1_000_000, 10_000_000)
LINEAR_FROM = 100_000


def measure() -> Iterator[Figure]:
    """One quantity at a time, the others at 64 dimensions, 14 cells and 200,000 or 500,000 users."""
    yield from with_users()
    for dim in (32, 64, 128, 256, 512):
        yield Figure.of("both passes", named(200_000, dim, 14), both_passes(200_000, dim, CLASSES), unit="s")
    for classes in ((2,), (2, 7), (14, 21), (10, 10, 10), (10, 10, 10, 10)):
        cells = int(np.prod(classes))
        yield Figure.of("both passes", named(500_000, DIM, cells), both_passes(500_000, DIM, classes), unit="s")
    for attributes in (1, 2, 4, 8):
        yield from with_attributes(attributes)


def with_users() -> Iterator[Figure]:
    """The first rows of one large table, all sizes in turn."""
    vectors, cells, key = planted(USERS[-1], DIM, CLASSES)
    eraser, moved = some_eraser(key, DIM), np.zeros_like(vectors)

    def both(users: int) -> None:
        cell_moments(vectors[:users], cells[:users], key)
        eraser.apply(vectors[:users], cells[:users], out=moved[:users])

    took = in_turn({str(users): partial(both, users) for users in USERS}, REPEATS)
    for users in USERS:
        yield Figure.of("both passes", named(users, DIM, len(key)), took[str(users)], unit="s")
        yield Figure.of("both passes", named(users, DIM, len(key)), users / took[str(users)], unit="users/s")
    linear = [users for users in USERS if users >= LINEAR_FROM]
    slopes = np.polyfit(np.log(linear), np.log([took[str(users)] for users in linear]), 1)[0]
    yield Figure.of(
        "slope of log seconds against log users",
        f"{linear[0]:,} to {linear[-1]:,} users",
        slopes,
        unit="slope",
        level="1.0 +- .1",
    )


def both_passes(users: int, dim: int, classes: tuple[int, ...]) -> np.ndarray:
    """Seconds of both passes in each repetition, into memory that was there before: new memory has its own price."""
    vectors, cells, key = planted(users, dim, classes)
    eraser, moved = some_eraser(key, dim), np.zeros_like(vectors)
    took = in_turn(
        {"1": lambda: cell_moments(vectors, cells, key), "2": lambda: eraser.apply(vectors, cells, out=moved)}, REPEATS
    )
    return took["1"] + took["2"]


def with_attributes(attributes: int) -> Iterator[Figure]:
    """Binary attributes, so 2^A cells: finding every user's cell, both passes, and a few steps of descent."""
    vectors, cells, key = planted(500_000, DIM, (2,) * attributes)
    codes, eraser, moved = key.combinations[cells], some_eraser(key, DIM), np.zeros_like(vectors)
    moments = cell_moments(vectors, cells, key)
    took = in_turn(
        {
            "cells": lambda: CellKey.of(key.attributes, key.classes, codes),
            "1": lambda: cell_moments(vectors, cells, key),
            "2": lambda: eraser.apply(vectors, cells, out=moved),
            "solve": lambda: AttrCloakDF(solver="gradient descent", steps=STEPS).solve(moments),
        },
        3,
    )
    table = f"{attributes} attributes, {named(500_000, DIM, len(key))}"
    yield Figure.of("the cell of every user", table, took["cells"], unit="s")
    yield Figure.of("both passes", table, took["1"] + took["2"], unit="s")
    yield Figure.of("a step of descent", table, took["solve"] / STEPS, unit="s")
