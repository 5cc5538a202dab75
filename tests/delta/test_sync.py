"""What of a delta can be written into a running container, with a row for each reason against it (S36)."""

from __future__ import annotations

import hashlib
import io
import tarfile

import pytest

from devloop.delta.layer_index import Layer, LayerNode, Layers
from devloop.delta.layer_writer import header, whiteout
from devloop.delta.sync import MOST_FILES, sync_files, times
from devloop.model import Refusal, SyncFiles

DIR = LayerNode("dir", 0o755, 0, 0, 50)
FILE = LayerNode("file", 0o644, 1001, 1002, 100, 3)
LINK = LayerNode("link", 0o777, 0, 0, 100, 0, "a.py")
BEFORE = Layers(
    (
        Layer({"app": DIR, "app/a.py": FILE, "app/old": LINK, "app/data": DIR}),
        Layer({"app/b.py": FILE, "app/c.py": LayerNode("hard", 0o644, 0, 0, 100, 0, "app/a.py")}),
    )
)


def layer(**nodes: LayerNode | None) -> bytes:
    """A delta's layer; names with / for __, None = a whiteout. Each file holds as many x as its size."""
    out = io.BytesIO()
    for name, node in {"app": DIR, **nodes}.items():
        path = name.replace("__", "/").replace("_py", ".py")
        if node is None:
            out.write(header(whiteout(path), LayerNode("file", 0, 0, 0)))
            continue
        out.write(header(path, node))
        out.write(b"x" * node.size + bytes(-node.size % tarfile.BLOCKSIZE))
    return out.getvalue() + bytes(2 * tarfile.BLOCKSIZE)


def later(node: LayerNode, seconds: int = 1) -> LayerNode:
    return LayerNode(node.kind, node.mode, node.uid, node.gid, node.mtime + seconds, node.size, node.link)


def owned_by(node: LayerNode, uid: int) -> LayerNode:
    return LayerNode(node.kind, node.mode, uid, node.gid, node.mtime, node.size, node.link)


def entries(found: SyncFiles) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(found.archive)) as archive:
        return {member.name: member for member in archive}


@pytest.mark.parametrize(
    ("changed", "written"),
    [
        ({"app__a_py": later(FILE)}, ["app/a.py"]),
        ({"app__new_py": FILE}, ["app/new.py"]),
        ({"app__old": LINK}, ["app/old"]),
        ({"app__sub": DIR, "app__sub__new_py": FILE}, ["app/sub", "app/sub/new.py"]),
        ({"app__data": later(DIR), "app__data__new_py": FILE}, ["app/data/new.py"]),
        ({}, []),
    ],
    ids=["changed", "new", "link", "in a new directory", "in a directory that is there", "nothing"],
)
def test_s36_new_and_changed_files_and_links_are_written(
    changed: dict[str, LayerNode], written: list[str]
) -> None:
    found = sync_files(layer(**changed), BEFORE, {})
    assert isinstance(found, SyncFiles), found
    assert list(entries(found)) == written
    assert list(found.paths) == [path for path in written if path != "app/sub"]
    assert "app" in found.folders or not changed


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"app__a_py": None}, "deleted"),
        ({"app__new_py": FILE, "app__data": None}, "deleted"),
        ({"app__a_py": LINK}, "kind"),
        ({"app__old": FILE}, "kind"),
        ({"app__c_py": FILE}, "kind"),
        ({"app__data": FILE}, "kind"),
        ({"app__a_py": DIR}, "kind"),
        ({"app__data": owned_by(DIR, 7)}, "kind"),
        ({f"app__n{number}": FILE for number in range(MOST_FILES + 1)}, "many_files"),
    ],
    ids=[
        "a file that is gone",
        "a directory that is gone",
        "a file that is a link now",
        "a link that is a file now",
        "a hard link",
        "a directory that is a file now",
        "a file that is a directory now",
        "another owner of a directory",
        "too many",
    ],
)
def test_s36_what_cannot_be_written_has_its_reason(changed: dict[str, LayerNode | None], reason: str) -> None:
    found = sync_files(layer(**changed), BEFORE, {})
    assert isinstance(found, Refusal), found
    assert found.reason == reason
    assert found.message


def test_s36_owner_mode_and_content_are_those_of_the_image() -> None:
    found = sync_files(layer(app__new_py=FILE, app__old=LINK), BEFORE, {})
    assert isinstance(found, SyncFiles), found
    member = entries(found)["app/new.py"]
    assert (member.uid, member.gid, member.mode, member.mtime) == (1001, 1002, 0o644, 100)
    first, second = found.files
    assert (first.digest, first.link) == (hashlib.sha256(b"xxx").hexdigest(), "")
    assert (second.digest, second.link) == ("", "a.py")


def test_s36_each_file_gets_a_later_time_than_it_had() -> None:
    """Python, for one, takes the compiled file of the same time and size for the same file; and servers that
    reload by time look for later ones."""
    changed = layer(app__a_py=FILE)
    first = sync_files(changed, BEFORE, {})
    assert isinstance(first, SyncFiles)
    assert times(first) == {"app/a.py": 101}
    second = sync_files(changed, BEFORE, times(first))
    assert isinstance(second, SyncFiles)
    assert times(second) == {"app/a.py": 102}
    third = sync_files(layer(app__a_py=later(FILE, 500)), BEFORE, times(second))
    assert isinstance(third, SyncFiles)
    assert times(third) == {"app/a.py": 600}
