"""Deltas end to end below the cluster: real tree, real fingerprints, real engine."""

from __future__ import annotations

import anyio
import pytest

from devloop.adapters.build.builder import ImageBuilder
from devloop.adapters.delta import builder as deltas
from devloop.adapters.delta import keeper, parents
from devloop.adapters.delta.builder import BELOW
from devloop.adapters.docker.config_digest import Digests
from devloop.adapters.docker.connection import EngineRefusedError
from devloop.adapters.docker.engine import Engine
from devloop.adapters.nodes.routes import EngineRoute
from devloop.adapters.nodes.stores import EngineStore
from devloop.delta import from_run as continuation
from devloop.errors import BuildError, LoadError, PlatformError
from devloop.events import DeltaFallback, Notice, Output
from devloop.model import Image
from tests.support.file_to_node import DOCKERFILE, Pipeline, shown

pytestmark = pytest.mark.engine


async def test_an_edit_after_a_full_build_is_a_delta(pipeline: Pipeline) -> None:
    first = await pipeline.trip()
    assert first.image.how == "cli"
    pipeline.write("src/main.py", "two")
    second = await pipeline.trip("src/main.py")
    assert second.image.how == "delta"
    assert second.sent < 20_000
    assert (
        await shown(pipeline.bench, second.image, "cat /app/src/main.py /app/src/other.py /made")
        == "twootheronce"
    )


async def test_deltas_stand_on_deltas_and_forget_deleted_files(pipeline: Pipeline) -> None:
    await pipeline.trip()
    pipeline.write("src/new.py", "new")
    await pipeline.trip("src/new.py")
    (pipeline.service.build.context / "src/other.py").unlink()
    (pipeline.service.build.context / "src/new.py").rename(pipeline.service.build.context / "src/moved.py")
    third = await pipeline.trip("src/other.py", "src/new.py", "src/moved.py")
    assert third.image.how == "delta"
    assert await shown(pipeline.bench, third.image, "ls /app/src") == "main.py\nmoved.py"


async def test_s3_a_delta_has_the_tag_that_a_full_build_would_get(pipeline: Pipeline) -> None:
    await pipeline.trip()
    pipeline.write("src/main.py", "two")
    second = await pipeline.trip("src/main.py")
    assert second.image.ref == pipeline.service.ref(await pipeline.fingerprint())
    facts = await pipeline.bench.engine.inspect(second.image.ref)
    assert facts is not None
    assert facts.labels["dev.devloop.fingerprint"] == second.image.fingerprint.digest


async def test_a_revert_finds_the_image_that_is_there(pipeline: Pipeline) -> None:
    first = await pipeline.trip()
    pipeline.write("src/main.py", "two")
    await pipeline.trip("src/main.py")
    pipeline.write("src/main.py", "one")
    third = await pipeline.trip("src/main.py")
    assert third.image.how == "reused"
    assert third.image.id == first.image.id
    pipeline.write("src/main.py", "three")
    fourth = await pipeline.trip("src/main.py")
    assert fourth.image.how == "delta"
    assert await shown(pipeline.bench, fourth.image, "cat /app/src/main.py") == "three"


async def test_s27_a_restarted_devloop_goes_on_with_deltas(pipeline: Pipeline) -> None:
    await pipeline.trip()
    pipeline.write("src/main.py", "two")
    await pipeline.trip("src/main.py")
    pipeline.start()
    assert (await pipeline.trip()).image.how == "reused"
    pipeline.write("src/main.py", "three")
    third = await pipeline.trip("src/main.py")
    assert third.image.how == "delta"
    assert await shown(pipeline.bench, third.image, "cat /app/src/main.py") == "three"


RUN_AFTER = "FROM {tiny}\nCOPY src /src\nRUN cat /src/main.py > /made && test ! -e /src/broken\n"


def notices(pipeline: Pipeline) -> list[str]:
    return [event.message for event in pipeline.bench.events if isinstance(event, Notice)]


