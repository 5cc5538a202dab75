"""Docker's ignore rules, against a table and against the real BuildKit."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devloop.dockerfile import dockerignore, ignore_pattern
from devloop.dockerfile.dockerignore import NO_RULES, IgnoreRules, candidates
from devloop.dockerfile.go_regexp import BadPatternError, UnsureError, compile_go
from devloop.errors import FingerprintError
from tests.support.buildkit import RefusedError, build, docker_cli

# The fifteen cases in which docker-py was compared with BuildKit; it gets those marked * wrong.
TABLE = [
    ("*case counts", "README.MD", {"readme.md": True, "README.MD": False}),
    (
        "*taken back at depth",
        "src\n!**/keep.txt",
        {"src/a/keep.txt": True, "src/keep.txt": True, "src/x": False},
    ),
    (
        "*one child taken back",
        "**/node_modules\n!a/b/node_modules/keep.js",
        {
            "a/b/node_modules/keep.js": True,
            "a/b/node_modules/other.js": False,
            "node_modules/x": False,
            "a/c/node_modules/keep.js": False,
        },
    ),
    ("*negated class", "[^a].txt", {"a.txt": True, "b.txt": False}),
    ("*bang in a class", "[!a].txt", {"a.txt": False, "!.txt": False, "b.txt": True}),
    ("*escaped star", "\\*.txt", {"*.txt": False, "a.txt": True}),
    ("*indented hash", "  #x", {"#x": False, "y": True}),
    ("*byte order mark", "\ufeffa.txt", {"a.txt": False, "b.txt": True}),
    ("*stars glued to a suffix", "**.pyc", {"a.pyc": False, "d/e/b.pyc": False, "a.py": True}),
    ("comment", "#x\ny", {"#x": True, "y": False}),
    ("leading slash", "/top", {"top": False, "d/top": True}),
    ("star stops at a slash", "*.log", {"a.log": False, "d/a.log": True}),
    ("question mark", "a?c", {"abc": False, "a/c": True, "ac": True}),
    ("last one wins", "*.md\n!README.md\nREADME*", {"README.md": False, "a.md": False, "b.txt": True}),
    ("round brackets", "app/(x)", {"app/(x)/p.tsx": False, "app/x/p.tsx": True, "app/(x": True}),
    ("plus", "a+b", {"a+b": False, "aab": True}),
    ("braces", "a{2}", {"a{2}": False, "aa": True}),
    ("bar", "a|b", {"a|b": False, "a": True, "xb": True, "x": True}),
    ("directory with all below", "d/", {"d/x": False, "d/e/f": False, "dd": True}),
    ("bang behind a dot", "*.txt\n./!a.txt", {"a.txt": True, "b.txt": False, "!a.txt": False}),
    ("bang behind a slash", "*.txt\n/!a.txt", {"a.txt": True, "b.txt": False}),
    ("named again after a part was taken back", "d\n!d/a\nd", {"d/a": True, "d/b": False}),
    ("left out again by another line", "*\n!**/a\n*\n*/b", {"d/a": True, "d/b": False, "c": False}),
]


@pytest.mark.parametrize("text, files", [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_s5_table_of_cases(text: str, files: dict[str, bool]) -> None:
    rules = IgnoreRules.parse(text)
    assert {path: not rules.matches(path) for path in files} == files


@pytest.mark.engine
@pytest.mark.parametrize("text, files", [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_s5_table_of_cases_is_what_buildkit_does(text: str, files: dict[str, bool], tmp_path: Path) -> None:
    context = tmp_path / "context"
    for path in files:
        (context / path).parent.mkdir(parents=True, exist_ok=True)
        (context / path).write_text("x")
    (context / ".dockerignore").write_text(text)
    built, rules = build(context), IgnoreRules.parse(text)
    assert not [path for path in files if path in built and rules.leaves_out(path)]
    settled = {path for path in files if not rules.disputed(path)}
    assert {path: path in built for path in settled} == {path: files[path] for path in settled}


def test_only_20_10s_own_readings_are_disputed() -> None:
    disputed = {
        (text, path) for _, text, files in TABLE for path in files if IgnoreRules.parse(text).disputed(path)
    }
    assert disputed == {
        ("src\n!**/keep.txt", "src/a/keep.txt"),
        ("src\n!**/keep.txt", "src/keep.txt"),
        ("**/node_modules\n!a/b/node_modules/keep.js", "a/b/node_modules/other.js"),
        ("**.pyc", "a.pyc"),
        ("**.pyc", "d/e/b.pyc"),
        ("app/(x)", "app/(x)/p.tsx"),
        ("app/(x)", "app/x/p.tsx"),
        ("a+b", "a+b"),
        ("a+b", "aab"),
        ("a{2}", "a{2}"),
        ("a{2}", "aa"),
        ("a|b", "a"),
        ("a|b", "xb"),
        ("d\n!d/a\nd", "d/a"),
        ("*\n!**/a\n*\n*/b", "d/a"),
    }


@pytest.mark.parametrize("path", ["aa", "a{1,2}", "(b)", "b", "c+d", "ccd"])
def test_s5_no_edit_is_lost_with_any_command(path: str) -> None:
    rules = IgnoreRules.parse("a{1,2}\n(b)*\nc+d\n")
    assert rules.disputed(path)
    assert not rules.leaves_out(path)


def test_s5_bars_and_braces_are_escaped_by_no_command() -> None:
    """Beside a wildcard: without one, newer commands compare the text."""
    rules = IgnoreRules.parse("x{2}*\na|b?\n")
    for path, out in (("xx", True), ("x{2}", False), ("anything-b1", True), ("a", True), ("c", False)):
        assert (rules.matches(path), rules.disputed(path)) == (out, False), path


def test_s5_what_is_undecidable_counts_as_an_input() -> None:
    rules = IgnoreRules.parse("node_modules\n(a*)+*\n")
    assert rules.leaves_out("node_modules/x")
    assert not rules.leaves_out("(a*)+*")
    assert not rules.leaves_out("aa")
    assert rules.disputed("aa")
    refused = IgnoreRules.parse("node_modules\n!keep\na{2}{2}*\n!z{2}{2}*\n")  # if docker comes to it
    assert not refused.leaves_out("node_modules/x")
    assert refused.disputed("elsewhere")  # no delta is made with such a rule


@pytest.mark.parametrize("line", ["!", "a[", "a[]", "a[x-]", "\\", "[", "a[\\"])
def test_bad_pattern_names_its_line(line: str) -> None:
    with pytest.raises(FingerprintError, match=r"\.dockerignore:2: "):
        IgnoreRules.parse(f"ok\n{line}\n")


def test_dockerfiles_own_ignore_file_comes_first() -> None:
    assert candidates(Path("/c"), Path("/d/api.Dockerfile")) == (
        Path("/d/api.Dockerfile.dockerignore"),
        Path("/c/.dockerignore"),
    )


@pytest.mark.parametrize(
    "text, directory, descend",
    [
        ("node_modules", "node_modules", False),
        ("node_modules\n!src", "node_modules", False),
        ("node_modules\n!src", "src", True),
        ("a\n!a/b/keep", "a", True),
        ("a\n!a/b/keep", "a/c", False),
        ("a\n!a/b/keep", "a/b", True),
        ("a\n!**/keep", "a/x/y", True),
        ("a\n!*/keep", "a", True),
        ("a\n!*/keep", "a/b", False),
        ("!ab/keep\na", "a", False),
        ("*\n!src/**", "src", True),
        ("*\n!src/**", "other", False),
        ("*\n!src/*.py", "src/sub", False),
    ],
)
def test_prunes_only_what_cannot_come_back(text: str, directory: str, descend: bool) -> None:
    assert IgnoreRules.parse(text).may_descend(directory) is descend


def test_the_context_itself_is_never_ignored() -> None:
    rules = IgnoreRules.parse("*\n**\n.")
    assert not rules.matches("")
    assert not rules.matches(".")
    assert not NO_RULES.matches("x")


NAMES = r"""
a b ab c.py x.md .e é [a] #x a* (a) a+b aab aa a|b {a} a{2} a$ ^a a(b)+ a\b ..a ab)
"""
PARTS = r"""
a b ab * ? ** *.py [ab] [^a] a* **b c.py .* x.md \[a\] [a-c]* (a) a+b a+ a|b {a} a{2} a{,2} (a|b) a(b)+ a$ ^a
(a a) +a a++ [(+]a \(a\) é . .. a{1,2}* (*) **) a\\b [[:alpha:]]+ a{,} a{2}{2} a{x} (a)* ()
"""
_NAMES = st.sampled_from([*NAMES.split(), "a b", "\ufeffa", "a\x1c"])
_PARTS = st.sampled_from([*PARTS.split(), "\ufeffa"])
_RULE = st.tuples(
    st.sampled_from(["", "", "", "!", "!", "/", "! ", " ", "\ufeff"]),
    st.lists(_PARTS, min_size=1, max_size=3),
    st.sampled_from(["", "", "", "/", "\r", " ", "//"]),
).map(lambda made: made[0] + "/".join(made[1]) + made[2])
_TREE = st.sets(st.lists(_NAMES, min_size=1, max_size=3).map("/".join), min_size=1, max_size=14)


def _plant(context: Path, paths: set[str]) -> set[str]:
    planted = set()
    for path in sorted(paths):
        target = context / path
        if any(parent.is_file() for parent in target.parents) or target.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("x")
        planted.add(path)
    return planted


@pytest.mark.engine
@pytest.mark.slow
@pytest.mark.timeout(300)
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(rules=st.lists(_RULE, min_size=1, max_size=4), paths=_TREE)
def test_s5_generated_rules_choose_what_buildkit_chooses(rules: list[str], paths: set[str]) -> None:
    compare(rules, paths)


@pytest.mark.exhaustive
@pytest.mark.engine
@pytest.mark.slow
@pytest.mark.timeout(1200)
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(rules=st.lists(_RULE, min_size=1, max_size=4), paths=_TREE)
def test_s5_many_generated_rules_choose_what_buildkit_chooses(rules: list[str], paths: set[str]) -> None:
    compare(rules, paths)


@pytest.mark.engine
def test_s5_a_wrong_reading_of_2010_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: it escapes what newer commands do. Only that command can show it."""
    version = subprocess.run([docker_cli(), "--version"], capture_output=True, text=True, check=True).stdout
    monkeypatch.setattr(ignore_pattern, "_ESCAPED_BY_2010", frozenset(".+()|{}$"))
    monkeypatch.setattr(dockerignore, "_READ_OTHERWISE", frozenset())
    found = []
    for rule, paths in (
        ("app/(x)", {"app/(x)/p"}),
        ("a+b", {"a+b", "aab"}),
        ("a{2}", {"aa"}),
        ("a|b", {"xb"}),
    ):
        try:
            compare([rule], paths)
        except AssertionError:
            found.append(rule)
    assert len(found) == (4 if "version 20.10" in version else 0)


