"""The expected values of tests/topologies/*.yaml: rows of [line of the document, path, expected]."""

from __future__ import annotations

import base64
import binascii
import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Subject:
    """What some rows speak of: an object, an image, a Dockerfile, a part of config.yaml..."""

    topology: str
    kind: str
    name: str
    rows: tuple[tuple[int, str, Any], ...]
    values: tuple[str, ...] = ()
    given: Mapping[str, Any] | None = None
    release: str | None = None

    def __str__(self) -> str:
        more = [*self.values, *(self.given or {}), *([self.release] if self.release else [])]
        return "-".join([self.topology[:3], self.kind, self.name, *more])


@dataclass(frozen=True, slots=True)
class Attempt:
    """Chart values that are refused with a text, or accepted (no text)."""

    topology: str
    line: int
    values: Mapping[str, Any]
    text: str | None

    def __str__(self) -> str:
        verdict = "refused" if self.text else "accepted"
        return f"{self.topology[:3]}-{verdict}-" + ",".join(f"{k}={v}" for k, v in self.values.items())


@functools.cache
def load(topology: str) -> dict[str, Any]:
    """The document's rows, which nobody changes: read once in a process, when it collects tests."""
    found: dict[str, Any] = yaml.load((FOLDER / f"{topology}.yaml").read_text(), Loader=yaml.CSafeLoader)
    return found


def given(topology: str) -> dict[str, Any]:
    """Values that the chart requires."""
    return dict(load(topology).get("given") or {})


def subjects(topology: str, *kinds: str) -> Iterator[Subject]:
    for found in load(topology)["subjects"]:
        kind = next(key for key in found if key not in ("rows", "values", "given", "release"))
        if kind not in kinds:
            continue
        rows = tuple((line, path, value) for line, path, value in found["rows"])
        yield Subject(
            topology,
            kind,
            found[kind],
            rows,
            tuple(found.get("values", ())),
            found.get("given"),
            found.get("release"),
        )


def attempts(topology: str) -> Iterator[Attempt]:
    found = load(topology)
    for line, values, text in found.get("refused", ()):
        yield Attempt(topology, line, values, text)
    for line, values in found.get("accepted", ()):
        yield Attempt(topology, line, values, None)


def excluded(topology: str, service: str) -> list[tuple[int, str]]:
    rows = load(topology).get("excluded", {}).get(service, ())
    return [(line, path) for line, path in rows]


def at(thing: Any, path: str) -> Any:
    """The value at a dotted path; None where there is none. $c is a workload's first container and env its
    variables by name, each a value or what valueFrom says."""
    if path == "":
        return thing
    steps = path.replace("$c", "spec.template.spec.containers.0").split(".")
    if steps[0] == "env":
        container = thing["spec"]["template"]["spec"]["containers"][0]
        thing = {
            entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container.get("env", ())
        }
        steps = steps[1:]
    for step in steps:
        if isinstance(thing, list):
            number = int(step)
            thing = thing[number] if -len(thing) <= number < len(thing) else None
        elif isinstance(thing, dict):
            thing = thing.get(step)
        else:
            return None
    return thing


def differs(actual: Any, expected: Any) -> str | None:
    """What is wrong with the actual value, or None."""
    if not isinstance(expected, dict):
        return None if actual == expected else f"is {actual!r}, not {expected!r}"
    ((rule, wanted),) = expected.items()
    return None if RULES[rule](actual, wanted) else f"is {actual!r}, not {rule} {wanted!r}"


def _decoded(actual: Any, pattern: str) -> bool:
    try:
        text = base64.b64decode(actual, validate=True).decode()
    except (binascii.Error, TypeError, UnicodeDecodeError):
        return False
    return re.search(pattern, text) is not None


RULES = {
    "is": lambda actual, wanted: actual == wanted,
    "keys": lambda actual, wanted: set(actual or {}) == set(wanted),
    "matches": lambda actual, wanted: isinstance(actual, str) and re.search(wanted, actual) is not None,
    "decoded": _decoded,
    "contains": lambda actual, wanted: set(wanted) <= set(actual or ()),
    "at_most": lambda actual, wanted: actual <= wanted,
    "below": lambda actual, wanted: actual < wanted,
    "length": lambda actual, wanted: len(actual or ()) == wanted,
}
