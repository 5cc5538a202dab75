"""What config.yaml names: Dockerfiles, manifests, tools, the port of the metrics."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from devloop.adapters.checks.objects import NOWHERE, STAND_IN, of_manifest, of_release
from devloop.adapters.helm.runner_selection import choose
from devloop.adapters.kubernetes.kustomize import require
from devloop.checks.origin import shown
from devloop.checks.subject import Subject
from devloop.config.load import Config
from devloop.config.paths import absolute, matching
from devloop.deploy.kustomization import is_kustomization
from devloop.dockerfile.parser import Dockerfile
from devloop.dockerfile.planner import plan
from devloop.doctor.diagnosis import Diagnoses, Diagnosis, Examined, count, failure, ok, warning
from devloop.errors import BuildError, ConfigError, DevloopError, PlatformError
from devloop.files import is_folder, read_bytes

WILDCARD = re.compile(r"[*?\[]")
NO_TOOL = frozenset({"NoHelm", "NoKubectl"})
ANY_PLATFORM = "linux/amd64"  # reading a Dockerfile for its mistakes: any will do


async def dockerfiles(project: Examined) -> Diagnoses:
    """Those that can be read are one line."""
    found = [_dockerfile(project, service.name) for service in project.services]
    wrong = [one for one in found if one.grade != "ok"]
    return wrong or [ok("Dockerfiles", ", ".join(one.found for one in found))]


def _dockerfile(project: Examined, name: str) -> Diagnosis:
    spec = next(one.build for one in project.services if one.name == name)
    path = shown(spec.dockerfile, project.config.root)
    try:
        text = read_bytes(spec.dockerfile).decode("utf-8", "surrogateescape")
        plan(Dockerfile.parse(text), target=spec.target, args=spec.args, platform=ANY_PLATFORM)
    except OSError as error:
        return failure(
            f"Dockerfile of {name}", f"{path}: {error.strerror}", "build.dockerfile in config.yaml names it"
        )
    except BuildError as error:
        lines = "\n".join((f"{path}: {error.message}", *error.evidence))
        return failure(f"Dockerfile of {name}", lines, error.hint or "mend that line")
    return ok("Dockerfiles", path)


async def manifests(project: Examined) -> Diagnoses:
    """Patterns that match nothing, and files that hold no objects."""
    config = project.config
    empty = [one for pattern in config.manifests for one in _pattern(config, pattern)]
    if empty or project.broken or not (config.manifests or config.releases_by_name):
        return [*empty, *project.broken]
    groups = [count(len(config.manifest_files()), "file")] if config.manifests else []
    groups += [f"{release}" for release in config.releases()]
    return [ok("manifests", f"{', '.join(groups)}: {count(len(project.objects), 'object')}")]


def _pattern(config: Config, pattern: str) -> list[Diagnosis]:
    if not WILDCARD.search(pattern) or matching(config.root, pattern):
        return []  # what has no wildcard and is not there is an error of config.yaml
    return [failure("manifests", f"manifests: {pattern} matches no file", _better(config.root, pattern))]


def _better(root: Path, pattern: str) -> str:
    """A pattern that matches something, or where to look."""
    fixed = Path(*_until_wildcard(pattern))
    endings = {".yaml": ".yml", ".yml": ".yaml"}
    stem, dot, ending = pattern.rpartition(".")
    candidates = [f"{stem}{endings[dot + ending]}"] if dot + ending in endings else []
    candidates += [f"{fixed}/**/*.yaml", f"{fixed}/**/*.yml", "*/*.yaml", "**/*.yaml"]
    for candidate in dict.fromkeys(candidates):
        if found := matching(root, candidate):
            listed = ", ".join(shown(one, root) for one in sorted(found)[:3])
            return f"{candidate} matches {listed}{', …' if len(found) > 3 else ''}"
    where = absolute(root, str(fixed))
    return f"ls {where}" if is_folder(where) else f"there is no folder {where}: write the one that is meant"


def _until_wildcard(pattern: str) -> list[str]:
    parts: list[str] = []
    for part in pattern.split("/"):
        if WILDCARD.search(part):
            break
        parts.append(part or "/")
    return parts


async def helm(project: Examined) -> Diagnoses:
    """Where there are releases. Raises ConfigError where there is no Helm."""
    return (
        [ok("helm", str(choose(NOWHERE, project.machine.environ)))] if project.config.releases_by_name else []
    )


async def kubectl(project: Examined) -> Diagnoses:
    """Where there are kustomizations. Raises ConfigError where there is none that can render them."""
    folders = [path for path in project.config.manifest_files() if is_kustomization(path)]
    if not folders:
        return []
    await require(folders[0], project.machine.environ)
    named = ", ".join(shown(path, project.config.root) for path in folders)
    return [ok("kubectl", f"new enough for the kustomizations {named}")]


async def metrics_port(project: Examined) -> Diagnoses:
    """Who has the port on which `devloop watch` wants to serve its metrics."""
    from devloop.sinks.web import open_listener  # a web server takes a while to import

    settings = project.config.metrics
    host, port = settings.address
    if not settings.enabled or project.watches:
        served = ", ".join(project.watches) or "off (metrics.enabled)"
        return [ok("metrics", served)]
    try:
        open_listener(host, port).close()
    except PlatformError as error:
        grade = failure if settings.strict or error.reason != "PortInUse" else warning
        text = error.message.partition(",")[0] + (
            "" if grade is failure else ": the next free one will be taken"
        )
        return [grade("metrics", text, error.hint)]
    return [ok("metrics", f"port {port} on {host} is free" if port else f"any free port on {host}")]


async def objects_of(config: Config, environ: Mapping[str, str]) -> tuple[list[Subject], list[Diagnosis]]:
    """What all manifests and releases would deploy, and what gave nothing."""
    subjects: list[Subject] = []
    broken: list[Diagnosis] = []
    for path in config.manifest_files():
        try:
            subjects += await of_manifest(path, config)
        except (ConfigError, PlatformError) as error:
            if error.reason not in NO_TOOL:  # a check of its own says that
                broken.append(failure("manifests", error.message, error.hint or "mend that line"))
    refs = {one.name: f"{one.image}:{STAND_IN}" for one in config.services()}
    for release in config.releases():
        try:
            subjects += await of_release(choose(NOWHERE, environ), release, refs, config.root)
        except DevloopError as error:
            if error.reason not in NO_TOOL:
                broken.append(failure(str(release), "\n".join((error.message, *error.evidence)), error.hint))
    return subjects, broken
