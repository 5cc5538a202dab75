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
from devloop.model import FileEntry, Fingerprint, Image, Inputs

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


async def test_s27_what_was_built_on_stands_after_a_start_too(tmp_path: Path) -> None:
    """An image of a build that went on from a RUN is no parent itself: that is the full build below it."""
    first = ParentStore(tmp_path)
    await first.put("app", IMAGE.fingerprint.digest, PARENT)
    parents = keeper(first)
    await parents.found(IMAGE)
    entry = FileEntry("src/a", "file", 0o644, 1, 2, "d")
    newer = replace(IMAGE.fingerprint.inputs, files={"src/a": entry})
    continued = replace(
        IMAGE,
        ref="app:dl-1",
        id="sha256:" + "1" * 64,
        fingerprint=Fingerprint("1" * 16, newer),
        how="continued",
    )
    await parents.loaded(continued, None, stopped=False)
    for image, stands in ((continued, True), (replace(continued, id="sha256:" + "2" * 64), False)):
        again = keeper(ParentStore(tmp_path))  # as the next devloop starts
        await again.found(replace(image, how="reused"))
        standing = again.standing("app")
        assert (standing is not None) == stands
        if standing is not None:
            assert (standing.ref, standing.inputs) == ("app:dl-0", IMAGE.fingerprint.inputs)
            assert standing.parent == PARENT


async def test_an_edit_waits_for_the_parent_that_is_being_learned(tmp_path: Path) -> None:
    """And its own comes before those of others."""
    parents = keeper(ParentStore(tmp_path))
    parents.learner = True
    for name in ("other", "app"):
        await parents.found(replace(IMAGE, service=name))
    waited = anyio.Event()

    async def edit() -> None:
        await parents.awaited("app")
        waited.set()

    async with anyio.create_task_group() as group:
        group.start_soon(edit)
        await anyio.wait_all_tasks_blocked()
        image = await parents.to_learn()
        assert image.service == "app"
        assert not waited.is_set()
        await parents.learn(image, cast(Any, None))  # nobody knows the service: it is given up
        with anyio.fail_after(5):
            await waited.wait()
    await parents.awaited("app")  # nothing is under way: no wait
    await parents.awaited("nobody")
