"""Requests over time: they arrive, are withdrawn, users come, the model is trained again; files and commands alone."""

from pathlib import Path

import numpy as np
import pytest
from jsonschema import validate

from attrcloak.reporting.json_files import schema

PEOPLE = ("--attributes", "people.csv", "--columns", "group,colour")


def vectors(name: str) -> np.ndarray:
    return np.load(name)["vectors"]


def asks(name: str, users, attribute: str = "group") -> str:
    Path(name).write_text("user_id,attribute\n" + "".join(f"{user},{attribute}\n" for user in users))
    return name


@pytest.fixture(params=["keep", "unit"])
def served(request, world, run):
    """A first release, and its length option: users 0 to 59 asked."""
    first = asks("first.csv", range(60))
    words = ("unlearn", "users.npz", *PEOPLE, "--requests", first, "--undo-file", "first.undo", "--no-audit")
    done = run(*words, "--length", request.param, "-o", "one.npz")
    assert done.code == 0, done.err
    return request.param


def at_length(rows: np.ndarray, served: str) -> np.ndarray:
    """What somebody who asked for nothing is served."""
    if served == "keep":
        return rows
    common = np.sqrt((np.linalg.norm(vectors("users.npz"), axis=1) ** 2).mean())
    return rows * (common / np.linalg.norm(rows, axis=1, keepdims=True))


def test_a_life_of_requests(served, world, run):
    old, one = vectors("users.npz"), vectors("one.npz")
    assert (one[:60] != at_length(old[:60], served)).any(axis=1).all()
    np.testing.assert_allclose(one[60:], at_length(old[60:], served), rtol=1e-5, atol=1e-7)

    # New requests: only they are moved, from the table that is served; nobody else changes by a bit.
    second = asks("second.csv", range(60, 120))
    words = ("unlearn", "one.npz", *PEOPLE, "--requests", second, "--undo-file", "second.undo", "--no-audit")
    assert run(*words, "--length", served, "-o", "two.npz").code == 0
    two = vectors("two.npz")
    stays = np.r_[0:60, 120:240]
    np.testing.assert_array_equal(two[stays], one[stays])
    assert (two[60:120] != one[60:120]).any(axis=1).all()

    # Two of the first withdraw: they are back, everybody else is as before.
    asks("withdrew.csv", (5, 17))
    done = run("undo", "two.npz", "--eraser", "first.undo", "--users", "withdrew.csv", "-o", "three.npz")
    assert done.code == 0, done.err
    assert "2 of 240 users have another vector now" in done.err
    again = run("undo", "three.npz", "--eraser", "first.undo", "--users", "withdrew.csv", "-o", "same.npz")
    assert "0 of 240 users have another vector now; is it the table that these maps or rows are for?" in again.err
    three = vectors("three.npz")
    np.testing.assert_allclose(three[[5, 17]], at_length(old[[5, 17]], served), rtol=1e-5, atol=1e-7)
    if served == "keep":
        np.testing.assert_array_equal(three[[5, 17]], old[[5, 17]])
    rest = np.setdiff1d(np.arange(240), [5, 17])
    np.testing.assert_array_equal(three[rest], two[rest])

    # The model is trained again: everything leaks again until the requests that stand are run on the new table.
    rng = np.random.default_rng(1)
    retrained = (old + rng.normal(size=old.shape) / 4).astype(np.float32)
    np.savez("retrained.npz", ids=np.arange(240), vectors=retrained)
    asks("standing.csv", np.setdiff1d(np.arange(120), [5, 17]))
    words = ("unlearn", "retrained.npz", *PEOPLE, "--requests", "standing.csv", "--no-audit", "--length", "keep")
    assert run(*words, "-o", "four.npz").code == 0
    moved = (vectors("four.npz") != retrained).any(axis=1)
    assert set(np.flatnonzero(moved)) == set(range(120)) - {5, 17}


