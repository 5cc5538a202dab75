"""How a command ends: its exit code, the lines that say why, and standard output in whatever state."""

from __future__ import annotations

import errno
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

from devloop.fault_reports import Reports, error_of, guard_screen, state_folder
from devloop.signals import INTERRUPTED, READER_GONE, count_down

OUTPUT_LOST = 74  # EX_IOERR of sysexits.h
_LOST = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EBADF, errno.EPIPE})  # of a print


@contextmanager
def last_net() -> Iterator[None]:
    """Around a whole command: it ends by SystemExit, with no traceback on the screen."""
    _open_streams()
    guard_screen(Reports(state_folder(), str))
    code: int | str | None = 0
    try:
        yield
    except KeyboardInterrupt:
        count_down()
        code = INTERRUPTED
    except SystemExit as end:
        code = end.code
    except Exception as error:
        if type(error).__module__.partition(".")[0] == "click":
            raise  # usage errors and aborts are click's to report
        code = _report(error)
    _leave(code)


def _report(error: Exception) -> int:
    """Say what went wrong; the exit code."""
    if isinstance(error, BrokenPipeError) and _reader_gone():
        return READER_GONE
    if isinstance(error, OSError) and error.errno in _LOST and error.filename is None:
        _say(f"devloop: standard output: {error.strerror or error}")
        return OUTPUT_LOST
    known = error_of("the command", error)
    about = f"{known.about}: " if known.about and not known.message.startswith(known.about) else ""
    _say(f"devloop: {about}{known.message}")
    for line in known.evidence:
        _say(f"  | {line}")
    if known.hint:
        _say(f"  -> {known.hint}")
    return known.exit_code


def _leave(code: int | str | None) -> NoReturn:
    """Nothing is left to Python's own flush at the end, which would print a traceback. A reader that has gone
    (`| head -1`) has what it wanted: the exit code is that of a command that SIGPIPE ended."""
    if type(sys.stdout).__name__.endswith("PacifyFlushWrapper"):  # click met a pipe that nobody reads
        code = READER_GONE
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError) as error:
            if stream is sys.stdout and isinstance(error, BrokenPipeError):
                code = READER_GONE
            elif stream is sys.stdout and code != OUTPUT_LOST:
                _say(f"devloop: standard output: {getattr(error, 'strerror', None) or error}")
                code = code or OUTPUT_LOST
            _to_nowhere(stream.fileno() if not stream.closed else -1)
    sys.exit(code)


def _reader_gone() -> bool:
    """Whether nobody reads our own output: it may have been the socket of an engine that broke."""
    poll = select.poll()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # closed, or a stream in memory
            poll.register(stream.fileno(), 0)
    return bool(poll.poll(0))


def _say(line: str) -> None:
    with suppress(OSError, ValueError):
        sys.stderr.write(line.encode("utf-8", "replace").decode("utf-8") + "\n")
        sys.stderr.flush()


def _open_streams() -> None:
    """A stream that was closed (`>&-`) is one that nobody reads."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            _to_nowhere(number)
            setattr(sys, name, open(number, "r" if number == 0 else "w", closefd=False))  # noqa: SIM115


def _to_nowhere(descriptor: int) -> None:
    if descriptor < 0:
        return
    nowhere = os.open(os.devnull, os.O_RDWR)
    if nowhere != descriptor:
        os.dup2(nowhere, descriptor)
        os.close(nowhere)
