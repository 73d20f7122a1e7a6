"""The audit: how well attackers read attributes, with controls and intervals."""

from attrcloak.auditing.measurement import DEFAULT_ATTACKERS, MIN_USERS, audit
from attrcloak.auditing.protocols import PAPER, SOUND, Protocol
from attrcloak.auditing.report import AttackResult, AuditReport

__all__ = ["DEFAULT_ATTACKERS", "MIN_USERS", "PAPER", "SOUND", "AttackResult", "AuditReport", "Protocol", "audit"]
