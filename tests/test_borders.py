# ruff: noqa: E501, PT017 - tables of answers; an error that is named is one of two right endings
"""Each border under random and odd input: values, or an error with a name, and nothing else."""

from __future__ import annotations

import asyncio
import errno
import gc
import io
import json
import os
import random
import socket
import tarfile
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError

import anyio
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from devloop.adapters.archive.delta_load import deliver
from devloop.adapters.delta.parents import ParentStore
from devloop.adapters.docker.endpoint import at, current
from devloop.adapters.docker.engine import Engine
from devloop.adapters.kubernetes.api.access import open_access
from devloop.adapters.kubernetes.api.client import Client
from devloop.adapters.kubernetes.informer import Health, Informer
from devloop.adapters.kubernetes.manifests import put_refs, read_manifests
from devloop.adapters.nodes.shells.container_shell import ContainerShell
from devloop.adapters.tar_stream import TarStream
from devloop.borders import ENGINE_ANSWER, cause_of, disk
from devloop.checks.origin import from_file
from devloop.clock import Clock
from devloop.config import load as configs
from devloop.delta.layer_index import Layer
from devloop.deploy.helm_values import base_values
from devloop.deploy.kustomization import sources
from devloop.deploy.needs import needs_of, objects_of, owned
from devloop.errors import BuildError, ConfigError, DevloopError, LoadError, PlatformError
from devloop.files import read_bytes, read_text
from devloop.model import Base, Release, ValuesFile
from tests.support.hostile_answers import ANSWERS, answer, serving


async def outcome(call: Callable[[], Awaitable[object]]) -> str:
    """What a call ends in: "well" or the class of an expected error; anything else passes through."""
    try:
        with anyio.fail_after(30):
            await call()
    except DevloopError as error:
        assert error.message
        return type(error).__name__
    return "well"


def engine_calls(engine: Engine) -> dict[str, Callable[[], Awaitable[object]]]:
    async def drained(messages: AsyncIterator[Any]) -> None:
        async for _ in messages:
            pass

    async def saved() -> None:
        async with engine.save("x:1") as pieces:
            await drained(pieces)

    return {
        "ping": engine.ping,
        "info": engine.info,
        "inspect": lambda: engine.inspect("x:1"),
        "images": engine.images,
        "has_container": lambda: engine.has_container("x"),
        "create_container": lambda: engine.create_container("x"),
        "load": lambda: drained(engine.load(b"x")),
        "pull": lambda: drained(engine.pull("x", "1", "", "")),
        "archive": lambda: drained(engine.archive("x", "/")),
        "tag": lambda: engine.tag("x:1", "y", "2"),
        "remove": lambda: engine.remove("x:1"),
        "save": saved,
        "exec": lambda: ContainerShell(engine, "node").run("true"),
        "learn": lambda: ParentStore(Path(tempfile.mkdtemp())).base(engine, Base("x:1", "sha256:1")),
    }


@pytest.mark.parametrize("name", ANSWERS)
async def test_an_engines_port_that_answers_anything(name: str) -> None:
    async with serving(ANSWERS[name]) as port:
        engine = Engine.at(at(f"tcp://127.0.0.1:{port}", "a test"))
        for call in engine_calls(engine).values():
            await outcome(call)
        await engine.aclose()


async def test_random_answers_of_an_engine() -> None:
    """Sound answers, changed in one place each: seeded."""
    dice = random.Random(7)
    sound = {
        "Id": "sha256:1", "ID": "a", "Name": "n", "DriverStatus": [["driver-type", "x"]], "Size": 5, "Created": 1, "State": {"Running": True},
        "Config": {"Labels": {"a": "b"}, "Env": ["A=b"], "OnBuild": None}, "RootFS": {"Layers": ["sha256:2"]}, "RepoTags": ["a:1"],
    }  # fmt: skip
    for _ in range(60):
        body = json.dumps(mutated(sound, dice) if dice.random() < 0.5 else [mutated(sound, dice)]).encode()
        if dice.random() < 0.3:
            body = bytes(byte if dice.random() > 0.02 else dice.randrange(256) for byte in body)
        async with serving(answer(body)) as port:
            engine = Engine.at(at(f"tcp://127.0.0.1:{port}", "a test"))
            for call in engine_calls(engine).values():
                await outcome(call)
            await engine.aclose()


