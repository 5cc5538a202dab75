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
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from devloop.delta.changes import Effects, changes
from devloop.delta.combined import combined
from devloop.delta.eligibility import check_path, check_plan
from devloop.delta.layer_index import Layer, LayerNode, Layers
from devloop.delta.layer_writer import (
    Write,
    check_size,
    directories_above,
    directory,
    from_context,
    header,
    whiteout,
)
from devloop.delta.parent import Parent
from devloop.delta.placement import NotProvenError
from devloop.dockerfile.dockerignore import IgnoreRules
from devloop.dockerfile.plan import Plan
from devloop.model import Archive, BuildSpec, Inputs, Service

__all__ = [
    "Delta",
    "NotProven",
    "Parent",
    "check_recipe",
    "delta",
    "ineligible_because",
    "make",
    "recipe",
    "stamp",
]

_EARLIEST, _LATEST = -62_135_596_800, 253_402_300_799  # seconds: the years 1 to 9999


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

    @classmethod
    def of(cls, doubt: NotProvenError) -> NotProven:
        """The doubt as an answer."""
        return cls(doubt.reason, doubt.message, doubt.line, doubt.advice)


def recipe(spec: BuildSpec, inputs: Inputs, rebuild_salt: str = "") -> str:
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
        rebuild_salt,
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
    rebuild_salt: str = "",
    check: Callable[[], None] = lambda: None,
) -> Delta | NotProven:
    """The image of `after`, given the parent that was built from `before`. Reads only changed files, in the
    calling thread. `labels` are set in its config.

    Raises TreeMovedError if a file is not what `after` says, and whatever `check` raises.
    """
    try:
        check_recipe(service, parent, before, after, rebuild_salt)
        write = from_context(service.build.context)
        if not parent.outputs:
            return make(parent, Effects(parent, before, after, plan, rules), labels, write, check)
        check_plan(plan)
        for path in sorted(changes(before.files, after.files)):
            check_path(plan, path)
        outputs = parent.outputs, parent.outputs
        effects = Effects(parent, *combined(before, after, plan, rules, *outputs))
        return make(parent, effects, labels, write, check)
    except NotProvenError as doubt:
        return NotProven.of(doubt)


def check_recipe(service: Service, parent: Parent, before: Inputs, after: Inputs, rebuild_salt: str) -> None:
    """Raises NotProvenError if more than files of the context changed since the parent was built."""
    known = (recipe(service.build, inputs, rebuild_salt) for inputs in (before, after))
    if any(one != parent.recipe for one in known):
        raise NotProvenError("RecipeChanged", "more changed than files of the context")


def ineligible_because(plan: Plan, path: str) -> NotProven | None:
    """What in the Dockerfile keeps an edit of this context path from being a delta; None if nothing does
    as far as the Dockerfile alone shows. For `devloop explain`."""
    try:
        check_plan(plan)
        check_path(plan, path)
    except NotProvenError as doubt:
        return NotProven.of(doubt)
    return None


# --- the image -----------------------------------------------------------------------------------


def make(
    parent: Parent,
    effects: Effects,
    labels: Mapping[str, str],
    write: Write,
    check: Callable[[], None],
) -> Delta:
    """The image with these effects. Raises NotProvenError, what `write` raises, and what `check` does."""
    nodes, deleted = effects.all()
    gone = {
        path
        for path in deleted
        if not any(
            above in deleted or (above in nodes and nodes[above][0].kind != "dir")
            for above in directories_above(path)
        )
    }
    written: dict[str, LayerNode] = {}
    for path in sorted(nodes.keys() | gone):
        for above in reversed(list(directories_above(path))):
            if above not in nodes and above not in written:
                written[above] = directory(above, effects, parent.layers)
    check_size(nodes)
    out = io.BytesIO()
    whiteouts = {whiteout(path) for path in gone}
    for path in sorted(nodes.keys() | written.keys() | whiteouts, key=lambda p: p.split("/")):
        check()
        if path in nodes:
            node, entry = nodes[path]
            written[path] = write(out, path, node, entry)
        elif path in written:
            out.write(header(path, written[path]))
        else:
            out.write(header(path, LayerNode("file", 0, 0, 0)))
    out.write(bytes(2 * tarfile.BLOCKSIZE))
    layer = out.getvalue()
    diff_ids = (*parent.diff_ids, f"sha256:{hashlib.sha256(layer).hexdigest()}")
    newest = max(
        (effects.after[path].mtime_ns for path in effects.changed if path in effects.after), default=0
    )
    config = _config(parent.config, diff_ids, labels, newest, len(nodes), len(gone))
    index = Layer(written, frozenset(gone))
    stack = Layers((*parent.layers.stack, index))
    return Delta(
        Archive(config, layer, diff_ids),
        tuple(sorted(nodes)),
        tuple(sorted(gone)),
        replace(parent, config=config, diff_ids=diff_ids, layers=stack),
    )


def _config(
    config: bytes, diff_ids: tuple[str, ...], labels: Mapping[str, str], newest: int, files: int, gone: int
) -> bytes:
    """The parent's config with one layer more. A function of the files and the parent: no clock in it."""
    made: dict[str, Any] = json.loads(config)
    created = stamp(newest)
    made["created"] = max(str(made.get("created") or ""), created)
    made["rootfs"] = {"type": "layers", "diff_ids": list(diff_ids)}
    entry = {"created": made["created"], "created_by": f"devloop delta: {files} written, {gone} deleted"}
    made["history"] = [*(made.get("history") or []), entry]
    settings = dict(made.get("config") or {})
    settings["Labels"] = {**(settings.get("Labels") or {}), **labels}
    made["config"] = settings
    return json.dumps(made, separators=(",", ":")).encode()


def stamp(nanoseconds: int) -> str:
    """A file's time as configs write it; from beyond the years 1 to 9999, the nearest second in them."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=min(max(seconds, _EARLIEST), _LATEST))
    return f"{moment.replace(tzinfo=None).isoformat()}.{rest:09d}Z"
