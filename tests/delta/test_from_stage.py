"""Equality: a delta of what other stages bring gives what a full build gives, on the real engine."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import docker
import pytest

from devloop.commands import explain as explaining
from devloop.delta import changes, from_stage, outputs
from devloop.delta.changes import Effects
from devloop.delta.delta import Delta, NotProven, Parent, ineligible_because
from devloop.delta.eligibility import reads
from devloop.delta.from_stage import (
    IN_A_STAGE,
    Export,
    _check_ran,
    built,
    exporting,
    not_carried_because,
)
from devloop.delta.placement import NotProvenError
from devloop.dockerfile.parser import Dockerfile
from devloop.dockerfile.plan import Plan
from devloop.dockerfile.planner import plan as planned
from devloop.model import BuildSpec, FileEntry, Inputs, Service
from tests.differential.images import flatten, save, settings
from tests.differential.runner import parent_of
from tests.support.delta_bench import BASE, LABEL, Bench, Item, differences, fix_times, make_base, plant
from tests.support.delta_shapes import EDITS, TREE, add_file, delete_file, edit_content, share


@dataclass(frozen=True)
class Shape:
    """A Dockerfile whose last stage takes what another made of src. `doubted`: the edits that may end in a
    full build, and why; all others must be deltas."""

    name: str
    text: str
    doubted: Mapping[str, str] = field(default_factory=dict)
    args: Mapping[str, str] = field(default_factory=dict)
    ignored: str = ""

    def __str__(self) -> str:
        return self.name

    def __hash__(self) -> int:
        return hash(self.name)

    def with_run(self, words: str) -> Shape:
        """The stage does this too."""
        return replace(self, text=self.text.replace("cp -a /s /out", f"cp -a /s /out && {words}"))


B = f"FROM {BASE} AS b\n"
MADE = f"{B}COPY src /s\nRUN cp -a /s /out\n"
LAST = f"FROM {BASE}\n"


def shape(name: str, text: str, **more: Mapping[str, str]) -> Shape:
    return Shape(name, text + "\n", **more)  # type: ignore[arg-type]


def made(name: str, lines: str, **more: Mapping[str, str]) -> Shape:
    """The usual stage, and these lines after the last FROM."""
    return shape(name, f"{MADE}{LAST}{lines}", **more)


SHAPES = (
    made("directory", "COPY --from=b /out /app"),
    made("directory-slash", "COPY --from=b /out/ /app/"),
    made("workdir-settings", 'WORKDIR /app\nCOPY --from=b /out ./\nUSER app\nENV A=1\nCMD ["x"]\nWORKDIR /w'),
    made("onto-base", "COPY --from=b /out /srv"),
    made("onto-odd", "COPY --from=b /out /odd"),
    made("root", "COPY --from=b /out /"),
    made("linked", "COPY --from=b /out /lnk/sub"),
    made("chown-names", "COPY --from=b --chown=app:app /out /app"),
    made("chown-numbers", "COPY --from=b --chown=5:6 /out /app"),
    made("chmod", "COPY --from=b --chmod=640 /out /app"),
    made("by-number", "COPY --from=0 /out /app"),
    made("twice", "COPY --from=b /out /one\nCOPY --from=b /out /two"),
    made("overlaid", "COPY --from=b /out/pkg /app/pkg\nCOPY --from=b /out /app"),
    made("overlaid-again", "COPY --from=b /out /app\nCOPY --from=b /out/pkg /app/pkg"),
    made("from-base-too", f"COPY --from={BASE} /srv /kept\nRUN echo x > /x\nCOPY --from=b /out /app"),
    shape(
        "owners-of-the-stage",
        f"{B}COPY src /s\nRUN cp -a /s /out && chown -R 5:6 /out && chmod 700 /out && chown 7:8 /out/pkg\n"
        f"{LAST}COPY --from=b /out /app",
    ),
    shape(
        "one-file",
        f"{B}COPY src /s\nRUN find /s | sort > /list; cat $(find /s -type f | sort) >> /list\n{LAST}"
        "COPY --from=b /list /usr/list\nCOPY --from=b /list /srv",
    ),
    shape(
        "wildcards",
        f"{B}COPY src /s\nRUN cp -a /s /out && echo 1 > /out/1.x && cat /out/main.py > /out/2.x\n"
        f"{LAST}COPY --from=b /out/*.x /out/p* /app/",
    ),
    shape(
        "several",
        f"{B}COPY src /s\nRUN cp -a /s /out && cat /s/main.py > /one\n{LAST}"
        "COPY --from=b /one /out/pkg /app/",
    ),
    shape(
        "three-stages",
        f"FROM {BASE} AS deps\nCOPY req.txt /r/\nRUN mkdir /n && cp /r/req.txt /n/m\n{B}WORKDIR /w\n"
        f"COPY --from=deps /n ./n\nCOPY . .\nRUN cp -a src /out && cp -a n /out/n\n{LAST}WORKDIR /app\n"
        "COPY --from=b /out ./\nCOPY --from=deps /n /n",
    ),
    shape(
        "one-base",
        f"FROM {BASE} AS base\nRUN mkdir /w\nWORKDIR /w\nFROM base AS b\nCOPY src .\nRUN cp -a . /out\n"
        "FROM base AS last\nCOPY --from=b /out ./",
    ),
    shape(
        "a-stage-on-the-stage",
        f"{MADE}FROM b AS c\nRUN cp -a /out /more && echo x > /more/x\n{LAST}COPY --from=c /more /app",
    ),
    shape(
        "bind-mount",
        f"{B}RUN --mount=type=bind,source=src,target=/m cp -a /m /out\n{LAST}COPY --from=b /out /app",
    ),
    shape(
        "from-a-stage-by-mount",
        f"{MADE}FROM {BASE} AS c\nRUN --mount=from=b,source=/out,target=/o cp -a /o /c\n"
        f"{LAST}COPY --from=c /c /app",
    ),
    shape(
        "cache-mount",
        f"{B}COPY src /s\nRUN --mount=type=cache,target=/c cp -a /s /out\n{LAST}COPY --from=b /out /app",
    ),
    shape(
        "arguments",
        f"ARG TAG=1\nARG OUTER=outer\n{B}ARG V=1\nARG OUTER\nARG TARGETSTAGE\nARG TARGETPLATFORM\nENV W=$V\n"
        "COPY src /s\nRUN mkdir /out; echo $V $W $OUTER $TAG $TARGETSTAGE $TARGETPLATFORM > /out/v; "
        "cat /s/main.py > /out/m\n"
        f"FROM {BASE} AS Last\nARG V\nENV TO=/app\nCOPY --from=b /out $TO/$V\nLABEL v=$V",
        args={"V": "given"},
    ),
    shape(
        "never-the-same",
        f"{B}COPY src /s\nRUN cp -a /s /out && cat /proc/sys/kernel/random/uuid > /out/id\n"
        f"{LAST}COPY --from=b /out /app",
    ),
    shape(
        "written-anew",
        f"{B}COPY src /s\nRUN mkdir /out && cd /s && for f in $(find . -type f); do "
        f"mkdir -p /out/$(dirname $f) && cat $f > /out/$f; done\n{LAST}COPY --from=b /out /app",
    ),
    shape(
        "ignored",
        f"{B}COPY . /s\nRUN cp -a /s /out\n{LAST}COPY --from=b /out /app",
        ignored="docs\n**/*.conf\n!conf/other.conf\n",
    ),
    shape(
        "context-too",
        f"{MADE}{LAST}COPY conf /app/conf\nCOPY --from=b /out /app\nCOPY req.txt /app/\n"
        "COPY src/run.sh /bin/go",
    ),
    shape(
        "context-below",
        f"{MADE}{LAST}COPY src/pkg /app/pkg\nCOPY --from=b /out /app",
    ),
    shape(
        "context-on-top",
        f"{MADE}{LAST}COPY --from=b /out /app\nCOPY src/pkg /app/pkg\nCOPY conf /app",
    ),
    shape(
        "a-run-that-sees-none-of-it",
        f"{B}COPY req.txt /r/\nCOPY src /s\nRUN cp -a /s /out\n{LAST}COPY --from=b /r /r\n"
        "RUN cp -a /r /again\nCOPY --from=b /out /app",
    ),
    shape(
        "lines",
        f"# escape=`\nFROM `\n {BASE} `\n AS b\nCOPY src `\n /s\n# why\nRUN cp -a `\n /s `\n /out\n"
        f"FROM {BASE} `\n AS last\nCOPY `\n --from=b `\n /out `\n /app\nENV A=1",
    ),
    shape(
        "not-the-last-one",
        f"{MADE}FROM {BASE} AS run\nCOPY --from=b /out /app\nFROM run AS more\nRUN false",
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def base() -> Iterator[None]:
    client = docker.from_env().api
    make_base(client)
    yield
    client.close()


class Matrix:
    """One shape, built once; then edit by edit from the same tree."""

    def __init__(self, shape: Shape, home: Path) -> None:
        target = "run" if shape.name == "not-the-last-one" else None
        self.bench = Bench(home / "home", shape.name, shape.text, shape.ignored, shape.args, target)
        plant(self.bench.context, TREE)
        self.before = self.bench.inputs()
        self.saved = save(self.bench.client, self.bench.build("before"))
        self.parent = parent_of(self.bench, self.saved, self.before)
        self.original = home / "original"
        shutil.copytree(self.bench.context, self.original, symlinks=True)

    def run(self, edit: Callable[[Path], None]) -> list[str] | NotProven:
        """Where the image differs from that of a full build, in words."""
        shutil.rmtree(self.bench.context)
        shutil.copytree(self.original, self.bench.context, symlinks=True)
        edit(self.bench.context)
        fix_times(self.bench.context)
        made = by_stages(self.bench, self.parent, self.before, self.bench.inputs())
        return made if isinstance(made, NotProven) else compare(self.bench, made, self.saved.image().files)


def by_stages(bench: Bench, parent: Parent, before: Inputs, after: Inputs) -> Delta | NotProven:
    """As devloop makes it: a plain delta, or one of what the stages bring."""
    why = bench.delta(parent, before, after, "delta")
    if isinstance(why, Delta) or why.reason not in IN_A_STAGE:
        return why
    export = exporting(bench.service, parent, before, after, bench.plan, bench.dockerfile)
    if isinstance(export, NotProven):
        return export
    layers = bench.export(export.dockerfile)
    labels = {LABEL: "delta"}
    return built(bench.service, export, layers, (), parent, before, after, bench.plan, bench.rules, labels)


def compare(bench: Bench, made: Delta, below: Mapping[str, Item]) -> list[str]:
    """Where the files or the settings of the delta on these files are not those of a full build."""
    full = bench.build("full")
    try:
        image = save(bench.client, full).image()
        files = flatten(below, [made.archive.layer])
        found = differences(image.files, files, made.changed)
        if (config := settings(made.archive.config)) != image.config:
            found.append(f"config: {image.config} in full, {config} made")
        return found
    finally:
        bench.remove(full)


@pytest.mark.engine
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", range(len(SHAPES)), ids=map(str, SHAPES))
@pytest.mark.usefixtures("base")
def test_s9_what_stages_bring_equals_a_full_build(number: int, tmp_path: Path) -> None:
    equal(SHAPES[number], share(number, len(EDITS)), tmp_path)


@pytest.mark.exhaustive
@pytest.mark.engine
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.usefixtures("base")
def test_s9_what_stages_bring_equals_a_full_build_after_every_edit(shape: Shape, tmp_path: Path) -> None:
    equal(shape, EDITS, tmp_path)


def equal(shape: Shape, edits: tuple[Callable[[Path], None], ...], home: Path) -> None:
    matrix = Matrix(shape, home)
    try:
        for edit in edits:
            found = matrix.run(edit)
            if isinstance(found, NotProven):
                assert shape.doubted.get(edit.__name__) == found.reason, (edit.__name__, found)
            else:
                assert not found, edit.__name__
    finally:
        matrix.bench.close()


# --- one after the other

CHAINS = (
    made("chain-context-on-top", "COPY --from=b /out /app\nCOPY conf /app"),
    made("chain-context-below", "COPY conf /app\nCOPY --from=b /out /app"),
)


def steps(text: str) -> tuple[Callable[[Path], None], ...]:
    """Edits of the context and of what the stage brings, which meet in the image; and back."""

    def both(name: str) -> Callable[[Path], None]:
        return lambda at: plant(at, {name: text})

    return (
        both("src/new"),
        both("conf/of-conf"),
        both("conf/new"),
        both("src/of-conf"),
        lambda at: (at / "conf/new").unlink(),
        lambda at: (at / "src/of-conf").unlink(),
        lambda at: (at / "src/new").unlink(),
        lambda at: (at / "conf/of-conf").unlink(),
    )


def chain(shape: Shape, home: Path, forget: bool = False) -> tuple[list[str], set[str]]:
    """Where the image differs after each step, and the reasons of full builds. `forget`: a planted bug."""
    bench = Bench(home / "home", shape.name, shape.text)
    found: list[str] = []
    reasons: set[str] = set()
    try:
        plant(bench.context, TREE)
        before = bench.inputs()
        saved = save(bench.client, bench.build("before"))
        parent, files = parent_of(bench, saved, before), saved.image().files
        for step in steps("text\n"):
            step(bench.context)
            fix_times(bench.context)
            after = bench.inputs()
            made = by_stages(bench, parent, before, after)
            if isinstance(made, NotProven):
                reasons.add(made.reason)
                saved = save(bench.client, bench.build("again"))
                bench.remove(f"{bench.repository}:again")
                parent, files = parent_of(bench, saved, after), saved.image().files
            else:
                found += compare(bench, made, files)
                parent, files = made.parent, flatten(files, [made.archive.layer])
                parent = replace(parent, outputs=None) if forget else parent
            before = after
    finally:
        bench.close()
    return found, reasons


@pytest.mark.engine
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("shape", CHAINS, ids=str)
@pytest.mark.usefixtures("base")
def test_deltas_of_both_kinds_stand_on_each_other(shape: Shape, tmp_path: Path) -> None:
    found, reasons = chain(shape, tmp_path)
    assert not found
    assert reasons <= {"OutputsUnknown"}  # what another stage brought comes to light again


@pytest.mark.engine
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("base")
def test_outputs_that_are_forgotten_are_found(tmp_path: Path) -> None:
    assert any(chain(one, tmp_path / one.name, forget=True)[0] for one in CHAINS)


# --- planted bugs, and what is refused

_output, _dockerfile, _brought = outputs._output, from_stage._dockerfile, from_stage._brought
_all, _layers = Effects.all, from_stage.of_layers


def nobodys(*given: Any) -> Any:
    return _output(*given[:6], (0, 0), *given[7:])


def without_mode(*given: Any) -> str:
    return re.sub(r"--chmod=\d+ ", "", _dockerfile(*given))


def not_into(*given: Any) -> Any:
    return replace(_brought(*given), into=False)


def only_readers(plan: Plan, changed: Collection[str]) -> set[int]:
    return {
        i for i, one in plan.stages.items() for step in one.steps for path in changed if reads(step, path)
    }


def timeless(*given: Any) -> Any:
    found = _layers(*given)
    for files in found.outputs.values():
        files |= {path: replace(one, mtime_ns=0) for path, one in files.items()}
    return found


def named(name: str) -> Shape:
    return next(one for one in SHAPES if one.name == name)


BUGS: dict[str, tuple[Any, str, Any, str, Callable[[Path], None]]] = {
    "what is gone stays": (Effects, "all", lambda self: (_all(self)[0], set()), "directory", delete_file),
    "the owners of the stage are lost": (outputs, "_output", nobodys, "owners-of-the-stage", edit_content),
    "a stage on a stage is not reached": (
        from_stage, "_reached", only_readers, "a-stage-on-the-stage", edit_content
    ),
    "what it brought last is not known": (
        from_stage, "_last", lambda _, one: {one.root: outputs._directory(one.root)}, "directory", delete_file
    ),
    "the mode of the COPY is lost": (from_stage, "_dockerfile", without_mode, "chmod", add_file),
    "a directory is taken for the file's name": (
        from_stage, "_brought", not_into, "one-file", edit_content
    ),
    "times are lost": (from_stage, "of_layers", timeless, "directory", edit_content),
    "a RUN that sees it is not seen": (changes, "check_path", lambda *_: None, "run-between", edit_content),
}  # fmt: skip


@pytest.mark.engine
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("bug", BUGS)
@pytest.mark.usefixtures("base")
def test_planted_bugs_are_found(bug: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each ends in another image than a full build gives, or in a doubt where there is none without it."""
    where, name, wrong, planted, edit = BUGS[bug]
    shape = RUN_BETWEEN if planted == RUN_BETWEEN.name else named(planted)
    matrix = Matrix(shape, tmp_path)
    try:
        monkeypatch.setattr(where, name, wrong)
        assert matrix.run(edit)
    finally:
        matrix.bench.close()


