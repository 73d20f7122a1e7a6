"""An eraser that is there already, over files: as in memory, there and back, and refused where it does not fit."""

from dataclasses import replace

import numpy as np
import pytest

from attrcloak.data.embeddings import EmbeddingTable
from attrcloak.data.ids import Ids
from attrcloak.data.people_files import read_people
from attrcloak.errors import InvalidInput, InvalidSettings, UnknownCell
from attrcloak.moments.eraser import Eraser
from attrcloak.parts import Location
from attrcloak.release import apply_eraser, undo
from attrcloak.release.kept_maps import way_back
from attrcloak.streaming import KeptMaps, moved_already, other_than_at_the_run, unlearn_files
from attrcloak.unlearning import LEACE, Barycentre, Calibrated, run


def move(world, eraser, output="out", **changes):
    changes = {"columns": eraser.key.attributes, **changes}
    engine = changes.pop("engine", "in-process")
    return unlearn_files(world.sources(output, **changes), KeptMaps(eraser), engine=engine, check=False)


def fitted(world, method, scoring="unknown"):
    """On other users: the same people with other vectors."""
    vectors = (1.3 * world.vectors[::-1] + 0.2).astype(np.float32)
    people = read_people(world.folder / "people.csv")
    result = run(method, EmbeddingTable(Ids(world.ids), vectors, scoring=scoring), people, key=b"k" * 32)
    assert result.eraser is not None
    return result.eraser


def assert_same(world, output, expected, tolerance=1e-5):
    got = world.read(output)
    np.testing.assert_allclose(np.stack([got[id_] for id_ in world.ids.tolist()]), expected, rtol=0, atol=tolerance)


CASES = [
    (Barycentre(), "unknown"),
    (LEACE(), "unknown"),
    (Calibrated(slices=0), "unknown"),
    (Calibrated(slices=0), "dot"),
]


@pytest.mark.parametrize(("method", "scoring"), CASES)
def test_files_move_as_a_table_in_memory_does(world, method, scoring):
    eraser = fitted(world, method, scoring)
    assert eraser.scaling == ("unit" if scoring == "dot" else "none")
    done = move(world, eraser)
    table = EmbeddingTable(Ids(world.ids), world.vectors.astype(np.float32))
    assert_same(world, "out", apply_eraser(eraser, table, read_people(world.folder / "people.csv")).vectors)
    assert (done.manifest["method"], done.manifest["moved"]) == ("kept maps", 1500)
    np.testing.assert_array_equal(
        done.eraser.matrices, eraser.under(done.eraser.key, np.ones(len(done.eraser.key))).matrices
    )


def test_classes_are_matched_by_name(world):
    eraser = fitted(world, Barycentre())
    turned = replace(eraser.key, classes=tuple(names[::-1] for names in eraser.key.classes))
    counts, codes = [len(names) for names in turned.classes], eraser.key.combinations
    turned = replace(turned, combinations=np.where(codes < 0, codes, np.array(counts, dtype=np.int32) - 1 - codes))
    move(world, eraser, output="one")
    move(world, replace(eraser, key=turned), output="two")
    assert world.bytes_of("one") == world.bytes_of("two")


def test_there_and_back_by_two_processes(world):
    eraser = fitted(world, Barycentre())
    move(world, eraser, output="there", engine="pool")
    move(world, way_back(eraser), vectors="there", output="back", engine="pool")
    assert_same(world, "back", world.vectors.astype(np.float32))
    assert np.abs(np.stack(list(world.read("there").values())) - world.vectors).max() > 0.1


def test_maps_of_an_intersection_move_files_too(world):
    people = read_people(world.folder / "people.csv").cross("gender", "age").select(["gender x age"])
    table = EmbeddingTable(Ids(world.ids), world.vectors.astype(np.float32))
    eraser = run(Barycentre(), table, people).eraser
    move(world, eraser)
    assert_same(world, "out", apply_eraser(eraser, table, people).vectors)


def test_maps_are_known_again_where_not_all_of_their_cells_occur(world):
    eraser = fitted(world, Barycentre())
    (world.folder / "fewer.csv").write_text((world.folder / "people.csv").read_text().replace(",M", ","))
    done = move(world, eraser, people="fewer.csv")
    assert len(done.eraser.key) != len(eraser.key)
    (twice,) = moved_already(Location.of(str(world.folder / "out")), eraser)
    assert "moved by these maps already" in twice


