"""Unlearning of tables larger than memory: two passes over files, by any engine, resumable."""

from attrcloak.streaming.run import Sources, StreamedRelease, unlearn_files

__all__ = ["Sources", "StreamedRelease", "unlearn_files"]
