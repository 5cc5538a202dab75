"""The calls that go by the docker package: against a real engine, and against what is none."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest

from devloop.adapters.docker.connection import EngineRefusedError
from devloop.adapters.docker.endpoint import Endpoint
from devloop.adapters.docker.engine import Engine
from devloop.adapters.docker.exported_files import files_of
from devloop.errors import PlatformError
from tests.adapters.conftest import Bench
from tests.support.dockerd import Dockerd
from tests.support.fake_engine import FakeEngine
from tests.support.faulty_proxy import make_cert, open_proxy

if TYPE_CHECKING:
    from docker import APIClient

engine = pytest.mark.engine


@engine
async def test_images_are_tagged_listed_and_removed(bench: Bench, tiny: str) -> None:
    name = f"devloop-housekeeping-{os.getpid()}"
    await bench.engine.tag(tiny, name, "1")
    facts = await bench.engine.inspect(tiny)
    assert facts is not None
    listed = {image.id: image for image in await bench.engine.images()}
    assert f"{name}:1" in listed[facts.id].refs
    assert await bench.engine.remove(f"{name}:1")
    assert not await bench.engine.remove(f"{name}:1")
    assert not await bench.engine.images("devloop.no/such=label")


@engine
async def test_calls_leave_no_connection_open(bench: Bench, tiny: str) -> None:
    """The package reads no answer to a tag or a removal, and kept a connection for each of them."""
    name = f"devloop-housekeeping-{os.getpid()}"
    await bench.engine.images()
    before = _sockets()
    for number in range(12):
        await bench.engine.tag(tiny, name, str(number))
        assert await bench.engine.remove(f"{name}:{number}")
    assert _sockets() <= before + 1


def _sockets() -> int:
    return sum(one.is_socket() for one in Path("/proc/self/fd").iterdir() if one.exists())


@engine
async def test_a_refusal_keeps_the_engines_words_and_code(bench: Bench) -> None:
    with pytest.raises(EngineRefusedError, match=r"[Nn]o such image") as caught:
        await bench.engine.tag("devloop-no-such-image:1", "x", "1")
    assert caught.value.status == 404


@engine
async def test_tls_over_tcp_and_no_proxy_of_the_environment(
    second: Dockerd, monkeypatch: pytest.MonkeyPatch
) -> None:
    from devloop.adapters.docker.endpoint import from_variables

    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    endpoint = from_variables(second.variables(), "the test")
    assert endpoint is not None
    client = Engine.at(endpoint)
    await client.images()
    await client.aclose()


@engine
async def test_s13_an_engine_that_moved_is_found_again(second: Dockerd) -> None:
    from devloop.adapters.docker.endpoint import from_variables

    async def source() -> Endpoint:
        endpoint = from_variables(second.variables(), "the test")
        assert endpoint is not None
        return endpoint

    client = Engine(source, role="node's engine")
    await client.images()
    await anyio.to_thread.run_sync(second.restart)
    await client.images()
    await client.aclose()


@pytest.mark.parametrize("versions", [("1.44", "1.52"), ("1.24", "1.40")])
async def test_an_engine_replaced_by_a_newer_or_an_older_one_at_its_socket(
    tmp_path: Path, versions: tuple[str, str]
) -> None:
    """A kept client spoke the API version of the engine that it had seen first: 400 until a restart."""
    with FakeEngine(tmp_path / "s", "1.24", "1.41") as fake:
        client = Engine.at(Endpoint(fake.host))
        await client.images()
        fake.versions = versions
        assert await client.images() == ()
        await client.tag("a:1", "b", "1")
        assert await client.remove("b:1")
        assert fake.asked[-1] == f"DELETE /v{versions[1]}/images/b:1?force=False&noprune=False"
        await client.aclose()


async def test_each_call_has_a_client_of_its_own(tmp_path: Path) -> None:
    """One that ends closes no connection of another's."""
    together = threading.Barrier(2, timeout=30)
    with FakeEngine(tmp_path / "s") as fake:
        client = Engine.at(Endpoint(fake.host))
        seen: list[object] = []

        def work(package: APIClient) -> None:
            together.wait()
            seen.append(package)

        async with anyio.create_task_group() as group:
            for _ in range(2):
                group.start_soon(client.by_package, "call", work)
        assert seen[0] is not seen[1]
        await client.aclose()


ODD = {
    "an empty login": b'{"auths": {"ghcr.io": {"auth": ""}}}',
    "a login without a colon": b'{"auths": {"ghcr.io": {"auth": "YWJj"}}}',
    "not UTF-8": b'{"auths": {"\xff": {}}}',
    "no proxies": b'{"proxies": null}',
    "a list": b"[1]",
    "a number in a header": b'{"HttpHeaders": {"X-Meta": 1}}',
    "headers that are none": b'{"HttpHeaders": 1}',
    "a fifo": b"",
}


@pytest.mark.parametrize("content", ODD.values(), ids=ODD.keys())
@pytest.mark.parametrize("where", ["HOME", "DOCKER_CONFIG"])
async def test_the_users_docker_configuration_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, content: bytes
) -> None:
    """No call here needs a login; those that do read it by themselves, and name it in their errors."""
    folder = tmp_path / ".docker" if where == "HOME" else tmp_path
    folder.mkdir(exist_ok=True)
    if content:
        (folder / "config.json").write_bytes(content)
    else:
        os.mkfifo(folder / "config.json")
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)
    monkeypatch.setenv(where, str(tmp_path))
    with FakeEngine(tmp_path / "s") as fake:
        client = Engine.at(Endpoint(fake.host))
        with anyio.fail_after(30):
            await client.images()
            await client.tag("a:1", "b", "1")
            assert await client.remove("b:1")
        await client.aclose()


