"""config.yaml, manifests and charts under `watch`: a valid change is taken, an invalid one is shown (S28)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path

import anyio
import anyio.to_thread

from devloop.config import load as configs
from devloop.config.load import Config, CurrentConfig
from devloop.deploy.installer import Installation
from devloop.errors import ConfigError, DevloopError
from devloop.events import ConfigReloaded, Emit, Notice
from devloop.files import read_bytes
from devloop.model import Change, Service
from devloop.watch.interests import CONFIG, config_interest, manifest_interest, release_interest
from devloop.watch.watcher import Interest, Watcher

Override = Callable[[Config], Config]
AGAIN_SECONDS = 1.0  # between two looks at a config.yaml that was refused


class ProjectFiles:
    """The files that are no service's: what they ask for is done by `run`.

    `taken` gets each config that was taken, with the names of the services that are new or changed;
    `affected` the names of those of which a saved manifest was refused, or is no longer.
    """

    def __init__(
        self,
        current: CurrentConfig,
        override: Override,
        installation: Installation,
        taken: Callable[[Sequence[str]], None],
        affected: Callable[[Collection[str]], None],
        emit: Emit,
    ) -> None:
        self._current, self._affected = current, affected
        self._override, self._installation, self._taken, self._emit = override, installation, taken, emit
        self._refused = ""  # why config.yaml as it lies there is not what counts
        self._read: bytes | None = None  # config.yaml
        self._followed: frozenset[Path] = frozenset()
        self._saved = anyio.Event()  # config.yaml was
        self._woken = anyio.Event()  # something else is to be written to the cluster

    @property
    def refused(self) -> bool:
        """Whether config.yaml as it lies there is not the one that counts."""
        return bool(self._refused)

    @property
    def refusal(self) -> str:
        """Why, "" where it is."""
        return self._refused

    def interests(self, config: Config) -> list[Interest]:
        """What the watcher has to report. Reads files."""
        manifests = manifest_interest(config)
        self._followed = manifests.files
        return [config_interest(config), manifests, release_interest(config)]

    def moved(self) -> bool:
        """Whether kustomizations name other files than `interests` returned. Reads files."""
        return manifest_interest(self._current.config).files != self._followed

    def deliver(self, name: str, _: Change) -> None:
        (self._saved if name == CONFIG else self._woken).set()

    async def run(self) -> None:
        """Until cancelled; also when what manifests lacked is there."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._follow_prerequisites)
            group.start_soon(self._follow_config)
            await self._install()

    async def _follow_config(self) -> None:
        """At once: a release that is just upgraded may take minutes. One that was refused is looked at again:
        what it lacks (the folder of a new service) may come where nobody watches."""
        while True:
            with anyio.move_on_after(AGAIN_SECONDS if self._refused else None):
                await self._saved.wait()
            saved = self._saved.is_set()
            if saved:
                self._saved = anyio.Event()
            self.reload(again=not saved)
            if saved or not self._refused:
                self._woken.set()

    async def _follow_prerequisites(self) -> None:
        manifests = self._installation.manifests
        while True:
            await manifests.held.wait()
            with suppress(DevloopError):  # as long as there is no answer, it is missing
                await manifests.unblocked()
                self._woken.set()
            await anyio.lowlevel.checkpoint()

    async def _install(self) -> None:
        while True:
            await self._woken.wait()
            self._woken = anyio.Event()
            try:
                await self._installation.settle(trips_follow=True)
            except DevloopError as error:
                message = "\n".join((error.message, *error.evidence))
                self._emit(Notice("", "error", message, error.hint, error.about))
            self._affected(self._installation.manifests.affected())

    def look(self) -> None:
        """Take config.yaml as it is now, for whoever cannot wait for its file event: where it is another than
        when it was read last, or was refused then."""
        if self._refused or _text(self._current.config.path) != self._read:
            self.reload(again=True)

    def reload(self, *, again: bool = False) -> None:
        """Take config.yaml as it is now: whole, or not at all. `again`: nobody saved it; what was reported of
        it is not repeated."""
        self._read = _text(self._current.config.path)
        try:
            new = self._override(configs.load(self._current.config.path))
        except ConfigError as error:
            self._refuse(error.message, error.hint, again=again)
            return
        before = self._current.config
        if new.cluster != before.cluster:
            self._refuse(
                "cluster: has changed; this config.yaml is not applied while devloop watch runs",
                "restart devloop watch",
                again=again,
            )
            return
        if new.metrics != before.metrics:
            self._emit(Notice("", "warning", "metrics: has changed", "restart devloop watch"))
            new = new.model_copy(update={"metrics": before.metrics})
        if new != before or self._refused:
            self._refused = ""
            self._take(new)

    def _refuse(self, message: str, hint: str | None, *, again: bool) -> None:
        if not (again and message == self._refused):
            self._emit(Notice("", "error", f"{message}\nkeeping the previous config", hint))
        self._refused = message

    def _take(self, config: Config) -> None:
        before = {service.name: service for service in self._current.services}
        self._current.take(config)
        now = {service.name: service for service in self._current.services}
        touched = tuple(name for name, service in now.items() if before.get(name) != service)
        gone = tuple(before.keys() - now.keys())
        self._emit(ConfigReloaded(touched, gone))
        self._tell_gone([before[name] for name in gone])
        self._taken(touched)

    def _tell_gone(self, services: Sequence[Service]) -> None:
        kept = {target.workload for service in self._current.services for target in service.targets}
        for service in services:
            left_alone = [target for target in service.targets if target.workload not in kept]
            there = ", ".join(dict.fromkeys(map(str, left_alone)))
            left = f"; {there} stays in the cluster as it is" if there else ""
            text = f"{service.name} is no longer in config.yaml{left}"
            self._emit(Notice("", "info", text, "devloop down removes what devloop made" if there else None))


def _text(file: Path) -> bytes | None:
    try:
        return read_bytes(file)
    except OSError:
        return None


class Following:
    """Has the watcher follow what the config of now wants, one wish after the other: of two at once the older
    one might have the last word."""

    def __init__(
        self,
        watcher: Watcher,
        interests: Callable[[], Sequence[Interest]],
        look_at: Callable[[Sequence[str]], None],
    ) -> None:
        """`interests` is asked in a thread; `look_at` is called when what the services read is watched."""
        self._watcher, self._interests, self._look_at = watcher, interests, look_at
        self._services: list[str] = []
        self._wished = anyio.Event()

    def renew(self, services: Sequence[str] = ()) -> None:
        self._services += services
        self._wished.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._wished.wait()
            self._wished = anyio.Event()
            services, self._services = self._services, []
            await self._watcher.reconfigure(await anyio.to_thread.run_sync(self._interests))
            self._look_at(services)
