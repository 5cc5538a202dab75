"""Which image the next delta stands on, where nothing had to be built."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import anyio

from devloop.adapters.build.builder import ImageBuilder
from devloop.adapters.delta.keeper import ParentKeeper
from devloop.adapters.delta.parents import ParentStore
from devloop.adapters.docker.engine import Engine
from devloop.delta.delta import Parent
from devloop.delta.layer_index import Layer, Layers
from devloop.model import Fingerprint, Image, Inputs

CONFIG = b'{"rootfs": {"diff_ids": ["sha256:1"]}}'
IMAGE = Image(
    "app",
    Fingerprint("0" * 16, Inputs({}, (), "linux/amd64", "", "")),
    "app:dl-0",
    "sha256:" + hashlib.sha256(CONFIG).hexdigest(),
    "reused",
    1,
)
PARENT = Parent("recipe", CONFIG, ("sha256:1",), Layers((Layer({}),)), 1)


def keeper(store: ParentStore) -> ParentKeeper:
    nobody: Any = None
    return ParentKeeper(cast(ImageBuilder, nobody), cast(Engine, nobody), store, lambda _: "")


async def test_a_found_image_whose_layers_are_on_disk_carries_the_next_delta(tmp_path: Path) -> None:
    await ParentStore(tmp_path).put("app", IMAGE.fingerprint.digest, PARENT)
    parents = keeper(ParentStore(tmp_path))  # as the next devloop starts
    await parents.found(IMAGE)
    standing = parents.standing("app")
    assert standing is not None
    assert (standing.ref, standing.parent.diff_ids) == ("app:dl-0", ("sha256:1",))
    assert parents.parents() == {"app:dl-0"}


async def test_a_found_image_that_nobody_has_read_is_learned(tmp_path: Path) -> None:
    parents = keeper(ParentStore(tmp_path))
    await parents.found(IMAGE)
    assert parents.standing("app") is None
    with anyio.fail_after(5):
        assert await parents.to_learn() == IMAGE


async def test_another_image_under_a_known_fingerprint_does_not_stand(tmp_path: Path) -> None:
    """What was written down is of another image: a delta on it would have other layers below."""
    await ParentStore(tmp_path).put("app", IMAGE.fingerprint.digest, PARENT)
    parents = keeper(ParentStore(tmp_path))
    await parents.found(replace(IMAGE, id="sha256:" + "1" * 64))
    assert parents.standing("app") is None


async def test_a_found_image_does_not_replace_what_stands(tmp_path: Path) -> None:
    """A revert: the image of the last edit, one layer more, is as good."""
    store = ParentStore(tmp_path)
    parents = keeper(store)
    await store.put("app", IMAGE.fingerprint.digest, PARENT)
    await parents.found(IMAGE)
    await parents.found(
        replace(IMAGE, ref="app:dl-1", fingerprint=replace(IMAGE.fingerprint, digest="1" * 16))
    )
    standing = parents.standing("app")
    assert standing is not None
    assert standing.ref == "app:dl-0"
