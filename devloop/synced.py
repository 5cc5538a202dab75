"""Which containers run files that were synced into them, and of which content: a file of the state directory.

The only owner of that truth (S37): whatever says "live" asks here, by way of `ContainerView.synced`. A
container is noted as of unknown content before the first byte is written into it, and as of the tree's when
every file was read back; who is killed in between leaves one that counts as nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from pathlib import Path

from devloop import state_file

UNKNOWN = ""  # the content of a container in which a sync was cut off, or that nobody looks after any more
MOST = 1000  # containers that are remembered, the newest

_Entry = tuple[str, str]  # service, fingerprint
_Stat = tuple[int, int, int]


def _entry(value: object) -> _Entry:
    assert isinstance(value, list)
    service, content = value
    return state_file.text(service), state_file.text(content)


_ENTRIES = state_file.by_name(_entry)


class SyncedContainers:
    """By container id as the status has it, "docker://…". Another process may write the file: it is read
    again when it has changed. Without a file they are remembered by this object alone."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._entries: dict[str, _Entry] = {}
        self._read: _Stat | None = None
        self.on_change: list[Callable[[], None]] = []

    def content(self, instance: str) -> str | None:
        """The fingerprint that was synced into the container, or UNKNOWN; None: it runs its image."""
        self._look()
        entry = self._entries.get(instance)
        return None if entry is None else entry[1]

    def services(self) -> frozenset[str]:
        """Those with containers of known content; some may have ended."""
        self._look()
        return frozenset(service for service, content in self._entries.values() if content)

    def begin(self, service: str, instances: Collection[str]) -> None:
        """Something is about to be written into these. Raises OSError: then nothing may be."""
        self._look()
        self._put(service, instances, UNKNOWN)

    def finish(self, service: str, instances: Collection[str], content: str) -> None:
        """All of it was written and read back. Raises OSError: after a restart they count as unknown."""
        self._put(service, instances, content)

    def forget(self, instances: Collection[str]) -> None:
        """They run what their image holds again. Raises OSError."""
        left = {one: entry for one, entry in self._entries.items() if one not in instances}
        if left != self._entries:
            self._replace(left)

    def disown(self, kept: Collection[str]) -> None:
        """No devloop looks after these containers any more, but for those of the services in `kept`: they are
        to get an image that holds what they run (S38). Raises OSError."""
        self._look()
        left = {
            one: (service, content if service in kept else UNKNOWN)
            for one, (service, content) in self._entries.items()
        }
        if left != self._entries:
            self._replace(left)

    def _put(self, service: str, instances: Collection[str], content: str) -> None:
        others = {one: entry for one, entry in self._entries.items() if one not in instances}
        newest = dict.fromkeys(instances, (service, content))
        self._replace(dict([*others.items(), *newest.items()][-MOST:]))

    def _replace(self, entries: dict[str, _Entry]) -> None:
        self._entries = entries
        try:
            if self._file is not None:
                state_file.write(self._file, json.dumps(entries).encode())
                self._read = self._stat()
        finally:
            for call in self.on_change:
                call()

    def _look(self) -> None:
        now = self._stat()
        if self._file is not None and now != self._read:
            self._read, self._entries = now, state_file.read(self._file, _ENTRIES, {})

    def _stat(self) -> _Stat | None:
        if self._file is None:
            return None
        try:
            found = self._file.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size