def test_people_other_than_those_of_the_run_are_told_from_its_manifest(world):
    def told(people="people.csv", requests=None, eraser=None):
        asked = None if requests is None else Location.of(str(world.folder / requests))
        return other_than_at_the_run(
            Location.of(str(world.folder / "out")), Location.of(str(world.folder / people)), asked, eraser
        )

    (world.folder / "out").mkdir()
    assert told() == ()  # nothing is known of a table without a manifest
    for of_somebody_else in ("{}", "[1]", "no JSON"):
        (world.folder / "out.manifest.json").write_text(of_somebody_else)
        assert told() == ()
    (world.folder / "out.manifest.json").unlink()
    (world.folder / "out").rmdir()
    maps = world.folder / "maps"
    released = unlearn_files(world.sources("out"), Barycentre(), engine="in-process", check=False, eraser_file=maps)
    eraser = Eraser.load(maps)
    assert released.manifest["maps"] == eraser.fingerprint
    assert told(eraser=eraser) == ()
    (strange,) = told(eraser=way_back(eraser))
    assert "the maps are not those by which" in strange
    (twice,) = moved_already(Location.of(str(world.folder / "out")), eraser)
    assert "moved by these maps already" in twice
    assert moved_already(Location.of(str(world.folder / "out")), way_back(eraser)) == ()
    assert moved_already(Location.of(str(world.folder / "table")), eraser) == ()
    (world.folder / "others.csv").write_text((world.folder / "people.csv").read_text().replace("F", "M", 1))
    (others,) = told(people="others.csv", eraser=eraser)
    assert "others.csv: not the people of the run in" in others
    (asks,) = told(requests="others.csv", eraser=eraser)
    assert "others.csv: not the requests" in asks


def test_only_those_who_ask_move(world):
    eraser = fitted(world, LEACE())
    lines = [f"{user},{name}" for name in eraser.key.attributes for user in world.ids[:300]]
    (world.folder / "asks.csv").write_text("\n".join(["user_id,attribute", *lines]) + "\n")
    move(world, eraser, requests="asks.csv")
    got, given = world.read("out"), world.vectors.astype(np.float32)
    stayed = [(got[id_] == row).all() for id_, row in zip(world.ids.tolist(), given, strict=True)]
    assert (not any(stayed[:300]), all(stayed[300:])) == (True, True)


@pytest.mark.parametrize("text", [False, True], ids=["numbers", "text"])
@pytest.mark.parametrize("asked", [False, True], ids=["everybody", "requests"])
def test_some_users_go_back_as_in_memory_and_nobody_else_changes_by_a_bit(world, asked, text):
    if text:
        people = (world.folder / "people.csv").read_text().splitlines()
        (world.folder / "people.csv").write_text("\n".join([people[0], *(f"u{line}" for line in people[1:])]) + "\n")
        world = replace(world, ids=np.array([f"u{id_}" for id_ in world.ids]))
        world.write("named", [0, 400, 1500])
    table = "named" if text else "table"
    people, requests = read_people(world.folder / "people.csv"), None
    if asked:
        lines = [f"{user},{name}" for name in ("gender", "age") for user in world.ids[:300]]
        (world.folder / "asks.csv").write_text("\n".join(["user_id,attribute", *lines]) + "\n")
        people = people.mark(dict.fromkeys(("gender", "age"), world.ids[:300]))
        requests = "asks.csv"
    maps = world.folder / "maps"
    unlearn_files(
        world.sources("new", vectors=table, requests=requests), Barycentre(), engine="in-process", check=False,
        eraser_file=maps,
    )  # fmt: skip
    eraser, gone = Eraser.load(maps), world.ids[[3, 250, 77]]
    (world.folder / "gone.csv").write_text("\n".join(["user_id", *map(str, gone), str(gone[0])]) + "\n")
    changes = {"vectors": "new", "users": "gone.csv", "requests": requests}
    done = unlearn_files(
        world.sources("back", **changes), KeptMaps(way_back(eraser), eraser.fingerprint), engine="pool", check=False,
        workers=2,
    )  # fmt: skip
    assert (done.manifest["moved"], done.warnings) == (3, ())
    new, back = world.read("new"), world.read("back")
    one = EmbeddingTable(Ids(world.ids), np.stack([new[id_] for id_ in world.ids.tolist()]))
    expected = undo(eraser, one, people, users=Ids(gone))
    assert_same(world, "back", expected.vectors, tolerance=1e-6)
    assert {id_ for id_ in new if (new[id_] != back[id_]).any()} == set(gone.tolist())

    def told(table):
        places = [
            None if name is None else Location.of(str(world.folder / name)) for name in (table, "people.csv", requests)
        ]
        return other_than_at_the_run(places[0], places[1], places[2], eraser)

    assert told("new") == ()
    (again,) = told("back")
    assert "the maps were undone for some users of" in again


