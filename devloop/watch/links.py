"""Where a path leads: every link on the way to it, and the place where it ends."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

MOST_LINKS = 40  # as Linux: what needs more is a circle


@dataclass(frozen=True, slots=True)
class Places:
    """`links`: the links that are gone through, each where it really lies. `end`: the real place, whether
    anything is there or not; of a circle, the link at which looking stopped."""

    links: tuple[Path, ...]
    end: Path


def places_of(path: Path) -> Places:
    """As the kernel would resolve an absolute path; looks at each part of it once."""
    links: list[Path] = []
    hops = 0
    waiting = list(reversed(path.parts[1:]))
    here = "/"
    while waiting:
        part = waiting.pop()
        if part == "..":
            here = os.path.dirname(here)  # noqa: PTH120 - `here` holds no link
            continue
        step = f"{here.rstrip('/')}/{part}"
        target = _target(step)
        if target is None:
            here = step
            continue
        hops += 1
        if hops > MOST_LINKS:
            return Places(tuple(dict.fromkeys(links)), Path(step))
        links.append(Path(step))
        if target.startswith("/"):
            here = "/"
        waiting += [part for part in reversed(target.split("/")) if part not in ("", ".")]
    return Places(tuple(dict.fromkeys(links)), Path(here))


def linked_below(
    root: Path, enters: Callable[[Path], bool], follows: Callable[[Path], bool]
) -> Iterator[tuple[Path, bool]]:
    """(link, leads to a folder) of each link below a folder, through links to folders where `follows`
    says so; each real folder is entered once."""
    waiting, entered = [root], set[str]()
    while waiting:
        folder = waiting.pop()
        real = os.path.realpath(folder)
        if real in entered:
            continue
        entered.add(real)
        try:
            with os.scandir(folder) as entries:
                found = [(Path(one.path), one.is_symlink(), one.is_dir()) for one in entries]
        except OSError:
            continue  # gone, or not readable
        for path, is_link, is_folder in found:
            if is_link and (not is_folder or follows(path)):
                yield path, is_folder
            if is_folder and (follows(path) if is_link else enters(path)):
                waiting.append(path)


def folders_above(paths: Iterable[str]) -> dict[str, None]:
    """Every path and the folders above it, highest first: where coming and going is reported."""
    found: set[str] = set()
    for path in paths:
        found.add(path)
        found.update(str(parent) for parent in Path(path).parents)
    return dict.fromkeys(sorted(found))


def has_other_names(file: str) -> bool:
    try:
        status = os.lstat(file)
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_nlink > 1


def _target(path: str) -> str | None:
    """What a link says, None for what is not a link or not there."""
    try:
        return os.readlink(path)  # noqa: PTH115 - as text, undisturbed
    except OSError:
        return None
