"""Reports: one self-contained page, JSON files with a published schema, tables in the terminal."""

from attrcloak.json_text import write_json
from attrcloak.reporting.html import render_report, write_report
from attrcloak.reporting.json_files import read_report

__all__ = ["read_report", "render_report", "write_json", "write_report"]
