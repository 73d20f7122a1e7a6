"""Every engine maps a function over items, each once; a worker that dies is replaced."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest

from attrcloak.engines import InProcess, ProcessPool, engine_of
from attrcloak.errors import InvalidInput, InvalidSettings, WorkerLost


def squared(number: int) -> int:
    return number**2


def refuse(number: int) -> int:
    if number == 3:
        raise InvalidInput(["first", "second"])
    return number


def die_once(number: int, folder: Path) -> int:
    """Ends its process the first time it is called with 2."""
    note = folder / "died"
    if number == 2 and not note.exists():
        note.write_text("")
        os._exit(1)
    with (folder / "done").open("a") as file:
        file.write(f"{number}\n")
    return number


def die_always(number: int) -> int:
    if number == 1:
        os._exit(1)
    return number


def test_every_item_comes_back_once_and_errors_are_what_they_are(engine):
    results = list(engine.map(squared, range(20)))
    assert sorted(results) == [(number, number**2) for number in range(20)]
    assert list(engine.map(squared, [])) == []
    with pytest.raises(InvalidInput) as error:
        list(engine.map(refuse, range(6)))
    assert error.value.problems == ("first", "second")


def test_a_worker_that_dies_is_replaced_and_every_result_counts_once(engine, tmp_path):
    if engine.in_this_process:
        pytest.skip("there is no worker")
    results = list(engine.map(partial(die_once, folder=tmp_path), range(6)))
    assert (tmp_path / "died").exists()
    assert sorted(results) == [(number, number) for number in range(6)]
    # A pool loses all that is in flight with one worker; others lose that item alone.
    assert engine.again.count(2) == 1
    assert len(set(engine.again)) <= (3 if engine.name == "pool" else 1)


def test_a_part_that_kills_every_worker_ends_the_run_with_a_next_step():
    pool = ProcessPool(workers=2)
    with pytest.raises(WorkerLost, match="run the same command again"):
        list(pool.map(die_always, range(4)))
    pool.close()


def test_the_default_is_this_process_for_one_file_and_a_pool_for_more():
    assert isinstance(engine_of("auto", parts=1), InProcess)
    assert isinstance(engine_of("auto", parts=5, workers=1), InProcess)
    assert isinstance(engine_of("auto", parts=5), ProcessPool)
    with pytest.raises(InvalidSettings, match="did you mean 'spark'"):
        engine_of("sparc", parts=1)


def test_a_pool_has_no_more_processes_than_parts():
    pool = engine_of("pool", parts=3, workers=16)
    assert isinstance(pool, ProcessPool)
    assert pool.workers == 3


forks = pytest.mark.skipif(sys.platform != "linux", reason="no fork server here")


def parent_and_module(module: str) -> tuple[int, bool]:
    """The process that this one was forked from, and whether the module was there before it was asked for."""
    return os.getppid(), module in sys.modules


PREPARED = """
from test_engines import parent_and_module
from attrcloak.engines import engine_of

if __name__ == "__main__":
    engine = engine_of({engine!r}, parts=2, workers={workers})
    engine.prepare("wave")
    print([there for name in ("wave", "imaplib") for _, (_, there) in engine.map(parent_and_module, [name, name])])
    engine.close()
"""


@pytest.mark.parametrize(
    ("engine", "workers"),
    [
        pytest.param("pool", 2, marks=forks),
        # One, since a second would be free to take both modules while the first takes the calls.
        pytest.param("ray", 1, marks=pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")),
    ],
)
def test_what_workers_need_is_imported_before_their_first_item(engine, workers):
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", PREPARED.format(engine=engine, workers=workers)],
        capture_output=True, text=True, check=True, timeout=120, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert done.stdout.strip() == "[True, True, False, False]"


def environment(name: str) -> str | None:
    return os.environ.get(name)


def test_workers_have_the_environment_of_now(monkeypatch):
    """A fork server, once started, keeps that of then; credentials are often set later."""
    for later in ("first", "second"):
        monkeypatch.setenv("ATTRCLOAK_SET_LATER", later)
        pool = ProcessPool(workers=1)
        assert list(pool.map(environment, ["ATTRCLOAK_SET_LATER"])) == [(0, later)]
        pool.close()
    monkeypatch.delenv("ATTRCLOAK_SET_LATER")
    pool = ProcessPool(workers=1)
    assert list(pool.map(environment, ["ATTRCLOAK_SET_LATER"])) == [(0, None)]
    pool.close()


@forks
def test_the_process_that_workers_are_forked_from_is_replaced_when_it_dies():
    pool = ProcessPool(workers=2)
    parents = {parent for _, (parent, _) in pool.map(parent_and_module, ["os", "os"])}
    assert len(parents) == 1
    assert os.getpid() not in parents
    os.kill(parents.pop(), signal.SIGKILL)
    assert sorted(pool.map(squared, range(6))) == [(number, number**2) for number in range(6)]
    pool.close()


FALLS_BACK = """
import os, sys
sys.path.insert(0, {here!r})
from test_engines import squared
from attrcloak.engines import ProcessPool, import_for_workers

def all_squared():
    pool = ProcessPool(workers=1)
    pool.prepare("wave")
    done = sorted(pool.map(squared, [2, 3]))
    pool.close()
    return done == [(0, 4), (1, 9)]

