"""A delta: the previous image and one layer with what changed, where that provably is what a full build
gives (issue D). Doubt of any kind is `NotProven`, and a full build follows.

Three things make the proof. The Dockerfile model says that nothing after the COPY can depend on the
changed files. The layers of the full build say what lies beneath, so that a deletion uncovers nothing and
directories stay as they were. And before anything is built, the model's idea of how the files that change
lie in the parent is compared with how they do lie there.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from devloop.buildplan import Copy, Plan, Run, Step, Workdir
from devloop.context import read_file, read_link
from devloop.ignore import IgnoreRules
from devloop.inputs import pattern_of
from devloop.landing import Landing, NotProvenError, Place, landings, octal, owner_of, places
from devloop.layers import WHITEOUT, Layer, Layers, Node
from devloop.model import Archive, BuildSpec, FileEntry, Inputs, Service

MOST_LAYERS = 100
_UNPROVEN_XATTRS = ("security.selinux",)  # set by the system, not by the user


@dataclass(frozen=True, slots=True)
class Parent:
    """An image that deltas can stand on, and all that a delta must know of it.

    `recipe`: what it was built from beside the files, see `recipe`. `config`: its config JSON. `layers`:
    one for each diff_id, lowest first. `full`: how many of them the last full build gave; those above are
    deltas.
    """

    recipe: str
    config: bytes
    diff_ids: tuple[str, ...]
    layers: Layers
    full: int


@dataclass(frozen=True, slots=True)
class Delta:
    """A new image on its parent. `changed`, `deleted`: paths in the image; `parent`: for the next one."""

    archive: Archive
    changed: tuple[str, ...]
    deleted: tuple[str, ...]
    parent: Parent

    @property
    def id(self) -> str:
        return f"sha256:{hashlib.sha256(self.archive.config).hexdigest()}"


@dataclass(frozen=True, slots=True)
class NotProven:
    """Why a full build has to be made. `reason` is one CamelCase word, `line` 0 = none in particular."""

    reason: str
    message: str
    line: int = 0
    advice: str = ""


def recipe(spec: BuildSpec, inputs: Inputs, salt: str = "") -> str:
    """All that makes an image beside the files of its context: an image is a parent for deltas only while
    this stays the same. `salt`: of a forced rebuild (S3)."""
    everything = [
        inputs.dockerfile_digest,
        inputs.ignore_digest,
        inputs.platform,
        [[base.ref, base.id] for base in inputs.bases],
        spec.target,
        sorted(spec.args.items()),
        sorted(secret.id for secret in spec.secrets),
        salt,
    ]
    return hashlib.sha256(json.dumps(everything).encode()).hexdigest()


def delta(
    service: Service,
    parent: Parent,
    before: Inputs,
    after: Inputs,
    plan: Plan,
    rules: IgnoreRules,
    labels: Mapping[str, str],
    *,
    salt: str = "",
    check: Callable[[], None] = lambda: None,
) -> Delta | NotProven:
    """The image of `after`, given the parent that was built from `before`. Reads only changed files, in the
    calling thread. `labels` are set in its config.

    Raises TreeMovedError if a file is not what `after` says, and whatever `check` raises.
    """
    try:
        if not parent.recipe == recipe(service.build, before, salt) == recipe(service.build, after, salt):
            raise NotProvenError("RecipeChanged", "more changed than files of the context")
        work = _Work(parent, before, after, plan, rules)
        nodes, deleted = work.effects()
        return _make(service.build.context, parent, after, work, nodes, deleted, labels, check)
    except NotProvenError as doubt:
        return NotProven(doubt.reason, doubt.message, doubt.line, doubt.advice)


def obstacle(plan: Plan, path: str) -> NotProven | None:
    """What in the Dockerfile keeps an edit of this context path from being a delta; None if nothing does
    as far as the Dockerfile alone can tell. For `devloop explain`."""
    try:
        _check_plan(plan)
        _check_path(plan, path)
    except NotProvenError as doubt:
        return NotProven(doubt.reason, doubt.message, doubt.line, doubt.advice)
    return None


# --- what the Dockerfile says --------------------------------------------------------------------


def _check_plan(plan: Plan) -> None:
    if plan.whole:
        raise NotProvenError("Unresolvable", plan.whole)


def _check_path(plan: Plan, path: str) -> None:
    chain = [stage.stage.index for stage in plan.chain()]
    for index, stage in plan.stages.items():
        for number, step in enumerate(stage.steps):
            if not _reads(step, path):
                continue
            line = step.instruction.line
            if isinstance(step, Run):
                raise NotProvenError("Mounted", "the RUN mounts it", line)
            if index not in chain:
                raise NotProvenError(
                    "OtherStage",
                    f"stage {stage.stage.name or index} reads it, and the image is made from what comes out",
                    line,
                    "a delta needs the file to be copied into the last stage",
                )
            assert isinstance(step, Copy)
            _check_copy(step)
            later = [*stage.steps[number + 1 :]]
            for above in chain[chain.index(index) + 1 :]:
                later += plan.stages[above].steps
            for following in later:
                if isinstance(following, Run):
                    raise NotProvenError(
                        "RunAfter",
                        f"this RUN comes after the COPY in line {line} and may depend on it",
                        following.instruction.line,
                        f"move the COPY below it, or copy only what the RUN needs before it (line {line})",
                    )
            _check_taken_from(plan, chain[chain.index(index) :], line)


def _check_copy(copy: Copy) -> None:
    line = copy.instruction.line
    for flag, used in (("link", copy.link), ("parents", copy.parents), ("exclude", bool(copy.excludes))):
        if used:
            raise NotProvenError("Flag", f"COPY --{flag} is not modelled", line, f"do without --{flag}")
    if copy.owner is None or copy.mode is None:
        raise NotProvenError("Unresolvable", "a variable here is known only to the build", line)
    if copy.mode and octal(copy.mode) is None:
        raise NotProvenError("Flag", f"--chmod={copy.mode} is not modelled", line, "write the mode in octal")


def _check_taken_from(plan: Plan, stages: Iterable[int], line: int) -> None:
    """Does anything take files out of a stage that holds the path?"""
    holding = set(stages)
    for stage in plan.stages.values():
        if stage.base_stage in holding:
            holding.add(stage.stage.index)
    for stage in plan.stages.values():
        for step in stage.steps:
            sources = [step.source] if isinstance(step, Copy) else []
            sources += [mount.source for mount in step.mounts] if isinstance(step, Run) else []
            if any(source.stage in holding for source in sources):
                raise NotProvenError(
                    "TakenFrom",
                    f"it takes files from the stage that line {line} copies into",
                    step.instruction.line,
                )


def _reads(step: Step, path: str) -> bool:
    if isinstance(step, Copy) and step.source.is_context:
        return step.sources is None or any(_covers(source, path) for source in step.sources)
    if isinstance(step, Run):
        return any(
            mount.source.is_context and mount.type == "bind" and _covers(mount.path or "", path)
            for mount in step.mounts
        )
    return False


def _covers(source: str, path: str) -> bool:
    return pattern_of(source.strip("/")).fits(tuple(path.split("/")))


# --- what changes in the image -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Source:
    """Who writes a path of the image: the last COPY that has a file for it."""

    landing: Landing
    entry: FileEntry


class _Work:
    """From two states of the context to what has to change in the image."""

    def __init__(self, parent: Parent, before: Inputs, after: Inputs, plan: Plan, rules: IgnoreRules) -> None:
        _check_plan(plan)
        if len(parent.diff_ids) >= MOST_LAYERS:
            raise NotProvenError("TooManyLayers", f"{len(parent.diff_ids)} layers")
        self.layers, self._full, self._plan, self._rules = parent.layers, parent.full, plan, rules
        history = json.loads(parent.config).get("history") or []
        self._places = places(plan, parent.full, history)
        self.before, self.after = before.files, after.files
        self.changed = [
            path
            for path in self.before.keys() | self.after.keys()
            if _differs(self.before.get(path), self.after.get(path))
        ]
        self._landed = {id(files): self._land(files) for files in (self.before, self.after)}
        self._owners: dict[Landing, tuple[int, int]] = {}

    def effects(self) -> tuple[dict[str, tuple[Node, FileEntry]], set[str]]:
        """Image path -> what has to lie there and its source; and the paths that have to go."""
        targets: set[str] = set()
        for path in sorted(self.changed):
            targets |= self._targets(path)
        nodes: dict[str, tuple[Node, FileEntry]] = {}
        deleted: set[str] = set()
        for target in sorted(targets):
            was, now = self._writer(self.before, target), self._writer(self.after, target)
            if was is not None:
                self._check_model(was, target)
            if was is not None and now is not None and was == now:
                continue  # another COPY covers what changed
            if now is not None:
                self._check_collision(was, now, target)
                nodes[target] = self._node(now), now.entry
            elif was is not None:
                self._check_uncovers_nothing(was, target)
                deleted.add(target)
            self._check_written_again(was, now, target)
        self._check_destinations(nodes, deleted)
        return nodes, deleted

    def _land(self, files: Mapping[str, FileEntry]) -> tuple[Landing, ...]:
        return landings(self._places, files, self.layers)

    def _targets(self, path: str) -> set[str]:
        """The image paths that hang on one changed path."""
        if self._rules.disputed(path):
            raise NotProvenError(
                "IgnoreRulesDiffer", f"versions of Docker differ on whether {path} is ignored"
            )
        if any(part.startswith(WHITEOUT) for part in path.split("/")):
            raise NotProvenError("WhiteoutName", f"{path} is called like a whiteout")
        _check_path(self._plan, path)
        every = {*self._landed[id(self.before)], *self._landed[id(self.after)]}
        covering = [landing for landing in every if path == landing.source or landing.lands(path) is not None]
        if not covering:
            raise NotProvenError("Unplaced", f"nothing shows where {path} lies in the image")
        for landing in covering:
            if landing.copy.add and not landing.is_dir:
                raise NotProvenError(
                    "Add", "ADD may unpack the file", landing.copy.instruction.line, "use COPY instead"
                )
            if landing.is_dir and path == landing.source and self._kinds(path) != ("dir", "dir"):
                raise NotProvenError("SourceReplaced", f"{path} is the source of a COPY itself")
        return {target for landing in covering if (target := landing.lands(path)) is not None}

    def _kinds(self, path: str) -> tuple[str, str]:
        was, now = self.before.get(path), self.after.get(path)
        return was.kind if was else "", now.kind if now else ""

    def _writer(self, files: Mapping[str, FileEntry], target: str) -> _Source | None:
        for landing in reversed(self._landed[id(files)]):
            source = landing.comes_from(target)
            entry = files.get(source) if source else None
            if entry is not None:
                return _Source(landing, entry)
        return None

    def _node(self, source: _Source) -> Node:
        entry, landing = source.entry, source.landing
        if landing not in self._owners:
            self._owners[landing] = owner_of(landing, self.before, self.layers)
        uid, gid = self._owners[landing]
        forced = octal(landing.copy.mode or "") if entry.kind != "link" else None
        size = entry.size if entry.kind == "file" else 0
        mtime = entry.mtime_ns // 1_000_000_000
        return Node(entry.kind, entry.mode if forced is None else forced, uid, gid, mtime, size)

    # --- doubts

    def _check_model(self, was: _Source, target: str) -> None:
        """The file must lie in the parent as the model thinks that it does."""
        actual, model = self.layers.find(target), self._node(was)
        if actual is not None and actual.kind == "hard":
            raise NotProvenError("HardLink", f"{target} is a hard link in the image")
        if actual is None or (
            (actual.kind, actual.uid, actual.gid, actual.size)
            != (model.kind, model.uid, model.gid, model.size)
            or (actual.mode != model.mode and model.kind != "link")
        ):
            raise NotProvenError("ModelDiffers", f"/{target} lies otherwise in the image than it should")

    def _other_layers(self, target: str) -> list[int]:
        """The layers of the full build that the context's COPYs to this path did not make."""
        mine = {
            landing.layer
            for files in (self.before, self.after)
            for landing in self._landed[id(files)]
            if landing.comes_from(target) is not None
        }
        return [number for number in range(self._full) if number not in mine]

    def _check_uncovers_nothing(self, was: _Source, target: str) -> None:
        others = self._other_layers(target)
        if self.layers.holders(target, others, below=was.entry.kind == "dir"):
            raise NotProvenError("Uncovers", f"deleting /{target} uncovers one of a layer below")

    def _check_collision(self, was: _Source | None, now: _Source, target: str) -> None:
        """A full build fails, or merges, where a directory meets something else."""
        beneath = self.layers.find(target) if was is None else None
        if beneath is not None and (beneath.kind == "dir") != (now.entry.kind == "dir"):
            raise NotProvenError("Collides", f"/{target} is a {beneath.kind} in the image")
        turned = was is not None and (was.entry.kind == "dir") != (now.entry.kind == "dir")
        if turned and self.layers.holders(target, self._other_layers(target), below=True):
            raise NotProvenError("Collides", f"/{target} is in another layer too")
        for landing in self._landed[id(self.after)]:
            source = landing.comes_from(target)
            entry = self.after.get(source) if source else None
            if entry is not None and (entry.kind == "dir") != (now.entry.kind == "dir"):
                raise NotProvenError("Collides", f"two COPYs make something else of /{target}")

    def _check_written_again(self, was: _Source | None, now: _Source | None, target: str) -> None:
        """A later layer that the context's files did not make must not hold the path."""
        writer = min(source.landing.layer for source in (was, now) if source is not None)
        for place in self._places:
            if place.layer is None or place.layer <= writer or _copies_context(place.step):
                continue
            layer = self.layers.stack[place.layer]
            if target in layer.nodes or layer.hides(target):
                line = place.step.instruction.line
                raise NotProvenError("WrittenAgain", f"it writes to /{target} too", line)

    def _check_destinations(self, nodes: Mapping[str, tuple[Node, FileEntry]], deleted: set[str]) -> None:
        """Where a COPY or a WORKDIR goes must not hang on what comes, goes or turns into something else."""
        unsteady = set(deleted)
        for target, (node, _) in nodes.items():
            was = self.layers.find(target)
            if node.kind == "link" or (was is not None and was.kind != node.kind):
                unsteady.add(target)
        for place in self._places:
            for destination in _destinations(place, self.layers):
                if any(f"{destination}/".startswith(f"{target}/") for target in unsteady):
                    line = place.step.instruction.line
                    raise NotProvenError("DestinationMoved", f"/{destination} is no longer what it was", line)


