"""Where in an image the context's files are placed: from the Dockerfile and the layers below."""

from __future__ import annotations

import itertools
import os
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from devloop.delta.layer_index import LayerNode, Layers
from devloop.dockerfile.plan import Copy, Plan, Run, Step, Workdir, has_wildcard
from devloop.inputs.selection import SourcePattern, pattern_of
from devloop.model import FileEntry

_KEYWORDS = {Run: ("RUN",), Workdir: ("WORKDIR",), Copy: ("COPY", "ADD")}


class NotProvenError(Exception):
    """Nothing is wrong, but that a delta gives what a full build gives is not proven.

    `reason` is one CamelCase word (a metric's label), `line` of the Dockerfile or 0, `advice` what change
    would make it provable, or "".
    """

    def __init__(self, reason: str, message: str, line: int = 0, advice: str = "") -> None:
        super().__init__(f"line {line}: {message}" if line else message)
        self.reason, self.message, self.line, self.advice = reason, message, line, advice


@dataclass(frozen=True, slots=True)
class StageStep:
    """One step of the image's chain of stages, and the number of the layer that it made, if any."""

    stage: int
    step: Step
    layer: int | None


@dataclass(frozen=True, slots=True)
class Placement:
    """One source of one COPY: a file, or a directory with all below it, and where it lands."""

    copy: Copy
    layer: int
    source: str  # context-relative, "" = the context
    target: str  # in the image, without leading slash; "" = its root
    is_dir: bool

    def lands(self, path: str) -> str | None:
        """Where a context path comes to lie. A copied directory's own attributes are not copied."""
        if path == self.source:
            return None if self.is_dir else self.target
        inside = _below(self.source, path) if self.is_dir else None
        return None if inside is None else posixpath.join(self.target, inside)

    def comes_from(self, target: str) -> str | None:
        """Which context path would lie there."""
        if not self.is_dir:
            return self.source if target == self.target else None
        inside = _below(self.target, target)
        return None if inside is None else posixpath.join(self.source, inside)


def _below(directory: str, path: str) -> str | None:
    if not directory:
        return path or None
    return path[len(directory) + 1 :] if path.startswith(directory + "/") else None


def numbered(plan: Plan, full: int) -> tuple[StageStep, ...]:
    """The steps of the image, lowest first, with the layers that they should have made of `full` in all."""
    steps = [(stage.stage.index, step) for stage in plan.chain() for step in stage.steps]
    numbers = itertools.count(full - sum(_makes_layer(step) for _, step in steps))
    return tuple(
        StageStep(stage, step, next(numbers) if _makes_layer(step) else None) for stage, step in steps
    )


def places(plan: Plan, full: int, history: Iterable[Mapping[str, object]]) -> tuple[StageStep, ...]:
    """The steps of the image, lowest first, with their layers. `full`: how many layers the build gave.

    Raises NotProvenError where the image's history does not agree.
    """
    made = [entry for entry in history if not entry.get("empty_layer")][:full]
    found = numbered(plan, full)
    if len(made) != full or any(one.layer is not None and one.layer < 0 for one in found):
        raise NotProvenError("HistoryDiffers", "the image's history does not match the Dockerfile")
    for one in found:
        if one.layer is None:
            continue
        created_by = str(made[one.layer].get("created_by", ""))
        if not created_by.startswith(_KEYWORDS[type(one.step)]):
            raise NotProvenError("HistoryDiffers", f"layer {one.layer} was made by {created_by[:60]!r}")
    return found


def _makes_layer(step: Step) -> bool:
    return isinstance(step, (Copy, Run)) or (isinstance(step, Workdir) and step.path != "/")


@dataclass(frozen=True, slots=True)
class SourceRoots:
    """What a source stands for: (name as copied, where it lies) of each, and the links on the way."""

    found: tuple[tuple[str, str], ...]
    links: frozenset[str]


def roots(source: str, files: Mapping[str, FileEntry]) -> SourceRoots:
    """Resolve a COPY source among the inputs: wildcards, then links."""
    links: set[str] = set()
    if not has_wildcard(source):
        real = _follow(source, files, links)
        return SourceRoots(((posixpath.basename(source), real),), frozenset(links))
    pattern = pattern_of(source)
    if len(pattern.parts) != source.count("/") + 1:
        raise NotProvenError("Wildcard", f"the wildcard in {source} may match a slash")
    fixed = itertools.takewhile(lambda part: not has_wildcard(part), source.split("/"))
    _follow("/".join(fixed), files, links)  # the walk begins behind a link, so none of its names would match
    names = sorted(set(_matches(pattern, files)), key=_walk_order)
    found = tuple((posixpath.basename(name), _follow(name, files, links)) for name in names)
    return SourceRoots(found, frozenset(links))


