"""Deltas end to end below the cluster: real tree, real fingerprints, real engine."""

from __future__ import annotations

import anyio
import pytest

from devloop.adapters.build.builder import ImageBuilder
from devloop.adapters.delta import builder as deltas
from devloop.adapters.delta import parents
from devloop.adapters.delta.builder import BELOW
from devloop.adapters.docker.config_digest import Digests
from devloop.adapters.docker.engine import Engine, EngineRefusal
from devloop.adapters.nodes.routes import EngineRoute
from devloop.adapters.nodes.stores import EngineStore
from devloop.delta import from_run as continuation
from devloop.errors import BuildError, LoadError, PlatformError
from devloop.events import DeltaFallback, Notice, Output
from devloop.model import Image
from tests.support.file_to_node import DOCKERFILE, Corridor, shown

pytestmark = pytest.mark.engine


async def test_an_edit_after_a_full_build_is_a_delta(corridor: Corridor) -> None:
    first = await corridor.trip()
    assert first.image.how == "cli"
    corridor.write("src/main.py", "two")
    second = await corridor.trip("src/main.py")
    assert second.image.how == "delta"
    assert second.sent < 20_000
    assert (
        await shown(corridor.bench, second.image, "cat /app/src/main.py /app/src/other.py /made")
        == "twootheronce"
    )


async def test_deltas_stand_on_deltas_and_forget_deleted_files(corridor: Corridor) -> None:
    await corridor.trip()
    corridor.write("src/new.py", "new")
    await corridor.trip("src/new.py")
    (corridor.service.build.context / "src/other.py").unlink()
    (corridor.service.build.context / "src/new.py").rename(corridor.service.build.context / "src/moved.py")
    third = await corridor.trip("src/other.py", "src/new.py", "src/moved.py")
    assert third.image.how == "delta"
    assert await shown(corridor.bench, third.image, "ls /app/src") == "main.py\nmoved.py"


async def test_s3_a_delta_has_the_tag_that_a_full_build_would_get(corridor: Corridor) -> None:
    await corridor.trip()
    corridor.write("src/main.py", "two")
    second = await corridor.trip("src/main.py")
    assert second.image.ref == corridor.service.ref(await corridor.fingerprint())
    facts = await corridor.bench.engine.inspect(second.image.ref)
    assert facts is not None
    assert facts.labels["dev.devloop.fingerprint"] == second.image.fingerprint.digest


async def test_a_revert_finds_the_image_that_is_there(corridor: Corridor) -> None:
    first = await corridor.trip()
    corridor.write("src/main.py", "two")
    await corridor.trip("src/main.py")
    corridor.write("src/main.py", "one")
    third = await corridor.trip("src/main.py")
    assert third.image.how == "reused"
    assert third.image.id == first.image.id
    corridor.write("src/main.py", "three")
    fourth = await corridor.trip("src/main.py")
    assert fourth.image.how == "delta"
    assert await shown(corridor.bench, fourth.image, "cat /app/src/main.py") == "three"


async def test_s27_a_restarted_devloop_goes_on_with_deltas(corridor: Corridor) -> None:
    await corridor.trip()
    corridor.write("src/main.py", "two")
    await corridor.trip("src/main.py")
    corridor.start()
    assert (await corridor.trip()).image.how == "reused"
    corridor.write("src/main.py", "three")
    third = await corridor.trip("src/main.py")
    assert third.image.how == "delta"
    assert await shown(corridor.bench, third.image, "cat /app/src/main.py") == "three"


RUN_AFTER = "FROM {tiny}\nCOPY src /src\nRUN cat /src/main.py > /made && test ! -e /src/broken\n"


def notices(corridor: Corridor) -> list[str]:
    return [event.message for event in corridor.bench.events if isinstance(event, Notice)]


async def test_a_run_after_the_copy_is_all_that_is_built_and_says_why(corridor: Corridor, tiny: str) -> None:
    """Each edit stands on the full build; the context is not read again, and nothing is left behind."""
    corridor.write("Dockerfile", RUN_AFTER.format(tiny=tiny))
    first = await corridor.trip("Dockerfile")
    assert first.image.how == "cli"
    for text in ("two", "three"):
        corridor.write("src/main.py", text)
        loaded = await corridor.trip("src/main.py")
        assert loaded.image.how == "continued"
        assert loaded.image.ref == corridor.service.ref(await corridor.fingerprint())
        assert (
            await shown(corridor.bench, loaded.image, "cat /made /src/main.py /src/other.py")
            == text * 2 + "other"
        )
    assert "RunAfter" not in corridor.reasons()
    assert sum("go on from Dockerfile:3" in message for message in notices(corridor)) == 1
    assert not any(event.line.endswith("COPY src /src") for event in lines_since_first_build(corridor))
    refs = [ref for image in await corridor.bench.engine.images() for ref in image.refs]
    assert not any(ref.endswith(BELOW) for ref in refs)
    facts = await corridor.bench.engine.inspect(loaded.image.ref)
    assert facts is not None
    assert facts.labels["dev.devloop.fingerprint"] == loaded.image.fingerprint.digest


