"""Faults that nobody expected: each goes to a report file, and no traceback to the screen.

`Reports` writes the files; `guard_screen` catches what Python itself would print as a traceback. Expected
errors are the business of the borders (borders.py). Every command loads this before anything else, so it
imports little: `devloop --help` waits for it.
"""

from __future__ import annotations

import logging
import os
import platform
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from devloop import __version__
from devloop.clock import Clock
from devloop.errors import DevloopError, InternalError

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

CLOCK = Clock()

FOLDER = "reports"
KEPT_REPORTS = 20

Conceal = Callable[[str], str]


class Reports:
    """Report files in `folder`, each fault once per process, the newest 20. `conceal` hides secrets (S30)."""

    def __init__(self, folder: Path, conceal: Conceal) -> None:
        self._folder, self._conceal = folder, conceal
        self._written: dict[str, str] = {}  # traceback -> file
        self._lock = threading.Lock()

    def error(self, where: str, cause: BaseException) -> DevloopError:
        """The fault as an error that names its report; an expected error that a task group wrapped is given
        back as it is. Never raises."""
        cause = root_of(cause)
        if isinstance(cause, DevloopError):
            error = cause
        else:
            error = InternalError(where, cause, self.write(where, cause))
        error.conceal(self._hidden)
        return error

    def write(self, where: str, cause: BaseException) -> str:
        """The file's path, or why there is none. Never raises."""
        try:
            trace = "".join(traceback.format_exception(cause))
        except Exception as trouble:  # noqa: BLE001 - an exception whose own text cannot be made
            trace = f"{type(cause).__name__}, which cannot be shown: {type(trouble).__name__}\n"
        with self._lock:
            if trace not in self._written:
                if len(self._written) >= KEPT_REPORTS:  # an address in a message makes each one another
                    self._written.pop(next(iter(self._written)))
                self._written[trace] = self._write(where, trace)
            return self._written[trace]

    def _hidden(self, text: str) -> str:
        try:
            return self._conceal(text)
        except Exception as trouble:  # noqa: BLE001 - then it is not known what is secret
            return f"(not shown: what is secret is not known, {type(trouble).__name__})\n"

    def _write(self, where: str, trace: str) -> str:
        import secrets  # brings OpenSSL, for nothing where no fault is met

        at = datetime.fromtimestamp(CLOCK.now(), UTC)
        head = (
            f"devloop {__version__}, Python {platform.python_version()}, {platform.platform()}\n"
            f"time: {at.isoformat(timespec='seconds')}\npid: {os.getpid()}\n"
            f"command: {' '.join(sys.argv)}\nwhere: {where}\n\n"
        )
        text = self._hidden(head + trace).encode("utf-8", "replace")
        path = (
            self._folder / f"internal-error-{at:%Y%m%d-%H%M%S}-{os.getpid()}-{secrets.randbelow(10**6)}.txt"
        )
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
                file.write(text)
            for old in sorted(self._folder.glob("internal-error-*.txt"))[:-KEPT_REPORTS]:
                old.unlink(missing_ok=True)
        except OSError as trouble:
            with suppress(OSError):
                path.unlink(missing_ok=True)
            return f"not written ({trouble.strerror or trouble})"
        return str(path)


def root_of(cause: BaseException) -> BaseException:
    """Task groups wrap what passes through them; around one error it says nothing."""
    while isinstance(cause, BaseExceptionGroup):
        unexpected = cause.split(DevloopError)[1]
        if unexpected is not None and len(cause.exceptions) > 1:
            return cause
        cause = cause.exceptions[0]
    return cause


_guarding: list[Reports] = []  # at most one: the reports of this process


class _ReportHandler(logging.Handler):
    """Warnings of libraries (aiohttp, asyncio) to a report: without a handler Python prints them."""

    def __init__(self, reports: Reports) -> None:
        super().__init__(logging.WARNING)
        self._reports = reports

    def emit(self, record: logging.LogRecord) -> None:
        cause = record.exc_info[1] if record.exc_info else None
        self._reports.write(f"log of {record.name}", cause or RuntimeError(self.format(record)))


def guard_screen(reports: Reports) -> None:
    """From now on a traceback that Python would print goes to a report: of threads, of objects that are
    destroyed, of asynchronous generators that nobody closed, of libraries that log."""

    def in_thread(given: threading.ExceptHookArgs) -> None:
        if given.exc_value is not None:
            reports.write(f"thread {given.thread.name if given.thread else ''}", given.exc_value)

    def destroyed(given: Any) -> None:
        if given.exc_value is not None:
            reports.write(f"{given.err_msg or 'the end of'} {type(given.object).__name__}", given.exc_value)

    def uncaught(kind: type[BaseException], error: BaseException, _: TracebackType | None) -> None:
        if issubclass(kind, Exception):
            with suppress(OSError, ValueError, AttributeError):
                sys.stderr.write(f"devloop: {reports.error('the command', error).message}\n")

    _guarding[:] = [reports]
    threading.excepthook = in_thread
    sys.unraisablehook = destroyed
    sys.excepthook = uncaught
    logging.getLogger().handlers = [_ReportHandler(reports)]
    logging.raiseExceptions = False


def error_of(where: str, cause: BaseException) -> DevloopError:
    """As `Reports.error`, by the reports that guard the screen."""
    if _guarding:
        return _guarding[-1].error(where, cause)
    return cause if isinstance(cause, DevloopError) else InternalError(where, cause)


def state_folder() -> Path:
    """Reports of what happens before a project is known."""
    home = Path(os.environ.get("XDG_STATE_HOME", ""))
    return (home if home.is_absolute() else Path.home() / ".local" / "state") / "devloop" / FOLDER


def guard_loop() -> None:
    """The same for the running event loop, if the screen is guarded."""
    if not _guarding:
        return
    import asyncio  # whose loop runs, so it is loaded

    def report_exception(_: AbstractEventLoop, context: dict[str, Any]) -> None:
        cause = context.get("exception") or RuntimeError(str(context.get("message")))
        _guarding[-1].write(f"the event loop: {context.get('message')}", cause)

    asyncio.get_running_loop().set_exception_handler(report_exception)
