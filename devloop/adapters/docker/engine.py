"""The Docker Engine API, one engine: what devloop asks of it."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import quote

from devloop.adapters.docker.endpoint import Endpoint
from devloop.adapters.docker.housekeeping import EngineSilentError, Result, Work, run
from devloop.concurrency import in_daemon_thread

if TYPE_CHECKING:
    from docker import APIClient

from devloop.adapters.docker.connection import PIECE, Body, Connection, EngineRefusedError, messages, noted
from devloop.adapters.docker.engine_facts import (
    ContainerFacts,
    EngineInfo,
    ImageFacts,
    Json,
    Listed,
    container_of,
    facts_of,
    info_of,
    link_of,
    listed_of,
)

TEMPORARY = "dev.devloop.temporary"  # the label of containers that only serve to read an image


class Engine(Connection):
    """Any method raises PlatformError if the engine does not answer and EngineRefusedError if it refuses."""

    def __init__(self, source: Callable[[], Awaitable[Endpoint]], *, role: str = "engine") -> None:
        super().__init__(source, role=role)
        self._info: EngineInfo | None = None

    async def renew(self) -> bool:
        moved = await super().renew()
        self._info = None  # the same address may lead to another engine now
        return moved

    # --- looking ------------------------------------------------------------------------------

    async def ping(self) -> None:
        async with self._call("GET", "/_ping"):
            pass

    async def info(self) -> EngineInfo:
        """Who the engine is; read once per address."""
        if self._info is None:
            answer = await self._json("GET", "/info")
            with self._taking("GET /info"):
                self._info = info_of(answer)
        return self._info

    async def inspect(self, ref: str) -> ImageFacts | None:
        """The image, None if the engine does not have it."""
        try:
            answer = await self._json("GET", f"/images/{quote(ref, safe='/:@')}/json")
        except EngineRefusedError as refusal:
            if refusal.status == 404:
                return None
            raise
        with self._taking(f"GET /images/{ref}/json"):
            return facts_of(answer)

    async def images(self, label: str = "") -> tuple[Listed, ...]:
        """All images, or those with the label (`key` or `key=value`), untagged ones too."""
        filters = {"label": [label]} if label else {}
        found = await self.by_package("list of images", lambda client: client.images(filters=filters))
        with self._taking("GET /images/json"):
            return tuple(map(listed_of, found))

    async def prepare_exec(self, container: str, wish: Json) -> str:
        """The id of an exec that is not started yet. EngineRefusedError if there is no such container."""
        made = await self._json(
            "POST", f"/containers/{quote(container)}/exec", body=json.dumps(wish).encode()
        )
        with self._taking("POST /exec"):
            return str(made["Id"])

    async def has_container(self, name: str) -> bool:
        """Whether a container of this name runs here."""
        try:
            answer = await self._json("GET", f"/containers/{quote(name)}/json")
        except EngineRefusedError as refusal:
            if refusal.status == 404:
                return False
            raise
        with self._taking(f"GET /containers/{name}/json"):
            return bool((answer.get("State") or {}).get("Running"))

    async def caught_signals(self, container: str) -> int | None:
        """The mask of the signals that the container's first process handles (SigCgt of /proc/PID/status),
        None where the engine's machine cannot say. EngineRefusedError if it does not run."""
        query = {"ps_args": "-o pid,caught"}
        try:
            answer = await self._json("GET", f"/containers/{quote(container)}/top", query)
        except EngineRefusedError as refusal:
            if refusal.status in (404, 409):
                raise
            return None  # its ps knows no such column
        with self._taking(f"GET /containers/{container}/top"):
            rows = sorted(answer.get("Processes") or (), key=lambda row: int(row[0]))
            return int(rows[0][1], 16) if rows else None

    async def kill(self, container: str, signal: str = "KILL") -> None:
        """Send a signal, named without its SIG, to the first process. EngineRefusedError if none runs."""
        async with self._call("POST", f"/containers/{quote(container)}/kill", {"signal": signal}):
            pass

    async def container(self, container: str) -> ContainerFacts | None:
        """The container, None if there is none of that id."""
        try:
            answer = await self._json("GET", f"/containers/{quote(container)}/json")
        except EngineRefusedError as refusal:
            if refusal.status == 404:
                return None
            raise
        with self._taking(f"GET /containers/{container}/json"):
            return container_of(answer)

    async def link_at(self, container: str, path: str) -> str:
        """Where the link at this path of a container leads, "" for what is none. EngineRefusedError if
        nothing is there."""
        call = f"/containers/{quote(container)}/archive"
        async with self._call("HEAD", call, {"path": f"/{path}"}) as response:
            header = response.headers.get("X-Docker-Container-Path-Stat", "")
        with self._taking(f"HEAD {call}"):
            return link_of(header)

    async def put_archive(self, container: str, archive: bytes) -> None:
        """Unpack a tar over a container's root, with the owners that it names. EngineRefusedError."""
        headers = {"Content-Type": "application/x-tar"}
        call = (
            f"/containers/{quote(container)}/archive"  # `copyUIDGID` would give all to the container's user
        )
        async with self._call("PUT", call, {"path": "/"}, body=archive, headers=headers):
            pass

    async def create_container(self, ref: str) -> str:
        """The id of a container of the image that is never meant to run. EngineRefusedError."""
        wish = {
            "Image": ref,
            "Cmd": ["/none"],
            "HostConfig": {"NetworkMode": "none"},
            "Labels": {TEMPORARY: "true"},
        }
        made = await self._json("POST", "/containers/create", body=json.dumps(wish).encode())
        with self._taking("POST /containers/create"):
            return str(made["Id"])

    async def remove_old_containers(self, before: float) -> None:
        """Those of `create_container` that a killed devloop left; `before` in seconds since the epoch."""
        filters = {"label": [TEMPORARY], "status": ["created"]}

        def work(client: APIClient) -> None:
            for row in client.containers(all=True, filters=filters):
                if int(row.get("Created") or 0) < before:
                    client.remove_container(row["Id"], v=True, force=True)

        await self.by_package("old containers", work)

    async def archive(self, container: str, path: str) -> AsyncGenerator[bytes]:
        """A path of a container as a tar, in pieces. Raises EngineRefusedError."""
        query = {"path": f"/{path.lstrip('/')}"}
        async with self._call(
            "GET", f"/containers/{quote(container)}/archive", query, stream=True
        ) as response:
            async for piece in response.content.iter_chunked(PIECE):
                yield piece

    async def remove_container(self, container: str) -> None:
        async with self._call("DELETE", f"/containers/{quote(container)}", {"force": "1", "v": "1"}):
            pass

    # --- changing -----------------------------------------------------------------------------

    async def tag(self, ref: str, repository: str, tag: str) -> None:
        await self.by_package(f"tag {ref}", lambda client: client.tag(ref, repository, tag))

    async def remove(self, ref: str) -> bool:
        """Untag, and delete what no other tag holds. False if it is gone already or in use."""
        try:
            await self.by_package(f"removal of {ref}", lambda client: client.remove_image(ref))
        except EngineRefusedError as refusal:
            if refusal.status in (404, 409):
                return False
            raise
        return True

    async def by_package(self, call: str, work: Work[Result]) -> Result:
        """`work` with a client of the docker package; tried again where the engine has moved to.

        For what no save waits for. An answer of the wrong shape is a PlatformError.
        """
        for last in (False, True):
            endpoint = await self.endpoint()
            try:
                with self._taking(call):
                    return await in_daemon_thread(partial(run, endpoint, work))
            except EngineSilentError as error:
                if last or not await self.renew():
                    raise self._gone(endpoint, call, error.__cause__ or error) from error
        raise AssertionError("the second try raises")

    async def pull(self, name: str, tag: str, platform: str, auth: str) -> AsyncGenerator[Json]:
        """The messages of a pull. Raises EngineRefusedError when one of them is an error."""
        query = {"fromImage": name, "tag": tag} | ({"platform": platform} if platform else {})
        headers = {"X-Registry-Auth": auth} if auth else {}
        async with self._call("POST", "/images/create", query, headers=headers, stream=True) as response:
            async for message in messages(response):
                yield message

    async def load(self, archive: Body) -> AsyncGenerator[Json]:
        """Send an image archive; the engine's messages. An error may come in a 200 answer: it is raised."""
        headers = {"Content-Type": "application/x-tar"}
        async with self._call(
            "POST", "/images/load", {"quiet": "1"}, body=archive, headers=headers, stream=True
        ) as response:
            async for message in messages(response):
                yield message

    async def build(self, context: Body, query: Mapping[str, str], auth: str = "") -> AsyncGenerator[Json]:
        """The messages of a build of a tar. Closing the generator closes the connection."""
        headers = {"Content-Type": "application/x-tar"} | ({"X-Registry-Config": auth} if auth else {})
        async with self._call(
            "POST", "/build", query, body=context, headers=headers, stream=True
        ) as response:
            async for message in messages(response):
                yield message

    async def cancel_build(self, build: str) -> None:
        """End a build that was started with `buildid` = `build`; no error if it has ended."""
        try:
            async with self._call("POST", "/build/cancel", {"id": build}):
                pass
        except EngineRefusedError:
            pass

    @asynccontextmanager
    async def save(self, ref: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """The image as `docker save` writes it, in pieces."""
        async with self._call("GET", f"/images/{quote(ref, safe='/:@')}/get", stream=True) as response:
            yield noted(response.content.iter_chunked(PIECE))
