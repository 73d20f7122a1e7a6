"""audit, unlearn, apply and undo on files: what they print, write, and answer with."""

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from jsonschema import validate

from attrcloak.release import FLOW_USERS
from attrcloak.reporting.json_files import schema

QUICK = ("--attributes", "people.csv", "--columns", "group")
AUDIT = ("audit", "users.npz", *QUICK, "--attackers", "logistic", "--seeds", 1)
UNLEARN = ("unlearn", "users.npz", *QUICK, "--no-audit")


def test_audit_json_is_all_of_standard_output_and_follows_the_schema(world, run):
    done = run(*AUDIT, "--json")
    assert done.code == 0
    validate(done.json, schema("audit"))
    best = max(r["balanced_accuracy"] for r in done.json["results"] if r["attacker"] == "logistic")
    assert best > 0.8


def test_audit_finds_nothing_where_nothing_is(world, run):
    rng = np.random.default_rng(1)
    np.save("noise.npy", rng.normal(size=(240, 6)))
    done = run("audit", "noise.npy", *QUICK, "--attackers", "logistic", "--json")
    assert all(abs(r["balanced_accuracy"] - 0.5) < 0.12 for r in done.json["results"] if r["attacker"] == "logistic")


@pytest.mark.parametrize(("limit", "code"), [(0.6, 3), (1.0, 0)])
def test_a_gate_sets_the_exit_code(world, run, limit, code):
    assert run(*AUDIT, "--json", "--fail-above", f"group={limit}").code == code


@pytest.mark.parametrize("gate", ["group", "group=high", "group=1.5"])
def test_a_gate_that_cannot_be_read_is_a_wrong_command_line(world, run, gate):
    done = run(*AUDIT, "--fail-above", gate)
    assert done.code == 2
    assert "group" in done.err


def test_a_gate_on_an_attribute_that_is_not_there_is_an_error(world, run):
    done = run(*AUDIT, "--fail-above", "height=0.6")
    assert (done.code, "Traceback" in done.err) == (1, False)
    assert "height" in done.err


def test_audit_against_the_old_table_shows_the_difference(world, run):
    run(*UNLEARN, "-o", "new.npz", "--method", "mean-removal")
    done = run("audit", "new.npz", *QUICK, "--attackers", "logistic", "--seeds", 1, "--original", "users.npz", "--json")
    by_surface = {r["surface"]: r["balanced_accuracy"] for r in done.json["results"] if r["attacker"] == "logistic"}
    assert by_surface["delta"] > 0.95 > 0.7 > by_surface["vectors"]


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".parquet", ".safetensors"])
def test_unlearn_writes_the_format_it_was_given(world, run, suffix):
    from attrcloak.data.vector_files import read_vectors, write_vectors

    table = read_vectors("users.npz")
    write_vectors(table, f"in{suffix}")
    before = Path(f"in{suffix}").read_bytes()
    done = run("unlearn", f"in{suffix}", *QUICK, "--no-audit", "-o", f"out{suffix}")
    assert done.code == 0, done.err
    new = read_vectors(f"out{suffix}")
    assert new.ids.equals(table.ids)
    assert new.vectors.dtype == table.vectors.dtype
    assert (new.vectors != table.vectors).any(axis=1).all()
    assert Path(f"in{suffix}").read_bytes() == before


def test_unlearn_ends_with_a_verdict_and_exits_3_when_attackers_still_read(world, run):
    leaves = run(
        "unlearn", "users.npz", *QUICK, "--method", "noise", "--set", "scale=0.01", "--seeds", 1, "-o", "n.npz"
    )
    assert leaves.code == 3
    assert "NOT protected" in leaves.err
    assert "logistic" in leaves.err
    assert Path("n.npz").exists()