def test_everything_can_still_be_undone_in_the_order_back(world, run):
    for step, (source, who) in enumerate((("users.npz", range(60)), ("t0.npz", range(60, 120)))):
        words = ("unlearn", source, *PEOPLE, "--requests", asks(f"r{step}.csv", who), "--undo-file", f"u{step}")
        assert run(*words, "--no-audit", "-o", f"t{step}.npz").code == 0
    assert run("undo", "t1.npz", "--eraser", "u1", "-o", "b1.npz").code == 0
    np.testing.assert_array_equal(vectors("b1.npz"), vectors("t0.npz"))
    assert run("undo", "b1.npz", "--eraser", "u0", "-o", "b0.npz").code == 0
    np.testing.assert_array_equal(vectors("b0.npz"), vectors("users.npz"))


@pytest.mark.parametrize(
    ("content", "named"), [("user\n3\n", "user_id"), ("user_id\n", "names no user"), ("user_id\n200\n", "1 of the 1")]
)
def test_withdrawals_that_do_not_fit_are_refused(world, run, content, named):
    words = ("unlearn", "users.npz", *PEOPLE, "--requests", asks("r.csv", range(60)), "--undo-file", "u", "--no-audit")
    run(*words, "-o", "new.npz", "--length", "keep")
    Path("w.csv").write_text(content)
    done = run("undo", "new.npz", "--eraser", "u", "--users", "w.csv", "-o", "back.npz")
    assert done.code == 1
    assert named in done.err
    assert not Path("back.npz").exists()


@pytest.mark.parametrize(("place", "target"), [("users.npz", "new.npz"), ("files", "new")])
def test_an_attribute_that_nobody_asked_for_is_not_judged(world, run, place, target):
    if place == "files":
        Path("files").mkdir()
        np.save("files/a.npy", vectors("users.npz"))
    words = ("unlearn", place, *PEOPLE, "--requests", asks("r.csv", range(0, 240, 2)), "--seeds", 1, "--json")
    done = run(*words, "-o", target)
    assert done.code in (0, 3), done.err
    verdict = done.json["verdict"]
    assert "nobody asked for colour: nothing was done about it, and it was not judged" in verdict["warnings"]
    assert not [reason for reason in verdict["reasons"] if "colour" in reason]


def test_a_request_that_is_cut_short_is_named_by_its_line(world, run):
    Path("r.csv").write_text("user_id,attribute\n0,group\n1\n")
    done = run("unlearn", "users.npz", *PEOPLE, "--requests", "r.csv", "--no-audit", "-o", "new.npz")
    assert done.code == 1
    assert "r.csv, line 3: ends before attribute" in done.err
    assert not Path("new.npz").exists()


def test_an_audit_attacks_those_who_asked_and_asks_who_did(world, run):
    asks("r.csv", range(0, 240, 2))
    words = ("audit", "users.npz", *PEOPLE, "--attackers", "logistic", "--seeds", 1, "--requests", "r.csv", "--json")
    for knows in ("others", "everybody"):
        done = run(*words, "--columns", "group", "--knows", knows)
        assert done.code == 0, done.err
        validate(done.json, schema("audit"))
        users = {r["attribute"]: r["users"] for r in done.json["results"] if r["attacker"] == "logistic"}
        assert users == {"group": 120, "asked": 240}
        assert done.json["settings"]["knows"] == knows
    assert run(*words, "--columns", "group", "--fail-above", "asked=0.99").code == 0
    assert run("audit", "users.npz", *PEOPLE, "--knows", "others").code == 1
    assert run(*words, "--knows", "nobody").code == 1


def test_a_verdict_on_some_speaks_of_them_and_of_both_kinds_of_attacker(world, run):
    asks("r.csv", range(0, 240, 2))
    words = ("unlearn", "users.npz", "--attributes", "people.csv", "--columns", "group", "--requests", "r.csv")
    done = run(*words, "--method", "noise", "--set", "scale=0.01", "--seeds", 1, "-o", "new.npz", "--json")
    assert done.code == 3
    assert (
        done.json["audit"]["settings"] | {"knows": "everybody", "judged": "requests"} == done.json["audit"]["settings"]
    )
    assert done.json["audit_by_others"]["settings"]["knows"] == "others"
    assert any("knowing only users who did not ask" in reason for reason in done.json["verdict"]["reasons"])
    few = run(*words[:-1], asks("few.csv", range(8)), "--seeds", 1, "-o", "few.npz")
    assert few.code == 3
    assert "too few users asked" in few.err
    assert Path("few.npz").exists()


