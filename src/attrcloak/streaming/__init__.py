"""Unlearning of tables larger than memory: two passes over files, by any engine, resumable."""

from attrcloak.streaming.kept_maps import KeptMaps
from attrcloak.streaming.run import Sources, StreamedRelease, unlearn_files

__all__ = ["KeptMaps", "Sources", "StreamedRelease", "unlearn_files"]
