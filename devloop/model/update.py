"""How new content gets into the pods: by a roll of the workload, in place, in the pods that run (S33), or as
files in the containers that run (S36)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

UpdateMode = Literal["roll", "in-place", "sync"]
AtEnd = Literal["bake", "leave"]
NO_RELOAD, RESTART = "none", "restart"  # what `reload` may be beside the name of a signal


def slowest(modes: Iterable[UpdateMode]) -> UpdateMode | None:
    """The word for several targets: what some of them had to be updated by."""
    order: tuple[UpdateMode, ...] = ("roll", "in-place", "sync")
    return min(modes, key=order.index, default=None)


@dataclass(frozen=True, slots=True)
class PodToUpdate:
    """A pod that gets another image while it runs. `images`: those that its container ran in it so far, the
    one that it was created with first. `instance`, `node`: of the container that runs, "" where none does."""

    name: str
    uid: str
    images: tuple[str, ...]
    instance: str = ""
    node: str = ""

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
class SyncedFile:
    """A file or link as it has to lie in a container: `path` without leading slash, `digest` the sha256 of
    its content, "" for a link, which leads to `link`."""

    path: str
    digest: str
    link: str = ""


@dataclass(frozen=True, slots=True)
class SyncFiles:
    """What turns the content that containers have into that of the tree: a tar, and what it writes."""

    archive: bytes
    files: tuple[SyncedFile, ...]
    folders: frozenset[str] = frozenset()  # that are there, and into which it writes

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(file.path for file in self.files)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a target is updated in another mode than its service asks for.

    `reason` is the metric's word; "" where no image is to be changed: the template names it already, for it
    was just installed or applied with it.
    """

    reason: str
    message: str
