"""Unlearning in files gives what unlearning in memory gives, however the table is cut and whoever runs it."""

import json
import os
import re
import shutil
import warnings
from dataclasses import replace
from functools import partial
from importlib.util import find_spec

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from attrcloak.auditing import SOUND
from attrcloak.data.attributes import UserAttributes
from attrcloak.data.embeddings import EmbeddingTable
from attrcloak.data.ids import Ids
from attrcloak.data.people_files import read_people
from attrcloak.data.vector_files import read_vectors
from attrcloak.errors import DamagedWork, InvalidInput, InvalidSettings, NotSupported, UnreadableFile, WorkerLost
from attrcloak.moments import Eraser
from attrcloak.streaming import KeptMaps, plan_files, unlearn_files
from attrcloak.streaming.passes import move
from attrcloak.unlearning import (
    LEACE,
    AttrCloakDD,
    AttrCloakDF,
    Barycentre,
    Calibrated,
    GaussianNoise,
    MeanRemoval,
    run,
)

KEY = b"k" * 32
METHODS = [LEACE(), MeanRemoval(), Barycentre(), AttrCloakDF(space="moments", steps=20)]


def in_memory(world, method, people: UserAttributes | None = None, dtype=np.float32, scoring="unknown"):
    table = EmbeddingTable(Ids(world.ids), world.vectors.astype(dtype), scoring=scoring)
    return run(method, table, read_people(world.folder / "people.csv") if people is None else people, key=KEY)


def stream(world, method, output="out", length="auto", **changes):
    options = {
        "engine": "in-process",
        "check": False,
        "key": KEY,
        **{k: changes.pop(k) for k in ("engine", "key", "workers", "eraser_file") if k in changes},
    }
    return unlearn_files(world.sources(output, **changes), method, length=length, **options)


def same(world, output, result, tolerance=0.0):
    got = world.read(output)
    assert len(got) == len(world.ids)
    for id_, expected in zip(world.ids.tolist(), result.table.vectors, strict=True):
        np.testing.assert_allclose(got[id_], expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_files_and_memory_agree(world, method):
    released = stream(world, method)
    expected = in_memory(world, method)
    same(world, "out", expected, tolerance=1e-6)  # one unit in the last place of float32
    np.testing.assert_allclose(released.eraser.matrices, expected.eraser.matrices, atol=1e-10)
    np.testing.assert_allclose(released.eraser.offsets, expected.eraser.offsets, atol=1e-10)
    manifest = released.manifest
    assert manifest["relative_move"] == pytest.approx(expected.relative_move, abs=1e-6)
    assert np.mean([leak.before for leak in released.leaks]) == pytest.approx(expected.objective_before, abs=1e-9)
    assert np.mean([leak.after for leak in released.leaks]) == pytest.approx(expected.objective_after, abs=1e-5)
    assert (manifest["users"], manifest["moved"]) == (len(world.ids), int(expected.moved.sum()))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=8)
@given(data=st.data())
def test_the_cut_into_files_and_the_order_of_rows_make_no_difference(world, tmp_path_factory, data):
    cuts = sorted(data.draw(st.sets(st.integers(1, 1499), max_size=6)))
    order = np.random.default_rng(data.draw(st.integers(0, 99))).permutation(1500)
    here = replace(world, folder=tmp_path_factory.mktemp("cut"))
    (here.folder / "people.csv").write_text((world.folder / "people.csv").read_text())
    here.write("table", [0, *cuts, 1500], order=order)
    for method in (Calibrated(), AttrCloakDF(steps=15)):
        expected = unlearn_once(world, method)
        eraser = stream(here, method, output=f"out-{method.name}").eraser
        np.testing.assert_allclose(eraser.matrices, expected.matrices, rtol=0, atol=1e-10)
        np.testing.assert_allclose(eraser.offsets, expected.offsets, rtol=0, atol=1e-10)


def unlearn_once(world, method):
    output = f"expected-{method.name}"
    saved = world.folder / f"{output}.eraser"
    if not saved.exists():
        stream(world, method, output=output).eraser.save(saved)
    from attrcloak.moments.eraser import Eraser

    return Eraser.load(saved)


