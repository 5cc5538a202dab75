"""The Docker Engine API over HTTP, the one way to every engine. Long because it is the whole client."""

from __future__ import annotations

import io
import json
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import aiohttp
import anyio
from aiohttp.http_exceptions import HttpProcessingError

from devloop import activity
from devloop.adapters.docker.endpoint import Endpoint
from devloop.adapters.tar_stream import Pieces
from devloop.borders import ENGINE_ANSWER
from devloop.concurrency import closed
from devloop.errors import DevloopError, PlatformError

Json = dict[str, Any]
Body = AsyncIterator[bytes] | bytes | Pieces
CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 30.0  # for calls that only look something up
CHANGE_SECONDS = 120.0  # for calls that change the engine's disk, which may be busy
PIECE = 1 << 20
TEMPORARY = "dev.devloop.temporary"  # the label of containers that only serve to read an image
CONFIG_DIGEST = "config.digest"  # BuildKit's annotation, in a descriptor of the containerd image store
_JSON = {"Content-Type": "application/json"}

_QUICK = aiohttp.ClientTimeout(total=ANSWER_SECONDS, connect=CONNECT_SECONDS)
_CHANGE = aiohttp.ClientTimeout(total=CHANGE_SECONDS, connect=CONNECT_SECONDS)
_STREAM = aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS, sock_read=None)


class EngineRefusal(DevloopError):
    """The engine answered, and the answer was no. Adapters turn it into the error of their stage."""

    default_reason = "EngineRefused"
    default_outside = True

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status  # of HTTP; 0 = inside a stream that began with 200


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What one engine says about itself. `containerd_store`: Ids are manifest digests there (S2)."""

    id: str
    name: str
    version: str
    os: str
    architecture: str
    containerd_store: bool
    root: str = ""

    @property
    def identity(self) -> tuple[str, str, str]:
        """What tells engines apart: the ID alone may be shared where a machine was cloned with its key."""
        return self.id, self.name, self.root

    @property
    def platform(self) -> str:
        return f"{self.os}/{architecture(self.architecture)}"


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """One image as an engine holds it. `id` is the engine's own Id: see `config_digest` (S2)."""

    id: str
    size: int
    os: str
    architecture: str
    variant: str
    diff_ids: tuple[str, ...]
    onbuild: tuple[str, ...]
    tags: tuple[str, ...]
    tagged_at: str
    labels: Mapping[str, str] = field(default_factory=dict)
    env: tuple[str, ...] = ()
    workdir: str = ""
    user: str = ""
    ports: tuple[str, ...] = ()  # "8000/tcp"
    config: str = ""  # the config's digest, where the containerd image store has noted it

    @property
    def platform(self) -> str:
        return f"{self.os}/{architecture(self.architecture)}"


@dataclass(frozen=True, slots=True)
class Listed:
    """One line of the engine's list of images; `created` in seconds since the epoch."""

    id: str
    refs: tuple[str, ...]
    labels: Mapping[str, str]
    created: int


def architecture(name: str) -> str:
    """Go's word for a machine, whatever `uname` says."""
    return {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}.get(name, name)


