"""`devloop diff`: what `once` would change of objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from devloop.adapters.kubernetes.made import Made
from devloop.adapters.kubernetes.manifests import Manifest, gather_manifests
from devloop.adapters.kubernetes.patch import MANAGER
from devloop.commands.frame import Project
from devloop.commands.leftovers import left_releases, removal_of
from devloop.commands.output import concealed, dumped, secrets_of
from devloop.commands.session import in_session
from devloop.deploy.diff import Difference, Preview, differences
from devloop.deploy.live_refs import live_refs
from devloop.deploy.needs import HELM, objects_of, owned
from devloop.errors import ConfigError, DevloopError
from devloop.image_refs import repository
from devloop.model import Release
from devloop.wiring import Session


def diff(project: Project, *, output: str) -> int:
    """Print what `once` would change of objects, as a unified diff; 0 nothing, 1 something.

    Whatever it could not compare is an error with another code, as with diff(1) and kubectl.
    """
    try:
        found, left = in_session(project, (), _differences)
    except DevloopError as error:
        if error.exit_code > 1:
            raise
        raise ConfigError(
            error.message, reason=error.reason, evidence=error.evidence, hint=error.hint
        ) from error
    conceal = secrets_of(project.config, ())
    if output:
        print(dumped(concealed(as_object(found, left), conceal), output))
        return 1 if found else 0
    lines = [line for one in found for line in one.lines]
    print("\n".join(map(conceal, lines)) if lines else "nothing would change")
    if left:
        print("\n".join(map(_left_over, left)))
    return 1 if found else 0


def as_object(found: Sequence[Difference], left: Sequence[Made | Release]) -> dict[str, Any]:
    """{"objects": [{"namespace", "object": "deployment/web", "change": create, change or delete, "diff": its
    lines}], "left": [{"namespace", "object"}]: made by this project, which no longer names it}"""
    return {
        "objects": [
            {"namespace": one.namespace, "object": one.name, "change": one.change, "diff": list(one.lines)}
            for one in found
        ],
        "left": [{"namespace": one.namespace, "object": str(one)} for one in left],
    }


async def _differences(session: Session) -> tuple[list[Difference], list[Made | Release]]:
    """What would change, and the objects and releases that are left over."""
    found = differences(await _previews(session))
    left: list[Made | Release] = list(await removal_of(session).find_left())
    known = {(one.namespace, one.name) for one in session.config.releases()}
    releases = await left_releases(session)
    left += [one for one in releases if (one.namespace, one.name) not in known]
    return found, left


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
