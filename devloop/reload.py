"""config.yaml, manifests and charts under `watch`: a valid change is taken, an invalid one is shown (S28)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import anyio

from devloop import config as configs
from devloop.config import Config
from devloop.errors import ConfigError, DevloopError
from devloop.events import ConfigReloaded, Emit, Notice
from devloop.install import Installation
from devloop.interests import CONFIG, MANIFESTS, config_interest, manifest_interest, release_interest
from devloop.model import Change
from devloop.watching import Interest

Override = Callable[[Config], Config]


class ProjectFiles:
    """The files that are no service's: what they ask for is done by `run`, one at a time."""

    def __init__(
        self,
        config: Config,
        override: Override,
        installation: Installation,
        employ: Callable[[Config], Sequence[str]],
        emit: Emit,
    ) -> None:
        self.config = config
        self._override, self._installation, self._employ, self._emit = override, installation, employ, emit
        self._waiting: set[str] = set()
        self._followed: frozenset[Path] = frozenset()
        self._woken = anyio.Event()

    def interests(self) -> list[Interest]:
        """What the watcher has to tell of."""
        manifests = manifest_interest(self.config)
        self._followed = manifests.files
        return [config_interest(self.config), manifests, release_interest(self.config)]

    def moved(self) -> bool:
        """Whether kustomizations name other files than `interests` said. Reads files."""
        return manifest_interest(self.config).files != self._followed

    def deliver(self, name: str, _: Change) -> None:
        self._wake(name)

    def _wake(self, name: str) -> None:
        self._waiting.add(name)
        self._woken.set()

    async def run(self) -> None:
        """Until cancelled; also when what manifests lacked is there."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._follow_prerequisites)
            await self._serve()

    async def _follow_prerequisites(self) -> None:
        manifests = self._installation.manifests
        while True:
            await manifests.held.wait()
            with suppress(DevloopError):  # as long as there is no answer, it is missing
                await manifests.unblocked()
                self._wake(MANIFESTS)
            await anyio.lowlevel.checkpoint()

    async def _serve(self) -> None:
        while True:
            await self._woken.wait()
            self._woken = anyio.Event()
            waiting, self._waiting = self._waiting, set()
            if CONFIG in waiting:
                self._reload()
            try:
                await self._installation.settle()
            except DevloopError as error:
                self._emit(Notice("", "error", "\n".join((error.message, *error.evidence)), error.hint))

    def _reload(self) -> None:
        try:
            new = self._override(configs.load(self.config.path))
        except ConfigError as error:
            self._emit(Notice("", "error", f"{error.message}\nthe config from before stays", error.hint))
            return
        for section in ("cluster", "metrics"):
            if getattr(new, section) != getattr(self.config, section):
                self._emit(
                    Notice("", "warning", f"{section}: has changed", "end devloop watch and start it again")
                )
        self.config = new
        self._emit(ConfigReloaded(tuple(self._employ(new))))
