"""Files by path or URI: listed by name, written whole or not at all, never among the inputs."""

import hashlib
import pickle

import pytest

from attrcloak.errors import InvalidInput, UnreadableFile
from attrcloak.parts.location import Location, is_uri, refuse_containing, refuse_nesting


def test_paths_and_uris_are_told_apart():
    assert is_uri("s3://bucket/users")
    assert is_uri("file:///data/users")
    assert not is_uri("users/table")
    assert not is_uri(r"C://users")


def test_files_are_listed_by_name_without_hidden_ones(tmp_path):
    for name in ("b.parquet", "a.parquet", "_SUCCESS", ".a.parquet.crc", "day=2/c.parquet", "_tmp/d.parquet"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
    place = Location.of(tmp_path)
    assert [name for name, _ in place.files()] == ["a.parquet", "b.parquet", "day=2/c.parquet"]
    assert [name for name, _ in (place / "a.parquet").files()] == ["a.parquet"]
    assert Location.of(tmp_path.as_uri()).files()[0][1].open().read() == b"a.parquet"


def test_nothing_there_is_an_error(tmp_path):
    with pytest.raises(UnreadableFile, match="no such file or folder"):
        Location.of(tmp_path / "gone").files()
    with pytest.raises(UnreadableFile, match="holds no files"):
        Location.of(tmp_path).files()
    with pytest.raises(UnreadableFile, match="cannot be reached"):
        Location.of("nonsense://somewhere/users")


def test_a_file_is_written_whole_with_its_digest(tmp_path):
    writing = Location.of(tmp_path / "writing")
    writing.make_folder()
    target = Location.of(tmp_path / "new" / "file")
    with target.replacing(writing) as sink:
        sink.write(b"one")
        sink.write(memoryview(b"two"))
        assert not target.exists
    assert (tmp_path / "new" / "file").read_bytes() == b"onetwo"
    assert (sink.size, sink.sha256) == (6, hashlib.sha256(b"onetwo").hexdigest())
    assert target.digest() == sink.sha256


def test_a_file_that_fails_half_way_leaves_nothing(tmp_path):
    writing = Location.of(tmp_path / "writing")
    writing.make_folder()
    target = Location.of(tmp_path / "file")

    def fail():
        with target.replacing(writing) as sink:
            sink.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not target.exists
    assert not list((tmp_path / "writing").iterdir())


def test_an_output_is_no_input_and_not_inside_of_one(tmp_path):
    table = Location.of(tmp_path / "table")
    for output in ("table", "table/new"):
        with pytest.raises(InvalidInput, match="another name"):
            refuse_nesting([table], Location.of(tmp_path / output))
    refuse_nesting([table], Location.of(tmp_path / "table2"))


def test_an_output_inside_of_an_input_is_found_by_whatever_way_it_is_named(tmp_path):
    (tmp_path / "table").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "table")
    table, link = Location.of(tmp_path / "table"), Location.of(tmp_path / "link")
    detour = Location.of(f"{tmp_path}/nowhere/../table/new")
    for place, output in ((table, link / "new"), (link, table / "new"), (table, detour), (table, link)):
        with pytest.raises(InvalidInput, match="another name"):
            refuse_nesting([place], output)
    with pytest.raises(InvalidInput, match="removed at the end"):
        refuse_containing(link, [table / "people.csv"])
    refuse_nesting([table], Location.of(f"{tmp_path}/table/../new"))


def test_what_follows_the_question_mark_of_a_uri_is_not_shown():
    place = Location.of("s3://key:secret@bucket/users?endpoint_override=127.0.0.1:1&scheme=http&region=us-east-1")
    assert "endpoint" not in place.shown
    assert "secret" not in place.shown


def test_a_location_can_be_sent_elsewhere(tmp_path):
    (tmp_path / "file").write_text("x")
    assert pickle.loads(pickle.dumps(Location.of(tmp_path) / "file")).exists  # noqa: S301