ODD = (None, 5, -1, 1.5, True, "", "x", [], {}, [None], [[]], {"a": None}, {"": []}, "\x00", 10**30)


def mutated(value: Any, dice: random.Random) -> Any:
    """The value with one place, at whatever depth, replaced by something odd, or taken away."""
    if dice.random() < 0.25 or not isinstance(value, dict | list) or not value:
        return dice.choice(ODD)
    if isinstance(value, dict):
        key = dice.choice(list(value))
        changed = {**value, key: mutated(value[key], dice)}
        if dice.random() < 0.2:
            del changed[key]
        return changed
    number = dice.randrange(len(value))
    return [*value[:number], mutated(value[number], dice), *value[number + 1 :]]


# --- the API server -----------------------------------------------------------------------------------


def kubeconfig(folder: Path, server: str, **cluster: Any) -> Path:
    file = folder / "kubeconfig"
    file.write_text(json.dumps({
        "contexts": [{"name": "x", "context": {"cluster": "kind-x", "user": "u"}}],
        "clusters": [{"name": "kind-x", "cluster": {"server": server, **cluster}}],
    }))  # fmt: skip
    return file


@pytest.mark.parametrize("name", ANSWERS)
async def test_an_api_servers_port_that_answers_anything(name: str, tmp_path: Path) -> None:
    async with serving(ANSWERS[name]) as port:
        file = kubeconfig(tmp_path, f"http://127.0.0.1:{port}")

        async def opened(last: Any) -> Any:
            return await open_access([file], "x", allow_remote=False, last=last)

        async with Client(opened) as client:
            await outcome(lambda: client.get("/api/v1/namespaces/default"))
            health = Health(lambda _: None)
            informer = Informer(client, "/api/v1/pods", Clock(), health, lambda *_, **__: None)
            async with anyio.create_task_group() as group:
                group.start_soon(informer.run)
                with anyio.move_on_after(5):
                    await outcome(lambda: informer.first_list(patient=False))
                group.cancel_scope.cancel()


async def test_a_listener_that_falls_ends_no_informer(tmp_path: Path) -> None:
    listed = {
        "kind": "PodList",
        "metadata": {"resourceVersion": "1"},
        "items": [{"metadata": {"name": "a", "uid": "1", "resourceVersion": "1"}}],
    }
    fell: list[int] = []

    def listener(*_: object, **__: object) -> None:
        fell.append(1)
        raise ZeroDivisionError("a fault of ours")

    async with serving(answer(json.dumps(listed).encode())) as port:
        file = kubeconfig(tmp_path, f"http://127.0.0.1:{port}")

        async def opened(last: Any) -> Any:
            return await open_access([file], "x", allow_remote=False, last=last)

        async with Client(opened) as client, anyio.create_task_group() as group:
            informer = Informer(client, "/api/v1/pods", Clock(), Health(lambda _: None), listener)
            group.start_soon(informer.run)
            with anyio.fail_after(20):
                while len(fell) < 2:
                    await anyio.sleep(0.01)
            assert "ZeroDivisionError" in str(informer.failure)
            group.cancel_scope.cancel()


# --- kubeconfigs, addresses ---------------------------------------------------------------------------

KUBECONFIG = {
    "apiVersion": "v1", "kind": "Config", "current-context": "x", "preferences": {},
    "contexts": [{"name": "x", "context": {"cluster": "kind-x", "user": "u", "namespace": "n"}}],
    "clusters": [{"name": "kind-x", "cluster": {"server": "https://127.0.0.1:1", "certificate-authority-data": "eA==", "proxy-url": "", "extensions": [{"name": "cluster_info", "extension": {"provider": "minikube.sigs.k8s.io"}}]}}],
    "users": [{"name": "u", "user": {"token": "t", "client-certificate": "a", "client-key": "b", "username": "a", "password": "b"}}],
}  # fmt: skip


