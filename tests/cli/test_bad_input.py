"""Bad input: a message that names the thing and the count, exit 1 or 2, no traceback, nothing half-written."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
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


def in_parts(folder: str, *vectors: np.ndarray) -> str:
    """A folder of .npy files."""
    Path(folder).mkdir()
    for number, part in enumerate(vectors):
        np.save(f"{folder}/{number}.npy", part)
    return folder


def whole_and_in_parts() -> tuple[str, str]:
    """The same table as a file for memory and as a folder that streams."""
    return "users.npy", in_parts("parts", *np.split(np.load("users.npy"), 2))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            "user_id,group\n0,a,more\n1,b\n2\n3,a,more\n4,a,more\n",
            "bad.csv: 4 rows have more or fewer fields than the header ('0,a,more' has 3 of 2, '2' has 1 of 2, "
            "'3,a,more' has 3 of 2, ...); put fields with a comma in quotes",
        ),
        ('user_id,group\n0,a\n"1,a\n2,b\n3,a\n', """1 rows have more or fewer fields than the header ('"1,a'"""),
        (
            "user_id,group\n0.0,a\n1.0,b\n",
            "people: '0.0', '1.0'); '0.0' is a whole number that was read and written as a float, as pandas does where "
            "one is missing; write the ids as whole numbers",
        ),
        ("user_id,group\nx,a\ny,b\n", "people: 'x', 'y'); is the id column the right one?"),
    ],
)
def test_rows_and_ids_that_another_program_spoilt_are_said_with_what_to_do(world, run, content, said):
    Path("bad.csv").write_text(content)
    for table in whole_and_in_parts():
        assert said in run("audit", table, "--attributes", "bad.csv").err


def test_requests_by_ids_read_as_floats_are_said_with_what_to_do(world, run):
    Path("bad.csv").write_text("user_id,attribute\n7.0,group\n8.0,group\n")
    for table in whole_and_in_parts():
        done = run("unlearn", table, "--attributes", "people.csv", "--requests", "bad.csv", "-o", "new.npy")
        assert done.err.startswith("error: bad.csv: ")
        assert "'7.0' is a whole number" in done.err


def test_ids_of_a_floating_type_are_said_with_what_to_do(world, run):
    lists = pa.FixedSizeListArray.from_arrays(pa.array(np.load("users.npy").reshape(-1)), 6)
    Path("parts").mkdir()
    pq.write_table(pa.table({"user_id": np.arange(240.0), "vectors": lists}), "parts/bad.parquet")
    for table in ("parts/bad.parquet", "parts"):
        done = run("audit", table, "--attributes", "people.csv")
        assert "bad.parquet: column 'user_id' is of type double; ids are whole numbers or text; if all" in done.err


def test_vectors_in_another_byte_order_are_said_with_what_to_do(world, run):
    swapped = np.load("users.npy").astype(">f4")
    np.save("bad.npy", swapped)
    said = "vectors of type >f4 lie in the byte order of other machines; write array.astype('float32')"
    for table in ("bad.npy", in_parts("parts", swapped)):
        done = run("audit", table, "--attributes", "people.csv")
        assert f": {said}" in done.err
        assert table in done.err


def test_parts_that_differ_and_a_folder_of_nothing_are_said_with_the_folder(world, run):
    in_parts("differ", np.ones((2, 6)), np.ones((2, 5)))
    done = run("audit", "differ", "--attributes", "people.csv")
    assert "differ: 1 of 2 files differ in the width of their vectors from 0.npy (6): 1.npy (5); a folder" in done.err
    nothing = in_parts("nothing")
    Path("nothing/_SUCCESS").write_text("")
    done = run("audit", nothing, "--attributes", "people.csv")
    assert "nothing: the folder holds no files (names that begin with . or _ do not count)" in done.err
    done = run("audit", "users.npy", "--attributes", nothing)
    assert "nothing is a folder, and what is held in memory is read from one file; name that, or stream" in done.err
    assert "the table (--engine)" in done.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("audit user.npy --attributes people.csv", "user.npy: there is no such file; did you mean 'users.npy'?"),
        ("audit users --attributes people.csv", "users: there is no such file in "),
        ("audit users.npy --attributes peple.csv", "peple.csv: there is no such file; did you mean 'people.csv'?"),
        ("audit parts --attributes peple.csv", "peple.csv: there is no such file or folder; did you mean 'people.csv'"),
        ("audit part --attributes people.csv --engine auto", "there is no such file or folder; did you mean 'parts'?"),
        ("audit no/users.npy --attributes people.csv", "no/users.npy: there is no such file; its folder "),
        ("apply users.npy --attributes people.csv --eraser map -o new.npy", "map: there is no such file in "),
        ("undo users.npy --attributes people.csv --eraser map -o new.npy", "map: there is no such file in "),
        ("unlearn users.npy --attributes people.csv --requests people.cs -o new.npy", "did you mean 'people.csv'?"),
        ("unlearn users.npy --attributes people.csv --key-file key -o new.npy", "key: there is no such file in "),
    ],
)
def test_a_file_that_is_not_there_is_said_with_the_nearest_name(world, run, words, said):
    whole_and_in_parts()
    assert said in run(*words.split()).err


@pytest.mark.parametrize("command", ["apply", "undo"])
def test_maps_of_another_width_are_said_with_the_table_and_what_to_do(world, run, command):
    people = ("--attributes", "people.csv")
    how = ("--method", "calibrated", "--set", "slices=0", "--no-audit")
    run("unlearn", "users.npy", *people, *how, "-o", "new.npy", "--eraser", "map")
    wide = np.hstack([np.load("users.npy")] * 2)
    np.save("wide.npy", wide)
    for table, output in (("wide.npy", "out.npy"), (in_parts("parts", wide), "out")):
        done = run(command, table, *people, "--eraser", "map", "-o", output)
        assert "has 12 dimensions, and the eraser is for 6: its maps are of another table" in done.err


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
