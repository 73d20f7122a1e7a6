"""Unlearning of files against reading and writing the same files untouched with pyarrow: time, memory, workers.

    python benchmarks/streaming.py --folder /data/bench --users 2000000 --files 16
    python benchmarks/streaming.py --folder /data/bench --users 50000000 --files 100 --engines pool --repeats 1
    python benchmarks/streaming.py --folder /data/bench --engines one-core pool ray spark
    python benchmarks/streaming.py --folder /data/bench --users 2000000 --kills 20
    python benchmarks/streaming.py --folder /data/bench --users 2000000 --audit --repeats 1
    python benchmarks/streaming.py --folder /data/bench --users 1000000 --method attrcloak-dd --interactions 20 \\
        --settings steps=5 --repeats 1

Every figure is of a whole process, imports included, and the least of the repeats; all sides take turns. "processor" is
user and system time of the process and all below it, which other work on the machine disturbs least. Memory is the sum
of their resident sets. Both are looked at fifty times a second. "untouched" reads each file into a table
and writes it again, in one process (with pyarrow's own threads) and in a pool. The engine "in-process" has pyarrow's
threads, too; "one-core" is the same held to one core (``taskset``), and what a pool should be compared with.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

_ITEMS = 20_000
ONE_CORE = "one-core"


def main() -> None:
    """Make the table where it is not there, run, and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="on the disk to measure")
    parser.add_argument("--users", type=int, default=2_000_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--files", type=int, default=16)
    parser.add_argument("--classes", type=int, nargs="*", default=[2, 7], help="classes of each attribute")
    parser.add_argument("--engines", nargs="*", default=["in-process", "pool"])
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--method", default="calibrated")
    parser.add_argument("--settings", nargs="*", default=[], help="of the method, key=value")
    parser.add_argument("--interactions", type=int, default=0, help="of each user with 20,000 items, for attrcloak-dd")
    parser.add_argument(
        "--audit", action="store_true", help="attack a sample and give a verdict, as without --no-audit"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--kills", type=int, default=0, help="kill so many runs at random times instead of timing them")
    parser.add_argument("--untouched", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.untouched is not None:
        untouched(asked.folder / "users", asked.folder / "copy", asked.untouched)
        return
    make(asked.folder, asked.users, asked.dim, asked.files, asked.classes, asked.interactions)
    if asked.kills:
        print(json.dumps(killed(asked.folder, asked)))
        return
    sides: dict[str, list[str]] = {}
    for workers in (1, asked.workers):
        again = [sys.executable, __file__, "--folder", str(asked.folder), "--untouched", str(workers)]
        sides[f"untouched, {workers} processes"] = again
    for engine in asked.engines:
        sides[engine] = command(engine, asked)
    found: dict[str, list[Figures]] = {side: [] for side in sides}
    for _ in range(asked.repeats):
        for side, words in sides.items():
            clear(asked.folder)
            found[side].append(timed(words))
            print(f"{side}: {found[side][-1]}", file=sys.stderr, flush=True)
    clear(asked.folder)
    seconds, processor = (
        {side: round(min(getattr(run, what) for run in runs), 2) for side, runs in found.items()}
        for what in ("seconds", "processor")
    )
    plain = [side for side in sides if side.startswith("untouched")]
    print(
        json.dumps(
            {
                "users": asked.users,
                "dim": asked.dim,
                "files": asked.files,
                "classes": asked.classes,
                "method": asked.method,
                "settings": asked.settings,
                "interactions": asked.users * asked.interactions,
                "audit": asked.audit,
                "workers": asked.workers,
                "seconds": seconds,
                "processor_seconds": processor,
                "peak_megabytes": {side: max(run.megabytes for run in runs) for side, runs in found.items()},
                "over_untouched": {
                    engine: {side: round(seconds[engine] / seconds[side], 2) for side in plain}
                    for engine in asked.engines
                },
                "processor_over_untouched": {
                    engine: round(processor[engine] / processor[plain[0]], 2) for engine in asked.engines
                },
            }
        )
    )


def make(folder: Path, users: int, dim: int, files: int, classes: list[int], interactions: int) -> None:
    """A table with a leak in every attribute, people in another order, and interactions in none; kept between calls."""
    what = json.dumps([users, dim, files, classes, interactions])
    note = folder / "made.json"
    if note.exists() and note.read_text() == what:
        return
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "users").mkdir(parents=True)
    rng = np.random.default_rng(0)
    labels = [rng.integers(0, count, users, dtype=np.int8) for count in classes]
    for number, rows in enumerate(np.array_split(np.arange(users), files)):
        vectors = rng.standard_normal((len(rows), dim), dtype=np.float32)
        for column, label in enumerate(labels):
            vectors[:, column] += label[rows] / classes[column]
        lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), dim)
        pq.write_table(pa.table({"user_id": rows, "vectors": lists}), folder / "users" / f"{number:05d}.parquet")
    order = rng.permutation(users)
    columns = {f"attribute{column}": pa.array(label[order]) for column, label in enumerate(labels)}
    pq.write_table(pa.table({"user_id": order, **columns}), folder / "people.parquet")
    if interactions:
        np.save(folder / "items.npy", rng.standard_normal((_ITEMS, dim), dtype=np.float32) / np.sqrt(dim))
        (folder / "pairs").mkdir()
        for number in range(files):
            several = users * interactions // files
            pairs = {"user_id": rng.integers(0, users, several), "item_id": rng.integers(0, _ITEMS, several)}
            pq.write_table(pa.table(pairs), folder / "pairs" / f"{number:05d}.parquet")
    note.write_text(what)


