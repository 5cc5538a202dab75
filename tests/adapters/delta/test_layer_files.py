"""The layers of `docker save`, as files: as both kinds of image store give them."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from devloop.adapters.archive.layer_files import _taken_apart
from devloop.errors import LoadError


def saved(folder: Path, layers: dict[str, bytes], diff_ids: list[str], links: dict[str, str]) -> Path:
    config = json.dumps({"rootfs": {"type": "layers", "diff_ids": diff_ids}}).encode()
    names = [*layers, *links]
    manifest = json.dumps([{"Config": "c.json", "Layers": names}]).encode()
    file = folder / "image.tar"
    with tarfile.open(file, "w") as archive:
        for name, content in {**layers, "c.json": config, "manifest.json": manifest}.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for name, target in links.items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
    return file


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def nothing() -> None:
    """Nobody has given up."""


def test_layers_as_they_are_packed_and_linked(tmp_path: Path) -> None:
    one, two = b"first layer" * 100, b"second layer" * 100
    layers = {"a/layer.tar": one, "blobs/sha256/b": gzip.compress(two)}
    file = saved(tmp_path, layers, [digest(one), digest(two), digest(one)], {"c/layer.tar": "../a/layer.tar"})
    found = _taken_apart(file, nothing)
    contents = [layer.path.read_bytes()[layer.start :] for layer in found]
    assert [content[: len(one)] for content in contents[::2]] == [one, one]
    assert contents[1] == two


@pytest.mark.parametrize("content", [b"something else", b""])
def test_a_layer_that_is_not_the_images_is_refused(tmp_path: Path, content: bytes) -> None:
    file = saved(tmp_path, {"a/layer.tar": content}, [digest(b"a layer")], {})
    with pytest.raises(LoadError):
        _taken_apart(file, nothing)
    with pytest.raises(LoadError):
        _taken_apart(saved(tmp_path, {"a/layer.tar": content}, [], {}), nothing)
