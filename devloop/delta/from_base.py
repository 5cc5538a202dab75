"""The first image of a service as a delta on its base, where the Dockerfile only copies and sets: no build.

It is made as a full build makes it, one layer per COPY and WORKDIR with its line of history, so the next
delta stands on it as on any full build. What is not plain is `NotProven`, and a full build follows.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from devloop.delta.changes import MOST_LAYERS
from devloop.delta.delta import Delta, NotProven, Parent, recipe, stamp
from devloop.delta.image_config import Settings
from devloop.delta.layer_index import WHITEOUT, LayerNode, Layers
from devloop.delta.layer_writer import LARGEST_LAYER, write_layer
from devloop.delta.placement import NotProvenError, Placement, StageStep, forced_mode, placements, roots
from devloop.delta.plain_dockerfile import check_step, only_stage
from devloop.dockerfile.dockerignore import IgnoreRules
from devloop.dockerfile.plan import Copy, Plan, Setting, Workdir
from devloop.model import Archive, FileEntry, Inputs, Service

__all__ = ["first"]

_ROOT_USERS = ("", "0", "0:0")  # not "root": a passwd that was copied may give it another number
_KEPT = ("architecture", "os", "variant", "os.version", "author")  # of the base's config

Made = dict[str, tuple[LayerNode, FileEntry | None]]  # image path -> what lies there, and its source


def first(
    service: Service,
    base: Parent,
    inputs: Inputs,
    plan: Plan,
    rules: IgnoreRules,
    labels: Mapping[str, str],
    *,
    rebuild_salt: str = "",
    check: Callable[[], None] = lambda: None,
) -> Delta | NotProven:
    """The image of `inputs` on its base, whose layers and config `base` holds (its recipe is not looked at).

    Reads the copied files, in the calling thread. Raises TreeMovedError if one is not what `inputs` says,
    and whatever `check` raises.
    """
    try:
        return _First(service, base, inputs, plan, rules, check).make(labels, rebuild_salt)
    except NotProvenError as doubt:
        return NotProven.of(doubt)


class _First:
    """One image in the making: the layers and the config so far."""

    def __init__(
        self,
        service: Service,
        base: Parent,
        inputs: Inputs,
        plan: Plan,
        rules: IgnoreRules,
        check: Callable[[], None],
    ) -> None:
        self._service, self._inputs, self._rules, self._check = service, inputs, rules, check
        self._stage = only_stage(plan)
        self._base = base
        self._config: dict[str, Any] = json.loads(base.config)
        self._check_base()
        settings = self._config.get("config") or {}
        self._settings = Settings(settings)
        self._stack = list(base.layers.stack)
        self._diff_ids = list(base.diff_ids)
        self._blobs: list[bytes] = []
        self._copied: set[str] = set()
        newest = max((entry.mtime_ns for entry in inputs.files.values()), default=0)
        self._created = max(str(self._config.get("created") or ""), stamp(newest))
        self._made_at = newest // 1_000_000_000
        self._history: list[dict[str, Any]] = list(self._config.get("history") or [])

    def make(self, labels: Mapping[str, str], rebuild_salt: str) -> Delta:
        for step in self._stage.steps:
            check_step(step)
            self._check()
            if isinstance(step, Copy):
                self._copy(step)
            elif isinstance(step, Workdir):
                self._workdir(step)
            elif isinstance(step, Setting):
                self._settings.apply(step)
                self._record(step.instruction.text, empty=True)
        if not self._blobs or len(self._diff_ids) >= MOST_LAYERS:
            raise NotProvenError("NotPlain", f"{len(self._blobs)} new layers, {len(self._diff_ids)} in all")
        self._settings.add_labels(labels)
        made = {key: self._config[key] for key in _KEPT if self._config.get(key)}
        made |= {"config": self._settings.values, "created": self._created, "history": self._history}
        made["rootfs"] = {"type": "layers", "diff_ids": self._diff_ids}
        config = json.dumps(made, separators=(",", ":")).encode()
        diff_ids = tuple(self._diff_ids)
        known = recipe(self._service.build, self._inputs, rebuild_salt)
        parent = Parent(known, config, diff_ids, Layers(tuple(self._stack)), len(diff_ids))
        archive = Archive(config, self._blobs[-1], diff_ids, tuple(self._blobs[:-1]))
        return Delta(archive, tuple(sorted(self._copied)), (), parent)

    def _check_base(self) -> None:
        config, platform = self._config, self._inputs.platform
        digest = f"sha256:{hashlib.sha256(self._base.config).hexdigest()}"
        here = [base.id for base in self._inputs.bases if base.ref == self._stage.base_image]
        if here != [digest]:
            raise NotProvenError("BaseUnknown", "the base is not the image that is known")
        names = [str(config[key]) for key in ("os", "architecture", "variant") if config.get(key)]
        if "/".join(names) != platform:
            raise NotProvenError("BasePlatform", f"the base is for {'/'.join(names)}, not for {platform}")
        settings = config.get("config") or {}
        history = [entry for entry in config.get("history") or [] if not entry.get("empty_layer")]
        if len(history) != len(self._base.diff_ids) or settings.get("OnBuild"):
            raise NotProvenError("NotPlain", "the base has ONBUILD lines, or a history that does not fit")

    # --- layers

    def _layers(self) -> Layers:
        return Layers(tuple(self._stack))

    def _add(self, nodes: Made, text: str) -> None:
        blob, layer = write_layer(nodes, self._service.build.context, self._check)
        self._blobs.append(blob)
        if sum(map(len, self._blobs)) > LARGEST_LAYER:
            raise NotProvenError("TooLarge", f"the copied files are more than {LARGEST_LAYER >> 20} MB")
        self._stack.append(layer)
        self._diff_ids.append(f"sha256:{hashlib.sha256(blob).hexdigest()}")
        self._record(text, empty=False)

    def _record(self, text: str, *, empty: bool) -> None:
        entry: dict[str, Any] = {"created": self._created, "created_by": text, "comment": "devloop"}
        self._history.append(entry | ({"empty_layer": True} if empty else {}))

    def _copy(self, step: Copy) -> None:
        line = step.instruction.line
        nodes: Made = {}
        layers, files = self._layers(), self._inputs.files
        owner = _owner(step)
        for source in step.sources or ():
            if (found := roots(source, files)).links or not found.found:
                raise NotProvenError("SourceLink", f"{source} is, or lies behind, a link or nothing", line)
        place = StageStep(self._stage.stage.index, step, len(self._stack))
        self._check_no_link(step, layers)
        for placed in placements((place,), files, layers):
            into = placed.target if placed.is_dir else _above(placed.target)
            if step.mode and layers.find(into) is None:
                raise NotProvenError(
                    "BuildersDiffer", f"builders differ on whether --chmod is for a new /{into} too", line
                )
            self._make_directories(nodes, into, owner, layers, line)
            for path in _covered(placed, files):
                self._check_path(path)
                target = placed.lands(path)
                if target is not None:
                    self._land(nodes, target, files[path], step, owner, layers)
        self._add(nodes, f"COPY {' '.join(step.instruction.args)} # devloop")

    def _check_no_link(self, step: Copy, layers: Layers) -> None:
        """A link as the last part of the destination: what is written through it is left to the builder."""
        above, _, name = (step.destination or "/").rstrip("/").rpartition("/")
        resolved = layers.resolve(above, len(self._stack))
        node = layers.find(f"{resolved}/{name}".strip("/"))
        if node is not None and node.kind == "link":
            raise NotProvenError(
                "Collides", f"{step.destination} is a link in the image", step.instruction.line
            )

    def _land(
        self,
        nodes: Made,
        target: str,
        entry: FileEntry,
        step: Copy,
        owner: tuple[int, int],
        layers: Layers,
    ) -> None:
        line = step.instruction.line
        forced = forced_mode(step, entry)
        mode = entry.mode if forced is None else forced
        size = entry.size if entry.kind == "file" else 0
        node = LayerNode(entry.kind, mode, *owner, entry.mtime_ns // 1_000_000_000, size)
        there = layers.find(target)
        if target in nodes or (there is not None and not (there.kind == entry.kind == "file")):
            same = (
                there is not None
                and entry.kind == there.kind == "dir"
                and _attributes(there) == _attributes(node)
            )
            if target in nodes or not same:
                raise NotProvenError("Collides", f"/{target} is there already", line)
        for above in _all_above(target):
            if above not in nodes:
                nodes[above] = self._existing(above, layers, line), None
        nodes[target] = node, entry
        self._copied.add(target)

    def _make_directories(
        self, nodes: Made, path: str, owner: tuple[int, int], layers: Layers, line: int
    ) -> None:
        """The directory and all above it: as they are, or new as a builder makes them."""
        for directory in [*_all_above(path), *([path] if path else [])]:
            if directory in nodes:
                continue
            if layers.find(directory) is None:
                above = _above(directory)
                around = nodes[above][0] if above in nodes else layers.find(above)
                if around is not None and around.mode & 0o2000:
                    raise NotProvenError(
                        "BuildersDiffer", f"builders differ on new directories in /{above}, setgid", line
                    )
                nodes[directory] = LayerNode("dir", 0o755, *owner, self._made_at), None
            else:
                nodes[directory] = self._existing(directory, layers, line), None

    def _existing(self, path: str, layers: Layers, line: int) -> LayerNode:
        node = layers.find(path)
        if node is None or node.kind != "dir":
            raise NotProvenError("NoDirectory", f"/{path} is not a directory in the image", line)
        return node

    def _check_path(self, path: str) -> None:
        if self._rules.disputed(path):
            raise NotProvenError(
                "IgnoreRulesDiffer", f"versions of Docker differ on whether {path} is ignored"
            )
        if any(part.startswith(WHITEOUT) for part in path.split("/")):
            raise NotProvenError("WhiteoutName", f"{path} is named like a whiteout")

    def _workdir(self, step: Workdir) -> None:
        line, path = step.instruction.line, step.path
        if path is None:
            raise NotProvenError("Unresolvable", "a variable here is known only to the build", line)
        self._settings.values["WorkingDir"] = path
        if path == "/":
            self._record(f"WORKDIR {path}", empty=True)
            return
        layers, target = self._layers(), path.strip("/")
        if layers.resolve(path, len(self._stack)) != target:
            raise NotProvenError("Unresolvable", f"{path} goes through a link", line)
        nodes: Made = {}
        if layers.find(target) is None:
            if step.user not in _ROOT_USERS:
                raise NotProvenError("OwnerUnknown", f"{path} would belong to {step.user}", line)
            self._make_directories(nodes, target, (0, 0), layers, line)
        else:
            self._existing(target, layers, line)
        self._add(nodes, f"WORKDIR {path}")


def _owner(step: Copy) -> tuple[int, int]:
    if step.owner == "":
        return 0, 0
    found = re.fullmatch(r"(\d+):(\d+)", step.owner or "")
    if found is None:
        raise NotProvenError(
            "OwnerUnknown",
            f"nothing shows which numbers --chown={step.owner} stands for",
            step.instruction.line,
        )
    return int(found[1]), int(found[2])


def _covered(placed: Placement, files: Mapping[str, FileEntry]) -> Iterator[str]:
    """The inputs that a placed brings, each directory before what is in it."""
    if not placed.is_dir:
        yield placed.source
        return
    inside = f"{placed.source}/" if placed.source else ""
    yield from sorted(path for path in files if path.startswith(inside) and path != placed.source)


def _attributes(node: LayerNode) -> tuple[int, int, int]:
    return node.mode, node.uid, node.gid


def _above(path: str) -> str:
    return path.rpartition("/")[0]


def _all_above(path: str) -> list[str]:
    """The directories above a path, the highest first."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[: depth + 1]) for depth in range(len(parts))]
