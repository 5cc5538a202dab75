"""The keys typed on a terminal: one by one, not echoed, and the terminal as it was before in the end."""

from __future__ import annotations

import atexit
import codecs
import os
import re
import signal
import termios
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

import anyio

from devloop.signals import terminal_restorers

ESCAPE, ENTER, TAB, BACKSPACE, ERASE_LINE = "\x1b", "\r", "\t", "\x7f", "\x15"
LOCAL_FLAGS = 3  # its place among what termios gives
# What arrow and function keys send, and what a terminal answers: nothing that is meant for us.
_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|O[ -~]|\][^\x07\x1b]*(?:\x07|\x1b\\))")


def is_keyboard(fd: int) -> bool:
    """Whether keys can be read there: a terminal that this process may read."""
    with suppress(OSError):
        return os.isatty(fd) and _is_foreground(fd)
    return False


class Keyboard:
    """A context manager: within the block what is typed is not echoed, and each key comes at once.

    Ctrl-C and Ctrl-Z are signals as ever. While the process is stopped, or in the background, the terminal is
    as it was before; `leave` and `come_back` are called around that.
    """

    def __init__(self, fd: int, leave: Callable[[], None], come_back: Callable[[], None]) -> None:
        self._fd = fd
        self._leave, self._come_back = leave, come_back
        self._before = termios.tcgetattr(fd)
        self._resumed = anyio.Event()
        self._decoder = codecs.getincrementaldecoder("utf-8")("ignore")

    def __enter__(self) -> Self:
        terminal_restorers.append(self.restore)
        atexit.register(self.restore)
        self._take()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.restore()
        atexit.unregister(self.restore)
        terminal_restorers.remove(self.restore)

    def restore(self) -> None:
        """The terminal as it was before. Does nothing in the background, where it is somebody else's."""
        with suppress(OSError, termios.error):
            if _is_foreground(self._fd):
                termios.tcsetattr(self._fd, termios.TCSANOW, self._before)

    def _take(self) -> None:
        with suppress(OSError, termios.error):
            if not _is_foreground(self._fd):
                return
            settings = termios.tcgetattr(self._fd)
            settings[LOCAL_FLAGS] &= ~(termios.ICANON | termios.ECHO)
            termios.tcsetattr(self._fd, termios.TCSANOW, settings)

    async def keys(self) -> AsyncIterator[str]:
        """Each key as it is typed, until the terminal is gone."""
        while True:
            await anyio.wait_readable(self._fd)
            if not self._may_read():
                await self._resumed.wait()
                continue
            try:
                data = os.read(self._fd, 1024)
            except OSError:
                return
            if not data:
                return
            for key in _keys_of(self._decoder.decode(data)):
                yield key

    def _may_read(self) -> bool:
        """Reading in the background would stop the process."""
        try:
            return _is_foreground(self._fd)
        except OSError:
            return True  # the terminal is gone, which reading shows

    async def follow_suspension(self) -> None:
        """Give the terminal back at Ctrl-Z, and take it again at `fg`. Until cancelled."""
        with anyio.open_signal_receiver(signal.SIGTSTP, signal.SIGCONT) as signals:
            async for number in signals:
                if number == signal.SIGTSTP:
                    self._leave()
                    self.restore()
                    os.kill(os.getpid(), signal.SIGSTOP)  # SIGCONT comes next
                else:
                    self._take()
                    self._come_back()
                    self._resumed.set()
                    self._resumed = anyio.Event()


def _keys_of(text: str) -> list[str]:
    return ["\r" if key == "\n" else key for key in _SEQUENCE.sub("", text)]


def _is_foreground(fd: int) -> bool:
    return os.tcgetpgrp(fd) == os.getpgrp()
