"""Chunks of an answer as one stream, for tarfile."""

from __future__ import annotations

import io
from collections.abc import Callable


class ChunkStream(io.RawIOBase):
    """Chunks as they come, asked for when they are needed; b"" is the end."""

    def __init__(self, following: Callable[[], bytes]) -> None:
        self._following, self._rest = following, b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        found: list[bytes] = []
        wanted = size if size >= 0 else 1 << 62
        while wanted > 0:
            if not self._rest:
                self._rest = self._following()
                if not self._rest:
                    break
            found.append(self._rest[:wanted])
            self._rest = self._rest[wanted:]
            wanted -= len(found[-1])
        return b"".join(found)