if __name__ == "__main__":
    if {forked}:
        import_for_workers("wave")
        child = os.fork()
        if child == 0:
            os._exit(0 if all_squared() and not import_for_workers("wave") else 1)
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    assert not import_for_workers("wave")
    sys.exit(0 if all_squared() else 1)
"""


@forks
@pytest.mark.parametrize("why", ["forked", "deep"])
def test_where_no_fork_server_can_be_started_workers_start_afresh(why, tmp_path):
    """After os.fork, as under a web server that forks; and where temporary files lie too deep for a socket."""
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    environment = {**os.environ, "TMPDIR": str(deep)} if why == "deep" else dict(os.environ)
    script = tmp_path / "script.py"
    script.write_text(FALLS_BACK.format(here=str(Path(__file__).parent), forked=why == "forked"))
    done = subprocess.run([sys.executable, str(script)], env=environment, timeout=120, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


LONG = """
import os, sys, time
sys.path.insert(0, {here!r})
from test_engines import say_and_sleep
from attrcloak.engines import ProcessPool

if __name__ == "__main__":
    list(ProcessPool(workers=2).map(say_and_sleep, [{folder!r}] * 2))
"""


def say_and_sleep(folder: str) -> None:
    (Path(folder) / f"{os.getpid()} {os.getppid()}").touch()
    time.sleep(600)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and is waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@forks
def test_workers_and_their_server_end_with_a_process_that_is_killed(tmp_path):
    pids = tmp_path / "pids"
    pids.mkdir()
    script = tmp_path / "script.py"
    script.write_text(LONG.format(here=str(Path(__file__).parent), folder=str(pids)))
    with subprocess.Popen([sys.executable, str(script)]) as process:
        wait_until(lambda: len(list(pids.iterdir())) == 2)
        below = {int(number) for note in pids.iterdir() for number in note.name.split()}
        assert len(below) == 3  # two workers and the server
        assert all(map(is_alive, below))
        process.kill()
    wait_until(lambda: not any(map(is_alive, below)))


def wait_until(condition, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads sockets from /proc")
def test_engines_listen_on_this_machine_only(engine):
    list(engine.map(squared, range(4)))  # workers are there
    listening = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A":
                listening[words[9]] = words[1].partition(":")[0]
    own = {inode for pid in family(os.getpid()) for inode in sockets(pid)}
    addresses = {listening[inode] for inode in own & set(listening)}
    # 127.0.0.1, the same in IPv6, and ::1, as the kernel writes them
    assert addresses <= {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
    assert addresses or engine.name in ("in-process", "pool")


def family(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for parent in found:
        for thread in Path(f"/proc/{parent}/task").glob("*/children"):
            found += [int(child) for child in thread.read_text().split()]
    return found


def sockets(pid: int) -> set[str]:
    """The numbers of its sockets."""
    found = set()
    for link in Path(f"/proc/{pid}/fd").glob("*"):
        try:
            target = os.readlink(link)
        except FileNotFoundError:
            continue
        if target.startswith("socket:["):
            found.add(target[8:-1])
    return found


ON_RAY = """
from test_engines import die_always, squared
from attrcloak.engines import RayTasks
from attrcloak.errors import WorkerLost

engine = RayTasks(workers=1)
try:
    list(engine.map({function}, range(2)))
except WorkerLost as error:
    print(error)
engine.close()
"""


@pytest.mark.parametrize(("function", "left"), [("squared", 0), ("die_always", 1)])
def test_the_folder_of_a_ray_that_was_started_goes_with_it_unless_its_logs_tell_something(tmp_path, function, left):
    pytest.importorskip("ray")
    short = Path(tempfile.mkdtemp(dir="/tmp"))  # the names of sockets in it have a limit
    try:
        other = short / "ray" / "session_2020-01-01_00-00-00_000000_1"
        other.mkdir(parents=True)
        paths = [str(Path(__file__).parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
        done = subprocess.run(
            [sys.executable, "-c", ON_RAY.format(function=function)],
            env={**os.environ, "RAY_TMPDIR": str(short), "PYTHONPATH": os.pathsep.join(filter(None, paths))},
            capture_output=True, text=True, timeout=240, check=True,
        )  # fmt: skip
        sessions = [path for path in (short / "ray").glob("session_2*") if path != other]
        assert other.is_dir()
        assert len(sessions) == left
        assert all(f"(its logs are in {path})" in done.stdout for path in sessions)
    finally:
        shutil.rmtree(short)


def test_spark_draws_no_bars_where_there_is_no_terminal(engine):
    if engine.name != "spark":
        pytest.skip("bars of Spark")
    from pyspark.sql import SparkSession

    session = SparkSession.getActiveSession()
    assert session is not None
    shown = session.sparkContext.getConf().get("spark.ui.showConsoleProgress")
    assert shown == str(sys.stderr.isatty()).lower()


def test_spark_without_java_says_what_is_missing():
    pytest.importorskip("pyspark")
    script = "from attrcloak.engines import engine_of; engine_of('spark', 1, 1)"
    bare = {name: value for name, value in os.environ.items() if name not in ("JAVA_HOME", "SPARK_HOME")}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**bare, "PATH": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "NotSupported: Spark could not start its Java process: it needs Java 17 or newer" in done.stderr