@pytest.mark.parametrize("engine", ["pool", "ray", "spark"])
def test_every_engine_writes_the_same_bytes(world, engine):
    if engine in ("ray", "spark") and find_spec({"ray": "ray", "spark": "pyspark"}[engine]) is None:
        pytest.skip(f"{engine} is not installed")
    stream(world, Calibrated(), output="one")
    with warnings.catch_warnings():
        if engine != "pool":
            warnings.simplefilter("ignore")
        stream(world, Calibrated(), output="two", engine=engine, workers=2)
    assert world.bytes_of("one") == world.bytes_of("two")


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_types_come_out_as_they_came_in(world, dtype):
    world.write("typed", [0, 700, 1500], dtype=dtype)
    stream(world, MeanRemoval(), vectors="typed")
    same(world, "out", in_memory(world, MeanRemoval(), dtype=dtype), tolerance=2e-3 if dtype == np.float16 else 1e-12)


def test_only_those_who_ask_move_and_others_keep_their_bits(world):
    asks = {"gender": world.ids[100:500], "age": world.ids[400:600]}
    lines = [f"{i},{name}" for name, ids in asks.items() for i in ids]
    (world.folder / "asks.csv").write_text("\n".join(["user_id,attribute", *lines]) + "\n")
    stream(world, MeanRemoval(), requests="asks.csv")
    people = read_people(world.folder / "people.csv").mark(asks)
    expected = in_memory(world, MeanRemoval(), people)
    same(world, "out", expected, tolerance=1e-6)
    got = world.read("out")
    for row in np.flatnonzero(~expected.moved):
        np.testing.assert_array_equal(got[int(world.ids[row])], world.vectors[row].astype(np.float32))


@pytest.mark.parametrize("asked", [False, True])
def test_intersections_are_attributes_as_in_memory(world, asked):
    people = read_people(world.folder / "people.csv")
    requests = None
    if asked:  # who asks for both asks for the intersection
        asks = {"gender": world.ids[100:900], "age": world.ids[400:1200]}
        lines = [f"{i},{name}" for name, ids in asks.items() for i in ids]
        (world.folder / "asks.csv").write_text("\n".join(["user_id,attribute", *lines]) + "\n")
        people, requests = people.mark(asks), "asks.csv"
    released = stream(world, MeanRemoval(), requests=requests, columns=("age", "gender x age"))
    assert released.manifest["columns"] == ["age", "gender x age"]
    expected = in_memory(world, MeanRemoval(), people.cross("gender", "age").select(["age", "gender x age"]))
    assert released.manifest["moved"] == expected.moved.sum()
    same(world, "out", expected, tolerance=1e-6)


def test_columns_that_are_named_twice_count_once(world):
    released = stream(world, MeanRemoval(), columns=("gender", "gender x age", "gender", "gender  x age"))
    assert released.manifest["columns"] == ["gender", "gender x age"]


def test_people_may_have_more_columns_than_can_be_asked_for(world):
    text = (world.folder / "people.csv").read_text().splitlines()
    names = [f"answer{n}" for n in range(65)]
    lines = [",".join([text[0], *names]), *(line + f",{i % 2}" * 65 for i, line in enumerate(text[1:]))]
    (world.folder / "wide.csv").write_text("\n".join(lines) + "\n")
    assert stream(world, MeanRemoval(), people="wide.csv", columns=("gender", *names[:64])).manifest["moved"] == 1500
    (world.folder / "asks.csv").write_text(f"user_id,attribute\n{world.ids[0]},gender\n")
    with pytest.raises(InvalidInput, match=r"wide.csv: 67 attributes, and requests can be for 64"):
        stream(world, MeanRemoval(), output="two", people="wide.csv", requests="asks.csv")
    most = ("gender", *names[:63])
    (world.folder / "asks.csv").write_text("user_id,attribute\n" + f"{world.ids[0]},{most[-1]}\n{world.ids[1]},age\n")
    with pytest.raises(InvalidInput, match="requests for age"):
        stream(world, MeanRemoval(), output="three", people="wide.csv", columns=most, requests="asks.csv")
    (world.folder / "asks.csv").write_text(
        "user_id,attribute\n" + f"{world.ids[0]},{most[-1]}\n{world.ids[1]},gender\n"
    )
    released = stream(world, MeanRemoval(), output="three", people="wide.csv", columns=most, requests="asks.csv")
    assert released.manifest["moved"] == 2


def test_an_intersection_needs_columns_that_are_there(world):
    with pytest.raises(InvalidInput, match=r"people.csv: there is no column 'town'"):
        stream(world, MeanRemoval(), columns=("gender x town",))