def _matches(pattern: SourcePattern, files: Mapping[str, FileEntry]) -> Iterator[str]:
    size = len(pattern.parts)
    for path in files:
        parts = tuple(path.split("/")[:size])
        if len(parts) == size and pattern.fits(parts):
            yield "/".join(parts)


def _walk_order(path: str) -> list[bytes]:
    """BuildKit walks the context: a directory comes before what is in it, names are compared as bytes."""
    return [os.fsencode(part) for part in path.split("/")]


def _follow(path: str, files: Mapping[str, FileEntry], links: set[str]) -> str:
    """Follow the links in a context path. Where one leads is not among the inputs' digests, so a
    source behind a link is only named here; `SourceRoots.links` says that there was one."""
    for depth in range(1, path.count("/") + 2):
        here = "/".join(path.split("/")[:depth])
        entry = files.get(here)
        if entry is not None and entry.kind == "link":
            links.add(here)
    return path


def placements(
    steps: Iterable[StageStep], files: Mapping[str, FileEntry], layers: Layers
) -> tuple[Placement, ...]:
    """Where the inputs land, step by step. Only the steps that copy from the context.

    Raises NotProvenError for a COPY whose placement is unknown.
    """
    found: list[Placement] = []
    for place in steps:
        copy = place.step
        if isinstance(copy, Copy) and copy.source.is_context and place.layer is not None:
            found += _placements_of(copy, place.layer, files, layers)
    return tuple(found)


def _placements_of(
    copy: Copy, layer: int, files: Mapping[str, FileEntry], layers: Layers
) -> Iterator[Placement]:
    line = copy.instruction.line
    if copy.sources is None or copy.destination is None:
        raise NotProvenError("Unresolvable", "a variable here is known only to the build", line)
    resolved = layers.resolve(copy.destination, layer)
    if resolved is None:
        raise NotProvenError("Unresolvable", "the destination is a loop of links", line)
    below = layers.find(resolved, layer)
    into = copy.destination.endswith("/") or (below is not None and below.kind == "dir")
    several = len(copy.sources) > 1 or any(has_wildcard(source) for source in copy.sources)
    for source in copy.sources:
        resolution = roots(source, files)
        for name, real in resolution.found:
            entry = files.get(real)
            if entry is None and real:
                raise NotProvenError("SourceMissing", f"{real} is not there", line)
            is_dir = entry is None or entry.kind == "dir"
            if not is_dir and several and not into:
                raise NotProvenError(
                    "SeveralSources",
                    "several sources, and the destination may be a file",
                    line,
                    f"end the destination with a slash: {copy.destination}/",
                )
            target = resolved if is_dir or not into else posixpath.join(resolved, name)
            yield Placement(copy, layer, real, target, is_dir)


def octal(mode: str) -> int | None:
    """The value of `--chmod`, None if it is no octal number."""
    return int(mode, 8) if re.fullmatch(r"[0-7]{1,4}", mode) else None


def forced_mode(copy: Copy, entry: FileEntry) -> int | None:
    """The mode that `--chmod` gives to this file, None if it keeps its own.

    Raises NotProvenError for setuid and its like: Docker 20.10 keeps the file's own under a --chmod and
    drops those that it names, later versions do as it says."""
    forced = octal(copy.mode or "") if entry.kind != "link" else None
    if forced is not None and (forced | entry.mode) & 0o7000:
        raise NotProvenError(
            "BuildersDiffer",
            f"builders differ on --chmod={copy.mode} for {entry.path} with mode {entry.mode:o}",
            copy.instruction.line,
        )
    return forced


def owner_of(placed: Placement, files: Mapping[str, FileEntry], layers: Layers) -> tuple[int, int]:
    """uid and gid of what a COPY made: numbers from `--chown`, and names as its own layer shows them."""
    given = placed.copy.owner
    if given == "":
        return 0, 0
    observed = next(_observed(placed, files, layers), None)
    if observed is not None:
        return observed.uid, observed.gid
    found = re.fullmatch(r"(\d+):(\d+)", given or "")
    if found is None:
        raise NotProvenError(
            "OwnerUnknown",
            f"nothing shows which numbers --chown={given} stands for",
            placed.copy.instruction.line,
            "write the numbers: --chown=1001:1001",
        )
    return int(found[1]), int(found[2])


def _observed(placed: Placement, files: Mapping[str, FileEntry], layers: Layers) -> Iterator[LayerNode]:
    nodes = layers.stack[placed.layer].nodes
    if not placed.is_dir:
        if placed.target in nodes:
            yield nodes[placed.target]
        return
    for path, node in nodes.items():
        source = placed.comes_from(path)
        if source is not None and source in files:
            yield node
