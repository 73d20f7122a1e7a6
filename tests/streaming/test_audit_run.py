"""Audits of tables in files: a sample is attacked, and moments are of everybody."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from attrcloak.auditing import SOUND
from attrcloak.errors import InvalidInput
from attrcloak.streaming import audit_files, unlearn_files
from attrcloak.unlearning import LEACE

QUICK = replace(SOUND, known=(0.8,), seeds=1, permutations=99, resamples=99)


def audited(world, vectors="table", **options):
    given = {"attackers": ("logistic",), "protocol": QUICK, "engine": "in-process", **options}
    return audit_files(str(world.folder / vectors), str(world.folder / "people.csv"), **given)


def best(audit, attribute):
    return audit.report.best(attribute).balanced_accuracy


def test_a_sample_finds_what_the_check_of_a_run_finds(world, monkeypatch):
    monkeypatch.setattr("attrcloak.parts.groups.MOST_SAMPLED", 900)
    before = audited(world)
    assert best(before, "gender") > 0.6
    assert any("of 1500 users" in note for note in before.report.notes)
    released = unlearn_files(
        world.sources("out"), LEACE(), engine="in-process", attackers=("logistic",), protocol=QUICK
    )
    after = audited(world, "out")
    assert released.audit is not None
    for attribute in ("gender", "age"):
        assert best(after, attribute) == pytest.approx(released.audit.best(attribute).balanced_accuracy, abs=1e-6)
    assert [leak.after for leak in after.leaks] == pytest.approx([leak.after for leak in released.leaks], abs=1e-5)


def test_the_cut_into_files_makes_no_difference(world, monkeypatch):
    monkeypatch.setattr("attrcloak.parts.groups.MOST_SAMPLED", 900)
    world.write("cut", [0, 1, 1490, 1500], order=np.random.default_rng(0).permutation(1500))
    pq.write_table(
        pq.read_table(world.folder / "cut" / "part-00000.parquet").slice(0, 0), world.folder / "cut" / "a.parquet"
    )
    one, other = audited(world), audited(world, "cut")
    assert best(one, "gender") == best(other, "gender")
    assert [leak.after for leak in one.leaks] == pytest.approx([leak.after for leak in other.leaks])


def test_only_those_who_asked_are_attacked(world):
    lines = ["user_id,attribute", *(f"{i},gender" for i in world.ids[:600])]
    (world.folder / "asks.csv").write_text("\n".join(lines) + "\n")
    some = audited(world, requests=str(world.folder / "asks.csv"), columns=("gender",))
    everybody = audited(world, columns=("gender",))
    users = [audit.report.best("gender").users for audit in (some, everybody)]
    assert users[0] < users[1]


def test_requests_of_strangers_are_an_error(world):
    (world.folder / "asks.csv").write_text("user_id,attribute\n1,gender\n")
    with pytest.raises(InvalidInput, match="requests are of users who are not listed"):
        audited(world, requests=str(world.folder / "asks.csv"))


def test_bad_vectors_are_named_and_nothing_is_left(world, tmp_path):
    table = pq.read_table(world.folder / "table" / "part-00400.parquet")
    rows = table["vectors"].to_pylist()
    rows[5][0] = float("nan")
    lists = pa.array(rows, type=table.schema.field("vectors").type)
    pq.write_table(table.set_column(1, "vectors", lists), world.folder / "table" / "part-00400.parquet")
    with pytest.raises(InvalidInput, match=r"part-00400.parquet: 1 vectors hold NaN or infinity \(rows 5\)"):
        audited(world, work=str(tmp_path / "work"))
    assert not list((tmp_path / "work").iterdir())
