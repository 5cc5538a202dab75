"""Bases on the real engine, pulled from a real registry."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path

import pytest

from devloop.adapters.bases import EngineBases
from devloop.adapters.digest import Digests
from devloop.adapters.engine import Engine
from devloop.errors import BuildError, PlatformError
from devloop.events import Notice, Progress
from tests.adapters.docker.conftest import Bench
from tests.adapters.docker.registry import PASSWORD, USER, Registry

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
    (base,) = await bases(bench).resolve("backend", [ref], "linux/amd64")
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
    (base,) = await bases(bench).resolve("backend", [ref], "linux/amd64")
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
        await bases(bench).resolve("backend", [ref], "linux/amd64")
    (base,) = await bases(bench, home).resolve("backend", [ref], "linux/amd64")
    assert base.id.startswith("sha256:")
    await bench.engine.remove(ref)


async def test_s5_a_base_that_cannot_be_pulled_names_itself_and_the_arg(
    bench: Bench, registry: Registry
) -> None:
    ref = f"{registry.host}/nowhere:3.12"
    with pytest.raises(BuildError) as caught:
        await bases(bench).resolve("backend", [ref], "linux/amd64")
    assert ref in caught.value.message
    assert caught.value.reason == "BaseMissing"
    assert "services.backend.build.args" in (caught.value.hint or "")
    assert "ARG" in (caught.value.hint or "")


async def test_s6_a_base_for_another_platform_is_refused(bench: Bench, registry: Registry, tiny: str) -> None:
    ref = pushed(registry, tiny)
    with pytest.raises(BuildError) as caught:
        await bases(bench).resolve("backend", [ref], "linux/s390x")
    assert "linux/s390x" in caught.value.message
    await bench.engine.remove(ref)


async def test_an_engine_that_is_gone_is_a_platform_error(bench: Bench, tmp_path: Path) -> None:
    from devloop.adapters.endpoint import Endpoint

    gone = Engine.at(Endpoint(f"unix://{tmp_path}/none.sock"), role="builder's engine")
    with pytest.raises(PlatformError) as caught:
        await EngineBases(gone, Digests(gone), bench.events.append, {}).resolve("b", ["x"], "linux/amd64")
    assert caught.value.reason == "EngineGone"
    assert "start docker" in (caught.value.hint or "")
    await gone.aclose()