def test_unlearn_json_holds_verdict_and_audit_and_never_the_key(world, run):
    key = "0123456789abcdef0123456789abcdef"
    Path("key").write_text(key)
    done = run("unlearn", "users.npz", *QUICK, "--key-file", "key", "--seeds", 1, "-o", "new.npz", "--json")
    assert done.code in (0, 3)
    content = done.json
    validate(content["audit"], schema("audit"))
    assert content["verdict"]["protected"] is (done.code == 0)
    assert content["key_commitment"]
    written = (
        done.out + done.err + "".join(p.read_bytes().decode("latin-1") for p in world.iterdir() if p.name != "key")
    )
    assert key not in written
    assert key.encode().hex() not in written


def test_the_same_key_gives_the_same_table_and_none_a_new_one(world, run):
    Path("key").write_text("k" * 32)
    for name in ("one", "two"):
        run(*UNLEARN, "--key-file", "key", "-o", f"{name}.npz")
    run(*UNLEARN, "-o", "three.npz")
    one, two, three = (np.load(f"{name}.npz")["vectors"] for name in ("one", "two", "three"))
    np.testing.assert_array_equal(one, two)
    assert (one != three).any()


def test_a_plan_writes_nothing(world, run):
    before = sorted(world.iterdir())
    done = run("unlearn", "users.npz", *QUICK, "--plan", "--json", "-o", "new.npz", "--eraser", "e.safetensors")
    assert done.code == 0
    assert (done.json["users"], done.json["moving"], done.json["cells"]) == (240, 240, 2)
    assert sorted(world.iterdir()) == before


@pytest.mark.parametrize("engine", [[], ["--engine", "in-process"]])
def test_an_attacker_that_cannot_run_is_said_before_the_work_and_by_a_plan(world, run, monkeypatch, engine):
    monkeypatch.setitem(sys.modules, "xgboost", None)
    command = ["unlearn", "users.npy", "--attributes", "people.csv", "--columns", "group", "-o", "new.npy", *engine]
    np.save("users.npy", np.load("users.npz")["vectors"])
    before = sorted(world.iterdir())
    for words in (command, [*command, "--plan"]):
        with monkeypatch.context() as nothing_is_moved:
            nothing_is_moved.delattr("attrcloak.release.checked.run")
            done = run(*words)
        assert done.code == 1
        assert "attrcloak[xgboost]" in done.err
    assert sorted(world.iterdir()) == before
    assert run(*command, "--no-audit").code == 0


def test_the_default_method_goes_by_the_size_of_the_table(world, run):
    small = run("unlearn", "users.npz", *QUICK, "--plan", "--json")
    assert small.json["method"] == "calibrated-flow"
    users = FLOW_USERS + 1
    np.savez("large.npz", vectors=np.eye(2, dtype=np.float32)[np.arange(users) % 2], ids=np.arange(users))
    Path("large.csv").write_text("user_id,gender\n" + "".join(f"{user},{'FM'[user % 2]}\n" for user in range(users)))
    large = run("unlearn", "large.npz", "--attributes", "large.csv", "--plan", "--json")
    assert large.json["method"] == "calibrated"
    assert "will be attacked" not in large.err


def test_that_a_large_table_is_attacked_in_full_is_said_before(world, run):
    users = 20_001
    np.savez("large.npz", vectors=np.eye(2, dtype=np.float32)[np.arange(users) % 2], ids=np.arange(users))
    Path("large.csv").write_text("user_id,gender\n" + "".join(f"{user},{'FM'[user % 2]}\n" for user in range(users)))
    plan = ["unlearn", "large.npz", "--attributes", "large.csv", "--plan"]
    assert "all 20001 users will be attacked for the verdict" in run(*plan).err
    assert "will be attacked" not in run(*plan, "--no-audit").err


