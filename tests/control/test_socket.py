"""The control socket: real connections, real workers, a fake world; and what is no request."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from devloop.config.load import Config
from devloop.control import place, server
from devloop.control.actions import Actions
from devloop.control.client import RunningWatch, running_watches, watches_of
from devloop.control.handlers import handlers_of
from devloop.control.protocol import LONGEST_REQUEST, Handler, Json, Send
from devloop.control.server import ControlServer
from devloop.errors import ConfigError, DevloopError, PlatformError
from devloop.fault_reports import Reports
from devloop.inputs.rebuild_salt import RebuildSalts
from devloop.model import Service
from devloop.trip.worker_pool import WorkerPool
from tests.support.fakes import FakeWorld
from tests.support.pools import is_live, outcomes, save, settle, states, until, working

pytestmark = pytest.mark.anyio


async def nothing_held(_: Service) -> bool:
    return False


@asynccontextmanager
async def serving(path: Path, handlers: Mapping[str, Handler]) -> AsyncIterator[None]:
    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(ControlServer(handlers, Reports(Path("/dev/null/none"), str).error).run, path)
            await until(lambda: listens(path))
            yield
            group.cancel_scope.cancel()
    assert not path.exists(), "who ends takes its socket away"


@asynccontextmanager
async def watching(
    world: FakeWorld, config: Config, rebuilt: Path, context: str = "test"
) -> AsyncIterator[WorkerPool]:
    """A watch with a control socket, its service live."""
    async with working(world) as pool:
        await until(lambda: is_live(world))
        actions = Actions(pool, RebuildSalts(rebuilt), nothing_held, world.clock)
        handlers = handlers_of(actions, lambda: (context, "default"), str)
        async with serving(place.own_socket(config.path), handlers):
            yield pool


def listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as one:
        return one.connect_ex(str(path)) == 0


async def spoken(path: Path, line: bytes) -> list[Any]:
    """What comes back, to the end of the connection."""
    async with await anyio.connect_unix(path) as stream:
        await stream.send(line)
        received = b""
        with anyio.fail_after(10):
            while True:
                try:
                    received += await stream.receive()
                except (anyio.EndOfStream, anyio.BrokenResourceError):  # it left some of the line unread
                    break
    return [json.loads(line) for line in received.splitlines()]


async def echo(request: Json, send: Send) -> Json:
    for number in range(request.get("items", 0)):
        await send({"number": number})
    return {"got": request.get("text")}


# --- a watch that is found, and acts ---------------------------------------------------------------


async def test_s26_a_running_watch_is_found_and_does_what_it_is_asked(
    config: Config, run: Path, tmp_path: Path
) -> None:
    world = FakeWorld()
    async with watching(world, config, tmp_path) as pool:
        (watch,) = await running_watches(config)
        assert (watch.pid, watch.services) == (os.getpid(), ("backend",))
        assert (await watch.ask("pause", services=["backend"]))["services"] == {
            "backend": {"done": True, "message": "paused", "hint": None}
        }
        assert states(world)[-1] == ("paused", False)
        save(world, pool, "v2")
        await settle()
        assert outcomes(world) == ["Live"]
        await watch.ask("resume")
        await until(lambda: is_live(world) and len(world.patched) == 2)
        await watch.ask("restart", services=["backend"])
        await until(lambda: is_live(world) and len(world.restarted) == 1)
        answer = await watch.ask("rebuild", services=["backend"])
        assert answer["services"]["backend"]["message"] == "rebuilding"
        with pytest.raises(ConfigError, match="no service nobody"):
            await watch.ask("pause", services=["nobody"])


async def test_s26_only_this_user_can_reach_it(config: Config, run: Path, tmp_path: Path) -> None:
    async with watching(FakeWorld(), config, tmp_path):
        mode = place.own_socket(config.path).stat().st_mode
        assert (stat.S_ISSOCK(mode), stat.S_IMODE(mode)) == (True, 0o600)


async def test_the_socket_of_a_watch_that_was_killed_is_no_running_watch(config: Config, run: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(place.own_socket(config.path)))
    assert await running_watches(config) == ()
    with pytest.raises(PlatformError, match="no devloop watch is running") as caught:
        await watches_of(config, ["backend"])
    assert caught.value.reason == "NoWatch"


async def test_the_socket_of_a_killed_watch_with_the_same_process_id_gives_way(
    config: Config, run: Path, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(place.own_socket(config.path)))
    async with serving(place.own_socket(config.path), {"echo": echo}):
        answers = await spoken(place.own_socket(config.path), b'{"version": 1, "do": "echo"}\n')
    assert answers == [{"version": 1, "answer": {"got": None}}]


def test_what_killed_watches_left_is_removed_and_no_socket_that_somebody_listens_on(run: Path) -> None:
    live, dead, young = (place.folder() / f"{name}-1.sock" for name in ("live", "dead", "young"))
    with socket.socket(socket.AF_UNIX) as listens, socket.socket(socket.AF_UNIX) as bound:
        listens.bind(str(live))
        listens.listen()
        bound.bind(str(young))
        with socket.socket(socket.AF_UNIX) as ended:
            ended.bind(str(dead))
        for file in (live, dead):
            os.utime(file, (1.0, 1.0))
        place.remove_dead()
        assert (live.exists(), dead.exists(), young.exists()) == (True, False, True)


async def test_a_service_that_no_running_watch_works_for_is_named(
    config: Config, run: Path, tmp_path: Path
) -> None:
    async with watching(FakeWorld(), config, tmp_path):
        with pytest.raises(ConfigError, match="does not work for other"):
            await watches_of(config, ["backend", "other"])
        assert list((await watches_of(config, [])).values()) == [("backend",)]


async def test_a_watch_of_another_context_is_not_taken_for_this_one(
    config: Config, run: Path, tmp_path: Path
) -> None:
    async with watching(FakeWorld(), config, tmp_path, context="elsewhere"):
        with pytest.raises(PlatformError, match="works on context elsewhere"):
            await running_watches(config)


async def test_a_home_folder_of_a_long_name_has_its_sockets_elsewhere(
    config: Config, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "devloop.control.place.private_folder.private_folder", lambda: Path("/home") / ("x" * 80)
    )
    path = place.own_socket(config.path)
    assert path.parent == Path(f"/tmp/devloop-{os.geteuid()}")
    assert len(os.fsencode(path)) <= place.LONGEST_PATH


# --- what is no request ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"\n", "not a line of JSON"),
        (b"GET / HTTP/1.1\r\n", "not a line of JSON"),
        (b"\xff\xfe\n", "not a line of JSON"),
        (b"[" * 60_000 + b"\n", "not a line of JSON"),
        (b"[1]\n", "not a JSON object"),
        (b"{}\n", "version None"),
        (b'{"version": 2, "do": "echo"}\n', "version 2 is not spoken here, but 1"),
        (b'{"version": 1}\n', "None is nothing to do"),
        (b'{"version": 1, "do": "stop"}\n', "'stop' is nothing to do"),
        (b'{"version": 1, "do": ["echo"]}\n', "nothing to do"),
        (b'{"version": 1, "do": "pause", "services": "backend"}\n', "pause: not a list"),
        (b'{"version": 1, "do": "pause", "services": [1]}\n', "pause: not a text"),
        (b'{"version": 1, "do": "pause", "services": [' + b'"a",' * 1000 + b'"a"]}\n', "more than 1000"),
        (b"x" * (LONGEST_REQUEST + 1), f"longer than {LONGEST_REQUEST} bytes"),
    ],
)
async def test_what_is_no_request_is_refused_with_a_reason(
    config: Config, run: Path, tmp_path: Path, line: bytes, expected: str
) -> None:
    world = FakeWorld()
    async with watching(world, config, tmp_path):
        (answer,) = await spoken(place.own_socket(config.path), line)
        assert answer["version"] == 1
        assert expected in answer["error"]["message"]
        assert answer["error"]["reason"] == "BadRequest"
        (watch,) = await running_watches(config)
        assert watch.services == ("backend",), "and the next one is answered"
    assert states(world)[-1] == ("live", True)


async def test_items_come_before_the_answer(run: Path) -> None:
    async with serving(run / "s", {"echo": echo}):
        found = await spoken(run / "s", b'{"version": 1, "do": "echo", "items": 2, "text": "caf\xc3\xa9"}\n')
    assert found == [
        {"version": 1, "item": {"number": 0}},
        {"version": 1, "item": {"number": 1}},
        {"version": 1, "answer": {"got": "café"}},
    ]


async def test_who_says_nothing_is_not_waited_for(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "IDLE", 0.01)
    async with serving(run / "s", {"echo": echo}):
        assert await spoken(run / "s", b'{"version": 1') == []


async def test_who_leaves_gives_the_answer_up(run: Path) -> None:
    begun, ended = anyio.Event(), anyio.Event()

    async def endless(_: Json, send: Send) -> Json:
        begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()
        raise AssertionError

    async with serving(run / "s", {"endless": endless}):
        async with await anyio.connect_unix(run / "s") as stream:
            await stream.send(b'{"version": 1, "do": "endless"}\n')
            await begun.wait()
            assert not ended.is_set()
        await ended.wait()


async def test_a_fault_of_one_request_ends_no_other(run: Path) -> None:
    async def broken(_: Json, send: Send) -> Json:
        raise KeyError("nobody expected that")

    async def full(_: Json, send: Send) -> Json:
        raise OSError(28, "No space left on device")

    async with serving(run / "s", {"broken": broken, "full": full, "echo": echo}):
        for name, text in (("broken", "nobody expected that"), ("full", "No space left")):
            (answer,) = await spoken(run / "s", b'{"version": 1, "do": "%s"}\n' % name.encode())
            assert text in answer["error"]["message"]
        (answer,) = await spoken(run / "s", b'{"version": 1, "do": "echo"}\n')
        assert "answer" in answer


async def test_of_too_many_connections_the_last_are_refused(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 2)
    async with serving(run / "s", {"echo": echo}):
        async with await anyio.connect_unix(run / "s"), await anyio.connect_unix(run / "s"):
            (answer,) = await spoken(run / "s", b'{"version": 1, "do": "echo"}\n')
            assert answer["error"]["reason"] == "Busy"
        await until_answers(run / "s")


async def until_answers(path: Path) -> None:
    with anyio.fail_after(10):
        while "answer" not in (await spoken(path, b'{"version": 1, "do": "echo"}\n'))[0]:
            await anyio.sleep(0.001)


async def test_a_watch_that_ends_meanwhile_is_an_error(config: Config, run: Path, tmp_path: Path) -> None:
    async def hello(_: Json, send: Send) -> Json:
        return {"pid": 7, "context": "test", "namespace": "default", "services": ["backend"]}

    async def endless(_: Json, send: Send) -> Json:
        await anyio.sleep_forever()
        raise AssertionError

    errors: list[DevloopError] = []

    async def ask(watch: RunningWatch) -> None:
        try:
            await watch.ask("endless")
        except DevloopError as error:
            errors.append(error)

    handlers = {"hello": hello, "endless": endless}
    async with anyio.create_task_group() as group, serving(place.own_socket(config.path), handlers):
        (watch,) = await running_watches(config)
        group.start_soon(ask, watch)
        await settle()
    assert [error.reason for error in errors] == ["WatchEnded"]
    assert "pid 7" in errors[0].message


async def test_s30_no_secret_is_in_an_answer(config: Config, run: Path, tmp_path: Path) -> None:
    async def refused(_: Service) -> bool:
        raise PlatformError("no answer from https://s3cret@cluster", hint="is s3cret right?")

    world = FakeWorld()
    async with working(world) as pool:
        actions = Actions(pool, RebuildSalts(tmp_path), refused, world.clock)
        hide = lambda text: text.replace("s3cret", "[S]")  # noqa: E731
        handlers = handlers_of(actions, lambda: ("test", "default"), hide)
        async with serving(run / "s", handlers):
            (answer,) = await spoken(run / "s", b'{"version": 1, "do": "resume"}\n')
    found = answer["answer"]["services"]["backend"]
    assert "[S]" in found["message"]
    assert "s3cret" not in json.dumps(answer)
