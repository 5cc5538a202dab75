"""Equality: what a delta gives is what a full build gives, on the real engine (issue D, 5)."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest

from devloop.delta.delta import Delta, NotProven, ineligible_because
from tests.support.delta_bench import Bench, differences, fix_times, make_base, plant
from tests.support.delta_shapes import EDITS, SHAPES, TREE, Shape, share

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(600)]


Edit = Callable[[Path], None]


@pytest.fixture(scope="module", autouse=True)
def base() -> Iterator[None]:
    client = docker.from_env().api
    make_base(client)
    yield
    client.close()


def bench_for(shape: Shape, home: Path) -> Bench:
    bench = Bench(home, shape.name, shape.text, shape.ignored, shape.args)
    plant(bench.context, TREE)
    return bench


class Matrix:
    """One shape, built once; then edit by edit from the same tree."""

    def __init__(self, shape: Shape, home: Path) -> None:
        self.shape, self.bench = shape, bench_for(shape, home / "home")
        self.before = self.bench.inputs()
        self.parent = self.bench.parent(self.bench.build("before"), self.before)
        self.original = home / "original"
        shutil.copytree(self.bench.context, self.original, symlinks=True)
        self.proven: set[str] = set()

    def run(self, edit: Edit) -> None:
        """Fails if the delta is another image than a full build, or doubts what it should not."""
        bench, name = self.bench, edit.__name__
        shutil.rmtree(bench.context)
        shutil.copytree(self.original, bench.context, symlinks=True)
        edit(bench.context)
        fix_times(bench.context)
        made = bench.delta(self.parent, self.before, bench.inputs(), name)
        if isinstance(made, NotProven):
            assert made.reason in self.shape.reasons, (name, made)
        elif made.changed or made.deleted:  # else the edit is none of this shape's business
            if not self.proven:
                check_config(bench, made)
            self.proven.add(name)
            check(bench, made, name)


RUN = [shape for shape in SHAPES if shape.runs]


SOME = [pytest.param(shape, share(number, 6), id=str(shape)) for number, shape in enumerate(RUN)]


@pytest.mark.parametrize(("shape", "edits"), SOME)
def test_s9_delta_equals_full_build(shape: Shape, edits: tuple[Edit, ...], tmp_path: Path) -> None:
    equal(shape, edits, tmp_path)


@pytest.mark.exhaustive
@pytest.mark.parametrize("shape", RUN, ids=str)
def test_s9_delta_equals_full_build_after_every_edit(shape: Shape, tmp_path: Path) -> None:
    equal(shape, EDITS, tmp_path)


def equal(shape: Shape, edits: tuple[Edit, ...], home: Path) -> None:
    matrix = Matrix(shape, home)
    try:
        for edit in edits:
            matrix.run(edit)
        assert matrix.proven == shape.proven & {edit.__name__ for edit in edits}
    finally:
        matrix.bench.close()


def check_config(bench: Bench, made: Delta) -> None:
    full, thin = bench.build("full"), bench.load(made, "config")
    assert {**bench.config(full), "Labels": None} == {**bench.config(thin), "Labels": None}
    bench.remove(thin)
    bench.remove(full)


def check(bench: Bench, made: Delta, name: str, *, keep: bool = False) -> None:
    """The delta's file system, after a real load, against that of a full build of the same tree.
    `keep`: the next delta stands on it."""
    thin = bench.load(made, f"delta-{len(bench.tags)}")
    found = differences(bench.build_files(), bench.files(thin), made.changed)
    if not keep:
        bench.remove(thin)
    assert not found, (name, found)


@pytest.mark.parametrize("shape", [s for s in SHAPES if not s.proven], ids=str)
def test_shapes_without_a_proof_reach_the_fallback(shape: Shape, tmp_path: Path) -> None:
    """Those that this engine may not know are not run: their fallback is all that is claimed."""
    bench = bench_for(shape, tmp_path / "home")
    try:
        found = ineligible_because(bench.plan, "src/pkg/a.py") or ineligible_because(
            bench.plan, "src/main.py"
        )
        assert (found.reason if found else "Add") in shape.reasons
    finally:
        bench.close()


@pytest.mark.parametrize("name", ["directory", "onto-odd-directory", "chown-names"])
def test_a_chain_of_deltas_equals_a_full_build(name: str, tmp_path: Path) -> None:
    """Each edit on top of the one before, each a delta on the last delta; deleted and made again."""
    shape = next(s for s in SHAPES if s.name == name)
    bench = bench_for(shape, tmp_path / "home")
    try:
        before = bench.inputs()
        parent = bench.parent(bench.build("before"), before)
        again = [
            lambda at: plant(at, {k: v for k, v in TREE.items() if not (at / k).exists() and "tree" not in k})
        ]
        for edit in [*EDITS, *again]:
            edit(bench.context)
            fix_times(bench.context)
            after = bench.inputs()
            made = bench.delta(parent, before, after, "chain")
            assert isinstance(made, Delta), made
            check(bench, made, str(edit), keep=True)
            parent, before = made.parent, after
    finally:
        bench.close()


def test_there_are_enough_shapes_and_edits() -> None:
    assert len(SHAPES) >= 40
    assert len(EDITS) == 9
    assert set(EDITS) == {edit for number in range(6) for edit in share(number, 6)}
