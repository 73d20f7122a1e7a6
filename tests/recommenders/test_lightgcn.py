"""LightGCN: the graph and its gradient, one smoothing a step, and the pooled vector served."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attrcloak.data.datasets import load
from attrcloak.data.ids import Ids
from attrcloak.data.interactions import Interactions
from attrcloak.errors import InvalidSettings
from attrcloak.evaluation import evaluate
from attrcloak.recommenders import lightgcn, train
from attrcloak.recommenders.lightgcn import Convolution, Smoothing, normalised_graph, smoothed
from attrcloak.recommenders.training import seeded, served

SETTINGS = {"factors": 4, "batch": 64, "epochs": 3, "check_every": 1, "learning_rate": 0.05, "threads": 1}


def interactions() -> Interactions:
    """30 users and 25 items; the last user and the last item have no interactions."""
    rng = np.random.default_rng(0)
    pairs = np.unique(rng.integers(0, 29, 240) * 25 + rng.integers(0, 24, 240))
    return Interactions(Ids.range(30), Ids.range(25), *(rows.astype(np.int32) for rows in np.divmod(pairs, 25)))


def test_the_graph_is_the_normalised_adjacency() -> None:
    train_part = interactions()
    adjacency = np.zeros((55, 55))
    adjacency[:30, 30:] = train_part.matrix.toarray()
    adjacency += adjacency.T
    degrees = np.maximum(adjacency.sum(axis=0), 1)
    graph = normalised_graph(train_part).toarray()
    np.testing.assert_allclose(graph, adjacency / np.sqrt(np.outer(degrees, degrees)), rtol=1e-6)
    np.testing.assert_array_equal(graph, graph.T)
    assert np.abs(np.linalg.eigvalsh(graph)).max() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("layers", [0, 1, 3])
def test_vectors_are_the_mean_of_the_layers(layers: int) -> None:
    graph = normalised_graph(interactions())
    base = np.random.default_rng(1).normal(size=(55, 4))
    powers = [np.linalg.matrix_power(graph.toarray().astype(np.float64), layer) @ base for layer in range(layers + 1)]
    np.testing.assert_allclose(smoothed(base, graph, layers), np.mean(powers, axis=0), rtol=1e-5, atol=1e-7)


def test_gradient_agrees_with_finite_differences() -> None:
    graph = normalised_graph(interactions())
    base = torch.from_numpy(np.random.default_rng(1).normal(size=(55, 2))).requires_grad_()
    assert torch.autograd.gradcheck(lambda table: Smoothing.apply(table, graph, 3), (base,))


def test_the_pooled_vector_is_served() -> None:
    train_part = interactions()
    model: Any = seeded(0, lambda: Convolution(train_part, 4, 2))
    users, items = served(model, 30, 25)
    with torch.no_grad():
        base = torch.cat([model.users.weight, model.items.weight]).numpy()
    pooled = smoothed(base, normalised_graph(train_part), 2)
    np.testing.assert_allclose(users, pooled[:30], rtol=1e-6)
    np.testing.assert_allclose(items, pooled[30:], rtol=1e-6)
    np.testing.assert_allclose(users[29], base[29] / 3, rtol=1e-6)  # a user without interactions


def test_the_graph_is_walked_once_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    walks = 0

    def counted(*arguments: Any) -> Any:
        nonlocal walks
        walks += 1
        return smoothed(*arguments)

    monkeypatch.setattr(lightgcn, "smoothed", counted)
    split = interactions().without_held_out()
    train("lightgcn", split, settings=SETTINGS)
    steps = -(-len(split.train) // 64) * 3
    assert walks == 2 * steps + 4  # there and back in each step, once a check, and once for what is served


def test_without_layers_it_is_matrix_factorisation() -> None:
    split = interactions().leave_one_out(0)
    flat = train("lightgcn", split, settings={**SETTINGS, "layers": 0, "weight_decay": 0.01})
    plain = train("bpr-mf", split, settings={**SETTINGS, "weight_decay": 0.01})
    np.testing.assert_allclose(flat.users.vectors, plain.users.vectors, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(flat.items, plain.items, rtol=1e-3, atol=1e-4)


def test_a_negative_number_of_layers_is_refused() -> None:
    with pytest.raises(InvalidSettings, match="layers is -1"):
        train("lightgcn", interactions().leave_one_out(0), settings={"layers": -1})


@pytest.mark.data
@pytest.mark.slow
def test_it_is_at_least_as_good_as_matrix_factorisation(shared_data: Callable[[str], Path]) -> None:
    """MovieLens 100K, defaults, seed 0: validation NDCG@10 .179 against .176, test .076 against .066."""
    split = load("ml-100k", shared_data("ml-100k")).interactions.leave_one_out(0)
    convolved, factorised = (train(m, split, settings={"threads": 1}) for m in ("lightgcn", "bpr-mf"))
    assert max(convolved.history) > 0.165
    reached = [
        evaluate(lambda rows, model=model: model.score(model.users.vectors[rows]), split).values["ndcg@10"]
        for model in (convolved, factorised)
    ]
    assert reached[0] >= reached[1]
