"""Bugs to plant in devloop: each must turn the random cases red, or they prove nothing."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

import devloop.delta.delta as deltas
from devloop.delta import changes as effects
from devloop.delta import eligibility, layer_writer
from devloop.delta import placement as placed
from devloop.delta.changes import Effects
from devloop.delta.layer_index import LayerNode, Layers
from devloop.delta.placement import octal
from devloop.dockerfile.instructions import Instruction
from devloop.dockerfile.plan import Copy
from tests.differential.runner import Observation, by_delta, judge

Patch = Callable[[pytest.MonkeyPatch], None]
_header, _differs, _all = layer_writer.header, effects._differs, Effects.all


def swap(where: Any, name: str, bug: Any) -> Patch:
    return lambda monkeypatch: monkeypatch.setattr(where, name, bug)


def header(**wrong: Any) -> Patch:
    def wrong_header(path: str, node: LayerNode) -> bytes:
        return _header(path, replace(node, **wrong))

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        for module in (deltas, layer_writer):
            monkeypatch.setattr(module, "header", wrong_header)

    return patch


def _first_writer(self: Effects, files: Any, target: str) -> Any:
    for place in self._landed[id(files)]:
        source = place.comes_from(target)
        if source and source in files:
            return effects.LastWriter(place, files[source])
    return None


def _no_parents(path: str) -> Iterator[str]:
    return iter(())


def _any_context(self: Effects, place: Any, target: str, now: Any) -> bool:
    return isinstance(place.step, Copy) and place.step.source.is_context


def _content_only(was: Any, now: Any) -> bool:
    return _differs(was, now) and (not was or not now or was.digest != now.digest)


BUGS: dict[str, Patch] = {
    "no parent directories": swap(deltas, "directories_above", _no_parents),
    "parent directories as new ones": swap(deltas, "directory", lambda *_: LayerNode("dir", 0o755, 0, 0)),
    "wrong whiteout": swap(deltas, "whiteout", lambda path: f"{path}.wh"),
    "whiteout in the wrong directory": swap(
        deltas, "whiteout", lambda path: ".wh." + path.rpartition("/")[2]
    ),
    "deletions forgotten": swap(Effects, "all", lambda self: (_all(self)[0], set())),
    "lost mode": header(mode=0o644),
    "mode-only change not seen": swap(effects, "_differs", _content_only),
    "wrong owner": header(uid=0, gid=0),
    "owner of the model alone": swap(effects, "owner_of", lambda *_: (0, 0)),
    "lost time": header(mtime=0),
    "lost link": swap(layer_writer, "read_link", lambda *_: "elsewhere"),
    "chmod ignored": swap(placed, "octal", lambda _: None),
    "destination's link not followed": swap(Layers, "resolve", lambda self, path, upto: path.strip("/")),
    "first COPY wins": swap(Effects, "writer", _first_writer),
    "what lies beneath ignored": swap(Effects, "_check_uncovers_nothing", lambda *_: None),
    "RUN after the COPY ignored": swap(effects, "check_path", lambda *_: None),
    "directory becomes a plain file without a type": swap(
        layer_writer, "_TYPES", {"file": tarfile.REGTYPE, "dir": tarfile.REGTYPE, "link": tarfile.SYMTYPE}
    ),
    # one for each of 17 to 20, and what they brought to light
    "what a later line writes is taken for the context's": swap(Effects, "_expected", _any_context),
    "names of users are taken for settled": swap(Effects, "_check_users", lambda *_: None),
    "destinations are taken for settled": swap(Effects, "_check_destinations", lambda *_: None),
    "wildcards in the order of their text": swap(placed, "_walk_order", str),
    "--chmod of setuid files as written": swap(
        effects, "forced_mode", lambda copy, entry: None if entry.kind == "link" else octal(copy.mode or "")
    ),
    "several kinds of sources ignored": swap(eligibility, "check_copy", lambda copy: None),
}
# 23 can only be seen where the engine knows the flag.
FLAG_BUGS: dict[str, Patch] = {
    "flags that are on or off are read in small letters only": swap(
        Instruction, "is_set", lambda self, name: self.flag(name) == "true"
    ),
}


class Hunt:
    """Which bug is seen in which cases. `found`: the seeds by bug, a few of each."""

    def __init__(self, bugs: Mapping[str, Patch], most: int = 3) -> None:
        self.found: dict[str, list[int]] = {bug: [] for bug in bugs}
        self._bugs, self._most = bugs, most

    def judge(self, observation: Observation) -> None:
        """Judge the case again with each bug that was not seen often enough yet."""
        for bug, seeds in self.found.items():
            if len(seeds) < self._most and shows(self._bugs[bug], observation):
                seeds.append(observation.case.seed)


@contextmanager
def planted(bug: Patch) -> Iterator[None]:
    """devloop with this bug."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        bug(monkeypatch)
        yield


def shows(bug: Patch, observation: Observation) -> bool:
    """Does the case come out red with this bug?"""
    with planted(bug):
        try:
            return bool(judge(observation, by_delta).differences)
        except Exception:  # noqa: BLE001 - a bug may do anything, and is seen then
            return True
