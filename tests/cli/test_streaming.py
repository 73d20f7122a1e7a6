"""unlearn on folders: what it prints, writes and answers with."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from attrcloak.streaming.stages import Stages
from attrcloak.streaming.workspace import Workspace

COMMAND = ("unlearn", "users", "--attributes", "people.csv", "--columns", "group", "-o", "new", "--workers", 1)


@pytest.fixture
def folder(world):
    """The table of ``world`` as a folder of two files."""
    vectors = np.load("users.npy")
    Path("users").mkdir()
    for name, low, high in (("a", 0, 100), ("b", 100, 240)):
        lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors[low:high].reshape(-1)), vectors.shape[1])
        pq.write_table(pa.table({"user_id": np.arange(low, high), "vectors": lists}), f"users/{name}.parquet")
    return world


def rows_of(name):
    """The vectors of a folder, in the order of its files."""
    lists = [pq.read_table(path)["vectors"].combine_chunks() for path in sorted(Path(name).iterdir())]
    return np.concatenate([column.flatten().to_numpy().reshape(len(column), -1) for column in lists])


def test_a_folder_becomes_a_folder_with_a_verdict_and_a_manifest(folder, run):
    done = run(*COMMAND, "--seeds", 1)
    assert done.code in (0, 3)
    assert "240 of 240 users moved by calibrated" in done.err
    assert "group: surrogate" in done.err
    assert "verdict" in done.err
    assert ("NOT protected" in done.err) is (done.code == 3)
    assert sorted(path.name for path in Path("new").iterdir()) == ["a.parquet", "b.parquet"]
    assert Path("new.manifest.json").exists()


def test_progress_is_lines_where_there_is_no_terminal(folder, run, monkeypatch):
    monkeypatch.setattr("attrcloak.reporting.terminal.LINE_EVERY", 0.0)
    err = run(*COMMAND, "--no-audit").err
    for stage in ("reading ids", "pass 1: measuring", "pass 2: writing"):
        assert f"{stage} 240/240" in err
    assert "no verdict" in err


def test_json_is_all_of_standard_output_and_never_holds_the_key(folder, run):
    key = "0123456789abcdef0123456789abcdef"
    Path("key").write_text(key)
    done = run(*COMMAND, "--no-audit", "--json", "--key-file", "key", "--eraser", "map.safetensors")
    assert done.code == 0
    assert done.json["manifest"]["moved"] == 240
    assert done.json["audit"] is None
    assert len(done.json["manifest"]["key_commitment"]) == 64
    assert Path("map.safetensors").stat().st_mode & 0o077 == 0
    written = done.out + done.err + Path("new.manifest.json").read_text()
    assert key not in written


def test_a_file_streams_when_an_engine_is_named_and_apply_repeats_it(folder, run):
    done = run(
        "unlearn", "users.npy", "--attributes", "people.csv", "-o", "new.npy", "--engine", "in-process", "--no-audit",
        "--method", "leace", "--eraser", "map.safetensors",
    )  # fmt: skip
    assert done.code == 0, done.err
    run("apply", "users.npy", "--attributes", "people.csv", "--eraser", "map.safetensors", "-o", "again.npy")
    np.testing.assert_allclose(np.load("new.npy"), np.load("again.npy"), atol=1e-6)


def test_a_folder_is_audited_on_a_sample_as_it_is_in_memory_on_everybody(folder, run):
    """240 users are all in the sample, so the attackers find what they find in memory, up to the order of users."""
    words = ("--attributes", "people.csv", "--columns", "group", "--attackers", "logistic", "--seeds", 1)
    done = run("audit", "users", *words, "--json")
    assert done.code == 0, done.err
    (leak,) = done.json["leaks"]
    assert (done.json["users"], leak["attribute"], leak["p"]) == (240, "group", 0.02)
    assert leak["surrogate"] > leak["chance"]
    memory = run("audit", "users.npy", *words, "--json").json
    streamed, expected = (
        next(each for each in report["results"] if each["attacker"] == "logistic")["balanced_accuracy"]
        for report in (done.json["audit"], memory)
    )
    assert streamed == pytest.approx(expected, abs=0.05)
    done = run("audit", "users", *words, "--fail-above", "group=0.55", "--work", "kept/nothing")
    assert done.code == 3
    assert "gate not passed: group: logistic" in done.err
    assert "group: surrogate of all users" in done.err
    assert not list(Path("kept/nothing").iterdir())


def test_an_audit_of_files_sees_equal_moments_that_no_attacker_on_a_sample_does(folder, run):
    words = ("--attributes", "people.csv", "--columns", "group", "--attackers", "logistic", "--seeds", 1)
    assert run(*COMMAND, "--no-audit", "--method", "mean-removal").code == 0
    done = run("audit", "new", *words, "--json")
    assert done.code == 0, done.err
    assert done.json["leaks"][0]["too_equal"] == ["means"]
    done = run("audit", "new", *words, "--fail-above", "group=0.51")
    assert done.code == 3
    assert "warning: group: class means of all users agree more closely than by chance" in done.err
    assert "gate not passed: group: class means of all users" in done.err


def test_an_audit_of_files_says_before_it_attacks_what_it_cannot_attack(folder, run):
    done = run("audit", "users", "--attributes", "people.csv", "--fail-above", "gruop=0.6")
    assert done.code == 1
    assert "did you mean 'group'" in done.err
    Path("nobody.csv").write_text("user_id,group\n3,\n")
    done = run("audit", "users", "--attributes", "nobody.csv")
    assert done.code == 1
    assert "nothing to attack" in done.err


def test_what_an_audit_of_files_cannot_do_is_an_error_with_a_next_step(folder, run):
    done = run("audit", "users", "--attributes", "people.csv", "--original", "users.npy")
    assert (done.code, "Traceback" in done.err) == (1, False)
    assert "put a sample of users into one file" in done.err
    done = run("audit", "users.npy", "--attributes", "people.csv", "--workers", 1)
    assert done.code == 1
    assert "name an --engine" in done.err


def test_an_output_of_another_ending_and_maps_among_the_vectors_are_refused_before_any_work(folder, run):
    words = ("--attributes", "people.csv", "--no-audit", "--method", "leace")
    done = run("unlearn", "users.npy", *words, "-o", "new", "--engine", "in-process")
    assert done.code == 1
    assert "new has not the ending of users.npy; give it .npy" in done.err
    done = run("unlearn", "users", *words, "-o", "new", "--eraser", "users/maps.safetensors")
    assert done.code == 1
    assert "users/maps.safetensors is an input, or lies inside of users" in done.err
    assert not list(Path().glob("new*"))


@pytest.mark.parametrize(
    ("work", "output", "word"),
    [
        ("mine", "new", "mine holds other things"),
        ("users", "new", "users lies inside of"),
        ("w", "w/new", "w/new lies inside of"),
        (".", "new", "people.csv lies inside of"),
        ("users/w", "new", "is an input, or lies inside of users"),
    ],
)
def test_no_folder_with_other_things_in_it_is_taken_for_work(folder, run, work, output, word):
    Path("mine").mkdir()
    Path("mine/thesis.txt").write_text("years")
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    done = run("unlearn", "users", *COMMAND[2:-4], "-o", output, "--no-audit", "--method", "leace", "--work", work)
    assert (done.code, "Traceback" in done.err) == (1, False)
    assert word in done.err
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before


def test_a_folder_of_ours_by_name_alone_is_not_removed(folder, run):
    for name in ("new.partial", "new.partial.removed"):
        Path(name).mkdir()
        Path(name, "thesis.txt").write_text("years")
        done = run(*COMMAND, "--no-audit", "--method", "leace")
        assert done.code == 1
        assert name in done.err
        Path(name, "thesis.txt").unlink()
        Path(name).rmdir()
    assert run(*COMMAND, "--no-audit", "--method", "leace").code == 0


def test_maps_of_another_run_are_not_overwritten(folder, run):
    Path("maps.safetensors").write_bytes(b"the only way back")
    done = run(*COMMAND, "--no-audit", "--method", "leace", "--eraser", "maps.safetensors")
    assert done.code == 1
    assert "maps.safetensors is there already" in done.err
    assert Path("maps.safetensors").read_bytes() == b"the only way back"
    assert not list(Path().glob("new*"))


def test_users_of_unknown_class_and_other_vectors_are_warned_of(folder, run):
    table = pq.read_table("users/a.parquet")
    for path in ("users/a.parquet", "one.parquet"):
        pq.write_table(table.append_column("copy", table["vectors"]), path)
    lines = Path("people.csv").read_text().splitlines()
    Path("people.csv").write_text("\n".join(lines[:200]) + "\n")
    done = run(*COMMAND, "--no-audit", "--method", "leace")
    assert (
        "warning: 41 of 240 users have no class in people.csv and stay as they were (b.parquet 41 of 140)" in done.err
    )
    assert "warning: column 'copy' of 1 of 2 files holds lists of numbers too and stays as it was" in done.err
    done = run("unlearn", "one.parquet", *COMMAND[2:-3], "one-new.parquet", "--no-audit", "--method", "leace")
    assert done.code == 0, done.err
    assert "warning: column 'copy' of one.parquet holds lists of numbers too and stays as it was" in done.err


def test_a_folder_goes_by_kept_maps_and_back(folder, run):
    done = run(*COMMAND, "--no-audit", "--method", "barycentre", "--eraser", "map.safetensors")
    assert done.code == 0, done.err
    people = ("--attributes", "people.csv", "--eraser", "map.safetensors")
    done = run("apply", "users", *people, "-o", "again", "--workers", 1)
    assert done.code == 0, done.err
    assert "240 of 240 users moved by kept maps" in done.err
    assert "audit it before it is used" in done.err
    done = run("undo", "again", *people, "-o", "back", "--engine", "in-process")
    assert done.code == 0, done.err
    assert "warning" not in done.err
    Path("others.csv").write_text(Path("people.csv").read_text() + "99999,a,x\n")
    done = run("undo", "again", "--attributes", "others.csv", *people[2:], "-o", "other", "--engine", "in-process")
    assert done.code == 0, done.err
    assert "warning: others.csv: not the people of the run in again.manifest.json" in done.err

    np.testing.assert_array_equal(rows_of("again"), rows_of("new"))
    np.testing.assert_allclose(rows_of("back"), rows_of("users"), atol=1e-5)
    assert np.abs(rows_of("new") - rows_of("users")).max() > 0.01


def test_a_plan_of_a_folder_says_what_that_of_a_table_in_memory_says_and_writes_nothing(folder, run):
    Path("asks.csv").write_text("user_id,attribute\n" + "".join(f"{user},group\n" for user in (*range(9), 230)))
    lines = Path("people.csv").read_text().splitlines()
    Path("people.csv").write_text("\n".join([lines[0], "230,,red", "999,a,red", *lines[1:230]]) + "\n")
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    words = ("--attributes", "people.csv", "--requests", "asks.csv", "--method", "barycentre", "--plan")
    one = run("unlearn", "users.npy", *words, "--json").json
    many = run("unlearn", "users", *words, "--json").json
    told = {
        key: many.pop(key) for key in ("files", "engine", "disk_bytes", "writes", "seconds", "memory_bytes", "warnings")
    }
    assert many == {key: value for key, value in one.items() if key not in told}
    assert (told["files"], told["engine"], told["writes"], told["seconds"]) == (2, "pool", [], None)
    assert told["disk_bytes"] > sum(path.stat().st_size for path in Path("users").iterdir())
    assert (many["users"], many["moving"]) == (240, 9)
    assert many["unmet"] == {"group": 1, "colour": 0}
    assert sum(many["asked"]["group"].values()) == 9
    assert sum(many["classes"]["group"].values()) == 229
    said = [text.replace("the list of people", "people.csv") for text in one["warnings"]]
    assert said[0].startswith("group: 1 users of the list of requests have no group in people.csv")
    assert told["warnings"][0].startswith("10 of 240 users have no class in people.csv")
    assert told["warnings"][2:] == said[1:]
    assert told["warnings"][1] == said[0].replace("the list of requests", "asks.csv")

    done = run("unlearn", "users", *words, "-o", "new", "--eraser", "maps", "--engine", "in-process")
    assert done.code == 0, done.err
    assert "9 of 240 users would move by barycentre, in " in done.out
    assert "2 files would be read by in-process; the run takes about" in done.out
    assert "would write new, new.manifest.json, maps" in done.out
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("more", "word"),
    [
        (("--engine", "sprak"), "did you mean 'spark'"),
        (("--device", "cpu"), "--device is for a table in memory"),
        (("--method", "noise"), "moves rows one by one"),
        (("--requests", "strange.csv"), "requests for height"),
        (("-o", "taken"), "taken is there already"),
        (("-o", "new", "--eraser", "taken"), "taken is a folder"),
        (("--attributes", "alike.csv"), "nothing in it to unlearn"),
        (("-o", "new", "--work", "begun"), "begun holds an unfinished run that differs: version was"),
        (("-o", "new", "--work", "users-2"), "users-2 holds other things"),
        (("-o", "new", "--work", "users-2"), "name a new or empty one (--work)"),
        (("-o", "new", "--work", "free"), "free.removed is in the way of"),
    ],
)
def test_a_plan_of_a_folder_refuses_what_the_run_would(folder, run, more, word):
    Path("taken").mkdir()
    Path("free.removed").write_text("mine")
    shutil.copytree("users", "users-2")
    with Workspace(Path("begun")).opened({"version": "0.0.0"}) as space:
        space.note("joined")
    Path("strange.csv").write_text("user_id,attribute\n3,height\n")
    Path("alike.csv").write_text("user_id,group\n3,a\n4,a\n")
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    done = run("unlearn", "users", "--attributes", "people.csv", "--plan", *more)
    assert (done.code, "Traceback" in done.err) == (1, False)
    assert word in done.err
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before


def test_a_plan_passes_over_a_run_that_can_go_on_and_leaves_it_so(folder, run, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Stages, "move", full)
        assert run(*COMMAND, "--no-audit").code == 1
    journal = Path("new.partial/journal.jsonl")
    journal.write_bytes(journal.read_bytes() + b'{"done": "cut sh')
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    done = run(*COMMAND, "--no-audit", "--plan")
    assert done.code == 0, done.err
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before
    done = run(*COMMAND, "--no-audit", "--plan", "--seed", 5)
    assert "unfinished run that differs: seed was 0 and is 5" in done.err
    assert run(*COMMAND, "--no-audit").code == 0


def test_those_who_withdrew_go_back_alone_and_one_after_the_other(folder, run):
    Path("asks.csv").write_text("user_id,attribute\n" + "".join(f"{user},group\n" for user in range(0, 240, 2)))
    words = ("--requests", "asks.csv", "--method", "barycentre", "--eraser", "maps", "--no-audit")
    assert run(*COMMAND, *words).code == 0
    people = ("--attributes", "people.csv", "--requests", "asks.csv", "--eraser", "maps", "--engine", "in-process")
    before = "new"
    for users in ((4, 8), (6,)):
        Path("w.csv").write_text("user_id\n" + "".join(f"{user}\n" for user in users))
        after = f"without-{users[0]}"
        done = run("undo", before, *people, "--users", Path("w.csv").absolute().as_uri(), "-o", after)
        assert done.code == 0, done.err
        assert ("some users of without-4 already" in done.err) == (before != "new")  # perhaps the same users again
        assert f"{len(users)} of 240 users moved" in done.err
        assert "surrogate" not in done.err  # which tells nothing of so few
        old, new, given = rows_of(before), rows_of(after), rows_of("users")
        assert np.flatnonzero((old != new).any(axis=1)).tolist() == list(users)
        np.testing.assert_allclose(new[list(users)], given[list(users)], atol=1e-5)
        before = after
    done = run("undo", before, *people, "-o", "all")
    assert "the maps were undone for some users of without-6 already, says without-6.manifest.json" in done.err


def test_an_undo_file_is_for_one_file(world, run):
    words = ("--attributes", "people.csv", "--no-audit", "--undo-file", "rows")
    assert run("unlearn", "users.npy", *words, "-o", "new.npy").code == 0
    done = run("undo", "new.npy", "--eraser", "rows", "-o", "old.npy", "--engine", "in-process")
    assert done.code == 1
    assert "an undo file is for one file in memory" in done.err


@pytest.mark.parametrize(
    ("words", "word"),
    [
        (("apply", "users", "--everybody"), "--everybody moves a table in memory"),
        (("apply", "users.npy", "--attributes", "people.csv", "--workers", "2"), "name an --engine"),
    ],
)
def test_what_kept_maps_cannot_do_in_files_is_an_error_with_a_next_step(folder, run, words, word):
    assert run(*COMMAND, "--no-audit", "--method", "leace", "--eraser", "map.safetensors").code == 0
    done = run(*words, "--eraser", "map.safetensors", "-o", "more")
    assert (done.code, "Traceback" in done.err) == (1, False)
    assert word in done.err
    assert not list(Path().glob("more*"))


@pytest.fixture
def taste(folder):
    """items.npy and pairs.csv for the users of ``folder``."""
    rng = np.random.default_rng(0)
    np.save("items.npy", rng.normal(size=(12, np.load("users.npy").shape[1])).astype(np.float32))
    lines = [f"{user},{item}" for user in range(240) for item in rng.choice(12, 4, replace=False)]
    Path("pairs.csv").write_text("\n".join(["user_id,item_id", *lines]) + "\n")
    return folder


DESCENT = ("--method", "attrcloak-dd", "--interactions", "pairs.csv", "--items", "items.npy", "--set", "steps=20")


def test_a_descent_with_interactions_streams_a_folder_and_a_file(taste, run):
    done = run(*COMMAND, *DESCENT, "--no-audit")
    assert done.code == 0, done.err
    assert "240 of 240 users moved by attrcloak-dd" in done.err
    # A single file streams because interactions are named.
    words = ("unlearn", "users.npy", "--attributes", "people.csv", "--columns", "group", "-o", "new.npy", "--no-audit")
    done = run(*words, *DESCENT, "--json")
    assert done.code == 0, done.err
    manifest = done.json["manifest"]
    assert (manifest["steps"], manifest["interactions"]["useful"]) == (20, 960)
    assert manifest["leaks"][0]["after"] < manifest["leaks"][0]["before"]
    np.testing.assert_allclose(np.load("new.npy"), rows_of("new"), atol=1e-5)


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ((*DESCENT, "--eraser", "map.safetensors"), "no maps for --eraser"),
        (DESCENT[:4], "(--interactions, --items)"),
        (("--method", "leace", *DESCENT[2:6]), "leace would not look at them"),
        (DESCENT, "1 of 961 interactions are of 1 users that are not in users (999)"),
    ],
)
def test_what_does_not_go_with_interactions_is_an_error_with_a_next_step(taste, run, more, word):
    Path("pairs.csv").write_text(Path("pairs.csv").read_text() + "999,3\n")
    done = run(*COMMAND, *more)
    assert (done.code, "Traceback" in done.err) == (1, False)
    assert word in done.err


@pytest.mark.parametrize(
    ("more", "word"),
    [
        (("--undo-file", "undo"), "keep it, or use --eraser"),
        (("--method", "noise"), "moves rows one by one"),
        (("--method", "calibrated-flow"), "calibrated-flow moves rows one by one"),
        (("--method", "calibrated-dd"), "calibrated-dd moves rows one by one"),
        (("--engine", "sprak"), "did you mean 'spark'"),
        (("--length", "short"), "--length is 'short'"),
        (("--id", "id"), "no column 'id'"),
    ],
)
def test_what_cannot_be_streamed_is_an_error_with_a_next_step(folder, run, more, word):
    done = run(*COMMAND, *more)
    assert (done.code, "Traceback" in done.err) == (1, False)
    assert word in done.err
    assert not list(Path().glob("new*"))


def test_streaming_options_without_streaming_are_an_error(folder, run):
    done = run("unlearn", "users.npy", "--attributes", "people.csv", "-o", "new.npy", "--workers", 2)
    assert done.code == 1
    assert "--engine" in done.err


@pytest.mark.parametrize(
    ("target", "word"),
    [
        ("taken", "taken is a folder"),
        ("absent/maps.safetensors", "absent does not exist"),
        ("people.csv", "people.csv is another file"),
        ("new", "new is another file"),
    ],
)
def test_maps_that_cannot_be_written_are_refused_before_the_passes(folder, run, target, word):
    Path("taken").mkdir()
    people = Path("people.csv").read_bytes()
    done = run(*COMMAND, "--no-audit", "--eraser", target)
    assert done.code == 1
    assert word in done.err
    assert not Path("new").exists()
    assert Path("people.csv").read_bytes() == people


def test_a_table_that_is_not_there_is_called_so(world, run):
    done = run("unlearn", "nosuch", "--attributes", "people.csv", "-o", "new.d")
    assert done.code == 1
    assert "nosuch: there is no such file" in done.err


def test_a_folder_is_evaluated_on_what_users_took_later_beside_the_table_before(folder, run):
    rng = np.random.default_rng(0)
    np.save("items.npy", rng.normal(size=(30, np.load("users.npy").shape[1])))
    took = [f"{user},{item}" for user in range(240) for item in rng.choice(30, 3, replace=False)]
    Path("later.csv").write_text("\n".join(["user_id,item_id", *took]) + "\n")
    words = ("evaluate", "users", "--items", "items.npy", "--held-out", "later.csv", "--original", "users.npy")
    done = run(*words)
    assert done.code == 0
    assert "all of the users with held-out items: 240" in done.err
    assert "share 1.000 [1.000, 1.000]" in done.out
    some = run(*words, "--users", 50, "--json")
    assert (some.json["schema"], some.json["sampled"]) == ("attrcloak/evaluate-files/1", True)
    assert some.json["vectors"]["users"] == 50
    assert some.json["vectors"] == some.json["original"]


def test_a_table_to_compare_with_needs_what_users_took_later(folder, run):
    done = run("evaluate", "users.npy", "--items", "items.npy", "--original", "users.npy")
    assert done.code == 1
    assert "--original is for pairs of your own; add --held-out" in done.err
    done = run("evaluate", "users.npy", "--items", "items.npy", "--held-out", "later.csv", "--protocol", "paper")
    assert done.code == 1
    assert "--protocol is for a data set" in done.err
    done = run("evaluate", "users", "--items", "items.npy")
    assert done.code == 1
    assert "users is a folder or a URI: name what its users took later with --held-out" in done.err
