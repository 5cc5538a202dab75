"""Dockerfiles: instructions, variables, stages, what is read. The words are BuildKit's own."""

from __future__ import annotations

import pytest

from devloop.dockerfile.instructions import DockerfileError
from devloop.dockerfile.parser import Dockerfile
from devloop.dockerfile.plan import Copy, Run, Workdir
from devloop.dockerfile.planner import plan
from devloop.dockerfile.shell import ExpansionError, UnresolvableError, expand
from devloop.model import Base


def parse(text: str) -> Dockerfile:
    return Dockerfile.parse(text)


def planned(text: str, **how: object):  # type: ignore[no-untyped-def]
    given: dict[str, object] = {"target": None, "args": {}, "platform": "linux/arm64/v8", **how}
    return plan(parse(text), **given)  # type: ignore[arg-type]


def reads(text: str, **how: object) -> list[str]:
    return [read.pattern for read in planned(text, **how).reads]


# --- instructions --------------------------------------------------------------------------------


def test_continuation_comments_and_lines() -> None:
    text = "\ufeff# a comment\n\nFROM x\n  RUN a \\\n   # inside\n\n  && b\\\n\n\tc\nCOPY a b # no comment\n"
    run, copy = parse(text).stages[0].instructions
    assert (run.text, run.line, run.end_line) == ("RUN a   && b\tc", 4, 9)
    assert (copy.args, copy.line) == (("a", "b", "#", "no", "comment"), 10)


def test_escape_directive_and_windows_line_ends() -> None:
    text = "# escape=`\r\n# syntax = docker/dockerfile:1 \r\nFROM x\r\nRUN a `\r\n  b\\\r\nCOPY c d\r\n"
    found = parse(text)
    assert (found.escape, found.syntax) == ("`", "docker/dockerfile:1")
    assert [i.text for i in found.stages[0].instructions] == ["RUN a   b\\", "COPY c d"]


def test_directive_after_a_comment_is_a_comment() -> None:
    assert parse("# hi\n# escape=`\nFROM x\n").escape == "\\"


def test_flags_json_and_quotes() -> None:
    text = 'FROM x\nCOPY --from=b --chown="1:2" --link --exclude=*.a --exclude=b ["a b", "c"]\n'
    copy = parse(text).stages[0].instructions[0]
    assert copy.args == ("a b", "c")
    assert (copy.flag("from"), copy.flag("chown"), copy.flag("link"), copy.flag("chmod")) == (
        "b",
        "1:2",
        "true",
        None,
    )
    assert copy.flag_values("exclude") == ("*.a", "b")
    assert parse("FROM x\nCOPY [a, b] c\n").stages[0].instructions[0].args == ("[a,", "b]", "c")


def test_flags_are_read_byte_by_byte_as_buildkit_reads_them() -> None:
    """It makes two characters of an `é`, and so looks for a file of that name. `à` has a byte that ends a
    word."""
    text = "FROM x\nCOPY --exclude=é --exclude=à.md é /é\n"
    copy = parse(text).stages[0].instructions[0]
    assert copy.flags == ("--exclude=\u00c3\u00a9", "--exclude=\u00c3")
    assert copy.args == (".md", "é", "/é")
    assert reads("FROM x\nRUN --mount=type=bind,source=é,target=/m ls\n") == ["\u00c3\u00a9"]


def test_a_continuation_at_the_end_of_the_file_ends_with_its_line() -> None:
    (copy,) = parse("FROM x\nCOPY a b \\\n").stages[0].instructions
    assert (copy.args, copy.line, copy.end_line) == (("a", "b"), 2, 2)


@pytest.mark.parametrize(
    ("given", "on"),
    [("", True), ("=true", True), ("=TRUE", True), ("=True", True), ("=false", False), ("=FALSE", False)],
)
def test_flags_that_are_on_or_off_are_read_in_any_case(given: str, on: bool) -> None:
    """As BuildKit's BFlags: --link=TRUE."""
    (step,) = planned(f"FROM scratch\nCOPY --link{given} --parents{given} a/b /c\n").stages[0].steps
    assert isinstance(step, Copy)
    assert (step.link, step.parents) == (on, on)
    assert step.instruction.flag_names() == {"link", "parents"}


