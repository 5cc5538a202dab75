"""What is to be watched for all services: folders, single files, and the places that links lead to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from devloop.watch.links import linked_below, places_of
from devloop.watch.source import WatchRoots

Ask = Callable[[Path], bool]


def nothing(path: Path) -> bool:
    """No path at all."""
    return False


@dataclass(frozen=True, slots=True)
class Interest:
    """What one service wants to hear about. Paths are absolute.

    `concerns`: does a change of this path, below `folders`, matter? `enters`: can anything below this
    folder matter? Both may be asked from a thread. `files` matter always, wherever they lie.
    `follows`: is a link below `folders` that leads to a folder gone through by whoever reads them?
    `counts`: is this path, which is gone, one that mattered when the service was last looked at?
    """

    service: str
    folders: tuple[Path, ...]
    files: frozenset[Path]
    concerns: Ask
    enters: Ask
    follows: Ask | None = None  # None: links below the folders stay links, as in a build's context
    counts: Ask = field(default=lambda path: True)


@dataclass(frozen=True, slots=True)
class WatchPlan:
    """`folders` and `files` are watched under these names; `places`: where a link on the way to one of
    them lies, or where it ends -> the names that it stands for."""

    folders: Mapping[Path, Ask]
    files: frozenset[Path]
    places: Mapping[Path, frozenset[Path]]

    @property
    def turns_at(self) -> frozenset[Path]:
        """Whatever happens to one of these may lead a watched name elsewhere."""
        return frozenset((*self.folders, *self.files, *self.places))

    def still_leads(self) -> bool:
        """Whether the names lead where they led; looks at the file system, at these names alone."""
        return _places((*self.folders, *self.files)) == self.places

    def roots(self, wanted: Callable[[Path], bool]) -> WatchRoots | None:
        """What one source has to watch: what `wanted` says yes to; None if that is nothing."""
        folders = {path: ask for path, ask in self.folders.items() if wanted(path)}
        files = frozenset(path for path in (*self.files, *self.places) if wanted(path))
        return WatchRoots(folders, files) if folders or files else None


def plan(interests: Iterable[Interest]) -> WatchPlan:
    """Looks at the file system."""
    asked: dict[Path, list[Ask]] = {}
    files: set[Path] = set()
    for interest in interests:
        files |= interest.files
        for folder in interest.folders:
            asked.setdefault(folder, []).append(interest.enters)
            if interest.follows is not None:
                _through_links(interest, folder, asked, files)
    folders = {path: any_of(asks) for path, asks in asked.items()}
    return WatchPlan(folders, frozenset(files), _places((*folders, *files)))


def _places(names: Iterable[Path]) -> dict[Path, frozenset[Path]]:
    places: dict[Path, set[Path]] = {}
    for name in names:
        found = places_of(name)
        for place in (*found.links, found.end) if found.links else ():
            if place != name:
                places.setdefault(place, set()).add(name)
    return {place: frozenset(of) for place, of in places.items()}


def _through_links(interest: Interest, folder: Path, asked: dict[Path, list[Ask]], files: set[Path]) -> None:
    """Links below a folder are watched like what the interest names itself."""
    assert interest.follows is not None
    for link, leads_to_folder in linked_below(folder, interest.enters, interest.follows):
        if leads_to_folder:
            asked.setdefault(link, []).append(interest.enters)
        elif interest.concerns(link):
            files.add(link)


def any_of(asks: Sequence[Ask]) -> Ask:
    return lambda path: any(ask(path) for ask in asks)
