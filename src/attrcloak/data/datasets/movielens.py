"""MovieLens 100K and 1M in the layout GroupLens publishes."""

from pathlib import Path
from typing import Any

from attrcloak.data.ages import AGE_EDGES
from attrcloak.data.attributes import UserAttributes
from attrcloak.data.datasets.dataset import interactions_of
from attrcloak.data.interactions import Interactions
from attrcloak.data.named_columns import check_present
from attrcloak.data.people_files import people_of
from attrcloak.errors import UnreadableFile

OCCUPATIONS = (
    "other", "academic/educator", "artist", "clerical/admin",
    "college/grad student", "customer service",
    "doctor/health care", "executive/managerial", "farmer", "homemaker", "K-12 student", "lawyer", "programmer",
    "retired",
    "sales/marketing", "scientist", "self-employed", "technician/engineer", "tradesman/craftsman",
    "unemployed", "writer",
)  # fmt: skip
"""Names of the occupation codes 0 .. 20 of MovieLens 1M."""

ATTRIBUTES = ("gender", "age", "occupation")


def read_ml_100k(folder: Path) -> tuple[Interactions, UserAttributes]:
    """``u.data`` and ``u.user``."""
    data = _rows(folder / "u.data", b"\t", ("user_id", "item_id", "rating", "timestamp"))
    people = _rows(folder / "u.user", b"|", ("user_id", "age", "gender", "occupation", "zip_code"))
    return interactions_of(data, str(folder / "u.data"), "user_id", "item_id", "timestamp", "rating"), people_of(
        people, str(folder / "u.user"), columns=ATTRIBUTES, bins={"age": AGE_EDGES}
    )


def read_ml_1m(folder: Path) -> tuple[Interactions, UserAttributes]:
    """``ratings.dat`` and ``users.dat``; rows with the timestamp 0 count as the earliest."""
    data = _rows(folder / "ratings.dat", b"::", ("user_id", "item_id", "rating", "timestamp"))
    people = _rows(folder / "users.dat", b"::", ("user_id", "gender", "age", "occupation", "zip_code"))
    return interactions_of(data, str(folder / "ratings.dat"), "user_id", "item_id", "timestamp", "rating"), people_of(
        named_codes(people), str(folder / "users.dat"), columns=ATTRIBUTES, bins={"age": AGE_EDGES}
    )


def named_codes(people: Any) -> Any:
    """The occupation codes of MovieLens 1M by name; its age codes are lowest ages and need only the bins."""
    import pyarrow as pa

    names = {str(code): name for code, name in enumerate(OCCUPATIONS)}
    position = people.column_names.index("occupation")
    codes = people["occupation"].cast(pa.string()).to_pylist()
    return people.set_column(position, "occupation", pa.array([names.get(code, code) for code in codes]))


def _rows(path: Path, separator: bytes, names: tuple[str, ...]) -> Any:
    import io

    import pyarrow as pa
    import pyarrow.csv as pacsv

    check_present(path)
    content = path.read_bytes().replace(separator, b"\t")
    try:
        return pacsv.read_csv(
            io.BytesIO(content),
            read_options=pacsv.ReadOptions(column_names=list(names), encoding="latin-1"),
            parse_options=pacsv.ParseOptions(delimiter="\t", quote_char=False),
            convert_options=pacsv.ConvertOptions(column_types={"zip_code": pa.string()}),
        )
    except pa.ArrowInvalid as error:
        raise UnreadableFile(f"{path}: is not in the published layout ({error}); is the file complete?") from error
