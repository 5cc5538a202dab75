"""A node that is this machine, as with k3s or kubeadm: a real containerd of the test's own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from devloop.adapters.nodes import host as hostnode
from devloop.adapters.nodes.host import HostShell, is_this_machine
from devloop.adapters.nodes.loader import ClusterLoader
from devloop.adapters.nodes.route_selection import RouteChoice
from devloop.errors import LoadError, PlatformError
from devloop.model import NodeFacts
from tests.adapters.conftest import Bench, fingerprint
from tests.support.dockerd import Dockerd

pytestmark = pytest.mark.engine


@pytest.fixture(autouse=True)
def machine_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container that runs the tests may have none."""
    file = tmp_path / "machine-id"
    file.write_text("0a1b2c3d4e5f60718293a4b5c6d7e8f9\n")
    monkeypatch.setattr(hostnode, "MACHINE_ID", file)


def here(runtime: str) -> NodeFacts:
    """This machine as its own kubelet would tell of it."""
    boot_id = hostnode.BOOT_ID.read_text().strip()
    return NodeFacts(
        "this-machine", "amd64", runtime, machine_id=hostnode.MACHINE_ID.read_text().strip(), boot_id=boot_id
    )


@pytest.fixture(scope="module")
def containerd() -> Iterator[dict[str, str]]:
    """The environment in which `ctr` finds a containerd of the test's own."""
    assert shutil.which("containerd"), "apt-get install --no-install-recommends containerd"
    folder = Path(tempfile.mkdtemp(prefix="dlc"))  # short: paths of sockets are limited to 107 bytes
    address = folder / "sock"
    config = folder / "config.toml"
    config.write_text(
        f'version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\nroot = "{folder}/root"\n'
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            ("containerd", "-c", str(config), "--state", str(folder / "state"), "-a", str(address)),
            stdout=log, stderr=log,
        )  # fmt: skip
    environ = {**os.environ, "CONTAINERD_ADDRESS": str(address)}
    end = time.monotonic() + 30
    while subprocess.run(("ctr", "version"), env=environ, capture_output=True, check=False).returncode:
        assert process.poll() is None, (folder / "log").read_text()[-2000:]
        assert time.monotonic() < end, (folder / "log").read_text()[-2000:]
        time.sleep(0.1)
    yield environ
    process.terminate()
    process.wait(30)
    shutil.rmtree(folder)


async def test_s11_the_containerd_of_this_machine_is_loaded(
    bench: Bench, containerd: dict[str, str], tiny: str
) -> None:
    choice = RouteChoice(bench.engine, bench.digests, "default", "remote", "", containerd)

    async def nodes() -> tuple[NodeFacts, ...]:
        return (here("containerd://2.1.9"),)

    loader = ClusterLoader(bench.engine, bench.digests, nodes, choice, bench.events.append)
    service = bench.service(f"FROM {tiny}\nCOPY file /file\n")
    image = await bench.builder().build(service, fingerprint())
    loaded = await loader.load(image)
    assert (loaded.how, loaded.nodes) == ("containerd", ("this-machine",))
    assert loaded.sent > 1_000_000
    route = await loader.route()
    assert await route.stores[0].digest(image.ref) == image.id
    await choice.aclose()


async def test_s11_the_docker_engine_of_this_machines_kubelet_is_found(
    bench: Bench, second: Dockerd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """cri-dockerd's command line says which one it is."""
    every = psutil.process_iter

    def children(named: list[str]) -> Iterator[psutil.Process]:
        """The machine may have one of its own; what ends meanwhile is passed over, as by psutil."""
        return (one for one in every([*named, "ppid"]) if one.info["ppid"] == os.getpid())

    monkeypatch.setattr(psutil, "process_iter", children)
    with pytest.raises(LoadError):
        await RouteChoice(bench.engine, bench.digests, "default", "remote", "", os.environ)(
            (here("docker://28.5.2"),)
        )
    program = tmp_path / "cri-dockerd"
    program.write_text(f"#!{sys.executable}\nimport time\ntime.sleep(300)\n")
    program.chmod(0o755)
    for address, how in (
        ((await bench.engine.endpoint()).host, "shared"),
        (f"unix://{second.socket}", "engine"),
    ):
        choice = RouteChoice(bench.engine, bench.digests, "default", "remote", "", os.environ)
        with subprocess.Popen((program, "--docker-endpoint", address)) as process:
            try:
                assert (await choice((here("docker://28.5.2"),))).how == how
            finally:
                process.terminate()
        await choice.aclose()


@pytest.mark.parametrize(
    ("words", "socket"),
    [
        (["--container-runtime-endpoint=unix:///run/other.sock"], "unix:///run/other.sock"),
        (["--v", "2", "--container-runtime-endpoint", "unix:///run/other.sock"], "unix:///run/other.sock"),
        (["--config=CONFIG"], "unix:///run/written.sock"),
        (["--config", "CONFIG", "--container-runtime-endpoint=unix:///run/a.sock"], "unix:///run/a.sock"),
        (["--config=/nowhere"], ""),
        ([], ""),
    ],
)
def test_the_kubelet_says_where_its_containerd_is(words: list[str], socket: str, tmp_path: Path) -> None:
    """Docker has a containerd of its own: the wrong one would take the image, and no pod would find it."""
    config = tmp_path / "config.yaml"
    config.write_text("kind: KubeletConfiguration\ncontainerRuntimeEndpoint: unix:///run/written.sock\n")
    given = [word.replace("CONFIG", str(config)) for word in words]
    assert hostnode._endpoint(["/usr/bin/kubelet", *given]) == socket


def test_a_node_in_a_container_on_this_kernel_is_not_this_machine() -> None:
    node = here("containerd://2.1.9")
    assert is_this_machine(node)
    assert not is_this_machine(replace(node, machine_id="4c1e1c0b0d5a4b8e9f0a1b2c3d4e5f60"))
    assert not is_this_machine(NodeFacts("far", "amd64", "containerd://2.1.9"))


async def test_without_root_the_error_names_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sudo = tmp_path / "sudo"
    sudo.write_text("#!/bin/sh\necho 'sudo: a password is required' >&2\nexit 1\n")
    sudo.chmod(0o755)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    shell = HostShell("this-machine", {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"})
    with pytest.raises(PlatformError) as caught:
        await shell.run("true")
    assert "a password is required" in caught.value.message
    assert "root" in (caught.value.hint or "")