RUN_BETWEEN = made(
    "run-between", "COPY --from=b /out /app\nRUN cat /app/main.py > /m\nCOPY --from=b /out/pkg /pkg"
)
RUN_AFTER = made("run-after", "COPY --from=b /out /app\nRUN cat /app/main.py > /m")
UNREADABLE: dict[str, tuple[str, str]] = {
    "run-after": (RUN_AFTER.text, "RunAfter"),
    "mounted": (f"{MADE}{LAST}COPY --from=b /out /app\nRUN --mount=from=b,target=/b ls /b", "Mounted"),
    "link": (f"{MADE}{LAST}COPY --link --from=b /out /app", "Flag"),
    "unknown-mode": (f"{MADE}{LAST}COPY --chmod=u=rwX --from=b /out /app", "Flag"),
    "a-word-for-the-builder": (f"{MADE}{LAST}COPY --from=b '/o$ut' /app", "Unresolvable"),
    "nobody-takes-it": (f"{MADE}FROM b AS c\nCOPY --from=b /out /o\n{LAST}COPY --from=c / /", ""),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_the_dockerfile_shows_not_to_be_plain(name: str) -> None:
    text, reason = UNREADABLE[name]
    plan = planned(Dockerfile.parse(text + "\n"), target=None, args={}, platform="linux/amd64")
    why = ineligible_because(plan, "src/main.py")
    assert why is not None
    assert why.reason in IN_A_STAGE
    found = not_carried_because(plan, "src/main.py")
    assert (found.reason if found else "") == reason


def test_a_run_that_no_change_reaches_was_not_done_again() -> None:
    """What it makes now is in the outputs, and the image holds what it made before."""
    export = Export("", (), {}, frozenset({"builder", "stage-3"}))
    for step in ("[builder 3/4] RUN make", "[linux/amd64 builder 3/4] RUN make", "[stage-3 2/2] RUN x"):
        _check_ran(export, ["[internal] load build context", "[deps 2/3] COPY req.txt /", step])
    for step in ("[deps 2/3] RUN install", "[linux/amd64 deps 2/3] RUN install", "[stage-1 2/2] RUN [x y"):
        with pytest.raises(NotProvenError):
            _check_ran(export, [step])


REFUSED = {
    RUN_AFTER: "RunAfter",
    RUN_BETWEEN: "RunAfter",
    made("several-to-a-file", "COPY --from=b /out/m* /app"): "SeveralSources",
    made("hard-links", "COPY --from=b /out /app\n").with_run("ln /out/main.py /out/second"): "HardLink",
    shape(
        "taken-on",
        f"{MADE}FROM {BASE} AS run\nCOPY --from=b /out /app\nFROM run AS more\nRUN cp -a /app /more\n"
        "FROM more AS most\nCOPY --from=run /app /x\nFROM run\nCOPY --from=most /more /more",
    ): "TakenFrom",
}


@pytest.mark.engine
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("shape", REFUSED, ids=str)
@pytest.mark.usefixtures("base")
def test_what_is_not_proven_is_left_to_a_full_build(shape: Shape, tmp_path: Path) -> None:
    matrix = Matrix(shape, tmp_path)
    try:
        found = matrix.run(edit_content)
        assert isinstance(found, NotProven)
        assert found.reason == REFUSED[shape]
    finally:
        matrix.bench.close()


def test_explain_shows_what_stages_make() -> None:
    text = f"{MADE}FROM {BASE}\nCOPY req.txt /r\nCOPY --from=b /out /app\n"
    plan = planned(Dockerfile.parse(text), target=None, args={}, platform="linux/amd64")
    paths = ("src/main.py", "req.txt")
    files = {path: FileEntry(path, "file", 0o644, 1, 0, "digest") for path in paths}
    service = Service("app", "app", BuildSpec(Path("/x"), Path("/x/Dockerfile")), ())
    explained = explaining.lines(service, explaining.grouped(plan, files))
    assert explained[0].split(": ", 1)[1] == (
        "an edit of 1 of 2 files is a delta, of 1 a delta of what other stages make of them"
    )
    assert "  of stages   src/main.py" in explained
    assert not any("->" in line for line in explained)


@pytest.mark.engine
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("base")
def test_owners_are_those_of_this_dockerfile(tmp_path: Path) -> None:
    """A builder's cache knows a COPY by content and place, and not by the owners of what is copied."""
    for owner in ("5:6", "7:8"):
        text = f"{B}COPY src /s\nRUN cat /s/main.py > /f && chown {owner} /f\nFROM {BASE}\n"
        matrix = Matrix(
            shape(f"owner-{owner[0]}", f"{text}RUN echo {owner}\nCOPY --from=b /f /f"), tmp_path / owner
        )
        try:
            assert matrix.run(edit_content) == []
        finally:
            matrix.bench.close()