async def test_random_kubeconfigs(tmp_path: Path) -> None:
    dice = random.Random(8)
    file = tmp_path / "kubeconfig"
    for _ in range(400):
        file.write_text(yaml.safe_dump(mutated(mutated(KUBECONFIG, dice), dice)))
        await outcome(lambda: open_access([file], "x", allow_remote=True))
    for server in (
        "https://[127.0.0.1:1",
        "https://127.0.0.1:x",
        "https://",
        "x",
        "http://\x01",
        "https://127.0.0.1:99999",
    ):
        kubeconfig(tmp_path, server)

        async def opened(last: Any) -> Any:
            return await open_access([file], "x", allow_remote=True, last=last)

        async def asked() -> None:
            async with Client(opened) as client:
                await client.get("/")

        assert await outcome(asked) != "well"


@pytest.mark.parametrize(
    "host",
    [
        "tcp://",
        "tcp://[::1",
        "tcp://host:x",
        "tcp://host:0",
        "tcp://host:99999",
        "unix://",
        "ssh://x",
        "x",
        "://",
        "tcp:host",
    ],
)
async def test_an_address_that_is_none_is_a_platform_error(host: str) -> None:
    async def asked() -> None:
        engine = Engine.at(current({"DOCKER_HOST": host, "HOME": "/nonexistent"}))
        await engine.info()

    assert await outcome(asked) == "PlatformError"


# --- files --------------------------------------------------------------------------------------------


def test_a_file_of_any_kind_is_text_or_an_oserror(tmp_path: Path) -> None:
    fifo, link, unix = tmp_path / "fifo", tmp_path / "link", tmp_path / "socket"
    os.mkfifo(fifo)
    link.symlink_to(link)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(unix))
    (tmp_path / "latin").write_bytes(b"a: \xe4\n")
    (tmp_path / "mark").write_bytes(b"\xef\xbb\xbfa")
    for path in (
        fifo,
        link,
        unix,
        tmp_path,
        tmp_path / "none",
        Path("a\0b"),
        Path("/dev/zero"),
        Path("/dev/tty"),
        Path("a" * 5000),
    ):
        with pytest.raises(OSError) as caught:
            read_bytes(path)
        assert caught.value.strerror
    with pytest.raises(OSError, match="byte 3 is not UTF-8"):
        read_text(tmp_path / "latin")
    assert read_text(tmp_path / "mark") == "a"
    assert read_bytes(Path("/dev/null")) == b""


TEXTS = st.text(st.sampled_from("ab:-[]{}&*!|>'\"%#\n \t,?~0.12\x00é<"), max_size=60)


@given(TEXTS)
def test_random_texts_in_every_place_of_a_yaml_file(text: str) -> None:
    """Manifests, values, kustomizations, kubeconfigs, config.yaml and what `check` reads."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for name in ("config.yaml", "m.yaml", "kustomization.yaml"):
            (folder / name).write_text(text, newline="")
        (folder / "c.yaml").write_text(
            f"version: 1\nservices: {{a: {{image: a, build: {{context: .}}}}}}\n{text}\n"
        )
        for read in (
            lambda: configs.load(folder / "config.yaml"),
            lambda: configs.load(folder / "c.yaml").manifest_files(),
            lambda: put_refs([one.item for one in read_manifests([folder / "m.yaml"])], {"a": "a:1"}),
            lambda: base_values(Release("r", folder, "d", values=(ValuesFile(folder / "m.yaml"),)), {}),
            lambda: sources(folder),
            lambda: from_file(folder / "m.yaml", folder, "d"),
        ):
            try:
                read()
            except DevloopError as error:
                assert error.message


DEPLOYMENT = """
kind: Deployment
apiVersion: apps/v1
metadata: {name: a, namespace: b, labels: {x: y}, annotations: {x: y}}
spec:
  template:
    metadata: {annotations: {a: b}}
    spec:
      imagePullSecrets: [{name: a}]
      initContainers: [{name: a, image: b, env: [{name: a, valueFrom: {secretKeyRef: {name: a, key: b}}}]}]
      containers:
      - {name: a, image: b, envFrom: [{secretRef: {name: a}}, {configMapRef: {name: b, optional: true}}], ports: [{containerPort: 1}]}
      volumes: [{name: a, secret: {secretName: a, items: [{key: a, path: b}]}}, {name: b, projected: {sources: [{configMap: {name: c}}]}}]
