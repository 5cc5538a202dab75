"""Bases on the real engine, pulled from a real registry."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from devloop.adapters.docker.bases import EngineBases
from devloop.adapters.docker.config_digest import Digests
from devloop.adapters.docker.engine import Engine
from devloop.errors import BuildError, PlatformError
from devloop.events import Notice, Progress
from tests.adapters.conftest import Bench
from tests.support.fakes import SERVICE
from tests.support.registry import PASSWORD, USER, Registry

pytestmark = pytest.mark.engine


def bases(bench: Bench, home: Path | None = None) -> EngineBases:
    environment = {"HOME": str(home or bench.folder)}
    return EngineBases(bench.engine, bench.digests, bench.events.append, environment)


def pushed(registry: Registry, tiny: str, config: Path | None = None) -> str:
    """The tiny image in a registry, and no longer on the engine under that name."""
    ref = f"{registry.host}/base:1"
    docker = ["docker", *(["--config", str(config)] if config else [])]
    subprocess.run([*docker, "tag", tiny, ref], check=True)
    subprocess.run([*docker, "push", "-q", ref], check=True, capture_output=True)
    subprocess.run([*docker, "image", "rm", ref], check=True, capture_output=True)
    return ref


async def test_s5_bases_are_named_by_config_digest_with_onbuild(bench: Bench, tiny: str) -> None:
    service = bench.service(
        f"FROM {tiny}\nENV A=b\nWORKDIR /srv\nUSER 7\nONBUILD COPY . /app\nONBUILD RUN echo made\n"
    )
    ref = f"{service.image}:base"
    subprocess.run(
        ["docker", "build", "-q", "-t", ref, str(service.build.context)], check=True, capture_output=True
    )
    (base,) = await bases(bench).resolve(SERVICE, [ref], "linux/amd64")
    facts = await bench.engine.inspect(ref)
    assert facts is not None
    assert base.ref == ref
    assert base.id == facts.id
    assert base.onbuild == ("COPY . /app", "RUN echo made")
    assert (base.workdir, base.user) == ("/srv", "7")
    assert "A=b" in (base.env or ())
    assert not bench.events


async def test_s5_absent_bases_are_pulled_with_progress(bench: Bench, registry: Registry, tiny: str) -> None:
    ref = pushed(registry, tiny)
    (base,) = await bases(bench).resolve(SERVICE, [ref], "linux/amd64")
    facts = await bench.engine.inspect(tiny)
    assert facts is not None
    assert base.id == facts.id
    assert [e.message for e in bench.events if isinstance(e, Notice)] == [f"pulling {ref}"]
    assert all(e.stage == "fingerprint" for e in bench.events if isinstance(e, Progress))
    await bench.engine.remove(ref)


async def test_s5_bases_are_pulled_with_the_users_credentials(
    bench: Bench, locked_registry: Registry, tiny: str, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    (home / ".docker").mkdir(parents=True)
    login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    (home / ".docker" / "config.json").write_text(
        json.dumps({"auths": {locked_registry.host: {"auth": login}}})
    )
    ref = pushed(locked_registry, tiny, home / ".docker")
    with pytest.raises(BuildError):
        await bases(bench).resolve(SERVICE, [ref], "linux/amd64")
    (base,) = await bases(bench, home).resolve(SERVICE, [ref], "linux/amd64")
    assert base.id.startswith("sha256:")
    await bench.engine.remove(ref)


async def test_s5_a_base_that_cannot_be_pulled_names_itself_and_the_arg(
    bench: Bench, registry: Registry
) -> None:
    ref = f"{registry.host}/nowhere:3.12"
    with pytest.raises(BuildError) as caught:
        await bases(bench).resolve(SERVICE, [ref], "linux/amd64")
    assert ref in caught.value.message
    assert caught.value.reason == "BaseMissing"
    assert "services.backend.build.args" in (caught.value.hint or "")
    assert "ARG" in (caught.value.hint or "")


async def test_s6_a_base_for_another_platform_is_refused(bench: Bench, registry: Registry, tiny: str) -> None:
    ref = pushed(registry, tiny)
    with pytest.raises(BuildError) as caught:
        await bases(bench).resolve(SERVICE, [ref], "linux/s390x")
    assert "linux/s390x" in caught.value.message
    await bench.engine.remove(ref)


async def test_an_engine_that_is_gone_is_a_platform_error(bench: Bench, tmp_path: Path) -> None:
    from devloop.adapters.docker.endpoint import Endpoint

    gone = Engine.at(Endpoint(f"unix://{tmp_path}/none.sock"), role="builder's engine")
    with pytest.raises(PlatformError) as caught:
        await EngineBases(gone, Digests(gone), bench.events.append, {}).resolve(SERVICE, ["x"], "linux/amd64")
    assert caught.value.reason == "EngineGone"
    assert "start docker" in (caught.value.hint or "")
    await gone.aclose()


async def test_s21_a_pull_that_prints_nothing_is_ended_and_named(bench: Bench) -> None:
    """A registry that takes the connection and never answers."""
    service = replace(SERVICE, build=replace(SERVICE.build, pull_idle_timeout=1.0))
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        ref = f"127.0.0.1:{silent.getsockname()[1]}/base:1"
        with pytest.raises(BuildError) as caught:
            await bases(bench).resolve(service, [ref], "linux/amd64")
    assert caught.value.reason == "PullIdle"
    assert ref in caught.value.message
    assert "services.backend.build.pull_idle_timeout" in (caught.value.hint or "")
    assert caught.value.outside_tree


async def test_s21_a_credential_helper_that_hangs_ends_as_a_pull_that_hangs(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper = tmp_path / "docker-credential-hangs"
    helper.write_text("#!/bin/sh\nread line < fifo\n")
    helper.chmod(0o755)
    os.mkfifo(tmp_path / "fifo")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (tmp_path / ".docker").mkdir()
    (tmp_path / ".docker" / "config.json").write_text(json.dumps({"credsStore": "hangs"}))
    service = replace(SERVICE, build=replace(SERVICE.build, pull_idle_timeout=1.0))
    with pytest.raises(BuildError) as caught:
        await bases(bench, tmp_path).resolve(service, ["127.0.0.1:9/base:1"], "linux/amd64")
    assert caught.value.reason == "PullIdle"
    (tmp_path / "fifo").write_text("go on\n")  # its thread ends


async def test_s5_a_base_that_is_asked_for_again_and_again_is_announced_once(
    bench: Bench, registry: Registry, tiny: str
) -> None:
    looking = bases(bench)
    ref = f"{registry.host}/late:1"
    for _ in range(3):
        with pytest.raises(BuildError) as caught:
            await looking.resolve(SERVICE, [ref], "linux/amd64")
        assert caught.value.outside_tree
    assert [e.message for e in bench.events if isinstance(e, Notice)] == [f"pulling {ref}"]
    subprocess.run(["docker", "tag", tiny, ref], check=True)
    (base,) = await looking.resolve(SERVICE, [ref], "linux/amd64")
    assert base.id.startswith("sha256:")
    await bench.engine.remove(ref)