def compare(rules: list[str], paths: set[str]) -> str:
    """Raises AssertionError where devloop reads rules otherwise than the docker command."""
    home = Path(tempfile.mkdtemp())
    try:
        context = home / "context"
        context.mkdir()
        planted = _plant(context, paths)
        (context / ".dockerignore").write_bytes("\n".join(rules).encode())
        try:
            compiled = IgnoreRules.parse("\n".join(rules))
        except FingerprintError:
            with pytest.raises(RefusedError):
                build(context)
            return "refused by both"
        try:
            built = build(context)
        except RefusedError:
            # 20.10 refuses more than newer commands do
            assert any(may_be_refused(pattern.text) for pattern in compiled.patterns), rules
            return "refused"
        expected = {path for path in planted if path in built}
        settled = {path for path in planted if not compiled.disputed(path)}
        assert {path for path in settled if not compiled.matches(path)} == expected & settled, rules
        # No file of the image may be missing from the inputs, none lie behind a pruned directory.
        for path in expected:
            assert not compiled.leaves_out(path), (rules, path)
            for parent in list(Path(path).parents)[:-1]:
                assert compiled.may_descend(str(parent)), (rules, path)
        return "same" if settled == planted else "disputed in part"
    finally:
        shutil.rmtree(home)


def may_be_refused(text: str) -> bool:
    """Is it none of Go's regular expressions where nothing is escaped, as far as devloop knows?"""
    try:
        compile_go(ignore_pattern.translate(text, frozenset(".$"))[1])
    except (BadPatternError, UnsureError):
        return True
    return False


def test_non_utf8_names_match() -> None:
    name = os.fsdecode(b"d/\xff\xfe.log")
    assert IgnoreRules.parse("d/*.log").matches(name)
    assert IgnoreRules.parse("d/??.log").matches(name)
    assert not IgnoreRules.parse("d/?.log").matches(name)
