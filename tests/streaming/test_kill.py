"""A run that is killed goes on where it was and ends in the same bytes; nothing is half there, nothing counts twice."""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import attrcloak
from attrcloak.errors import InvalidInput, NotSupported
from attrcloak.parts import id_join, part
from attrcloak.parts.buckets import Buckets
from attrcloak.parts.id_keys import KeyFile
from attrcloak.parts.location import Digested, Location
from attrcloak.streaming import Sources, unlearn_files
from attrcloak.streaming.merge_tree import MergeTree
from attrcloak.streaming.stages import Stages
from attrcloak.streaming.workspace import Workspace
from attrcloak.unlearning import LEACE, AttrCloakDD, Calibrated

KEY = b"k" * 32


def once(sources: Sources) -> None:
    method = Calibrated() if sources.interactions is None else AttrCloakDD(steps=3)
    unlearn_files(sources, method, key=KEY, engine="in-process", check=False)


def killed_at(sources: Sources, event: int, counted: str | None = None) -> None:
    """Run, and kill this process at the n-th thing that changes what is on the disk; with ``counted``, only count."""
    part.BATCH_BYTES = 1 << 12  # as in the processes that run tests
    seen = 0

    def count(*arguments: object) -> None:
        nonlocal seen
        seen += 1
        if counted is None and seen == event:
            os.kill(os.getpid(), signal.SIGKILL)

    owners = {
        Workspace: ("note",),
        MergeTree: ("_write",),
        Location: ("move", "remove"),
        Digested: ("write",),
        Path: ("unlink", "rename"),
        os: ("replace", "unlink", "mkdir"),
        KeyFile: ("add",),
        id_join: ("_deal",),
        Buckets: ("add", "take"),
    }
    for owner, name in ((owner, name) for owner, found in owners.items() for name in found):
        plain = getattr(owner, name)

        def counting(*arguments: object, plain: object = plain, **options: object) -> object:
            count()
            result = plain(*arguments, **options)  # type: ignore[operator]
            count()
            return result

        setattr(owner, name, counting)
    once(sources)
    if counted is not None:
        Path(counted).write_text(str(seen))


