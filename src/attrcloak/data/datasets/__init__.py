"""Known data sets and folders of one's own: from disk, from the publisher, or from the package index."""

import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from attrcloak.data.ages import AGE_EDGES
from attrcloak.data.attributes import UserAttributes
from attrcloak.data.datasets import fetch, lastfm, modcloth, movielens, recbole
from attrcloak.data.datasets.dataset import Dataset, interactions_of
from attrcloak.data.interactions import Interactions
from attrcloak.data.named_columns import id_name, read_table
from attrcloak.data.people_files import people_of
from attrcloak.errors import DataNotFound, InvalidSettings, not_among
from attrcloak.progress import Progress

__all__ = ["NAMES", "Dataset", "load"]

_Parts = tuple[Interactions, UserAttributes]


@dataclass(frozen=True)
class _Known:
    read: Callable[[Path], _Parts]
    files: tuple[str, ...]  # patterns of the official layout
    folder: str  # what the official archive unpacks to
    url: str
    digest: str | None
    licence: str


_GROUPLENS = (
    "MovieLens: for research; say where it is from, do not pass it on or use it commercially without permission of "
    "GroupLens. Terms: https://files.grouplens.org/datasets/movielens/"
)
_SETS = {
    "ml-100k": _Known(
        movielens.read_ml_100k, ("u.data", "u.user"), "ml-100k",
        "https://files.grouplens.org/datasets/movielens/ml-100k.zip",
        "sha256:50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229",
        _GROUPLENS + "ml-100k-README.txt",
    ),
    "ml-1m": _Known(
        movielens.read_ml_1m, ("ratings.dat", "users.dat"), "ml-1m",
        "https://files.grouplens.org/datasets/movielens/ml-1m.zip",
        "sha256:a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20",
        _GROUPLENS + "ml-1m-README.txt",
    ),
    "modcloth": _Known(
        modcloth.read_modcloth, ("df_modcloth*.csv",), "modcloth",
        "https://raw.githubusercontent.com/MengtingWan/marketBias/master/data/df_modcloth.csv",
        "git:03a880ad3519c01158f555f6be8ccdeff81df4e6",
        "ModCloth: the marketBias repository is under Apache-2.0. Terms: https://github.com/MengtingWan/marketBias",
    ),
    "lastfm-1k": _Known(
        lastfm.read_lastfm, (lastfm.PROFILE, lastfm.PLAYS), "lastfm-dataset-1K",
        "https://mtg.upf.edu/static/datasets/last.fm/lastfm-dataset-1K.tar.gz", None,
        "Last.fm 1K: for use that is not commercial, with thanks to Last.fm. Terms: "
        "http://ocelma.net/MusicRecommendationDataset/lastfm-1K.html",
    ),
}  # fmt: skip
# The log and the profile inside the Last.fm archive are pinned instead of the archive.
_MEMBER_DIGESTS = {
    lastfm.PLAYS: "md5:64747b21563e3d2aa95751e0ddc46b68",
    lastfm.PROFILE: "md5:c53608b6b445db201098c1489ea497df",
}
NAMES = tuple(_SETS)


