"""Bad input: a message that names the thing and the count, exit 1 or 2, no traceback, nothing half-written."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import attrcloak
from attrcloak import whole_file
from attrcloak.errors import AttrCloakError


def nan_rows() -> None:
    vectors = np.load("users.npy")
    vectors[[3, 8]] = np.nan
    np.save("bad.npy", vectors)


def objects() -> None:
    np.save("bad.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)


def cut_short() -> None:
    Path("bad.npy").write_bytes(Path("users.npy").read_bytes()[:200])


def empty() -> None:
    Path("bad.npy").write_bytes(b"")


def flat() -> None:
    np.save("bad.npy", np.arange(12.0))


def missing() -> None:
    pass


VECTORS = {
    nan_rows: "2 vectors",
    objects: "objects",
    cut_short: "bad.npy",
    empty: "empty",
    flat: "(12,)",
    missing: "bad.npy",
}
PEOPLE = {
    "user_id,group\n1,a\n1,b\n": "more than once",
    "user_id,group\n": "no rows",
    "": "empty",
    "user_id,height\n1,a\n": "group",
    "name,group\nx,a\n": "user_id",
    "user_id,group\nx,a\ny,b\n": "none of the 240",
    "user_id,group\n" + "".join(f"{i},a\n" for i in range(240)): "group",
    "user_id,group\n,a\n2,b\n": "id",
}


@pytest.mark.parametrize("command", ["audit", "unlearn"])
@pytest.mark.parametrize("make", list(VECTORS), ids=lambda make: make.__name__)
def test_vectors_that_cannot_be_used(world, run, command, make):
    make()
    words = (command, "bad.npy", "--attributes", "people.csv", "--columns", "group")
    done = run(*words, *(() if command == "audit" else ("-o", "new.npy")))
    assert done.code in (1, 2)
    assert VECTORS[make] in done.err
    assert "Traceback" not in done.err
    assert not Path("new.npy").exists()


@pytest.mark.parametrize("command", ["audit", "unlearn"])
@pytest.mark.parametrize("content", list(PEOPLE), ids=list(PEOPLE.values()))
def test_people_that_cannot_be_used(world, run, command, content):
    Path("bad.csv").write_text(content)
    words = (command, "users.npy", "--attributes", "bad.csv", "--columns", "group")
    done = run(*words, *(() if command == "audit" else ("-o", "new.npy")))
    assert done.code in (1, 2)
    assert PEOPLE[content] in done.err
    assert "Traceback" not in done.err
    assert not Path("new.npy").exists()


def two_columns_of_vectors() -> None:
    np.savez("two.npz", one=np.ones((240, 6)), other=np.ones((240, 6)))


def no_column_of_ids() -> None:
    Path("bad.csv").write_text("name,group\nx,a\n")


def a_column_of_names() -> None:
    Path("bad.csv").write_text("user_id,name\n" + "".join(f"{i},name {i}\n" for i in range(240)))


def nothing_made() -> None:
    pass


@pytest.mark.parametrize(
    ("make", "words", "option", "parameter"),
    [
        (two_columns_of_vectors, "audit two.npz --attributes people.csv", "--vector", "vector_column"),
        (no_column_of_ids, "audit users.npy --attributes bad.csv", "--id", "id_column"),
        (no_column_of_ids, "audit users.npy --attributes bad.csv --engine in-process", "--id", "id_column"),
        (a_column_of_names, "audit users.npy --attributes bad.csv", "--columns", "columns"),
        (a_column_of_names, "audit users.npy --attributes bad.csv --engine in-process", "--columns", "columns"),
        (nothing_made, "data ml-100k --data-dir none --out new", "--data-dir", "data_dir"),
        (nothing_made, "train --dataset my-own --out new", "--data-dir", "data_dir"),
    ],
)
def test_the_next_step_is_an_option_on_the_command_line_and_a_parameter_in_python(
    world, run, make, words, option, parameter
):
    make()
    done = run(*words.split())
    assert done.code == 1
    assert f"with {option}" in done.err
    assert f"{parameter}=" not in done.err
    with pytest.raises(AttrCloakError, match=f"with {parameter}="):
        run("--debug", *words.split())


def test_debug_shows_where(world, run):
    with pytest.raises(Exception, match="there is no such file"):
        run("--debug", "audit", "none.npy", "--attributes", "people.csv")


@pytest.mark.parametrize("words", [("audit",), ("audit", "users.npy"), ("fly",), ("audit", "users.npy", "--fast")])
def test_a_wrong_command_line_exits_2(world, run, words):
    assert run(*words).code == 2


def test_a_full_disk_is_a_message_and_leaves_nothing(world, run, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "new.npz")

    monkeypatch.setattr(whole_file.os, "replace", full)
    before = sorted(world.iterdir())
    done = run(
        "unlearn", "users.npz", "--attributes", "people.csv", "--columns", "group", "--no-audit", "-o", "new.npz"
    )
    assert done.code == 1
    assert "No space left" in done.err
    assert "Traceback" not in done.err
    assert sorted(world.iterdir()) == before


def test_a_folder_that_is_not_there_is_named_before_any_work(world, run):
    done = run("unlearn", "users.npz", "--attributes", "people.csv", "--columns", "group", "-o", "none/new.npz")
    assert done.code in (1, 2)
    assert "none" in done.err


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing(world, number):
    rng = np.random.default_rng(0)
    np.save("large.npy", rng.normal(size=(6000, 48)))
    Path("large.csv").write_text("user_id,group\n" + "".join(f"{i},{'ab'[i % 2]}\n" for i in range(6000)))
    before = sorted(world.iterdir())
    script = "from attrcloak.cli import main; main()"
    words = ["unlearn", "large.npy", "--attributes", "large.csv", "-o", "new.npy", "--eraser", "kept.safetensors"]
    process = subprocess.Popen(
        [sys.executable, "-c", script, *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(attrcloak.__file__).parents[1])},
    )  # fmt: skip
    time.sleep(4)
    assert process.poll() is None, process.communicate()
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "interrupted" in err
    assert "Traceback" not in err
    assert sorted(world.iterdir()) == before
