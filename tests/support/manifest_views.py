"""sound.yaml with changes on it, as a view that rules judge."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

from devloop.checks.facts import BuiltImage, Facts, LayerFile, NodeCapacity
from devloop.checks.rule import View
from devloop.checks.schema import kubernetes_schema
from devloop.checks.subject import Subject
from devloop.config.schema_checks import ChecksConfig

HERE = Path(__file__).parents[1] / "checks"
SOUND = yaml.safe_load((HERE / "sound.yaml").read_text())
CASES: list[dict[str, Any]] = yaml.safe_load((HERE / "mistakes.yaml").read_text())
schema = functools.cache(lambda: kubernetes_schema("1.36"))


def view(
    changes: Mapping[str, Any] | None = None, settings: Mapping[str, Any] | None = None, **more: Any
) -> View:
    """The sound deployment with the changes made, strict; `more` are fields of Facts."""
    objects_and_facts = deepcopy(SOUND)
    for where, value in (changes or {}).items():
        what, place = where.split(" ", 1)
        change(objects_and_facts["facts"] if what == "facts" else find(objects_and_facts, what), place, value)
    subjects = tuple(
        Subject(item, item["metadata"].get("namespace", "")) for item in objects_and_facts["objects"]
    )
    return View(subjects, facts(objects_and_facts["facts"], settings or {}, **more))


def find(objects_and_facts: dict[str, Any], what: str) -> dict[str, Any]:
    kind, name = what.split("/")
    original = next(
        index
        for index, item in enumerate(SOUND["objects"])
        if item["kind"] == kind and item["metadata"]["name"] == name
    )
    found: dict[str, Any] = objects_and_facts["objects"][original]
    return found


def change(thing: Any, place: str, value: Any) -> None:
    *parts, last = place.split("/")
    for part in parts:
        thing = thing[int(part)] if isinstance(thing, list) else thing.setdefault(part, {})
    if isinstance(thing, list):
        thing.append(value) if last == "+" else thing.__setitem__(int(last), value)
    elif value is None:
        del thing[last]
    else:
        thing[last] = value


def facts(given: Mapping[str, Any], settings: Mapping[str, Any], **more: Any) -> Facts:
    built = {
        name: BuiltImage(
            **{
                **one,
                "ports": frozenset(one["ports"]),
                "files": tuple(LayerFile(**file) for file in one.get("files", ())),
            }
        )
        for name, one in given["built"].items()
    }
    fields = {
        **given,
        "built": built,
        "nodes": tuple(NodeCapacity(**one) for one in given["nodes"]),
        "others": frozenset(tuple(one) for one in given["others"]),
        "settings": ChecksConfig.model_validate({**given["settings"], **settings}),
        "broken": tuple(tuple(one) for one in given.get("broken", ())),
        "schema": schema(),
    }
    return Facts(**{**fields, **more})
