"""Why a container cannot be made now: what its status shows as the waiting reason."""

from __future__ import annotations


class Problem(Exception):
    """`reason` and `message` of state.waiting, e.g. ErrImageNeverPull."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
