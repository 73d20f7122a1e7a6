from dataclasses import replace

import pytest

from attrcloak.data.datasets import fetch, load
from attrcloak.errors import DataNotFound, InvalidSettings


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    def refuse(*_args, **_kwargs):
        raise OSError("no network here")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(fetch, "download", refuse)
    monkeypatch.setattr(fetch, "fetch_wheel", refuse)


def test_recbole_atomic_files(tmp_path):
    (tmp_path / "x.inter").write_text("user_id:token\titem_id:token\ttimestamp:float\n1\t5\t3\n1\t6\t0\n2\t5\t1\n")
    (tmp_path / "x.user").write_text("user_id:token\tgender:token\n1\tF\n2\tM\n")
    data = load("mine", tmp_path)
    assert len(data.interactions) == 3
    assert data.people["gender"].counts.tolist() == [1, 1]


def test_a_local_path_is_not_handed_on(tmp_path):
    folder = tmp_path / "My Data"  # a space must not make it look like words
    folder.mkdir()
    (folder / "x.inter").write_text("user_id:token\titem_id:token\ttimestamp:float\n1\t5\t3\n1\t6\t0\n2\t5\t1\n")
    (folder / "x.user").write_text("user_id:token\tgender:token\n1\tF\n2\tM\n")
    data = load("mine", folder)
    assert data.source == str(folder)
    assert data.origin == "a local folder"
    assert replace(data, source="https://example.org/x.zip").origin == "https://example.org/x.zip"


def test_what_was_tried_is_listed_in_order(tmp_path):
    with pytest.raises(DataNotFound) as caught:
        load("ml-100k")
    text = str(caught.value)
    assert text.index("cache") < text.index("grouplens") < text.index("recbole")


def test_a_folder_that_is_named_is_the_only_one_looked_in(tmp_path):
    (tmp_path / "cache" / "attrcloak" / "ml-100k").mkdir(parents=True)
    with pytest.raises(DataNotFound, match="leave it out to have the set fetched") as caught:
        load("ml-100k", tmp_path / "none")
    assert "none" in str(caught.value)
    assert "cache" not in str(caught.value)


def test_a_folder_of_another_set_and_a_file_are_told_apart(tmp_path):
    (tmp_path / "ratings.dat").touch()
    (tmp_path / "users.dat").touch()
    with pytest.raises(DataNotFound, match=r"u\.data and u\.user; .*; it looks like ml-1m"):
        load("ml-100k", tmp_path)
    with pytest.raises(DataNotFound, match="this is a file; name the folder it is in"):
        load("ml-100k", tmp_path / "users.dat")


def test_users_without_interactions_are_counted(tmp_path):
    (tmp_path / "x.inter").write_text("user_id:token\titem_id:token\ttimestamp:float\n1\t5\t3\n1\t6\t0\n")
    (tmp_path / "x.user").write_text("user_id:token\tgender:token\n1\tF\n2\tM\n3\tM\n")
    described = load("mine", tmp_path).describe()
    assert (described["users"], described["users_without_interactions"]) == (1, 2)
    assert described["classes"] == {"gender": {"F": 1, "M": 0}}


def test_near_miss_of_a_name():
    with pytest.raises(InvalidSettings, match="did you mean 'ml-100k'"):
        load("ml100k")


GENDER_AGE = [
    ("ml-100k", [273, 670], [36, 198, 310, 194, 80, 73, 52]),
    ("ml-1m", [1709, 4331], [222, 1103, 2096, 1193, 550, 496, 380]),
]


@pytest.mark.data
@pytest.mark.parametrize(("name", "gender", "age"), GENDER_AGE)
@pytest.mark.parametrize("official", [False, True])
def test_movielens_counts(shared_data, name, gender, age, official):
    data = load(name, shared_data(f"official/{name}" if official else name))
    assert len(data.interactions) == {"ml-100k": 100_000, "ml-1m": 1_000_209}[name]
    assert data.people["gender"].counts.tolist() == gender
    assert data.people["age"].classes[0] == "under 18"
    assert data.people["age"].counts.tolist() == age
    assert len(data.people["occupation"].classes) == 21
    assert (data.interactions.last_item is not None) == (name == "ml-1m" and not official)


@pytest.mark.data
def test_lastfm_and_modcloth(shared_data):
    people = load("lastfm-1k", shared_data("lastfm-1k")).people
    assert people["gender"].counts.tolist() == [382, 502]
    assert people["age"].counts.sum() == 286
    assert people["continent"].counts.sum() == 906
    assert load("modcloth", shared_data("official/modcloth-sample")).people["user_attr"].classes == ("Large", "Small")
