"""Which files a build reads, against the real BuildKit; and a tree kept current by single paths."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from devloop.dockerfile.dockerignore import IgnoreRules
from devloop.dockerfile.parser import Dockerfile
from devloop.dockerfile.planner import plan
from devloop.errors import FingerprintError
from devloop.inputs import snapshot as tree
from devloop.inputs.selection import Selection
from devloop.inputs.stat_cache import StatCache
from tests.support.buildkit import RefusedError, build


def no_check() -> None:
    pass


def selection(dockerfile: str, ignored: str = "") -> Selection:
    planned = plan(Dockerfile.parse(dockerfile), target=None, args={}, platform="linux/amd64")
    return Selection.of(planned.reads, IgnoreRules.parse(ignored))


def read(context: Path, dockerfile: str, ignored: str = "") -> tree.Tree:
    cache = StatCache(context.parent / "state" / "stats.db")
    return tree.read(context, selection(dockerfile, ignored), set(), cache, no_check)


def plant(context: Path, files: dict[str, str | None]) -> Path:
    """Files by content, links by "-> target", directories by None."""
    context.mkdir(exist_ok=True)
    for name, content in files.items():
        path = context / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.mkdir(exist_ok=True)
        elif content.startswith("-> "):
            path.symlink_to(content[3:])
        else:
            path.write_text(content)
    return context


TREE: dict[str, str | None] = {
    "a.py": "1",
    "b.py": "2",
    "a[1].txt": "3",
    "src/main.py": "4",
    "src/pkg/deep/x.py": "5",
    "src/pkg/y.txt": "6",
    "src/to-a": "-> ../a.py",
    "src/to-lib": "-> ../lib",
    "lib/one.py": "7",
    "lib/two/three.py": "8",
    "liblink": "-> lib",
    "filelink.py": "-> lib/one.py",
    "absolute": "-> /lib/two",
    "chain": "-> liblink/two",
    "escaping": "-> ../../../../lib",
    "out/log": "9",
    "empty": None,
    "x y/z w.py": "10",
}

# Dockerfile, ignore file, contents read, links that count.
CASES = [
    ("COPY . /o/", "", {*"123456789", "10"}, None),
    ("COPY a.py /o/", "", {"1"}, set()),
    ("COPY src /o/", "", set("456"), {"src/to-a", "src/to-lib"}),
    ("COPY *.py /o/", "", set("127"), {"filelink.py"}),
    ("COPY src/p*/y.txt /o/", "", {"6"}, set()),
    ("COPY src/p* /o/", "", set("56"), set()),
    ("COPY liblink /o/", "", set("78"), {"liblink"}),
    ("COPY liblink/two /o/", "", {"8"}, {"liblink"}),
    ("COPY absolute /o/", "", {"8"}, {"absolute"}),
    ("COPY chain /o/", "", {"8"}, {"chain", "liblink"}),
    ("COPY escaping /o/", "", set("78"), {"escaping"}),
    ("COPY src/to-lib/one.py /o/", "", {"7"}, {"src/to-lib"}),
    ("COPY filelink.py /o/", "", {"7"}, {"filelink.py"}),
    ("COPY ./src/../lib/./one.py ../../a.py /o/", "", set("17"), set()),
    ('COPY ["x y/z w.py", "/o/"]', "", {"10"}, set()),
    ("COPY a[[]1].txt /o/", "", {"3"}, set()),
    ("COPY [ab].py /o/", "", set("12"), set()),
    ("COPY ?.py /o/", "", set("12"), set()),
    ("COPY src lib /o/", "**/*.txt\nlib/two", set("457"), {"src/to-a", "src/to-lib"}),
    ("COPY . /o/", "*\n!src/pkg\n", set("56"), set()),
    ("COPY src /o/", "*\n!src\nsrc/pkg\n!src/pkg/y.txt", set("46"), {"src/to-a", "src/to-lib"}),
    ("ADD src/main.py a.py /o/", "", set("14"), set()),
    ("ARG d=src\nCOPY $d/pkg ${d}/main.py /o/", "", set("456"), set()),
]


@pytest.mark.parametrize("line, ignored, contents, links", CASES, ids=[case[0] for case in CASES])
def test_s5_reads_what_copy_copies(
    line: str, ignored: str, contents: set[str], links: set[str] | None, tmp_path: Path
) -> None:
    context = plant(tmp_path / "context", TREE)
    found = read(context, f"FROM scratch\n{line}\n", ignored)
    files = {p for p, entry in found.files.items() if entry.kind == "file"}
    assert {(context / path).read_text() for path in files} == contents
    if links is not None:
        assert {p for p, entry in found.files.items() if entry.kind == "link"} == links


@pytest.mark.engine
@pytest.mark.parametrize("line, ignored, contents", [c[:3] for c in CASES], ids=[case[0] for case in CASES])
def test_s5_reads_what_copy_copies_in_buildkit(
    line: str, ignored: str, contents: set[str], tmp_path: Path
) -> None:
    context = plant(tmp_path / "context", TREE)
    dockerfile = f"FROM scratch\n{line}\n"
    (tmp_path / "context.Dockerfile.dockerignore").write_text(ignored)
    built = {b.content.decode() for b in build(context, dockerfile).values() if b.type in ("file", "hard")}
    assert built - {""} == contents


@pytest.mark.engine
def test_s5_mounted_paths_count(tmp_path: Path) -> None:
    context = plant(tmp_path / "context", TREE)
    found = read(
        context, "FROM x\nRUN --mount=type=bind,source=lib,target=/m --mount=type=cache,target=/c ls\n"
    )
    assert set(found.files) == {"lib", "lib/one.py", "lib/two", "lib/two/three.py"}


def test_s5_only_reached_stages_count(tmp_path: Path) -> None:
    context = plant(tmp_path / "context", TREE)
    found = read(
        context, "FROM x AS a\nCOPY lib .\nFROM x AS b\nCOPY a.py .\nFROM x\nCOPY --from=b /a.py .\n"
    )
    assert set(found.files) == {"a.py"}


def test_s5_type_mode_target_and_empty_directories_count(tmp_path: Path) -> None:
    context = plant(tmp_path / "context", TREE)
    dockerfile = "FROM x\nCOPY . .\n"
    digests = [read(context, dockerfile).digest]

    def changed() -> bool:
        digests.append(read(context, dockerfile).digest)
        return digests[-1] != digests[-2]

    (context / "a.py").chmod(0o755)
    assert changed()
    (context / "liblink").unlink()
    (context / "liblink").symlink_to("src")
    assert changed()
    (context / "another").mkdir()
    assert changed()
    (context / "another").chmod(0o700)
    assert changed()
    (context / "b.py").unlink()
    (context / "b.py").symlink_to("a.py")
    assert changed()
    os.utime(context / "a.py", (1, 1))
    os.utime(context / "src", (1, 1))
    assert not changed()


@pytest.mark.engine
def test_s5_modes_are_kept_by_buildkit_as_they_are_here(tmp_path: Path) -> None:
    context = plant(tmp_path / "context", {"f": "1", "s": "2", "d/x": "3", "w": "4"})
    (context / "s").chmod(0o4755)
    (context / "d").chmod(0o1777)
    (context / "w").chmod(0o602)
    found = read(context, "FROM scratch\nCOPY . /o/\n").files
    built = build(context, "FROM scratch\nCOPY . /o/\n")
    assert {path: built[f"o/{path}"].mode for path in found} == {path: e.mode for path, e in found.items()}


def test_sockets_and_fifos_are_not_read(tmp_path: Path) -> None:
    context = plant(tmp_path / "context", {"a": "1"})
    os.mkfifo(context / "fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.fspath(context / "socket"))
        found = read(context, "FROM x\nCOPY . .\n").files
    assert {path: entry.digest == "" for path, entry in found.items()} == {
        "a": False,
        "fifo": True,
        "socket": True,
    }


def test_non_utf8_names(tmp_path: Path) -> None:
    context = plant(tmp_path / "context", {"a": "1"})
    name = os.fsdecode(b"\xff\xfe.py")
    (context / name).write_text("2")
    before = read(context, "FROM x\nCOPY *.py .\n")
    assert set(before.files) == {name}
    (context / name).write_text("3")
    after = before.updated([name], StatCache(tmp_path / "s"), no_check)
    assert after is not None
    assert after.digest != before.digest


def test_s7_a_link_to_the_whole_context_that_becomes_a_directory_is_read_again(tmp_path: Path) -> None:
    context = plant(tmp_path / "context", {"a": "1", "src/all": "-> ..", "src/x": "2"})
    before = read(context, "FROM x\nCOPY src/all /o/\n")
    assert set(before.files) == {"a", "src", "src/all", "src/x"}
    (context / "src/all").unlink()
    plant(context, {"src/all/inside": "3"})
    paths = ["src/all", "src/all/inside"]
    assert before.updated(paths, StatCache(tmp_path / "s"), no_check) is None  # look at everything


@pytest.mark.parametrize("source", ["src/to-a", "src/deep/to-lib/one.py", "src/deep/to-*"])
def test_s5_a_link_in_a_copied_directory_that_is_a_source_of_its_own_is_followed(
    source: str, tmp_path: Path
) -> None:
    files = {"a": "1", "lib/one.py": "2", "src/to-a": "-> ../a", "src/deep/to-lib": "-> /lib"}
    context = plant(tmp_path / "context", dict(files))
    before = read(context, f"FROM x\nCOPY src /o/\nCOPY {source} /p/\n")
    assert ("a" in before.files, "lib/one.py" in before.files) == (source == "src/to-a", source != "src/to-a")
    path = "a" if source == "src/to-a" else "lib/one.py"
    (context / path).write_text("3")
    assert before.selection.concerns(path)
    after = before.updated([path], StatCache(tmp_path / "s"), no_check)
    assert after is None or after.digest != before.digest
    assert read(context, f"FROM x\nCOPY src /o/\nCOPY {source} /p/\n").digest != before.digest


def test_links_that_go_in_circles_end(tmp_path: Path) -> None:
    context = plant(tmp_path / "context", {"a": "-> b", "b": "-> a", "c": "-> c/d", "ok": "1"})
    assert set(read(context, "FROM x\nCOPY a/x c ok .\n").files) == {"a", "b", "c", "ok"}


def test_unreadable_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    home = Path(tempfile.mkdtemp())
    home.chmod(0o755)
    context = plant(home / "context", {"ok": "1", "locked": "2"})
    (home / "state").mkdir(mode=0o777)
    (home / "state").chmod(0o777)
    (context / "locked").chmod(0)
    me = os.geteuid()
    if me == 0:
        os.seteuid(65534)
    try:
        with pytest.raises(FingerprintError, match=r"cannot read .*locked: Permission denied"):
            read(context, "FROM x\nCOPY . .\n")
        assert set(read(context, "FROM x\nCOPY . .\n", "locked").files) == {"ok"}
    finally:
        if me == 0:
            os.seteuid(0)
        shutil.rmtree(home)


def test_a_missing_context_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FingerprintError, match="is not a directory"):
        read(tmp_path / "nowhere", "FROM x\nCOPY . .\n")


def test_a_file_that_vanishes_in_mid_walk_is_not_there(tmp_path: Path) -> None:
    context = plant(tmp_path / "context", {f"d{i}/f": str(i) for i in range(10)})
    seen = []

    def delete_while_walking() -> None:
        seen.append(1)
        if len(seen) == 3:
            for directory in context.iterdir():
                shutil.rmtree(directory)

    cache = StatCache(tmp_path / "stats.db")
    found = tree.read(context, selection("FROM x\nCOPY . .\n"), set(), cache, delete_while_walking)
    assert len(found.files) < 20
    assert tree.read(context, found.selection, set(), cache, no_check).files == {}


def test_ignored_files_are_not_walked(tmp_path: Path) -> None:
    """Not even their folders are listed; bench/watching.py has 100,000 of them."""
    context = plant(tmp_path / "context", {"src/a.py": "1"})
    for i in range(10):
        directory = context / "node_modules" / str(i)
        directory.mkdir(parents=True)
        for j in range(10):
            (directory / str(j)).touch()
    found = read(context, "FROM x\nCOPY . .\n", "**/node_modules\n!src/**\n")
    assert set(found.files) == {"src", "src/a.py"}
    assert not [path for path in found.listed if path.startswith("node_modules")]


# --- kept current by single paths ----------------------------------------------------------------

DOCKERFILES = [
    "FROM x\nCOPY . .\n",
    "FROM x\nCOPY a b/c* .\n",
    "FROM x\nCOPY a/b .\nCOPY *.py l .\n",
    "FROM x\nCOPY l/a /x/\n",
]
IGNORES = ["", "a/b\n", "*\n!a/**\n", "**/c\n!a/c\n", "*.py\n!b/*.py\n", "a\n!a/b/c\n"]
_NAME = st.sampled_from(["a", "b", "c", "l", "x.py"])
_PATH = st.lists(_NAME, min_size=1, max_size=3).map("/".join)
_EDIT = st.tuples(st.sampled_from(["write", "mkdir", "delete", "chmod", "link", "move"]), _PATH, _PATH)


def _edit(context: Path, edit: tuple[str, str, str]) -> set[str]:
    """Do it on disk; the paths a watcher would report, by every path that leads there."""
    real = os.path.realpath(context)
    paths = {f"{os.path.realpath(context / Path(name).parent)}/{Path(name).name}" for name in edit[1:]}
    return _done(context, edit) | {path[len(real) + 1 :] for path in paths if path.startswith(f"{real}/")}


def _done(context: Path, edit: tuple[str, str, str]) -> set[str]:
    verb, name, other = edit
    path, second = context / name, context / other
    try:
        match verb:
            case "write" if not path.is_symlink():  # a watcher names the file, not the link to it
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(other)
            case "mkdir":
                path.mkdir(parents=True)
            case "delete":
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
            case "chmod" if not path.is_symlink():
                path.chmod(0o700)
            case "link":
                path.symlink_to(other)
            case "move":
                path.rename(second)
                return {name, other}
    except OSError:
        return {str(p) for p in [*Path(name).parents][:-1]} | {name}  # parents may have been made
    return {str(p) for p in [*Path(name).parents][:-1]} | {name}


def timeless(found: tree.Tree) -> dict[str, object]:
    """The files; the time of a directory, which changes with names that do not count, left out."""
    return {p: replace(e, mtime_ns=0) if e.kind == "dir" else e for p, e in found.files.items()}


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    dockerfile=st.sampled_from(DOCKERFILES),
    ignored=st.sampled_from(IGNORES),
    batches=st.lists(st.lists(_EDIT, min_size=1, max_size=3), min_size=1, max_size=6),
)
def test_s7_single_paths_give_what_a_full_walk_gives(
    dockerfile: str, ignored: str, batches: list[list[tuple[str, str, str]]]
) -> None:
    home = Path(tempfile.mkdtemp())
    try:
        context = plant(home / "context", {"a/b/c": "1", "b/c": "2", "x.py": "3"})
        cache, chosen = StatCache(home / "stats.db"), selection(dockerfile, ignored)
        current = tree.read(context, chosen, set(), cache, no_check)
        for batch in batches:
            paths = {path for edit in batch for path in _edit(context, edit)}
            now = current.updated(paths, cache, no_check)
            whole = tree.read(context, chosen, set(), StatCache(home / "never-written.db"), no_check)
            current = now or tree.read(context, chosen, paths, cache, no_check)
            assert timeless(current) == timeless(whole), (dockerfile, ignored, batches)
            assert current.digest == whole.digest
            assert current.unchanged(no_check)
    finally:
        shutil.rmtree(home)


@pytest.mark.engine
@pytest.mark.slow
@pytest.mark.timeout(300)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@example(sources=["*"], edits=[("write", "a/a", "a")])
@given(
    sources=st.lists(
        st.lists(
            st.sampled_from(["a", "b", "*", "l", "?.py", "[ab]", "a*", ".."]), min_size=1, max_size=3
        ).map("/".join),
        min_size=1,
        max_size=2,
    ),
    edits=st.lists(_EDIT, max_size=6),
)
def test_s5_generated_copies_read_what_buildkit_reads(
    sources: list[str], edits: list[tuple[str, str, str]]
) -> None:
    home = Path(tempfile.mkdtemp())
    try:
        context = plant(home / "context", {"a/b/c": "", "b/a": "", "x.py": "", "l": "-> a/b"})
        for edit in edits:
            _edit(context, edit)
        for path in context.rglob("*"):
            if path.is_file() and not path.is_symlink():
                path.write_text(str(path.relative_to(context)))
        lines = "".join(f"COPY {source} /o{n}/\n" for n, source in enumerate(sources))
        try:
            # A BuildKit of 20.10 takes a layer from its cache though the files that a wildcard finds behind a
            # link are others now.
            built = build(context, f"FROM scratch\n{lines}", "--no-cache")
        except RefusedError:
            return  # a source that is not there; nothing to compare
        files = {place: b for place, b in built.items() if b.type in ("file", "hard")}
        copied = {b.content.decode() for b in files.values()} - {""}
        found = read(context, f"FROM scratch\n{lines}").files
        wanted = {path for path, entry in found.items() if entry.kind == "file"}
        # "COPY * /o/" puts a/a and b/a in one place: of those that share it, only the last is to be seen.
        taken = tuple(f"/{place.partition('/')[2]}" for place in files)
        covered = {path for path in wanted - copied if f"/{path}".endswith(taken)}
        assert copied == wanted - covered, (sources, edits)
    finally:
        shutil.rmtree(home)
