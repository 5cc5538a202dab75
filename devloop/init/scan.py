"""A project's folder to what was found in it. What is unreadable or broken is a note, never an error."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from devloop.deploy.kustomization import FILE_NAMES
from devloop.errors import ConfigError, DevloopError
from devloop.files import read_text
from devloop.init.dockerfiles import read_dockerfile
from devloop.init.found import Dockerfile, Found, Manifest, Note
from devloop.init.objects import flat, manifest_of
from devloop.init.tree import Tree, last, parent, read_tree
from devloop.init.words import is_dockerfile
from devloop.kubernetes_yaml.documents import documents

LARGEST = 1 << 20  # bytes of a YAML file that people wrote
ASIDE = frozenset(
    {"test", "tests", "testdata", "fixtures", "example", "examples", "docs", "doc", "e2e", "bench"}
)
# apiVersions of what looks like an object of a cluster and is none.
_TOOLS = re.compile(
    r"^(skaffold|kind\.x-k8s\.io|k3d\.io|ctlptl\.dev|eksctl\.io|kubeadm\.k8s\.io|kustomize\.config)"
)


Item = TypeVar("Item", Dockerfile, Manifest)


@dataclass(slots=True)
class Reading:
    """What is being read, and what was wrong with it."""

    tree: Tree
    notes: list[Note] = field(default_factory=list)

    def text(self, path: str) -> str | None:
        """None, and a note, for a file that cannot be read."""
        try:
            return read_text(self.tree.root / path)
        except OSError as error:
            self.notes.append(Note(path, f"cannot be read: {error.strerror}"))
            return None

    def values(self, path: str, text: str | None = None) -> list[Any] | None:
        """The documents of a YAML file; None, and a note, for one that is broken."""
        text = self.text(path) if text is None else text
        if text is None:
            return None
        try:
            return [one.value for one in documents(text, path)]
        except ConfigError as error:
            self.notes.append(Note(path, f"broken: {error.message.removeprefix(path).lstrip(': ')}"))
            return None


def scan(root: Path) -> Found:
    """Raises nothing."""
    tree = read_tree(root)
    reading = Reading(tree, list(tree.notes))
    charts = {parent(path) for path in tree.files if last(path) == "Chart.yaml"}
    dockerfiles = tuple(_dockerfiles(reading))
    manifests = tuple(_manifests(reading, charts))
    return Found(
        name=tree.root.name or "project",
        folders=tree.folders,
        files=frozenset(tree.files),
        dockerfiles=_without_aside(dockerfiles, reading),
        manifests=_without_aside(manifests, reading),
        notes=tuple(reading.notes),
    )


def _without_aside(items: tuple[Item, ...], reading: Reading) -> tuple[Item, ...]:
    """Those of tests, examples and docs count only where there are no others."""
    kept = tuple(one for one in items if not ASIDE.intersection(parent(one.path).split("/")))
    if not kept:
        return items
    reading.notes += [
        Note(one.path, "it lies with tests, examples or docs") for one in items if one not in kept
    ]
    return kept


def _dockerfiles(reading: Reading) -> Iterator[Dockerfile]:
    for path in reading.tree.files:
        if not is_dockerfile(last(path)) or (text := reading.text(path)) is None:
            continue
        try:
            yield read_dockerfile(path, text)
        except DevloopError as error:
            reading.notes.append(Note(path, f"broken: {error.message}"))


def _manifests(reading: Reading, charts: set[str]) -> Iterator[Manifest]:
    for path in reading.tree.files:
        inside = any(path.startswith(f"{chart}/") or chart == "." for chart in charts)
        if not path.endswith((".yaml", ".yml")) or last(path) in FILE_NAMES or inside:
            continue
        text = _yaml_text(reading, path)
        if text is None or not re.search(r"^\s*[\"']?kind", text, re.MULTILINE) or "apiVersion" not in text:
            continue
        if "{{" in text and re.search(r"^\s*\{\{", text, re.MULTILINE):
            reading.notes.append(Note(path, "a template, no manifest"))
            continue
        values = reading.values(path, text)
        objects = [one for one in flat(values or ()) if not _TOOLS.match(one["apiVersion"])]
        if objects:
            yield manifest_of(path, objects)


def _yaml_text(reading: Reading, path: str) -> str | None:
    try:
        if (reading.tree.root / path).stat().st_size > LARGEST:
            return None
    except OSError:
        return None
    return reading.text(path)
