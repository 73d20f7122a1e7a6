"""Audits of tables in files: a sample is attacked, and moments are of everybody."""

import fcntl
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from attrcloak.auditing import SOUND
from attrcloak.data.embeddings import EmbeddingTable
from attrcloak.data.ids import Ids
from attrcloak.data.people_files import read_people
from attrcloak.errors import InvalidInput
from attrcloak.release import check_release, judge
from attrcloak.streaming import audit_files, unlearn_files
from attrcloak.unlearning import LEACE, Calibrated

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


def asking(world, users):
    lines = ["user_id,attribute", *(f"{i},gender" for i in users)]
    (world.folder / "asks.csv").write_text("\n".join(lines) + "\n")
    return "asks.csv"


def test_those_who_asked_are_attacked_all_however_few(world, monkeypatch):
    monkeypatch.setattr("attrcloak.parts.groups.MOST_SAMPLED", 600)
    asks = asking(world, np.random.default_rng(5).choice(world.ids, 120, replace=False))
    some = audited(world, requests=str(world.folder / asks), columns=("gender",))
    note = next(note for note in some.report.notes if "of 1500 users" in note)
    asked = int(note.partition(" who asked")[0].rpartition(" of ")[2])
    assert f"{asked} of {asked} who asked among them" in note
    assert some.report.best("gender").users > 100  # of 120, a tenth have no class


def test_a_run_for_requests_is_judged_by_those_who_asked_as_in_memory(world):
    """Half ask; the rest keep their leak, and that does not count against the run."""
    asks = asking(world, world.ids[:750])
    released = unlearn_files(
        world.sources("out", requests=asks, columns=("gender",)), Calibrated(), key=b"k" * 32, engine="in-process",
        attackers=("logistic",), protocol=QUICK,
    )  # fmt: skip
    assert best(audited(world, "out", columns=("gender",)), "gender") > 0.55, "the rest still leak"
    assert released.verdict.protected, released.verdict.reasons
    assert abs(released.audit.best("gender").balanced_accuracy - 0.5) < 0.05
    assert released.check.audit_by_others.settings["knows"] == "others"
    people = read_people(world.folder / "people.csv").mark({"gender": world.ids[:750]}).select(["gender"])
    vectors = np.stack([world.read("out")[int(i)] for i in world.ids])
    memory = check_release(
        EmbeddingTable(Ids(world.ids), vectors), people, ["gender"], method="calibrated",
        attackers=("logistic",), protocol=QUICK,
    )  # fmt: skip
    for streamed, held in (
        (released.audit, memory.audit),
        (released.check.audit_by_others, memory.audit_by_others),
    ):
        mine, theirs = (next(r for r in audit.results if r.attacker == "logistic") for audit in (streamed, held))
        assert mine.users == theirs.users
        assert mine.balanced_accuracy == pytest.approx(theirs.balanced_accuracy, abs=0.05)


def test_a_leak_of_those_who_asked_is_not_called_protected(world):
    released = unlearn_files(
        world.sources("out", requests=asking(world, world.ids[:1000]), columns=("gender",)), Calibrated(strength=0.1),
        engine="in-process", attackers=("logistic",), protocol=QUICK,
    )  # fmt: skip
    assert not released.verdict.protected


def test_next_steps_of_a_streamed_run_are_steps_that_stream(world):
    leaky = audited(world).report
    affine, sliced = (judge(leaky, method="calibrated", affine=affine).next_steps for affine in (True, False))
    assert any("--set slices" in step for step in sliced)
    assert affine
    assert not any("--set" in step for step in affine)


def test_requests_of_strangers_are_an_error(world):
    (world.folder / "asks.csv").write_text(f"user_id,attribute\n{world.ids[0]},gender\n1,gender\n1,age\n2,age\n")
    with pytest.raises(
        InvalidInput,
        match=r"asks.csv: requests are of users who are not listed in \S*people.csv \(1 for gender, 2 for age\): "
        r"1 \(asks.csv row 1\), 2 \(asks.csv row 3\); drop these lines, or list the users$",
    ):
        audited(world, requests=str(world.folder / "asks.csv"))


def test_what_killed_audits_left_is_removed_and_what_runs_and_others_left_is_not(world, tmp_path):
    work = tmp_path / "work"
    nothing, something = '{"schema": "attrcloak/manifest/1"}', '{"schema": "attrcloak/manifest/1", "seed": 0}'
    left = {"killed": nothing, "running": nothing, "of-another": nothing, "to-take-up": something}
    for name, about in left.items():
        folder = work / f"attrcloak-audit-{name}"
        (folder / "work").mkdir(parents=True)
        (folder / "work" / "lock").touch()
        (folder / "work" / "manifest.json").write_text(about)
    (work / "attrcloak-audit-of-another" / "thesis.txt").write_text("years")
    (work / "attrcloak-audit-empty").mkdir()
    with (work / "attrcloak-audit-running" / "work" / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        audited(world, work=str(work))
    assert sorted(path.name.removeprefix("attrcloak-audit-") for path in work.iterdir()) == [
        "empty", "of-another", "running", "to-take-up"
    ]  # fmt: skip


def test_a_gate_on_who_asked_needs_requests(world):
    asks = asking(world, world.ids[:700])
    found = audited(world, requests=str(world.folder / asks), columns=("gender",), gates=("asked",))
    assert not found.breaks({"asked": 0.9})
    with pytest.raises(InvalidInput, match="'asked'"):
        audited(world, gates=("asked",))


def test_bad_vectors_are_named_and_nothing_is_left(world, tmp_path):
    table = pq.read_table(world.folder / "table" / "part-00400.parquet")
    rows = table["vectors"].to_pylist()
    rows[5][0] = float("nan")
    lists = pa.array(rows, type=table.schema.field("vectors").type)
    pq.write_table(table.set_column(1, "vectors", lists), world.folder / "table" / "part-00400.parquet")
    with pytest.raises(InvalidInput, match=r"part-00400.parquet: 1 vectors hold NaN or infinity \(rows 5\)"):
        audited(world, work=str(tmp_path / "work"))
    assert not list((tmp_path / "work").iterdir())


def test_files_that_were_read_again_are_named(world, tired):
    tired("audit_run")
    found = audited(world, attackers=("random",))
    assert "table: 1 of 3 files were done again" in found.warnings[0]
    assert found.to_json()["warnings"] == list(found.warnings)
