"""How a new image gets into the pods: by a roll of the workload, or in place, in the pods that run (S33)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

UpdateMode = Literal["roll", "in-place"]


@dataclass(frozen=True, slots=True)
class PodToUpdate:
    """A pod that gets another image while it runs. `images`: those that its container ran in it so far, the
    one that it was created with first."""

    name: str
    uid: str
    images: tuple[str, ...]

    @property
    def image(self) -> str:
        """What it runs now."""
        return self.images[-1]


@dataclass(frozen=True, slots=True)
class InPlacePlan:
    """What an update in place changes: `container` of these pods, from the template's `before` to `ref`.

    `at_once`: how many pods may be without a ready container at a time; `min_ready`: seconds for which one
    has to be ready before it counts as available (minReadySeconds).
    """

    container: str
    before: str
    ref: str
    pods: tuple[PodToUpdate, ...]
    at_once: int = 1
    min_ready: float = 0.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a target is rolled though its service asks for another mode.

    `reason` is the metric's word; "" where no image is to be changed: the template names it already, for it
    was just installed or applied with it.
    """

    reason: str
    message: str