def test_an_attribute_in_which_all_are_alike_is_warned_of(world):
    text = (world.folder / "people.csv").read_text().splitlines()
    lines = [text[0] + ",town", *(f"{line},{'Bern' if n % 2 else ''}" for n, line in enumerate(text[1:]))]
    (world.folder / "towns.csv").write_text("\n".join(lines) + "\n")
    released = stream(world, MeanRemoval(), people="towns.csv", columns=("gender", "town"))
    assert [text for text in released.warnings if "'town'" in text and "'Bern'" in text and "one class" in text]
    assert not [text for text in released.warnings if "'gender'" in text]
    with pytest.raises(InvalidInput, match="nothing in it to unlearn"):
        stream(world, MeanRemoval(), output="none", people="towns.csv", columns=("town",))
    assert not list(world.folder.glob("none*"))


def test_one_length_is_a_pre_map(world):
    method = Calibrated(match="mean", slices=0, own_per_dimension=0)
    released = stream(world, method, length="unit")
    assert released.manifest["scaling"] == "unit"
    lengths = np.linalg.norm(world.vectors, axis=1)
    assert released.manifest["common_length"] == pytest.approx(np.sqrt((lengths**2).mean()), rel=1e-6)
    table = EmbeddingTable(Ids(world.ids), world.vectors.astype(np.float32), scoring="dot")
    people = read_people(world.folder / "people.csv")
    from attrcloak.release import apply_eraser

    moved = apply_eraser(released.eraser, table, people)
    same(world, "out", replace(in_memory(world, MeanRemoval()), table=moved), tolerance=1e-5)
    # The class means of the table at one length are at chance: within a few standard errors of the common one.
    cells = people.align(table.ids)["gender"]
    means = [moved.vectors[cells.codes == k].mean(axis=0) for k in range(2)]
    assert np.abs(means[0] - means[1]).max() < 6 * moved.vectors.std() / np.sqrt(600)


def test_constant_columns_stay_to_the_bit(world):
    world.vectors[:, 2] = 0.1
    world.write("constant", [0, 1500])
    stream(world, AttrCloakDF(steps=10), vectors="constant")
    old, new = world.read("constant"), world.read("out")
    assert all(new[id_][2] == old[id_][2] for id_ in old)
    factors = world.vectors.astype(np.float32)
    factors[:, -1] = 1
    save_file({"user_factors": factors, "ids": world.ids}, world.folder / "bpr.safetensors")
    stream(world, Calibrated(slices=0), vectors="bpr.safetensors", output="new.safetensors", columns=("age",))
    np.testing.assert_array_equal(load_file(world.folder / "new.safetensors")["user_factors"][:, 2], factors[:, 2])
    assert any(new[id_][0] != old[id_][0] for id_ in old)


def test_frozen_columns_are_not_moved_and_the_rest_is_scaled_as_in_memory(world):
    factors = world.vectors.astype(np.float32)
    factors[:, -1] = 1
    save_file({"user_factors": factors, "user_ids": world.ids}, world.folder / "bpr.safetensors")
    people = read_people(world.folder / "people.csv", columns=["age"])
    released = stream(
        world, Calibrated(slices=0), vectors="bpr.safetensors", output="out.safetensors", columns=("age",)
    )
    new = load_file(world.folder / "out.safetensors")["user_factors"]
    np.testing.assert_array_equal(new[:, -1], 1)
    moved = new[:, :-1].astype(np.float64)
    old = factors[:, :-1].astype(np.float64)
    assert np.vdot(old, moved) / np.vdot(moved, moved) == pytest.approx(1.0, abs=1e-6)  # least squares: nothing to gain
    from attrcloak.release import apply_eraser

    applied = apply_eraser(released.eraser, read_vectors(world.folder / "bpr.safetensors"), people)
    np.testing.assert_allclose(new, applied.vectors, atol=1e-6)
    with pytest.raises(NotSupported, match="set length to 'keep'"):
        stream(world, Calibrated(length="unit"), vectors="bpr.safetensors", output="x.safetensors")


def test_a_single_npy_file_becomes_a_file(world):
    np.save(world.folder / "users.npy", world.vectors)
    text = (world.folder / "people.csv").read_text().splitlines()
    by_row = [text[0], *[f"{(int(line.split(',')[0]) - 3) // 7},{line.partition(',')[2]}" for line in text[1:]]]
    (world.folder / "people.csv").write_text("\n".join(by_row) + "\n")
    stream(world, LEACE(), vectors="users.npy", output="new.npy")
    expected = run(LEACE(), read_vectors(world.folder / "users.npy"), read_people(world.folder / "people.csv"))
    np.testing.assert_allclose(np.load(world.folder / "new.npy"), expected.table.vectors, atol=1e-12)


