"""Last.fm 1K users in the layout of its archive."""

from pathlib import Path
from typing import Any

from attrcloak.data.ages import AGE_EDGES
from attrcloak.data.attributes import UserAttributes
from attrcloak.data.datasets.dataset import interactions_of
from attrcloak.data.interactions import Interactions
from attrcloak.data.named_columns import check_present, read_table
from attrcloak.data.people_files import people_of

PLAYS = "userid-timestamp-artid-artname-traid-traname.tsv"
PROFILE = "userid-profile.tsv"

_COUNTRIES = {
    "Europe": "United Kingdom|Poland|Germany|Norway|Finland|Italy|Sweden|Netherlands|Russian Federation|Spain|France|"
    "Belgium|Romania|Portugal|Bulgaria|Croatia|Czech Republic|Switzerland|Slovakia|Serbia|Estonia|Ireland|Hungary|"
    "Lithuania|Greece|Latvia|Austria|Slovenia|Macedonia|Malta|Belarus|Iceland|Bosnia and Herzegovina",
    "Asia": "Turkey|Japan|Thailand|China|Armenia|Singapore|Israel|India|Korea, Democratic People's Republic of|"
    "British Indian Ocean Territory",
    "North America": "United States|Canada|Mexico|Trinidad and Tobago|Nicaragua|Netherlands Antilles",
    "South America": "Brazil|Argentina|Chile|Venezuela|Peru|Colombia",
    "Oceania": "Australia|New Zealand|United States Minor Outlying Islands|Northern Mariana Islands",
    "Africa": "Morocco|Cote D'Ivoire|Congo, the Democratic Republic of the|Algeria|Zimbabwe|Tunisia",
}
CONTINENT_OF = {country: continent for continent, names in _COUNTRIES.items() for country in names.split("|")}
"""Countries of the profile file. Antarctica has one user and is left unknown."""


def read_lastfm(folder: Path) -> tuple[Interactions, UserAttributes]:
    """The profile and the play log; an artist without an id goes by name, a pair is kept at its last play."""
    return _plays(folder / PLAYS), profiles(read_table(folder / PROFILE), str(folder / PROFILE))


def profiles(table: Any, source: str) -> UserAttributes:
    """Gender, age group and continent; empty fields are unknown."""
    import pyarrow as pa

    continents = [CONTINENT_OF.get(country) for country in table["country"].to_pylist()]
    table = table.append_column("continent", pa.array(continents, pa.string()))
    return people_of(table, source, columns=("gender", "age", "continent"), bins={"age": AGE_EDGES})


def _plays(path: Path) -> Interactions:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.csv as pacsv

    check_present(path)
    names = ["user_id", "timestamp", "artist_id", "artist", "track_id", "track"]
    reader = pacsv.open_csv(
        path,
        read_options=pacsv.ReadOptions(column_names=names, block_size=1 << 25),
        parse_options=pacsv.ParseOptions(delimiter="\t", quote_char=False, invalid_row_handler=lambda row: "skip"),
        convert_options=pacsv.ConvertOptions(
            include_columns=names[:4], column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True,
            null_values=[""],
        ),
    )  # fmt: skip
    parts = []
    for batch in reader:  # 19 million plays: only the last play of each pair is kept of every block
        seconds = pc.strptime(batch["timestamp"], format="%Y-%m-%dT%H:%M:%SZ", unit="s").cast(pa.int64())
        items = pc.coalesce(batch["artist_id"], batch["artist"])
        part = pa.table({"user_id": batch["user_id"], "item_id": items, "timestamp": seconds}).drop_null()
        parts.append(part.group_by(["user_id", "item_id"]).aggregate([("timestamp", "max")]))
    return interactions_of(pa.concat_tables(parts), str(path), "user_id", "item_id", "timestamp_max", None)
