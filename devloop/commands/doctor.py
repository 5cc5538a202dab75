"""`devloop doctor`: what devloop needs, looked at one by one, each with what was found and what to do."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from devloop.adapters.build.build_cli import find_command
from devloop.adapters.docker.connection import EngineRefusedError
from devloop.adapters.kubernetes.kustomize import require
from devloop.commands.frame import Project, in_session
from devloop.commands.output import secrets_of
from devloop.deploy.kustomization import is_kustomization
from devloop.errors import DevloopError
from devloop.wiring import Session

NOTES_ANNOTATION = "dev.devloop/notes"  # what a cluster wants its users to know, on its Nodes
FEW_WATCHES = 8192
LIMITS = Path("/proc/sys/fs/inotify")


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """`grade`: good, note (works, but know this) or bad (devloop will fail)."""

    grade: Literal["good", "note", "bad"]
    what: str
    found: str
    hint: str | None = None


async def examine(session: Session) -> list[Diagnosis]:
    """Every finding, in the order of a trip. Raises nothing that a finding can say."""
    findings = [
        Diagnosis("good", "config", f"{session.config.path}: {', '.join(s.name for s in session.services)}"),
        await _looked("build engine", lambda: _engine(session)),
        await _looked("docker command", _command),
        await _looked("cluster", lambda: _cluster(session)),
        await _looked("images", lambda: _route(session)),
    ]
    if session.config.releases_by_name:
        findings.append(await _looked("helm", lambda: _helm(session)))
    if folders := [str(path) for path in session.config.manifest_files() if is_kustomization(path)]:
        findings.append(await _looked("kubectl", lambda: _kubectl(folders)))
    if findings[3].grade != "bad":
        findings += [
            await _looked(f"target of {s.name}", _targets_of(session, s.name)) for s in session.services
        ]
        findings += await _notes(session)
    return [*findings, *_watch_limits()]


async def _looked(what: str, look: Callable[[], Awaitable[Diagnosis]]) -> Diagnosis:
    try:
        return await look()
    except (DevloopError, EngineRefusedError) as error:
        return Diagnosis("bad", what, error.message, error.hint)


async def _engine(session: Session) -> Diagnosis:
    info = await session.images.docker.info()
    store = "containerd image store" if info.containerd_store else "graph driver"
    return Diagnosis("good", "build engine", f"{info.name}, Docker {info.version}, {info.platform}, {store}")


async def _command() -> Diagnosis:
    command = await find_command(dict(os.environ))
    if command is None:
        return Diagnosis(
            "note",
            "docker command",
            "none with BuildKit: the engine's own API builds, without build secrets",
            "install docker-buildx (apt install docker-buildx-plugin)",
        )
    how = "with buildx" if command.buildx else "with BuildKit built in"
    return Diagnosis("good", "docker command", f"{command.path}, {how}")


async def _cluster(session: Session) -> Diagnosis:
    platform = session.cluster.platform
    nodes = await session.cluster.nodes()
    listed = ", ".join(f"{node.name} ({node.os}/{node.architecture}, {node.runtime})" for node in nodes)
    return Diagnosis("good", "cluster", f"context {platform.context} ({platform.product}): {listed}")


async def _route(session: Session) -> Diagnosis:
    route = await session.images.loader.route()
    return Diagnosis(
        "good", "images", f"reach {', '.join(store.node for store in route.stores)} by {route.how}"
    )


async def _helm(session: Session) -> Diagnosis:
    return Diagnosis("good", "helm", session.deployment.releaser.require())


async def _kubectl(folders: Sequence[str]) -> Diagnosis:
    await require(Path(folders[0]), os.environ)
    return Diagnosis("good", "kubectl", f"new enough for the kustomizations {', '.join(folders)}")


def _targets_of(session: Session, name: str) -> Callable[[], Awaitable[Diagnosis]]:
    service = next(one for one in session.services if one.name == name)

    async def look() -> Diagnosis:
        what = f"target of {name}"
        missing = []
        for target in service.targets:
            async with session.cluster.feed(target) as feed:
                if not feed.latest.exists:
                    missing.append(f"{target} in namespace {target.namespace}")
        if missing:
            own = session.config.manifests or session.config.releases_by_name
            hint = "devloop once applies manifests and releases" if own else "kubectl apply -f FILE"
            return Diagnosis("note", what, f"not there yet: {', '.join(missing)}", hint)
        named = ", ".join(f"{target} in {target.namespace}" for target in service.targets)
        return Diagnosis("good", what, named or "none: it is built and loaded only")

    return look


async def _notes(session: Session) -> list[Diagnosis]:
    """What the nodes say of themselves."""
    nodes = await session.cluster.nodes()
    return [
        Diagnosis("note", f"node {node.name}", node.annotations[NOTES_ANNOTATION])
        for node in nodes
        if NOTES_ANNOTATION in node.annotations
    ]


def _watch_limits() -> list[Diagnosis]:
    try:
        watches = int((LIMITS / "max_user_watches").read_text())
    except (OSError, ValueError):
        return []  # not Linux
    if watches >= FEW_WATCHES:
        return [Diagnosis("good", "file watching", f"up to {watches} folders")]
    return [
        Diagnosis(
            "note",
            "file watching",
            f"only {watches} folders can be watched; beyond that the tree is polled",
            "sudo sysctl fs.inotify.max_user_watches=524288",
        )
    ]


def doctor(project: Project, names: Sequence[str]) -> int:
    """Print what devloop needs and what was found; 3 if something is in the way."""
    findings = in_session(project, names, examine)
    hide = secrets_of(project.config, names)
    marks = {"good": "ok  ", "note": "note", "bad": "BAD "}
    for finding in findings:
        print(f"{marks[finding.grade]}  {finding.what}: {hide(finding.found)}")
        if finding.hint:
            print(f"      -> {hide(finding.hint)}")
    return 3 if any(finding.grade == "bad" for finding in findings) else 0
