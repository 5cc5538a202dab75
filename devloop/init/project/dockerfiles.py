"""Dockerfiles as `init` needs them: what they copy, expose and stand on, and which folder they build from."""

from __future__ import annotations

import re
from collections.abc import Iterator

from devloop.dockerfile.instructions import Instruction
from devloop.dockerfile.parser import Dockerfile as Parsed
from devloop.init.found import Dockerfile
from devloop.init.paths import last
from devloop.init.words import tcp_port

_VARIABLE = re.compile(r"\$\{?(\w+)")
_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://|git@")


def read_dockerfile(path: str, text: str) -> Dockerfile:
    """Raises DockerfileError."""
    parsed = Parsed.parse(text)
    names = {stage.name for stage in parsed.stages if stage.name}
    known = {word.partition("=")[0] for one in parsed.arguments for word in one.args if "=" in word}
    every = [one for stage in parsed.stages for one in stage.instructions]
    in_from = {name for stage in parsed.stages for name in _VARIABLE.findall(stage.base)}
    opened = [name for one in parsed.arguments for name in _open_arguments(one) if name in in_from]
    opened += [name for one in every for name in _open_arguments(one) if name not in known]
    return Dockerfile(
        path,
        tuple(stage.name for stage in parsed.stages if stage.name),
        tuple(dict.fromkeys(source for one in every for source in _sources(one))),
        tuple(dict.fromkeys(port for one in parsed.stages[-1].instructions for port in _ports(one))),
        tuple(dict.fromkeys(stage.base for stage in parsed.stages if stage.base.lower() not in names)),
        tuple(dict.fromkeys(secret for one in every for secret in _secrets(one))),
        tuple(dict.fromkeys(opened)),
        len(parsed.stages),
    )


def _open_arguments(one: Instruction) -> Iterator[str]:
    """ARGs without a default, but for those that the builder sets itself."""
    for word in one.args if one.keyword == "ARG" else ():
        if (
            "=" not in word
            and not word.startswith(("TARGET", "BUILD"))
            and not word.lower().endswith("_proxy")
        ):
            yield word


def _sources(one: Instruction) -> Iterator[str]:
    if one.keyword not in ("COPY", "ADD") or one.flag("from") or one.heredocs:
        return
    for word in one.args[:-1]:
        if not _URL.match(word) and "$" not in word:
            yield word.lstrip("/") or "."


def _ports(one: Instruction) -> Iterator[int]:
    for word in one.args if one.keyword == "EXPOSE" else ():
        if port := tcp_port(word):
            yield port


def _secrets(one: Instruction) -> Iterator[str]:
    for mount in one.flag_values("mount") if one.keyword == "RUN" else ():
        fields = dict(part.partition("=")[::2] for part in mount.split(","))
        if fields.get("type") == "secret" and (name := fields.get("id") or last(fields.get("target", ""))):
            yield name