async def test_what_is_no_engine_is_an_error_with_a_name(tmp_path: Path) -> None:
    with FakeEngine(tmp_path / "s", "", "") as fake:
        client = Engine.at(Endpoint(fake.host), role="builder's engine")
        for call in (client.images(), files_of(client, "a:1")):
            with pytest.raises(PlatformError, match="API version") as caught:
                await call
            assert caught.value.reason == "BadAnswer"
            assert "docker version" in (caught.value.hint or "")
        await client.aclose()


async def test_an_engine_that_names_its_version_at_version_alone(tmp_path: Path) -> None:
    """Engines before 17.04, and what stands in front of one."""
    with FakeEngine(tmp_path / "s") as fake:
        fake.tells_version_in_ping = False
        client = Engine.at(Endpoint(fake.host))
        assert await client.remove("a:1")
        assert fake.asked == [
            "GET /_ping",
            "GET /version",
            "DELETE /v1.41/images/a:1?force=False&noprune=False",
        ]
        await client.aclose()


@pytest.mark.parametrize("status", [404, 409])
async def test_a_refused_ping_is_no_answer_about_an_image(tmp_path: Path, status: int) -> None:
    """`remove` took it for an image that is gone already."""
    with FakeEngine(tmp_path / "s") as fake:
        fake.refused_ping = status
        client = Engine.at(Endpoint(fake.host), role="builder's engine")
        with pytest.raises(PlatformError, match=r"engine unix://.*GET /_ping: not here") as caught:
            await client.remove("a:1")
        assert caught.value.reason == "BadAnswer"
        await client.aclose()


@pytest.mark.parametrize("client_certificate", [True, False])
@pytest.mark.parametrize("verify", [True, False])
async def test_tls_as_far_as_the_certificates_go(
    tmp_path: Path, verify: bool, client_certificate: bool, recwarn: pytest.WarningsRecorder
) -> None:
    """Both clients: with a client certificate or none; unverified without ca.pem and without a warning."""
    cert, key = make_cert(tmp_path)
    certs = tmp_path / "certs"
    certs.mkdir()
    if verify:
        (certs / "ca.pem").write_bytes(cert.read_bytes())
    if client_certificate:
        (certs / "cert.pem").write_bytes(cert.read_bytes())
        (certs / "key.pem").write_bytes(key.read_bytes())
    with FakeEngine(tmp_path / "s") as fake:
        async with open_proxy(fake.host, cert=(cert, key)) as proxy:
            client = Engine.at(Endpoint(f"tcp://127.0.0.1:{proxy.port}", certs, verify))
            await client.ping()
            assert await client.images() == ()
            await client.aclose()
        assert fake.asked[0] == "GET /_ping"
    assert not recwarn.list


async def test_verify_names_a_strange_answer(tmp_path: Path) -> None:
    """`create` without an Id in it."""
    with FakeEngine(tmp_path / "s") as fake:
        client = Engine.at(Endpoint(fake.host))
        with pytest.raises(PlatformError, match="the files of a:1") as caught:
            await files_of(client, "a:1")
        assert caught.value.reason == "BadAnswer"
        await client.aclose()


async def test_verify_names_a_refusal(tmp_path: Path) -> None:
    with FakeEngine(tmp_path / "s") as fake:
        fake.refusal = "no such image: a:1"
        client = Engine.at(Endpoint(fake.host))
        with pytest.raises(PlatformError, match="reading the files of a:1: no such image"):
            await files_of(client, "a:1")
        await client.aclose()


async def test_an_engine_that_is_gone_is_named_with_what_to_do(tmp_path: Path) -> None:
    gone = Engine.at(Endpoint(f"unix://{tmp_path}/none.sock"), role="builder's engine")
    with pytest.raises(PlatformError, match=r"builder.s engine.*No such file") as caught:
        await gone.images()
    assert caught.value.reason == "EngineGone"
    assert "start docker" in (caught.value.hint or "")
    await gone.aclose()


async def test_missing_certificates_say_so(tmp_path: Path) -> None:
    client = Engine.at(Endpoint("tcp://127.0.0.1:9", tmp_path, origin="the test"))
    with pytest.raises(PlatformError) as caught:
        await client.images()
    assert caught.value.reason == "BadCertificates"
    await client.aclose()


async def test_cancelling_waits_for_no_engine_that_is_silent(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "s"))
        silent.listen()
        client = Engine.at(Endpoint(f"unix://{tmp_path}/s"))
        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                group.start_soon(client.images)
                while not any(one.name == "devloop daemon thread" for one in threading.enumerate()):
                    await anyio.sleep(0.01)
                group.cancel_scope.cancel()
        await client.aclose()


def test_the_process_ends_although_an_engine_is_silent(tmp_path: Path) -> None:
    """The thread that hangs holds up no exit."""
    script = f"""if True:
        import anyio, socket
        from devloop.adapters.docker.endpoint import Endpoint
        from devloop.adapters.docker.engine import Engine
        async def main():
            silent = socket.socket(socket.AF_UNIX)
            silent.bind({str(tmp_path / "s")!r})
            silent.listen()
            engine = Engine.at(Endpoint("unix://{tmp_path}/s"))
            with anyio.move_on_after(1):
                await engine.images()
            print("cancelled")
        anyio.run(main)
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "cancelled\n"), done.stderr
