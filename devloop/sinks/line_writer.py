"""Output written by a thread: a reader that pauses (a full pipe, Ctrl-S) must not hold up the work."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, TextIO

MOST = 16 << 20  # characters that wait; then lines are dropped, and counted
DRAIN_SECONDS = 1.0


class LineWriter:
    """What sinks need of a text stream. `write` never waits; order is kept; only whole texts are dropped.

    A stream that is closed, or whose disk is full, takes nothing more: the work goes on. `on_reader_gone` is
    called, from the thread, when the other end of a pipe was closed.
    """

    def __init__(
        self, stream: TextIO, dropped: str, on_reader_gone: Callable[[], None] = lambda: None
    ) -> None:
        self._stream, self._dropped, self._on_reader_gone = stream, dropped, on_reader_gone
        self.reader_gone = False
        self._waiting: deque[str] = deque()
        self._size = 0
        self._lost = 0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def write(self, text: str) -> int:
        with self._changed:
            if self._size + len(text) > MOST:
                self._lost += 1
                return len(text)
            if self._lost:
                self._put(self._dropped.format(self._lost))
                self._lost = 0
            self._put(text)
            if self._thread is None:  # on first use: most commands never print through this
                self._thread = threading.Thread(target=self._run, name="output", daemon=True)
                self._thread.start()
            self._changed.notify_all()
        return len(text)

    def flush(self) -> None:
        """The thread writes at once."""

    def drain(self, seconds: float = DRAIN_SECONDS) -> None:
        """Wait until everything is written, but no longer than this."""
        with self._changed:
            self._changed.wait_for(lambda: not self._size, seconds)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)  # isatty, fileno, encoding: what rich asks for

    def _put(self, text: str) -> None:
        self._waiting.append(text)
        self._size += len(text)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._waiting))
                texts = [*self._waiting]
                self._waiting.clear()
            self._write("".join(texts))
            with self._changed:
                self._size -= sum(map(len, texts))
                self._changed.notify_all()

    def _descriptor(self) -> int | None:
        try:
            return self._stream.fileno()
        except OSError:  # io.UnsupportedOperation: a stream in memory
            return None

    def _write(self, text: str) -> None:
        """Past Python's own buffers: a thread that waits in one of those cannot be left behind at the end."""
        try:
            descriptor = self._descriptor()
            if descriptor is None:
                self._stream.write(text)
                self._stream.flush()
                return
            left = memoryview(text.encode(self._stream.encoding or "utf-8", "replace"))
            while left:
                left = left[os.write(descriptor, left) :]
        except BrokenPipeError:
            if not self.reader_gone:
                self.reader_gone = True
                self._on_reader_gone()
        except (OSError, ValueError):
            return
