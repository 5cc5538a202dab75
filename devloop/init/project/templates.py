"""A chart's template as text, without Helm: kind, name and images, as far as lines tell."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from devloop.init.found import WORKLOADS, Container, Json, Workload

DEEPEST = 3  # named templates within each other
_ACTION = re.compile(r"\{\{(.*?)\}\}")
_IMAGE = re.compile(r"^[ \t]*(?:-[ \t]*)?image:[ \t]*(\S.*)$", re.MULTILINE)
_NAME = re.compile(r"^[ \t]*-[ \t]+name:[ \t]*(\S.*)$", re.MULTILINE)
_OBJECT_NAME = re.compile(
    r"^metadata:[ \t]*\n(?:[ \t]+\S.*\n|[ \t]*\n)*?[ \t]+name:[ \t]*(\S.*)$", re.MULTILINE
)
_VALUES = re.compile(r"\.Values\.([\w.-]+)")


@dataclass(frozen=True, slots=True)
class Template:
    """`values`: those of the chart itself; `at`: where they lie in those of the chart above it."""

    path: str
    chart: str
    release: str
    values: Json
    at: str
    helpers: str


def read_template(text: str, template: Template) -> Iterator[Workload]:
    for part in re.split(r"^---.*$", text, flags=re.MULTILINE):
        kind = re.search(r"^kind:\s*(\w+)", part, re.MULTILINE)
        name = _OBJECT_NAME.search(part)
        if kind is None or name is None or kind[1] not in WORKLOADS:
            continue
        called = resolved(name[1], template)
        if called is not None:
            yield Workload(kind[1], called, "", tuple(_containers(part, template)), template.path)


def _containers(part: str, template: Template) -> Iterator[Container]:
    for found in _IMAGE.finditer(part):
        before = _NAME.findall(part[: found.start()])
        name = resolved(before[-1], template) if before else ""
        path = _values_path(found[1])
        image = _image(path, template) if path else resolved(found[1], template)
        if image:
            step = f"{template.at}.{path}" if template.at and path else path
            yield Container(name or "", image, step)


def _values_path(line: str) -> str:
    """`backend.image` of "{{ .Values.backend.image.repository }}:{{ .Values.backend.image.tag }}"."""
    found = _VALUES.search(line)
    if not found or not found[1].endswith(".repository"):
        return ""
    return found[1].removesuffix(".repository")


def _image(path: str, template: Template) -> str:
    value = _dig(template.values, f"{path}.repository")
    return value if isinstance(value, str) else ""


def resolved(text: str, template: Template, depth: int = 0) -> str | None:
    """A line's text with its actions replaced; None where one is not understood."""
    unknown = False

    def put(found: re.Match[str]) -> str:
        nonlocal unknown
        action = found[1].removeprefix("-").removesuffix("-").strip()
        value = _action(action, template, depth) if depth <= DEEPEST else None
        unknown = unknown or value is None
        return value or ""

    result = _ACTION.sub(put, text).strip().strip("\"'")
    return None if unknown or not result else result


def _action(action: str, template: Template, depth: int) -> str | None:
    action = re.sub(r"\s*\|\s*(quote|trunc 63|trimSuffix \"-\"|lower)", "", action).strip()
    action, _, fallback = action.partition("| default ")
    action = action.strip()
    plain = {".Release.Name": template.release, ".Chart.Name": template.chart, ".Release.Namespace": ""}
    if action in plain:
        return plain[action]
    if match := re.fullmatch(r"\.Values\.([\w.-]+)", action):
        value = _dig(template.values, match[1])
        return str(value) if isinstance(value, str | int) and value != "" else fallback.strip("\"' ") or None
    if match := re.match(r'(?:include|template)\s+"([^"]+)"', action):
        return _helper(match[1], template, depth)
    if match := re.match(r'printf\s+"([^"]*)"\s+(.*)', action):
        parts = [_action(one, template, depth) for one in match[2].split()]
        between = match[1].split("%s")
        if None in parts or len(between) != len(parts) + 1:
            return None
        return "".join(text or "" for pair in zip(between, (*parts, ""), strict=True) for text in pair)
    return None


def _helper(name: str, template: Template, depth: int) -> str | None:
    """A named template: its one line, or what `helm create` writes as fullname and name."""
    found = re.search(
        r'\{\{-?\s*define\s+"'
        + re.escape(name)
        + r'"\s*-?\}\}(.*?)\{\{-?\s*end\s*-?\}\}\s*(?=\{\{-?\s*(?:define|/\*)|\Z)',
        template.helpers,
        re.DOTALL,
    )
    if found is None:
        return None
    body = found[1].strip()
    if "fullnameOverride" in body or "nameOverride" in body:
        override = _dig(template.values, "fullnameOverride") if name.endswith("fullname") else None
        called = str(override or _dig(template.values, "nameOverride") or template.chart)
        if override or not name.endswith("fullname") or called in template.release:
            return str(override) if override else template.release if name.endswith("fullname") else called
        return f"{template.release}-{called}"
    return resolved(body, template, depth + 1) if "\n" not in body else None


def _dig(values: Any, path: str) -> Any:
    for key in path.split("."):
        values = values.get(key) if isinstance(values, dict) else None
    return values
