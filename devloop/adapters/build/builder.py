"""Full builds by the command or the API (S9): limits how many run, labels, tags, proves what came out."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import anyio
import anyio.to_thread

from devloop import scratch
from devloop.adapters.archive.delta_load import send_delta
from devloop.adapters.archive.docker_archive import Tally
from devloop.adapters.archive.layer_files import layer_files
from devloop.adapters.build.build_api import ApiBuild
from devloop.adapters.build.build_cli import CliBuild, DockerCommand, emulates, find_command, reserved_args
from devloop.adapters.build.read_context import ContextReader, ContextTree
from devloop.adapters.build.sent_contexts import SentContexts
from devloop.adapters.docker.config_digest import Digests
from devloop.adapters.docker.connection import EngineRefusedError
from devloop.adapters.docker.engine import Engine
from devloop.adapters.docker.labels import FINGERPRINT, PROJECT, SERVICE
from devloop.borders import disk
from devloop.delta.outputs import LayerFiles
from devloop.errors import BuildError, PlatformError, TreeMovedError
from devloop.events import Emit, Notice
from devloop.inputs.archive import write_beside
from devloop.model import Fingerprint, How, Image, Service

OUTPUTS = "-outputs"  # what the tag of an image ends in that is built for its layers alone
LONGEST_TURN = 5.0  # seconds that a build waits for those of other services before it starts beside them


class ImageBuilder:
    """`ports.Builder` by docker's own builders."""

    def __init__(
        self,
        engine: Engine,
        digests: Digests,
        tree: ContextTree,
        project: str,
        emit: Emit,
        environment: Mapping[str, str],
        sent: SentContexts,
        *,
        parallel: int | None = None,
    ) -> None:
        self._engine = engine
        self._digests = digests
        self._tree = tree
        self._project = project
        self._emit = emit
        self._environment = environment
        self._reader = ContextReader(tree, sent)
        self._limit = anyio.CapacityLimiter(parallel or max(1, (os.cpu_count() or 2) // 2))
        self._command: DockerCommand | None = None
        self._looked = False
        self._looking = anyio.Lock()
        self._warned: set[str] = set()

    async def prepare(self) -> None:
        """Find the docker command now, so that no build has to wait for it."""
        async with self._looking:
            if not self._looked:
                self._command = await find_command(self._environment)
                self._looked = True

    async def build(self, service: Service, fingerprint: Fingerprint, *, suffix: str = "") -> Image:
        """The image of this fingerprint under its tag and `suffix` (S3), built in full.

        Cancelling ends the build on the engine too (S10).
        Raises BuildError, TreeMovedError (S8), PlatformError.
        """
        await self.prepare()
        async with self._turn():
            platform = await self._platform(service, fingerprint)
            ref = service.ref(fingerprint) + suffix
            how, reported = await self._run(service, fingerprint, ref, platform)
            return await self._proven(service, fingerprint, ref, how, reported)

    async def continues(self, service: Service) -> bool:
        """Whether `build_on` can build the service."""
        await self.prepare()
        return self._command is not None and not reserved_args(service)

    async def build_on(self, below: Image, service: Service, dockerfile: bytes) -> Image:
        """The image of `below`'s fingerprint, by a Dockerfile that stands on that archive alone.

        It is sent to the engine under its reference, which is gone afterwards. Terms as for `build`.
        Raises LoadError too.
        """
        assert self._command is not None, "see `continues`"
        fingerprint, ref = below.fingerprint, service.ref(below.fingerprint)
        async with self._turn():
            platform = await self._platform(service, fingerprint)
            with disk(f"build of {service.name}"), scratch.folder() as folder:
                spec = replace(service.build, context=Path(folder), dockerfile=Path(folder, "Dockerfile"))
                await anyio.Path(spec.dockerfile).write_bytes(dockerfile)
                try:
                    await send_delta(self._engine, below, Tally(), self._digests)
                    cli = CliBuild(self._command, self._environment, self._emit)
                    labels, endpoint = self.labels(service, fingerprint), await self._engine.endpoint()
                    reported = await cli.build(replace(service, build=spec), ref, platform, labels, endpoint)
                finally:
                    with anyio.CancelScope(shield=True), suppress(EngineRefusedError, PlatformError):
                        await self._engine.remove(below.ref)
            return await self._proven(service, fingerprint, ref, "continued", reported)

    @asynccontextmanager
    async def exported(
        self,
        service: Service,
        fingerprint: Fingerprint,
        dockerfile: bytes,
        places: Sequence[str],
        known: Collection[str],
    ) -> AsyncIterator[tuple[LayerFiles, tuple[str, ...]]]:
        """What another Dockerfile makes of the same context, where `continues`: the layers of its image (see
        `layer_files`), and the names of the steps that were not in the builder's cache.

        The layers are gone afterwards, and so is the image. Terms as for `build`; LoadError too.
        """
        assert self._command is not None, "see `continues`"
        with disk(f"build of {service.name}"), scratch.folder() as folder:
            written = Path(folder, "Dockerfile")
            await anyio.to_thread.run_sync(
                write_beside, written, dockerfile, service.build, fingerprint.inputs
            )
            ref, ran = service.ref(fingerprint) + OUTPUTS, list[str]()
            try:
                async with self._turn():
                    platform = await self._platform(service, fingerprint)
                    reported = await self._run_command(
                        self._command, service, fingerprint, ref, platform, dockerfile=written, ran=ran
                    )
                    await self._proven(service, fingerprint, ref, "cli", reported)
                layers = await layer_files(self._engine, ref, Path(folder), places, known)
            finally:
                with anyio.CancelScope(shield=True), suppress(EngineRefusedError, PlatformError):
                    await self._engine.remove(ref)
            yield layers, tuple(ran)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """One of the places for builds; a build that hangs keeps others waiting only so long."""
        builder, waited = object(), True
        with anyio.move_on_after(LONGEST_TURN):
            await self._limit.acquire_on_behalf_of(builder)
            waited = False
        try:
            yield
        except BuildError:
            with suppress(EngineRefusedError):  # it is there
                await self._engine.ping()  # else that is the reason, whatever the builder's last words
            raise
        finally:
            if not waited:
                self._limit.release_on_behalf_of(builder)

    async def _run(
        self, service: Service, fingerprint: Fingerprint, ref: str, platform: str
    ) -> tuple[How, str]:
        """Build by the first builder that this service can use; how, and the id that the builder reported."""
        labels = self.labels(service, fingerprint)
        reserved = reserved_args(service)
        command = None if reserved else self._command
        if command is not None:
            return "cli", await self._run_command(command, service, fingerprint, ref, platform)
        await self._check_api(service, fingerprint, reserved)
        legacy = not await self._has_buildkit()
        if legacy:
            self._warn(
                service,
                "building with the legacy builder: slower, and RUN --mount does not work",
                "install docker-buildx, or Docker 18.09 or newer",
            )
        api = ApiBuild(self._engine, self._environment, self._emit, legacy=legacy)
        reported = await api.build(service, ref, platform, labels, self._tree.archive(service, fingerprint))
        return ("legacy" if legacy else "buildkit"), reported

    async def _run_command(
        self,
        command: DockerCommand,
        service: Service,
        fingerprint: Fingerprint,
        ref: str,
        platform: str,
        *,
        dockerfile: Path | None = None,
        ran: list[str] | None = None,
    ) -> str:
        """Build by the docker command; the id that it reported. `dockerfile`: instead of the service's."""
        cli = CliBuild(command, self._environment, self._emit)
        labels, endpoint = self.labels(service, fingerprint), await self._engine.endpoint()

        async def work(named: Service, on_read: Callable[[], None]) -> str:
            spec = named.build if dockerfile is None else replace(named.build, dockerfile=dockerfile)
            return await cli.build(replace(named, build=spec), ref, platform, labels, endpoint, on_read, ran)

        try:
            return await self._reader.build(service, fingerprint, work)
        except TreeMovedError:
            await self._engine.remove(ref)  # a tag must not name what it was not built from (S3)
            raise

    async def _check_api(self, service: Service, fingerprint: Fingerprint, reserved: list[str]) -> None:
        """Refuse by name what only a docker command could build."""
        why = ""
        if service.build.secrets:
            why = "it uses build secrets"
        elif not await self._tree.complete(service, fingerprint):
            why = "its Dockerfile lies outside the context, or .dockerignore leaves it out"
        if not why:
            return
        missing = "no docker command with BuildKit was found"
        if reserved:
            missing = f"the build arg {reserved[0]} is a variable of the docker command itself"
        self._looked = False  # somebody may install one meanwhile
        raise BuildError(
            f"build of {service.name}: {why}, and {missing}",
            reason="NoBuilder",
            outside_tree=not reserved,
            hint="rename the build arg"
            if reserved
            else "install docker-buildx (apt install docker-buildx-plugin)",
        )

    async def _has_buildkit(self) -> bool:
        version = (await self._engine.info()).version.split(".")
        return not version[0].isdigit() or int(version[0]) >= 19

    async def _platform(self, service: Service, fingerprint: Fingerprint) -> str:
        """The platform to build for; an engine of another architecture is refused by name (S6)."""
        wanted = service.build.platform or fingerprint.inputs.platform
        info = await self._engine.info()
        if wanted and "/".join(wanted.split("/")[:2]) != info.platform and not await self._emulates(wanted):
            raise BuildError(
                f"build of {service.name} for {wanted}: engine {info.name} builds {info.platform} only",
                reason="PlatformMismatch",
                outside_tree=True,
                hint="install emulation (docker run --privileged --rm tonistiigi/binfmt --install all), use "
                f"an engine of that architecture, or set services.{service.name}.build.platform",
            )
        return wanted

    async def _emulates(self, platform: str) -> bool:
        """Whether the builder says that it builds for a platform that is not the engine's own."""
        if self._command is None or not self._command.buildx:
            return False
        return await emulates(self._command, self._environment, await self._engine.endpoint(), platform)

    async def _proven(
        self, service: Service, fingerprint: Fingerprint, ref: str, how: How, reported: str
    ) -> Image:
        """The image as the engine holds it; BuildError if that is not what the builder reported."""
        try:
            facts = await self._engine.inspect(ref)
        except EngineRefusedError as refusal:
            raise BuildError(f"build of {service.name}: {ref}: {refusal.message}") from refusal
        if facts is None:
            raise BuildError(
                f"build of {service.name}: the builder reported success, but the engine has no {ref}",
                reason="ImageMissing",
                outside_tree=True,
                hint="does the docker command build on the same engine? docker context ls, echo $DOCKER_HOST",
            )
        digest = await self._digests.of(ref, facts)
        if reported.strip() not in ("", digest, facts.id):
            raise BuildError(
                f"build of {service.name}: the builder reported {reported.strip()}, but {ref} is {digest}",
                reason="ImageReplaced",
                outside_tree=True,
                hint=f"is something else writing the tag {ref}?",
            )
        return Image(service.name, fingerprint, ref, digest, how, facts.size)

    def labels(self, service: Service, fingerprint: Fingerprint) -> dict[str, str]:
        """What marks an image as this project's (S25)."""
        return {PROJECT: self._project, SERVICE: service.name, FINGERPRINT: fingerprint.digest}

    def _warn(self, service: Service, message: str, hint: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            self._emit(Notice(service.name, "warning", message, hint))