def load(name: str, data_dir: Path | None = None, progress: Progress | None = None) -> Dataset:
    """A data set from ``data_dir``, or else from the first that has it: the cache, the publisher, the package index.

    Args:
        name: "ml-100k", "ml-1m", "modcloth" or "lastfm-1k"; any other name needs a ``data_dir``.
        data_dir: a folder in the official layout, with ``interactions.parquet`` and ``users.parquet``, or with
            RecBole's atomic files; or one that holds such a folder under the name of the set.
        progress: told the stage, bytes done and bytes in all.

    Raises:
        DataNotFound: no source has it; the message lists what was tried, in order.
        InvalidInput: a file is there and cannot be used.
        InvalidSettings: the name is not known and there is no ``data_dir``.
    """
    known = _SETS.get(name)
    if known is None and data_dir is None:
        unknown = not_among("no data set", name, NAMES)
        raise InvalidSettings(f"{unknown}; a set of your own needs its folder: give it with data_dir=")
    tried: list[str] = []
    roots = [] if data_dir is None else [Path(data_dir)]
    inside = (name, known.folder, f"official/{known.folder}") if known else (name,)
    cached = fetch.cache_folder() / name
    folders = [place for root in roots for place in (root, *(root / part for part in inside))]
    for folder in dict.fromkeys(folders) if data_dir is not None else [cached]:
        found = _read_folder(name, folder, known)
        if found is not None:
            licence = known.licence if known else "Your own data: its owner's terms hold."
            return Dataset(name, *found, licence=licence, source=str(folder))
        tried.append(f"{folder}: {_what_is_missing(folder, known)}")
    # Whoever names a folder means that one: other data from elsewhere would be a silent mistake.
    if known is not None and data_dir is None:
        sources: list[tuple[str, Callable[[], None]]] = [(known.url, lambda: _fetch(known, cached, progress))]
        if name == "ml-100k":
            sources.append(("the recbole 1.2.1 wheel, through pip", lambda: fetch.fetch_wheel(cached)))
        for source, get in sources:
            try:
                get()
            except (OSError, EOFError, tarfile.TarError) as error:
                tried.append(f"{source}: {error}")
                continue
            found = _read_folder(name, cached, known)
            if found is not None:
                return Dataset(name, *found, licence=known.licence, source=source)
    steps = "\n".join(f"  {number}. {text}" for number, text in enumerate(tried, 1))
    how = f"Fetch {known.url}, unpack it" if known else "Put interactions.parquet and users.parquet in a folder"
    raise DataNotFound(
        f"data set {name!r} was not found. Tried, in order:\n{steps}\n{how} and give that folder with data_dir="
        + (", or leave it out to have the set fetched." if known and data_dir is not None else ".")
    )


def _what_is_missing(folder: Path, known: _Known | None) -> str:
    if not folder.exists():
        return "no such folder"
    if not folder.is_dir():
        return "this is a file; name the folder it is in"
    layouts = ["interactions.parquet and users.parquet", "a .inter and a .user file"]
    looked_for = "; ".join(([" and ".join(known.files)] if known else []) + layouts)
    others = [name for name, other in _SETS.items() if other is not known and _has_files_of(folder, other)]
    return f"no files of a known layout ({looked_for})" + (f"; it looks like {' or '.join(others)}" if others else "")


def _has_files_of(folder: Path, known: _Known) -> bool:
    return all(any(folder.glob(pattern)) for pattern in known.files)


def _fetch(known: _Known, folder: Path, progress: Progress | None) -> None:
    archive = folder / known.url.rsplit("/", 1)[1]
    fetch.download(known.url, known.digest, archive, progress)
    if archive.suffix != ".csv":
        fetch.unpack(archive, known.files, folder)
        archive.unlink()
    for member in known.files:
        if member in _MEMBER_DIGESTS:
            try:
                fetch.check_digest(folder / member, _MEMBER_DIGESTS[member])
            except OSError:
                (folder / member).unlink(missing_ok=True)
                raise


def _read_folder(name: str, folder: Path, known: _Known | None) -> _Parts | None:
    if known is not None and _has_files_of(folder, known):
        return known.read(folder)
    if (folder / "interactions.parquet").is_file() and (folder / "users.parquet").is_file():
        table, path = read_table(folder / "interactions.parquet"), str(folder / "interactions.parquet")
        optional = [c if c in table.column_names else None for c in ("timestamp", "rating", "last_item")]
        interactions = interactions_of(table, path, "user_id", "item_id", *optional)
        return interactions, _people(name, read_table(folder / "users.parquet"), str(folder / "users.parquet"))
    inter = next(iter(sorted(folder.glob("*.inter"))), None)
    if inter is not None and inter.with_suffix(".user").is_file():
        user = inter.with_suffix(".user")
        return recbole.read_inter(inter), _people(name, recbole.read_atomic(user), str(user))
    return None


def _people(name: str, table: object, source: str) -> UserAttributes:
    names: list[str] = table.column_names  # type: ignore[attr-defined]
    if name == "lastfm-1k":
        return lastfm.profiles(table, source)
    if name == "ml-1m" and "occupation" in names:
        table = movielens.named_codes(table)
    if name in ("ml-100k", "ml-1m"):
        return people_of(table, source, columns=movielens.ATTRIBUTES, bins={"age": AGE_EDGES})
    key = id_name(names, None)
    kept = [column for column in names if column not in (key, "zip_code", "has_interactions")]
    return people_of(table, source, columns=kept)