def clear(folder: Path) -> None:
    """Nothing of an earlier run is in the way."""
    for path in folder.glob("new*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.rmtree(folder / "copy", ignore_errors=True)


def command(engine: str, asked: argparse.Namespace) -> list[str]:
    """The command line of one run."""
    folder = asked.folder
    alone = []
    if engine == ONE_CORE:
        engine, alone = "in-process", ["taskset", "--cpu-list", "0"]
    words = ["unlearn", str(folder / "users"), "--attributes", str(folder / "people.parquet")]
    words += ["-o", str(folder / "new"), "--method", asked.method, "--engine", engine, "--workers", str(asked.workers)]
    words += [word for setting in asked.settings for word in ("--set", setting)]
    if asked.interactions:
        words += ["--interactions", str(folder / "pairs"), "--items", str(folder / "items.npy")]
    return [*alone, sys.executable, "-m", "attrcloak", *words, *([] if asked.audit else ["--no-audit"])]


def untouched(source: Path, target: Path, workers: int) -> None:
    """Read every file and write it again."""
    target.mkdir()
    paths = [(path, target / path.name) for path in sorted(source.iterdir())]
    if workers == 1:
        for pair in paths:
            copy(pair)
        return
    with ProcessPoolExecutor(workers) as pool:
        list(pool.map(copy, paths))


def copy(pair: tuple[Path, Path]) -> None:
    """One file through memory."""
    pq.write_table(pq.read_table(pair[0]), pair[1])


@dataclass(frozen=True)
class Figures:
    """Of one run: wall time and processor time in seconds, peak memory."""

    seconds: float
    processor: float
    megabytes: int


def timed(words: list[str]) -> Figures:
    """What a process and all below it take."""
    peak = 0
    processor: dict[int, float] = {}
    began = time.perf_counter()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def watch() -> None:
        nonlocal peak
        while process.poll() is None:
            members = family(process.pid)
            peak = max(peak, sum(map(resident, members)))
            # Not by what the system adds up for children: those of a fork server are never waited for.
            processor.update({pid: took for pid in members if (took := processor_seconds(pid))})
            time.sleep(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    _, err = process.communicate()
    seconds = time.perf_counter() - began
    watcher.join()
    if process.returncode not in (0, 3):  # 3 is a verdict
        raise SystemExit(f"{' '.join(words)}\n{err.decode()}")
    return Figures(seconds, sum(processor.values()), round(peak / 1e6))


def family(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for parent in found:
        try:
            for thread in Path(f"/proc/{parent}/task").iterdir():
                found += [int(child) for child in (thread / "children").read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def resident(pid: int) -> int:
    """Resident bytes of one process, 0 when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (FileNotFoundError, ProcessLookupError):
        return 0


def processor_seconds(pid: int) -> float:
    """User and system time of one process so far, 0 when it is gone."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def killed(folder: Path, asked: argparse.Namespace) -> dict[str, object]:
    """Kill runs at random times, some by a worker and some whole, and compare what resumed runs write."""
    key = folder / "key"
    key.write_bytes(b"0123456789abcdef0123456789abcdef")
    words = [*command("pool", asked), "--key-file", str(key)]
    clear(folder)
    seconds = timed(words).seconds
    expected = digests(folder / "new")
    rng = random.Random(0)
    same = whole = 0
    for number in range(asked.kills):
        clear(folder)
        victim: Callable[[list[int]], int] = rng.choice if number % 2 else (lambda all_of_them: all_of_them[0])
        with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            time.sleep(rng.uniform(0.1, 0.95) * seconds)
            if process.poll() is None:
                os.kill(victim(family(process.pid)), signal.SIGKILL)
        if (folder / "new").exists():
            whole += digests(folder / "new") == expected
        else:
            whole += 1
            timed(words)
        same += digests(folder / "new") == expected
        print(f"kill {number + 1}: {same} the same", file=sys.stderr, flush=True)
    clear(folder)
    return {"kills": asked.kills, "whole_or_not_there": whole, "byte_identical": same}


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


if __name__ == "__main__":
    main()