def test_a_json_form_is_what_go_takes_for_one() -> None:
    assert parse("FROM x\nCMD [NaN]\n").stages[0].instructions[0].args == ("[NaN]",)
    assert not parse(f"FROM x\nCMD {'[' * 100_000}\n").stages[0].instructions[0].json
    assert parse('FROM x\nCOPY \v["a", "b"]\n').stages[0].instructions[0].json


def test_a_syntax_line_is_found_behind_a_shebang_and_an_escape_is_not() -> None:
    found = parse("#!/usr/bin/docker\n# syntax=other/frontend\n# escape=`\nFROM x\n")
    assert (found.syntax, found.escape) == ("other/frontend", "\\")


def test_s5_directives_that_not_every_version_reads_count_as_the_whole_context() -> None:
    assert planned("# check=skip=all\n# escape=`\nFROM scratch\nCOPY a b\n").whole
    assert not planned("# escape=`\n# check=skip=all\nFROM scratch\nCOPY a b\n").whole


def test_s5_args_of_one_line_that_hang_on_each_other_are_not_guessed() -> None:
    """Docker 20.10 expands all of them with what held before the line, later ones go on from word to word."""
    assert planned("FROM scratch\nARG a=1 b=${a}2\nCOPY $b /\n").whole
    assert not planned("FROM scratch\nARG a=1\nARG b=${a}2 c=3\nCOPY $b /\n").whole


def test_a_stage_is_found_in_any_case() -> None:
    found = planned("FROM scratch AS Made\nFROM MADE\nCOPY --from=mADE /a /b\n", target=None)
    assert found.stages[1].base_stage == 0
    assert not found.bases


@pytest.mark.parametrize("number", ["-1", "1", "+7"])
def test_a_number_of_no_stage_above_is_refused(number: str) -> None:
    with pytest.raises(DockerfileError, match="needs to be defined before"):
        planned(f"FROM scratch\nFROM scratch\nCOPY --from={number} /a /b\n")


def test_heredocs() -> None:
    text = (
        "FROM x\n"
        "COPY <<one <<-'two' /d/\n1 $v\none\n\t2 $v\n\ttwo\n"
        "RUN <<EOF\nFROM not\nEOF\n"
        'RUN echo "<<EOF" && cat <<- B\n\tB\n'
        "COPY last .\n"
    )
    copy, first, second, last = parse(text).stages[0].instructions
    assert [(h.name, h.text, h.expand, h.chomp) for h in copy.heredocs] == [
        ("one", "1 $v\n", True, False),
        ("two", "2 $v\n", False, True),
    ]
    assert first.heredocs[0].content == "FROM not\n"
    assert second.heredocs[0].content == ""
    assert (last.line, last.text) == (12, "COPY last .")


def test_env_and_arg_forms() -> None:
    text = "FROM x\nENV a b c\nENV d=e f=\"g h\" i=j\\ k\nARG l m=n o='p q'\n"
    old, new, arg = parse(text).stages[0].instructions
    assert old.args == ("a", "b c")
    assert new.args == ("d", "e", "f", '"g h"', "i", "j\\ k")
    assert arg.args == ("l", "m=n", "o='p q'")