def test_only_those_who_ask_move(world, run):
    Path("asks.csv").write_text(
        "user_id,attribute\n3,group\n5,group\n" + "".join(f"{i},group\n" for i in range(50, 150))
    )
    assert run(*UNLEARN, "--requests", "asks.csv", "-o", "new.npz", "--length", "keep").code == 0
    old, new = np.load("users.npz")["vectors"], np.load("new.npz")["vectors"]
    moved = np.flatnonzero((old != new).any(axis=1))
    assert set(moved) == {3, 5, *range(50, 150)}


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("user,attribute\n3,group\n", "user_id"),
        ("user_id,attribute\n3,height\n", "height"),
        ("user_id,attribute\n999,group\n", "1 of 1"),
    ],
)
def test_requests_that_do_not_fit_are_refused(world, run, content, named):
    Path("asks.csv").write_text(content)
    done = run(*UNLEARN, "--requests", "asks.csv", "-o", "new.npz")
    assert done.code == 1
    assert named in done.err
    assert not Path("new.npz").exists()


def test_an_eraser_is_applied_and_undone(world, run):
    assert run(*UNLEARN, "--method", "barycentre", "-o", "new.npz", "--eraser", "e.safetensors").code == 0
    assert Path("e.safetensors").stat().st_mode & 0o077 == 0
    assert (
        run("apply", "users.npz", "--attributes", "people.csv", "--eraser", "e.safetensors", "-o", "again.npz").code
        == 0
    )
    new, again = np.load("new.npz")["vectors"], np.load("again.npz")["vectors"]
    np.testing.assert_allclose(again, new, rtol=1e-5, atol=1e-6)
    done = run("undo", "new.npz", "--eraser", "e.safetensors", "--attributes", "people.csv", "-o", "back.npz")
    assert done.code == 0, done.err
    np.testing.assert_allclose(np.load("back.npz")["vectors"], np.load("users.npz")["vectors"], atol=1e-4)


@pytest.mark.parametrize("length", ["keep", "unit"])
def test_methods_without_maps_leave_the_rows_and_undo_is_exact(world, run, length):
    done = run(*UNLEARN, "-o", "new.npz", "--eraser", "kept.safetensors", "--length", length)
    assert done.code == 0, done.err
    assert "secret" in done.err
    assert Path("kept.safetensors").stat().st_mode & 0o077 == 0
    assert run("undo", "new.npz", "--eraser", "kept.safetensors", "-o", "back.npz").code == 0
    np.testing.assert_array_equal(np.load("back.npz")["vectors"], np.load("users.npz")["vectors"])
    refused = run("apply", "users.npz", "--attributes", "people.csv", "--eraser", "kept.safetensors", "-o", "a.npz")
    assert refused.code == 1
    assert not Path("a.npz").exists()


@pytest.mark.parametrize("option", ["--eraser", "--undo-file"])
def test_the_way_back_of_an_earlier_run_is_never_written_over(world, run, option):
    assert run(*UNLEARN, "-o", "new.npz", option, "back").code == 0
    kept = Path("back").read_bytes()
    done = run(*UNLEARN, "-o", "second.npz", option, "back")
    assert done.code == 1
    assert "back is there already, and may be the only way back of another run" in done.err
    assert not Path("second.npz").exists()
    assert Path("back").read_bytes() == kept


def test_a_class_the_eraser_has_not_seen_is_named_and_counted(world, run):
    run(*UNLEARN, "--method", "mean-removal", "-o", "new.npz", "--eraser", "e.safetensors")
    Path("others.csv").write_text(Path("people.csv").read_text().replace("\n7,a", "\n7,c").replace("\n7,b", "\n7,c"))
    done = run("apply", "users.npz", "--attributes", "others.csv", "--eraser", "e.safetensors", "-o", "x.npz")
    assert done.code == 1
    assert "group=c (1 user" in done.err
    assert not Path("x.npz").exists()


@pytest.mark.parametrize("target", ["users.npz", "./users.npz", "people.csv"])
def test_inputs_are_never_overwritten(world, run, target):
    before = Path(target).read_bytes()
    done = run(*UNLEARN, "-o", target)
    assert done.code in (1, 2)
    assert Path(target).read_bytes() == before


