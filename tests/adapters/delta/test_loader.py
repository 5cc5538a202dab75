"""What is learned in the background may fail; what comes next is learned all the same."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import anyio
import pytest

from devloop.adapters.delta.builder import DeltaBuilder
from devloop.adapters.delta.loader import DeltaLoader
from devloop.errors import LayersMissingError, LoadError
from devloop.model import Archive, Fingerprint, Image, Inputs, LoadedImage
from devloop.ports import Loader


class Builder:
    """Has two images to be learned; the first one's learning fails."""

    def __init__(self, fault: Exception) -> None:
        self.keeper = self
        self._fault: Exception | None = fault
        self._images: Iterator[Image] = iter([image("one"), image("two")])
        self.learned: list[str] = []
        self.done = anyio.Event()

    async def write(self) -> None:
        await anyio.sleep_forever()

    async def to_learn(self) -> Image:
        for one in self._images:
            return one
        self.done.set()
        await anyio.sleep_forever()
        raise AssertionError

    async def learn(self, one: Image, _: Any) -> None:
        if self._fault is not None:
            fault, self._fault = self._fault, None
            raise fault
        self.learned.append(one.ref)


def image(ref: str) -> Image:
    return Image(
        "app", Fingerprint("0" * 16, Inputs({}, (), "linux/amd64", "", "")), ref, "sha256:0", "cli", 1
    )


class Nothing:
    async def load(self, one: Image) -> None:
        raise AssertionError


@pytest.mark.parametrize(
    "fault", [OSError(errno.ENOSPC, "No space left on device"), LoadError("the engine is busy")]
)
async def test_a_disk_without_space_for_layers_costs_only_that_image(fault: Exception) -> None:
    builder = Builder(fault)
    loader = DeltaLoader(cast(Loader, Nothing()), cast(DeltaBuilder, builder))
    async with anyio.create_task_group() as group:
        group.start_soon(loader.run)
        with anyio.fail_after(10):
            await builder.done.wait()
        group.cancel_scope.cancel()
    assert builder.learned == ["two"]


class Refusing:
    """A loader that brings nothing."""

    def __init__(self, error: LoadError) -> None:
        self._error = error

    async def load(self, _: Image) -> LoadedImage:
        raise self._error


DELTA = replace(image("app:dl-1"), how="delta", archive=Archive(b"{}", b"", ("sha256:1", "sha256:2")))


@pytest.mark.parametrize(
    ("loaded", "error", "kind"),
    [
        (DELTA, LoadError("no such layer", reason="LoadRefused", hint="h"), LayersMissingError),
        (DELTA, LoadError("disk is full", reason="DiskFull", hint="h"), LoadError),
        (image("app:dl-2"), LoadError("refused", reason="LoadRefused", hint="h"), LoadError),
    ],
    ids=["a delta", "a full disk", "a full build"],
)
async def test_only_a_delta_that_does_not_load_asks_for_a_full_build(
    loaded: Image, error: LoadError, kind: type[LoadError]
) -> None:
    loader = DeltaLoader(cast(Loader, Refusing(error)), cast(DeltaBuilder, Builder(error)))
    with pytest.raises(LoadError) as caught:
        await loader.load(loaded)
    assert type(caught.value) is kind
    assert (caught.value.message, caught.value.reason, caught.value.hint) == (
        error.message,
        error.reason,
        error.hint,
    )
