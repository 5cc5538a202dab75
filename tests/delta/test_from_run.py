"""Equality: a build that goes on from a RUN gives what a full build gives, on the real engine."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import pytest

from devloop.commands import explain as explaining
from devloop.delta import from_run as continuations
from devloop.delta.delta import NotProven, Parent
from devloop.delta.from_run import Continuation, continuation, goes_on, rest
from devloop.dockerfile.parser import Dockerfile
from devloop.dockerfile.plan import Plan
from devloop.dockerfile.planner import plan
from devloop.model import BuildSpec, FileEntry, Inputs, Service
from tests.support.delta_bench import BASE, Bench, differences, fix_times, make_base, plant
from tests.support.delta_shapes import EDITS, TREE, share


@dataclass(frozen=True)
class Shape:
    """A Dockerfile whose RUNs see the files below src."""

    name: str
    text: str
    args: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


def shape(name: str, lines: str, **more: Mapping[str, str]) -> Shape:
    text = lines if lines.startswith(("#", "ARG", "FROM")) else f"FROM {BASE}\n{lines}"
    return Shape(name, text + "\n", **more)


SHAPES = (
    shape("copy-run", "COPY src /app\nRUN cp -a /app /again"),
    shape(
        "whole-context",
        "COPY . /app\nRUN find /app | sort > /list && cat $(find /app -type f | sort) > /all",
    ),
    shape(
        "settings",
        "ENV A=1 PATH=/bin:/app\nENV B=$A\nWORKDIR /app\nCOPY --chown=1001:1002 src .\nUSER 1001:1002\n"
        'SHELL ["/bin/sh", "-ec"]\n'
        "RUN env | sort > /tmp/env; pwd > /tmp/pwd; id > /tmp/id; cat main.py > /tmp/m\n"
        'LABEL l=1\nEXPOSE 80\nVOLUME /data\nSTOPSIGNAL SIGINT\nENTRYPOINT ["sh"]\nCMD ["-c", "ls"]',
    ),
    shape(
        "arguments",
        f"ARG TAG=1\nARG OUTER=outer\nFROM {BASE}\nARG V=1\nARG W\nARG OUTER\nCOPY src /app\n"
        "RUN echo $V $W $OUTER $TAG > /v && env | grep -v HOSTNAME | sort > /env",
        args={"W": "given", "V": "2"},
    ),
    shape(
        "runs-on-both-sides",
        "RUN echo once > /made && mkdir -p /app && chmod 700 /app\nCOPY src /app\n"
        "RUN cat /app/main.py /made > /m\nRUN rm -rf /app/tree && mv /app/pkg /moved && echo ok > /ok",
    ),
    shape(
        "second-run",
        "COPY req.txt /r\nRUN cp /r /done\nCOPY src /app\nRUN cp -a /app /again && cat /done",
    ),
    shape(
        "two-copies",
        "COPY src /app\nCOPY conf /app\nRUN find /app | sort | xargs stat -c '%n %a %u:%g %F' > /list",
    ),
    shape(
        "from-a-stage",
        f"FROM {BASE} AS made\nRUN echo x > /o\nFROM {BASE}\nCOPY --from=made /o /o\nCOPY src /app\n"
        "RUN cat /o /app/main.py > /both",
    ),
    shape("cache-mount", "COPY src /app\nRUN --mount=type=cache,target=/c cp -a /app /again"),
    shape(
        "escape",
        f"# escape=`\nFROM {BASE}\nCOPY src `\n  /app\n# why\nRUN cp -a `\n  /app `\n  /again",
    ),
    shape(
        "argument-then-env",
        "EXPOSE 1\nARG V=1\nENV V=2\nCOPY src /app\nRUN echo $V > /v && env | grep -v HOSTNAME | sort > /env",
    ),
    shape(
        "given-argument-then-env",
        "EXPOSE 1\nARG V\nENV V=production\nCOPY src /app\nRUN echo $V > /v",
        args={"V": "dev"},
    ),
    shape(
        "env-takes-the-argument",
        "EXPOSE 1\nARG V=1\nARG W=w\nENV V=$V U=$W\nCOPY src /app\n"
        "RUN --mount=type=cache,target=/c/$V echo $V $W $U > /v && ls /c > /c-of",
        args={"V": "given"},
    ),
    shape("argument-of-the-bases-name", "EXPOSE 1\nARG PATH=/bin:/app\nCOPY src /app\nRUN echo $PATH > /v"),
    shape(
        "named-stage",
        f"FROM {BASE} AS other\nFROM {BASE} AS Last\nARG TARGETSTAGE\nARG TARGETPLATFORM\nARG BUILDARCH\n"
        "COPY src /app\nRUN echo $TARGETSTAGE $TARGETPLATFORM $BUILDARCH > /v",
    ),
    shape(
        "mounts",
        "COPY src /app\nRUN --mount=type=tmpfs,target=/t --mount=type=secret,id=none --mount=type=ssh "
        "--mount=type=cache,target=/c,id=continued,sharing=locked,mode=0700,uid=3 "
        "cp -a /app /t/again && cp -a /t/again /out && ls -ld /c > /c-of",
    ),
    shape(
        "predefined-arguments",
        "COPY src /app\nRUN env | grep -v HOSTNAME | sort > /env",
        args={"HTTP_PROXY": "http://localhost:1", "no_proxy": "x", "SOURCE_DATE_EPOCH": "1000000000"},
    ),
    shape("linked-destination", "COPY src /lnk/sub\nRUN cp -a /srv /again"),
    shape(
        "not-the-last-stage",
        f"FROM {BASE} AS one\nCOPY src /no\nRUN false\nFROM {BASE}\nCOPY src /app\nRUN cp -a /app /x",
    ),
)


@pytest.fixture(scope="module")
def base() -> Iterator[None]:
    client = docker.from_env().api
    make_base(client)
    yield
    client.close()


class NotMadeError(Exception):
    """The delta below was not proven."""


class Matrix:
    """One shape, built once; then edit by edit from the same tree."""

    def __init__(self, shape: Shape, home: Path) -> None:
        self.bench = Bench(home / "home", shape.name, shape.text, "", shape.args)
        self.home = home
        plant(self.bench.context, TREE)
        self.before = self.bench.inputs()
        self.parent = self.bench.parent(self.bench.build("before"), self.before)
        self.original = home / "original"
        shutil.copytree(self.bench.context, self.original, symlinks=True)

    def run(self, edit: Callable[[Path], None]) -> list[str]:
        """Where the image differs from that of a full build, in words."""
        bench = self.bench
        shutil.rmtree(bench.context)
        shutil.copytree(self.original, bench.context, symlinks=True)
        edit(bench.context)
        fix_times(bench.context)
        made = self.made(bench.inputs())
        assert goes_on(bench.plan, made.line)
        below = bench.load(made.below, "below")
        text = rest_of(bench.dockerfile, bench.plan, made.line, below)
        on = Bench(self.home / edit.__name__, bench.name, text, "", bench.args)
        try:
            thin, full = on.build("thin"), bench.build("full")
            found = differences(bench.files(full), bench.files(thin), made.below.changed)
            configs = bench.config(full), bench.config(thin)
            if {**configs[0], "Labels": None} != {**configs[1], "Labels": None}:
                found.append(f"config: {configs}")
            return found
        finally:
            on.close()
            for ref in [*bench.tags][:0:-1]:  # all but the first build
                bench.remove(ref)

    def made(self, after: Inputs) -> Continuation:
        bench = self.bench
        why = bench.delta(self.parent, self.before, after, "delta")
        assert isinstance(why, NotProven)
        assert why.reason == "RunAfter"
        made = continuation(
            bench.service, self.parent, self.before, after, bench.plan, bench.rules, {}, why
        )  # fmt: skip
        if isinstance(made, NotProven):
            raise NotMadeError(made)
        return made


@pytest.mark.engine
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", range(len(SHAPES)), ids=map(str, SHAPES))
@pytest.mark.usefixtures("base")
def test_s9_going_on_equals_a_full_build(number: int, tmp_path: Path) -> None:
    equal(SHAPES[number], share(number, len(EDITS)), tmp_path)


@pytest.mark.exhaustive
@pytest.mark.engine
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.usefixtures("base")
def test_s9_going_on_equals_a_full_build_after_every_edit(shape: Shape, tmp_path: Path) -> None:
    equal(shape, EDITS, tmp_path)


def equal(shape: Shape, edits: tuple[Callable[[Path], None], ...], home: Path) -> None:
    matrix = Matrix(shape, home)
    try:
        for edit in edits:
            assert not matrix.run(edit), edit.__name__
    finally:
        matrix.bench.close()


rest_of, below_of = rest, continuations._below


def no_arguments(text: str, plan: Plan, line: int, below: str) -> str:
    lines = rest(text, plan, line, below).split("\n")
    return "\n".join("" if one.startswith("ARG") else one for one in lines)


def one_layer_more(parent: Parent, layer: int) -> Parent:
    return below_of(parent, layer + 1)


def one_layer_less(parent: Parent, layer: int) -> Parent:
    return below_of(parent, layer - 1)


ARGUMENT_THEN_ENV = next(shape for shape in SHAPES if shape.name == "argument-then-env")
BUGS: dict[str, tuple[str, Any, Shape]] = {
    "a RUN's own layer stays": ("_below", one_layer_more, SHAPES[0]),
    "the layer of the COPY goes": ("_below", one_layer_less, SHAPES[0]),
    "ARGs are lost": ("rest_of", no_arguments, SHAPES[3]),
    "an ARG hides an ENV": ("_shadowed", lambda instructions: set(), ARGUMENT_THEN_ENV),
    "a setting behind the RUN is seen by it": (
        "_check_following",
        lambda step: None,
        shape("env-after", "ENV A=1\nCOPY src /app\nRUN echo $A > /a\nENV A=2"),
    ),
}


@pytest.mark.engine
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("bug", BUGS)
@pytest.mark.usefixtures("base")
def test_planted_bugs_are_found(bug: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each ends in another image than a full build gives, or in a doubt of the delta below."""
    name, wrong, planted = BUGS[bug]
    matrix = Matrix(planted, tmp_path)
    try:
        monkeypatch.setattr(sys.modules[__name__] if name == "rest_of" else continuations, name, wrong)
        try:
            found = matrix.run(EDITS[0])
        except NotMadeError as doubt:
            found = [str(doubt)]
        assert found
    finally:
        matrix.bench.close()


