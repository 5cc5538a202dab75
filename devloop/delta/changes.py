"""What has to change in an image when files of the context change; raises where that is not proven."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from devloop.delta.eligibility import check_path, check_plan, context_sources
from devloop.delta.layer_index import WHITEOUT, LayerNode
from devloop.delta.outputs import Output
from devloop.delta.parent import Parent
from devloop.delta.placement import (
    NotProvenError,
    Placement,
    StageStep,
    forced_mode,
    owner_of,
    placements,
    places,
    roots,
)
from devloop.dockerfile.plan import Copy, Plan, Step, Workdir
from devloop.model import FileEntry, Inputs

MOST_LAYERS = 100
_USER_FILES = ("/etc/passwd", "/etc/group")


class Rules(Protocol):
    """The ignore rules, as far as a delta asks for them."""

    def disputed(self, path: str) -> bool:
        """Do versions of Docker differ on whether the path is ignored?"""
        ...


def changes(before: Mapping[str, FileEntry], after: Mapping[str, FileEntry]) -> list[str]:
    """The paths that are new, gone or other."""
    found = [
        path for path, now in after.items() if (was := before.get(path)) is not now and _differs(was, now)
    ]
    return [*found, *(before.keys() - after.keys())]


@dataclass(frozen=True, slots=True)
class LastWriter:
    """Who writes a path of the image: the last COPY that has a file for it."""

    placed: Placement
    entry: FileEntry


class Effects:
    """From two states of the context to what has to change in the image."""

    def __init__(self, parent: Parent, before: Inputs, after: Inputs, plan: Plan, rules: Rules) -> None:
        check_plan(plan)
        if len(parent.diff_ids) >= MOST_LAYERS:
            raise NotProvenError("TooManyLayers", f"{len(parent.diff_ids)} layers")
        self.layers, self._full, self._plan, self._rules = parent.layers, parent.full, plan, rules
        history = json.loads(parent.config).get("history") or []
        self._places = places(plan, parent.full, history)
        self.before, self.after = before.files, after.files
        self.changed = changes(self.before, self.after)
        for files in (self.before, self.after):
            self._check_no_links(files)
        self._landed = {id(files): self._land(files) for files in (self.before, self.after)}
        self._owners: dict[Placement, tuple[int, int]] = {}
        # Image path -> the lowest layer in which it turns into something else.
        self._moved: dict[str, int] = {}
        self._touched: dict[str, int] = {}  # the same, where its content counts too

    def all(self) -> tuple[dict[str, tuple[LayerNode, FileEntry]], set[str]]:
        """Image path -> what has to lie there and its source; and the paths that have to go."""
        targets: set[str] = set()
        for path in sorted(self.changed):
            targets |= self._targets(path)
        nodes: dict[str, tuple[LayerNode, FileEntry]] = {}
        deleted: set[str] = set()
        for target in sorted(targets):
            was, now = self.writer(self.before, target), self.writer(self.after, target)
            if was is not None:
                self._check_model(was, target)
            if now is not None:
                self._check_collision(was, now, target)
                if was == now:
                    continue  # another COPY covers what changed
                nodes[target] = self._node(now), now.entry
            elif was is not None:
                if target.rpartition("/")[0] not in deleted:  # else looked at with all below it
                    self._check_uncovers_nothing(was, target)
                deleted.add(target)
            self._check_written_again(was, now, target)
        self._check_destinations()
        self._check_users()
        return nodes, deleted

    def _land(self, files: Mapping[str, FileEntry]) -> tuple[Placement, ...]:
        return placements(self._places, files, self.layers)

    def _targets(self, path: str) -> set[str]:
        """The image paths that hang on one changed path."""
        if self._rules.disputed(path):
            raise NotProvenError(
                "IgnoreRulesDiffer", f"versions of Docker differ on whether {path} is ignored"
            )
        if any(part.startswith(WHITEOUT) for part in path.split("/")):
            raise NotProvenError("WhiteoutName", f"{path} is named like a whiteout")
        check_path(self._plan, path)
        every = {*self._landed[id(self.before)], *self._landed[id(self.after)]}
        covering = [placed for placed in every if path == placed.source or placed.lands(path) is not None]
        if not covering:
            raise NotProvenError("Unplaced", f"nothing shows where {path} lies in the image")
        for placed in covering:
            if placed.copy.add and not placed.is_dir:
                raise NotProvenError(
                    "Add", "ADD may unpack the file", placed.copy.instruction.line, "use COPY instead"
                )
            if placed.is_dir and path == placed.source and self._kinds(path) != ("dir", "dir"):
                raise NotProvenError("SourceReplaced", f"{path} is the source of a COPY itself")
        self._remember(path, covering)
        return {target for placed in covering if (target := placed.lands(path)) is not None}

    def _remember(self, path: str, covering: Iterable[Placement]) -> None:
        """For what hangs on more than the file itself: see `_check_destinations`, `_check_users`."""
        kinds = self._kinds(path)
        if kinds == ("dir", "dir") and not self._setgid(self.before, path) ^ self._setgid(self.after, path):
            return
        for placed in covering:
            target = placed.lands(path)
            if target is None:
                continue
            self._touched[target] = min(placed.layer, self._touched.get(target, placed.layer))
            if kinds != ("file", "file"):
                self._moved[target] = min(placed.layer, self._moved.get(target, placed.layer))

    def _setgid(self, files: Mapping[str, FileEntry], path: str) -> int:
        """Of a directory: builders make new directories in it with its group."""
        return files[path].mode & 0o2000

    def _kinds(self, path: str) -> tuple[str, str]:
        was, now = self.before.get(path), self.after.get(path)
        return was.kind if was else "", now.kind if now else ""

    def writer(self, files: Mapping[str, FileEntry], target: str) -> LastWriter | None:
        for placed in reversed(self._landed[id(files)]):
            source = placed.comes_from(target)
            entry = files.get(source) if source else None
            if entry is not None:
                return LastWriter(placed, entry)
        return None

    def _node(self, source: LastWriter) -> LayerNode:
        entry, placed = source.entry, source.placed
        if placed not in self._owners:
            self._owners[placed] = owner_of(placed, self.before, self.layers)
        uid, gid = self._owners[placed]
        if isinstance(entry, Output):  # as the COPY brought it, mode and all
            if placed.copy.owner == "":
                uid, gid = entry.uid, entry.gid
            return LayerNode(entry.kind, entry.mode, uid, gid, entry.seconds, entry.size)
        forced = forced_mode(placed.copy, entry)
        size = entry.size if entry.kind == "file" else 0
        mtime = entry.mtime_ns // 1_000_000_000
        return LayerNode(entry.kind, entry.mode if forced is None else forced, uid, gid, mtime, size)

    # --- doubts

    def _check_no_links(self, files: Mapping[str, FileEntry]) -> None:
        """A stage that reads the context through a link reads more than its words say."""
        for stage in self._plan.stages.values():
            for step in stage.steps:
                for source in context_sources(step):
                    if roots(source, files).links:
                        line = step.instruction.line
                        raise NotProvenError(
                            "SourceLink",
                            f"{source} is a link, or lies behind one",
                            line,
                            "copy the directory itself",
                        )

    def _check_model(self, was: LastWriter, target: str) -> None:
        """The file must lie in the parent as the model thinks that it does."""
        actual, model = self.layers.find(target), self._node(was)
        if actual is not None and actual.kind == "hard":
            raise NotProvenError("HardLink", f"{target} is a hard link in the image")
        if actual is None or (
            (actual.kind, actual.uid, actual.gid, actual.size)
            != (model.kind, model.uid, model.gid, model.size)
            or (actual.mode != model.mode and model.kind != "link")
        ):
            raise NotProvenError(
                "ModelDiffers", f"/{target} is not in the image as the Dockerfile puts it there"
            )

    def _other_layers(self, target: str) -> list[int]:
        """The layers of the full build that the context's COPYs to this path did not make."""
        mine = {
            placed.layer
            for files in (self.before, self.after)
            for placed in self._landed[id(files)]
            if placed.comes_from(target) is not None
        }
        return [number for number in range(self._full) if number not in mine]

    def _check_uncovers_nothing(self, was: LastWriter, target: str) -> None:
        others = self._other_layers(target)
        if self.layers.holders(target, others, below=was.entry.kind == "dir"):
            raise NotProvenError("Uncovers", f"deleting /{target} uncovers one of a layer below")

    def _check_collision(self, was: LastWriter | None, now: LastWriter, target: str) -> None:
        """A full build fails, or merges, where a directory meets something else."""
        beneath = self.layers.find(target) if was is None else None
        if beneath is not None and (beneath.kind == "dir") != (now.entry.kind == "dir"):
            raise NotProvenError("Collides", f"/{target} is a {beneath.kind} in the image")
        turned = was is not None and (was.entry.kind == "dir") != (now.entry.kind == "dir")
        if turned and self.layers.holders(target, self._other_layers(target), below=True):
            raise NotProvenError("Collides", f"/{target} is in another layer too")
        for placed in self._landed[id(self.after)]:
            source = placed.comes_from(target)
            entry = self.after.get(source) if source else None
            if entry is not None and (entry.kind == "dir") != (now.entry.kind == "dir"):
                raise NotProvenError("Collides", f"two COPYs disagree about /{target}")

    def _check_written_again(self, was: LastWriter | None, now: LastWriter | None, target: str) -> None:
        """A later layer must not hold the path, but where a COPY of the context is known to bring it."""
        writer = min(source.placed.layer for source in (was, now) if source is not None)
        for place in self._places:
            if place.layer is None or place.layer <= writer:
                continue
            layer = self.layers.stack[place.layer]
            held = target in layer.nodes and not self._expected(place, target, now)
            if held or layer.hides(target):
                line = place.step.instruction.line
                raise NotProvenError("WrittenAgain", f"it writes to /{target} too", line)

    def _expected(self, place: StageStep, target: str, now: LastWriter | None) -> bool:
        """Does the model say that this layer holds the path: as what it copies, or as a directory above?"""
        if not (isinstance(place.step, Copy) and place.step.source.is_context):
            return False
        held = self.layers.stack[place.layer or 0].nodes[target]
        if held.kind == "dir":
            return now is not None and now.entry.kind == "dir"
        return any(
            placed.layer == place.layer and placed.comes_from(target) in self.before
            for placed in self._landed[id(self.before)]
        )

    def _check_destinations(self) -> None:
        """Where a COPY or a WORKDIR goes must not hang on what comes, goes or turns into something else
        below it: it would make other files than it did."""
        for place in self._places:
            path = _destination(place.step)
            if place.layer is None or path is None:
                continue
            for passed in self.layers.trail(path, place.layer):
                if self._moved.get(passed, place.layer) < place.layer:
                    line = place.step.instruction.line
                    raise NotProvenError("DestinationMoved", f"/{passed} is no longer what it was", line)

    def _check_users(self) -> None:
        """The numbers of names must not hang on what changed: they would be others in a full build."""
        for place in self._places:
            if place.layer is None or not _reads_users(place.step):
                continue
            for path in _USER_FILES:
                for passed in self.layers.trail(path, place.layer):
                    if self._touched.get(passed, place.layer + 1) <= place.layer:
                        line = place.step.instruction.line
                        raise NotProvenError(
                            "OwnerUnknown",
                            f"{path} changed, and this line looks up a user there",
                            line,
                            "write the numbers: 1001:1001",
                        )


def _differs(was: FileEntry | None, now: FileEntry | None) -> bool:
    if was is None or now is None:
        return True
    return (was.kind, was.mode, was.digest) != (now.kind, now.mode, now.digest)


def _destination(step: Step) -> str | None:
    return step.destination if isinstance(step, Copy) else step.path if isinstance(step, Workdir) else None


def _reads_users(step: Step) -> bool:
    """Does the step look a name up in the image? None: unknown."""
    name = step.owner if isinstance(step, Copy) else step.user if isinstance(step, Workdir) else ""
    return name is None or re.fullmatch(r"(\d+(:\d+)?)?", name, re.ASCII) is None
