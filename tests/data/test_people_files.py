import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from attrcloak.data.people_files import read_people
from attrcloak.errors import InvalidInput, UnreadableFile


def test_csv_with_gaps(tmp_path):
    (tmp_path / "p.csv").write_text("gender,user_id\nF,3\n,1\nM,2\n")
    people = read_people(tmp_path / "p.csv")
    assert people.ids.values.tolist() == [3, 1, 2]
    assert people["gender"].classes == ("F", "M")
    assert people["gender"].codes.tolist() == [0, -1, 1]


def test_ids_with_leading_zeros_stay_text(tmp_path):
    (tmp_path / "p.tsv").write_text("user_id\tg\n007\ta\n8\tb\n")
    assert read_people(tmp_path / "p.tsv").ids.values.tolist() == ["007", "8"]


def test_many_ages_are_grouped_and_bins_override(tmp_path):
    pq.write_table(
        pa.table({"id": list(range(80)), "age": [float(a) for a in range(79)] + [None]}), tmp_path / "p.parquet"
    )
    age = read_people(tmp_path / "p.parquet")["age"]
    assert age.classes == ("under 18", "18-24", "25-34", "35-44", "45-49", "50-55", "56+")
    assert age.codes[[17, 18, 24, 25, 49, 50, 55, 56, 79]].tolist() == [0, 1, 1, 2, 4, 5, 5, 6, -1]
    assert read_people(tmp_path / "p.parquet", bins={"age": (30,)})["age"].classes == ("under 30", "30+")


def test_all_problems_at_once(tmp_path):
    (tmp_path / "p.csv").write_text("user_id,gender\n1,F\n1,M\n")
    with pytest.raises(InvalidInput) as caught:
        read_people(tmp_path / "p.csv", columns=["gendr", "zip"])
    assert len(caught.value.problems) == 3
    assert "did you mean 'gender'" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text"), [("a.csv", ""), ("a.xlsx", "x"), ("a.parquet", "PAR1"), ("b.csv", "id,g\n1\n")]
)
def test_unreadable(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(UnreadableFile):
        read_people(tmp_path / name)


def test_a_million_rows_in_seconds(tmp_path):
    n = 1_000_000
    pq.write_table(pa.table({"user_id": np.arange(n), "g": np.arange(n) % 3}), tmp_path / "p.parquet")
    start = time.perf_counter()
    assert read_people(tmp_path / "p.parquet")["g"].counts.sum() == n
    assert time.perf_counter() - start < 20