def test_a_link_to_an_input_is_an_input(world, run):
    Path("link.npz").hardlink_to("users.npz")
    before = Path("users.npz").read_bytes()
    run(*UNLEARN, "-o", "link.npz")
    assert Path("users.npz").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--set", "slice=3"), "slices"),
        (("--set", "slices"), "key=value"),
        (("--set", "slices=many"), "many"),
        (("--set", "match=everything"), "everything"),
        (("--method", "calibratd"), "calibrated"),
        (("--length", "short"), "short"),
        (("--columns", "groop"), "group"),
    ],
)
def test_settings_that_are_not_known_are_refused_with_the_nearest(world, run, words, named):
    done = run(*UNLEARN, "-o", "new.npz", *words)
    assert done.code in (1, 2), done.err
    assert named in done.err
    assert not Path("new.npz").exists()


def test_unlearn_keeps_a_parquet_file_s_own_names_and_columns(world, run):
    vectors = np.load("users.npy")
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), 6)
    other = pa.array([[1.0, 2.0]] * 240)
    table = pa.table({"who": pa.array(range(240)), "emb": column, "other": other, "note": pa.array(["x"] * 240)})
    pq.write_table(table, "own.parquet")
    people = Path("people.csv").read_text().replace("user_id", "who")
    Path("own.csv").write_text(people)
    done = run(
        "unlearn", "own.parquet", "--attributes", "own.csv", "--columns", "group", "--id", "who", "--vector", "emb",
        "--no-audit", "-o", "new.parquet",
    )  # fmt: skip
    assert done.code == 0, done.err
    new = pq.read_table("new.parquet")
    assert new.column_names == table.column_names
    assert new["other"].equals(table["other"])
    assert not new["emb"].equals(table["emb"])


def test_another_format_is_refused_before_any_work_and_leaves_nothing(world, run):
    before = sorted(world.iterdir())
    done = run(*UNLEARN, "-o", "new.parquet", "--eraser", "e.safetensors")
    assert done.code in (1, 2)
    assert sorted(world.iterdir()) == before


def test_a_device_runs_both_passes_and_gives_the_same_table(world, run):
    pytest.importorskip("torch")
    for method in ("leace", "attrcloak-df"):
        assert run(*UNLEARN, "--method", method, "-o", "plain.npz").code == 0
        done = run(*UNLEARN, "--method", method, "--device", "cpu", "-o", "device.npz")
        assert done.code == 0, done.err
        plain, device = (np.load(f"{name}.npz")["vectors"] for name in ("plain", "device"))
        assert plain.dtype == device.dtype
        np.testing.assert_allclose(device, plain, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("how", [("--no-audit", "-o", "new.npy"), ("--plan",)])
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--method", "leace", "--device", "cuda:99"), "device 'cuda:99' cannot be used"),
        (("--method", "leace", "--device", "gpu"), "there are: cpu"),
        (("--method", "calibrated", "--device", "cpu"), "calibrated iterates over rows"),
    ],
)
def test_a_device_that_cannot_be_used_is_refused_before_anything_is_written(world, run, how, words, said):
    pytest.importorskip("torch")
    done = run("unlearn", "users.npy", *QUICK, *how, *words)
    assert (done.code, "Traceback" in done.err) == (1, False)
    assert said in " ".join(done.err.split())
    assert not Path("new.npy").exists()


def test_a_device_is_not_for_tables_that_stream(world, run):
    done = run("unlearn", "users.npy", *QUICK, "-o", "new.npy", "--device", "cpu", "--engine", "in-process")
    assert (done.code, "Traceback" in done.err) == (1, False)
    assert "--device is for a table in memory" in " ".join(done.err.split())


def test_a_device_without_torch_is_refused_with_what_to_install(world, run, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "attrcloak.moments.torch_passes", raising=False)
    done = run(*UNLEARN, "--method", "leace", "--device", "cuda", "-o", "new.npz")
    assert (done.code, "Traceback" in done.err) == (1, False)
    assert "pip install 'attrcloak[torch]'" in done.err
