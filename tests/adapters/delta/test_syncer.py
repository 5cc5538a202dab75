"""From a saved file to the file in a running container, by what that holds, not by what an image holds."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from devloop.adapters.delta.syncer import ContainerSyncer
from devloop.errors import SyncError
from devloop.model import Fingerprint, PodToUpdate, Refusal, SyncFiles
from devloop.synced import SyncedContainers
from tests.support.file_to_node import Pipeline

pytestmark = pytest.mark.engine


def docker(*words: str) -> str:
    return subprocess.run(("docker", *words), capture_output=True, text=True, check=True).stdout.strip()


class Bound:
    """A container of an image of the pipeline, and what writes into it."""

    def __init__(self, pipeline: Pipeline, container: str, content: str) -> None:
        self._pipeline, self.content = pipeline, content
        self.container = container
        self.pod = PodToUpdate("web-0", "uid", (), f"docker://{container}", "node")
        self.syncer = ContainerSyncer(pipeline.builder, pipeline.loader._inner, SyncedContainers())  # type: ignore[arg-type]

    async def files(self, *paths: str) -> tuple[Fingerprint, SyncFiles | Refusal]:
        taken = await self._pipeline.fingerprint(*paths)
        return taken, await self.syncer.files(self._pipeline.service, taken, self.content)

    async def sync(self, *paths: str) -> tuple[str, ...]:
        """What was written."""
        taken, files = await self.files(*paths)
        assert isinstance(files, SyncFiles), files
        assert await self.syncer.refuse(self.pod, files, "none") is None
        await self.syncer.put(self.pod, files, "none")
        self.syncer.hold(self._pipeline.service, taken, files)
        self.content = taken.digest
        return files.paths

    def shows(self, path: str) -> str:
        return docker("exec", self.container, "cat", path)


@asynccontextmanager
async def running(pipeline: Pipeline) -> AsyncIterator[Bound]:
    """The first image, in full, known in every layer, and a container of it."""
    first = (await pipeline.trip()).image
    words = ("--network", "none", first.ref, "sh", "-c", "while :; do sleep 0.1; done")
    container = docker("run", "-d", *words)
    try:
        yield Bound(pipeline, container, first.fingerprint.digest)
    finally:
        docker("rm", "-f", container)


async def test_s36_a_save_is_in_the_container_before_any_image_is_built(pipeline: Pipeline) -> None:
    async with running(pipeline) as ours:
        pipeline.write("src/main.py", "two")
        pipeline.write("src/new/file.py", "new")
        assert await ours.sync("src/main.py", "src/new/file.py") == (
            "app/src/main.py",
            "app/src/new/file.py",
        )
        assert (ours.shows("/app/src/main.py"), ours.shows("/app/src/new/file.py")) == ("two", "new")


async def test_s36_a_superseded_edit_that_is_taken_back_is_taken_back_in_the_container(
    pipeline: Pipeline,
) -> None:
    """No node ever had its image: the next delta stands on the first one, the files do not."""
    async with running(pipeline) as ours:
        pipeline.write("src/main.py", "two")
        await ours.sync("src/main.py")
        pipeline.write("src/main.py", "one")
        pipeline.write("src/other.py", "another")
        assert await ours.sync("src/main.py", "src/other.py") == ("app/src/main.py", "app/src/other.py")
        assert (ours.shows("/app/src/main.py"), ours.shows("/app/src/other.py")) == ("one", "another")
        image = await pipeline.builder.build(pipeline.service, await pipeline.fingerprint())
        assert image.how == "delta"


async def test_s36_the_delta_of_the_image_is_made_once_for_both(pipeline: Pipeline) -> None:
    async with running(pipeline) as ours:
        pipeline.write("src/main.py", "two")
        await ours.sync("src/main.py")
        made = pipeline.builder._last[pipeline.service.name][2]
        image = await pipeline.builder.build(pipeline.service, await pipeline.fingerprint())
        assert image.archive is made.archive  # type: ignore[union-attr]
        assert pipeline.builder._last == {}, "its bytes are kept no longer"


async def test_s36_what_cannot_be_synced_has_its_reason(pipeline: Pipeline) -> None:
    async with running(pipeline) as ours:
        (pipeline.service.build.context / "src/other.py").unlink()
        _, files = await ours.files("src/other.py")
        assert isinstance(files, Refusal)
        assert files.reason == "deleted"
        ours.content = "0" * 16
        _, files = await ours.files()
        assert isinstance(files, Refusal)
        assert files.reason == "unknown_content"
        pipeline.builder.keeper.forget(pipeline.service.name)
        _, files = await ours.files()
        assert isinstance(files, Refusal)
        assert files.reason == "not_delta"


async def test_s36_a_container_that_is_not_reached_from_here(pipeline: Pipeline) -> None:
    async with running(pipeline) as ours:
        pipeline.write("src/main.py", "two")
        _, files = await ours.files("src/main.py")
        assert isinstance(files, SyncFiles)
        for elsewhere in (
            PodToUpdate("web-0", "uid", (), ours.pod.instance, "another"),
            PodToUpdate("web-0", "uid", (), "containerd://abc", "node"),
        ):
            refusal = await ours.syncer.refuse(elsewhere, files, "none")
            assert refusal is not None
            assert refusal.reason == "no_access"
            with pytest.raises(SyncError):
                await ours.syncer.put(elsewhere, files, "none")
        assert await ours.syncer.runs(ours.pod)
