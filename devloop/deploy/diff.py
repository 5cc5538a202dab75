"""What would change in the cluster, as a unified diff for people; values of Secrets are never in it. Pure."""

from __future__ import annotations

import base64
import binascii
import difflib
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import yaml

Json = dict[str, Any]
NOISE = frozenset(
    {
        "managedFields",
        "resourceVersion",
        "generation",
        "uid",
        "creationTimestamp",
        "selfLink",
        "ownerReferences",
    }
)
SALT = os.urandom(16)
# Annotations that say nothing of what would change: kubectl's copy of the object, and who made it.
UNSHOWN = frozenset({"kubectl.kubernetes.io/last-applied-configuration", "dev.devloop/created-by"})


@dataclass(frozen=True, slots=True)
class Preview:
    """One object as it is (None = not there) and as it would be (None = gone)."""

    name: str  # "deployment/web"
    namespace: str
    live: Json | None
    wanted: Json | None


def content(item: Json) -> Json:
    """The object without its status and what the server notes in its metadata."""
    meta = {key: value for key, value in item["metadata"].items() if key not in NOISE}
    return {**{key: value for key, value in item.items() if key != "status"}, "metadata": meta}


Change = Literal["create", "change", "delete"]


@dataclass(frozen=True, slots=True)
class Difference:
    """What would be done with one object, and the lines of its unified diff."""

    name: str
    namespace: str
    change: Change
    lines: tuple[str, ...]


def differences(previews: Sequence[Preview]) -> list[Difference]:
    """Of the objects that would change."""
    found = []
    for one in previews:
        before, after = _text(one.live), _text(one.wanted)
        where = f"{one.namespace}/{one.name}" if one.namespace else one.name
        lines = tuple(difflib.unified_diff(before, after, f"live {where}", f"tree {where}", lineterm=""))
        if lines:
            change: Change = "create" if one.live is None else "delete" if one.wanted is None else "change"
            found.append(Difference(one.name, one.namespace, change, lines))
    return found


def diff(previews: Sequence[Preview]) -> list[str]:
    """Lines of a unified diff, empty where nothing would change."""
    return [line for one in differences(previews) for line in one.lines]


def _text(item: Json | None) -> list[str]:
    if item is None:
        return []
    shown = content(item)
    meta = shown["metadata"]
    notes = {key: value for key, value in (meta.pop("annotations", None) or {}).items() if key not in UNSHOWN}
    if notes:
        meta["annotations"] = notes
    if item.get("kind") == "Secret":
        shown = masked(shown)
    return yaml.safe_dump(shown, sort_keys=True, default_flow_style=False).splitlines()


def masked(secret: Json) -> Json:
    """The Secret with a mark in the place of each value: enough to see that one changed, and good for this
    process alone, so nothing can be guessed from it."""
    shown = dict(secret)
    for section in ("data", "stringData"):
        if isinstance(secret.get(section), dict):
            shown[section] = {key: _mask(str(value), section) for key, value in secret[section].items()}
    return shown


def _mask(value: str, section: str) -> str:
    try:
        raw = base64.b64decode(value) if section == "data" else value.encode()
    except (binascii.Error, ValueError):
        raw = value.encode()
    return f"*** ({len(raw)} bytes, mark {hashlib.sha256(SALT + raw).hexdigest()[:6]})"
