"""RAP: who learns from what in a step, what it serves, and that the attackers it trained with read less."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attrcloak.attackers.classifiers import MLPAttacker
from attrcloak.auditing import PAPER, AuditReport, audit
from attrcloak.data.attributes import UserAttributes
from attrcloak.data.datasets import load
from attrcloak.data.datasets.planted import planted_interactions, planted_leak
from attrcloak.data.ids import Ids
from attrcloak.data.interactions import Split
from attrcloak.errors import InvalidInput, InvalidSettings, NotSupported
from attrcloak.recommenders import train, training
from attrcloak.recommenders.bpr_mf import Factors
from attrcloak.recommenders.protected import PROTECTED, protected_class
from attrcloak.recommenders.protected.rap import RAP, Attackers, perceptron
from attrcloak.recommenders.training import seeded

SETTINGS = {"factors": 8, "batch": 512, "epochs": 6, "check_every": 1, "learning_rate": 0.02, "threads": 1}


@pytest.fixture(scope="module")
def planted() -> tuple[Split, UserAttributes]:
    """300 users whose taste follows "group"; "town" says nothing, and a third of the users did not ask for it."""
    table, people = planted_leak("linear", users=300, dim=6, strength=4.0, seed=0)
    group = [people["group"].classes[code] for code in people["group"].codes]
    town = np.random.default_rng(0).choice(["north", "south", "west", ""], size=300).tolist()
    both = UserAttributes.from_values(people.ids, group=group, town=town)
    both = both.mark({"group": Ids.range(300), "town": np.flatnonzero(np.array(town) != "")[::2]})
    return planted_interactions(table, items=80, each=15).leave_one_out(0), both


def a_step(alpha: float = 2.0, **settings: Any) -> tuple[Attackers, Factors, torch.Tensor]:
    """Attackers of two attributes, a module of six users of whom the last did not ask, and users of triples."""
    codes = torch.tensor([[0, 2], [1, 0], [0, -1], [1, 1], [0, 0], [-1, -1]])
    model: Any = seeded(0, lambda: Factors(6, 3, 4))
    networks = seeded(1, lambda: torch.nn.ModuleList([perceptron(4, (5,), 2), perceptron(4, (5,), 3)]))
    return Attackers(RAP(alpha=alpha, **settings), networks, codes), model, torch.tensor([5, 0, 0, 1, 2, 5, 3])


def test_the_loss_is_minus_alpha_times_the_mean_cross_entropy_of_attackers_that_have_learned() -> None:
    attackers, model, users = a_step(alpha=2.0)
    before = [p.detach().clone() for p in attackers.networks.parameters()]
    loss = attackers.loss(model, users)
    assert all(not torch.equal(a, b) for a, b in zip(before, attackers.networks.parameters(), strict=True))
    networks: Any = attackers.networks
    x = model.users.weight
    gender = torch.nn.functional.cross_entropy(networks[0](x[:4]), attackers.codes[:4, 0])
    town = torch.nn.functional.cross_entropy(networks[1](x[[0, 1, 3]]), attackers.codes[[0, 1, 3], 1])
    assert loss.item() == pytest.approx(-(gender + town).item())
    (expected,) = torch.autograd.grad(-(gender + town), [x])
    torch.autograd.backward(loss)
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.numpy(), expected.numpy(), rtol=1e-5, atol=1e-8)
    assert (x.grad[4:] == 0).all()  # one user is not in the step, one did not ask
    assert (x.grad[:4] != 0).any(dim=1).all()


def test_the_two_sides_do_not_take_each_others_steps() -> None:
    attackers, model, users = a_step()
    loss = attackers.loss(model, users)
    assert model.users.weight.grad is None  # the attackers learn from detached vectors
    own = [p.grad.clone() for p in attackers.networks.parameters() if p.grad is not None]
    torch.autograd.backward(loss)
    kept = [p.grad for p in attackers.networks.parameters() if p.grad is not None]
    assert len(own) == len(kept) == 8
    assert all(torch.equal(a, b) for a, b in zip(own, kept, strict=True))


def test_attackers_learn_vectors_that_stand_still() -> None:
    attackers, model, users = a_step(attacker_steps=20, attacker_learning_rate=0.01)
    losses = [-attackers.loss(model, users).item() for _ in range(10)]
    assert losses[-1] < 0.5 * losses[0]


def test_a_step_without_anybody_who_asked_adds_nothing() -> None:
    attackers, model, _ = a_step()
    assert attackers.loss(model, torch.tensor([5, 5])).item() == 0


@pytest.mark.parametrize("backbone", ["bpr-mf", "ncf", "lightgcn"])
def test_without_weight_it_is_the_recommender_at_its_last_epoch(
    backbone: str, planted: tuple[Split, UserAttributes]
) -> None:
    split, people = planted
    plain = train(backbone, replace(split, validation_items=np.full(300, -1, dtype=np.int32)), settings=SETTINGS)
    shadowed = RAP(alpha=0.0).fit(backbone, split, people, settings=SETTINGS)
    assert shadowed.users.fingerprint() == plain.users.fingerprint()
    np.testing.assert_array_equal(shadowed.items, plain.items)


def test_it_runs_all_epochs_and_serves_the_last(
    monkeypatch: pytest.MonkeyPatch, planted: tuple[Split, UserAttributes]
) -> None:
    shown: list[np.ndarray] = []

    def worse_and_worse(users: np.ndarray, *_: object) -> float:
        shown.append(users.copy())
        return 1 / len(shown)

    monkeypatch.setattr(training, "validation_ndcg", worse_and_worse)
    model = RAP().fit("bpr-mf", *planted, settings={**SETTINGS, "patience": 1})
    assert len(model.history) == len(shown) == 6
    np.testing.assert_array_equal(model.users.vectors, shown[-1])


def test_the_attackers_it_trained_with_read_less(planted: tuple[Split, UserAttributes]) -> None:
    split, people = planted
    settings = {**SETTINGS, "epochs": 30}
    labels = people["group"].codes
    known = np.arange(300) % 2 == 0

    def read(vectors: np.ndarray) -> float:
        scores = MLPAttacker().fit_predict(vectors[known], labels[known], vectors[~known], 2, 0)
        return float((scores.argmax(axis=1) == labels[~known]).mean())

    before = read(train("bpr-mf", split, settings=settings).users.vectors)
    after = read(RAP().fit("bpr-mf", split, people, settings=settings).users.vectors)
    assert before > 0.75
    assert after < before - 0.15


def test_same_seed_same_vectors_and_everything_is_recorded(planted: tuple[Split, UserAttributes]) -> None:
    split, people = planted
    rap = RAP(alpha=0.5, hidden=(16,))
    one, same, other = (rap.fit("bpr-mf", split, people, settings=SETTINGS, seed=seed) for seed in (1, 1, 2))
    assert one.users.fingerprint() == same.users.fingerprint() != other.users.fingerprint()
    assert one.name == "bpr-mf"
    assert one.users.ids.equals(split.train.users)
    protection = one.settings["protection"]
    assert protection.pop("name") == "rap"
    own = protection.pop("own attackers' accuracy")
    assert list(own) == ["group", "town"]
    assert all(0 < share < 1 for share in own.values())
    assert RAP(**protection) == rap
    assert one.settings["epochs"] == 6


def test_an_interrupted_training_ends_in_the_same_vectors(
    planted: tuple[Split, UserAttributes], tmp_path: Path
) -> None:
    split, people = planted
    whole = RAP().fit("ncf", split, people, settings=SETTINGS)

    def interrupt(_: str, done: int, total: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        RAP().fit("ncf", split, people, settings=SETTINGS, progress=interrupt, checkpoints=tmp_path)
    continued = RAP().fit("ncf", split, people, settings=SETTINGS, checkpoints=tmp_path)
    assert continued.users.fingerprint() == whole.users.fingerprint()
    with pytest.raises(InvalidInput, match=r"adversary alpha: 1\.0 there, 2\.0 here"):
        RAP(alpha=2.0).fit("ncf", split, people, settings=SETTINGS, checkpoints=tmp_path)
    with pytest.raises(InvalidInput, match="adversary people digest differ"):
        RAP().fit("ncf", split, people.mark({"group": [1]}), settings=SETTINGS, checkpoints=tmp_path)


@pytest.mark.parametrize("backbone", ["als", "bpr"])
def test_models_that_take_no_loss_are_refused(backbone: str, planted: tuple[Split, UserAttributes]) -> None:
    with pytest.raises(NotSupported, match=f"'{backbone}' is fitted by a library.*use bpr-mf, ncf or lightgcn"):
        RAP().fit(backbone, *planted)


def test_nobody_asked(planted: tuple[Split, UserAttributes]) -> None:
    split, people = planted
    with pytest.raises(InvalidInput, match="none of the 300 users has a known class and a request for group, town"):
        RAP().fit("bpr-mf", split, people.mark({}))


@pytest.mark.parametrize(
    "settings", [{"alpha": -1}, {"attacker_learning_rate": 0}, {"attacker_steps": 0}, {"hidden": (8, 0)}], ids=repr
)
def test_a_setting_out_of_range_is_named(settings: dict[str, Any]) -> None:
    with pytest.raises(InvalidSettings, match=next(iter(settings))):
        RAP(**settings)


def test_the_table_of_protections() -> None:
    assert "rap" in PROTECTED
    assert all(protected_class(name).name == name for name in PROTECTED)
    with pytest.raises(InvalidSettings, match="did you mean 'rap'"):
        protected_class("raps")


@pytest.mark.data
@pytest.mark.slow
def test_slow_attackers_end_at_the_largest_class_and_leave_more_to_read(shared_data: Callable[[str], Path]) -> None:
    """MovieLens 100K, 40 epochs, seed 0, XGBoost on gender with 20 % known, plain accuracy: .71 without protection, .87
    beside slow attackers, .68 beside attackers that keep up."""
    data = load("ml-100k", shared_data("ml-100k"))
    split, settings = data.interactions.leave_one_out(0), {"threads": 1, "epochs": 40}
    people = data.people.select(["gender"])
    protocol = replace(PAPER, folds=5, permutations=99, resamples=99)

    def read(report: AuditReport) -> float:
        return next(result.balanced_accuracy for result in report.results if result.surface == "vectors")

    found = {}
    for name, rap in (("slow", RAP.paper()), ("fast", RAP())):
        model = rap.fit("bpr-mf", split, data.people, settings=settings)
        found[name] = read(audit(model.users, people, attackers=["xgboost"], protocol=protocol, workers=1))
        if name == "slow":
            own = model.settings["protection"]["own attackers' accuracy"]["gender"]
            assert own < 0.74  # .711 is the share of the largest class
    plain = train("bpr-mf", split, settings=settings)
    found["none"] = read(audit(plain.users, people, attackers=["xgboost"], protocol=protocol, workers=1))
    assert found["slow"] > found["none"] + 0.1
    assert found["fast"] < found["none"]
