"""The limits of a service."""

from __future__ import annotations

from dataclasses import dataclass

from idemvox.errors import IdemvoxError

__all__ = ["Settings"]


@dataclass(frozen=True, slots=True)
class Settings:
    """How much one request may ask, and how much the service does at once.

    Attributes:
        max_bytes: of a request's body, all recordings together.
        max_seconds: of audio in one recording.
        upload_seconds: time to send a body.
        work_seconds: time from the end of the upload to the answer.
        workers: recordings processed at once.
        queue: requests that may wait for a worker; further ones are told to come back.
    """

    max_bytes: int = 25 << 20
    max_seconds: float = 600.0
    upload_seconds: float = 30.0
    work_seconds: float = 60.0
    workers: int = 2
    queue: int = 64

    def __post_init__(self) -> None:
        if min(self.max_bytes, self.max_seconds, self.upload_seconds, self.work_seconds, self.workers) <= 0:
            raise IdemvoxError("the limits of bytes and seconds, and the workers, must be above 0")
        if self.queue < 0:
            raise IdemvoxError(f"the queue must be 0 or more, got {self.queue}")
