"""`devloop diff`: what `once` would change of objects."""

from __future__ import annotations

from devloop.adapters.kubernetes.made import Made
from devloop.adapters.kubernetes.manifests import Manifest, gather_manifests
from devloop.adapters.kubernetes.patch import MANAGER
from devloop.commands.frame import Project
from devloop.commands.leftovers import left_releases, removal_of
from devloop.commands.output import secrets_of
from devloop.commands.session import in_session
from devloop.deploy.diff import Preview
from devloop.deploy.diff import diff as unified
from devloop.deploy.live_refs import live_refs
from devloop.deploy.needs import HELM, objects_of, owned
from devloop.image_refs import repository
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
    lines = unified(await _previews(session))
    left = [_left_over(one) for one in await removal_of(session).find_left()]
    known = {(one.namespace, one.name) for one in session.config.releases()}
    releases = await left_releases(session)
    left += [_left_over(one) for one in releases if (one.namespace, one.name) not in known]
    return list(lines), left


def _left_over(one: Made | Release) -> str:
    where = f" in namespace {one.namespace}" if one.namespace else ""
    return f"# {one}{where}: made by this project, which no longer names it; devloop down removes it"


async def _previews(session: Session) -> list[Preview]:
    """What `once` would make of each object, with the images that are live now.

    Raises ConfigError, PatchError, PlatformError.
    """
    applier, releases = session.cluster.applier, session.deployment.installation.releases
    refs = await live_refs(session.deployment.releaser, session.services)
    live = {repository(image): ref for image, ref in refs.items()}
    files = await gather_manifests(session.config.manifest_files())
    unknown = {repository(service.image) for service in session.config.services()} - live.keys()
    found = await applier.preview(files, MANAGER, live, unknown)
    for release in session.config.releases():
        objects = [owned(item, release) for item in objects_of(await releases.preview(release), str(release))]
        found += await applier.preview([Manifest(one, str(release)) for one in objects], HELM, {})
    return found