def test_a_cover_set_moves_with_those_who_asked(world, run):
    asks("r.csv", range(40))
    words = ("unlearn", "users.npz", *PEOPLE, "--requests", "r.csv", "--no-audit", "--length", "keep", "--cover", 0.5)
    Path("key").write_text("k" * 32)
    drawn = []
    for name, key in (("a", ("--key-file", "key")), ("b", ("--key-file", "key")), ("c", ())):
        assert run(*words, *key, "-o", f"{name}.npz").code == 0
        drawn.append((vectors(f"{name}.npz") != vectors("users.npz")).any(axis=1))
        assert drawn[-1][:40].all()
        assert drawn[-1][40:].sum() == 100
    assert (drawn[0] == drawn[1]).all()
    assert (drawn[0] != drawn[2]).any()
    refused = run(*words, "--method", "barycentre", "--eraser", "e.safetensors", "-o", "d.npz")
    assert (refused.code, Path("d.npz").exists()) == (1, False)
    assert "--undo-file" in refused.err


def test_an_intersection_is_an_attribute_of_its_own(world, run):
    done = run(
        "audit", "users.npz", "--attributes", "people.csv", "--columns", "group,group x colour", "--attackers",
        "logistic", "--seeds", 1, "--json",
    )  # fmt: skip
    classes = {r["attribute"]: len(r["classes"]) for r in done.json["results"]}
    assert classes == {"group": 2, "group x colour": 6}
    words = ("--attributes", "people.csv", "--columns", "group,colour,group x colour")
    done = run(
        "unlearn", "users.npz", *words, "--method", "barycentre", "--eraser", "e.st", "--no-audit", "-o", "n.npz"
    )
    assert done.code == 0, done.err
    done = run("apply", "users.npz", "--attributes", "people.csv", "--eraser", "e.st", "-o", "again.npz")
    assert done.code == 0, done.err
    np.testing.assert_allclose(vectors("again.npz"), vectors("n.npz"), rtol=1e-5, atol=1e-6)
    wrong = run("audit", "users.npz", "--attributes", "people.csv", "--columns", "group x height")
    assert (wrong.code, "height" in wrong.err) == (1, True)


def test_a_label_free_eraser_moves_users_nobody_knows(world, run):
    words = ("unlearn", "users.npz", *PEOPLE, "--method", "label-free", "--eraser", "e.st", "--no-audit")
    assert run(*words, "-o", "new.npz").code == 0
    np.savez("more.npz", ids=np.arange(1000, 1020), vectors=vectors("users.npz")[:20])
    assert run("apply", "more.npz", "--eraser", "e.st", "--everybody", "-o", "moved.npz").code == 0
    np.testing.assert_array_equal(vectors("moved.npz"), vectors("new.npz")[:20])
    assert run("apply", "more.npz", "--eraser", "e.st", "-o", "x.npz").code == 2
    assert (
        run("apply", "more.npz", "--eraser", "e.st", "--everybody", "--requests", "people.csv", "-o", "x.npz").code == 2
    )


def test_earlier_requests_are_refused_where_nothing_is_learnt_from_others(world, run):
    asks("first.csv", range(60))
    words = (
        "unlearn",
        "users.npz",
        *PEOPLE,
        "--requests",
        asks("second.csv", range(60, 120)),
        "--earlier",
        "first.csv",
    )
    refused = run(*words, "--no-audit", "-o", "two.npz")
    assert refused.code == 1
    assert "learned_from=everybody" in refused.err
    assert not Path("two.npz").exists()
    assert run(*words, "--set", "learned_from=everybody", "--no-audit", "-o", "two.npz").code == 0


