"""What commands do with a session: opened for one piece of work, targets held."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, TypeVar

from devloop.clock import Clock
from devloop.commands.frame import Project, run
from devloop.sinks.fan import Fan
from devloop.wiring import Session, opened

Result = TypeVar("Result")
Work = Callable[[Session], Coroutine[Any, Any, Result]]


def in_session(project: Project, names: Sequence[str], work: Work[Result]) -> Result:
    """`run` for a command that shows no events: `work` with a session for the services `names`, or all."""
    return run(partial(with_session, project, names, work))


async def with_session(project: Project, names: Sequence[str], work: Work[Result]) -> Result:
    """The same where an event loop runs."""
    async with opened(project.config, project.kubeconfig, names, Fan(), Clock()) as session:
        return await work(session)


@contextmanager
def held_beside_own(session: Session) -> Iterator[None]:
    """Hold the targets of all services, but for those that a devloop of this very config holds: it goes by
    what is written on the workload (S24). Raises HeldError for another project's (S26)."""
    with ExitStack() as stack:
        for target in (target for service in session.services for target in service.targets):
            other = session.locks.holder(target)
            if other is None or other.path != session.setup.owner.path:
                stack.enter_context(session.hold(target))
        yield