def _differs(was: FileEntry | None, now: FileEntry | None) -> bool:
    if was is now:
        return False
    if was is None or now is None:
        return True
    return (was.kind, was.mode, was.digest) != (now.kind, now.mode, now.digest)


def _copies_context(step: Step) -> bool:
    return isinstance(step, Copy) and step.source.is_context


def _destinations(place: Place, layers: Layers) -> Iterator[str]:
    """The paths, without leading slash, that a step goes through: as written, and with links followed."""
    step = place.step
    path = step.destination if isinstance(step, Copy) else step.path if isinstance(step, Workdir) else None
    if path and place.layer is not None:
        yield path.strip("/")
        resolved = layers.resolve(path, place.layer)
        if resolved:
            yield resolved


# --- the image -----------------------------------------------------------------------------------


def _make(
    context: Path,
    parent: Parent,
    after: Inputs,
    work: _Work,
    nodes: dict[str, tuple[Node, FileEntry]],
    deleted: set[str],
    labels: Mapping[str, str],
    check: Callable[[], None],
) -> Delta:
    gone = {
        path
        for path in deleted
        if not any(
            above in deleted or (above in nodes and nodes[above][0].kind != "dir") for above in _above(path)
        )
    }
    written: dict[str, Node] = {}
    for path in sorted(nodes.keys() | gone):
        for above in reversed(list(_above(path))):
            if above not in nodes and above not in written:
                written[above] = _directory(above, work, parent.layers)
    out = io.BytesIO()
    whiteouts = {_whiteout(path) for path in gone}
    for path in sorted(nodes.keys() | written.keys() | whiteouts, key=lambda p: p.split("/")):
        check()
        if path in nodes:
            node, entry = nodes[path]
            written[path] = _write(out, path, node, entry, context / entry.path)
        elif path in written:
            out.write(_header(path, written[path]))
        else:
            out.write(_header(path, Node("file", 0, 0, 0)))
    out.write(bytes(2 * tarfile.BLOCKSIZE))
    layer = out.getvalue()
    diff_ids = (*parent.diff_ids, f"sha256:{hashlib.sha256(layer).hexdigest()}")
    newest = max((after.files[path].mtime_ns for path in work.changed if path in after.files), default=0)
    config = _config(parent.config, diff_ids, labels, newest, len(nodes), len(gone))
    index = Layer(written, frozenset(gone))
    stack = Layers((*parent.layers.stack, index))
    return Delta(
        Archive(config, layer, diff_ids),
        tuple(sorted(nodes)),
        tuple(sorted(gone)),
        replace(parent, config=config, diff_ids=diff_ids, layers=stack),
    )


