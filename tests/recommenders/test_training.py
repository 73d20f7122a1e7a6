"""The training loop: stops early, keeps the best state, continues where it was cut off, leaves torch's state alone."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from attrcloak.data.interactions import Interactions, Split
from attrcloak.errors import InvalidInput, UnreadableFile
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
    epochs: list[int] = []
    model = train("bpr-mf", small(), settings=SETTINGS, progress=lambda _, done, __: epochs.append(done))
    assert model.history == (0.1, 0.3, 0.2, 0.1)
    assert epochs == [1, 2, 3, 4, 40]
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


def test_without_held_out_items_it_learns_from_everything_and_serves_the_last_epoch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    interactions = small().train
    split = interactions.without_held_out()
    assert split.train is interactions
    assert (split.test_items == -1).all()
    shown: list[np.ndarray] = []
    monkeypatch.setattr(training, "validation_ndcg", lambda users, *_: shown.append(users.copy()))
    model = train("bpr-mf", split, settings={**SETTINGS, "epochs": 5})
    assert model.history == ()
    assert len(shown) == 5
    np.testing.assert_array_equal(model.users.vectors, shown[-1])


class Interrupted(Exception):
    pass


def interrupt_after(epochs: int) -> Callable[[str, int, int], None]:
    def progress(_: str, done: int, total: int) -> None:
        if done == epochs:
            raise Interrupted

    return progress


@pytest.mark.parametrize("model", ["bpr-mf", "ncf", "lightgcn"])
@pytest.mark.parametrize("after", [1, 4, 6])
def test_an_interrupted_training_ends_in_the_same_vectors(model: str, after: int, tmp_path: Path) -> None:
    settings = {**SETTINGS, "weight_decay": 0.01, "epochs": 7, "check_every": 2, "patience": 9}
    split, file = small(), tmp_path / "training.safetensors"
    whole = train(model, split, seed=3, settings=settings)
    with pytest.raises(Interrupted):
        train(model, split, seed=3, settings=settings, progress=interrupt_after(after), checkpoint=file)
    assert file.exists() == (after > 2)
    went_on: list[int] = []
    continued = train(
        model, split, seed=3, settings=settings, checkpoint=file, progress=lambda _, done, __: went_on.append(done)
    )
    assert went_on == list(range((after - 1) // 2 * 2 + 1, 8))
    assert continued.users.fingerprint() == whole.users.fingerprint()
    np.testing.assert_array_equal(continued.items, whole.items)
    assert continued.history == whole.history
    assert list(tmp_path.iterdir()) == [file]


def test_a_training_that_stopped_early_is_not_continued(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    scripted = iter([0.1, 0.3, 0.2, 0.1])
    monkeypatch.setattr(training, "validation_ndcg", lambda *_: next(scripted))
    file = tmp_path / "training.safetensors"
    first = train("bpr-mf", small(), settings=SETTINGS, checkpoint=file)
    again = train("bpr-mf", small(), settings=SETTINGS, checkpoint=file, progress=interrupt_after(5))
    assert again.users.fingerprint() == first.users.fingerprint()
    assert again.history == first.history == (0.1, 0.3, 0.2, 0.1)


def test_a_checkpoint_of_another_training_is_refused_and_says_why(tmp_path: Path) -> None:
    file = tmp_path / "training.safetensors"
    split, settings = small(), {**SETTINGS, "epochs": 2}
    train("bpr-mf", split, settings=settings, checkpoint=file)
    before = file.read_bytes()
    with pytest.raises(InvalidInput, match="another training") as refused:
        train("bpr-mf", split, seed=5, settings={**settings, "learning_rate": 0.1}, checkpoint=file)
    assert refused.value.problems[1:] == ("seed: 0 there, 5 here", "setting learning_rate: 0.05 there, 0.1 here")
    with pytest.raises(InvalidInput, match="model: 'bpr-mf' there, 'lightgcn' here"):
        train("lightgcn", split, settings=settings, checkpoint=file)
    with pytest.raises(InvalidInput, match="interactions differ"):
        train("bpr-mf", split.train.leave_one_out(0), settings=settings, checkpoint=file)
    assert file.read_bytes() == before


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    file = tmp_path / "training.safetensors"
    save_file({"users": np.ones(3)}, file)
    with pytest.raises(UnreadableFile, match="not a checkpoint"):
        train("bpr-mf", small(), settings=SETTINGS, checkpoint=file)
    train("bpr-mf", small(), settings={**SETTINGS, "epochs": 2}, checkpoint=tmp_path / "whole.safetensors")
    file.write_bytes((tmp_path / "whole.safetensors").read_bytes()[:-40])
    with pytest.raises(UnreadableFile, match="not a whole checkpoint"):
        train("bpr-mf", small(), settings={**SETTINGS, "epochs": 2}, checkpoint=file)


def test_models_fitted_in_one_go_leave_the_checkpoint_alone(tmp_path: Path) -> None:
    train("als", small(), settings={"factors": 4, "iterations": 2}, checkpoint=tmp_path / "training.safetensors")
    assert not list(tmp_path.iterdir())
