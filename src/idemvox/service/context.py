"""The parts of a running service, as its routes find them."""

from __future__ import annotations

from dataclasses import dataclass

from idemvox.service.audit import AuditLog
from idemvox.service.keys import Keys
from idemvox.service.metrics import Metrics
from idemvox.service.settings import Settings
from idemvox.service.voices import Voices
from idemvox.service.work import Work

__all__ = ["Context"]


@dataclass(frozen=True, slots=True, eq=False)
class Context:
    """The parts of a running service."""

    settings: Settings
    keys: Keys
    voices: Voices
    work: Work
    metrics: Metrics
    audit: AuditLog

    def close(self) -> None:
        """Let running work end, then close the store and the log."""
        self.work.close()
        self.voices.store.close()
        self.audit.close()
