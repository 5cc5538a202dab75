"""A project's folder to what was found in it. What is unreadable or broken is a note, never an error."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from devloop.deploy.kustomization import FILE_NAMES
from devloop.errors import DevloopError
from devloop.init.found import (
    Build,
    Chart,
    ComposeService,
    Deployed,
    Dockerfile,
    Found,
    Json,
    Kustomization,
    Manifest,
    Note,
)
from devloop.init.paths import join, last, matches, parent
from devloop.init.project import charts, compose, kustomizations, skaffold
from devloop.init.project.dockerfiles import read_dockerfile
from devloop.init.project.objects import flat, manifest_of
from devloop.init.project.reading import Reading
from devloop.init.project.tree import read_tree
from devloop.init.words import is_dockerfile

ASIDE = frozenset(
    {"test", "tests", "testdata", "fixtures", "example", "examples", "docs", "doc", "e2e", "bench"}
)
# apiVersions of what looks like an object of a cluster and is none.
_TOOLS = re.compile(
    r"^(skaffold|kind\.x-k8s\.io|k3d\.io|ctlptl\.dev|eksctl\.io|kubeadm\.k8s\.io|kustomize\.config)"
)

_KIND = re.compile(r"^[ \t]*[\"']?kind", re.MULTILINE)
_TEMPLATE = re.compile(r"^[ \t]*\{\{", re.MULTILINE)
_BUILT_IN = re.compile(r"^(v1|[a-z]+/v\w+|[a-z.]+\.k8s\.io/v\w+)$")  # groups of Kubernetes itself

Item = TypeVar("Item", Dockerfile, Manifest)


def scan(root: Path) -> Found:
    """Raises nothing."""
    tree = read_tree(root)
    reading = Reading(tree, list(tree.notes))
    folders = {parent(path) for path in tree.files if last(path) == "Chart.yaml"}
    dockerfiles = tuple(_dockerfiles(reading))
    every = tuple(_manifests(reading, folders))
    manifests = _without_aside(every, reading)
    builds, services = _compose(reading)
    more, deployed = _skaffold(reading)
    return Found(
        name=tree.root.name or "project",
        folders=tree.folders,
        files=frozenset(tree.files),
        closed=tree.closed,
        dockerfiles=_without_aside(dockerfiles, reading),
        builds=(*more, *builds),
        compose=services,
        manifests=manifests,
        kustomizations=_kustomizations(reading, every),
        charts=_charts(reading, folders, deployed),
        deployed=_that_exists(deployed, manifests),
        unusable=tuple(one for one in reading.unusable if not _is_aside(one.what)),
        notes=tuple(dict.fromkeys(reading.notes)),
    )


def _compose(reading: Reading) -> tuple[list[Build], tuple[ComposeService, ...]]:
    """Of the compose file nearest to the root, with its override file."""
    paths = sorted((one for one in reading.tree.files if last(one) in compose.NAMES), key=_depth)
    if not paths:
        return [], ()
    path = paths[0]
    folder = parent(path)
    reading.notes += [Note(one, f"{path} is the compose file that counts") for one in paths[1:]]
    value = reading.first(path)
    override = next(
        (join(folder, one) for one in compose.OVERRIDES if join(folder, one) in reading.tree.files), ""
    )
    if override and (above := reading.values(override)):
        value = compose.merged(value, above[0])
    project = reading.tree.root.name if folder == "." else last(folder)
    builds, services, notes = compose.read_compose(path, folder, value, project)
    reading.notes += notes
    return builds, tuple(services)


def _skaffold(reading: Reading) -> tuple[list[Build], Deployed | None]:
    """Of every skaffold.yaml; what one deploys counts if it is the only one."""
    builds: list[Build] = []
    deployed: list[Deployed] = []
    for path in sorted((one for one in reading.tree.files if last(one) in skaffold.NAMES), key=_depth):
        made, one, notes = skaffold.read_skaffold(path, parent(path), reading.values(path) or [])
        builds += made
        deployed.append(one)
        reading.notes += notes
    return builds, deployed[0] if len(deployed) == 1 else None


def _that_exists(deployed: Deployed | None, manifests: tuple[Manifest, ...]) -> Deployed | None:
    if deployed is None or deployed.kustomizations or deployed.releases:
        return deployed
    return deployed if any(matches(one.path, deployed.manifests) for one in manifests) else None


def _kustomizations(reading: Reading, manifests: tuple[Manifest, ...]) -> tuple[Kustomization, ...]:
    found: dict[str, Json] = {}
    for path in reading.tree.files:
        if last(path) in FILE_NAMES:
            value = reading.first(path)
            if isinstance(value, dict):
                found[parent(path)] = value
    by_path = {one.path: one for one in manifests}
    return tuple(kustomizations.read_kustomizations(kustomizations.Files(found, by_path)))


def _charts(reading: Reading, folders: set[str], deployed: Deployed | None) -> tuple[Chart, ...]:
    """Those that skaffold.yaml installs with the names and values that it gives them."""
    described, values, templates = dict[str, Json](), dict[str, Json](), dict[str, str]()
    for path in reading.tree.files if folders else ():
        inside = any(path.startswith(f"{one}/templates/" if one != "." else "templates/") for one in folders)
        if inside and path.endswith((".yaml", ".yml", ".tpl")):
            templates[path] = reading.text(path) or ""
        elif last(path) == "Chart.yaml" or (
            last(path).startswith("values") and path.endswith((".yaml", ".yml"))
        ):
            value = reading.first(path)
            if isinstance(value, dict):
                (described if last(path) == "Chart.yaml" else values)[path] = value
    files = charts.Files({parent(path): value for path, value in described.items()}, values, templates)
    found = charts.read_charts(files)
    given = {one.folder: one for one in (deployed.releases if deployed else ())}
    return tuple(
        charts.as_released(one, given[one.folder], files) if one.folder in given else one for one in found
    )


def _depth(path: str) -> tuple[int, str]:
    return path.count("/"), path


def _without_aside(items: tuple[Item, ...], reading: Reading) -> tuple[Item, ...]:
    """Those of tests, examples and docs count only where there are no others."""
    kept = tuple(one for one in items if not _is_aside(one.path))
    if not kept:
        return items
    reading.notes += [
        Note(one.path, "it lies with tests, examples or docs") for one in items if one not in kept
    ]
    return kept


def _is_aside(path: str) -> bool:
    return bool(ASIDE.intersection(parent(path).split("/")))


def _dockerfiles(reading: Reading) -> Iterator[Dockerfile]:
    for path in reading.tree.files:
        if not is_dockerfile(last(path)) or (text := reading.text(path)) is None:
            continue
        try:
            yield read_dockerfile(path, text)
        except DevloopError as error:
            reading.notes.append(Note(path, f"broken: {error.message}"))


def _manifests(reading: Reading, charts_in: set[str]) -> Iterator[Manifest]:
    for path in reading.tree.files:
        inside = any(path.startswith(f"{chart}/") or chart == "." for chart in charts_in)
        if not path.endswith((".yaml", ".yml")) or last(path) in FILE_NAMES or inside:
            continue
        text = reading.text(path) or ""
        if not _KIND.search(text) or "apiVersion" not in text:
            continue
        if "{{" in text and _TEMPLATE.search(text):
            reading.unusable.append(Note(path, "a template, no manifest"))
            continue
        values = reading.values(path, text)
        if values is None:
            reading.unusable.append(reading.notes.pop())
        objects = [one for one in flat(values or ()) if not _TOOLS.match(one["apiVersion"])]
        if objects and not any(_BUILT_IN.match(one["apiVersion"]) for one in objects):
            reading.notes.append(
                Note(path, f"{objects[0]['kind']}: a kind that a plain cluster does not serve")
            )
        elif objects:
            yield manifest_of(path, objects)
