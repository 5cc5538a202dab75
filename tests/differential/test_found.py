"""Dockerfiles and edits for which a delta once was another image than a full build."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import docker
import pytest

from devloop.delta.placement import roots
from devloop.model import FileEntry
from tests.differential.case import SERVER, Case
from tests.differential.edits import Edit
from tests.differential.runner import by_delta, judge, observe
from tests.differential.server import serving
from tests.support.delta_bench import BASE, make_base

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]

USERS = {
    "rootfs/etc/passwd": "root:x:0:0::/:/bin/sh\nsvc:x:500:500::/:/bin/sh\n",
    "rootfs/etc/group": "root:x:0:\nsvc:x:500:\n",
}


def case(lines: str, tree: Mapping[str, str | None], *edits: Edit) -> Case:
    return Case(0, f"FROM {BASE}\n{lines}\n", tree, (edits,))


# name -> the case, and what has to come of it
FOUND: dict[str, tuple[Case, str]] = {
    "a later ADD of a URL writes the new file's path": (
        case(f"COPY . /app/\nADD {SERVER}/set.ini /app/set.ini", {"a": "a\n"}, Edit("create", "set.ini")),
        "full build: WrittenAgain",
    ),
    "a later ADD of a URL goes into the directory": (
        case(f"COPY . /app/\nADD {SERVER}/set.ini /app/", {"a": "a\n"}, Edit("create", "set.ini")),
        "full build: WrittenAgain",
    ),
    "a later ADD of a URL writes below a directory that turns up": (
        case(f"COPY . /app/\nADD {SERVER}/set.ini /app/sub/", {"a": "a\n"}, Edit("create", "sub/set.ini")),
        "full build: WrittenAgain",
    ),
    "an ADD takes files of the context and a URL": (
        case(f"ADD src {SERVER}/a /app/", {"src/a": "a\n", "src/b": "b\n"}, Edit("write", "src/a")),
        "full build: Mixed",
    ),
    "--chown=NAME and a passwd that was copied": (
        case(
            "COPY rootfs/ /\nCOPY --chown=svc:svc src /app",
            {**USERS, "src/a": "a\n"},
            Edit("user", "rootfs/etc/passwd", "7"),
        ),
        "full build: OwnerUnknown",
    ),
    "--chown=NAME and a group that was copied": (
        case(
            "COPY rootfs/etc/ /etc/\nCOPY --chown=5:svc src /app",
            {**USERS, "src/a": "a\n"},
            Edit("user", "rootfs/etc/group", "7"),
        ),
        "full build: OwnerUnknown",
    ),
    "a passwd that comes with the files that it names": (
        case(
            "COPY --chown=svc rootfs/ src /",
            {**USERS, "src/a": "a\n"},
            Edit("user", "rootfs/etc/passwd", "7"),
        ),
        "full build: OwnerUnknown",
    ),
    "USER, WORKDIR and a passwd that was copied": (
        case("COPY rootfs/ /\nUSER svc\nWORKDIR /data", USERS, Edit("user", "rootfs/etc/passwd", "7")),
        "full build: OwnerUnknown",
    ),
    "an edit beside the passwd, and a name after it": (
        case(
            "COPY rootfs/ /\nCOPY --chown=svc src /app",
            {**USERS, "src/a": "a\n", "rootfs/etc/conf": "c\n"},
            Edit("write", "rootfs/etc/conf"),
        ),
        "made",
    ),
    "a file's destination becomes a directory": (
        case("COPY . /app/\nCOPY prod /app/config", {"prod": "p\n"}, Edit("mkdir", "config")),
        "full build: Collides",
    ),
    "a file's destination becomes a link": (
        case("COPY . /app/\nCOPY prod /app/.env", {"prod": "p\n"}, Edit("link", ".env", "../srv/shared")),
        "full build: DestinationMoved",
    ),
    "a file's destination was a file, and becomes a link": (
        case(
            "COPY . /app/\nCOPY prod /app/.env",
            {"prod": "p\n", ".env": "dev\n"},
            Edit("link", ".env", "../srv/shared"),
        ),
        "full build: DestinationMoved",
    ),
    "a link in the middle of a chain of links turns": (
        case(
            "COPY src/ /app/\nCOPY prod /app/one/x",
            {"prod": "p\n", "src/one": "-> two", "src/two": "-> /srv"},
            Edit("link", "src/two", "/odd"),
        ),
        "full build: DestinationMoved",
    ),
    "what a later COPY copies into a directory becomes a directory there": (
        case("COPY src/ /app/\nCOPY prod /app/", {"prod": "p\n", "src/a": "a\n"}, Edit("mkdir", "src/prod")),
        "full build: Collides",
    ),
    "a later COPY brings a directory where a link turns up": (
        case(
            "COPY src/ /app/\nCOPY conf/ /app/",
            {"conf/pkg/a": "a\n", "src/pkg/b": "b\n"},
            Edit("link", "src/pkg", "/srv"),
        ),
        "full build: Collides",
    ),
    "the last of a wildcard's files is that of a walk": (
        case("COPY */x.txt /dest/", {"a/x.txt": "a\n", "a-b/x.txt": "b\n"}, Edit("write", "a-b/x.txt")),
        "made",
    ),
    "the first of a wildcard's files is covered": (
        case("COPY */x.txt /dest/", {"a/x.txt": "a\n", "a-b/x.txt": "b\n"}, Edit("write", "a/x.txt")),
        "made",
    ),
    "dots and dashes in a wildcard's directories": (
        case(
            "COPY */d /dest/",
            {"a/d/f": "a\n", "a.b/d/f": "b\n", "a b/d/f": "c\n", "a0/d/f": "d\n"},
            Edit("write", "a.b/d/f"),
            Edit("write", "a0/d/f"),
        ),
        "made",
    ),
    "a wildcard behind a link, and a COPY of what the link leads to": (
        case(
            "COPY l/*.txt /a/\nCOPY pkg /b/", {"pkg/x.txt": "x\n", "l": "-> pkg"}, Edit("write", "pkg/x.txt")
        ),
        "full build: SourceLink",
    ),
    "ARGs of one line that hang on each other": (
        case(
            "ARG A=1 B=${A}2\nCOPY src /x$B/",
            {"src/a": "a\n"},
            Edit("create", "src/new"),
        ),
        "full build: Unresolvable",
    ),
    "a directory turns setgid, and a later line makes one in it": (
        case(
            "COPY src /app\nCOPY conf /app/d/new/",
            {"src/d/a": "a\n", "conf/b": "b\n"},
            Edit("chmod", "src/d", "2755"),
        ),
        "full build: DestinationMoved",
    ),
    "a WORKDIR in a directory that turns setgid": (
        case("COPY src /app\nWORKDIR /app/d/new", {"src/d/a": "a\n"}, Edit("chmod", "src/d", "2755")),
        "full build: WrittenAgain",
    ),
    "a directory turns up that the base has too": (
        case("COPY src /srv", {"src/a": "a\n"}, Edit("mkdir", "src/sub", "1")),
        "made",
    ),
    "--chmod and a setuid file": (
        case("COPY --chmod=0755 src /app", {"src/a": "a\n"}, Edit("chmod", "src/a", "4755")),
        "full build: BuildersDiffer",
    ),
}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    client = docker.from_env().api
    make_base(client)
    client.close()
    with serving() as address:
        yield address


@pytest.mark.slow
@pytest.mark.parametrize("name", FOUND)
def test_s9_an_image_of_devloop_is_that_of_a_full_build(name: str, server: str, tmp_path: Path) -> None:
    found, outcome = FOUND[name]
    observation = observe(found, tmp_path / "case", server)
    assert not isinstance(observation, str), observation
    try:
        verdict = judge(observation, by_delta)
    finally:
        observation.close()
    assert not verdict.differences
    assert verdict.counts == {outcome: 1}


def test_the_matches_of_a_wildcard_come_in_the_order_of_a_walk() -> None:
    names = ["a/x", "a-b/x", "a.b/x", "a b/x", "a/x/y"]
    files = {name: FileEntry(name, "file", 0o644, 0, 0, "") for name in names}
    found = [real for _, real in roots("*/x", files).found]
    assert found == ["a/x", "a b/x", "a-b/x", "a.b/x"]
