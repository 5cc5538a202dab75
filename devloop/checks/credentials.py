"""Rules on credentials: none in the open, those in Secrets as they must be. No text holds a value (S30)."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterator

from devloop.checks.links import texts_of
from devloop.checks.rule import Found, Rule, View
from devloop.checks.subject import Place, Subject, listing, mapping

# The last word of a key says what it holds: API_TOKEN does, TOKEN_EXPIRE_MINUTES does not.
KEY = re.compile(
    r"(?:^|_)(?:PASSWORD|PASSWD|PASSPHRASE|PASS|SECRET|TOKEN|CREDENTIALS?|(?:API|PRIVATE|SECRET|ACCESS|AUTH)_?KEY)$"
)
CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
HARMLESS = re.compile(r"^(?:|true|false|null|none|\d+)$", re.IGNORECASE)
SHAPES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("a private key", re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----")),
    ("a URL with a password", re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s/:@]+:(?!\$)[^\s/:@]+@")),
    ("an API key (sk-…)", re.compile(r"\bsk-[A-Za-z0-9_-]{16,}")),
    ("an API key (gsk_…)", re.compile(r"\bgsk_[A-Za-z0-9]{16,}")),
    ("a GitHub token", re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,})")),
    ("an AWS key", re.compile(r"\bA(?:KIA|SIA)[0-9A-Z]{16}\b")),
    ("a Google API key", re.compile(r"\bAIza[0-9A-Za-z_-]{35}")),
    ("a Slack token", re.compile(r"\bxox[abprs]-[0-9A-Za-z-]{10,}")),
    ("a signed token (JWT)", re.compile(r"\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}")),
)
POSTGRES = re.compile(r"^postgresql(\+\w+)?://\S+$")
AUTH, AUTH_BYTES = "BETTER_AUTH_SECRET", 32


def configmap_credential(view: View) -> Iterator[Found]:
    for one in view.of("ConfigMap"):
        for place, text in texts_of(one):
            if problem := _credential(str(place[-1]), text):
                yield Found(one, place, f"{place[-1]} {problem}; it belongs in a Secret")


def env_credential(view: View) -> Iterator[Found]:
    for one in view.workloads():
        for place, text in texts_of(one):
            # A command is judged by shape alone: its words have no key.
            key = "" if place[-1] in ("command", "args") else str(place[-1])
            if problem := _credential(key, text):
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
        for key in view.facts.secret_keys.get(one.name, ()):
            if not _values(one).get(key):
                yield Found(one, ("data",), f"{key} is missing or empty; checks.secret_keys asks for it")


def secret_shape(view: View) -> Iterator[Found]:
    for one in view.of("Secret"):
        for key, value in _values(one).items():
            for pattern, fits, problem in REQUIRED:
                if value and pattern.fullmatch(key) and not fits(value):
                    yield Found(one, (_field(one, key), key), f"{key} {problem}")


def auth_secret_equal(view: View) -> Iterator[Found]:
    first: dict[str, tuple[str, Subject]] = {}
    for one in view.of("Secret"):
        value = _values(one).get(AUTH)
        if value is None:
            continue
        known, holder = first.setdefault(one.namespace, (value, one))
        if value != known:
            text = f"{AUTH} differs from the one in {holder}: what one side signs, the other refuses"
            yield Found(one, (_field(one, AUTH), AUTH), text)


def _credential(key: str, text: str) -> str:
    """Why this is one, "" if it is none."""
    word = CAMEL.sub("_", key).replace("-", "_").replace(".", "_").upper()
    if KEY.search(word) and not HARMLESS.match(text.strip()):
        return "looks like a credential by its name"
    for what, shape in SHAPES:
        if shape.search(text):
            return f"holds {what}"
    return ""


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


REQUIRED: tuple[tuple[re.Pattern[str], Callable[[str], bool], str], ...] = (
    (
        re.compile(r"DATABASE_URL(_[A-Z]+)?"),
        lambda text: bool(POSTGRES.match(text)),
        "does not begin with postgresql:// or postgresql+DRIVER://",
    ),
    (
        re.compile(r"OPENAI_API_KEY"),
        lambda text: bool(re.match(r"^sk-\S+$", text)),
        "does not look like sk-…",
    ),
    (re.compile(r"MCP_CONFIG"), _is_json, "is not JSON"),
    (
        re.compile(AUTH),
        lambda text: len(text.encode()) >= AUTH_BYTES,
        f"is shorter than {AUTH_BYTES} bytes; openssl rand -base64 32 makes one",
    ),
)
RULES = (
    Rule(
        "configmap-credential",
        "error",
        "No ConfigMap holds a credential, by key or by shape.",
        configmap_credential,
    ),
    Rule(
        "env-credential",
        "error",
        "No variable or command of a pod holds a credential in the open.",
        env_credential,
    ),
    Rule("secret-base64", "error", "The data of a Secret is base64.", secret_base64),
    Rule(
        "secret-keys",
        "error",
        "A Secret or ConfigMap has the keys that pods and `checks.secret_keys` ask for.",
        secret_keys,
    ),
    Rule(
        "secret-shape",
        "error",
        "DATABASE_URL is `postgresql(+driver)://…`, OPENAI_API_KEY `sk-…`, MCP_CONFIG JSON, "
        "BETTER_AUTH_SECRET at least 32 bytes.",
        secret_shape,
    ),
    Rule(
        "auth-secret-equal",
        "error",
        "BETTER_AUTH_SECRET is the same in all Secrets of a namespace.",
        auth_secret_equal,
    ),
)