def _above(path: str) -> Iterator[str]:
    """The directories above, the nearest first."""
    while path := path.rpartition("/")[0]:
        yield path


def _directory(path: str, work: _Work, layers: Layers) -> Node:
    """A directory that is there already, exactly as it is; one that was copied has its source's time."""
    node = layers.find(path)
    if node is None or node.kind != "dir":
        raise NotProvenError("NoDirectory", f"/{path} is no directory in the image")
    source = work._writer(work.after, path)
    return node if source is None else replace(node, mtime=source.entry.mtime_ns // 1_000_000_000)


def _write(out: io.BytesIO, path: str, node: Node, entry: FileEntry, source: Path) -> Node:
    """One changed file into the layer; its node as the index keeps it."""
    if entry.kind == "file":
        if not entry.digest:
            raise NotProvenError("Special", f"{entry.path} is no regular file")
        _check_plain(source)
        out.write(_header(path, node))
        for chunk in read_file(source, entry):
            out.write(chunk)
        out.write(bytes(-entry.size % tarfile.BLOCKSIZE))
    elif entry.kind == "link":
        node = replace(node, link=read_link(source, entry))
        out.write(_header(path, node))
    else:
        _check_plain(source)
        out.write(_header(path, node))
    return node


def _check_plain(source: Path) -> None:
    try:
        names = set(os.listxattr(source, follow_symlinks=False)) if hasattr(os, "listxattr") else set()
        hard = source.lstat()
    except OSError:
        return  # it moved: reading it says so
    if names - set(_UNPROVEN_XATTRS):
        raise NotProvenError("Xattr", f"{source.name} has extended attributes: {', '.join(sorted(names))}")
    if hard.st_nlink > 1 and not source.is_dir():
        raise NotProvenError("HardLink", f"{source.name} has other names (hard links)")


def _whiteout(path: str) -> str:
    above, _, name = path.rpartition("/")
    return f"{above}/{WHITEOUT}{name}".lstrip("/")


_TYPES = {"file": tarfile.REGTYPE, "dir": tarfile.DIRTYPE, "link": tarfile.SYMTYPE}


def _header(path: str, node: Node) -> bytes:
    member = tarfile.TarInfo(path + "/" if node.kind == "dir" else path)
    member.type, member.mode, member.mtime = _TYPES[node.kind], node.mode, node.mtime
    member.uid, member.gid, member.size, member.linkname = node.uid, node.gid, node.size, node.link
    return member.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def _config(
    config: bytes, diff_ids: tuple[str, ...], labels: Mapping[str, str], newest: int, files: int, gone: int
) -> bytes:
    """The parent's config with one layer more. A function of the files and the parent: no clock in it."""
    made: dict[str, Any] = json.loads(config)
    created = _stamp(newest)
    made["created"] = max(str(made.get("created") or ""), created)
    made["rootfs"] = {"type": "layers", "diff_ids": list(diff_ids)}
    entry = {"created": made["created"], "created_by": f"devloop delta: {files} written, {gone} deleted"}
    made["history"] = [*(made.get("history") or []), entry]
    settings = dict(made.get("config") or {})
    settings["Labels"] = {**(settings.get("Labels") or {}), **labels}
    made["config"] = settings
    return json.dumps(made, separators=(",", ":")).encode()


def _stamp(nanoseconds: int) -> str:
    moment = datetime.fromtimestamp(nanoseconds // 1_000_000_000, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S") + f".{nanoseconds % 1_000_000_000:09d}Z"
