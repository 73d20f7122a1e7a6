"""An S3 server on this machine: tables are read from it and written to it, and what is there is whole."""

import os
from collections.abc import Iterator
from importlib.util import find_spec

import pyarrow.fs as fs
import pytest

from attrcloak.errors import InvalidSettings, UnreadableFile
from attrcloak.streaming import unlearn_files
from attrcloak.unlearning import LEACE, AttrCloakDD, Calibrated

KEY = b"k" * 32


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    """The query of URIs on a server that listens on 127.0.0.1 only."""
    if find_spec("moto") is None or find_spec("flask") is None:
        pytest.skip("moto is not installed")
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from moto.server import ThreadedMotoServer

        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
    host, port = server.get_host_and_port()
    kept = {
        name: os.environ.get(name)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_EC2_METADATA_DISABLED")
    }
    os.environ.update(AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test", AWS_EC2_METADATA_DISABLED="true")
    yield f"?endpoint_override={host}:{port}&scheme=http&region=us-east-1&allow_bucket_creation=true"
    server.stop()
    for name, value in kept.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest.fixture
def bucket(world, store):
    """The files of ``world`` in a bucket."""
    client, _ = fs.FileSystem.from_uri(f"s3://users{store}")
    client.create_dir("users", recursive=True)
    fs.copy_files(str(world.folder / "table"), "users/table", destination_filesystem=client)
    fs.copy_files(str(world.folder / "people.csv"), "users/people.csv", destination_filesystem=client)
    yield client
    client.delete_dir_contents("users")


def content(client, path: str) -> dict[str, bytes]:
    files = client.get_file_info(fs.FileSelector(path, recursive=True))
    return {
        file.path.removeprefix(f"{path}/"): client.open_input_file(file.path).read() for file in files if file.is_file
    }


@pytest.mark.parametrize("engine", ["in-process", "pool"])
def test_a_table_in_a_bucket_ends_in_the_bytes_of_a_local_one(world, store, bucket, engine):
    unlearn_files(world.sources("local"), Calibrated(), key=KEY, engine="in-process", check=False)
    sources = world.sources(
        output=f"s3://users/new{store}", vectors=f"s3://users/table{store}", people=f"s3://users/people.csv{store}",
        work=str(world.folder / "work"),
    )  # fmt: skip
    released = unlearn_files(sources, Calibrated(), key=KEY, engine=engine, workers=2, check=False)
    assert content(bucket, "users/new") == world.bytes_of("local")
    assert b"attrcloak/manifest/1" in content(bucket, "users")["new.manifest.json"]
    assert not [name for name in content(bucket, "users") if "partial" in name]
    assert not (world.folder / "work").exists()
    assert released.manifest["users"] == 1500


def test_a_bucket_that_is_not_there_is_missed_before_any_work_and_made_where_that_is_allowed(world, store, bucket):
    strict = store.replace("&allow_bucket_creation=true", "")
    sources = world.sources(output=f"s3://nowhere/new{strict}", work=str(world.folder / "work"))
    with pytest.raises(UnreadableFile, match="s3://nowhere/new: there is no bucket 'nowhere'; create it first"):
        unlearn_files(sources, LEACE(), engine="in-process", check=False)
    assert not (world.folder / "work").exists()
    made = world.sources(output=f"s3://made/new{store}", work=str(world.folder / "work"))
    unlearn_files(made, LEACE(), engine="in-process", check=False)
    assert len(content(bucket, "made/new")) == 3


def test_an_interrupted_run_is_taken_up_and_shows_nothing_before(world, store, bucket):
    unlearn_files(world.sources("local"), LEACE(), engine="in-process", check=False)
    sources = world.sources(
        output=f"s3://users/new{store}", vectors=f"s3://users/table{store}", work=str(world.folder / "work")
    )

    def stop(stage: str, done: int, total: int) -> None:
        if stage.startswith("pass 2") and done > 1000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unlearn_files(sources, LEACE(), engine="in-process", check=False, progress=stop)
    assert not content(bucket, "users/new.partial/writing")
    assert bucket.get_file_info("users/new").type == fs.FileType.NotFound
    unlearn_files(sources, LEACE(), engine="in-process", check=False)
    assert content(bucket, "users/new") == world.bytes_of("local")


def test_what_is_not_there_and_where_to_work_are_said(world, store, bucket):
    with pytest.raises(UnreadableFile, match="s3://users/gone: there is no such file or folder"):
        unlearn_files(world.sources(vectors=f"s3://users/gone{store}"), LEACE())
    with pytest.raises(InvalidSettings, match=r"\(work=\)"):
        unlearn_files(world.sources(output=f"s3://users/new{store}"), LEACE())


def test_a_descent_keeps_its_steps_in_the_bucket_and_ends_in_the_bytes_of_a_local_one(world, taste, store, bucket):
    method = AttrCloakDD(steps=3, learning_rate=6.0, weight=0.9)  # the leakage rises, so an earlier step is kept
    more = {"interactions": str(world.folder / "pairs.csv"), "items": str(world.folder / "items.npy")}
    unlearn_files(world.sources("local", **more), method, engine="in-process", check=False)
    sources = world.sources(
        output=f"s3://users/new{store}", vectors=f"s3://users/table{store}", work=str(world.folder / "work"), **more
    )

    def stop(stage: str, done: int, total: int) -> None:
        if stage == "attrcloak-dd" and done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unlearn_files(sources, method, engine="in-process", check=False, progress=stop)
    kept = {name.partition("/")[0] for name in content(bucket, "users/new.partial/positions")}
    assert kept == {"0", "2"}
    unlearn_files(sources, method, engine="pool", workers=2, check=False)
    assert content(bucket, "users/new") == world.bytes_of("local")
    assert not [name for name in content(bucket, "users") if "partial" in name]