def test_the_manifest_lies_beside_the_output_and_nothing_else_is_left(world):
    released = stream(world, Calibrated(), key=None)
    assert {path.name for path in world.folder.iterdir()} == {"table", "people.csv", "out", "out.manifest.json"}
    manifest = json.loads((world.folder / "out.manifest.json").read_text())
    assert manifest == released.manifest
    import hashlib

    for folder, files in (("table", manifest["inputs"]["vectors"]), ("out", manifest["outputs"])):
        for name, file in files.items():
            content = (world.folder / folder / name).read_bytes()
            assert (file["size"], file["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    assert len(manifest["key_commitment"]) == 64


def test_parts_that_were_done_again_are_counted_and_named(world, tired):
    assert stream(world, MeanRemoval()).manifest["done_again"] == 0
    shutil.rmtree(world.folder / "out")
    tired("run")
    released = stream(world, MeanRemoval())
    assert released.manifest["done_again"] == 1
    assert released.warnings == tuple(released.manifest["warnings"])
    assert re.search(r"table: 1 of 3 files were done again after a worker died", released.warnings[-1])
    assert f"({max(released.manifest['outputs'])})" in released.warnings[-1]


def dying_move(task, note, **rest):
    """Pass 2 of a part; the first time, its worker dies in it."""
    if not note.exists():
        note.write_text("")
        os._exit(1)
    return move(task, **rest)


def test_a_worker_that_dies_in_a_run_is_counted_in_its_manifest_and_changes_nothing_else(world, monkeypatch):
    expected = stream(world, MeanRemoval(), output="expected").manifest
    monkeypatch.setattr("attrcloak.streaming.stages.move", partial(dying_move, note=world.folder / "died"))
    found = stream(world, MeanRemoval(), engine="pool", workers=2).manifest
    assert (world.folder / "died").exists()
    assert 1 <= found["done_again"] <= 3
    assert "were done again after a worker died" in found["warnings"][-1]
    assert found["outputs"] == expected["outputs"]


def test_a_fresh_key_is_a_fresh_draw_and_a_given_one_repeats(world):
    for output, key in (("a", KEY), ("b", KEY), ("c", None), ("d", None)):
        stream(world, Calibrated(), output=output, key=key)
    assert world.bytes_of("a") == world.bytes_of("b")
    assert world.bytes_of("c") != world.bytes_of("d")


@pytest.mark.parametrize("method", [AttrCloakDD(), GaussianNoise()], ids=lambda method: method.name)
def test_methods_that_need_rows_say_which_do_not(world, method):
    with pytest.raises(NotSupported, match=r"attrcloak-df, calibrated, barycentre, leace, mean-removal"):
        stream(world, method)
    assert not (world.folder / "out.partial").exists()


def test_bad_input_leaves_nothing_behind(world):
    world.vectors[[450, 460, 470, 480], 0] = np.nan
    world.write("bad", [0, 400, 1500])
    with pytest.raises(InvalidInput) as error:
        stream(world, LEACE(), vectors="bad")
    assert "part-00400.parquet: 4 vectors hold NaN or infinity (rows 50, 60, 70, ...)" in str(error.value)
    (world.folder / "nobody.csv").write_text("user_id,gender\n3,\n10,\n")
    with pytest.raises(InvalidInput, match="nothing to unlearn"):
        stream(world, LEACE(), people="nobody.csv")
    with pytest.raises(UnreadableFile, match="no such file"):
        stream(world, LEACE(), people="gone.csv")
    assert {path.name for path in world.folder.iterdir()} == {"table", "bad", "people.csv", "nobody.csv"}


def test_who_and_what_stays_as_it_was_is_said(world):
    """Users without a class, among them all of one file, whose ids are written otherwise, and a copy of the vectors."""
    last = world.folder / "table" / "part-01100.parquet"
    table = pq.read_table(last)
    strange = pa.array([f"u{i}" for i in table["user_id"].to_pylist()])
    pq.write_table(table.set_column(0, "user_id", strange).append_column("copy", table["vectors"]), last)
    released = stream(world, LEACE(), columns=("gender",))
    unknown, copy = released.warnings
    people = read_people(world.folder / "people.csv")["gender"].codes
    listed = np.isin(read_people(world.folder / "people.csv").ids.values, world.ids[:1100])
    count = 400 + int((people[listed] < 0).sum())
    assert unknown.startswith(f"{count} of 1500 users have no class in ")
    assert "stay as they were (part-01100.parquet 400 of 400, part-00400.parquet" in unknown
    assert copy.startswith("column 'copy' of 1 of 3 files holds lists of numbers too")
    assert released.manifest["warnings"] == [unknown, copy]
    assert released.manifest["columns"] == ["gender"]
    assert (released.manifest["id_column"], released.manifest["vector_column"]) == ("user_id", "vectors")
    assert pq.read_table(world.folder / "out" / last.name).equals(pq.read_table(last))


def test_an_unfinished_run_says_which_files_changed(world, monkeypatch):
    def dies(*_args, **_options):
        raise WorkerLost("twice")

    monkeypatch.setattr("attrcloak.streaming.stages.Stages.move", dies)
    with pytest.raises(WorkerLost):
        stream(world, LEACE())
    (world.folder / "table" / "part-00400.parquet").rename(world.folder / "table" / "part-00500.parquet")
    (world.folder / "people.csv").write_text((world.folder / "people.csv").read_text() + "1,F,18\n")
    with pytest.raises(InvalidInput, match="holds an unfinished run that differs") as error:
        stream(world, LEACE(), columns=("gender",))
    for text in (
        "part-00400.parquet of the vectors was there and is not", "part-00500.parquet of the vectors was not there",
        "people.csv of the people had", "columns was null and is",
    ):  # fmt: skip
        assert text in str(error.value)


@pytest.fixture
def broken_off(world, monkeypatch):
    """A run that was stopped between its two passes."""

    def dies(*_args, **_options):
        raise WorkerLost("twice")

    with monkeypatch.context() as patched:
        patched.setattr("attrcloak.streaming.stages.Stages.move", dies)
        with pytest.raises(WorkerLost):
            stream(world, LEACE())
    return world.folder / "out.partial"


@pytest.mark.parametrize(
    "name", ["join/rows", "join/groups.json", "join/sample.npy", "moments/2-0.npz", "journal.jsonl"]
)
@pytest.mark.parametrize("harm", ["zeros", "cut short"])
def test_a_damaged_work_folder_is_never_gone_on_with(world, broken_off, name, harm):
    file = broken_off / name
    content = file.read_bytes()
    file.write_bytes(bytes(len(content)) + b"\n" if harm == "zeros" else content[: len(content) // 2] + b"\n")
    with pytest.raises(DamagedWork, match=r"remove .*out\.partial to begin anew"):
        stream(world, LEACE())
    assert not (world.folder / "out").exists()
    shutil.rmtree(broken_off)
    stream(world, LEACE())
    assert (world.folder / "out").exists()


def test_damaged_maps_are_never_gone_on_with(world, broken_off):
    maps = broken_off / "eraser.safetensors"
    content = bytearray(maps.read_bytes())
    content[-5] ^= 1
    maps.write_bytes(content)
    with pytest.raises(DamagedWork, match=r"remove .*out\.partial to begin anew"):
        stream(world, LEACE())


def test_no_table_is_there_without_the_maps_that_lead_back(world, monkeypatch):
    kept = world.folder / "kept.safetensors"
    with monkeypatch.context() as patched:
        patched.setattr("attrcloak.streaming.workspace.Workspace.copy_eraser", refuse_to_write)
        with pytest.raises(OSError, match="full"):
            stream(world, LEACE(), eraser_file=kept)
    assert not (world.folder / "out").exists()
    with monkeypatch.context() as patched:
        patched.setattr("attrcloak.streaming.stages.Stages.finish", refuse_to_write)
        with pytest.raises(OSError, match="full"):
            stream(world, LEACE(), eraser_file=kept)
    assert kept.exists()
    assert not (world.folder / "out").exists()
    released = stream(world, LEACE(), eraser_file=kept)  # the run's own maps are not in its way
    assert (world.folder / "out").exists()
    eraser, again = released.eraser, Eraser.load(kept)
    np.testing.assert_array_equal(again.matrices, eraser.matrices)
    with pytest.raises(InvalidInput, match="the only way back of another run"):
        stream(world, LEACE(), "more", eraser_file=kept)


@pytest.mark.parametrize("name", ["out", "out/maps", "out.partial/maps", "out.manifest.json", "table/maps", "no/maps"])
def test_maps_go_where_nothing_of_the_run_lies(world, name):
    with pytest.raises(InvalidInput, match=r"another name|does not exist"):
        stream(world, LEACE(), eraser_file=world.folder / name)
    assert not (world.folder / "out").exists()


def refuse_to_write(*_args):
    raise OSError("the disk is full")


def test_an_output_needs_a_name(world):
    with pytest.raises(InvalidSettings, match="no name for the new table"):
        unlearn_files(replace(world.sources(), output=None), LEACE(), engine="in-process", check=False)


def test_an_output_that_is_there_is_not_touched(world):
    (world.folder / "out").mkdir()
    with pytest.raises(InvalidInput, match="is there already"):
        stream(world, LEACE())
    with pytest.raises(InvalidInput, match="is an input, or lies inside"):
        stream(world, LEACE(), output=str(world.folder / "table" / "new"))


@pytest.mark.parametrize("first", [500_000, 1 << 40])
def test_requests_that_cannot_be_met_are_counted(world, first):
    """Of users whose class is unknown, and of users who are in no file; whether ids are looked up or dealt."""
    people = read_people(world.folder / "people.csv")
    asked = people.ids.values[np.isin(people.ids.values, world.ids)][:300].tolist()
    lines = (world.folder / "people.csv").read_text().splitlines()
    header, strangers = lines[0].split(","), [first, first + 1]
    others = [",".join(str(who) if name == "user_id" else lines[1].split(",")[j] for j, name in enumerate(header))
              for who in strangers]  # fmt: skip
    (world.folder / "more.csv").write_text("\n".join([*lines, *others, ""]))
    rows = [f"{who},gender" for who in [*asked, *strangers]] + [f"{strangers[0]},age"]
    (world.folder / "requests.csv").write_text("\n".join(["user_id,attribute", *rows, ""]))
    released = stream(
        world, LEACE(), people=str(world.folder / "more.csv"), requests=str(world.folder / "requests.csv")
    )
    known = dict(zip(people.ids.values.tolist(), people["gender"].codes.tolist(), strict=True))
    unmet = sum(known[who] < 0 for who in asked)
    assert unmet
    assert released.manifest["unmet"]["gender"] == unmet
    assert released.manifest["moved"] == len(asked) - unmet
    text = " ".join(released.warnings)
    assert f"gender: {unmet} users of " in text
    assert "are of users who are not in " in text
    assert "2 for gender" in text
    assert "1 for age" in text


@pytest.mark.parametrize("asked", [False, True], ids=["everybody", "requests"])
def test_classes_too_small_for_moments_or_for_the_check_are_named_and_all_are_counted(world, asked):
    """Of five users and of fifteen, in six dimensions."""
    codes = np.array(["F", "M"], dtype=object)[np.arange(1500) % 2]
    codes[:5], codes[5:20] = "few", "some"
    lines = [f"{user},{code}" for user, code in zip(world.ids, codes, strict=True)]
    (world.folder / "rare.csv").write_text("\n".join(["user_id,gender", *lines]) + "\n")
    expected = {"F": 740, "M": 740, "few": 5, "some": 15}
    requests = None
    if asked:
        requests, expected = "asks.csv", {"F": 240, "M": 240, "few": 5, "some": 15}
        rows = [f"{user},gender" for user in world.ids[:500]]
        (world.folder / requests).write_text("\n".join(["user_id,attribute", *rows]) + "\n")
    quick = replace(SOUND, known=(0.8,), seeds=1, permutations=99, resamples=99)
    released = unlearn_files(
        world.sources("out", people="rare.csv", requests=requests), MeanRemoval(), engine="in-process",
        attackers=("logistic",), protocol=quick,
    )  # fmt: skip
    assert released.manifest["classes"] == {"gender": {"F": 740, "M": 740, "few": 5, "some": 15}}
    assert released.manifest["asked"] == {"gender": expected}
    (small,) = released.warnings
    have = "are asked for by" if asked else "have"
    assert small.startswith(f"gender: 1 classes (few 5) {have} fewer users than the table has dimensions (6)")
    assert "gender: left out, with fewer than 20 known users: few (5), some (15)" in released.verdict.warnings


def test_users_who_are_alone_in_their_classes_are_counted_but_not_named_beside_the_table(world):
    lines = (world.folder / "people.csv").read_text().splitlines()
    user = lines[1].partition(",")[0]
    (world.folder / "people.csv").write_text("\n".join([lines[0], f"{user},X,99", *lines[2:]]) + "\n")
    released = stream(world, MeanRemoval(), eraser_file=world.folder / "maps")
    (warning,) = [text for text in released.warnings if "single user" in text]
    assert warning.startswith("1 of ")
    assert "X" not in warning
    planned = plan_files(world.sources(None), MeanRemoval(), engine="in-process")
    (alone,) = planned.lone_cells
    assert alone.startswith("gender=X, age=")
    maps = KeptMaps(Eraser.load(world.folder / "maps"))
    assert not any("single user" in text for text in stream(world, maps, output="again").warnings)


@pytest.mark.parametrize("label", ["NA", "unknown", " - "])
def test_a_class_that_is_called_unknown_is_warned_of(world, label):
    text = (world.folder / "people.csv").read_text()
    (world.folder / "named.csv").write_text(text.replace(",F", f",{label}"))
    released = stream(world, LEACE(), people=str(world.folder / "named.csv"))
    assert any(f"a class {label.strip()!r}" in text and "leave the field empty" in text for text in released.warnings)


def test_a_small_sample_is_attacked_by_more_seeds(world):
    released = unlearn_files(world.sources("out"), LEACE(), engine="in-process", attackers=("logistic",))
    assert released.audit.protocol["seeds"] == 10  # of 1,500 users


def test_the_sample_is_audited_and_the_leak_that_is_left_is_found(world, monkeypatch):
    monkeypatch.setattr("attrcloak.parts.groups.MOST_SAMPLED", 1400)
    quick = replace(SOUND, known=(0.8,), seeds=1, permutations=99, resamples=99)
    options = {"attackers": ("logistic",), "protocol": quick, "engine": "in-process"}
    before = unlearn_files(world.sources("same"), AttrCloakDF(steps=1, learning_rate=1e-9), **options)
    after = unlearn_files(world.sources("out"), Calibrated(), key=KEY, **options)
    assert before.verdict is not None
    assert after.verdict is not None
    assert not before.verdict.protected
    assert "logistic" in before.verdict.reasons[0]
    assert after.verdict.protected, after.verdict.reasons
    manifests = [json.loads((world.folder / f"{name}.manifest.json").read_text()) for name in ("same", "out")]
    assert [manifest["verdict"] for manifest in manifests] == [before.verdict.to_json(), after.verdict.to_json()]
    assert any("of 1500 users" in note for note in after.audit.notes)
    assert not any(result.attacker == "moment-equation" for result in after.audit.results)
    assert before.leaks[0].p_before == before.leaks[0].p_after == 0.02
    assert after.leaks[0].p_after > 0.02


def test_classes_that_were_made_equal_are_not_called_protected(world):
    """On a sample the moment equations cannot be tried, so the moments themselves are looked at."""
    quick = replace(SOUND, known=(0.8,), seeds=1, permutations=99, resamples=99)
    options = {"attackers": ("logistic",), "protocol": quick, "engine": "in-process"}
    for method, what in ((MeanRemoval(), "means"), (Barycentre(min_users_per_dimension=0), "means and covariances")):
        released = unlearn_files(world.sources(f"out-{method.name}"), method, **options)
        assert released.verdict is not None
        assert not released.verdict.protected
        assert f"age: class {what} of all users agree more closely than by chance" in " ".join(released.verdict.reasons)
        assert any("calibrated" in step for step in released.verdict.next_steps)
    found = [
        unlearn_files(world.sources(f"key-{n}"), Calibrated(), key=bytes([n]) * 32, check=False) for n in range(12)
    ]
    assert not any(leak.too_equal for released in found for leak in released.leaks)


def test_layout_and_other_columns_are_kept(world):
    stream(world, LEACE())
    for path in sorted((world.folder / "table").iterdir()):
        old, new = pq.read_table(path), pq.read_table(world.folder / "out" / path.name)
        assert new.schema.equals(old.schema, check_metadata=True)
        assert new.drop(["vectors"]).equals(old.drop(["vectors"]))
        groups = [pq.ParquetFile(p).metadata.num_row_groups for p in (path, world.folder / "out" / path.name)]
        assert groups[0] == groups[1] > 1