@pytest.mark.parametrize(
    ("users", "said"),
    [
        ("user_id\n3\n999999\n", r"1 of these users are not listed in .*people.csv: 999999 \(w.csv row 1\)"),
        ("user_id\n3\n500000\n500000\n", r"1 of these users are not in \S*table: 500000 \(w.csv row 1\); drop"),
        (
            "user_id\n999999\n500000\n",
            r"1 of these users are not listed in .*: 999999 \(w.csv row 0\); drop.*\n"
            r".*1 of these users are not in \S*table: 500000 \(w.csv row 1\); drop",
        ),
        (
            "user_id\n3\n1060\n1053\n1060\n",
            r"2 of these users asked for nothing, .* to them: 1060 \(w.csv row 1\), 1053 \(w.csv row 2\);",
        ),
        ("user_id\n", "w.csv: names no user; list one user_id a line"),
        ("user\n3\n", "no column user_id; a list of users has a column user_id"),
    ],
)
def test_users_who_cannot_go_back_are_counted(world, users, said):
    with (world.folder / "people.csv").open("a") as file:
        file.write("500000,F,18\n")
    lines = [f"{user},{name}" for name in ("gender", "age") for user in world.ids[:150]]
    (world.folder / "asks.csv").write_text("\n".join(["user_id,attribute", *lines]) + "\n")
    (world.folder / "w.csv").write_text(users)
    with pytest.raises(InvalidInput, match=said):
        move(world, fitted(world, LEACE()), users="w.csv", requests="asks.csv")
    assert not list(world.folder.glob("out*"))


def test_users_are_for_maps_that_are_there(world):
    (world.folder / "w.csv").write_text("user_id\n3\n")
    with pytest.raises(InvalidSettings, match="name them in the requests"):
        unlearn_files(world.sources("out", users="w.csv"), LEACE(), engine="in-process", check=False)


def test_users_of_a_class_that_was_not_there_are_named_and_nothing_is_left(world):
    people = read_people(world.folder / "people.csv")
    label = people["gender"].classes[0]
    some = np.flatnonzero(people.align(Ids(world.ids))["gender"].codes == 0)
    eraser = fitted(world, Barycentre())
    known = replace(eraser.key, classes=(("another", *eraser.key.classes[0][1:]), *eraser.key.classes[1:]))
    with pytest.raises(UnknownCell, match=rf"gender={label} \({len(some)} users\)"):
        move(world, replace(eraser, key=known))
    assert not list(world.folder.glob("out*"))


def test_a_table_of_another_width_or_other_attributes_is_refused_before_anything_is_read(world):
    eraser = fitted(world, Barycentre())
    with pytest.raises(InvalidInput, match=r"named"):
        move(world, eraser, columns=eraser.key.attributes[::-1])
    assert move(world, eraser, output="taken from the maps", columns=None).manifest["columns"] == [
        *eraser.key.attributes
    ]
    narrow = Eraser.identity(eraser.key, eraser.dim - 1)
    with pytest.raises(InvalidInput, match=f"has {eraser.dim} dimensions, and the eraser is for {eraser.dim - 1}: "):
        move(world, narrow)
    assert not list(world.folder.glob("out*"))


def test_one_map_serves_classes_that_were_not_there(world):
    eraser = fitted(world, LEACE())
    known = replace(
        eraser.key, classes=tuple(tuple(f"another {name}" for name in names) for names in eraser.key.classes)
    )
    move(world, eraser, output="one")
    move(world, replace(eraser, key=known), output="two")
    assert world.bytes_of("one") == world.bytes_of("two")


def test_a_run_is_not_taken_up_with_other_maps(world):
    eraser = fitted(world, Barycentre())
    turned = replace(eraser.key, classes=(eraser.key.classes[0][::-1], *eraser.key.classes[1:]))
    others = (eraser, replace(eraser, key=turned), replace(eraser, offsets=2 * eraser.offsets), way_back(eraser))
    assert len({repr(KeptMaps(each)) for each in others}) == 4
    assert "undo of barycentre" in repr(KeptMaps(way_back(eraser)))
