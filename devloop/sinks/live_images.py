"""Which images were live, newest first, per service: what the garbage collection keeps (S25). A sink.

Bounded: what lies further back is treated as an image that was never live, and goes after an hour.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from devloop import state_file
from devloop.events import Event, LiveChanged, TripEnded
from devloop.image_refs import same
from devloop.model import Live, Unchanged

MOST_IMAGES = 200  # of one service
MOST_SERVICES = 100  # those that were live last
_LIVED = state_file.by_name(state_file.each(state_file.text))


class History:
    """Kept in a file of the state directory, so that a rollback is possible after a restart."""

    def __init__(self, file: Path, most: Callable[[], int] = lambda: MOST_IMAGES) -> None:
        """`most`: how many of one service are remembered, asked each time."""
        self._file, self._most = file, most
        self._lived: dict[str, list[str]] = state_file.read(file, _LIVED, {})

    def __call__(self, event: Event) -> None:
        match event:
            case TripEnded(service=service, outcome=Live(image=image)):
                self._note(service, image.ref)
            case TripEnded(service=service, outcome=Unchanged(ref=ref)):
                self._note(service, ref)
            case LiveChanged(service=service, live=True, ref=ref) if ref:
                self._note(service, ref)  # a rollout that failed, and became ready after all (S19)
            case _:
                pass

    def of(self, service: str) -> tuple[str, ...]:
        """Which images of the service were live, the newest first."""
        return tuple(self._lived.get(service, ()))

    def newest(self, keep: int) -> frozenset[str]:
        """The `keep` newest of every service."""
        return frozenset(ref for refs in self._lived.values() for ref in refs[:keep])

    def all(self) -> frozenset[str]:
        return frozenset(ref for refs in self._lived.values() for ref in refs)

    def forget(self, refs: frozenset[str]) -> None:
        """These are gone from every engine."""
        self._lived = {
            name: [ref for ref in known if not any(same(ref, gone) for gone in refs)]
            for name, known in self._lived.items()
        }
        self._save()

    def _note(self, service: str, ref: str) -> None:
        known = self._lived.get(service, [])
        if known[:1] == [ref]:
            return
        others = {name: refs for name, refs in self._lived.items() if name != service}
        newest = [ref, *(other for other in known if other != ref)][: self._most()]
        self._lived = dict([*others.items(), (service, newest)][-MOST_SERVICES:])
        self._save()

    def _save(self) -> None:
        try:
            state_file.write(self._file, json.dumps(self._lived).encode())
        except OSError:
            return  # a full disk costs a longer memory, not a trip
