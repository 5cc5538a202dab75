"""`devloop down`: remove what devloop brought into the cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import anyio.to_thread
import click

from devloop.commands.frame import Project
from devloop.commands.leftovers import left_releases, removal_of
from devloop.commands.output import dumped
from devloop.commands.session import in_session
from devloop.deploy import teardown
from devloop.errors import ConfigError
from devloop.wiring import Session


def down(project: Project, *, sure: bool, output: str) -> int:
    """Remove what devloop brought into the cluster; 1 if who is asked refuses. `sure`: nobody is asked."""
    if output and not sure:
        raise ConfigError("-o prints one object and asks nobody: say --yes too", reason="Usage")

    async def remove(session: Session) -> bool:
        with session.held():
            if output:
                click.echo(dumped(as_object(await _removed(session)), output))
                return True
            return await _remove(session, partial(confirmed, sure=sure))

    return 0 if in_session(project, (), remove) else 1


def as_object(done: teardown.Teardown) -> dict[str, Any]:
    """{"removed": {"releases": [{"namespace", "name"}], "objects", "namespaces"}, "stays": {NAMESPACE: [what
    others have in it]}}"""
    return {
        "removed": {
            "releases": [{"namespace": one.namespace, "name": one.name} for one in done.releases],
            "objects": list(done.objects),
            "namespaces": list(done.namespaces),
        },
        "stays": {name: list(others) for name, others in done.kept.items()},
    }


async def _removed(session: Session) -> teardown.Teardown:
    """All of it, without a question."""
    removal = removal_of(session)
    left = await left_releases(session)
    found = await teardown.plan(session.config.releases(), left, session.deployment.releaser, removal)
    if found.empty:
        return found
    session.deployment.installation.manifests.forget()  # first, as below
    return await teardown.tear_down(found, session.deployment.releaser, removal)


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
