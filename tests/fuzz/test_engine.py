# ruff: noqa: E501 - tables of answers
"""Answers of a Docker engine: values of their types, or an error that names the engine and the call."""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
from hypothesis import given
from hypothesis import strategies as st

from devloop.adapters.checks.images import Scans, built_image
from devloop.adapters.delta.parents import ParentStore
from devloop.adapters.docker.bases import EngineBases
from devloop.adapters.docker.config_digest import Digests
from devloop.adapters.docker.endpoint import at
from devloop.adapters.docker.engine import Engine
from devloop.adapters.nodes.gc import Collector, Keep
from devloop.adapters.nodes.shells.container_shell import ContainerShell
from devloop.model import Base, BuildSpec, Service
from tests.fuzz.words import broken_bytes, cases, changed, json_texts, well
from tests.support.hostile_answers import ANSWERS, answer, serving

ID = "sha256:" + "1" * 64
SOUND: dict[str, Any] = {
    "ID": "a", "Name": "n", "OSType": "linux", "Architecture": "x86_64", "DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]], "DockerRootDir": "/d",
    "Id": ID, "Size": 5, "Created": 1, "Os": "linux", "RepoTags": ["a:1"], "Labels": {"a": "b"}, "Names": ["/x"], "State": {"Running": True},
    "Config": {"Labels": {"a": "b"}, "Env": ["A=b"], "OnBuild": ["RUN x"], "WorkingDir": "/w", "User": "u", "ExposedPorts": {"80/tcp": {}}},
    "RootFS": {"Layers": [ID]}, "Metadata": {"LastTagTime": "2024-01-01T00:00:00Z"}, "Descriptor": {"annotations": {"config.digest": ID}},
}  # fmt: skip
MESSAGES = [
    {"status": "Downloading", "id": "x", "progressDetail": {"current": 5, "total": 10}}, {"stream": "Loaded image: a:1\n"},
    {"aux": {"ID": ID}}, {"errorDetail": {"message": "no", "code": 1}, "error": "no"},
]  # fmt: skip
SERVICE = Service("web", "web", BuildSpec(Path("/nowhere"), Path("/nowhere/Dockerfile"), None, {}), ())


def archive() -> bytes:
    """What `docker save` gives: a manifest, a config and one layer."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        member = tarfile.TarInfo("app/.env")
        member.size = 3
        tar.addfile(member, io.BytesIO(b"A=b"))
    config = json.dumps({"rootfs": {"diff_ids": [ID]}, "history": [{}]}).encode()
    described = json.dumps([{"Config": "c.json", "Layers": ["l/layer.tar"], "RepoTags": ["a:1"]}]).encode()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in (
            ("manifest.json", described),
            ("c.json", config),
            ("l/layer.tar", layer.getvalue()),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


ARCHIVE = archive()
Call = Callable[[Engine, Path], Awaitable[object]]


async def _drained(messages: AsyncIterator[Any]) -> None:
    async for _ in messages:
        pass


async def _saved(engine: Engine, _: Path) -> None:
    async with engine.save("a:1") as pieces:
        await _drained(pieces)


async def _digest(engine: Engine, _: Path) -> None:
    facts = await engine.inspect("a:1")
    if facts is not None:
        assert isinstance(await Digests(engine).of("a:1", facts), str)


async def _bases(engine: Engine, _: Path) -> None:
    bases = EngineBases(engine, Digests(engine), lambda _: None, {"HOME": "/nonexistent"})
    for base in await bases.resolve(SERVICE, ["a:1"], "linux/amd64"):
        assert all(isinstance(one, str) for one in (base.id, *base.onbuild, *(base.env or ())))


async def _collected(engine: Engine, _: Path) -> None:
    class Nodes:
        stores = ()

    await Collector(engine, "p", lambda: Keep(frozenset())).collect(Nodes(), 1e9)  # type: ignore[arg-type]


CALLS: dict[str, Call] = {
    "ping": lambda engine, _: engine.ping(),
    "info": lambda engine, _: engine.info(),
    "inspect": lambda engine, _: engine.inspect("a:1"),
    "images": lambda engine, _: engine.images(),
    "has_container": lambda engine, _: engine.has_container("x"),
    "create_container": lambda engine, _: engine.create_container("x"),
    "remove_old_containers": lambda engine, _: engine.remove_old_containers(5.0),
    "load": lambda engine, _: _drained(engine.load(b"x")),
    "pull": lambda engine, _: _drained(engine.pull("x", "1", "", "")),
    "build": lambda engine, _: _drained(engine.build(b"x", {})),
    "archive": lambda engine, _: _drained(engine.archive("x", "/")),
    "tag": lambda engine, _: engine.tag("x:1", "y", "2"),
    "remove": lambda engine, _: engine.remove("x:1"),
    "save": _saved,
    "exec": lambda engine, _: ContainerShell(engine, "node").run("true"),
    "learn": lambda engine, folder: ParentStore(folder).base(engine, Base("x:1", ID)),
    "digest": _digest,
    "bases": _bases,
    "scan": lambda engine, folder: Scans(folder / "s").files(engine, "a:1", ID),
    "built": lambda engine, folder: built_image(engine, Scans(folder / "s"), "a:1", None),
    "collect": _collected,
}  # fmt: skip


def asked(call: str, text: bytes) -> None:
    async def ask() -> None:
        async with serving(text) as port:
            engine = Engine.at(at(f"tcp://127.0.0.1:{port}", "a test"))
            try:
                with tempfile.TemporaryDirectory() as made, anyio.fail_after(60):
                    await CALLS[call](engine, Path(made))
            finally:
                await engine.aclose()

    well(lambda: anyio.run(ask))


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
HEADS = st.sampled_from(
    (
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 404 No\r\n",
        b"HTTP/1.1 409 X\r\n",
        b"HTTP/1.1 500 X\r\n",
        b"HTTP/1.1 101 X\r\n",
    )
)
BODIES = (
    json_texts(SOUND)
    | json_texts([SOUND])
    | st.lists(st.sampled_from(MESSAGES).flatmap(changed), max_size=3).map(
        lambda found: "\r\n".join(map(json.dumps, found)).encode()
    )
    | broken_bytes(ARCHIVE)
)
NAMES = st.sampled_from(sorted(CALLS))


@cases(20)
@given(NAMES, BODIES, HEADS)
def test_damaged_bodies(call: str, body: bytes, head: bytes) -> None:
    asked(call, answer(body, head))


@cases(10)
@given(
    NAMES,
    broken_bytes(answer(json.dumps(SOUND).encode()))
    | broken_bytes(CHUNKED + b"4\r\n[{}]\r\n0\r\n\r\n")
    | st.sampled_from(sorted(ANSWERS.values())),
)
def test_damaged_answers(call: str, text: bytes) -> None:
    asked(call, text)