def lines_since_first_build(corridor: Corridor) -> list[Output]:
    """What the builder said after the full build."""
    lines = [event for event in corridor.bench.events if isinstance(event, Output)]
    copied = [number for number, event in enumerate(lines) if event.line.endswith("COPY src /src")]
    return lines[copied[0] + 1 :]


async def test_a_run_that_fails_is_told_by_the_users_line(corridor: Corridor, tiny: str) -> None:
    corridor.write("Dockerfile", RUN_AFTER.format(tiny=tiny))
    await corridor.trip("Dockerfile")
    corridor.write("src/broken", "")
    with pytest.raises(BuildError) as caught:
        await corridor.trip("src/broken")
    assert any(line.startswith("Dockerfile:3 | RUN cat") for line in caught.value.evidence)
    refs = [ref for image in await corridor.bench.engine.images() for ref in image.refs]
    assert not any(ref.endswith(BELOW) for ref in refs)
    (corridor.service.build.context / "src/broken").unlink()
    corridor.write("src/main.py", "mended")
    assert (await corridor.trip("src/main.py", "src/broken")).image.how == "continued"


async def test_a_full_build_whose_layers_are_gone_is_made_again(
    corridor: Corridor, tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S12: pruned behind our back. To empty the cache of BuildKit as well would disturb other tests."""
    corridor.write("Dockerfile", RUN_AFTER.format(tiny=tiny))
    await corridor.trip("Dockerfile")
    corridor.write("src/main.py", "two")

    async def refused(*_: object) -> None:
        raise LoadError("load into the engine: no such layer")

    with monkeypatch.context() as patch:
        patch.setattr("devloop.adapters.build.builder.send_delta", refused)
        second = await corridor.trip("src/main.py")
    assert second.image.how == "cli"
    assert await shown(corridor.bench, second.image, "cat /made") == "two"
    assert corridor.builder._stopped == {corridor.service.name}
    corridor.write("src/main.py", "three")
    assert (await corridor.trip("src/main.py")).image.how == "continued"
    assert corridor.builder._stopped == set()  # the next full build is learned without a rest


@pytest.mark.parametrize(
    "error", [EngineRefusal("no"), PlatformError("gone"), BuildError("no"), KeyError("a bug")], ids=repr
)
async def test_a_way_that_fails_is_followed_by_a_full_build(
    corridor: Corridor, tiny: str, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    corridor.write("Dockerfile", RUN_AFTER.format(tiny=tiny))
    await corridor.trip("Dockerfile")
    corridor.write("src/main.py", "two")

    async def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr("devloop.adapters.build.builder.send_delta", fails)
    second = await corridor.trip("src/main.py")
    assert second.image.how == "cli"
    assert await shown(corridor.bench, second.image, "cat /made") == "two"
    assert corridor.reasons()[-1] == "FasterWayFailed"


async def test_a_delta_that_fails_is_followed_by_a_full_build(
    corridor: Corridor, monkeypatch: pytest.MonkeyPatch
) -> None:
    await corridor.trip()
    corridor.write("src/main.py", "two")
    monkeypatch.setattr(deltas, "delta", lambda *_, **__: {}["a bug"])
    second = await corridor.trip("src/main.py")
    assert second.image.how == "cli"
    assert await shown(corridor.bench, second.image, "cat /app/src/main.py") == "two"
    assert corridor.reasons()[-1] == "FasterWayFailed"


async def test_going_on_where_only_that_fails_is_tried_twice(
    corridor: Corridor, tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A RUN that needs another stage: planted, `continuation` refuses it."""
    monkeypatch.setattr(continuation, "_check_following", lambda step: None)
    corridor.write(
        "Dockerfile",
        f"FROM {tiny} AS seed\nRUN mkdir /c && echo x > /c/x\nFROM {tiny}\nCOPY src /src\n"
        "RUN --mount=type=cache,from=seed,source=/c,target=/c cat /c/x /src/main.py > /made\n",
    )
    await corridor.trip("Dockerfile")
    for text in ("two", "three", "four"):
        corridor.write("src/main.py", text)
        loaded = await corridor.trip("src/main.py")
        assert loaded.image.how == "cli"
        assert await shown(corridor.bench, loaded.image, "cat /made") == f"x\n{text}"
    assert corridor.reasons()[-3:] == ["FasterWayFailed", "FasterWayFailed", "RunAfter"]
    assert not any("seed" in message for message in notices(corridor))  # only of what no build could do


async def test_what_is_not_plain_after_the_copy_is_built_in_full_and_says_why(
    corridor: Corridor, tiny: str
) -> None:
    corridor.write("Dockerfile", RUN_AFTER.format(tiny=tiny) + "ENV A=1\n")
    await corridor.trip("Dockerfile")
    corridor.write("src/main.py", "two")
    second = await corridor.trip("src/main.py")
    assert second.image.how == "cli"
    assert corridor.reasons()[-1] == "RunAfter"
    assert await shown(corridor.bench, second.image, "cat /made") == "two"
    event = [e for e in corridor.bench.events if isinstance(e, DeltaFallback)][-1]
    assert (event.line, event.first) == (3, True)


async def test_after_an_edit_that_a_line_stops_the_engine_is_left_alone_for_a_while(
    corridor: Corridor, tiny: str
) -> None:
    """To read the whole image for a delta that will not come keeps it from the next build."""
    corridor.write("Dockerfile", RUN_AFTER.format(tiny=tiny) + "ENV A=1\n")
    await corridor.trip("Dockerfile")
    builder, loader = corridor.builder, corridor.loader
    builder._again = 3600.0
    corridor.write("src/main.py", "two")
    image = await builder.build(corridor.service, await corridor.fingerprint("src/main.py"))
    await loader.load(image)
    (waiting,) = builder._to_learn.values()
    assert waiting[0] == image
    assert waiting[1] > anyio.current_time() + 3000
    with anyio.move_on_after(0.1) as scope:
        await builder.to_learn()
    assert scope.cancelled_caught


async def test_a_changed_dockerfile_is_built_in_full(corridor: Corridor, tiny: str) -> None:
    await corridor.trip()
    corridor.write("Dockerfile", DOCKERFILE.format(tiny=tiny) + "ENV A=b\n")
    assert (await corridor.trip("Dockerfile")).image.how == "cli"
    assert corridor.reasons()[-1] == "RecipeChanged"


async def test_a_superseded_delta_is_no_parent(corridor: Corridor) -> None:
    """It was made and never loaded: the next one has all that changed since the image that was."""
    await corridor.trip()
    corridor.write("src/main.py", "two")
    await corridor.builder.build(corridor.service, await corridor.fingerprint("src/main.py"))
    corridor.write("src/other.py", "changed")
    second = await corridor.trip("src/other.py")
    assert second.image.how == "delta"
    assert await shown(corridor.bench, second.image, "cat /app/src/main.py /app/src/other.py") == "twochanged"


async def test_a_delta_whose_parent_was_pruned_is_built_in_full(corridor: Corridor) -> None:
    first = await corridor.trip()
    await corridor.bench.engine.remove(first.image.ref)
    corridor.write("src/main.py", "two")
    second = await corridor.trip("src/main.py")
    assert await shown(corridor.bench, second.image, "cat /app/src/main.py") == "two"
    assert second.image.id != first.image.id


async def test_a_large_edit_is_a_full_build_with_its_reason(corridor: Corridor) -> None:
    corridor.write("src/model.bin", "a" * (33 << 20))
    await corridor.trip()
    corridor.write("src/model.bin", "b" * (33 << 20))
    loaded = await corridor.trip("src/model.bin")
    assert loaded.image.how == "cli"
    fallbacks = [event for event in corridor.bench.events if isinstance(event, DeltaFallback)]
    assert fallbacks[-1].reason == "TooLarge"
    assert "33 MB" in fallbacks[-1].message
    corridor.write("src/main.py", "small")
    assert (await corridor.trip("src/main.py")).image.how == "delta"


async def test_a_long_chain_is_folded_and_goes_on(
    corridor: Corridor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deltas, "FOLD_AFTER", 3)
    first = await corridor.trip()
    layers = []
    for number in range(5):
        corridor.write("src/main.py", f"edit {number}")
        loaded = await corridor.trip("src/main.py")
        assert loaded.image.how == "delta"
        assert loaded.image.archive is None  # its bytes are not kept
        now = await corridor.bench.engine.inspect(loaded.image.ref)
        assert now is not None
        layers.append(len(now.diff_ids))
        folded = {f"{loaded.image.ref}-base"} if number == 2 else {loaded.image.ref}
        assert corridor.builder.parents() == folded  # S25: what the next delta stands on stays
    facts = await corridor.bench.engine.inspect(first.image.ref)
    assert facts is not None
    full = len(facts.diff_ids)
    assert layers == [full + 1, full + 2, full + 3, full + 1, full + 2]
    assert await shown(corridor.bench, loaded.image, "cat /app/src/main.py") == "edit 4"
    tags = [ref for image in await corridor.bench.engine.images() for ref in image.refs]
    assert [ref for ref in tags if ref.startswith(corridor.service.image) and ref.endswith("-base")]


async def test_a_nodes_own_engine_gets_deltas_and_whole_images_where_it_lost_them(
    corridor: Corridor, node: Engine
) -> None:
    bench = corridor.bench
    store = EngineStore("node", node, Digests(node))
    corridor.route = EngineRoute("docker-env", bench.engine, bench.digests, (store,))
    first = await corridor.trip()
    corridor.write("src/main.py", "two")
    second = await corridor.trip("src/main.py")
    assert (second.image.how, second.how) == ("delta", "docker-env")
    assert second.sent < 20_000
    assert await bench.engine.inspect(second.image.ref) is None
    for loaded in (second, first):
        await node.remove(loaded.image.ref)
    corridor.write("src/main.py", "three")
    third = await corridor.trip("src/main.py")
    facts = await node.inspect(third.image.ref)
    assert facts is not None
    assert facts.id == third.image.id
    assert third.sent > 1_000_000


PLAIN = 'FROM {tiny}\nWORKDIR /app\nCOPY src src\nENV A=b\nCMD ["sh"]\n'


async def test_an_image_that_only_copies_is_a_delta_from_the_first_build(
    corridor: Corridor, tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No builder is asked, for the first image or for one of a changed Dockerfile."""

    async def build(*_: object, **__: object) -> Image:
        raise AssertionError("a full build")

    monkeypatch.setattr(ImageBuilder, "build", build)
    corridor.write("Dockerfile", PLAIN.format(tiny=tiny))
    first = await corridor.trip("Dockerfile")
    assert first.image.how == "delta"
    assert await shown(corridor.bench, first.image, "cat src/main.py; echo $A") == "oneb"
    corridor.write("src/main.py", "two")
    second = await corridor.trip("src/main.py")
    assert second.image.how == "delta"
    corridor.write("Dockerfile", PLAIN.format(tiny=tiny).replace("A=b", "A=c"))
    third = await corridor.trip("Dockerfile")
    assert await shown(corridor.bench, third.image, "cat src/main.py; echo $A") == "twoc"
    assert corridor.reasons() == []


async def test_a_node_without_the_base_gets_the_first_image_whole(
    corridor: Corridor, node: Engine, tiny: str
) -> None:
    bench = corridor.bench
    store = EngineStore("node", node, Digests(node))
    corridor.route = EngineRoute("docker-env", bench.engine, bench.digests, (store,))
    corridor.write("Dockerfile", PLAIN.format(tiny=tiny))
    first = await corridor.trip("Dockerfile")
    facts = await node.inspect(first.image.ref)
    assert facts is not None
    assert facts.id == first.image.id
    assert first.sent > 1_000_000
    other = bench.service(PLAIN.format(tiny=tiny))
    second = Corridor(bench, other, corridor.state.parent / "second", corridor.route)
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
    corridor: Corridor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parents, "WRITE_SECONDS", 3600.0)
    await corridor.trip()
    records = corridor.state / "parents" / f"of-{corridor.service.name}"
    before = {*records.iterdir()}
    async with anyio.create_task_group() as group:
        group.start_soon(corridor.loader.run)
        while corridor.builder._store._late is None:
            await anyio.sleep(0.001)
        corridor.write("src/main.py", "two")
        second = await corridor.trip("src/main.py")
        assert second.image.how == "delta"
        assert {*records.iterdir()} == before
        group.cancel_scope.cancel()
    assert {*records.iterdir()} == before | {records / f"{second.image.fingerprint.digest}.json"}
    corridor.start()
    await corridor.trip()
    corridor.write("src/main.py", "three")
    assert (await corridor.trip("src/main.py")).image.how == "delta"
