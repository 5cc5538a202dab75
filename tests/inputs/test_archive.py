from __future__ import annotations

import hashlib
import io
import os
import tarfile
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from devloop import scratch
from devloop.adapters.build.context import FingerprintedTree
from devloop.dockerfile.dockerignore import IgnoreRules
from devloop.errors import BuildError, TreeMovedError
from devloop.inputs.archive import copy_context, read_dockerfile, read_ignore_file, tar_context
from devloop.inputs.fingerprinter import TreeFingerprinter
from devloop.model import BuildSpec, FileEntry, Fingerprint, Inputs, Service


def entry(root: Path, path: str) -> FileEntry:
    full = root / path
    found = full.lstat()
    if full.is_symlink():
        digest = hashlib.sha256(os.fsencode(full.readlink())).hexdigest()
        return FileEntry(path, "link", found.st_mode, found.st_size, found.st_mtime_ns, digest)
    if full.is_dir():
        return FileEntry(path, "dir", found.st_mode & 0o7777, 0, found.st_mtime_ns, "")
    digest = hashlib.sha256(full.read_bytes()).hexdigest()
    return FileEntry(path, "file", found.st_mode & 0o7777, found.st_size, found.st_mtime_ns, digest)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "src").mkdir(parents=True)
    (root / "src" / "run.sh").write_text("#!/bin/sh\n")
    (root / "src" / "run.sh").chmod(0o750)
    (root / "src" / "link").symlink_to("run.sh")
    (root / "secret.txt").write_text("no input")
    (root / "Dockerfile").write_text("FROM scratch\n")
    os.utime(root / "src", ns=(1_000_000_001, 1_000_000_001))
    return root


def inputs(root: Path) -> Inputs:
    files = {path: entry(root, path) for path in ("src", "src/run.sh", "src/link", "secret.txt")}
    digest = hashlib.sha256((root / "Dockerfile").read_bytes()).hexdigest()
    return Inputs(files, (), "linux/amd64", digest, "")


def test_s8_a_copy_has_the_inputs_with_modes_times_and_links(tree: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy_context(tree, inputs(tree), copy)
    assert sorted(path.relative_to(copy).as_posix() for path in copy.rglob("*")) == [
        "secret.txt",
        "src",
        "src/link",
        "src/run.sh",
    ]
    assert (copy / "src" / "link").readlink() == Path("run.sh")
    for path in ("src", "src/run.sh"):
        there, here = (tree / path).stat(), (copy / path).stat()
        assert (here.st_mode, here.st_mtime_ns) == (there.st_mode, there.st_mtime_ns), path
    assert (copy / "src" / "run.sh").read_bytes() == (tree / "src" / "run.sh").read_bytes()


def test_s9_a_directory_that_is_left_out_comes_along_with_what_is_taken_back(tree: Path) -> None:
    """With its mode: unpacked without it, it would have the server's."""
    (tree / "src").chmod(0o700)
    packed = b"".join(tar_context(tree, inputs(tree), IgnoreRules.parse("src\nsecret.txt\n!src/link\n")))
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        assert {one.name: one.mode for one in archive} == {"src": 0o700, "src/link": 0o777}


@pytest.mark.parametrize("text", ["#!/bin/sh\n# longer", "", None])
def test_s8_a_file_that_moved_aborts_the_copy(tree: Path, tmp_path: Path, text: str | None) -> None:
    taken = inputs(tree)
    (tree / "src" / "run.sh").unlink()
    if text is not None:
        (tree / "src" / "run.sh").write_text(text)
    with pytest.raises(TreeMovedError, match=r"src/run\.sh changed"):
        copy_context(tree, taken, tmp_path / "copy")


def test_s8_a_dockerfile_that_moved_is_not_read(tree: Path) -> None:
    taken = inputs(tree)
    assert read_dockerfile(tree / "Dockerfile", taken) == b"FROM scratch\n"
    (tree / "Dockerfile").write_text("FROM other\n")
    with pytest.raises(TreeMovedError):
        read_dockerfile(tree / "Dockerfile", taken)


@pytest.mark.parametrize("name", ["Dockerfile.dockerignore", ".dockerignore"])
def test_s8_an_ignore_file_that_moved_is_not_read(tree: Path, name: str) -> None:
    spec = BuildSpec(tree, tree / "Dockerfile")
    without = inputs(tree)
    assert read_ignore_file(spec, without) is None
    (tree / name).write_text("a\n")
    with pytest.raises(TreeMovedError):
        read_ignore_file(spec, without)
    taken = replace(without, ignore_digest=hashlib.sha256(b"a\n").hexdigest())
    assert read_ignore_file(spec, taken) == b"a\n"
    (tree / name).unlink()
    with pytest.raises(TreeMovedError):
        read_ignore_file(spec, taken)


@pytest.mark.parametrize("made", [False, True])
async def test_no_space_for_a_copy_is_an_error_of_the_build(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: bool
) -> None:
    """TMPDIR cannot be written to: before devloop has its folder there, and after."""
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(scratch, "_own", own := scratch._Own())
    if made:
        monkeypatch.setattr(own, "path", lambda: tmp_path / "file")
    else:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file"))
    service = Service("app", "app", BuildSpec(tree, tree / "Dockerfile"), ())
    fingerprint = Fingerprint("0" * 64, inputs(tree))
    with pytest.raises(BuildError, match=r"the copy of the context of app: .*directory") as caught:
        async with FingerprintedTree(cast(TreeFingerprinter, None)).copy(service, fingerprint):
            pass
    assert caught.value.reason == "DiskFailed"


async def test_a_full_disk_of_who_uses_a_copy_is_not_called_the_copys(tree: Path) -> None:
    service = Service("app", "app", BuildSpec(tree, tree / "Dockerfile"), ())
    fingerprint = Fingerprint("0" * 64, inputs(tree))
    with pytest.raises(OSError, match="theirs"):
        async with FingerprintedTree(cast(TreeFingerprinter, None)).copy(service, fingerprint):
            raise OSError("theirs")


def test_a_fifo_in_the_place_of_an_ignore_file_is_a_tree_that_moved(tree: Path) -> None:
    """It may come between the look at the tree and the build; nobody writes to it."""
    taken = inputs(tree)
    os.mkfifo(tree / ".dockerignore")
    with pytest.raises(TreeMovedError):
        read_ignore_file(BuildSpec(tree, tree / "Dockerfile"), taken)
