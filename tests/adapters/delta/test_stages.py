"""Deltas of what other stages bring, end to end below the cluster: real tree, real builds, real engine."""

from __future__ import annotations

import time

import anyio
import pytest

from devloop.adapters.archive import layer_files
from devloop.adapters.build.builder import ImageBuilder
from devloop.adapters.docker.engine import Engine
from devloop.delta import from_stage
from devloop.delta.layer_index import Layer
from devloop.errors import BuildError, TreeMovedError
from devloop.model import Image
from tests.support.file_to_node import Pipeline, shown

pytestmark = pytest.mark.engine

STAGES = """\
FROM {tiny} AS builder
WORKDIR /w
COPY src ./src
RUN mkdir -p out/deep && cat src/main.py > out/main && cat src/other.py > out/deep/other.py
RUN test ! -e src/broken
FROM {tiny} AS last
WORKDIR /app
COPY --from=builder /w/out ./
CMD ["sh"]
"""
EACH = "for file in src/*.py; do cat $file > out/deep/${file##*/}; done"


@pytest.fixture
async def staged(pipeline: Pipeline, tiny: str) -> Pipeline:
    """Built in full, and known."""
    pipeline.write("Dockerfile", STAGES.format(tiny=tiny))
    first = await pipeline.trip("Dockerfile")
    assert first.image.how == "cli"
    return pipeline


def no_full_build(monkeypatch: pytest.MonkeyPatch) -> None:
    async def build(*_: object, **__: object) -> Image:
        raise AssertionError("a full build")

    monkeypatch.setattr(ImageBuilder, "build", build)


@pytest.mark.parametrize("large", [0, layer_files.LARGE], ids=["by-container", "by-save"])
async def test_only_what_a_stage_made_anew_travels(
    staged: Pipeline, tiny: str, monkeypatch: pytest.MonkeyPatch, large: int
) -> None:
    monkeypatch.setattr(layer_files, "LARGE", large)
    asked: list[str] = []
    archive = Engine.archive
    monkeypatch.setattr(
        Engine, "archive", lambda self, container, path: asked.append(path) or archive(self, container, path)
    )
    one = "COPY --from=builder /w/out/deep/other.py /one\nWORKDIR /app"
    text = STAGES.format(tiny=tiny).replace("WORKDIR /app", one)
    staged.write("Dockerfile", text)
    await staged.trip("Dockerfile")
    reasons = staged.reasons()
    no_full_build(monkeypatch)
    for text in ("two", "three"):
        staged.write("src/main.py", text)
        loaded = await staged.trip("src/main.py")
        assert loaded.image.how == "delta"
        assert loaded.sent < 20_000
        assert loaded.image.ref == staged.service.ref(await staged.fingerprint())
        assert await shown(staged.bench, loaded.image, "cat main deep/other.py /one; pwd") == (
            f"{text}otherother/app"
        )
    assert staged.reasons() == reasons
    lines = [] if large else ["7", "9", "9"]  # what is known already is not read again
    assert [place.partition("-")[0] for place in asked] == lines
    facts = await staged.bench.engine.inspect(loaded.image.ref)
    assert facts is not None
    assert facts.labels["dev.devloop.fingerprint"] == loaded.image.fingerprint.digest
    containers = await staged.bench.engine.by_package("test", lambda client: client.containers(all=True))
    assert not any(one["Image"].endswith("-outputs") for one in containers)
    refs = [ref for image in await staged.bench.engine.images() for ref in image.refs]
    assert not any(ref.endswith("-outputs") for ref in refs)


async def test_outputs_that_are_gone_are_gone(staged: Pipeline, tiny: str) -> None:
    staged.write("Dockerfile", STAGES.format(tiny=tiny).replace("cat src/other.py > out/deep/other.py", EACH))
    await staged.trip("Dockerfile")
    staged.write("src/new.py", "new")
    assert (await staged.trip("src/new.py")).image.how == "delta"
    (staged.service.build.context / "src/new.py").unlink()
    staged.write("src/main.py", "two")
    last = await staged.trip("src/new.py", "src/main.py")
    assert last.image.how == "delta"
    assert await shown(staged.bench, last.image, "ls deep") == "main.py\nother.py"