REFUSED = {
    "env-after": "COPY src /app\nRUN ls\nENV A=1",
    "user-after": "COPY src /app\nRUN ls\nUSER 5",
    "workdir-after": "COPY src /app\nRUN ls\nWORKDIR /app",
    "shell-after": 'COPY src /app\nRUN ls\nSHELL ["sh"]',
    "argument-after": "COPY src /app\nRUN ls\nARG A\nRUN echo $A",
    "copy-after": "COPY src /app\nRUN ls\nCOPY conf /conf",
    "onbuild-after": "COPY src /app\nRUN ls\nONBUILD RUN ls",
    "argument-by-another": "ENV C=1\nARG A=1\nARG B=$A\nCOPY src /app\nRUN echo $B",
    "bind-mount": "COPY src /app\nRUN --mount=type=bind,source=conf,target=/c cp /c/app.conf /app",
    "cache-from-a-stage": f"FROM {BASE} AS seed\nRUN mkdir /c && echo x > /c/x\nFROM {BASE}\nCOPY src /app\n"
    "RUN --mount=type=cache,from=seed,source=/c,target=/c cat /c/x",
    "cache-from-an-image": f"COPY src /app\nRUN --mount=type=cache,from={BASE},source=/srv,target=/c ls /c",
    "bind-from-an-image": f"COPY src /app\nRUN --mount=from={BASE},target=/c ls /c",
    "env-then-argument": "ENV A=1\nARG A=2\nCOPY src /app\nRUN echo $A",
    "half-of-an-argument": "EXPOSE 1\nARG A=1 B=1\nENV A=2\nCOPY src /app\nRUN echo $A",
    "a-name-in-a-variable": "ENV N=A\nARG A=1\nENV $N=2\nCOPY src /app\nRUN echo $A",
    "on-a-stage": f"FROM {BASE} AS one\nRUN true\nFROM one\nCOPY src /app\nRUN ls",
    "of-a-platform": f"FROM --platform=linux/amd64 {BASE}\nCOPY src /app\nRUN ls",
}


