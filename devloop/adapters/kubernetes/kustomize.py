"""Kustomizations rendered by `kubectl kustomize`: a process per rendering, no cluster is asked."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from devloop.adapters.process import run
from devloop.errors import ConfigError, PlatformError

OLDEST = (1, 21)  # the first with kustomize 4: components, patches, replacements as the docs have them
_CHECKED: set[str] = set()  # kubectl commands that are new enough
REMEDY = (
    "install kubectl 1.21 or newer (https://kubernetes.io/docs/tasks/tools), or write the output of another "
    "`kustomize build` to a file and list that"
)


async def render(folder: Path, environ: Mapping[str, str] | None = None) -> str:
    """The objects as YAML documents. Cancelling ends kubectl.

    Raises ConfigError: no kubectl, one that is too old, or what kustomize found wrong with the files.
    """
    environ = os.environ if environ is None else environ
    await require(folder, environ)
    done = await run(("kubectl", "kustomize", str(folder)), environ)
    if done.code:
        first, *more = plain(done.tail()) or [f"it ended with {done.code}"]
        raise ConfigError(
            f"{folder}: kubectl kustomize: {first}",
            reason="InvalidKustomization",
            evidence=tuple(more),
            hint=f"kubectl kustomize {folder} shows the same",
        )
    return done.out.decode("utf-8", "replace")


def plain(messages: Sequence[str]) -> list[str]:
    """kubectl's output, without its log's time and process id, which differ each time."""
    lines = [
        re.sub(r'^E\d{4} [\d:.]+ +\d+ \S+\] "[^"]*" err=<?|^error: ', "", line).strip() for line in messages
    ]
    return [line for line in lines if line and line != ">"]


async def require(folder: Path, environ: Mapping[str, str]) -> None:
    """Raises ConfigError unless there is a kubectl that is new enough; asked once per PATH."""
    where = environ.get("PATH", "")
    if where in _CHECKED:
        return
    try:
        done = await run(("kubectl", "version", "--client", "-o", "json"), environ)
    except PlatformError as error:
        raise ConfigError(
            f"{folder} is a kustomization, which kubectl renders, and there is no kubectl on PATH",
            reason="NoKubectl",
            hint=REMEDY,
        ) from error
    version = version_of(done.out)
    if version is None:
        messages = "; ".join(done.tail(3)) or f"exit code {done.code}"
        raise ConfigError(
            f"{folder}: kubectl version --client printed no version: {messages}",
            reason="NoKubectl",
            hint=REMEDY,
        )
    if version < OLDEST:
        raise ConfigError(
            f"{folder} is a kustomization, which needs kubectl {OLDEST[0]}.{OLDEST[1]} or newer; "
            f"the one on PATH is {version[0]}.{version[1]}",
            reason="OldKubectl",
            hint=REMEDY,
        )
    _CHECKED.add(where)


def version_of(answer: bytes) -> tuple[int, int] | None:
    """(major, minor) of what `kubectl version --client -o json` printed; vendors write a minor of "20+"."""
    try:
        version = json.loads(answer)["clientVersion"]
        digits = "".join(one for one in str(version["minor"]) if one.isdigit())
        return int(version["major"]), int(digits)
    except (ValueError, KeyError, TypeError):
        return None