class Engine:
    """One engine. Its address is asked for when a connection fails, because it may have moved (S13).

    Any method raises PlatformError if the engine does not answer and EngineRefusal if it says no. No API
    version is pinned: a request without one gets the engine's own, and every engine has what is used here.
    """

    def __init__(self, source: Callable[[], Awaitable[Endpoint]], *, role: str = "engine") -> None:
        self._source = source
        self._role = role
        self._endpoint: Endpoint | None = None
        self._session: aiohttp.ClientSession | None = None
        self._info: EngineInfo | None = None
        self._digests: dict[str, str] = {}
        self._moving = anyio.Lock()

    @classmethod
    def at(cls, endpoint: Endpoint, *, role: str = "engine") -> Engine:
        """The engine of an address that does not move."""

        async def same() -> Endpoint:
            return endpoint

        return cls(same, role=role)

    async def aclose(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def endpoint(self) -> Endpoint:
        """Where the engine is, as far as is known now."""
        if self._endpoint is None:
            self._endpoint = await self._source()
        return self._endpoint

    async def renew(self) -> bool:
        """Read the address anew (S13). True if it has moved; old connections are dropped then."""
        async with self._moving:
            before, now = self._endpoint, await self._source()
            self._endpoint, self._info = now, None
            if before == now:
                return False
            await self.aclose()
            return True

    # --- looking ------------------------------------------------------------------------------

    async def ping(self) -> None:
        async with self._call("GET", "/_ping"):
            pass

    async def info(self) -> EngineInfo:
        """Who the engine is; read once per address."""
        if self._info is None:
            answer = await self._json("GET", "/info")
            with self._taking("GET /info"):
                self._info = _info(answer)
        return self._info

    async def inspect(self, ref: str) -> ImageFacts | None:
        """The image, None if the engine does not have it."""
        try:
            answer = await self._json("GET", f"/images/{quote(ref, safe='/:@')}/json")
        except EngineRefusal as refusal:
            if refusal.status == 404:
                return None
            raise
        with self._taking(f"GET /images/{ref}/json"):
            return _facts(answer)

    async def images(self, label: str = "") -> tuple[Listed, ...]:
        """All images, or those with the label (`key` or `key=value`), untagged ones too."""
        filters = json.dumps({"label": [label]} if label else {})
        answer = await self._json("GET", "/images/json", {"filters": filters})
        with self._taking("GET /images/json"):
            return tuple(map(_listed, answer))

    async def prepare_exec(self, container: str, wish: Json) -> str:
        """The id of an exec that is made and not started yet. EngineRefusal if there is no such container."""
        made = await self._json(
            "POST", f"/containers/{quote(container)}/exec", body=json.dumps(wish).encode()
        )
        with self._taking("POST /exec"):
            return str(made["Id"])

    async def has_container(self, name: str) -> bool:
        """Whether a container of this name runs here."""
        try:
            answer = await self._json("GET", f"/containers/{quote(name)}/json")
        except EngineRefusal as refusal:
            if refusal.status == 404:
                return False
            raise
        with self._taking(f"GET /containers/{name}/json"):
            return bool((answer.get("State") or {}).get("Running"))

    async def create_container(self, ref: str) -> str:
        """The id of a container of the image that is never meant to run. EngineRefusal."""
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
        filters = json.dumps({"label": [TEMPORARY], "status": ["created"]})
        for row in await self._json("GET", "/containers/json", {"all": "1", "filters": filters}):
            if int(row.get("Created") or 0) < before:
                await self.remove_container(str(row["Id"]))

    async def archive(self, container: str, path: str) -> AsyncGenerator[bytes]:
        """A path of a container as a tar, in pieces. Raises EngineRefusal."""
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
        async with self._call(
            "POST", f"/images/{quote(ref, safe='/:@')}/tag", {"repo": repository, "tag": tag}
        ):
            pass

    async def remove(self, ref: str) -> bool:
        """Untag, and delete what no other tag holds. False if it is gone already or in use."""
        try:
            async with self._call("DELETE", f"/images/{quote(ref, safe='/:@')}"):
                return True
        except EngineRefusal as refusal:
            if refusal.status in (404, 409):
                return False
            raise

    async def pull(self, name: str, tag: str, platform: str, auth: str) -> AsyncGenerator[Json]:
        """The messages of a pull. Raises EngineRefusal when one of them is an error."""
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
        except EngineRefusal:
            pass

    @asynccontextmanager
    async def save(self, ref: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """The image as `docker save` writes it, in pieces."""
        async with self._call("GET", f"/images/{quote(ref, safe='/:@')}/get", stream=True) as response:
            yield _noted(response.content.iter_chunked(PIECE))

    # --- HTTP ---------------------------------------------------------------------------------

    async def _json(
        self, method: str, path: str, query: Mapping[str, str] | None = None, *, body: bytes | None = None
    ) -> Any:
        async with self._call(method, path, query, body=body, headers=_JSON) as response:
            text = await response.read()
        with self._taking(f"{method} {path}"):
            return json.loads(text)

    def _taking(self, call: str) -> AbstractContextManager[None]:
        """Around the lines that take an answer apart."""
        endpoint = self._endpoint
        where = f"{self._role} {endpoint.host} (from {endpoint.origin})" if endpoint else self._role
        return ENGINE_ANSWER(f"{where}: {call}: the answer is none of a Docker engine")

    @asynccontextmanager
    async def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        body: Body | None = None,
        headers: Mapping[str, str] | None = None,
        stream: bool = False,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One request, its refusals raised. A look-up is tried again where the engine has moved to."""
        timeout = _STREAM if stream else _QUICK if method == "GET" else _CHANGE
        body = bytes(body) if isinstance(body, Pieces) and len(body) <= PIECE else body
        stream_body = None if isinstance(body, bytes | Pieces | None) else _Sending(body)
        try:
            async with self._answered(method, path, query, body, stream_body, headers, timeout) as response:
                yield response
        finally:
            if stream_body is not None:
                await closed(body)

    @asynccontextmanager
    async def _answered(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Body | None,
        stream_body: _Sending | None,
        headers: Mapping[str, str] | None,
        timeout: aiohttp.ClientTimeout,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        for last in (False, True):
            endpoint = await self.endpoint()
            session = self._session = self._session or _session(endpoint)
            sent = stream_body or _sendable(body)
            try:
                async with session.request(
                    method,
                    endpoint.url + path,
                    params=query,
                    data=sent,
                    headers=headers,
                    timeout=timeout,
                    allow_redirects=False,
                ) as response:
                    await _check(response)
                    last = True  # the answer is here: whatever goes wrong now is not for a second try
                    yield response
                    return
            except (aiohttp.ClientError, HttpProcessingError, OSError, TimeoutError) as error:
                if stream_body is not None and stream_body.error is not None:
                    raise stream_body.error from None  # what ended the request was its own body
                # A body that was streamed once cannot be sent again.
                if last or stream_body is not None or not await self.renew():
                    raise self._gone(endpoint, f"{method} {path}", error) from error

    def _gone(self, endpoint: Endpoint, call: str, error: BaseException) -> PlatformError:
        why = str(error) or type(error).__name__
        if isinstance(error, TimeoutError):
            why = "no answer in time"
        return PlatformError(
            f"{self._role} {endpoint.host} (from {endpoint.origin}): {call}: {why}",
            reason="EngineGone",
            hint=_hint(endpoint, error),
        )


def _sendable(body: Body | None) -> object:
    """What can be sent again, in a shape that aiohttp does not copy as a whole."""
    if isinstance(body, Pieces):
        return _slices(body)
    return io.BytesIO(body) if isinstance(body, bytes) and len(body) > PIECE else body


async def _slices(pieces: Pieces) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


class _Sending:
    """A body on its way, with the error that ended it: aiohttp would only tell of a broken connection."""

    def __init__(self, body: AsyncIterator[bytes]) -> None:
        self._body = body
        self.error: Exception | None = None

    def __aiter__(self) -> _Sending:
        return self

    async def __anext__(self) -> bytes:
        activity.note()
        try:
            return await anext(self._body)
        except StopAsyncIteration:
            raise
        except Exception as error:
            self.error = error
            raise


def _info(answer: Json) -> EngineInfo:
    status = {str(row[0]): str(row[1]) for row in answer.get("DriverStatus") or () if len(row) > 1}
    return EngineInfo(
        str(answer.get("ID", "")),
        str(answer.get("Name", "")),
        str(answer.get("ServerVersion", "")),
        str(answer.get("OSType", "linux")),
        str(answer.get("Architecture", "")),
        status.get("driver-type", "").startswith("io.containerd.snapshotter"),
        str(answer.get("DockerRootDir", "")),
    )


def _facts(answer: Json) -> ImageFacts:
    config = answer.get("Config") or {}
    return ImageFacts(
        str(answer["Id"]),
        int(answer.get("Size") or 0),
        str(answer.get("Os") or "linux"),
        str(answer.get("Architecture") or ""),
        str(answer.get("Variant") or ""),
        _texts((answer.get("RootFS") or {}).get("Layers")),
        _texts(config.get("OnBuild")),
        _texts(answer.get("RepoTags")),
        str((answer.get("Metadata") or {}).get("LastTagTime") or answer.get("Created") or ""),
        _labels(config.get("Labels")),
        _texts(config.get("Env")),
        str(config.get("WorkingDir") or ""),
        str(config.get("User") or ""),
        _texts(config.get("ExposedPorts")),
        str(((answer.get("Descriptor") or {}).get("annotations") or {}).get(CONFIG_DIGEST) or ""),
    )


def _listed(row: Json) -> Listed:
    refs = tuple(tag for tag in _texts(row.get("RepoTags")) if tag != "<none>:<none>")
    return Listed(str(row["Id"]), refs, _labels(row.get("Labels")), int(row.get("Created") or 0))


def _texts(value: Any) -> tuple[str, ...]:
    """Of a list, or the keys of a mapping. Raises TypeError for anything else."""
    if isinstance(value, str | int):
        raise TypeError(f"{type(value).__name__} where a list is expected")
    return tuple(map(str, value or ()))


def _labels(value: Any) -> dict[str, str]:
    return {str(key): str(one) for key, one in (value or {}).items()}


def _session(endpoint: Endpoint) -> aiohttp.ClientSession:
    connector: aiohttp.BaseConnector
    if endpoint.socket is not None:
        connector = aiohttp.UnixConnector(path=endpoint.socket, limit=0)
    else:
        connector = aiohttp.TCPConnector(limit=0, ssl=endpoint.tls() or True)
    # The engine's own proxy settings are for its pulls; between devloop and the engine there is none.
    return aiohttp.ClientSession(connector=connector, trust_env=False, read_bufsize=PIECE)


async def _check(response: aiohttp.ClientResponse) -> None:
    if response.status < 300:
        return
    text = (await response.read()).decode(errors="replace")
    try:
        message = str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError, RecursionError):
        message = text.strip() or f"HTTP {response.status}"
    raise EngineRefusal(message, response.status)


async def messages(response: aiohttp.ClientResponse) -> AsyncIterator[Json]:
    """The JSON messages of a streamed answer; an `error` among them is raised as EngineRefusal."""
    rest = b""
    async for piece in _noted(response.content.iter_any()):
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if line.strip():
                yield _message(line)
    if rest.strip():
        yield _message(rest)


async def _noted(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Each piece that arrives is progress of the trip that waits for it."""
    async for piece in pieces:
        activity.note()
        yield piece


def frames(stream: bytes) -> Iterator[bytes]:
    """The payloads of an attached stream: each has a header of 8 bytes that ends in its length."""
    at = 0
    while at + 8 <= len(stream):
        size = int.from_bytes(stream[at + 4 : at + 8], "big")
        yield stream[at + 8 : at + 8 + size]
        at += 8 + size


def _message(line: bytes) -> Json:
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise EngineRefusal(f"the engine sent what is no JSON: {line[:200]!r}") from error
    if not isinstance(message, dict):
        raise EngineRefusal(f"the engine sent an unexpected message: {line[:200]!r}")
    if "error" in message:
        raise EngineRefusal(str(message["error"]))
    return message


def _hint(endpoint: Endpoint, error: BaseException) -> str:
    if isinstance(error, PermissionError) or isinstance(getattr(error, "os_error", None), PermissionError):
        return "you may not use its socket: sudo usermod -aG docker $USER, then log in again"
    if isinstance(error, ssl.SSLError | aiohttp.ClientConnectorCertificateError):
        return "its certificate does not fit: is DOCKER_CERT_PATH the one of this engine?"
    if endpoint.socket is not None:
        return "is the engine running? sudo systemctl start docker, or start Docker Desktop"
    return "is the cluster running, and is this still its address? for Minikube: minikube status"
