"""The images that Dockerfiles build on, from the builder's engine, pulled where they are absent (S5)."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path

from devloop.activity import Activity, bounded
from devloop.adapters.docker.config_digest import Digests
from devloop.adapters.docker.connection import EngineRefusedError
from devloop.adapters.docker.engine import Engine
from devloop.adapters.docker.engine_facts import ImageFacts, Json
from devloop.borders import ENGINE_ANSWER
from devloop.concurrency import gather, in_daemon_thread
from devloop.errors import BuildError
from devloop.events import Emit, Notice, Progress
from devloop.image_refs import pull_reference, registry_of, split
from devloop.model import Base, Service


class EngineBases:
    """`ports.Bases` over one engine. `environment` says where the user's docker credentials are."""

    def __init__(self, engine: Engine, digests: Digests, emit: Emit, environment: Mapping[str, str]) -> None:
        self._engine = engine
        self._digests = digests
        self._emit = emit
        self._environment = environment
        self._asking = threading.BoundedSemaphore(4)  # a credential helper that hangs keeps its thread
        self._announced: set[str] = (
            set()
        )  # references whose pull was announced, and has not come through since

    async def resolve(self, service: Service, refs: Sequence[str], platform: str) -> tuple[Base, ...]:
        """Each base's config digest and ONBUILD lines, in the order of `refs`; looked at again each time.

        Raises BuildError (no such image, no access), PlatformError (engine gone).
        """

        async def one(ref: str) -> Base:
            facts = await self._have(service, ref, platform)
            digest = await self._digests.of(ref, facts)
            return Base(ref, digest, facts.onbuild, facts.env, facts.workdir, facts.user)

        return await gather(one, refs)

    async def _have(self, service: Service, ref: str, platform: str) -> ImageFacts:
        facts = await self._engine.inspect(ref)
        if facts is not None and _fits(facts, platform):
            return facts
        await bounded(
            lambda: self._pull(service.name, ref, platform),
            service.build.pull_idle_timeout,
            lambda activity: _silent(service, ref, activity),
        )
        self._announced.discard(ref)
        facts = await self._engine.inspect(ref)
        if facts is None or not _fits(facts, platform):
            raise BuildError(
                f"base image {ref}: there is no image for {platform}"
                + (f", only {facts.platform}" if facts else ""),
                reason="BasePlatform",
                hint=f"name a base that exists for {platform}, or set build.platform of {service.name}",
                outside_tree=True,
            )
        return facts

    async def _pull(self, service: str, ref: str, platform: str) -> None:
        name, tag = pull_reference(ref)
        auth = await in_daemon_thread(partial(self._login, ref))
        if ref not in self._announced:
            self._announced.add(ref)
            self._emit(Notice(service, "info", f"pulling {ref}"))
        progress = PullProgress(service, ref, self._emit)
        try:
            async with aclosing(self._engine.pull(name, tag, platform, auth)) as answers:
                async for message in answers:
                    with ENGINE_ANSWER(f"the pull of {ref}: the engine's output"):
                        progress.take(message)
        except EngineRefusedError as refusal:
            raise await self._impossible(service, ref, refusal) from refusal

    def _login(self, ref: str) -> str:
        with self._asking:
            return credentials(ref, self._environment)

    async def _impossible(self, service: str, ref: str, refusal: EngineRefusedError) -> BuildError:
        repository = split(ref)[0].rpartition("/")[2]
        here = sorted(tag for image in await self._engine.images() for tag in image.refs if repository in tag)
        known = f" (here: {', '.join(here[:3])})" if here else ""
        return BuildError(
            f"base image {ref}: it is not on the engine, and pulling it failed: {refusal.message}",
            reason="BaseMissing",
            outside_tree=True,
            evidence=(f"FROM {ref}",),
            hint=(
                f"check the name and `docker login {registry_of(ref)}`; without that registry, put the base "
                "into an ARG before FROM (ARG BASE=… / FROM ${BASE}) and give an image that is here"
                f"{known} in config.yaml: services.{service}.build.args: {{BASE: …}}"
            ),
        )


def _silent(service: Service, ref: str, activity: Activity) -> BuildError:
    return BuildError(
        f"base image {ref}: the pull made no progress for {activity.idle:.0f} s and was stopped",
        reason="PullIdle",
        evidence=(f"FROM {ref}",),
        hint=f"does `docker pull {ref}` make progress? services.{service.name}.build.pull_idle_timeout"
        " is how long a pull may be silent",
        outside_tree=True,
    )


class PullProgress:
    """The layers of one pull, summed into Progress events, at most one per whole percent."""

    def __init__(self, service: str, ref: str, emit: Emit) -> None:
        self._service, self._ref, self._emit = service, ref, emit
        self._layers: dict[str, tuple[int, int]] = {}
        self._shown = -1

    def take(self, message: Json) -> None:
        detail = message.get("progressDetail") or {}
        if message.get("status") != "Downloading" or not detail.get("total"):
            return
        self._layers[str(message.get("id"))] = (int(detail.get("current") or 0), int(detail["total"]))
        done = sum(layer[0] for layer in self._layers.values())
        total = sum(layer[1] for layer in self._layers.values())
        percent = done * 100 // total
        if percent != self._shown:
            self._shown = percent
            self._emit(Progress(self._service, "fingerprint", done, total, "bytes", f"pulling {self._ref}"))


def credentials(ref: str, environment: Mapping[str, str]) -> str:
    """The X-Registry-Auth header for a reference, "" without a login. Runs credential helpers: blocking."""
    from docker import auth, errors  # slow to import, and only a pull or a push needs it

    named = environment.get("DOCKER_CONFIG")
    home = Path(named) if named else Path(environment.get("HOME") or Path.home()) / ".docker"
    path = home / "config.json"
    if not path.is_file():
        return ""
    registry, _ = auth.resolve_repository_name(split(ref)[0])
    try:
        found = auth.load_config(str(path)).resolve_authconfig(registry)
    except (errors.DockerException, OSError, ValueError, TypeError, AttributeError, LookupError) as error:
        raise BuildError(
            f"credentials for {registry}: {error}",
            reason="BadCredentials",
            hint=f"docker login {registry}, or look into {path}",
            outside_tree=True,
        ) from error
    return auth.encode_header(found).decode() if found else ""


def registry_config(environment: Mapping[str, str]) -> str:
    """The X-Registry-Config header for the legacy builder: every login. Runs credential helpers: blocking."""
    from docker import auth, errors

    named = environment.get("DOCKER_CONFIG")
    home = Path(named) if named else Path(environment.get("HOME") or Path.home()) / ".docker"
    path = home / "config.json"
    if not path.is_file():
        return ""
    try:
        logins = auth.load_config(str(path)).get_all_credentials()  # type: ignore[no-untyped-call]
    except (errors.DockerException, OSError, ValueError, TypeError, AttributeError, LookupError) as error:
        raise BuildError(
            f"credentials in {path}: {error}", reason="BadCredentials", outside_tree=True
        ) from error
    return auth.encode_header(json.loads(json.dumps(logins))).decode() if logins else ""


def _fits(facts: ImageFacts, platform: str) -> bool:
    """Whether an image is for os/arch; an image that names none (docker import) fits any."""
    wanted = "/".join(platform.split("/")[:2])
    return not wanted or not facts.architecture or facts.platform == wanted
