"""What `init` proposes: config.yaml and the manifests beside it, with a reason for each part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from devloop.init.found import Note


@dataclass(frozen=True, slots=True)
class Target:
    """`container`, `namespace`: "" where config.yaml need not name them."""

    kind: str
    name: str
    container: str = ""
    namespace: str = ""


@dataclass(frozen=True, slots=True)
class Service:
    """`dockerfile` is relative to config.yaml, as `context` is; `why`: a line each; `others`: workloads
    that run it and cannot be targets."""

    name: str
    image: str
    context: str
    dockerfile: str
    target: str = ""
    args: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[Mapping[str, str], ...] = ()
    targets: tuple[Target, ...] = ()
    why: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Release:
    name: str
    chart: str
    namespace: str = ""
    values: tuple[str, ...] = ()
    set: Mapping[str, Any] = field(default_factory=dict)
    images: Mapping[str, str] = field(default_factory=dict)
    why: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """One line below `manifests:`."""

    path: str
    why: str


@dataclass(frozen=True, slots=True)
class Question:
    """What cannot be known from the files. `options`: (answer, how it is shown); `default` is taken if nobody
    can be asked."""

    key: str
    text: str
    options: tuple[tuple[str, str], ...]
    default: str


@dataclass(frozen=True, slots=True)
class Place:
    """The cluster. `why` says where the context is from; `local`: it may be asked (S29)."""

    context: str
    why: str
    namespace: str = ""  # the one that was asked for, else what the kubeconfig says
    given: bool = False  # the namespace was asked for
    local: bool = False


@dataclass(frozen=True, slots=True)
class Proposal:
    """`written`: files to write beside config.yaml, path -> text; `first`: commands that make their needs."""

    place: Place
    namespace: str
    services: tuple[Service, ...]
    manifests: tuple[Entry, ...] = ()
    releases: tuple[Release, ...] = ()
    written: Mapping[str, str] = field(default_factory=dict)
    first: tuple[str, ...] = ()
    left_out: tuple[Note, ...] = ()
    remarks: tuple[Note, ...] = ()
    questions: tuple[Question, ...] = ()
