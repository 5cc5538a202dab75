"""What one look found: it is well, it works but costs something, or devloop will fail on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from devloop.checks.subject import Subject
from devloop.config.load import Config
from devloop.model import Service
from devloop.wiring import Session

Grade = Literal["ok", "warning", "failure"]


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """`what` was looked at, `found` is what is so, `fix` what to do about it."""

    grade: Grade
    what: str
    found: str
    fix: str | None = None

    def about(self, what: str) -> Diagnosis:
        return replace(self, what=what)


Diagnoses = Sequence[Diagnosis]


def ok(what: str, found: str) -> Diagnosis:
    return Diagnosis("ok", what, found)


def warning(what: str, found: str, fix: str | None = None) -> Diagnosis:
    return Diagnosis("warning", what, found, fix)


def failure(what: str, found: str, fix: str | None = None) -> Diagnosis:
    return Diagnosis("failure", what, found, fix)


def count(number: int, word: str) -> str:
    """ "1 file", "3 files"."""
    return f"{number} {word}{'' if number == 1 else 's'}"


@dataclass(frozen=True, slots=True)
class Machine:
    """This machine. `state`: devloop's folder in the state directory, of all projects and sandboxes."""

    environ: Mapping[str, str]
    state: Path


@dataclass(frozen=True, slots=True)
class Examined:
    """A project on this machine. `names`: the services that the command line chose, all if empty.

    `objects` is what its manifests and releases would deploy, `broken` why some of them gave nothing.
    `watches`: where running watches of this config.yaml serve their metrics.
    """

    machine: Machine
    config: Config
    services: tuple[Service, ...]
    kubeconfig: tuple[Path, ...]
    watches: tuple[str, ...] = ()
    objects: tuple[Subject, ...] = ()
    broken: Diagnoses = ()


@dataclass(frozen=True, slots=True)
class Connected:
    """A project with a session on its cluster."""

    project: Examined
    session: Session
