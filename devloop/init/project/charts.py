"""Charts as files: values that hold images, values files for this machine, subcharts; read without Helm."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from devloop.deploy.helm_values import merged
from devloop.image_refs import same_repository, split
from devloop.init.found import Chart, Container, Json, Workload
from devloop.init.paths import join, last, parent
from devloop.init.project.templates import Template, read_template
from devloop.init.words import NEAR, nearness, slug, words

_DEEPEST = 4  # charts within each other


@dataclass(frozen=True, slots=True)
class Files:
    """`yaml`: every readable mapping below charts and beside them, `templates`: text by path."""

    charts: Mapping[str, Json]  # folder -> Chart.yaml
    yaml: Mapping[str, Json]
    templates: Mapping[str, str]


def read_charts(files: Files) -> list[Chart]:
    """The charts that are no subcharts of another one."""
    nested = {one for one in files.charts for other in files.charts if one != other and _inside(one, other)}
    named = {folder: _siblings(folder, files) for folder in files.charts}
    nested |= {one for folder, below in named.items() for one in below if folder not in named[one]}
    return [
        _read(folder, files)
        for folder in sorted(files.charts)
        if folder not in nested and not _is_library(folder, files)
    ]


def _inside(one: str, other: str) -> bool:
    return one.startswith(f"{other}/charts/")


def _is_library(folder: str, files: Files) -> bool:
    return files.charts[folder].get("type") == "library"


def _dependencies(folder: str, files: Files) -> Iterator[tuple[str, str]]:
    """(name in the values, folder) of each subchart whose files are here; never the chart itself."""
    seen = {folder}
    for one in _list(files.charts[folder].get("dependencies")):
        if not isinstance(one, dict):
            continue
        name, repository = str(one.get("name") or ""), str(one.get("repository") or "")
        inside = join(folder, f"charts/{name}")
        beside = join(folder, repository.removeprefix("file://")) if repository.startswith("file://") else ""
        where = inside if inside in files.charts else beside if beside in files.charts else ""
        if where and where != folder:
            seen.add(where)
            yield str(one.get("alias") or name), where
    for one_folder in sorted(files.charts):
        if (
            _inside(one_folder, folder)
            and one_folder not in seen
            and one_folder.count("/") == folder.count("/") + 2 - (folder == ".")
        ):
            yield str(files.charts[one_folder].get("name") or last(one_folder)), one_folder


def _siblings(folder: str, files: Files) -> list[str]:
    return [where for _, where in _dependencies(folder, files)]


def _read(folder: str, files: Files) -> Chart:
    name = str(files.charts[folder].get("name") or last(folder))
    release = slug(name)
    given, why = _values_files(folder, files)
    values = _values(folder, files)
    for path in given:
        values = merged(values, files.yaml.get(path, {}))
    return chart_of(folder, name, release, given, values, files, why)


def chart_of(
    folder: str, name: str, release: str, given: tuple[str, ...], values: Json, files: Files, why: str
) -> Chart:
    workloads = tuple(_workloads(folder, release, values, "", files))
    images = tuple(_images(values, ""))
    covered = {box.values for one in workloads for box in one.containers}
    more = tuple(
        Workload("Chart", release, "", (Container(path, image, path),), folder)
        for path, image in images
        if path not in covered
    )
    below = tuple(name for name, _ in _dependencies(folder, files))
    return Chart(folder, name, release, "", given, {}, images, (*workloads, *more), False, below, why)


def as_released(chart: Chart, given: Chart, files: Files) -> Chart:
    """The chart with the name, the values and the images that skaffold.yaml gives it."""
    values = _values(chart.folder, files)
    for path in given.values:
        values = merged(values, files.yaml.get(path, {}))
    made = chart_of(chart.folder, chart.name, given.release, given.values, values, files, given.why)
    return replace(made, namespace=given.namespace, set=given.set, images=(*given.images, *made.images))


def _values(folder: str, files: Files, trail: tuple[str, ...] = ()) -> Json:
    """values.yaml of the chart, those of its subcharts below their names. `trail`: the charts above it."""
    own = files.yaml.get(join(folder, "values.yaml"), {})
    within = (*trail, folder)
    below = {
        name: _values(where, files, within)
        for name, where in _dependencies(folder, files)
        if where not in within and len(within) <= _DEEPEST
    }
    return merged(below, own)


def _values_files(folder: str, files: Files) -> tuple[tuple[str, ...], str]:
    """The one that looks like this machine's: values-dev.yaml in the chart, beside it or in the root."""
    places = dict.fromkeys((folder, parent(folder), "."))
    found = [
        path
        for path in files.yaml
        if parent(path) in places
        and re.match(r"values[-._].+\.ya?ml$", last(path))
        and set(words(last(path))) & set(NEAR)
    ]
    if not found:
        return (), ""
    best = min(found, key=lambda path: (nearness(last(path)), path))
    return (best,), f"with {best}, the values that look like this machine's"


def _images(values: Any, at: str) -> Iterator[tuple[str, str]]:
    """(path, repository) of each mapping that takes a whole repository: not one with a registry beside it."""
    if not isinstance(values, dict):
        return
    repository = values.get("repository")
    if at and isinstance(repository, str) and repository and not values.get("registry"):
        yield at, repository
    for key, value in values.items():
        step = str(key).replace(".", "\\.")
        yield from _images(value, f"{at}.{step}" if at else step)


def _workloads(
    folder: str, release: str, values: Json, at: str, files: Files, trail: tuple[str, ...] = ()
) -> Iterator[Workload]:
    helpers = "\n".join(
        text
        for path, text in files.templates.items()
        if path.startswith(join(folder, "templates") + "/") and path.endswith(".tpl")
    )
    name = str(files.charts[folder].get("name") or last(folder))
    for path, text in sorted(files.templates.items()):
        if not path.startswith(join(folder, "templates") + "/") or not path.endswith((".yaml", ".yml")):
            continue
        yield from read_template(text, Template(path, name, release, values, at, helpers))
    within = (*trail, folder)
    for below, where in _dependencies(folder, files):
        if where in within or len(within) > _DEEPEST:
            continue
        own = values.get(below)
        step = f"{at}.{below}" if at else below
        yield from _workloads(where, release, own if isinstance(own, dict) else {}, step, files, within)


def with_rendered(chart: Chart, rendered: tuple[Workload, ...]) -> Chart:
    """With Helm's own answer in the place of what was read from the templates."""
    left = list(chart.images)
    workloads: list[Workload] = []
    for one in rendered:
        boxes: list[Container] = []
        for box in one.containers:
            fitting = [path for path, image in left if same_repository(image, split(box.image)[0])]
            read = {
                b.values
                for w in chart.workloads
                if w.name == one.name
                for b in w.containers
                if b.name == box.name
            }
            path = next((path for path in fitting if path in read), fitting[0] if fitting else "")
            boxes.append(replace(box, values=path))
        workloads.append(replace(one, containers=tuple(boxes), where=chart.folder))
    return replace(chart, workloads=tuple(workloads), rendered=True)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
