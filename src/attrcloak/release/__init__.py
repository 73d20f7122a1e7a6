"""Unlearning as it is released: what it would do, what it did, whether it may go out, and its maps used again."""

from attrcloak.release.checked import CHECK_ATTACKERS, Check, Release, check_protocol, check_release, unlearn
from attrcloak.release.kept_maps import apply_eraser, apply_to_everybody, undo
from attrcloak.release.planning import FLOW_DIMENSIONS, FLOW_USERS, Plan, method_for, plan
from attrcloak.release.verdict import MARGIN, Verdict, judge

__all__ = [
    "CHECK_ATTACKERS",
    "FLOW_DIMENSIONS",
    "FLOW_USERS",
    "MARGIN",
    "Check",
    "Plan",
    "Release",
    "Verdict",
    "apply_eraser",
    "apply_to_everybody",
    "check_protocol",
    "check_release",
    "judge",
    "method_for",
    "plan",
    "undo",
    "unlearn",
]
