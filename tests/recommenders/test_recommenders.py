"""Every model: learns a checkerboard, keeps ids and orientation, repeats under a seed, says what it serves."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from attrcloak.data.ids import Ids
from attrcloak.data.interactions import Interactions, Split
from attrcloak.errors import InvalidInput, InvalidSettings, MissingExtra
from attrcloak.evaluation import evaluate
from attrcloak.recommenders import MODELS, Recommender, model_class, train

SMALL = {
    "als": {"factors": 8},
    "bpr": {"factors": 8, "learning_rate": 0.05, "regularization": 0.01},
    "bpr-mf": {"factors": 8, "learning_rate": 0.02, "batch": 256, "epochs": 25},
    "ncf": {"factors": 16, "learning_rate": 0.01, "batch": 256, "epochs": 25},
    "lightgcn": {"factors": 8, "learning_rate": 0.02, "batch": 256, "epochs": 25},
}
TORCH = ("bpr-mf", "ncf", "lightgcn")


def checkerboard(users: int = 60, items: int = 40, seed: int = 0) -> Split:
    """Users like the items of their own parity: about two thirds of them are shown, the rest is to be found."""
    rng = np.random.default_rng(seed)
    u, i = np.meshgrid(np.arange(users), np.arange(items), indexing="ij")
    keep = ((u + i) % 2 == 0) & (rng.random(u.shape) < 0.66)
    order = rng.permutation(keep.sum())
    ids = np.array([f"user {row}" for row in range(users)])
    return Interactions.from_ids(ids[u[keep]][order], i[keep][order], np.arange(keep.sum())).leave_one_out(seed)


@pytest.fixture(scope="module", params=MODELS)
def fitted(request: pytest.FixtureRequest) -> tuple[Split, Recommender]:
    split = checkerboard()
    return split, train(request.param, split, seed=1, settings=SMALL[request.param])


def test_checkerboard_is_learned(fitted: tuple[Split, Recommender]) -> None:
    split, model = fitted
    scores = model.score(model.users.vectors)
    parity_of_user = np.array([int(name.split()[1]) % 2 for name in split.train.users.values])
    liked = (parity_of_user[:, None] + split.train.items.values[None, :]) % 2 == 0
    unseen = split.train.matrix.toarray() == 0
    top = np.argsort(-np.where(unseen, scores, -np.inf), axis=1)[:, :3]
    assert np.take_along_axis(liked, top, axis=1).mean() > 0.95
    assert evaluate(lambda rows: scores[rows], split).values["hr@10"] > 0.9


def test_users_and_items_keep_their_orientation(fitted: tuple[Split, Recommender]) -> None:
    split, model = fitted
    assert model.users.ids.equals(split.train.users)
    assert model.users.vectors.shape[0] == 60
    assert model.items.shape == (40, model.users.dim)
    assert model.score(model.users.vectors[:7]).shape == (7, 40)
    assert model.items.dtype == model.users.vectors.dtype == np.float32


def test_it_says_what_it_serves(fitted: tuple[Split, Recommender]) -> None:
    _, model = fitted
    assert model.users.represents
    if model.name == "bpr":
        assert model.users.scoring == "dot+constant"
        assert model.users.frozen_columns == (model.users.dim - 1,)
        np.testing.assert_array_equal(model.users.vectors[:, -1], 1)
    else:
        assert model.users.scoring == "dot"
        assert model.users.frozen_columns == ()
        lengths = np.linalg.norm(model.users.vectors, axis=1, keepdims=True)
        order = np.argsort(-model.score(model.users.vectors / lengths).astype(np.float64), axis=1)[:, 0]
        np.testing.assert_array_equal(order, np.argmax(model.score(model.users.vectors), axis=1))


def test_settings_rebuild_the_model(fitted: tuple[Split, Recommender]) -> None:
    _, model = fitted
    kind = model_class(model.name)
    assert model.settings == {**kind().__dict__, **SMALL[model.name]}
    assert kind(**model.settings) == kind(**SMALL[model.name])
    assert model.seed == 1
    assert model.seconds > 0
    assert all(0 <= value <= 1 for value in model.history)
    assert model.history


@pytest.mark.parametrize("name", MODELS)
def test_same_seed_same_vectors(name: str) -> None:
    split = checkerboard()
    settings = {**SMALL[name], **({"epochs": 3} if name in TORCH else {"iterations": 5})}
    one, same, other = (train(name, split, seed=s, settings=settings) for s in (3, 3, 4))  # type: ignore[arg-type]
    assert one.users.fingerprint() == same.users.fingerprint()
    np.testing.assert_array_equal(one.items, same.items)
    assert one.users.fingerprint() != other.users.fingerprint()


@pytest.mark.parametrize("name", MODELS)
def test_progress_counts_up_to_the_total(name: str) -> None:
    settings = {**SMALL[name], **({"epochs": 3} if name in TORCH else {"iterations": 3})}
    calls: list[tuple[str, int, int]] = []
    train(name, checkerboard(), settings=settings, progress=lambda *call: calls.append(call))  # type: ignore[arg-type]
    assert [call[1:] for call in calls] == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("name", MODELS)
def test_a_split_without_validation_items_trains(name: str) -> None:
    interactions = checkerboard().train
    settings = {**SMALL[name], **({"epochs": 2} if name in TORCH else {"iterations": 2})}
    model = train(name, interactions.leave_one_out(0, validation=False), settings=settings)  # type: ignore[arg-type]
    assert model.history == ()


@pytest.mark.parametrize("name", MODELS)
def test_test_items_are_never_read(name: str) -> None:
    split = checkerboard()
    blind = Split(split.train, np.full_like(split.test_items, -1), split.validation_items, split.seed)
    settings = {**SMALL[name], **({"epochs": 2} if name in TORCH else {"iterations": 2})}
    tables = [train(name, s, settings=settings).users.fingerprint() for s in (split, blind)]  # type: ignore[arg-type]
    assert tables[0] == tables[1]


@pytest.mark.parametrize("name", MODELS)
def test_a_setting_out_of_range_is_named(name: str) -> None:
    with pytest.raises(InvalidSettings, match="factors is 0"):
        train(name, checkerboard(), settings={"factors": 0})  # type: ignore[arg-type]
    with pytest.raises(InvalidSettings, match="did you mean 'factors'"):
        train(name, checkerboard(), settings={"factor": 3})  # type: ignore[arg-type]


def test_an_unknown_model_gets_the_nearest_name() -> None:
    with pytest.raises(InvalidSettings, match="did you mean 'bpr-mf'"):
        train("bpr_mf", checkerboard())  # type: ignore[arg-type]


def test_items_of_another_width_are_refused() -> None:
    from attrcloak.data.embeddings import EmbeddingTable

    with pytest.raises(InvalidInput, match="expected \\(items, 4\\)"):
        Recommender("x", EmbeddingTable(Ids.range(3), np.ones((3, 4))), np.ones((5, 3), dtype=np.float32), {}, 0, 0.0)


@pytest.mark.parametrize(
    ("name", "library", "extra"),
    [("als", "implicit", "implicit"), ("ncf", "torch", "torch"), ("lightgcn", "torch", "torch")],
)
def test_a_missing_library_is_one_clear_error(name: str, library: str, extra: str) -> None:
    code = (
        f"import sys; sys.modules[{library!r}] = None\n"
        "import numpy as np\nfrom attrcloak.errors import MissingExtra\n"
        "from attrcloak.data.interactions import Interactions\nfrom attrcloak.recommenders import train\n"
        "split = Interactions.from_ids(np.arange(4) // 2, np.arange(4)).leave_one_out()\n"
        f"try:\n    train({name!r}, split)\nexcept MissingExtra as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert f"pip install 'attrcloak[{extra}]'" in done.stdout
    assert issubclass(MissingExtra, Exception)


def test_the_room_imports_neither_torch_nor_implicit() -> None:
    code = "import sys, attrcloak.recommenders as r; sys.exit(bool({'torch', 'implicit', 'scipy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize(("name", "low", "high"), [("als", 0.045, 0.060), ("bpr", 0.030, 0.045)])
def test_level_on_movielens_1m(name: str, low: float, high: float, shared_data: object) -> None:
    # attrcloak train --dataset ml-1m --model als|bpr
    from attrcloak.data.datasets import load

    folder: Path = shared_data("ml-1m")  # type: ignore[operator]
    split = load("ml-1m", folder).interactions.leave_one_out(0)
    model = train(name, split)  # type: ignore[arg-type]
    report = evaluate(lambda rows: model.score(model.users.vectors[rows]), split)
    assert low < report.values["ndcg@10"] < high
