"""SIGINT, SIGTERM and SIGHUP end a command in time, also when the event loop, a thread or a pipe hangs."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from devloop.errors import DevloopError
from devloop.fault_reports import guard_loop

if TYPE_CHECKING:
    from anyio.abc import TaskStatus

INTERRUPTED = 130
READER_GONE = 128 + signal.SIGPIPE
ENDING = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
END_SECONDS = 1.7  # for cleaning up after a signal; then the process ends as it is
SHOW_CURSOR = b"\x1b[?25h\r\n"

# What sets the terminal right again, also where nothing else can be cleaned up any more.
terminal_restorers: list[Callable[[], None]] = []

# Process groups of commands that have no sense without us. Not Helm's: it leaves a release in order (S23).
end_with_us: set[int] = set()

_asking = threading.Lock()
_listening = False  # a signal would be the first that asks the process to end; guarded by _asking


@contextmanager
def ends_in_time(seconds: float = END_SECONDS) -> Iterator[None]:
    """Within the block a first signal of ENDING leaves the process `seconds` to end, for good.

    To be entered where the event loop has taken over the signals. The C part of Python's handler writes the
    signal's number to a file descriptor even while the main thread is stuck in a write to a full pipe: a
    thread of ours reads it there, and hands it on to the event loop.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK) if hasattr(os, "pipe2") else os.pipe()
    os.set_blocking(reading, True)
    os.set_blocking(writing, False)
    loops = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    guard = threading.Thread(target=_watch, args=(reading, loops, seconds), name="signals", daemon=True)
    guard.start()
    try:
        yield
    finally:
        if signal.set_wakeup_fd(loops) != writing:
            pass  # somebody else's by now: the loop is closed
        os.close(writing)


async def until_interrupted(run: Callable[[], Coroutine[Any, Any, None]]) -> bool:
    """`run`, cancelled at SIGINT, SIGTERM or SIGHUP (a terminal that was closed; not under nohup, which
    ignores it) and cleaned up; True if a signal ended it.

    A second signal gets the system's default treatment: the process ends at once.
    Raises the first DevloopError itself, not in an ExceptionGroup.
    """
    import anyio  # `devloop --help` needs the signals and no event loop

    interrupted = False

    async def listen(*, task_status: TaskStatus[None]) -> None:
        nonlocal interrupted
        ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        ending = ENDING - {signal.SIGHUP} if ignored else ENDING
        with anyio.open_signal_receiver(*ending) as signals, ends_in_time(), _can_be_asked():
            task_status.started()
            async for _ in signals:
                interrupted = True
                break
        group.cancel_scope.cancel()

    guard_loop()
    try:
        async with anyio.create_task_group() as group:
            await group.start(listen)
            await run()
            group.cancel_scope.cancel()
    except BaseExceptionGroup as errors:
        expected, others = errors.split(DevloopError)
        if others is not None or expected is None:
            raise
        raise _first(expected) from errors
    return interrupted


def _watch(reading: int, loops: int, seconds: float) -> None:
    """Until the other end is closed. After a signal nothing stops the countdown but the process's end."""
    counting = False
    while numbers := _read(reading):
        with suppress(OSError):
            os.write(loops, numbers)  # a socket of asyncio, which never blocks
        if not counting and ENDING & set(numbers):
            counting = True
            count_down(seconds)
    os.close(reading)


@contextmanager
def _can_be_asked() -> Iterator[None]:
    global _listening
    with _asking:
        _listening = True
    try:
        yield
    finally:
        with _asking:
            _listening = False


def end_without_reader() -> None:
    """From any thread: as if the process had been asked to end. While it ends already, nothing: a second
    signal would end it at once, amid its cleaning up."""
    with _asking:
        if _listening:
            os.kill(os.getpid(), signal.SIGTERM)


def count_down(seconds: float = END_SECONDS) -> None:
    """The process ends within so many seconds, by itself or not."""
    threading.Thread(target=_end, args=(seconds,), name="end", daemon=True).start()


def _read(reading: int) -> bytes:
    try:
        return os.read(reading, 64)
    except OSError:
        return b""


def _end(seconds: float) -> None:
    """End the process after a while; when it ends by itself before, this thread ends with it."""
    threading.Event().wait(seconds)
    killer = threading.Thread(target=_clean_up, daemon=True)
    killer.start()
    killer.join(0.2)
    os._exit(INTERRUPTED)


def _clean_up() -> None:
    """The commands that end with us, and the cursor back: as far as it goes."""
    for group in tuple(end_with_us):
        with suppress(OSError):
            os.killpg(group, signal.SIGKILL)
    for restore in tuple(terminal_restorers):
        with suppress(Exception):
            restore()
    with suppress(OSError, ValueError, AttributeError):
        if sys.stdout.isatty():
            os.set_blocking(sys.stdout.fileno(), False)
            os.write(sys.stdout.fileno(), SHOW_CURSOR)


def _first(errors: BaseExceptionGroup[DevloopError]) -> DevloopError:
    """The first expected error itself: task groups wrap whatever passes through them."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, DevloopError)
    return error
