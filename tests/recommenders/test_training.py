"""The training loop: stops early, keeps the best state, leaves torch's global state alone."""

import numpy as np
import pytest
import torch

from attrcloak.data.interactions import Interactions, Split
from attrcloak.recommenders import train, training
from attrcloak.recommenders.ncf import NCF
from attrcloak.recommenders.training import seeded
from attrcloak.recommenders.validation import validation_ndcg


def small() -> Split:
    rng = np.random.default_rng(0)
    return Interactions.from_ids(np.repeat(np.arange(30), 8), rng.integers(0, 25, 240), np.arange(240)).leave_one_out(0)


SETTINGS = {"factors": 4, "batch": 64, "epochs": 40, "check_every": 1, "patience": 2, "learning_rate": 0.05}


def test_it_stops_after_patience_and_serves_the_best_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted = iter([0.1, 0.3, 0.2, 0.1, 0.9])
    shown: list[np.ndarray] = []

    def score(users: np.ndarray, *_: object) -> float:
        shown.append(users.copy())
        return next(scripted)

    monkeypatch.setattr(training, "validation_ndcg", score)
    model = train("bpr-mf", small(), settings=SETTINGS)
    assert model.history == (0.1, 0.3, 0.2, 0.1)
    np.testing.assert_array_equal(model.users.vectors, shown[1])


def test_the_served_vectors_have_the_best_score_of_the_history() -> None:
    split = small()
    model = train("ncf", split, settings=SETTINGS)
    assert validation_ndcg(model.users.vectors, model.items, split) == pytest.approx(max(model.history))
    assert len(model.history) < 40


def test_without_validation_items_it_runs_all_epochs() -> None:
    calls: list[int] = []
    split = small().train.leave_one_out(0, validation=False)
    train("bpr-mf", split, settings={**SETTINGS, "epochs": 5}, progress=lambda _, done, __: calls.append(done))
    assert calls == [1, 2, 3, 4, 5]


def test_global_state_of_torch_is_left_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    threads = torch.get_num_threads()
    train("bpr-mf", small(), settings={**SETTINGS, "epochs": 1, "threads": threads + 1})
    assert torch.rand(1) == expected
    assert torch.get_num_threads() == threads


def test_seeded_draws_depend_on_the_seed_only() -> None:
    weights = [seeded(seed, lambda: torch.nn.Linear(3, 3)).weight for seed in (1, 1, 2)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_paper_form_of_ncf() -> None:
    paper = NCF.paper()
    assert (paper.factors, paper.layers, paper.learning_rate, paper.batch) == (128, 2, 1e-4, 512)
    assert NCF().factors == 128
    assert NCF().layers == 2


def test_ncf_serves_the_tower_and_not_the_embedding() -> None:
    from attrcloak.recommenders.ncf import Towers

    tower = seeded(0, lambda: Towers(5, 6, 8, 2))
    rows = torch.arange(5)
    users, items = training.served(tower, 5, 6)  # type: ignore[arg-type]
    with torch.no_grad():
        weights = [layer for layer in tower.user_tower if isinstance(layer, torch.nn.Linear)]
        by_hand = weights[1](torch.relu(weights[0](tower.users(rows)))).numpy()
    np.testing.assert_allclose(users, by_hand, rtol=1e-6)
    assert users.shape == (5, 8)
    assert items.shape == (6, 8)
    assert len(weights) == 2


def test_weight_decay_shortens_the_vectors() -> None:
    lengths = [
        np.linalg.norm(train("bpr-mf", small(), settings={**SETTINGS, "epochs": 5, "weight_decay": w}).users.vectors)
        for w in (0.0, 1.0)
    ]
    assert lengths[1] < lengths[0] / 2