async def test_a_run_after_the_copy_is_all_that_is_built_and_says_why(pipeline: Pipeline, tiny: str) -> None:
    """Each edit stands on the full build; the context is not read again, and nothing is left behind."""
    pipeline.write("Dockerfile", RUN_AFTER.format(tiny=tiny))
    first = await pipeline.trip("Dockerfile")
    assert first.image.how == "cli"
    for text in ("two", "three"):
        pipeline.write("src/main.py", text)
        loaded = await pipeline.trip("src/main.py")
        assert loaded.image.how == "continued"
        assert loaded.image.ref == pipeline.service.ref(await pipeline.fingerprint())
        assert (
            await shown(pipeline.bench, loaded.image, "cat /made /src/main.py /src/other.py")
            == text * 2 + "other"
        )
    assert "RunAfter" not in pipeline.reasons()
    assert sum("go on from Dockerfile:3" in message for message in notices(pipeline)) == 1
    assert not any(event.line.endswith("COPY src /src") for event in lines_since_first_build(pipeline))
    refs = [ref for image in await pipeline.bench.engine.images() for ref in image.refs]
    assert not any(ref.endswith(BELOW) for ref in refs)
    facts = await pipeline.bench.engine.inspect(loaded.image.ref)
    assert facts is not None
    assert facts.labels["dev.devloop.fingerprint"] == loaded.image.fingerprint.digest


async def test_s27_a_restarted_devloop_goes_on_from_a_run(pipeline: Pipeline, tiny: str) -> None:
    pipeline.write("Dockerfile", RUN_AFTER.format(tiny=tiny))
    await pipeline.trip("Dockerfile")
    for text in ("two", "three"):
        pipeline.write("src/main.py", text)
        last = await pipeline.trip("src/main.py")
        assert last.image.how == "continued"
        assert await shown(pipeline.bench, last.image, "cat /made") == text
        pipeline.start()
        assert (await pipeline.trip()).image.how == "reused"


def lines_since_first_build(pipeline: Pipeline) -> list[Output]:
    """What the builder emitted after the full build."""
    lines = [event for event in pipeline.bench.events if isinstance(event, Output)]
    copied = [number for number, event in enumerate(lines) if event.line.endswith("COPY src /src")]
    return lines[copied[0] + 1 :]


async def test_a_run_that_fails_is_reported_with_the_users_line(pipeline: Pipeline, tiny: str) -> None:
    pipeline.write("Dockerfile", RUN_AFTER.format(tiny=tiny))
    await pipeline.trip("Dockerfile")
    pipeline.write("src/broken", "")
    with pytest.raises(BuildError) as caught:
        await pipeline.trip("src/broken")
    assert any(line.startswith("Dockerfile:3 | RUN cat") for line in caught.value.evidence)
    refs = [ref for image in await pipeline.bench.engine.images() for ref in image.refs]
    assert not any(ref.endswith(BELOW) for ref in refs)
    (pipeline.service.build.context / "src/broken").unlink()
    pipeline.write("src/main.py", "mended")
    assert (await pipeline.trip("src/main.py", "src/broken")).image.how == "continued"


