"""Full builds by `POST /build` with a tar of the context: BuildKit without a command, or the legacy builder.

The server applies no ignore file and wants the Dockerfile in the tar, so it can be used only where the
Dockerfile lies in its context and is not ignored (S9).
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from functools import partial

import anyio
import anyio.to_thread

from devloop.adapters.build import buildkit_trace as trace
from devloop.adapters.build.transcript import Transcript, text_of
from devloop.adapters.docker.bases import registry_config
from devloop.adapters.docker.connection import EngineRefusedError
from devloop.adapters.docker.engine import Engine
from devloop.adapters.docker.engine_facts import Json
from devloop.borders import ENGINE_ANSWER
from devloop.concurrency import in_daemon_thread
from devloop.errors import PlatformError
from devloop.events import Emit
from devloop.model import Service

CANCEL_SECONDS = 2.0
_LEGACY_STEP = re.compile(r"^Step (?P<step>\d+)/(?P<steps>\d+) : (?P<text>.*)$")


class ApiBuild:
    """One kind of build: the engine's own BuildKit (`legacy` False), or its legacy builder."""

    def __init__(self, engine: Engine, environment: Mapping[str, str], emit: Emit, *, legacy: bool) -> None:
        self._engine = engine
        self._environment = environment
        self._emit = emit
        self._legacy = legacy

    async def build(
        self,
        service: Service,
        ref: str,
        platform: str,
        labels: Mapping[str, str],
        context: AsyncIterator[bytes],
    ) -> str:
        """Build and tag the tar; the id that the engine reports. Raises BuildError with the proof.

        Cancelling closes the connection and makes the engine end the build (S10).
        """
        build = uuid.uuid4().hex
        transcript = Transcript(service.name, self._emit)
        reader = _LegacyReader(transcript) if self._legacy else _TraceReader(transcript)
        auth = ""
        if self._legacy:
            auth = await in_daemon_thread(partial(registry_config, self._environment))
        query = self._query(service, ref, platform, labels, build)
        try:
            async with aclosing(self._engine.build(context, query, auth)) as answers:
                async for message in answers:
                    with ENGINE_ANSWER(f"build of {service.name}: the engine's output"):
                        reader.take(message)
        except EngineRefusedError as refusal:
            reader.fail(refusal.message)
            dockerfile = await text_of(service.build.dockerfile)
            raise transcript.failure(f"build of {service.name}", refusal.message, dockerfile) from refusal
        except BaseException:
            # Without this a body that failed half-way, or a cancellation, may leave the build running.
            with anyio.move_on_after(CANCEL_SECONDS, shield=True):
                await self._cancel(build)
            raise
        return reader.id

    async def _cancel(self, build: str) -> None:
        try:
            await self._engine.cancel_build(build)
        except PlatformError:
            pass  # an engine that is gone builds nothing

    def _query(
        self, service: Service, ref: str, platform: str, labels: Mapping[str, str], build: str
    ) -> dict[str, str]:
        spec = service.build
        query = {
            "t": ref,
            "dockerfile": spec.dockerfile.relative_to(spec.context).as_posix(),
            "labels": json.dumps(dict(labels)),
            "buildargs": json.dumps(dict(spec.args)),
            "rm": "1",
            "forcerm": "1",
        }
        if not self._legacy:
            query |= {"version": "2", "buildid": build}
        if spec.target:
            query["target"] = spec.target
        if platform:
            query["platform"] = platform
        return query


class _TraceReader:
    """Reads the messages of a BuildKit build."""

    def __init__(self, transcript: Transcript) -> None:
        self._transcript = transcript
        self.id = ""

    def take(self, message: Json) -> None:
        if message.get("id") == "moby.image.id":
            self.id = str(message["aux"]["ID"])
        elif message.get("id") == "moby.buildkit.trace":
            try:
                trace.follow(base64.b64decode(message["aux"]), self._transcript)
            except (ValueError, binascii.Error) as error:
                raise EngineRefusedError(f"the engine sent a trace that cannot be read: {error}") from error

    def fail(self, message: str) -> None:
        """The trace has shown already which vertex failed."""


class _LegacyReader:
    """Reads the messages of the legacy builder: "Step 2/3 : RUN x", then the lines of that step."""

    def __init__(self, transcript: Transcript) -> None:
        self._transcript = transcript
        self._step = ""
        self.id = ""

    def take(self, message: Json) -> None:
        aux = message.get("aux")
        if isinstance(aux, dict) and aux.get("ID"):
            self.id = str(aux["ID"])
        for line in str(message.get("stream") or "").splitlines():
            step = _LEGACY_STEP.match(line)
            if step:
                self._transcript.end(self._step)
                self._step = step["step"]
                self._transcript.begin(self._step, f"[{step['step']}/{step['steps']}] {step['text']}")
            elif line.strip():
                self._transcript.say(self._step, line.rstrip())

    def fail(self, message: str) -> None:
        self._transcript.end(self._step, message)
