"""Planted bugs: each must turn the matrix red, or the matrix proves nothing."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker
import pytest

import devloop.delta.delta as deltas
from devloop.delta import changes as effects
from devloop.delta import layer_writer
from devloop.delta import placement as placed
from devloop.delta.changes import Effects
from devloop.delta.layer_index import LayerNode, Layers
from tests.delta.test_matrix import Matrix
from tests.support.buildkit import RefusedError
from tests.support.delta_bench import make_base
from tests.support.delta_shapes import EDITS, SHAPES

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(600)]

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


def first_writer(self: Effects, files: Any, target: str) -> Any:
    for place in self._landed[id(files)]:
        source = place.comes_from(target)
        if source and source in files:
            return effects.LastWriter(place, files[source])
    return None


def all_but_deletions(self: Effects) -> Any:
    return _all(self)[0], set()


def children_too(path: str) -> Iterator[str]:
    """No directories above any path."""
    return iter(())


BUGS: dict[str, tuple[Patch, str, str]] = {
    "no parent directories": (
        swap(deltas, "directories_above", children_too),
        "onto-odd-directory",
        "edit_content",
    ),
    "parent directories as new ones": (
        swap(deltas, "directory", lambda *_: LayerNode("dir", 0o755, 0, 0)),
        "onto-odd-directory",
        "edit_content",
    ),
    "wrong whiteout": (swap(deltas, "whiteout", lambda path: f"{path}.wh"), "directory", "delete_file"),
    "whiteout in the wrong directory": (
        swap(deltas, "whiteout", lambda path: ".wh." + path.rpartition("/")[2]),
        "directory",
        "rename",
    ),
    "deletions forgotten": (swap(Effects, "all", all_but_deletions), "directory", "delete_file"),
    "lost mode": (header(mode=0o644), "directory", "mode_only"),
    "mode-only change not seen": (
        swap(
            effects,
            "_differs",
            lambda was, now: _differs(was, now) and (not was or not now or was.digest != now.digest),
        ),
        "directory",
        "mode_only",
    ),
    "wrong owner": (header(uid=0, gid=0), "chown-names", "edit_content"),
    "owner of the model alone": (
        swap(effects, "owner_of", lambda *_: (0, 0)),
        "chown-one-number",
        "add_file",
    ),
    "lost time": (header(mtime=0), "directory", "edit_content"),
    "lost link": (swap(layer_writer, "read_link", lambda *_: "elsewhere"), "directory", "links"),
    "chmod ignored": (swap(placed, "octal", lambda _: None), "chmod", "add_file"),
    "destination's link not followed": (
        swap(Layers, "resolve", lambda self, path, upto: path.strip("/")),
        "linked-destination",
        "edit_content",
    ),
    "first COPY wins": (swap(Effects, "writer", first_writer), "other-file-on-top", "edit_content"),
    "what lies beneath ignored": (
        swap(Effects, "_check_uncovers_nothing", lambda *_: None),
        "uncovers-base",
        "delete_file",
    ),
    "RUN after the COPY ignored": (swap(effects, "check_path", lambda *_: None), "run-after", "edit_content"),
    "a WORKDIR that hangs on it ignored": (
        swap(Effects, "_check_destinations", lambda *_: None),
        "workdir-in-copied",
        "directory_to_file",
    ),
    "directory becomes a plain file without a type": (
        swap(
            layer_writer, "_TYPES", {"file": tarfile.REGTYPE, "dir": tarfile.REGTYPE, "link": tarfile.SYMTYPE}
        ),
        "directory",
        "directories",
    ),
}


@pytest.fixture(scope="module", autouse=True)
def base() -> Iterator[None]:
    client = docker.from_env().api
    make_base(client)
    yield
    client.close()


def run(matrix: Matrix, name: str) -> None:
    """As the matrix does: red if it differs, and red if what must be proven is not."""
    matrix.run(next(edit for edit in EDITS if edit.__name__ == name))
    assert (name in matrix.proven) == (name in matrix.shape.proven)


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_turns_the_matrix_red(bug: str, tmp_path: Path) -> None:
    patch, name, edit = BUGS[bug]
    matrix = Matrix(next(shape for shape in SHAPES if shape.name == name), tmp_path)
    try:
        with pytest.MonkeyPatch.context() as monkeypatch:
            patch(monkeypatch)
            with pytest.raises((AssertionError, docker.errors.APIError, RefusedError)):
                run(matrix, edit)
    finally:
        matrix.bench.close()


def test_there_are_enough_bugs() -> None:
    assert len(BUGS) >= 12
