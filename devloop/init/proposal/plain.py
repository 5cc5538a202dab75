"""Plain manifests as they lie in folders: which of them belong together, and the globs that name them."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from devloop.init.found import Found, Manifest, Note, Workload
from devloop.init.paths import matches, parent
from devloop.init.proposal.values import Entry
from devloop.init.words import nearness

_SHOWN = 4  # workloads beside an entry
_YAML = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class Plain:
    """Files of one folder that can be applied together."""

    folder: str
    files: tuple[Manifest, ...]

    @property
    def workloads(self) -> tuple[Workload, ...]:
        return tuple(workload for file in self.files for workload in file.workloads)


def plain_sources(found: Found) -> list[Plain]:
    """A folder's manifests, without those that a kustomization beside or above them reads."""
    kustomized = [one.folder for one in found.kustomizations]
    read = {file for one in found.kustomizations for file in one.files}
    folders: dict[str, list[Manifest]] = {}
    for one in found.manifests:
        inside = any(one.path.startswith(f"{folder}/") for folder in kustomized)
        meant = found.deployed is not None and matches(one.path, found.deployed.manifests)
        if one.path not in read and not one.trouble and (meant or (found.deployed is None and not inside)):
            folders.setdefault(parent(one.path), []).append(one)
    return [Plain(folder, tuple(_without_rivals(files))) for folder, files in folders.items()]


def troubled(found: Found) -> list[Note]:
    """Files that no kustomization reads and that cannot be applied as they are."""
    read = {file for one in found.kustomizations for file in one.files}
    return [Note(one.path, one.trouble) for one in found.manifests if one.trouble and one.path not in read]


def _without_rivals(files: Sequence[Manifest]) -> Iterator[Manifest]:
    """Of two files that describe one object, the one that looks more like this machine's."""
    seen: set[tuple[str, str, str]] = set()
    for one in sorted(files, key=lambda file: (nearness(file.path), file.path)):
        if not seen.intersection(one.objects):
            seen.update(one.objects)
            yield one


def entries_of(taken: Sequence[Plain], found: Found) -> list[Entry]:
    """A glob where every YAML file of the folder is meant, else file by file."""
    entries: list[Entry] = []
    lying: dict[str, set[str]] = {one.folder: set() for one in taken}
    for file in found.files:
        lying.get(parent(file), set()).add(file)
    for one in sorted(taken, key=lambda plain: plain.folder):
        paths = {file.path for file in one.files}
        why = {file.path: file.workloads for file in one.files}
        prefix = "" if one.folder == "." else f"{one.folder}/"
        for ending in _YAML:
            own = {path for path in paths if path.endswith(ending)}
            there = {file for file in lying[one.folder] if file.endswith(ending)}
            if own and own == there and len(own) > 1:
                inside = [workload for path in sorted(own) for workload in why[path]]
                entries.append(Entry(f"{glob.escape(prefix)}*{ending}", _brings(inside)))
            else:
                entries += [Entry(glob.escape(path), _brings(why[path])) for path in sorted(own)]
    return entries


def _brings(workloads: Sequence[Workload]) -> str:
    """What an entry brings into the cluster, as far as a line holds it."""
    named = ", ".join(map(str, workloads[:_SHOWN]))
    more = len(workloads) - _SHOWN
    return (f"{named} and {more} more" if more > 0 else named) or "no workloads"
