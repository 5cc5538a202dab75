"""`devloop diff`: what `once` would change of objects."""

from __future__ import annotations

from devloop.adapters.kubernetes.made import Made
from devloop.commands.frame import Project, in_session
from devloop.commands.output import secrets_of
from devloop.deploy.diff import diff as unified
from devloop.model import Release
from devloop.wiring import Session


def diff(project: Project) -> int:
    """Print what `once` would change of objects, as a unified diff; 0 nothing, 1 something."""
    lines, left = in_session(project, (), _differences)
    conceal = secrets_of(project.config, ())
    print("\n".join(map(conceal, lines)) if lines else "nothing would change")
    if left:
        print("\n".join(left))
    return 1 if lines else 0


async def _differences(session: Session) -> tuple[list[str], list[str]]:
    """Lines of the diff, and one line per object or release that is left over."""
    lines = unified(await session.previews())
    left = [_left_over(one) for one in await session.removal().find_left()]
    known = {(one.namespace, one.name) for one in session.config.releases()}
    releases = await session.left_releases()
    left += [_left_over(one) for one in releases if (one.namespace, one.name) not in known]
    return list(lines), left


def _left_over(one: Made | Release) -> str:
    where = f" in namespace {one.namespace}" if one.namespace else ""
    return f"# {one}{where}: made by this project, which names it no more; devloop down removes it"
