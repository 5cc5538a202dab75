"""config.yaml and manifests while `watch` runs: a valid change is taken, an invalid one is shown (S28)."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Sequence
from pathlib import Path

import anyio

from devloop import config as configs
from devloop.config import Config
from devloop.errors import ConfigError, DevloopError
from devloop.events import ConfigReloaded, Emit, Notice
from devloop.fingerprint import TreeFingerprinter
from devloop.ignore import NO_RULES, IgnoreRules, candidates
from devloop.install import Manifests
from devloop.model import Change, Service
from devloop.watching import Interest

CONFIG, MANIFESTS = "config.yaml", "manifests"  # names of interests; no service can have a "/" or be these
Override = Callable[[Config], Config]


class ProjectFiles:
    """The files that are no service's: what they ask for is done by `run`, one at a time."""

    def __init__(
        self,
        config: Config,
        override: Override,
        manifests: Manifests,
        employ: Callable[[Config], Sequence[str]],
        emit: Emit,
    ) -> None:
        self.config = config
        self._override, self._manifests, self._employ, self._emit = override, manifests, employ, emit
        self._waiting: set[str] = set()
        self._woken = anyio.Event()

    def interests(self) -> list[Interest]:
        """What the watcher has to tell of."""
        root, patterns = self.config.root, self.config.manifests
        found = [Interest(f"/{CONFIG}", (), frozenset({self.config.path}), lambda _: False, lambda _: False)]
        folders = tuple(
            sorted({folder for pattern in patterns if (folder := _fixed(root, pattern)).is_dir()})
        )
        if folders:
            wanted = [str(configs.absolute(root, pattern)) for pattern in patterns]
            found.append(
                Interest(
                    f"/{MANIFESTS}",
                    folders,
                    frozenset(),
                    lambda path: any(fnmatch.fnmatch(str(path), pattern) for pattern in wanted),
                    lambda _: True,
                )
            )
        return found

    def deliver(self, name: str, _: Change) -> None:
        self._waiting.add(name)
        self._woken.set()

    async def run(self) -> None:
        while True:
            await self._woken.wait()
            self._woken = anyio.Event()
            waiting, self._waiting = self._waiting, set()
            if f"/{CONFIG}" in waiting:
                self._reload()
            try:
                await self._manifests.settle()
            except DevloopError as error:
                self._emit(Notice("", "error", f"manifests: {error.message}", error.hint))

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


def _fixed(root: Path, pattern: str) -> Path:
    """The deepest folder of a glob that no wildcard is in."""
    path = configs.absolute(root, pattern)
    while any(letter in str(path) for letter in "*?["):
        path = path.parent
    return path if path.is_dir() else path.parent


def interest_of(service: Service, trees: TreeFingerprinter) -> Interest:
    """What the watcher has to tell of for one service; reads its ignore file."""
    spec = service.build
    ignored = candidates(spec.context, spec.dockerfile)
    rules = _rules(ignored)

    def enters(folder: Path) -> bool:
        if not folder.is_relative_to(spec.context):
            return False
        inside = folder.relative_to(spec.context).as_posix()
        return inside == "." or not rules.leaves_out(inside) or rules.may_descend(inside)

    return Interest(
        service.name,
        (spec.context,),
        frozenset({spec.dockerfile, *ignored}),
        lambda path: trees.concerns(service, path),
        enters,
    )


def _rules(files: Sequence[Path]) -> IgnoreRules:
    for file in files:
        try:
            return IgnoreRules.parse(file.read_text("utf-8", "replace"), file.name)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, DevloopError):
            break  # the fingerprint says what is wrong with it
    return NO_RULES
