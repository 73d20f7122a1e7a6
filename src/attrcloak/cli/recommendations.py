"""Commands on recommenders and data sets: demo, train, evaluate, report, data, doctor."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attrcloak.cli import files, streaming
from attrcloak.cli.options import IdColumn, VectorColumn, Workers
from attrcloak.errors import InvalidInput, InvalidSettings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from attrcloak.data import Ids, UserAttributes

DatasetName = Annotated[str, typer.Option("--dataset", help="ml-100k, ml-1m, modcloth or lastfm-1k.")]
Model = Annotated[str, typer.Option(help="als or bpr (implicit), bpr-mf, ncf or lightgcn (torch).")]
DataDir = Annotated[
    Path | None,
    typer.Option(
        help="Folder in the official layout, of RecBole atomic files, or with interactions and users in Parquet."
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of split, model and attackers.")]
OutFolder = Annotated[Path, typer.Option("--out", help="Folder for the results.", show_default=False)]


def demo(
    out: OutFolder = Path("demo-out"),
    dataset: DatasetName = "ml-100k",
    model: Model = "als",
    methods: Annotated[
        str | None, typer.Option(help="Comma-separated methods; all but u2u-r, d2d-r and pau by default.")
    ] = None,
    data_dir: DataDir = None,
    seed: Seed = 0,
    seeds: Annotated[int, typer.Option(help="Seeds of each audit.", min=1)] = 3,
    surfaces: Annotated[
        bool, typer.Option(help="Also attack old and new vectors together, top-N lists and raw history.")
    ] = True,
) -> None:
    """Train, audit, unlearn, audit again and evaluate on real data; leaves report.html and report.json.

    Example: attrcloak demo --dataset ml-100k --out demo-out
    """
    from dataclasses import replace

    from attrcloak.auditing import SOUND
    from attrcloak.comparison import check_methods, compare
    from attrcloak.data.datasets import load
    from attrcloak.reporting import write_report
    from attrcloak.reporting.terminal import comparison_table, progress_bar, show
    from attrcloak.unlearning import DEMONSTRATED

    chosen = check_methods(files.names(methods) or DEMONSTRATED)
    files.refuse_a_file_as_folder(out)
    with progress_bar() as progress:
        loaded = load(dataset, data_dir, progress)
        files.note(f"{loaded.name} from {loaded.source}\n{loaded.licence}")
        report = compare(
            loaded,
            model,
            chosen,
            seed=seed,
            protocol=replace(SOUND, known=(0.8,), seeds=seeds),
            surfaces=surfaces,
            progress=progress,
        ).to_json()
    write_report(report, html=out / "report.html", json=out / "report.json")
    show(comparison_table(report))
    files.note(f"{out / 'report.html'} and {out / 'report.json'} written")


def train(
    out: OutFolder,
    dataset: DatasetName = "ml-100k",
    model: Model = "als",
    data_dir: DataDir = None,
    seed: Seed = 0,
) -> None:
    """Train a recommender on everything but each user's held-out items; leaves users.npz, items.npy and the people.

    items.parquet holds the same items with the data set's ids.

    When it is interrupted, the same command goes on: bpr-mf, ncf and lightgcn keep how far they are in the folder.

    Example: attrcloak train --dataset ml-100k --model als --out model
    """
    import numpy as np

    from attrcloak.data.datasets import load
    from attrcloak.data.vector_files import write_vectors
    from attrcloak.json_text import write_json
    from attrcloak.recommenders import train as run_training
    from attrcloak.reporting.terminal import progress_bar
    from attrcloak.whole_file import replacing

    files.refuse_a_file_as_folder(out)
    with progress_bar() as progress:
        loaded = load(dataset, data_dir, progress)
        checkpoint = out / "training.checkpoint"
        split = loaded.interactions.leave_one_out(seed)
        recommender = run_training(model, split, seed=seed, progress=progress, checkpoint=checkpoint)
    out.mkdir(parents=True, exist_ok=True)
    write_vectors(recommender.users, out / "users.npz")
    with replacing(out / "items.npy") as temporary:
        np.save(temporary, recommender.items, allow_pickle=False)
    _write_items(recommender.items, split.train.items, out / "items.parquet")
    _write_people(loaded.people, out / "people.csv")
    description = {
        "schema": "attrcloak/model/1",
        "dataset": loaded.name,
        "model": recommender.name,
        "represents": recommender.users.represents,
        "frozen_columns": list(recommender.users.frozen_columns),
        "scoring": recommender.users.scoring,
        "settings": dict(recommender.settings),
        "seed": seed,
        "seconds": recommender.seconds,
        "fingerprint": recommender.users.fingerprint(),
    }
    write_json(description, out / "model.json")
    checkpoint.unlink(missing_ok=True)
    if not loaded.people.names:
        files.note(
            f"{loaded.name} from {loaded.source} says nothing of its users: {out / 'people.csv'} lists their ids "
            "only; audit and unlearn need a column for each attribute"
        )
    files.note(
        f"{out}: {recommender.users.represents} of {len(recommender.users)} users in {recommender.seconds:.1f} s"
    )


def evaluate(
    vectors: Annotated[
        str,
        typer.Argument(
            help="User vectors, such as users.npz of train or a table made from it; with --held-out a folder or a URI, "
            "too.",
            show_default=False,
        ),
    ],
    items: Annotated[
        str,
        typer.Option(
            help="Item vectors of the same recommender: .npy; with --held-out row i is item i, or Parquet with "
            "item_id, such as items.parquet of train.",
            show_default=False,
        ),
    ],
    held_out: Annotated[
        str | None,
        typer.Option(
            "--held-out",
            help="CSV, TSV or Parquet with user_id,item_id, or a folder: what users took after the training, to be "
            "found instead of the held-out items of a data set.",
        ),
    ] = None,
    seen: Annotated[
        str | None, typer.Option(help="The same of the training, not to be recommended again; goes with --held-out.")
    ] = None,
    original: Annotated[
        str | None, typer.Option(help="The table before, to compare with; goes with --held-out.")
    ] = None,
    users: Annotated[
        int | None,
        typer.Option(
            help="Most users to look at, drawn by a hash of their ids, 20,000 by default; goes with --held-out.", min=1
        ),
    ] = None,
    id_column: IdColumn = None,
    vector_column: VectorColumn = None,
    engine: Annotated[
        str | None,
        typer.Option(help="Who reads the tables: auto, in-process, pool, ray or spark; goes with --held-out."),
    ] = None,
    workers: Workers = None,
    dataset: Annotated[
        str | None, typer.Option(help="ml-100k (by default), ml-1m, modcloth or lastfm-1k; instead of --held-out.")
    ] = None,
    data_dir: DataDir = None,
    protocol: Annotated[
        str | None, typer.Option(help="leave-one-out (by default), sampled-99 or paper (train-fit), of a data set.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed that split the data set at training, 0 by default.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON on standard output, and nothing else there.")
    ] = False,
) -> None:
    """NDCG and HR of user vectors, on the held-out items of a data set, with the seed of the training, or on your own.

    Example: attrcloak evaluate model/users.npz --items model/items.npy --dataset ml-100k
    Example: attrcloak evaluate safer --items items.npy --held-out later.parquet --seen before.parquet --original users
    """
    of_pairs = {"seen": seen, "original": original, "users": users, "engine": engine, "workers": workers}
    of_data_set = {"dataset": dataset, "data-dir": data_dir, "protocol": protocol, "seed": seed}
    if held_out is not None:
        _refuse(of_data_set, "a data set and its split; --held-out has pairs of your own")
        streaming.evaluate_streaming(
            vectors, items, held_out, seen=seen, original=original, users=users, id_column=id_column,
            vector_column=vector_column, engine=engine or "auto", workers=workers, as_json=as_json,
        )  # fmt: skip
        return
    from attrcloak.parts import is_uri

    _refuse(of_pairs, "pairs of your own; add --held-out, or leave it out")
    if is_uri(vectors) or Path(vectors).is_dir():
        raise InvalidSettings(
            f"{vectors} is a folder or a URI: name what its users took later with --held-out; the held-out items of a "
            "data set are for users in one file"
        )
    import numpy as np

    from attrcloak.data.datasets import load
    from attrcloak.data.vector_files import read_vectors
    from attrcloak.evaluation import evaluate as run_evaluation
    from attrcloak.json_text import dump
    from attrcloak.reporting.terminal import progress_bar

    table = read_vectors(Path(vectors), id_column=id_column, vector_column=vector_column)
    item_vectors = read_vectors(Path(items)).vectors
    with progress_bar(as_json) as progress:
        loaded = load(dataset or "ml-100k", data_dir, progress)
        rows = table.ids.rows(loaded.interactions.users)
        problems = []
        if (rows < 0).any():
            problems.append(
                f"{int((rows < 0).sum())} of {len(rows)} users of {loaded.name} have no vector in {vectors}"
            )
        if len(item_vectors) != len(loaded.interactions.items):
            problems.append(
                f"{items} has {len(item_vectors)} items, {loaded.name} has {len(loaded.interactions.items)}"
            )
        if item_vectors.shape[1] != table.dim:
            problems.append(f"users have {table.dim} dimensions, items {item_vectors.shape[1]}")
        if problems:
            raise InvalidInput(problems)
        vectors_in_order = np.asarray(table.vectors[rows], dtype=np.float32)
        report = run_evaluation(
            lambda chosen: vectors_in_order[chosen] @ item_vectors.T,
            loaded.interactions.leave_one_out(seed or 0),
            protocol=protocol or "leave-one-out",  # type: ignore[arg-type]
            people=loaded.people.align(loaded.interactions.users),
            seed=seed or 0,
            progress=progress,
        )
    if as_json:
        print(dump(report.to_json()), end="")
        return
    for metric, value in report.values.items():
        low, high = report.ci[metric]
        print(f"{metric} {value:.4f} [{low:.4f}, {high:.4f}] ({report.protocol}, {report.users} users)")


def _refuse(given: Mapping[str, object], what: str) -> None:
    """Raise InvalidSettings for options that would be passed over."""
    named = [f"--{name}" for name, value in given.items() if value is not None]
    if named:
        raise InvalidSettings(f"{', '.join(named)} {'is' if len(named) == 1 else 'are'} for {what}")


def report(
    source: Annotated[Path, typer.Argument(help="A report.json.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the page goes.")] = Path("report.html"),
) -> None:
    """Draw the page of a report.json again.

    Example: attrcloak report demo-out/report.json -o report.html
    """
    files.refuse_inputs_as_outputs([source], [output])
    from attrcloak.reporting import read_report, write_report

    write_report(read_report(source), html=output)
    files.note(f"{output}: written")


def data(
    name: Annotated[str, typer.Argument(help="ml-100k, ml-1m, modcloth or lastfm-1k.", show_default=False)],
    out: OutFolder,
    data_dir: DataDir = None,
) -> None:
    """Get a data set, check it, and write it as interactions.parquet and users.parquet. Prints its licence terms.

    Example: attrcloak data ml-100k --out ml-100k
    """
    import pyarrow as pa
    import pyarrow.parquet as parquet

    from attrcloak.data.datasets import load
    from attrcloak.reporting.terminal import progress_bar
    from attrcloak.whole_file import replacing

    with progress_bar() as progress:
        loaded = load(name, data_dir, progress)
    files.note(f"{loaded.name} from {loaded.source}\n{loaded.licence}")
    out.mkdir(parents=True, exist_ok=True)
    pairs = loaded.interactions
    columns = {"user_id": pairs.users.values[pairs.user_rows], "item_id": pairs.items.values[pairs.item_rows]}
    if pairs.ratings is not None:
        columns["rating"] = pairs.ratings
    if pairs.times is not None:
        columns["timestamp"] = pairs.times
    if pairs.last_item is not None:
        columns["last_item"] = pairs.last_item[pairs.user_rows] == pairs.item_rows
    with replacing(out / "interactions.parquet") as temporary:
        parquet.write_table(pa.table(columns), temporary)
    people = loaded.people
    values = {name: [None if c < 0 else people[name].classes[c] for c in people[name].codes] for name in people.names}
    with replacing(out / "users.parquet") as temporary:
        parquet.write_table(pa.table({"user_id": people.ids.values, **values}), temporary)
    print(f"{out}: {len(pairs.users)} users, {len(pairs.items)} items, {len(pairs)} interactions")


def doctor() -> None:
    """Say which versions, optional parts and threads are at hand.

    Example: attrcloak doctor
    """
    import os
    from importlib.util import find_spec

    from attrcloak.comparison import versions

    for name, version in versions().items():
        print(f"{name:<16}{version}")
    for module, extra, use in (
        ("implicit", "implicit", "als and bpr recommenders"),
        ("xgboost", "xgboost", "the xgboost attacker"),
        ("torch", "torch", "bpr-mf, ncf and lightgcn recommenders"),
        ("numba", "fast", "compiled passes, several times faster"),
        ("ray", "ray", "--engine ray"),
        ("pyspark", "spark", "--engine spark"),
    ):
        found = find_spec(module) is not None
        print(
            f"{module:<16}{'found' if found else 'missing'}: {use}"
            + ("" if found else f"; pip install 'attrcloak[{extra}]'")
        )
    print(f"{'cores':<16}{len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()}")


def _write_items(vectors: "NDArray[np.float32]", ids: "Ids", path: Path) -> None:
    """Item vectors with the data set's own ids, for whoever has pairs in these."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from attrcloak.whole_file import replacing

    lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
    with replacing(path) as temporary:
        pq.write_table(pa.table({"item_id": pa.array(ids.values.tolist()), "vectors": lists}), temporary)


def _write_people(people: "UserAttributes", path: Path) -> None:
    import csv

    from attrcloak.whole_file import replacing

    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["user_id", *people.names])
        for row, user in enumerate(people.ids.values.tolist()):
            codes = [int(people[name].codes[row]) for name in people.names]
            labels = ["" if c < 0 else people[n].classes[c] for n, c in zip(people.names, codes, strict=True)]
            writer.writerow([user, *labels])