@pytest.mark.engine
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.usefixtures("base")
def test_what_is_not_plain_is_built_in_full(name: str, tmp_path: Path) -> None:
    lines = REFUSED[name]
    matrix = Matrix(shape(name, lines), tmp_path)
    bench = matrix.bench
    try:
        (bench.context / "src/main.py").write_text("edited")
        fix_times(bench.context)
        after = bench.inputs()
        why = bench.delta(matrix.parent, matrix.before, after, "delta")
        assert isinstance(why, NotProven)
        made = continuation(
            bench.service, matrix.parent, matrix.before, after, bench.plan, bench.rules, {}, why
        )  # fmt: skip
        assert isinstance(made, NotProven)
        assert not goes_on(bench.plan, why.line)
    finally:
        bench.close()


def test_every_line_stays_where_the_user_wrote_it() -> None:
    """What a builder says of line 9 is found in the user's line 9."""
    text = (
        "# syntax=docker/dockerfile:1\n# escape=`\n\nARG TAG=1\nFROM base:$TAG AS first\nRUN one\n"
        "FROM base:$TAG AS Last\nARG A=1\nARG B=1\nENV B=2\nCOPY src /app\n"
        "RUN <<END\nmake\n\nEND\n# why\nRUN more `\n  words\nCMD x\n"
    )
    made = plan(Dockerfile.parse(text), target=None, args={}, platform="linux/amd64")
    dockerfile = rest(text, made, 12, "app:dl-1-below")
    assert dockerfile.split("\n") == [
        "# syntax=docker/dockerfile:1", "# escape=`", "", "ARG TAG=1", "", "",
        "FROM app:dl-1-below AS last", "ARG A=1", "", "", "",
        "RUN <<END", "make", "", "END", "", "RUN more `", "  words", "", "",
    ]  # fmt: skip