async def test_s27_a_restarted_devloop_goes_on(staged: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    staged.write("src/main.py", "two")
    await staged.trip("src/main.py")
    no_full_build(monkeypatch)
    staged.start()
    assert (await staged.trip()).image.how == "reused"
    staged.write("src/other.py", "changed")
    second = await staged.trip("src/other.py")
    assert second.image.how == "delta"
    assert await shown(staged.bench, second.image, "cat main deep/other.py") == "twochanged"


async def test_layers_that_were_learned_without_their_content_are_read_again(
    staged: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an earlier devloop wrote them down: one full build, and then deltas."""
    layers = staged.state / "parents" / "layers"
    for file in layers.iterdir():
        file.write_bytes(Layer.load(file.read_bytes()).bare().dump())
    staged.start()
    await staged.trip()
    staged.write("src/main.py", "two")
    assert (await staged.trip("src/main.py")).image.how == "cli"
    assert staged.reasons()[-1] == "OutputsUnknown"
    assert staged.builder._stopped == set()  # it is learned at once
    no_full_build(monkeypatch)
    staged.write("src/main.py", "three")
    last = await staged.trip("src/main.py")
    assert await shown(staged.bench, last.image, "cat main") == "three"


async def test_a_run_that_fails_is_reported_with_the_users_line(staged: Pipeline) -> None:
    staged.write("src/broken", "")
    with pytest.raises(BuildError) as caught:
        await staged.trip("src/broken")
    assert any(line.startswith("Dockerfile:5 | RUN test") for line in caught.value.evidence)
    (staged.service.build.context / "src/broken").unlink()
    staged.write("src/main.py", "mended")
    assert (await staged.trip("src/main.py", "src/broken")).image.how == "delta"


async def test_what_is_not_proven_is_built_in_full_and_counted(staged: Pipeline, tiny: str) -> None:
    staged.write("Dockerfile", STAGES.format(tiny=tiny) + "RUN cat main > /copy\n")
    await staged.trip("Dockerfile")
    staged.write("src/main.py", "two")
    second = await staged.trip("src/main.py")
    assert second.image.how == "cli"
    assert staged.reasons()[-1] == "RunAfter"
    assert await shown(staged.bench, second.image, "cat /copy") == "two"


async def test_files_that_move_while_docker_reads_them_are_no_image(
    staged: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S8."""
    staged.write("src/main.py", "two")
    taken = await staged.fingerprint("src/main.py")
    staged.write("src/main.py", "moved")
    with pytest.raises(TreeMovedError):
        await staged.builder.build(staged.service, taken)
    last = await staged.trip("src/main.py")
    assert last.image.how == "delta"
    assert await shown(staged.bench, last.image, "cat main") == "moved"


async def test_going_on_where_only_that_fails_is_tried_twice(
    staged: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(from_stage, "_dockerfile", lambda *_: "FROM scratch\nCOPY nowhere /\n")
    for text in ("two", "three", "four"):
        staged.write("src/main.py", text)
        loaded = await staged.trip("src/main.py")
        assert loaded.image.how == "cli"
        assert await shown(staged.bench, loaded.image, "cat main") == text
    assert staged.reasons()[-3:] == ["DeltaFailed", "DeltaFailed", "OtherStage"]


async def test_the_ignore_file_counts_as_in_a_full_build(staged: Pipeline, tiny: str) -> None:
    text = STAGES.format(tiny=tiny).replace("COPY src ./src", "COPY . .")
    text = text.replace("cat src/other.py > out/deep/other.py", "ls src > out/deep/list")
    staged.write("Dockerfile", text)
    staged.write(".dockerignore", "src/secret\n")
    await staged.trip("Dockerfile", ".dockerignore")
    staged.write("src/secret", "no")
    staged.write("src/main.py", "two")
    loaded = await staged.trip("src/main.py", "src/secret")
    assert loaded.image.how == "delta"
    assert await shown(staged.bench, loaded.image, "cat main deep/list") == "twomain.py\nother.py"


async def test_a_cancelled_build_leaves_nothing(staged: Pipeline, tiny: str) -> None:
    """S10."""
    text = STAGES.format(tiny=tiny).replace(
        "RUN test ! -e src/broken", "RUN ! test -e src/slow || sleep 1000"
    )
    staged.write("Dockerfile", text)
    await staged.trip("Dockerfile")
    staged.write("src/slow", "")
    taken = await staged.fingerprint("src/slow")
    seen = len(staged.bench.events)
    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(staged.builder.build, staged.service, taken)
            while not any("RUN ! test" in str(one) for one in staged.bench.events[seen:]):
                await anyio.sleep(0.02)
            group.cancel_scope.cancel()
    (staged.service.build.context / "src/slow").unlink()
    staged.write("src/main.py", "after")
    assert (await staged.trip("src/main.py", "src/slow")).image.how == "delta"


async def test_a_stage_that_is_built_again_though_nothing_reaches_it_is_a_full_build(
    staged: Pipeline, tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its cache is gone: what it makes now may be other than what the image holds of it."""
    text = STAGES.format(tiny=tiny).replace("COPY src ./src", "COPY --from=deps /d /d\nCOPY src ./src")
    text = f"FROM {tiny} AS deps\nARG AGAIN\nRUN mkdir /d && echo {staged.service.name} > /d/id\n{text}"
    staged.write("Dockerfile", text.replace("CMD", "COPY --from=deps /d /d\nCMD"))
    await staged.trip("Dockerfile")
    staged.write("src/main.py", "two")
    assert (await staged.trip("src/main.py")).image.how == "delta"
    asked, again = from_stage._dockerfile, f"ENV AGAIN={time.time()}"
    monkeypatch.setattr(from_stage, "_dockerfile", lambda *all: asked(*all).replace("ARG AGAIN", again))
    staged.write("src/main.py", "three")
    assert (await staged.trip("src/main.py")).image.how == "cli"
    assert staged.reasons()[-1] == "StageRebuilt"
