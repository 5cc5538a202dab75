"""An engine that goes away in the middle of a build: not the tree's fault, so another look helps."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from devloop.adapters.build.builder import ImageBuilder
from devloop.adapters.build.transcript import Transcript
from devloop.adapters.docker.config_digest import Digests
from devloop.adapters.docker.endpoint import Endpoint, current
from devloop.adapters.docker.engine import Engine
from devloop.errors import BuildError, PlatformError, StageError
from tests.adapters.build.test_builder import no_buildkit, sleeping, without_command
from tests.adapters.conftest import Bench, fingerprint
from tests.support.fake_engine import FakeEngine


@pytest.mark.engine
@pytest.mark.parametrize("back", [False, True], ids=["gone", "restarted"])
@pytest.mark.parametrize("how", ["cli", "buildkit", "legacy"])
async def test_s20_an_engine_that_ends_in_mid_build_is_waited_for(
    bench: Bench, tiny: str, how: str, back: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker repeats what a PlatformError or `outside_tree` ended; any other failure waits for a save."""
    if how != "cli":
        without_command(bench, monkeypatch)
    if how == "legacy":
        monkeypatch.setattr("devloop.adapters.build.builder.ImageBuilder._has_buildkit", no_buildkit)
    seconds = str(1_000_000 + time.time_ns() % 1_000_000)
    service = bench.service(f"FROM {tiny}\nRUN sleep {seconds}\n")
    upstream = current(os.environ)
    caught: list[PlatformError | StageError] = []
    async with Relay.open(upstream) as relay:
        endpoint = replace(upstream, host=relay.host)
        engine = Engine.at(endpoint, role="build engine")
        builder = replace(bench, engine=engine, digests=Digests(engine)).builder()

        async def build() -> None:
            try:
                await builder.build(service, fingerprint())
            except (PlatformError, StageError) as error:
                caught.append(error)

        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                group.start_soon(build)
                while not sleeping(seconds):
                    await anyio.sleep(0.02)
                relay.cut(back=back)
        await engine.aclose()
    (error,) = caught
    assert isinstance(error, PlatformError) or error.outside_tree, error
    assert "iid" not in error.message


async def test_an_engine_that_refuses_to_be_asked_hides_no_error_of_a_build(tmp_path: Path) -> None:
    with FakeEngine(tmp_path / "socket") as fake:
        engine = Engine.at(Endpoint(fake.host), role="build engine")
        await engine.ping()
        fake.refused_ping = 503
        nothing: Any = None
        builder = ImageBuilder(engine, Digests(engine), nothing, "", nothing, {}, nothing)
        with pytest.raises(BuildError, match="exit code: 1"):
            async with builder._turn():
                raise BuildError("RUN false: exit code: 1", reason="BuildFailed")
        await engine.aclose()


class Relay:
    """Passes bytes on to an engine, until its connections are cut."""

    def __init__(self, upstream: Endpoint) -> None:
        self._upstream = upstream
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self.host = ""

    @classmethod
    @asynccontextmanager
    async def open(cls, upstream: Endpoint) -> AsyncIterator[Relay]:
        relay = cls(upstream)
        relay._server = await asyncio.start_server(relay._serve, "127.0.0.1", 0)
        relay.host = f"tcp://127.0.0.1:{relay._server.sockets[0].getsockname()[1]}"
        try:
            yield relay
        finally:
            relay.cut(back=False)

    def cut(self, *, back: bool) -> None:
        """Reset every connection; `back`: new ones are taken."""
        if not back and self._server is not None:
            self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self._upstream.socket is not None, "these tests use the engine of this machine"
        up_reader, up_writer = await asyncio.open_unix_connection(self._upstream.socket)
        ends = {writer, up_writer}
        self._writers |= ends
        try:
            await asyncio.gather(_pump(reader, up_writer), _pump(up_reader, writer))
        finally:
            self._writers -= ends
            for end in ends:
                end.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.write_eof()


@pytest.mark.parametrize(
    "message",
    [
        "cannot write /tmp/devloop-1/iid because server did not provide an image ID",
        "rpc error: code = Unavailable desc = error reading from server: EOF",
        "rpc error: code = Unavailable desc = transport is closing",
        'error during connect: Post "http://docker/grpc": EOF',
        "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
        "no active session for 5tk2vpzhs6pd3ijyt3u9hxvsa: context canceled",
        "read unix @->/run/docker.sock: read: connection reset by peer",
    ],
)
def test_what_an_ended_connection_leaves_is_not_the_trees(message: str) -> None:
    error = _transcript().failure("docker build of app", message, "FROM x\n")
    assert error.outside_tree
    assert "/tmp/" not in error.message


@pytest.mark.parametrize(
    "message",
    ["dockerfile parse error line 8: unknown instruction: RNU", "invalid reference format"],
)
def test_what_the_tree_says_waits_for_a_save(message: str) -> None:
    assert not _transcript().failure("docker build of app", message, "FROM x\n").outside_tree


def test_a_step_that_printed_like_words_waits_for_a_save() -> None:
    """What a RUN prints is not what the engine says."""
    transcript = _transcript()
    transcript.begin("1", "[2/2] RUN make")
    transcript.say("1", "test: unexpected EOF, connection reset by peer")
    transcript.end("1", "executor failed running [/bin/sh -c make]: exit code: 2")
    assert not transcript.failure("docker build of app", "", "FROM x\nRUN make\n").outside_tree


def _transcript() -> Transcript:
    return Transcript("app", lambda event: None)
