"""Which engine is meant, and what its client does when that engine is gone, restarts or moves."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import anyio
import pytest

from devloop.adapters.docker.connection import EngineRefusedError
from devloop.adapters.docker.endpoint import DEFAULT, Endpoint, at, current, from_variables
from devloop.adapters.docker.engine import Engine
from devloop.errors import PlatformError
from tests.support.dockerd import Dockerd

engine = pytest.mark.engine


def context(home: Path, name: str, host: str, *, tls: bool = False) -> None:
    """A docker CLI context as the CLI stores it, and makes it current."""
    key = hashlib.sha256(name.encode()).hexdigest()
    meta = home / ".docker" / "contexts" / "meta" / key
    meta.mkdir(parents=True)
    (meta / "meta.json").write_text(json.dumps({"Name": name, "Endpoints": {"docker": {"Host": host}}}))
    if tls:
        (home / ".docker" / "contexts" / "tls" / key / "docker").mkdir(parents=True)
    (home / ".docker" / "config.json").write_text(json.dumps({"currentContext": name}))


def test_the_default_is_the_default_socket(tmp_path: Path) -> None:
    assert current({"HOME": str(tmp_path)}).host == DEFAULT


def test_docker_host_comes_first(tmp_path: Path) -> None:
    context(tmp_path, "colima", "unix:///colima.sock")
    found = current({"HOME": str(tmp_path), "DOCKER_HOST": "unix:///mine.sock"})
    assert (found.host, found.origin) == ("unix:///mine.sock", "DOCKER_HOST")


def test_the_current_context_counts(tmp_path: Path) -> None:
    context(tmp_path, "colima", "unix:///colima.sock")
    found = current({"HOME": str(tmp_path)})
    assert (found.host, found.origin) == ("unix:///colima.sock", "docker context colima")
    assert current({"HOME": str(tmp_path), "DOCKER_CONTEXT": "default"}).host == DEFAULT


def test_a_context_with_certificates(tmp_path: Path) -> None:
    context(tmp_path, "far", "tcp://10.0.0.9:2376", tls=True)
    found = current({"HOME": str(tmp_path)})
    assert found.url == "https://10.0.0.9:2376"
    assert found.environment()["DOCKER_CERT_PATH"].endswith("/docker")


def test_a_context_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(PlatformError, match="gone"):
        current({"HOME": str(tmp_path), "DOCKER_CONTEXT": "gone"})


def test_ssh_is_refused_with_the_line_that_helps() -> None:
    with pytest.raises(PlatformError) as caught:
        at("ssh://me@far", "cluster.engine")
    assert "ssh -nNT -L" in (caught.value.hint or "")


@pytest.mark.parametrize("host", ["tcp://", "unix://", "tcp://10.0.0.9:0", "tcp://[::1", "https://:2376"])
def test_what_is_no_address_says_so_before_it_is_used(host: str) -> None:
    with pytest.raises(PlatformError, match=r"DOCKER_HOST.*no address") as caught:
        current({"DOCKER_HOST": host})
    assert "tcp://HOST:PORT" in (caught.value.hint or "")


def test_https_is_never_plain_http() -> None:
    assert at("https://10.0.0.9", "cluster.engine").url == "https://10.0.0.9:2376"
    assert at("https://10.0.0.9", "cluster.engine").tls() is not None
    verified = {"DOCKER_HOST": "https://10.0.0.9:1", "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": "/certs"}
    assert current(verified).certs == Path("/certs")


def test_a_command_verifies_as_devloop_does() -> None:
    tls = {"DOCKER_HOST": "tcp://10.0.0.9:1", "DOCKER_CERT_PATH": "/certs"}
    for name in ("DOCKER_TLS_VERIFY", "DOCKER_TLS"):
        assert current(tls | {name: "1"}).environment() == tls | {name: "1"}


def test_a_plain_path_is_a_socket() -> None:
    assert at("/run/x.sock", "config").host == "unix:///run/x.sock"


@engine
async def test_tls_over_tcp(second: Dockerd) -> None:
    endpoint = from_variables(second.variables(), "the test")
    assert endpoint is not None
    client = Engine.at(endpoint)
    await client.ping()
    assert (await client.info()).identity == (await _identity(second))
    await client.aclose()


async def _identity(second: Dockerd) -> tuple[str, str, str]:
    client = Engine.at(second.endpoint())
    identity = (await client.info()).identity
    await client.aclose()
    return identity


@engine
async def test_wrong_certificates_say_so(second: Dockerd, tmp_path: Path) -> None:
    client = Engine.at(Endpoint(f"tcp://127.0.0.1:{second.port}", tmp_path, origin="the test"))
    with pytest.raises(PlatformError) as caught:
        await client.ping()
    assert caught.value.reason == "BadCertificates"


@engine
async def test_s13_an_engine_that_restarts_on_another_port_is_found_again(second: Dockerd) -> None:
    asked = 0

    async def source() -> Endpoint:
        nonlocal asked
        asked += 1
        endpoint = from_variables(second.variables(), "the test")
        assert endpoint is not None
        return endpoint

    client = Engine(source, role="node's engine")
    await client.ping()
    await anyio.to_thread.run_sync(second.restart)
    await client.ping()
    assert asked == 2
    await client.aclose()


@engine
async def test_an_engine_that_is_gone_and_comes_back(second: Dockerd) -> None:
    client = Engine.at(second.endpoint(), role="node's engine")
    await client.info()
    await anyio.to_thread.run_sync(second.stop)
    try:
        with pytest.raises(PlatformError) as caught:
            await client.inspect("x")
        assert "node's engine" in caught.value.message
        assert "systemctl start docker" in (caught.value.hint or "")
    finally:
        await anyio.to_thread.run_sync(second.start)
    assert await client.inspect("x") is None
    await client.aclose()


@engine
async def test_an_error_in_a_200_answer_is_raised(second: Dockerd) -> None:
    client = Engine.at(second.endpoint())
    with pytest.raises(EngineRefusedError):
        async for _ in client.load(b"this is not a tar" + bytes(1024)):
            pass
    await client.aclose()


@engine
async def test_a_request_that_hangs_is_cancelled_at_once(second: Dockerd) -> None:
    """A body that never comes to its end: cancelling does not wait for it."""
    client = Engine.at(second.endpoint())
    begun = anyio.Event()

    async def endless() -> object:
        begun.set()
        yield b"x"
        await anyio.sleep_forever()

    async def load() -> None:
        async for _ in client.load(endless()):  # type: ignore[arg-type]
            pass

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(load)
            await begun.wait()
            group.cancel_scope.cancel()
    await client.ping()
    await client.aclose()
