"""Rules on the form of objects: Kubernetes' schema, names, labels."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from devloop.checks.rule import Found, Rule, View
from devloop.checks.subject import Place, Subject, mapping

LABEL_WORD = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
SERVICE_NAME = re.compile(r"^[a-z]([-a-z0-9]*[a-z0-9])?$")
SUBDOMAIN = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
KEY_NAME = re.compile(r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$")
DATA_KEY = re.compile(r"^[-._a-zA-Z0-9]+$")
ROLES = ("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding")  # their names may hold a colon


def renders(view: View) -> Iterator[Found]:
    for what, why in view.facts.broken:
        yield Found(Subject({"kind": "", "metadata": {"name": what}}, "", ""), (), why)


def schema(view: View) -> Iterator[Found]:
    if view.facts.schema is None:
        return
    for one in view.subjects:
        wrong = view.facts.schema(one.item)
        if wrong is not None:
            yield Found(one, wrong[0], wrong[1])


def name_form(view: View) -> Iterator[Found]:
    for one in view.subjects:
        if problem := _name_problem(one):
            yield Found(one, ("metadata", "name"), problem)
        for box in one.containers():
            if len(box.name) > 63 or not LABEL_WORD.match(box.name):
                text = f"container name {box.name!r}: a-z, 0-9 and -, at most 63"
                yield Found(one, (*box.place, "name"), text)
            for index, name, _, _ in box.ports():
                if name and (len(name) > 15 or not LABEL_WORD.match(name) or not re.search("[a-z]", name)):
                    text = f"port name {name!r}: a-z, 0-9 and -, at most 15, with a letter"
                    yield Found(one, (*box.place, "ports", index, "name"), text)


def label_form(view: View) -> Iterator[Found]:
    for one in view.subjects:
        for place in _label_places(one):
            for key, value in mapping(one.at(*place)).items():
                if problem := _label_problem(key, value):
                    yield Found(one, (*place, key), problem)


def data_keys(view: View) -> Iterator[Found]:
    for one in view.of("ConfigMap", "Secret"):
        for field in ("data", "stringData", "binaryData"):
            for key in mapping(one.at(field)):
                if not DATA_KEY.match(str(key)) or len(str(key)) > 253:
                    yield Found(one, (field, key), f"key {key!r}: letters, digits, -, _ and .")


def twice(view: View) -> Iterator[Found]:
    seen: dict[tuple[str, str, str], Subject] = {}
    for one in view.subjects:
        first = seen.setdefault((one.kind, one.namespace, one.name), one)
        if first is not one:
            yield Found(one, ("metadata", "name"), f"{one} is also in {first.file or first.group}")


def _name_problem(subject: Subject) -> str:
    name, generated = subject.name, subject.at("metadata", "generateName")
    if not name:
        return "" if generated else "metadata.name is missing"
    if subject.kind in ("Service", "Namespace"):
        pattern = SERVICE_NAME if subject.kind == "Service" else LABEL_WORD
        start = ", a letter first" if subject.kind == "Service" else ""
        return (
            ""
            if pattern.match(name) and len(name) <= 63
            else f"name {name!r}: a-z, 0-9 and -{start}, at most 63"
        )
    if subject.kind in ROLES:
        return ""
    return (
        "" if SUBDOMAIN.match(name) and len(name) <= 253 else f"name {name!r}: a-z, 0-9, - and ., at most 253"
    )


def _label_places(subject: Subject) -> Iterator[Place]:
    yield ("metadata", "labels")
    yield ("spec", "selector") if subject.kind == "Service" else ("spec", "selector", "matchLabels")
    if subject.pod_place:
        yield (*subject.pod_place, "metadata", "labels")


def _label_problem(key: str, value: Any) -> str:
    prefix, slash, name = str(key).rpartition("/")
    if (
        len(name) > 63
        or not KEY_NAME.match(name)
        or (slash and (len(prefix) > 253 or not SUBDOMAIN.match(prefix)))
    ):
        return f"label key {key!r}: letters, digits, -, _ and ., at most 63, after an optional domain/"
    if not isinstance(value, str):
        return f"label {key}: {value!r} is not a string; write it in quotes"
    if value and (len(value) > 63 or not KEY_NAME.match(value)):
        return f"label {key}: {value!r}: letters, digits, -, _ and ., at most 63"
    return ""


RULES = (
    Rule(
        "renders", "error", "error", "Every chart renders, and every manifest is YAML with objects.", renders
    ),
    Rule("schema", "error", "error", "Every object fits Kubernetes' schema.", schema, "schema"),
    Rule("name-form", "error", "error", "Names of objects, containers and ports are valid.", name_form),
    Rule("label-form", "error", "error", "Labels and selectors are valid.", label_form),
    Rule("data-keys", "error", "error", "Keys of ConfigMaps and Secrets are valid.", data_keys),
    Rule("object-twice", "error", "error", "No object is deployed twice.", twice),
)
