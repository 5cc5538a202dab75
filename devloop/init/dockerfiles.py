"""Dockerfiles as `init` needs them: what they copy, expose and stand on, and which folder they build from."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator

from devloop.dockerfile.instructions import Instruction
from devloop.dockerfile.parser import Dockerfile as Parsed
from devloop.init.found import Dockerfile
from devloop.init.tree import ancestors, join, last
from devloop.init.words import dockerfile_names, is_apart, slug

_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://|git@")


def read_dockerfile(path: str, text: str) -> Dockerfile:
    """Raises DockerfileError."""
    parsed = Parsed.parse(text)
    names = {stage.name for stage in parsed.stages if stage.name}
    known = {word.partition("=")[0] for one in parsed.arguments for word in one.args if "=" in word}
    every = [one for stage in parsed.stages for one in stage.instructions]
    return Dockerfile(
        path,
        tuple(stage.name for stage in parsed.stages if stage.name),
        tuple(dict.fromkeys(source for one in every for source in _sources(one))),
        tuple(dict.fromkeys(port for one in parsed.stages[-1].instructions for port in _ports(one))),
        tuple(dict.fromkeys(stage.base for stage in parsed.stages if stage.base.lower() not in names)),
        tuple(dict.fromkeys(secret for one in every for secret in _secrets(one))),
        tuple(dict.fromkeys(name for one in every for name in _open_arguments(one) if name not in known)),
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
        number, _, protocol = word.partition("/")
        if number.isdigit() and protocol.lower() in ("", "tcp"):
            yield int(number)


def _secrets(one: Instruction) -> Iterator[str]:
    for mount in one.flag_values("mount") if one.keyword == "RUN" else ():
        fields = dict(part.partition("=")[::2] for part in mount.split(","))
        if fields.get("type") == "secret" and (name := fields.get("id") or last(fields.get("target", ""))):
            yield name


def context_of(
    dockerfile: Dockerfile, project: str, folders: frozenset[str], files: frozenset[str]
) -> tuple[str, str]:
    """(folder of the build context, why): the nearest one that has everything that the Dockerfile copies."""
    candidates = _candidates(dockerfile, project, folders, files)
    wanted = [source for source in dockerfile.copies if source not in (".", "./")]
    counted = [(sum(_has(one, source, folders, files) for source in wanted), one) for one in candidates]
    best = max(count for count, _ in counted)
    folder = next(one for count, one in counted if count == best)
    if not wanted:
        return folder, "it copies nothing by name" if not dockerfile.copies else "it copies the whole folder"
    there = [one for one in wanted if _has(folder, one, folders, files)]
    missing = [one for one in wanted if one not in there]
    shown = ", ".join(there[:3]) + (", …" if len(there) > 3 else "")
    if missing:
        return (
            folder,
            f"of what it copies {', '.join(missing[:3])} is nowhere yet" + f"; here: {shown}" * bool(there),
        )
    return folder, f"it copies {shown}"


def _candidates(
    dockerfile: Dockerfile, project: str, folders: frozenset[str], files: frozenset[str]
) -> list[str]:
    """Its own folder, unless only Dockerfiles lie there; folders of its name; the folders above."""
    own, *above = ancestors(dockerfile.path)
    inside = [one for one in files if one.startswith(f"{own}/") or own == "."]
    bare = all(one.rpartition("/")[2].startswith("Dockerfile") or one.endswith("ockerfile") for one in inside)
    names = dockerfile_names(dockerfile.path, project)
    apart = is_apart(dockerfile.path)
    twins = sorted(
        (one for one in folders if one not in (own, ".") and slug(last(one)) in names),
        key=lambda one: (one.count("/"), one),
    )
    twins = [
        one for one in twins if any(file.startswith(f"{one}/") for file in files) and not own.startswith(one)
    ]
    return list(dict.fromkeys((*(twins if bare and apart else ()), own, *above, *twins)))


def _has(folder: str, source: str, folders: frozenset[str], files: frozenset[str]) -> bool:
    path = join(folder, source)
    if not re.search(r"[*?\[]", path):
        return path in files or path in folders
    start = re.split(r"[*?\[]", path)[0]
    there = (one for listed in (files, folders) for one in listed if one.startswith(start))
    return any(fnmatch.fnmatchcase(one, path) for one in there)