async def test_a_full_build_whose_layers_are_gone_is_made_again(
    pipeline: Pipeline, tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S12: pruned behind our back. To empty the cache of BuildKit as well would disturb other tests."""
    pipeline.write("Dockerfile", RUN_AFTER.format(tiny=tiny))
    await pipeline.trip("Dockerfile")
    pipeline.write("src/main.py", "two")

    async def refused(*_: object) -> None:
        raise LoadError("load into the engine: no such layer")

    with monkeypatch.context() as patch:
        patch.setattr("devloop.adapters.build.builder.send_delta", refused)
        second = await pipeline.trip("src/main.py")
    assert second.image.how == "cli"
    assert await shown(pipeline.bench, second.image, "cat /made") == "two"
    assert pipeline.builder._stopped == {pipeline.service.name}
    pipeline.write("src/main.py", "three")
    assert (await pipeline.trip("src/main.py")).image.how == "continued"
    assert pipeline.builder._stopped == set()  # the next full build is learned without a rest


@pytest.mark.parametrize(
    "error", [EngineRefusedError("no"), PlatformError("gone"), BuildError("no"), KeyError("a bug")], ids=repr
)
async def test_a_failed_delta_is_followed_by_a_full_build(
    pipeline: Pipeline, tiny: str, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    pipeline.write("Dockerfile", RUN_AFTER.format(tiny=tiny))
    await pipeline.trip("Dockerfile")
    pipeline.write("src/main.py", "two")

    async def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr("devloop.adapters.build.builder.send_delta", fails)
    second = await pipeline.trip("src/main.py")
    assert second.image.how == "cli"
    assert await shown(pipeline.bench, second.image, "cat /made") == "two"
    assert pipeline.reasons()[-1] == "DeltaFailed"


async def test_a_delta_that_fails_is_followed_by_a_full_build(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    await pipeline.trip()
    pipeline.write("src/main.py", "two")
    monkeypatch.setattr(deltas, "delta", lambda *_, **__: {}["a bug"])
    second = await pipeline.trip("src/main.py")
    assert second.image.how == "cli"
    assert await shown(pipeline.bench, second.image, "cat /app/src/main.py") == "two"
    assert pipeline.reasons()[-1] == "DeltaFailed"


async def test_going_on_where_only_that_fails_is_tried_twice(
    pipeline: Pipeline, tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A RUN that needs another stage: planted, `continuation` refuses it."""
    monkeypatch.setattr(continuation, "_check_following", lambda step: None)
    pipeline.write(
        "Dockerfile",
        f"FROM {tiny} AS seed\nRUN mkdir /c && echo x > /c/x\nFROM {tiny}\nCOPY src /src\n"
        "RUN --mount=type=cache,from=seed,source=/c,target=/c cat /c/x /src/main.py > /made\n",
    )
    await pipeline.trip("Dockerfile")
    for text in ("two", "three", "four"):
        pipeline.write("src/main.py", text)
        loaded = await pipeline.trip("src/main.py")
        assert loaded.image.how == "cli"
        assert await shown(pipeline.bench, loaded.image, "cat /made") == f"x\n{text}"
    assert pipeline.reasons()[-3:] == ["DeltaFailed", "DeltaFailed", "RunAfter"]
    assert not any("seed" in message for message in notices(pipeline))  # only of what no build could do


async def test_what_is_not_plain_after_the_copy_is_built_in_full_and_says_why(
    pipeline: Pipeline, tiny: str
) -> None:
    pipeline.write("Dockerfile", RUN_AFTER.format(tiny=tiny) + "ENV A=1\n")
    await pipeline.trip("Dockerfile")
    pipeline.write("src/main.py", "two")
    second = await pipeline.trip("src/main.py")
    assert second.image.how == "cli"
    assert pipeline.reasons()[-1] == "RunAfter"
    assert await shown(pipeline.bench, second.image, "cat /made") == "two"
    event = [e for e in pipeline.bench.events if isinstance(e, DeltaFallback)][-1]
    assert (event.line, event.first) == (3, True)


async def test_after_an_edit_that_a_line_stops_the_engine_is_left_alone_for_a_while(
    pipeline: Pipeline, tiny: str
) -> None:
    """To read the whole image for a delta that will not come keeps it from the next build."""
    pipeline.write("Dockerfile", RUN_AFTER.format(tiny=tiny) + "ENV A=1\n")
    await pipeline.trip("Dockerfile")
    builder, loader = pipeline.builder, pipeline.loader
    builder.keeper._again = 3600.0
    pipeline.write("src/main.py", "two")
    image = await builder.build(pipeline.service, await pipeline.fingerprint("src/main.py"))
    await loader.load(image)
    (waiting,) = builder.keeper._to_learn.values()
    assert waiting[0] == image
    assert waiting[1] > anyio.current_time() + 3000
    with anyio.move_on_after(0.1) as scope:
        await builder.keeper.to_learn()
    assert scope.cancelled_caught


async def test_a_changed_dockerfile_is_built_in_full(pipeline: Pipeline, tiny: str) -> None:
    await pipeline.trip()
    pipeline.write("Dockerfile", DOCKERFILE.format(tiny=tiny) + "ENV A=b\n")
    assert (await pipeline.trip("Dockerfile")).image.how == "cli"
    assert pipeline.reasons()[-1] == "RecipeChanged"


async def test_a_superseded_delta_is_no_parent(pipeline: Pipeline) -> None:
    """It was made and never loaded: the next one has all that changed since the image that was."""
    await pipeline.trip()
    pipeline.write("src/main.py", "two")
    await pipeline.builder.build(pipeline.service, await pipeline.fingerprint("src/main.py"))
    pipeline.write("src/other.py", "changed")
    second = await pipeline.trip("src/other.py")
    assert second.image.how == "delta"
    assert await shown(pipeline.bench, second.image, "cat /app/src/main.py /app/src/other.py") == "twochanged"


async def test_a_delta_that_was_superseded_once_the_engine_had_it_is_found(pipeline: Pipeline) -> None:
    """Nobody heard of that load's end: the next trip of the same files finds the image."""
    await pipeline.trip()
    pipeline.write("src/main.py", "two")
    made = await pipeline.builder.build(pipeline.service, await pipeline.fingerprint("src/main.py"))
    await pipeline.loader._inner.load(made)
    again = await pipeline.trip("src/main.py")
    assert (again.image.how, again.image.id) == ("reused", made.id)
    pipeline.write("src/main.py", "three")
    third = await pipeline.trip("src/main.py")
    assert third.image.how == "delta"
    assert await shown(pipeline.bench, third.image, "cat /app/src/main.py") == "three"


async def test_a_delta_whose_parent_was_pruned_is_built_in_full(pipeline: Pipeline) -> None:
    first = await pipeline.trip()
    await pipeline.bench.engine.remove(first.image.ref)
    pipeline.write("src/main.py", "two")
    second = await pipeline.trip("src/main.py")
    assert await shown(pipeline.bench, second.image, "cat /app/src/main.py") == "two"
    assert second.image.id != first.image.id


async def test_a_large_edit_is_a_full_build_with_its_reason(pipeline: Pipeline) -> None:
    pipeline.write("src/model.bin", "a" * (33 << 20))
    await pipeline.trip()
    pipeline.write("src/model.bin", "b" * (33 << 20))
    loaded = await pipeline.trip("src/model.bin")
    assert loaded.image.how == "cli"
    fallbacks = [event for event in pipeline.bench.events if isinstance(event, DeltaFallback)]
    assert fallbacks[-1].reason == "TooLarge"
    assert "33 MB" in fallbacks[-1].message
    pipeline.write("src/main.py", "small")
    assert (await pipeline.trip("src/main.py")).image.how == "delta"


async def test_a_long_chain_is_folded_and_goes_on(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "FOLD_AFTER", 3)
    first = await pipeline.trip()
    layers = []
    for number in range(5):
        pipeline.write("src/main.py", f"edit {number}")
        loaded = await pipeline.trip("src/main.py")
        assert loaded.image.how == "delta"
        assert loaded.image.archive is None  # its bytes are not kept
        now = await pipeline.bench.engine.inspect(loaded.image.ref)
        assert now is not None
        layers.append(len(now.diff_ids))
        folded = {f"{loaded.image.ref}-base"} if number == 2 else {loaded.image.ref}
        assert pipeline.builder.keeper.parents() == folded  # S25: what the next delta stands on stays
    facts = await pipeline.bench.engine.inspect(first.image.ref)
    assert facts is not None
    full = len(facts.diff_ids)
    assert layers == [full + 1, full + 2, full + 3, full + 1, full + 2]
    assert await shown(pipeline.bench, loaded.image, "cat /app/src/main.py") == "edit 4"
    tags = [ref for image in await pipeline.bench.engine.images() for ref in image.refs]
    assert [ref for ref in tags if ref.startswith(pipeline.service.image) and ref.endswith("-base")]


async def test_a_nodes_own_engine_gets_deltas_and_whole_images_where_it_lost_them(
    pipeline: Pipeline, node: Engine
) -> None:
    bench = pipeline.bench
    store = EngineStore("node", node, Digests(node))
    pipeline.route = EngineRoute("docker-env", bench.engine, bench.digests, (store,))
    first = await pipeline.trip()
    pipeline.write("src/main.py", "two")
    second = await pipeline.trip("src/main.py")
    assert (second.image.how, second.how) == ("delta", "docker-env")
    assert second.sent < 20_000
    assert await bench.engine.inspect(second.image.ref) is None
    for loaded in (second, first):
        await node.remove(loaded.image.ref)
    pipeline.write("src/main.py", "three")
    third = await pipeline.trip("src/main.py")
    facts = await node.inspect(third.image.ref)
    assert facts is not None
    assert facts.id == third.image.id
    assert third.sent > 1_000_000


PLAIN = 'FROM {tiny}\nWORKDIR /app\nCOPY src src\nENV A=b\nCMD ["sh"]\n'


async def test_an_image_that_only_copies_is_a_delta_from_the_first_build(
    pipeline: Pipeline, tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No builder is asked, for the first image or for one of a changed Dockerfile."""

    async def build(*_: object, **__: object) -> Image:
        raise AssertionError("a full build")

    monkeypatch.setattr(ImageBuilder, "build", build)
    pipeline.write("Dockerfile", PLAIN.format(tiny=tiny))
    first = await pipeline.trip("Dockerfile")
    assert first.image.how == "delta"
    assert await shown(pipeline.bench, first.image, "cat src/main.py; echo $A") == "oneb"
    pipeline.write("src/main.py", "two")
    second = await pipeline.trip("src/main.py")
    assert second.image.how == "delta"
    pipeline.write("Dockerfile", PLAIN.format(tiny=tiny).replace("A=b", "A=c"))
    third = await pipeline.trip("Dockerfile")
    assert await shown(pipeline.bench, third.image, "cat src/main.py; echo $A") == "twoc"
    assert pipeline.reasons() == []


async def test_a_node_without_the_base_gets_the_first_image_whole(
    pipeline: Pipeline, node: Engine, tiny: str
) -> None:
    bench = pipeline.bench
    store = EngineStore("node", node, Digests(node))
    pipeline.route = EngineRoute("docker-env", bench.engine, bench.digests, (store,))
    pipeline.write("Dockerfile", PLAIN.format(tiny=tiny))
    first = await pipeline.trip("Dockerfile")
    facts = await node.inspect(first.image.ref)
    assert facts is not None
    assert facts.id == first.image.id
    assert first.sent > 1_000_000
    other = bench.service(PLAIN.format(tiny=tiny))
    second = Pipeline(bench, other, pipeline.state.parent / "second", pipeline.route)
    second.state.mkdir()
    second.write("src/main.py", "other")
    second.start()
    try:
        loaded = await second.trip()
    finally:
        await second.fingerprinter.close()
    assert loaded.image.how == "delta"
    assert loaded.sent < 20_000


async def test_s27_parents_are_written_behind_the_trip_and_at_the_end(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parents, "WRITE_SECONDS", 3600.0)
    await pipeline.trip()
    records = pipeline.state / "parents" / f"of-{pipeline.service.name}"
    before = {*records.iterdir()}
    async with anyio.create_task_group() as group:
        group.start_soon(pipeline.loader.run)
        while pipeline.builder._store._late is None:
            await anyio.sleep(0.001)
        pipeline.write("src/main.py", "two")
        second = await pipeline.trip("src/main.py")
        assert second.image.how == "delta"
        assert {*records.iterdir()} == before
        group.cancel_scope.cancel()
    assert {*records.iterdir()} == before | {records / f"{second.image.fingerprint.digest}.json"}
    pipeline.start()
    await pipeline.trip()
    pipeline.write("src/main.py", "three")
    assert (await pipeline.trip("src/main.py")).image.how == "delta"
