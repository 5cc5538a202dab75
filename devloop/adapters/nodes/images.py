"""A project's images on nodes that have no Docker API: known by the label in their config (S25)."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from devloop.adapters.docker.labels import PROJECT

_TAG = re.compile(r":dl-[0-9a-f]{16}(-[a-z]+)?$")
_NEXT = "devloop-next"
AT_ONCE = 40  # blobs or images that one line asks for
DEPTH = 4  # index, manifest, config, and one to spare

Run = Callable[[str], Awaitable[str]]  # a command line -> its output


@dataclass(frozen=True, slots=True)
class StoredImage:
    """A reference of this project that a node has; `id` tells which of them are one image."""

    ref: str
    id: str


def is_tagged(ref: str) -> bool:
    """Whether a reference has a tag as devloop makes them."""
    return _TAG.search(ref) is not None


def project_in(described: Any) -> str:
    """The project that a config, or what a node reports of an image, is labelled with; "" without a label."""
    if isinstance(described, dict):
        own = described.get(PROJECT)
        if isinstance(own, str):
            return own
        described = list(described.values())
    if isinstance(described, list):
        return next((found for part in described if (found := project_in(part))), "")
    return ""


async def ask_each(run: Run, command: str, names: Iterable[str]) -> dict[str, Any]:
    """What `command NAME` prints as JSON, by name; what prints none is left out."""
    found: dict[str, Any] = {}
    wanted = list(names)
    for start in range(0, len(wanted), AT_ONCE):
        quoted = " ".join(map(shlex.quote, wanted[start : start + AT_ONCE]))
        output = await run(f"for x in {quoted}; do echo {_NEXT} $x; {command} $x 2>/dev/null; echo; done")
        for part in output.split(_NEXT)[1:]:
            name, _, text = part.strip().partition("\n")
            try:
                found[name.strip()] = json.loads(text)
            except ValueError:
                continue
    return found


async def projects_of(run: Run, content: str, digests: Iterable[str]) -> dict[str, tuple[str, str]]:
    """(config digest, project) of images by the digest of their manifest or index, as far as it can be read.

    `content` is the command that prints a blob.
    """
    found: dict[str, tuple[str, str]] = {}
    asked = {digest: digest for digest in digests}  # what is to be read -> of which image
    configs: dict[str, str] = {}
    for _ in range(DEPTH):
        blobs = await ask_each(run, content, asked)
        below: dict[str, str] = {}
        for digest, blob in blobs.items():
            if digest in configs:
                found[configs[digest]] = digest, project_in(blob)
            elif config := _digest(blob.get("config")):
                below[config] = configs[config] = asked[digest]
            else:
                manifests = blob.get("manifests") or []
                below.update({_digest(one): asked[digest] for one in manifests if _digest(one)})
        if not below:
            break
        asked = below
    return found


def _digest(described: Any) -> str:
    found = described.get("digest") if isinstance(described, Mapping) else None
    return found if isinstance(found, str) and re.fullmatch(r"sha256:[0-9a-f]{64}", found) else ""