def in_a_process(*arguments: object) -> int:
    """The exit code of ``killed_at`` in a process of its own."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["attrcloak.streaming"])
    process = context.Process(target=killed_at, args=arguments)
    process.start()
    process.join(60)
    assert process.exitcode is not None
    return process.exitcode


@pytest.mark.parametrize("ids", ["numbers", "text"])
def test_killed_at_any_point_it_ends_in_the_same_bytes(world, ids):
    if ids == "text":
        (world.folder / "table").rename(world.folder / "numbers")
        replace(world, ids=np.array([f"user {number}" for number in world.ids])).write("table", [0, 900, 1500])
        people = (world.folder / "people.csv").read_text().splitlines()
        (world.folder / "people.csv").write_text("\n".join([people[0], *[f"user {line}" for line in people[1:]]]))
    kill_and_go_on(world, world.sources, events=6)


def test_a_descent_that_is_killed_at_any_point_ends_in_the_same_bytes(world, taste):
    kill_and_go_on(world, lambda output: world.sources(output, interactions="pairs.csv", items="items.npy"), events=14)


def kill_and_go_on(world, sources_of, events: int) -> None:
    """Kill runs at so many random points, and at the last ones; all have to end as one that was left alone."""
    once(sources_of("expected"))
    expected = world.bytes_of("expected")
    note = world.folder / "count"
    assert in_a_process(sources_of("counted"), 0, str(note)) == 0
    last = int(note.read_text())
    assert last > 60
    rng, finished = random.Random(0), 0
    for event in [*rng.sample(range(1, last), events), last - 2, last - 1, last]:
        output = f"out-{event}"
        sources = sources_of(output)
        assert in_a_process(sources, event) == -signal.SIGKILL
        again = event
        while again > 1 and rng.random() < 0.3:  # and some are killed once more
            again = rng.randrange(1, again)
            if in_a_process(sources, again) == 0:
                break
        if (world.folder / output).exists():
            assert world.bytes_of(output) == expected  # whole, as soon as it is there
        if (world.folder / f"{output}.partial").exists():
            once(sources)
        else:  # it was killed after the work folder had gone: there is nothing to go on with
            with pytest.raises(InvalidInput, match="is there already"):
                once(sources)
            finished += 1
        assert world.bytes_of(output) == expected
        assert (world.folder / f"{output}.manifest.json").exists()
        assert not list(world.folder.glob(f"{output}.partial*"))
    assert finished < 6


def command(output: str) -> list[str]:
    words = ["unlearn", "table", "--attributes", "people.csv", "-o", output, "--key-file", "key", "--no-audit"]
    return [sys.executable, "-m", "attrcloak", *words, "--engine", "pool", "--workers", "2"]


def wait_for(condition, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds processes by /proc")
def test_a_pool_survives_its_workers_and_a_killed_run_is_taken_up_again(world):
    (world.folder / "key").write_bytes(KEY)
    world.write("many", list(range(0, 1501, 50)))
    (world.folder / "table").rename(world.folder / "few")
    (world.folder / "many").rename(world.folder / "table")
    once(world.sources("expected"))
    journal = world.folder / "out.partial" / "journal.jsonl"

    def lines() -> int:
        return journal.read_bytes().count(b"\n") if journal.exists() else 0

    # A process started elsewhere finds the package that is tested here.
    where = {"cwd": world.folder, "env": {**os.environ, "PYTHONPATH": str(Path(attrcloak.__file__).parents[1])}}
    with subprocess.Popen(command("out"), stderr=subprocess.DEVNULL, **where) as run:
        try:
            wait_for(lambda: lines() > 3)
            for worker in children(run.pid)[1:]:  # the first is the tracker of shared memory
                os.kill(worker, signal.SIGKILL)
            before = lines()
            wait_for(lambda: lines() > before + 3)
        finally:
            run.kill()
    assert not (world.folder / "out").exists()
    done = subprocess.run(command("out"), capture_output=True, text=True, **where)
    assert done.returncode == 0, done.stderr
    assert world.bytes_of("out") == world.bytes_of("expected")


def begun(world) -> Sources:
    """A run that was killed after some parts were measured."""
    sources = world.sources("out")
    assert in_a_process(sources, 120) == -signal.SIGKILL
    assert (world.folder / "out.partial" / "journal.jsonl").exists()
    return sources


def test_other_settings_or_inputs_are_not_taken_up(world):
    sources = begun(world)
    with pytest.raises(InvalidInput, match=r"method was \"calibrated\" and is \"leace\".*remove the folder"):
        unlearn_files(sources, LEACE(), key=KEY, check=False)
    with pytest.raises(InvalidInput, match="key_commitment was"):
        unlearn_files(sources, Calibrated(), key=b"other" * 8, check=False)
    path = world.folder / "table" / "part-00400.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        InvalidInput, match=r"part-00400.parquet of the vectors was written again, with another content"
    ):
        once(sources)
    assert (world.folder / "out.partial").exists()


def test_files_that_were_copied_anew_are_known_by_their_content(world):
    once(world.sources("expected"))
    sources = begun(world)
    for path in (*(world.folder / "table").iterdir(), world.folder / "people.csv"):
        path.write_bytes(path.read_bytes())
        os.utime(path, ns=(1, 1))
    once(sources)
    assert world.bytes_of("out") == world.bytes_of("expected")


def test_a_file_whose_content_was_not_noted_yet_is_taken_with_the_time_it_had(world):
    """Killed in pass 1, the run has noted what was in one of three files; the advice of the message is followed."""
    once(world.sources("expected"))
    sources = world.sources("out")

    def stop(stage: str, done: int, total: int) -> None:
        if stage.startswith("pass 1") and done > 400:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unlearn_files(sources, Calibrated(), key=KEY, engine="in-process", check=False, progress=stop)
    first, last = (world.folder / "table" / f"part-{row}.parquet" for row in ("00000", "01100"))
    for path in (first, last):
        path.write_bytes(path.read_bytes())
    with pytest.raises(InvalidInput, match=r"part-01100.parquet of the vectors was written again; if its") as error:
        once(sources)
    assert "part-00000" not in str(error.value)
    advice = str(error.value).partition("give it back its time: ")[2].partition(". Repeat that run")[0]
    subprocess.run(advice, shell=True, check=True)
    once(sources)
    assert world.bytes_of("out") == world.bytes_of("expected")


def test_two_runs_do_not_work_in_one_folder(world):
    import fcntl

    sources = begun(world)
    with (world.folder / "out.partial" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        with pytest.raises(NotSupported, match="another run is at work"):
            once(sources)
    once(sources)


def test_what_is_not_finished_is_for_its_owner_only_and_the_key_goes_first(world):
    sources = world.sources("out")

    def stop(stage: str, done: int, total: int) -> None:
        folder = world.folder / "out.partial"
        assert folder.stat().st_mode & 0o077 == 0
        if stage.startswith("pass 2"):
            assert not (folder / "key").exists()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unlearn_files(sources, Calibrated(), engine="in-process", check=False, progress=stop)
    assert (world.folder / "out.partial" / "eraser.safetensors").stat().st_mode & 0o077 == 0
    unlearn_files(sources, Calibrated(), engine="in-process", check=False)


def test_a_file_that_changes_between_the_passes_ends_the_run(world):
    path = world.folder / "table" / "part-00400.parquet"
    content = path.read_bytes()

    def touch(stage: str, done: int, total: int) -> None:
        if stage.startswith("pass 2"):
            path.write_bytes(content)  # another time of change, and the same content

    unlearn_files(world.sources("same"), LEACE(), engine="in-process", check=False, progress=touch)

    def change(stage: str, done: int, total: int) -> None:
        if stage.startswith("pass 2"):
            path.write_bytes((world.folder / "table" / "part-01100.parquet").read_bytes())

    with pytest.raises(InvalidInput, match=r"part-00400.parquet was changed while this ran"):
        unlearn_files(world.sources("out"), LEACE(), engine="in-process", check=False, progress=change)
    assert not list(world.folder.glob("out*"))


def test_a_finished_part_that_was_lost_is_written_again(world):
    once(world.sources("expected"))
    sources = world.sources("out")

    def stop(stage: str, done: int, total: int) -> None:
        if stage.startswith("pass 2") and done > 1000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unlearn_files(sources, Calibrated(), key=KEY, engine="in-process", check=False, progress=stop)
    written = sorted((world.folder / "out.partial" / "table").iterdir())
    assert written
    written[0].unlink()
    once(sources)
    assert world.bytes_of("out") == world.bytes_of("expected")


@pytest.mark.parametrize("at", ["brought 1", "decided 2", "descended"])
@pytest.mark.parametrize("rate", [0.5, 6.0], ids=["falls", "rises"])
def test_a_descent_goes_on_from_between_two_steps(world, taste, at, rate, monkeypatch):
    """What a step needs of the one before is gone when all parts are at it, and has to be there until then."""
    sources = world.sources("out", interactions="pairs.csv", items="items.npy")
    method = AttrCloakDD(steps=3, learning_rate=rate, weight=0.9)
    unlearn_files(replace(sources, output=str(world.folder / "expected")), method, engine="in-process", check=False)
    plain = Workspace.note

    def note(space: Workspace, done: str, **what: object) -> None:
        if done == at and what.get("step", 2) >= 2:
            raise KeyboardInterrupt
        plain(space, done, **what)

    with monkeypatch.context() as patch:
        patch.setattr(Workspace, "note", note)
        with pytest.raises(KeyboardInterrupt):
            unlearn_files(sources, method, engine="in-process", check=False)
    if at == "decided 2":  # where the leakage rises, the step that leaked least is kept and not the one before
        kept = {path.name for path in (world.folder / "out.partial" / "positions").iterdir()}
        assert kept == ({"1", "2"} if rate < 1 else {"0", "2"})
    unlearn_files(sources, method, engine="in-process", check=False)
    assert world.bytes_of("out") == world.bytes_of("expected")


def test_a_finished_part_that_was_damaged_meanwhile_is_written_again(world, monkeypatch):
    sources = world.sources("out")
    with monkeypatch.context() as patched:
        patched.setattr(Stages, "finish", lambda *arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            once(sources)
    table = world.folder / "out.partial" / "table"
    whole = {path.name: path.read_bytes() for path in table.iterdir()}
    broken = sorted(table.iterdir())[1]
    content = bytearray(broken.read_bytes())
    content[len(content) // 2] ^= 0xFF  # the size stays
    broken.write_bytes(content)
    once(sources)
    assert {path.name: path.read_bytes() for path in (world.folder / "out").iterdir()} == whole
