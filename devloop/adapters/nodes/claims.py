"""Which images trips use: the garbage collection leaves them, and a trip waits for a removal under way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import anyio

from devloop.image_refs import full


class Claims:
    """A trip claims its image before it looks for it; the claim lasts until the service's next trip."""

    def __init__(self) -> None:
        self._claimed: dict[str, frozenset[str]] = {}  # service -> references
        self._going: dict[
            str, list[anyio.Event]
        ] = {}  # reference -> its removals, one per node; set when over

    async def claim(self, service: str, *refs: str) -> None:
        """These are in use from now on, in the place of what the service used before."""
        self._claimed[service] = frozenset(map(full, refs))
        for ref in self._claimed[service]:
            while ref in self._going:
                await self._going[ref][0].wait()

    @property
    def refs(self) -> frozenset[str]:
        return frozenset[str]().union(*self._claimed.values())

    @contextmanager
    def removing(self, ref: str) -> Iterator[bool]:
        """While this lasts nobody finds the image; False if it is claimed."""
        ref = full(ref)
        if ref in self.refs:
            yield False
            return
        over = anyio.Event()
        self._going.setdefault(ref, []).append(over)
        try:
            yield True
        finally:
            self._going[ref].remove(over)
            if not self._going[ref]:
                del self._going[ref]
            over.set()
