"""What a trip that ended waits for, and the pauses until it is tried again. Pure."""

from __future__ import annotations

from typing import Literal

from devloop.errors import (
    DependencyError,
    DevloopError,
    InternalError,
    PlatformError,
    PrerequisiteError,
    TargetMissingError,
    TreeMovedError,
)
from devloop.model import Failed, Outcome
from devloop.rollout.symptoms import MISSING_IMAGE
from devloop.safety_net import PAUSES as INTERNAL_PAUSES

PLATFORM_PAUSES = (0.5, 1.0, 2.0, 4.0, 5.0)  # seconds, while an engine or API server is gone
OUTSIDE_PAUSES = (2.0, 5.0, 10.0, 20.0, 40.0, 60.0)  # while a registry, an engine or the cluster refuses
MOVED_PAUSES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)  # while the tree changes as it is read
Wait = Literal["dependency", "target", "prerequisite", "platform", "outside", "moved", "internal"]
PAUSES: dict[Wait, tuple[float, ...]] = {
    "platform": PLATFORM_PAUSES,
    "outside": OUTSIDE_PAUSES,
    "moved": MOVED_PAUSES,
    "internal": INTERNAL_PAUSES,
}


def wait_after(outcome: Outcome) -> Wait | None:
    """What has to happen, beside a save, before another trip may end otherwise."""
    if not isinstance(outcome, Failed):
        return None
    error: DevloopError = outcome.error
    kinds: tuple[tuple[type[DevloopError], Wait], ...] = (
        (TreeMovedError, "moved"),
        (PlatformError, "platform"),
        (DependencyError, "dependency"),
        (PrerequisiteError, "prerequisite"),
        (TargetMissingError, "target"),
        (InternalError, "internal"),
    )
    for kind, wait in kinds:
        if isinstance(error, kind):
            return wait
    return "outside" if error.outside_tree or error.reason in MISSING_IMAGE else None