@pytest.mark.parametrize("place", ["users.npz", "files"])
def test_requests_that_cannot_be_met_are_counted_and_warned_of_whatever_the_table_lies_in(place, world, run):
    """Of a user whose class is not known, and of one who is listed and not in the table."""
    if place == "files":
        Path("files").mkdir()
        np.save("files/a.npy", vectors("users.npz"))
    lines = Path("people.csv").read_text().splitlines()
    Path("people.csv").write_text("\n".join([lines[0], "0,,red", *lines[2:], "900,a,red"]) + "\n")
    words = ("unlearn", place, *PEOPLE, "--requests", asks("r.csv", [*range(60), 900]), "--method", "leace")
    done = run(*words, "--no-audit", "-o", "new.npz" if place == "users.npz" else "new", "--json")
    assert done.code == 0, done.err
    receipt = done.json if place == "users.npz" else done.json["manifest"]
    assert receipt["unmet"] == {"group": 1, "colour": 0}
    assert receipt["elsewhere"] == {"group": 1, "colour": 0}
    people, requests = (
        ("the list of people", "the list of requests") if place == "users.npz" else ("people.csv", "r.csv")
    )
    said = [text for text in receipt["warnings"] if "nothing is done" in text]
    assert said[0].startswith(
        f"group: 1 users of {requests} have no group in {people}, so nothing is done about theirs"
    )
    assert said[1].startswith(f"requests of {requests} are of users who are not in ")
    assert "(1 for group)" in said[1]
    again = run(*words, "--no-audit", "-o", "more.npz" if place == "users.npz" else "more")
    for text in said:
        assert f"warning: {text}" in again.err


def test_earlier_users_whom_the_table_does_not_have_are_said(world, run):
    words = ("unlearn", "users.npz", *PEOPLE, "--requests", asks("second.csv", range(60, 120)), "--no-audit")
    words = (*words, "--set", "learned_from=everybody", "--earlier", "w.csv", "-o", "two.npz")
    Path("w.csv").write_text("user_id\n9999\n")
    done = run(*words)
    assert done.code == 1
    assert "w.csv: none of its 1 users is in the table (9999); is it the right list?" in done.err
    assert not Path("two.npz").exists()
    Path("w.csv").write_text("user_id\n9999\n3\n")
    done = run(*words)
    assert done.code == 0, done.err
    assert "warning: w.csv: 1 of its 2 users are not in the table (9999)" in done.err


@pytest.mark.parametrize("place", ["users.npz", "files"])
def test_people_in_another_encoding_are_said_to_be(place, world, run):
    Path("files").mkdir()
    np.save("files/a.npy", vectors("users.npz"))
    Path("latin.csv").write_bytes("user_id,town\n0,Zürich\n1,Bern\n".encode("latin-1"))
    done = run("unlearn", place, "--attributes", "latin.csv", "--no-audit", "-o", "new.npz")
    assert done.code == 1
    assert "latin.csv: cannot be read (" in done.err
    assert "; save it as UTF-8" in done.err


@pytest.mark.parametrize("place", ["users.npz", "files"])
def test_a_misspelt_attribute_of_a_request_has_the_nearest_named(place, world, run):
    Path("files").mkdir()
    np.save("files/a.npy", vectors("users.npz"))
    Path("r.csv").write_text("user_id,attribute\n1,groop\n2,\n")
    done = run("unlearn", place, *PEOPLE, "--requests", "r.csv", "--no-audit", "-o", "new.npz")
    assert done.code == 1
    assert "r.csv: requests for (empty), groop, but the attributes are group, colour; did you mean 'group'?" in done.err


def test_users_whom_earlier_runs_moved_are_not_missed(world, run):
    asks("first.csv", range(60))
    words = ("unlearn", "users.npz", *PEOPLE, "--requests", asks("second.csv", range(60, 120)), "--no-audit")
    done = run(*words, "--earlier", "first.csv", "--set", "learned_from=everybody", "-o", "two.npz", "--json")
    assert done.code == 0, done.err
    assert (done.json["unmet"], done.json["warnings"]) == ({"group": 0, "colour": 0}, [])
