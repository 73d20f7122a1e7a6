"""Report files, read with their schema checked, and the published schemas."""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from attrcloak.errors import UnreadableFile


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