def test_explain_shows_the_three_kinds_of_build() -> None:
    text = (
        "FROM base AS other\nCOPY conf /conf\nRUN make\nFROM base\nCOPY --from=other /conf /conf\n"
        "COPY src /app\nRUN compile\nCMD x\n"
    )
    made = plan(Dockerfile.parse(text), target=None, args={}, platform="linux/amd64")
    paths = ("src/main.py", "conf/app.conf")
    files = {path: FileEntry(path, "file", 0o644, 1, 0, "digest") for path in paths}
    service = Service("app", "app", BuildSpec(Path("/x"), Path("/x/Dockerfile")), ())
    explained = explaining.lines(service, explaining.grouped(made, files))
    assert explained[0].split(": ", 1)[1] == (
        "an edit of 0 of 2 files is a delta, of 1 a build of the RUNs alone, of the others a full build"
    )
    assert "  RUNs alone  src/main.py" in explained
    assert "  full build  conf/app.conf" in explained


def test_explain_calls_no_edit_of_the_dockerfile_a_delta() -> None:
    """`COPY . /app` copies it as well, and yet its edit changes what the image is made by."""
    made = plan(Dockerfile.parse("FROM base\nCOPY . /app\n"), target=None, args={}, platform="linux/amd64")
    files = {
        path: FileEntry(path, "file", 0o644, 1, 0, "digest")
        for path in (".dockerignore", "Dockerfile", "Dockerfile.dockerignore", "main.py")
    }
    service = Service("app", "app", BuildSpec(Path("/x"), Path("/x/Dockerfile")), ())
    explained = explaining.lines(service, explaining.groups_of(service, made, files))
    assert explained[0].endswith("an edit of 1 of 4 files is a delta, of the others a full build")
    assert "  delta       main.py" in explained
    assert "  full build  .dockerignore, Dockerfile, Dockerfile.dockerignore" in explained
