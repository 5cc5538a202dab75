"""`devloop down`: remove what devloop brought into the cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import anyio.to_thread
import click

from devloop.commands.frame import Project
from devloop.commands.leftovers import left_releases, removal_of
from devloop.commands.session import in_session
from devloop.deploy import teardown
from devloop.wiring import Session


def down(project: Project, *, sure: bool) -> int:
    """Remove what devloop brought into the cluster; 1 if who is asked refuses. `sure`: nobody is asked."""

    async def remove(session: Session) -> bool:
        with session.held():
            return await _remove(session, partial(confirmed, sure=sure))

    return 0 if in_session(project, (), remove) else 1


async def _remove(session: Session, ask: Callable[[Sequence[str]], bool]) -> bool:
    """False if `ask` refuses."""
    removal = removal_of(session)
    left = await left_releases(session)
    found = await teardown.plan(session.config.releases(), left, session.deployment.releaser, removal)
    if found.empty:
        print("\n".join(found.stays() or ["nothing of this project is in the cluster"]))
        return True
    for line in found.stays():
        click.echo(line)
    if not await anyio.to_thread.run_sync(ask, found.lines()):
        return False
    # Forgotten first: a down that is killed is no reason to leave out what it deleted.
    session.deployment.installation.manifests.forget()
    done = await teardown.tear_down(found, session.deployment.releaser, removal)
    meanwhile = [line for line in done.stays() if line not in found.stays()]
    print("\n".join([f"removed: {', '.join(done.lines())}", *meanwhile]))
    return True


def confirmed(lines: Sequence[str], *, sure: bool) -> bool:
    """Whether all of this may go: an input that ends without an answer (no terminal) refuses."""
    click.echo("\n".join(("devloop down removes", *(f"  {line}" for line in lines))))
    try:
        return sure or click.confirm("Go on?", default=False)
    except click.Abort:
        click.echo("\nnothing is removed: nobody answered; --yes does not ask", err=True)
        return False
