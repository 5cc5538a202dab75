"""The loader of deltas: what it verified may carry the next one."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import anyio

from devloop.activity import Activity, bounded
from devloop.adapters.delta.builder import DeltaBuilder
from devloop.adapters.docker.connection import EngineRefusedError
from devloop.borders import disk
from devloop.errors import LayersMissingError, LoadError, PlatformError, StageError
from devloop.model import Fingerprint, Image, LoadedImage, Service
from devloop.ports import Loader

LONGEST_SILENCE = 600.0  # seconds without progress after which a parent is given up


def _silent(activity: Activity) -> LoadError:
    return LoadError(f"no progress for {activity.idle:.0f} s")


class DeltaLoader:
    """`ports.Loader`: what it verified may carry deltas; LayersMissingError for one that does not load."""

    def __init__(self, inner: Loader, builder: DeltaBuilder) -> None:
        self._inner = inner
        self._builder = builder

    async def find(self, service: Service, fingerprint: Fingerprint) -> Image | None:
        self._builder.keeper.note(service)
        found = await self._inner.find(service, fingerprint)
        if found is not None:
            await self._builder.keeper.found(found)
        return found

    async def load(self, image: Image) -> LoadedImage:
        try:
            loaded = await self._inner.load(image)
        except LoadError as error:
            if image.archive is None or error.reason == "DiskFull":
                raise
            raise LayersMissingError(
                error.message,
                reason=error.reason,
                evidence=error.evidence,
                hint=error.hint,
                cause=error.cause,
            ) from error
        await self._builder.loaded(loaded.image)
        return replace(loaded, image=replace(loaded.image, archive=None))  # its bytes are not needed any more

    async def end(self, node: str, instance: str, *, deaf: bool) -> bool:
        return await self._inner.end(node, instance, deaf=deaf)

    async def run(self) -> None:
        """Learns parents, folds chains and writes down what is known in the background, until cancelled."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._builder.keeper.write)
            await self._learn()

    async def _learn(self) -> None:
        self._builder.keeper.learner = True
        while True:
            image = await self._builder.keeper.to_learn()
            try:
                with disk(f"learning the layers of {image.ref}", LoadError):
                    await bounded(
                        partial(self._builder.keeper.learn, image, self._inner.load), LONGEST_SILENCE, _silent
                    )
            except (PlatformError, StageError, EngineRefusedError):
                continue  # without a parent the next build is a full one, and asks again
