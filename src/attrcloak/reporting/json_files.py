"""JSON files: written whole or not at all, read with their schema checked."""

import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from attrcloak.errors import UnreadableFile
from attrcloak.whole_file import replacing


def write_json(content: Mapping[str, Any], path: Path) -> None:
    """Write a JSON file; numbers that are not finite become null, as JSON has none."""
    text = dump(content)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def dump(content: Mapping[str, Any]) -> str:
    """As JSON text."""
    return json.dumps(_plain(content), indent=1, allow_nan=False) + "\n"


def read_report(path: Path) -> dict[str, Any]:
    """Read a report.json.

    Raises:
        UnreadableFile: the file is missing, not JSON, or not a report of a schema this version knows.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UnreadableFile(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(content, dict) or content.get("schema") != "attrcloak/report/1":
        found = content.get("schema") if isinstance(content, dict) else type(content).__name__
        raise UnreadableFile(f"{path} is not a report (attrcloak/report/1); its schema is {found!r}")
    missing = [name for name in (*schema("report")["required"], "details") if name not in content]
    if missing:
        raise UnreadableFile(f"{path} lacks {', '.join(missing)}; is it complete?")
    return content


def schema(name: str) -> dict[str, Any]:
    """A published JSON Schema: "report" or "audit"."""
    text = files("attrcloak.reporting").joinpath(f"schemas/{name}.schema.json").read_text(encoding="utf-8")
    content: dict[str, Any] = json.loads(text)
    return content


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
