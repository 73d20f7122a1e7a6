"""Unlearning of tables larger than memory: two passes over files, by any engine, resumable."""

from attrcloak.streaming.audit_run import FilesAudit, audit_files
from attrcloak.streaming.kept_maps import KeptMaps, moved_already, other_than_at_the_run
from attrcloak.streaming.planning import FilesPlan, plan_files
from attrcloak.streaming.run import StreamedRelease, unlearn_files
from attrcloak.streaming.sources import Sources
from attrcloak.streaming.utility_run import SAMPLED_USERS, FilesUtility, evaluate_files

__all__ = [
    "SAMPLED_USERS",
    "FilesAudit",
    "FilesPlan",
    "FilesUtility",
    "KeptMaps",
    "Sources",
    "StreamedRelease",
    "audit_files",
    "evaluate_files",
    "moved_already",
    "other_than_at_the_run",
    "plan_files",
    "unlearn_files",
]