"""


@pytest.mark.parametrize("cases", [600, pytest.param(6000, marks=pytest.mark.exhaustive)])
def test_random_rendered_charts_are_objects_or_an_error_with_a_name(cases: int) -> None:
    dice = random.Random(9)
    sound = yaml.safe_load(DEPLOYMENT)
    good = 0
    for _ in range(cases):
        kind = dice.choice(("Deployment", "Deployment", "CronJob", "Pod", "Ingress", "List", "ConfigMap"))
        one = mutated(sound, dice)
        text = yaml.safe_dump({**one, "kind": kind} if isinstance(one, dict) and one else one)
        try:
            objects = objects_of(text, "release c")
            needs_of(objects, "d")
            [owned(one, Release("c", Path("/c"), "d")) for one in objects]
            good += 1
        except DevloopError as error:
            assert error.message.startswith("release c"), error.message
    assert good > cases / 6


# --- layers and disks ---------------------------------------------------------------------------------


def layer() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in ("a", "b" * 120, "c/.wh.d", "c/.wh..wh..opq", "é" * 80):
            member = tarfile.TarInfo(name)
            member.size, member.mtime = 700, 1.5  # type: ignore[assignment]
            archive.addfile(member, io.BytesIO(b"x" * 700))
    return out.getvalue()


@given(st.binary(max_size=2000) | st.tuples(st.integers(0, 9000), st.binary(min_size=1, max_size=20)))
def test_random_layers_are_read_or_refused(change: bytes | tuple[int, bytes]) -> None:
    data = (
        change
        if isinstance(change, bytes)
        else layer()[: change[0]] + change[1] + layer()[change[0] + len(change[1]) :]
    )
    try:
        Layer.read(io.BytesIO(data))
    except LoadError as error:
        assert error.reason == "BadLayer"


@given(st.binary(max_size=200))
def test_random_layer_records_of_the_state_directory(data: bytes) -> None:
    try:
        Layer.load(data)
    except ValueError:
        pass


def test_a_full_disk_is_named_with_its_place() -> None:
    def write() -> None:
        with disk("the copy"), open("/dev/full", "wb", buffering=0) as full:  # noqa: PTH123
            full.write(b"x")

    with pytest.raises(BuildError) as caught:
        write()
    assert caught.value.reason == "DiskFull"
    assert "No space left on device" in caught.value.message
    assert (caught.value.hint or "").startswith("df -h ")


def test_a_border_lets_expected_errors_and_interrupts_through() -> None:
    with pytest.raises(ConfigError), ENGINE_ANSWER("x"):
        raise ConfigError("mine")
    with pytest.raises(KeyboardInterrupt), ENGINE_ANSWER("x"):
        raise KeyboardInterrupt
    with pytest.raises(PlatformError, match="x: not what was expected"), ENGINE_ANSWER("x"):
        raise KeyError("Id")


@given(st.binary(max_size=1500) | st.tuples(st.integers(0, 9000), st.binary(min_size=1, max_size=20)))
def test_random_tars_that_stream_are_entries_or_a_value_error(change: bytes | tuple[int, bytes]) -> None:
    data = (
        change
        if isinstance(change, bytes)
        else layer()[: change[0]] + change[1] + layer()[change[0] + len(change[1]) :]
    )

    async def read() -> None:
        async def source() -> AsyncIterator[bytes]:
            for start in range(0, len(data), 700):
                yield data[start : start + 700]

        with anyio.fail_after(20):
            async for _ in TarStream(source()):
                pass

    try:
        anyio.run(read)
    except ValueError:
        pass


def test_a_pax_record_of_no_length_ends() -> None:
    """It would be read for ever."""
    for record in (b"0 a=b\n", b"-3 a=b\n", b"999 a=b\n", b"2 a=b\n"):
        head = tarfile.TarInfo("x")
        head.type, head.size = tarfile.XHDTYPE, len(record)
        data = head.tobuf() + record + bytes(-len(record) % 512) + bytes(1024)

        async def read(data: bytes = data) -> None:
            async def source() -> AsyncIterator[bytes]:
                yield data

            async for _ in TarStream(source()):
                pass

        with pytest.raises(ValueError, match="pax record"):
            anyio.run(read)


# --- bodies that are left behind ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["500 deep", "nothing", "an ssh server", "a bad chunk"])
async def test_a_load_that_fails_leaves_no_generator_behind(name: str) -> None:
    """What a garbage collector closes later, Python prints: "generator didn't stop after athrow()"."""
    contexts: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: contexts.append(context))
    ended: list[str] = []

    @asynccontextmanager
    async def saved() -> AsyncIterator[AsyncIterator[bytes]]:
        async def pieces() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield bytes(1 << 20)
            finally:
                await anyio.sleep(0)
                ended.append("inner")

        try:
            yield pieces()
        finally:
            await anyio.sleep(0)
            ended.append("save")

    async def body() -> AsyncIterator[bytes]:
        async with saved() as source, aclosing(source) as pieces:  # type: ignore[type-var]
            async for piece in pieces:
                yield piece

    async with serving(ANSWERS[name]) as port:
        engine = Engine.at(at(f"tcp://127.0.0.1:{port}", "a test"))
        assert await outcome(lambda: deliver(engine, body())) != "well"
        assert ended == ["inner", "save"]  # by now, not when the collector comes
        await engine.aclose()
    gc.collect()
    await anyio.sleep(0.05)
    assert contexts == []


# --- the system's words -------------------------------------------------------------------------------


def several(*numbers: int) -> OSError:
    """As asyncio reports one failure per address."""
    texts = [
        f"[Errno {number}] Connect call failed ('10.0.0.{place}', 80)" for place, number in enumerate(numbers)
    ]
    return OSError(f"Multiple exceptions: {', '.join(texts)}")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed"), "Connection refused"),
        (FileNotFoundError(errno.ENOENT, "x", "/run/a.sock"), "No such file or directory: /run/a.sock"),
        # The numbers of names that are not known are others: negative on Linux, positive on macOS.
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
        (socket.gaierror(8, "nodename nor servname provided, or not known"), "nodename nor servname provided, or not known"),
        (URLError(socket.gaierror(8, "nodename nor servname provided")), "nodename nor servname provided"),
        (socket.herror(1, "Unknown host"), "Unknown host"),
        (several(errno.ECONNREFUSED, errno.ECONNREFUSED), "Connection refused"),
        (several(errno.EHOSTUNREACH, errno.ECONNREFUSED), "Connection refused"),
        (several(errno.ENETUNREACH, errno.ENETUNREACH), "Network is unreachable"),
        (several(errno.ENETUNREACH, errno.EHOSTUNREACH), "Network is unreachable, No route to host"),
        (OSError("Multiple exceptions: a, b"), "no connection"),
        (TimeoutError(), "no answer in time"),
    ],
)  # fmt: skip
def test_why_a_connection_failed_is_given_in_the_systems_words(error: Exception, words: str) -> None:
    assert cause_of(error) == words


def test_numbers_are_read_as_this_system_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """ECONNREFUSED is 61 on macOS."""
    monkeypatch.setattr("devloop.borders.errno.ECONNREFUSED", 61)
    monkeypatch.setattr("os.strerror", {61: "Connection refused", 65: "No route to host"}.get)
    assert cause_of(several(65, 61)) == "Connection refused"
