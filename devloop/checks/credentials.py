"""Rules on credentials: none in the open, those in Secrets as they must be. No text holds a value (S30)."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase

from devloop.checks.links import texts_of
from devloop.checks.rule import Found, Rule, View
from devloop.checks.subject import Place, Subject, listing, mapping
from devloop.config.schema_checks import CREDENTIAL_SHAPES, ChecksConfig, ShapeConfig

CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
HARMLESS = re.compile(r"^(?:|true|false|null|none|\d+)$", re.IGNORECASE)


def configmap_credential(view: View) -> Iterator[Found]:
    credential = _judge_of(view.facts.settings)
    for one in view.of("ConfigMap"):
        for place, text in texts_of(one):
            if problem := credential(str(place[-1]), text):
                yield Found(one, place, f"{place[-1]} {problem}; it belongs in a Secret")


def env_credential(view: View) -> Iterator[Found]:
    credential = _judge_of(view.facts.settings)
    for one in view.workloads():
        for place, text in texts_of(one):
            # A command is judged by shape alone: its words have no key.
            key = "" if place[-1] in ("command", "args") else str(place[-1])
            if problem := credential(key, text):
                yield Found(one, place, f"{place[-1]} {problem}; take it from a Secret with secretKeyRef")


def secret_base64(view: View) -> Iterator[Found]:
    for one in view.of("Secret"):
        for key, value in mapping(one.at("data")).items():
            if _decoded(value) is None:
                yield Found(one, ("data", key), f"{key} is not base64; plain text goes into stringData")


def secret_keys(view: View) -> Iterator[Found]:
    held = {(one.kind, one.namespace, one.name): _keys(one) for one in view.subjects if one.kind in KEPT_IN}
    for subject, place, kind, name, key in _asked(view):
        keys = held.get((kind, subject.namespace, name))
        if keys is not None and key not in keys:
            yield Found(subject, place, f"{kind} {name} has no key {key}")
    for one in view.of("Secret"):
        for key in view.facts.settings.secret_keys.get(one.name, ()):
            if not _values(one).get(key):
                yield Found(one, ("data",), f"{key} is missing or empty; checks.secret_keys asks for it")


def secret_shape(view: View) -> Iterator[Found]:
    for one in view.of("Secret"):
        for key, value in _values(one).items():
            for shape in _shapes_of(view, key):
                if value and (problem := _misfit(shape, value)):
                    yield Found(one, (_field(one, key), key), f"{key} {problem}")


def secret_shared(view: View) -> Iterator[Found]:
    first: dict[tuple[str, str], tuple[str, Subject]] = {}
    for one in view.of("Secret"):
        for key, value in _values(one).items():
            if not any(shape.shared for shape in _shapes_of(view, key)):
                continue
            known, holder = first.setdefault((one.namespace, key), (value, one))
            if value != known:
                text = f"{key} differs from the one in {holder}; checks.secret_shapes says that it is shared"
                yield Found(one, (_field(one, key), key), text)


def _shapes_of(view: View, key: str) -> Iterator[ShapeConfig]:
    shapes = view.facts.settings.secret_shapes.items()
    return (shape for pattern, shape in shapes if fnmatchcase(key, pattern))


def _misfit(shape: ShapeConfig, value: str) -> str:
    """Why the value is not of this shape, "" if it is."""
    if shape.pattern is not None and not re.fullmatch(shape.pattern, value):
        return f"does not match {shape.pattern}"
    if shape.json_ and not _is_json(value):
        return "is not JSON"
    if len(value.encode()) < shape.min_bytes:
        return f"is shorter than {shape.min_bytes} bytes; openssl rand -base64 {shape.min_bytes} makes one"
    return ""


def _judge_of(settings: ChecksConfig) -> Callable[[str, str], str]:
    """(key, value) -> why this is a credential, "" if it is none."""
    words = "|".join(re.escape(word).replace("_", "_?") for word in settings.credential_keys)
    # The last word of a key says what it holds: API_TOKEN does, TOKEN_EXPIRE_MINUTES does not.
    named = re.compile(rf"(?:^|_)(?:{words})$")
    given = {**CREDENTIAL_SHAPES, **settings.credential_shapes}
    shapes = [(what, re.compile(shape)) for what, shape in given.items() if shape is not None]

    def judge(key: str, text: str) -> str:
        word = CAMEL.sub("_", key).replace("-", "_").replace(".", "_").upper()
        if words and named.search(word) and not HARMLESS.match(text.strip()):
            return "looks like a credential by its name"
        return next((f"holds {what}" for what, shape in shapes if shape.search(text)), "")

    return judge


KEPT_IN = {"Secret": "secretKeyRef", "ConfigMap": "configMapKeyRef"}


def _asked(view: View) -> Iterator[tuple[Subject, Place, str, str, str]]:
    for one in view.containers():
        for index, variable in enumerate(listing(one.item.get("env"))):
            for kind, field in KEPT_IN.items():
                asked = mapping(mapping(mapping(variable).get("valueFrom")).get(field))
                if asked.get("key") and not asked.get("optional"):
                    place = (*one.place, "env", index, "valueFrom", field, "key")
                    yield one.subject, place, kind, str(asked.get("name")), str(asked["key"])


def _keys(subject: Subject) -> set[str]:
    return {key for field in ("data", "stringData", "binaryData") for key in mapping(subject.at(field))}


def _field(subject: Subject, key: str) -> str:
    return "stringData" if key in mapping(subject.at("stringData")) else "data"


def _values(secret: Subject) -> dict[str, str]:
    """Key -> text, of what is text."""
    found = {key: _decoded(value) for key, value in mapping(secret.at("data")).items()}
    plain = {key: str(value) for key, value in mapping(secret.at("stringData")).items()}
    return {key: value for key, value in {**found, **plain}.items() if value is not None}


def _decoded(value: object) -> str | None:
    """None for what is no base64; bytes that are not a string come as replacement characters."""
    if not isinstance(value, str):
        return "" if value is None else None
    try:
        return base64.b64decode("".join(value.split()), validate=True).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        return None


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


RULES = (
    Rule(
        "configmap-credential",
        "warning",
        "error",
        "No ConfigMap holds a credential, by key or by shape.",
        configmap_credential,
    ),
    Rule(
        "env-credential",
        "warning",
        "error",
        "No variable or command of a pod holds a credential in the open.",
        env_credential,
    ),
    Rule("secret-base64", "error", "error", "The data of a Secret is base64.", secret_base64),
    Rule(
        "secret-keys",
        "error",
        "error",
        "A Secret or ConfigMap has the keys that pods and `checks.secret_keys` ask for.",
        secret_keys,
    ),
    Rule(
        "secret-shape",
        "error",
        "error",
        "Values of Secrets are what `checks.secret_shapes` says.",
        secret_shape,
    ),
    Rule(
        "secret-shared",
        "error",
        "error",
        "A key that `checks.secret_shapes` calls `shared` has one value in all Secrets of a namespace.",
        secret_shared,
    ),
)
