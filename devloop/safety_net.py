"""The last net of `watch`: what nobody expected goes to a report file, one line reports it, the rest runs on.

`SafetyNet` stands around each service and each background task; the reports are those of fault_reports.py.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
from anyio.abc import TaskGroup, TaskStatus

from devloop.clock import Clock
from devloop.concurrency import FirstStart
from devloop.errors import DevloopError, InternalError
from devloop.events import Emit, Notice
from devloop.fault_reports import Reports, root_of

CLOCK = Clock()

PAUSES = (1.0, 5.0, 15.0, 60.0, 300.0)  # seconds before what fell is started again
STANDS_AFTER = 600.0  # seconds: what ran this long has recovered from its last fall

Task = Callable[..., Coroutine[Any, Any, None]]


class SafetyNet:
    """Keeps what `watch` runs alive: whatever it raises is reported, and it is started again."""

    def __init__(self, reports: Reports, emit: Emit) -> None:
        self._reports, self._emit = reports, emit
        self._telling = threading.local()

    def error(self, where: str, cause: BaseException) -> DevloopError:
        """As `Reports.error`."""
        return self._reports.error(where, cause)

    def tell(self, where: str, cause: BaseException, service: str = "") -> None:
        """An expected error in its own words, any other as an internal error with its report."""
        error = self.error(where, cause)
        message = error.message if isinstance(error, InternalError) else f"{where}: {error.message}"
        self._emit(Notice(service, "error", message, error.hint))

    async def keep(
        self,
        where: str,
        task: Task,
        *args: Any,
        service: str = "",
        fell: Callable[[], None] = lambda: None,
        lets_through: Callable[[BaseException], bool] = lambda _: False,
        task_status: TaskStatus[None] | None = None,
    ) -> None:
        """Run the task until it ends or is cancelled; one that raises is started again after a growing pause.

        `fell` is called before that; what `lets_through` is raised. `task_status`: the task reports when it
        stands.
        """
        falls = 0
        given = {} if task_status is None else {"task_status": FirstStart(task_status)}
        while True:
            began = CLOCK.ticks()
            try:
                await task(*args, **given)
                return
            except Exception as cause:
                if lets_through(root_of(cause)):
                    raise
                if CLOCK.ticks() - began > STANDS_AFTER:
                    falls = 0
                self.tell(where, cause, service)
                fell()
            await anyio.sleep(PAUSES[min(falls, len(PAUSES) - 1)])
            falls += 1

    def keeper(self, group: TaskGroup) -> Callable[..., None]:
        """`keep` as a task of the group: keeper(where, task, *args)."""

        def start(where: str, task: Task, *args: Any) -> None:
            group.start_soon(self.keep, where, task, *args)

        return start

    def sink_fell(self, sink: object, cause: Exception) -> None:
        """A sink raised: the others are notified, itself too if it can take that."""
        if getattr(self._telling, "now", False):
            self.error(_name(sink), cause)
            return
        self._telling.now = True
        try:
            self.tell(_name(sink), cause)
        finally:
            self._telling.now = False


def _name(sink: object) -> str:
    kind = sink if hasattr(sink, "__name__") else type(sink)
    return f"the output {getattr(kind, '__qualname__', 'unknown')}"
