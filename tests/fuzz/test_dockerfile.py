# ruff: noqa: E501 - tables of words
"""Dockerfiles: a plan, or an error with its line; and a plan can be asked for all that it says."""

from __future__ import annotations

import re

from hypothesis import example, given
from hypothesis import strategies as st

from devloop.dockerfile.dockerignore import IgnoreRules
from devloop.dockerfile.parser import Dockerfile
from devloop.dockerfile.plan import Base, Plan
from devloop.dockerfile.planner import plan
from devloop.dockerfile.wildcards import STAR, expression
from devloop.inputs.selection import Selection
from tests.fuzz.words import cases, damaged, well

SOUND = (
    """\
# syntax=docker/dockerfile:1
ARG BASE=alpine
ARG TAG=${BASE:-x}
FROM --platform=$BUILDPLATFORM ${BASE}:1 AS build
ARG NAME=a
ENV DIR=/app/$NAME LIST="a b" OLD=${NAME#a}
WORKDIR ${DIR:+/src}
COPY --chown=svc:svc --chmod=644 a.txt src/*.py ${NAME} ./to/
ADD --checksum=sha256:0 https://example.org/x.tgz git@github.com:a/b.git /y/
RUN --mount=type=bind,source=src,target=/s --mount=type=cache,target=/c,id=$NAME \\
    # a comment
    make
FROM build
COPY --from=build /out /out
COPY --from=0 --link ["a b", "/to/"]
ONBUILD COPY . /app
CMD ["/bin/sh", "-c", "x"]
""",
    """\
# escape=`
FROM scratch AS one
COPY <<EOF <<-"two" /app/
text $X
EOF
	more
	two
RUN <<EOF python3
print("FROM x")
EOF
FROM one
COPY --parents --exclude=*.md a/./b/*.txt /to
HEALTHCHECK --interval=5s CMD x
SHELL ["a"]
STOPSIGNAL 9
USER $U
LABEL a=b c="d e"
EXPOSE 80/tcp
VOLUME ["/x"]
""",
)
WORDS = (
    "FROM ", "FROM x\n", "COPY ", "ADD ", "RUN ", "ARG ", "ENV ", "ONBUILD ", "WORKDIR ", "--from=", "--from=9 ",
    "--chown=", "--mount=type=bind,", "--mount=", "--link ", "--parents ", "--exclude=", "<<EOF", "<<-'x'", "EOF\n",
    "$", "${", "${A", "${A:-", "${A:?", "${A##", "${A%", "${A/", "//}", "}", "`", "\\", "\\\n", '"', "'", "[", "]",
    "*", "?", "[^", "..", "/", "//", "\n", "\r\n", "\x00", "# ", "# syntax=x\n", "# escape=`\n", "=", ",", ":", " ",
    "\t", "\ufeff", "{{", "9" * 30, "a" * 300, "*" * 40, "[[:", "(", ")",
)  # fmt: skip
NOTHING_IGNORED = IgnoreRules.parse("")
BASES = (
    Base("alpine:1", "sha256:1", ("COPY . /b", "RUN $X", "bad \\"), ("PATH=/x", "odd"), "/w", "u"),
    Base("x", "sha256:2", ("FROM y", "COPY --from=z a b", ""), None, None, None),
)


def _plans(text: str) -> None:
    dockerfile = Dockerfile.parse(text)
    for target in (None, "build", "0", "none"):
        well(lambda target=target: _used(dockerfile, target))  # type: ignore[misc]


def _used(dockerfile: Dockerfile, target: str | None) -> None:
    made: Plan = plan(dockerfile, target=target, args={"X": "a b"}, platform="linux/arm64/v8")
    bases = [Base(one.ref, "sha256:3", *_facts(number)) for number, one in enumerate(made.bases)]
    again = plan(dockerfile, target=target, args={"X": "$X"}, platform="linux/amd64", bases=(*BASES, *bases))
    for one in (made, again):
        selection = Selection.of(one.reads, NOTHING_IGNORED)
        for path in ("a.txt", "src/x.py", "a b", "deep/er/x", ""):
            assert isinstance(selection.takes(path), bool)
            assert isinstance(selection.concerns(path), bool)
        assert one.chain()


def _facts(number: int) -> tuple[tuple[str, ...], tuple[str, ...] | None, str | None, str | None]:
    return (("COPY c /c",), ("A=b",), "/", "") if number % 2 else ((), None, None, None)


@cases(60)
@given(damaged(SOUND, WORDS))
@example("FROM x\nRUN <<EOF")
@example("FROM ${A" + "${A:-" * 2000)
@example("FROM x\nENV A=${B/" + "*" * 60 + "y/z}\n")
def test_damaged_dockerfiles(text: str) -> None:
    well(lambda: _plans(text))


@cases(50)
@given(st.lists(st.sampled_from(WORDS), max_size=25).map("".join) | st.text(max_size=200))
def test_dockerfiles_of_words(text: str) -> None:
    well(lambda: _plans(text))
    well(lambda: _plans(f"FROM x\n{text}"))


def _repeated(one: str) -> st.SearchStrategy[str]:
    return st.integers(1, 3000).map(lambda count: one * count)


@cases(3)
@given(st.sampled_from(("*", "?", "[a]", "a", "#", "%", "\\", "/", "*a")).flatmap(_repeated))
def test_patterns_of_any_length_in_expansions(text: str) -> None:
    """Shell patterns become regular expressions: none of them may run for ever."""
    value = "a" * 3000
    for form in ("${A#_}", "${A##_b}", "${A%_}", "${A%%b_}", "${A/_/x}", "${A//_b/x}"):
        word = form.replace("_", text)
        well(lambda word=word: _plans(f"FROM x\nENV A={value}\nCOPY {word} /x\n"))  # type: ignore[misc]


@cases(200)
@given(st.text("ab*?", max_size=9), st.text("ab\n", max_size=9))
def test_patterns_find_what_pythons_engine_finds(pattern: str, value: str) -> None:
    """With no star tried twice: the same shortest, longest and leftmost places."""
    for greedy in (True, False):
        plain = "".join({"*": ".*" if greedy else ".*?", "?": "."}.get(char, char) for char in pattern)
        quick = expression([{"*": STAR, "?": "."}.get(char, char) for char in pattern], greedy=greedy)
        for flags in (0, re.DOTALL):
            ours, theirs = re.compile(quick, flags), re.compile(plain, flags)
            assert _span(ours.match(value)) == _span(theirs.match(value))
            assert _span(ours.search(value)) == _span(theirs.search(value))
            assert bool(ours.fullmatch(value)) == bool(theirs.fullmatch(value))


def _span(found: re.Match[str] | None) -> tuple[int, int] | None:
    return found.span() if found else None
