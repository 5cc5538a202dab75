"""The calls that go by the docker package: against a real engine, and against what is none."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import anyio
import pytest

from devloop.adapters.docker.connection import EngineRefusedError
from devloop.adapters.docker.endpoint import Endpoint
from devloop.adapters.docker.engine import Engine
from devloop.errors import PlatformError
from tests.adapters.conftest import Bench
from tests.support.dockerd import Dockerd

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
