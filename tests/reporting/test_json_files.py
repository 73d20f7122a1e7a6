"""JSON files: whole or not at all, plain numbers, schemas that are schemas."""

import json

import numpy as np
import pytest
from jsonschema.validators import validator_for

from attrcloak import whole_file
from attrcloak.errors import UnreadableFile
from attrcloak.json_text import dump, write_json
from attrcloak.reporting.json_files import read_report, schema


@pytest.mark.parametrize("name", ["report", "audit"])
def test_schemas_are_valid_schemas(name):
    content = schema(name)
    validator_for(content).check_schema(content)


def test_arrays_numbers_and_what_is_not_finite_become_plain():
    text = dump({"a": np.array([1.5, np.nan]), "b": np.float32(2), "c": (np.int64(3), float("inf")), "d": {1: True}})
    assert json.loads(text) == {"a": [1.5, None], "b": 2.0, "c": [3, None], "d": {"1": True}}


def test_a_file_is_replaced_only_by_a_whole_one(tmp_path, monkeypatch):
    path = tmp_path / "report.json"
    write_json({"schema": "old"}, path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(whole_file.os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        write_json({"schema": "new"}, path)
    assert [p.name for p in tmp_path.iterdir()] == ["report.json"]
    assert json.loads(path.read_text()) == {"schema": "old"}


def test_a_report_is_read_back_as_it_was_written(report, tmp_path):
    write_json(report, tmp_path / "report.json")
    assert dump(read_report(tmp_path / "report.json")) == dump(report)


@pytest.mark.parametrize(
    "text", ["", "[1]", '{"schema": "attrcloak/report/9"}', '{"schema": "attrcloak/report/1"}', "\xff"]
)
def test_what_is_no_report_is_refused_by_name(tmp_path, text):
    path = tmp_path / "report.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UnreadableFile, match=r"report\.json"):
        read_report(path)
