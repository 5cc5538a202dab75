"""Where objects come from: YAML text to subjects with lines, of plain files and of what Helm rendered."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from devloop.checks.subject import Json, Place, Subject
from devloop.errors import ConfigError
from devloop.files import read_text
from devloop.kubernetes_yaml.documents import documents
from devloop.model import Release

SOURCE = re.compile(r"^# Source: (\S+)$", re.MULTILINE)
KEY = re.compile(r"^\s*(?:- )*\s*([\"']?[\w./-]+[\"']?)\s*:")


@dataclass(frozen=True, slots=True)
class Written:
    """One object of a text: places with their lines, counted from 1."""

    item: Json
    lines: Mapping[Place, int]


def read(text: str, name: str) -> list[Written]:
    """The objects of a YAML text; lists are opened. Raises ConfigError with `name` and the line."""
    return [
        written
        for one in documents(text, name, places=True)
        for written in _opened(one.value, dict(one.lines))
    ]


def from_file(path: Path, root: Path, namespace: str) -> list[Subject]:
    """The subjects of one plain manifest. Raises ConfigError."""
    name = shown(path, root)
    try:
        text = read_text(path)
    except OSError as error:
        raise ConfigError(f"{name}: {error.strerror}", reason="InvalidManifest") from error
    return [
        Subject(one.item, _namespace(one.item, namespace), "manifests", name, one.lines)
        for one in read(text, name)
    ]


def from_text(text: str, name: str, namespace: str) -> list[Subject]:
    """The subjects of a rendered text, which has no lines in any file; `name` says what was rendered."""
    return [Subject(one.item, _namespace(one.item, namespace), "manifests", name) for one in read(text, name)]


def from_release(release: Release, manifest: str, root: Path) -> list[Subject]:
    """The subjects of what Helm rendered; lines are those of the chart's templates, where they are known.

    Raises ConfigError.
    """
    return [
        subject for source, text in sources(manifest) for subject in _rendered(release, source, text, root)
    ]


def sources(manifest: str) -> Iterator[tuple[str, str]]:
    """(template as Helm names it, its text) of a manifest as `helm template` writes it."""
    marks = [*SOURCE.finditer(manifest)]
    if not marks:
        yield "", manifest
        return
    for mark, after in zip(marks, [*marks[1:], None], strict=True):
        text = manifest[mark.end() : after.start() if after else len(manifest)]
        yield mark[1], re.sub(r"\n---\s*\Z", "\n", text)


def template_lines(rendered: list[str], template: list[str]) -> list[int]:
    """For each rendered line its line in the template, or that of the nearest one above that has one.

    Both are compared by their keys: values are what templates fill in.
    """
    ours, theirs = [*map(_key, rendered)], [*map(_key, template)]
    found = [0] * len(rendered)
    for start, other, size in SequenceMatcher(None, ours, theirs, autojunk=False).get_matching_blocks():
        for offset in range(size):
            if ours[start + offset]:
                found[start + offset] = other + offset + 1
    above = 0
    for index, line in enumerate(found):
        above = found[index] = line or above
    return found


def shown(path: Path, root: Path) -> str:
    """Relative to `root` where below it."""
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def _rendered(release: Release, source: str, text: str, root: Path) -> Iterator[Subject]:
    path = template_path(release.chart, source)
    try:
        template = read_text(path).splitlines()
    except OSError:
        template = []
    known = template_lines(text.splitlines(), template) if template else []
    name = shown(path, root)
    for one in read(text, f"{release}, {source}"):
        lines = {
            place: known[line - 1]
            for place, line in one.lines.items()
            if line <= len(known) and known[line - 1]
        }
        yield Subject(one.item, _namespace(one.item, release.namespace), release.name, name, lines)


def template_path(chart: Path, source: str) -> Path:
    """ "NAME/charts/sub/templates/x.yaml" below the chart's folder, whatever the folder is called."""
    return chart.joinpath(*source.split("/")[1:])


def _key(line: str) -> str:
    """The key of a line with its depth among list items; "" for what has none."""
    found = KEY.match(line)
    return found[1].strip("\"'") if found else ""


def _opened(value: Any, lines: dict[Place, int]) -> Iterator[Written]:
    if not isinstance(value, dict):
        return
    if str(value.get("kind", "")).endswith("List") and isinstance(value.get("items"), list):
        for index, item in enumerate(value["items"]):
            start: Place = ("items", index)
            inner = {place[2:]: line for place, line in lines.items() if place[:2] == start}
            yield from _opened(item, inner)
        return
    yield Written(value, lines)


def _namespace(item: Json, default: str) -> str:
    meta = item.get("metadata")
    return str((meta.get("namespace") if isinstance(meta, dict) else None) or default)