def test_onbuild_holds_an_instruction() -> None:
    found = parse("FROM x\nONBUILD COPY --chown=1 . /a\n").stages[0].instructions[0]
    assert found.trigger is not None
    assert (found.trigger.keyword, found.trigger.args, found.trigger.flags) == (
        "COPY",
        (".", "/a"),
        ("--chown=1",),
    )


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "no FROM"),
        ("RUN x\n", "Dockerfile:1: no build stage"),
        ("FROM a b\n", "Dockerfile:1: FROM requires either one or three"),
        ("FROM a AS 1b\n", "invalid name for build stage"),
        ("FROM x\nCOPY <<E /\nabc\n", "Dockerfile:2: unterminated heredoc"),
        ("FROM x\nENV a\n", "Dockerfile:2: ENV must have two arguments"),
        ("FROM x\nENV a=b c\n", "can't find = in 'c'"),
        ("# escape=x\nFROM x\n", "Dockerfile:1: invalid escape token"),
        ("FROM x\nCOPY [1]\n", "arrays must be comprised of strings only"),
        ("FROM x\nCOPY a\n", "Dockerfile:2: COPY requires at least two arguments"),
        ("FROM $a\n", "should not be blank"),
        ("FROM x\nCOPY --from=$a b c\n", "variable expansion is not supported for --from"),
        ("FROM x\nCOPY --from=b / /\nFROM x AS b\nFROM x\nCOPY --from=0 / /\n", "needs to be defined before"),
        ("FROM x\nCOPY ${a.b} c\n", "Dockerfile:2: failed to process"),
    ],
)
def test_mistakes_are_named_with_their_line(text: str, message: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        planned(text)
    assert message in caught.value.message


# --- variables -----------------------------------------------------------------------------------

VALUES = {"a": "1", "e": "", "p": "usr/local/lib.tar.gz", "s": "a*b"}


@pytest.mark.parametrize(
    "word, expected",
    [
        ("$a", "1"),
        ("${a}b$none", "1b"),
        ("\\$a", "$a"),
        ("'$a'", "$a"),
        ('"$a \\" \\x"', '1 " \\x'),
        ("${none:-$a}", "1"),
        ("${none-x}${e-x}${e:-y}", "xy"),
        ("${a:+set}${none:+set}${e+set}${e:+set}", "setset"),
        ("${none:-${e:-deep}}", "deep"),
        ("${p#*/}", "local/lib.tar.gz"),
        ("${p##*/}", "lib.tar.gz"),
        ("${p%.*}", "usr/local/lib.tar"),
        ("${p%%.*}", "usr/local/lib"),
        ("${p/l/L}", "usr/Local/lib.tar.gz"),
        ("${p//l/L}", "usr/LocaL/Lib.tar.gz"),
        ("${s#a\\*}", "b"),
        ("$1x", "x"),
        ("a$", "a$"),
        ("${a:?}", "1"),
        ("a\\ b", "a b"),
    ],
)
def test_expansion(word: str, expected: str) -> None:
    assert expand(word, VALUES.get) == expected


@pytest.mark.parametrize("word", ["${a", "${}", "${a:x}", "${none:?}", "${e:?why}", "'a", '"a', "${a:#x}"])
def test_bad_substitutions(word: str) -> None:
    with pytest.raises(ExpansionError):
        expand(word, VALUES.get)


def test_what_only_the_build_knows_is_marked() -> None:
    def nobody(name: str) -> str | None:
        raise UnresolvableError(name)

    with pytest.raises(UnresolvableError, match="dir"):
        expand("${dir:-x}", nobody)


# --- plans ---------------------------------------------------------------------------------------


def test_global_args_platform_args_and_defaults() -> None:
    text = (
        "ARG v=1\nARG img=base:${v}\nFROM --platform=$BUILDPLATFORM ${img} AS b\nFROM ${img}-${TARGETARCH}\n"
    )
    found = planned(text, args={"v": "2"}, build_platform="linux/amd64")
    assert [(b.ref, b.platform) for b in found.bases] == [("base:2-arm64", "")]
    found = planned(text, target="b", args={"img": "x"}, build_platform="linux/amd64")
    assert [(b.ref, b.platform) for b in found.bases] == [("x", "linux/amd64")]


def test_stage_args_shadow_and_inherit() -> None:
    text = "ARG d=one\nFROM scratch\nCOPY $d/x .\nARG d\nCOPY $d/y .\nARG f=$d-2\nENV g=$f\nCOPY $g/z .\n"
    assert reads(text) == ["x", "one/y", "one-2/z"]
    assert reads(text, args={"d": "two", "f": "three"}) == ["x", "two/y", "three/z"]


def test_env_of_one_line_sees_the_values_before_it() -> None:
    assert reads("FROM scratch\nENV a=1\nENV a=2 b=$a\nCOPY $a$b .\n") == ["21"]


def test_s5_unresolvable_counts_as_the_whole_context() -> None:
    found = planned("FROM x\nCOPY $APP/a .\n")
    assert [read.pattern for read in found.reads] == [""]
    assert found.whole == "line 2: what $APP holds is known only to the build"
    known = (Base("x", "sha256:1", (), ("APP=src",), "", ""),)
    assert reads("FROM x\nCOPY $APP/a .\n", bases=known) == ["src/a"]
    assert planned("FROM x\nCOPY $APP/a .\n", bases=known).whole == ""


def test_s5_names_on_which_versions_differ_are_not_guessed() -> None:
    assert planned("FROM scratch\nENV d=1\nARG d=2\nCOPY $d .\n").whole
    assert not planned("FROM scratch\nARG d=1\nENV d=2\nCOPY $d .\n").whole
    assert planned("FROM scratch AS a\nARG d=1\nFROM a\nCOPY $d .\n").whole


def test_s5_unknown_instruction_or_frontend_counts_as_the_whole_context() -> None:
    assert reads("FROM x\nMOUNT a b\n") == [""]
    assert reads("# syntax=acme/frontend:2\nFROM x\n") == [""]
    assert reads("# syntax=docker/dockerfile:1.7-labs\nFROM x\nCOPY a .\n") == ["a"]


def test_s5_reached_stages_copies_and_mounts() -> None:
    text = (
        "FROM golang AS Build\nCOPY go.mod ./\nRUN --mount=type=bind,src=vendor,target=/v "
        "--mount=target=/all,from=tools --mount=type=cache,target=/c make\n"
        "FROM unused\nCOPY never .\n"
        "FROM build AS mid\nCOPY mid .\n"
        "FROM nginx\nCOPY --from=mid /a /b\nCOPY --from=alpine:3 /etc /etc\nCOPY --from=0 x y\n"
        "ADD https://x.y/z git@github.com:a/b.git local /d/\n"
    )
    found = planned(text)
    assert sorted(found.stages) == [0, 2, 3]
    assert [read.pattern for read in found.reads] == ["go.mod", "vendor", "mid", "local"]
    assert {b.ref for b in found.bases} == {"golang", "tools", "nginx", "alpine:3"}
    assert [s.stage.index for s in planned(text, target="MID").chain()] == [0, 2]


def test_s5_onbuild_of_the_base_reads_the_context_and_brings_bases() -> None:
    base = Base("x", "sha256:1", ("COPY package.json /app/", "COPY --from=tools /t /t"))
    found = planned("FROM x\nCOPY src .\n", bases=(base,))
    assert [read.pattern for read in found.reads] == ["package.json", "src"]
    assert [b.ref for b in found.bases] == ["x", "tools"]
    first = found.stages[0].steps[0]
    assert isinstance(first, Copy)
    assert first.onbuild


def test_destinations_owners_and_workdirs() -> None:
    text = (
        "FROM scratch\nWORKDIR /srv\nWORKDIR app\nUSER 5:6\nCOPY a .\nCOPY --chown=1:2 --chmod=644 b c/\n"
        "COPY d /e\nWORKDIR ..\nCOPY f ./g\n"
    )
    steps = planned(text).stages[0].steps
    copies = [s for s in steps if isinstance(s, Copy)]
    assert [(c.destination, c.owner, c.mode) for c in copies] == [
        ("/srv/app/", "", ""),
        ("/srv/app/c/", "1:2", "644"),
        ("/e", "", ""),
        ("/srv/g", "", ""),
    ]
    assert [(s.path, s.user) for s in steps if isinstance(s, Workdir)] == [
        ("/srv", ""),
        ("/srv/app", ""),
        ("/srv", "5:6"),
    ]
    unknown = planned("FROM x\nCOPY a b\n").stages[0].steps[0]
    assert isinstance(unknown, Copy)
    assert unknown.destination is None


def test_run_mounts() -> None:
    run = (
        planned("FROM x\nRUN --mount=type=secret,id=s --mount=type=bind,from=y,source=/a,target=/b c\n")
        .stages[0]
        .steps[0]
    )
    assert isinstance(run, Run)
    assert [(m.type, m.source.image, m.path) for m in run.mounts] == [
        ("secret", None, ""),
        ("bind", "y", "/a"),
    ]


def test_unknown_target_lists_the_stages() -> None:
    with pytest.raises(DockerfileError) as caught:
        planned("FROM x AS a\nFROM y AS b\n", target="c")
    assert caught.value.hint == "stages: a, b"


def test_parents_count_the_directories_above() -> None:
    found = planned("FROM x\nCOPY --parents ./a/./b/**/*.py c/d.txt /x/\n").reads
    assert [(r.pattern, r.parents) for r in found] == [("a/b", True), ("c/d.txt", True)]
