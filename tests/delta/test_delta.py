"""Deltas without an engine: what is doubted, what the bytes are a function of, what `explain` says."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from devloop.delta.delta import Delta, NotProven, Parent, delta, ineligible_because, recipe
from devloop.delta.layer_index import Layer, LayerNode, Layers
from devloop.dockerfile.dockerignore import IgnoreRules
from devloop.dockerfile.parser import Dockerfile
from devloop.dockerfile.plan import Plan
from devloop.dockerfile.planner import plan
from devloop.errors import TreeMovedError
from devloop.inputs import snapshot as tree
from devloop.inputs.selection import Selection
from devloop.inputs.stat_cache import StatCache
from devloop.model import BuildSpec, Inputs, Service

DIR, FILE = LayerNode("dir", 0o755, 0, 0, 5), LayerNode("file", 0o644, 0, 0, 5, 1)


class Yard:
    """A context and the parent that a full build of `FROM scratch; COPY src /app` would leave."""

    def __init__(self, home: Path, text: str = "FROM scratch\nCOPY src /app\n", ignored: str = "") -> None:
        self.context = home / "context"
        (self.context / "src/d").mkdir(parents=True)
        for name in ("a", "b", "d/c"):
            (self.context / "src" / name).write_text(name[-1])
        self.rules = IgnoreRules.parse(ignored)
        self.service = Service("s", "s", BuildSpec(self.context, self.context / "Dockerfile"), ())
        self.plan: Plan = plan(Dockerfile.parse(text), target=None, args={}, platform="linux/amd64")
        self.home = home
        self.before = self.inputs()
        made = {"app": DIR, "app/d": DIR, "app/a": FILE, "app/b": FILE, "app/d/c": FILE}
        self.parent = self.with_layers(made)

    def with_layers(self, *layers: Mapping[str, LayerNode], by: str = "COPY") -> Parent:
        ids = tuple(f"sha256:{number}" for number in range(len(layers)))
        history = [{"created_by": by} for _ in layers]
        config = json.dumps({"config": {"Env": ["A=b"]}, "history": history, "rootfs": {}}).encode()
        stack = Layers(tuple(Layer(layer) for layer in layers))
        return Parent(recipe(self.service.build, self.before), config, ids, stack, len(layers))

    def inputs(self) -> Inputs:
        selection = Selection.of(self.plan.reads, self.rules)
        cache = StatCache(self.home / "never-written.db")
        files = tree.read(self.context, selection, set(), cache, lambda: None).files
        return Inputs(files, (), "linux/amd64", "", "")

    def delta(self, parent: Parent | None = None) -> Delta | NotProven:
        return delta(
            self.service, parent or self.parent, self.before, self.inputs(), self.plan, self.rules, {"l": "1"}
        )


def members(made: Delta | NotProven) -> dict[str, tarfile.TarInfo]:
    assert isinstance(made, Delta), made
    with tarfile.open(fileobj=io.BytesIO(made.archive.layer)) as archive:
        return {member.name: member for member in archive}


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    return Yard(tmp_path)


def test_only_what_changed_is_in_the_layer(yard: Yard) -> None:
    (yard.context / "src/d/c").write_text("other")
    assert list(members(yard.delta())) == ["app", "app/d", "app/d/c"]


def test_deletions_are_whiteouts_of_the_topmost(yard: Yard) -> None:
    (yard.context / "src/d/c").unlink()
    (yard.context / "src/d").rmdir()
    (yard.context / "src/a").unlink()
    made = yard.delta()
    assert list(members(made)) == ["app", "app/.wh.a", "app/.wh.d"]
    assert isinstance(made, Delta)
    assert made.parent.layers.find("app/d/c") is None
    assert made.parent.layers.find("app/b") == FILE


def test_bytes_are_a_function_of_files_times_and_parent(yard: Yard) -> None:
    (yard.context / "src/a").write_text("other")
    one, two = yard.delta(), yard.delta()
    assert isinstance(one, Delta)
    assert isinstance(two, Delta)
    assert one.archive == two.archive
    config = json.loads(one.archive.config)
    assert config["rootfs"]["diff_ids"] == ["sha256:0", one.archive.diff_ids[-1]]
    assert len(config["history"]) == 2
    assert config["config"] == {"Env": ["A=b"], "Labels": {"l": "1"}}


def test_a_delta_can_be_the_parent_of_the_next(yard: Yard) -> None:
    (yard.context / "src/new").write_text("n")
    made = yard.delta()
    assert isinstance(made, Delta)
    yard.before = yard.inputs()
    (yard.context / "src/new").unlink()
    assert list(members(yard.delta(made.parent))) == ["app", "app/.wh.new"]


def doubt(made: Delta | NotProven) -> str:
    assert isinstance(made, NotProven), made
    return made.reason


def test_a_parent_of_another_recipe_is_no_parent(yard: Yard) -> None:
    other = BuildSpec(yard.context, yard.context / "Dockerfile", args={"A": "1"})
    yard.service = Service("s", "s", other, ())
    assert doubt(yard.delta()) == "RecipeChanged"


def test_a_parent_that_lies_otherwise_is_doubted(yard: Yard) -> None:
    (yard.context / "src/a").write_text("other")
    parent = yard.with_layers({"app": DIR, "app/a": LayerNode("file", 0o600, 0, 0, 5, 1)})
    assert doubt(yard.delta(parent)) == "ModelDiffers"


def test_history_that_does_not_fit_is_doubted(yard: Yard) -> None:
    assert doubt(yard.delta(yard.with_layers({"app": DIR}, by="RUN x"))) == "HistoryDiffers"


def test_more_than_100_layers_are_refused(yard: Yard) -> None:
    assert doubt(yard.delta(yard.with_layers(*[{"app": DIR}] * 100))) == "TooManyLayers"


def test_a_name_like_a_whiteout_is_refused(yard: Yard) -> None:
    (yard.context / "src/.wh.x").write_text("")
    assert doubt(yard.delta()) == "WhiteoutName"


def test_a_hard_link_is_refused(yard: Yard) -> None:
    os.link(yard.context / "src/a", yard.context / "src/a2")
    assert doubt(yard.delta()) == "HardLink"


def test_a_fifo_is_refused(yard: Yard) -> None:
    os.mkfifo(yard.context / "src/fifo")
    assert doubt(yard.delta()) == "Special"


@pytest.mark.parametrize(
    "text",
    [
        "FROM scratch\nCOPY link /app\nCOPY src /app\n",
        "FROM scratch AS b\nCOPY link /x\nFROM scratch\nCOPY --from=b /x /x\nCOPY src /app\n",
    ],
)
def test_a_source_behind_a_link_is_refused(tmp_path: Path, text: str) -> None:
    yard = Yard(tmp_path, text)
    (yard.context / "link").symlink_to("src/d")
    yard.before = yard.inputs()
    yard.parent = yard.with_layers({"app": DIR}, {"app": DIR})
    (yard.context / "src/d/c").write_text("other")
    assert doubt(yard.delta()) == "SourceLink"


def test_extended_attributes_are_refused(yard: Yard) -> None:
    (yard.context / "src/a").write_text("other")
    with suppress(OSError):  # a file system without them cannot lose them
        os.setxattr(yard.context / "src/a", "user.x", b"1")
    if not os.listxattr(yard.context / "src/a"):
        assert list(members(yard.delta())) == ["app", "app/a"]
        return
    assert doubt(yard.delta()) == "Xattr"


def test_a_path_on_which_dockers_differ_is_refused(tmp_path: Path) -> None:
    yard = Yard(tmp_path, ignored="src/d\n!**/c\n")
    (yard.context / "src/d/c").write_text("other")
    assert doubt(yard.delta()) == "IgnoreRulesDiffer"


def test_s8_a_file_that_moves_meanwhile_aborts(yard: Yard) -> None:
    (yard.context / "src/a").write_text("other")
    after = yard.inputs()
    (yard.context / "src/a").write_text("again")
    with pytest.raises(TreeMovedError):
        delta(yard.service, yard.parent, yard.before, after, yard.plan, yard.rules, {})


def test_a_directory_of_another_layer_is_not_uncovered(yard: Yard) -> None:
    """The base has a file where the COPY's is deleted: a full build would show the base's."""
    (yard.context / "src/a").unlink()
    below = {"app": DIR, "app/a": FILE}
    copied = {"app": DIR, "app/d": DIR, "app/a": FILE, "app/b": FILE, "app/d/c": FILE}
    assert doubt(yard.delta(yard.with_layers(below, copied))) == "Uncovers"


@pytest.mark.parametrize(
    "text, path, reason, line",
    [
        ("FROM x\nCOPY a /a\n", "a/b", None, 0),
        ("FROM x\nCOPY a /a\nRUN y\n", "a/b", "RunAfter", 3),
        ("FROM x\nRUN y\nCOPY a /a\n", "a/b", None, 0),
        ("FROM x\nCOPY p /\nRUN y\nCOPY a /a\n", "p", "RunAfter", 3),
        ("FROM x AS b\nCOPY a /a\nFROM y\nCOPY --from=b /a /a\n", "a/b", "OtherStage", 2),
        ("FROM x AS b\nCOPY a /a\nFROM b\nRUN y\n", "a", "RunAfter", 4),
        ("FROM x AS b\nCOPY a /a\nFROM b AS c\nFROM b\nCOPY --from=c /a /b\n", "a", "TakenFrom", 5),
        ("FROM x\nRUN --mount=source=a,target=/m y\n", "a/b", "Mounted", 2),
        ("FROM x\nCOPY --link a /a\n", "a", "Flag", 2),
        ("FROM x\nCOPY $A /a\n", "a", "Unresolvable", 0),
        ("FROM x\nCOPY --chown=$A a /a\n", "a", "Unresolvable", 2),
    ],
)
def test_explain_names_the_line_that_stops_a_delta(
    text: str, path: str, reason: str | None, line: int
) -> None:
    planned = plan(Dockerfile.parse(text), target=None, args={}, platform="linux/amd64")
    found = ineligible_because(planned, path)
    assert (found.reason, found.line) == (reason, line) if found else reason is None
    assert found is None or reason in ("Unresolvable", "TakenFrom", "Mounted") or found.advice


def test_layers_survive_the_state_directory() -> None:
    layer = Layer(
        {"a": FILE, "l": LayerNode("link", 0o777, 0, 0, 0, 0, "a")}, frozenset({"g"}), frozenset({"o"})
    )
    assert Layer.load(layer.dump()) == layer
    for rubbish in (b"", b"xx", layer.dump()[:-3]):
        with pytest.raises(ValueError):
            Layer.load(rubbish)


def test_layers_hide_what_lies_below() -> None:
    low = Layer({"d": DIR, "d/a": FILE, "d/b": FILE, "e": DIR, "e/x": FILE, "f": DIR, "f/y": FILE})
    high = Layer({"d": DIR, "f": FILE}, frozenset({"d/a"}), frozenset({"e"}))
    top = Layer({"f": DIR})
    layers = Layers((low, high, top))
    assert [path for path in ("d", "d/a", "d/b", "e", "e/x", "f/y") if layers.find(path)] == ["d", "d/b", "e"]
    assert layers.find("f/y", 1) == FILE


def test_links_in_a_destination_are_followed() -> None:
    link = lambda to: LayerNode("link", 0o777, 0, 0, 0, 0, to)  # noqa: E731
    layers = Layers((Layer({"a": link("b/c"), "b": DIR, "b/c": link("/d"), "d": DIR, "o": link("o")}),))
    assert layers.resolve("/a/new/x", 1) == "d/new/x"
    assert layers.resolve("/b/../a", 1) == "d"
    assert layers.resolve("/o/x", 1) is None
