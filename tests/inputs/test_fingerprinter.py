"""The fingerprint of a service: what counts, what is read again, how it is given up (S3, S5, S7, S8)."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from devloop.concurrency import Check
from devloop.dockerfile.dockerignore import NO_RULES
from devloop.errors import FingerprintError, TreeMovedError
from devloop.inputs.archive import dockerfile_entry, tar_context
from devloop.inputs.fingerprinter import TreeFingerprinter
from devloop.inputs.stat_cache import StatCache
from devloop.model import Base, BuildSpec, Change, Fingerprint, Secret, Service
from tests.inputs.test_stat_cache import settle
from tests.inputs.test_walk import plant
from tests.support.buildkit import build

pytestmark = pytest.mark.anyio
EVERYTHING = Change(frozenset(), 0, 0)


class KnownBases:
    """Bases that are what the test says they are; `asked` keeps what was wanted."""

    def __init__(self, **onbuild: tuple[str, ...]) -> None:
        self.onbuild, self.id, self.asked = onbuild, "sha256:1", list[tuple[tuple[str, ...], str]]()

    async def resolve(self, service: Service, refs: Sequence[str], platform: str) -> tuple[Base, ...]:
        self.asked.append((tuple(refs), platform))
        return tuple(Base(ref, self.id, self.onbuild.get(ref, ()), (), "", "") for ref in refs)


async def amd64() -> str:
    return "linux/amd64"


class Workshop:
    """A context on disk and a fingerprinter over it."""

    def __init__(self, home: Path, files: dict[str, str | None], **build_spec: object) -> None:
        self.home, self.context = home, plant(home / "context", files)
        spec = BuildSpec(self.context, self.context / "Dockerfile")
        self.service = Service("api", "api", replace(spec, **build_spec), ())  # type: ignore[arg-type]
        self.bases = KnownBases()
        self.start()

    def start(self, **rebuild_salts: str) -> None:
        self.cache = StatCache(self.home / "state" / "stats.db")
        self.prints = TreeFingerprinter(self.bases, self.cache, amd64, rebuild_salts=rebuild_salts)

    def write(self, name: str, text: str = "") -> Change:
        (self.context / name).parent.mkdir(parents=True, exist_ok=True)
        (self.context / name).write_text(text)
        return self.changed(name)

    def changed(self, *names: str) -> Change:
        return Change(frozenset(self.context / name for name in names), 0, 0)

    async def take(self, change: Change = EVERYTHING) -> Fingerprint:
        return await self.prints.take(self.service, change)

    async def digest(self, change: Change = EVERYTHING) -> str:
        return (await self.take(change)).digest


FILES: dict[str, str | None] = {
    "Dockerfile": "FROM base\nCOPY src /src\nCOPY *.txt /\n",
    "src/a.py": "1",
    "src/b.py": "2",
    "c.txt": "3",
    "frontend/page.js": "4",
}


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path, FILES)


async def test_s5_digest_is_16_hex_and_depends_on_content_alone(shop: Workshop, tmp_path: Path) -> None:
    digest = await shop.digest()
    assert len(digest) == 16
    assert int(digest, 16) >= 0
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert await Workshop(elsewhere, FILES).digest() == digest


async def test_s5_touch_and_revert_give_the_same_digest(shop: Workshop) -> None:
    first = await shop.digest()
    assert await shop.digest(shop.write("src/a.py", "other")) != first
    assert await shop.digest(shop.write("src/a.py", "1")) == first
    os.utime(shop.context / "src/a.py", (5, 5))
    assert await shop.digest(shop.changed("src/a.py")) == first
    assert await shop.digest() == first


async def test_s5_what_no_stage_reads_does_not_count(shop: Workshop) -> None:
    first = await shop.digest()
    assert await shop.digest(shop.write("frontend/page.js", "other")) == first
    assert await shop.digest(shop.write("new.txt", "x")) != first


@pytest.mark.parametrize(
    "spec",
    [
        {"args": {"A": "1"}},
        {"target": "x"},
        {"platform": "linux/arm64"},
        {"secrets": (Secret("id"),)},
    ],
    ids=["args", "target", "platform", "secrets"],
)
async def test_s5_the_build_spec_counts(tmp_path: Path, spec: dict[str, object]) -> None:
    files = {**FILES, "Dockerfile": "FROM base AS x\nCOPY src /src\n"}
    plain = await Workshop(tmp_path, files).digest()
    assert await Workshop(tmp_path, {}, **spec).digest() != plain


async def test_s5_dockerfile_ignore_file_and_bases_count(shop: Workshop) -> None:
    seen = [await shop.digest()]
    seen.append(await shop.digest(shop.write("Dockerfile", FILES["Dockerfile"] + "#\n")))  # type: ignore[operator]
    seen.append(await shop.digest(shop.write(".dockerignore", "# nothing\n")))
    seen.append(await shop.digest(shop.write("Dockerfile.dockerignore", "# own\n")))
    shop.bases.id = "sha256:2"
    seen.append(await shop.digest(shop.changed("src/a.py")))
    assert len(set(seen)) == len(seen)


async def test_s5_secret_values_never_count(tmp_path: Path) -> None:
    first = await Workshop(tmp_path, FILES, secrets=(Secret("id", env="A"),)).digest()
    assert await Workshop(tmp_path, {}, secrets=(Secret("id", env="B"),)).digest() == first


async def test_s3_a_rebuild_salt_changes_the_digest(shop: Workshop) -> None:
    first = await shop.digest()
    shop.start(api="now")
    assert await shop.digest() != first
    shop.start(other="now")
    assert await shop.digest() == first


async def test_s5_onbuild_of_a_base_brings_files_and_bases(shop: Workshop) -> None:
    shop.bases.onbuild["base"] = ("COPY frontend /f", "COPY --from=tools /x /x")
    found = await shop.take()
    assert "frontend/page.js" in found.inputs.files
    assert [base.ref for base in found.inputs.bases] == ["base", "tools"]


async def test_s5_bases_are_asked_for_the_platform_of_their_stage(tmp_path: Path) -> None:
    files: dict[str, str | None] = {
        "Dockerfile": "FROM --platform=linux/arm64 one AS a\nFROM two\nCOPY --from=a / /\n"
    }
    shop = Workshop(tmp_path, files)
    await shop.take()
    assert set(shop.bases.asked) == {(("two",), "linux/amd64"), (("one",), "linux/arm64")}


async def test_s7_a_warm_start_reads_nothing(shop: Workshop) -> None:
    settle(*(path for path in shop.context.rglob("*") if path.is_file()))
    first = await shop.digest()
    await shop.prints.close()
    shop.start()
    assert await shop.digest() == first
    assert shop.cache.reads == 0


async def test_s7_what_was_read_is_on_disk_or_in_the_tree_and_a_further_look_reads_nothing(
    tmp_path: Path, shop: Workshop
) -> None:
    settle(*(path for path in shop.context.rglob("*") if path.is_file()))
    first = await shop.take()
    await shop.prints.close()
    assert shop.cache.unsaved(str(shop.context / "src/a.py")) is None
    for file in (tmp_path / "state").iterdir():
        file.unlink()  # the tree alone is left
    reads = shop.cache.reads
    again = await shop.take()
    assert again.digest == first.digest
    assert shop.cache.reads == reads
    assert again.inputs.files["src/a.py"] is first.inputs.files["src/a.py"]


async def test_s7_another_ignore_file_reads_what_it_brings_and_no_more(shop: Workshop) -> None:
    settle(*(path for path in shop.context.rglob("*") if path.is_file()))
    (shop.context / ".dockerignore").write_text("src/b.py\n")
    await shop.take()
    reads = shop.cache.reads
    (shop.context / ".dockerignore").write_text("")
    assert "src/b.py" in (await shop.take()).inputs.files
    assert shop.cache.reads == reads + 1


async def test_s7_a_file_read_in_the_tick_of_its_writing_is_read_again_at_each_look(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(*(path for path in shop.context.rglob("*") if path.is_file()))
    young = (shop.context / "src/a.py").stat().st_ctime_ns
    (shop.context / "src/b.py").unlink()
    (shop.context / "c.txt").unlink()
    monkeypatch.setattr(shop.cache, "_now_ns", lambda: young + 1_000_000)
    await shop.take()
    reads = shop.cache.reads
    await shop.take()
    assert shop.cache.reads == reads + 1
    monkeypatch.undo()
    await shop.take()  # read once more, and settled now
    reads = shop.cache.reads
    await shop.take()
    assert shop.cache.reads == reads


async def test_s7_one_change_reads_one_file(shop: Workshop) -> None:
    settle(*(path for path in shop.context.rglob("*") if path.is_file()))
    await shop.take()
    reads = shop.cache.reads
    await shop.take(shop.write("src/a.py", "other"))
    assert shop.cache.reads == reads + 1


async def test_s7_a_change_given_up_is_not_forgotten(shop: Workshop) -> None:
    first = await shop.digest()
    lost = shop.write("src/a.py", "other")
    with anyio.CancelScope() as scope:
        scope.cancel()
        await shop.take(lost)
    assert scope.cancelled_caught
    assert await shop.digest(shop.write("src/b.py", "2")) != first


async def test_a_newer_change_abandons_a_large_file_at_once(tmp_path: Path) -> None:
    shop = Workshop(tmp_path, {"Dockerfile": "FROM scratch\nCOPY big /\n"})
    with (shop.context / "big").open("wb") as big:
        big.truncate(1 << 30)
    started = anyio.Event()
    real = shop.cache.read

    def read(path: str, check: Check) -> tuple[str, bool]:
        anyio.from_thread.run_sync(started.set)
        return real(path, check)

    shop.cache.read = read  # type: ignore[method-assign]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(shop.take)
        await started.wait()
        begun = time.monotonic()
        tasks.cancel_scope.cancel()
    print(f"given up after {(time.monotonic() - begun) * 1000:.1f} ms")
    assert shop.cache.reads == 0  # the gigabyte was not read to its end


async def test_a_missing_dockerfile_is_named(shop: Workshop) -> None:
    (shop.context / "Dockerfile").unlink()
    with pytest.raises(FingerprintError, match="Dockerfile: no such file"):
        await shop.take()


async def test_a_folder_that_was_renamed_is_named(shop: Workshop) -> None:
    name = shop.context.name
    shop.context.rename(shop.context.with_name("elsewhere"))
    with pytest.raises(FingerprintError, match=rf"no such file; there is no folder {name} in "):
        await shop.take()


async def test_s8_inputs_that_look_the_same_still_match(shop: Workshop) -> None:
    settle(*(path for path in shop.context.rglob("*")))
    taken = await shop.take()
    assert await shop.prints.still_matches(shop.service, taken)
    shop.write("frontend/page.js", "not an input")
    shop.write(".git/index", "a name in a listed directory")
    assert await shop.prints.still_matches(shop.service, taken)


@pytest.mark.parametrize("name", ["src/a.py", "src/new.py", "new.txt", "Dockerfile", ".dockerignore"])
async def test_s8_inputs_that_moved_do_not_match(shop: Workshop, name: str) -> None:
    taken = await shop.take()
    shop.write(name, "moved")
    assert not await shop.prints.still_matches(shop.service, taken)


async def test_s8_a_deleted_input_does_not_match(shop: Workshop) -> None:
    taken = await shop.take()
    (shop.context / "src/a.py").unlink()
    assert not await shop.prints.still_matches(shop.service, taken)


async def test_s8_the_archive_holds_the_fingerprints_bytes(shop: Workshop) -> None:
    (shop.context / "src/link").symlink_to("a.py")
    taken = await shop.take()
    data = b"".join(tar_context(shop.context, taken.inputs, NO_RULES))
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        members = {m.name: m for m in archive}
        assert list(members) == sorted(taken.inputs.files)
        opened = archive.extractfile("src/a.py")
        assert opened is not None
        assert opened.read() == b"1"
    assert members["src/link"].linkname == "a.py"
    assert members["src/a.py"].mtime == int((shop.context / "src/a.py").stat().st_mtime)
    assert data == b"".join(tar_context(shop.context, taken.inputs, NO_RULES))


@pytest.mark.parametrize("text", ["2", "longer", ""])
async def test_s8_a_file_that_moved_aborts_the_archive(shop: Workshop, text: str) -> None:
    taken = await shop.take()
    shop.write("src/a.py", text)
    with pytest.raises(TreeMovedError, match=r"src/a\.py changed"):
        b"".join(tar_context(shop.context, taken.inputs, NO_RULES))
    (shop.context / "src/a.py").unlink()
    with pytest.raises(TreeMovedError):
        b"".join(tar_context(shop.context, taken.inputs, NO_RULES))


async def test_s8_a_dockerfile_that_moved_aborts_too(shop: Workshop) -> None:
    taken = await shop.take()
    assert b"COPY src" in dockerfile_entry(shop.service.build.dockerfile, taken.inputs, "Dockerfile")
    shop.write("Dockerfile", "FROM other\n")
    with pytest.raises(TreeMovedError):
        dockerfile_entry(shop.service.build.dockerfile, taken.inputs, "Dockerfile")


async def test_paths_of_interest_are_the_context_and_the_dockerfiles_home(
    tmp_path: Path, shop: Workshop
) -> None:
    assert shop.prints.paths_of_interest(shop.service) == {shop.context}
    outside = replace(shop.service, build=replace(shop.service.build, dockerfile=tmp_path / "docker" / "D"))
    assert shop.prints.paths_of_interest(outside) == {shop.context, tmp_path / "docker"}


async def test_a_context_behind_a_link_is_known_by_both_names(shop: Workshop, tmp_path: Path) -> None:
    (tmp_path / "by-link").symlink_to(shop.context)
    spec = BuildSpec(tmp_path / "by-link", tmp_path / "by-link" / "Dockerfile")
    service = replace(shop.service, build=spec)
    first = await shop.prints.take(service, EVERYTHING)
    real = shop.write("src/a.py", "other")
    assert all(shop.prints.concerns(service, path) for path in real.paths)
    assert (await shop.prints.take(service, real)).digest != first.digest


async def test_concerns_only_what_can_change_the_image(shop: Workshop) -> None:
    def concerned(*names: str) -> list[str]:
        return [name for name in names if shop.prints.concerns(shop.service, shop.context / name)]

    names = ("src", "src/a.py", "src/new/x.py", "c.txt", "new.txt", "Dockerfile", ".dockerignore")
    others = ("frontend/page.js", "frontend", "README.md", ".git/index")
    assert concerned(*names, *others) == [*names, *others]  # nothing is known yet
    await shop.take()
    assert concerned(*names, *others) == list(names)
    shop.write(".dockerignore", "**/*.pyc\nsrc/gen\n!src/gen/keep\n")
    await shop.take()
    assert concerned("src/a.pyc", "src/gen/x", "src/gen/keep", "src/gen") == ["src/gen/keep", "src/gen"]


@pytest.mark.engine
async def test_s8_s9_the_archive_builds_what_the_context_builds(shop: Workshop, tmp_path: Path) -> None:
    """The tar, unpacked, is for BuildKit the same context."""
    (shop.context / "src/link").symlink_to("a.py")
    (shop.context / "src/empty").mkdir(mode=0o711)
    taken = await shop.take()
    copy = tmp_path / "copy"
    data = b"".join(tar_context(shop.context, taken.inputs, NO_RULES))
    copy.mkdir()
    subprocess.run(["tar", "-xp", "-C", str(copy)], input=data, check=True)
    for path in shop.context.rglob("*"):  # the tar keeps whole seconds
        if not path.is_symlink():
            os.utime(path, ns=(0, path.stat().st_mtime_ns // 10**9 * 10**9))
    dockerfile = "FROM scratch\nCOPY src /src\nCOPY *.txt /\n"
    assert build(copy, dockerfile) == build(shop.context, dockerfile)


# --- looks of others than the trip (S39) ----------------------------------------------------------


async def test_s39_a_look_finds_what_no_event_has_reported(tmp_path: Path) -> None:
    shop = Workshop(tmp_path, FILES)
    first = await shop.digest()
    look = await shop.prints.look(shop.service)
    assert (look.digest, look.is_news) == (first, False)
    shop.write("src/a.py", "other")
    look = await shop.prints.look(shop.service)
    assert look.is_news
    assert look.digest != first
    assert look.paths == {shop.context / "src/a.py"}
    again = await shop.prints.look(shop.service)
    assert (again.digest, again.is_news) == (look.digest, False)
    assert await shop.digest(shop.changed("c.txt")) == look.digest, "and nobody takes it back"


async def test_s39_before_anybody_took_one_every_look_is_news(tmp_path: Path) -> None:
    shop = Workshop(tmp_path, FILES)
    assert (await shop.prints.look(shop.service)).is_news


async def test_s39_a_look_never_takes_the_place_of_what_is_read_after_it(tmp_path: Path) -> None:
    """However looks and trips come together, what was written before the last of them began is in it."""
    shop = Workshop(tmp_path, FILES)
    await shop.take()
    for number in range(20):
        async with anyio.create_task_group() as group:
            group.start_soon(shop.prints.look, shop.service)
            change = shop.write("src/a.py", f"a{number}")
            group.start_soon(shop.take, change)
            shop.write("src/b.py", f"b{number}")
            group.start_soon(shop.prints.look, shop.service)
        now = await shop.digest(shop.changed("c.txt"))
        fresh = TreeFingerprinter(KnownBases(), StatCache(tmp_path / f"{number}.db"), amd64)
        assert now == (await fresh.take(shop.service, EVERYTHING)).digest


async def test_s39_what_a_look_that_is_given_up_had_to_read_again_is_read_by_the_next(tmp_path: Path) -> None:
    shop = Workshop(tmp_path, FILES)
    first = await shop.digest()
    change = shop.write("src/a.py", "x")
    with anyio.CancelScope() as scope:
        scope.cancel()
        await shop.take(change)
    assert await shop.digest(shop.changed("c.txt")) != first


async def test_s39_a_look_names_what_came_went_and_changed(tmp_path: Path) -> None:
    shop = Workshop(tmp_path, FILES)
    await shop.take()
    shop.write("src/new.py", "n")
    (shop.context / "src/b.py").unlink()
    (shop.context / "c.txt").chmod(0o755)
    os.utime(shop.context / "src/a.py", (1, 1))
    look = await shop.prints.look(shop.service)
    assert look.paths == {shop.context / name for name in ("src/new.py", "src/b.py", "c.txt")}
    shop.write("Dockerfile", "FROM base\nCOPY src /elsewhere\n")
    assert shop.context / "Dockerfile" in (await shop.prints.look(shop.service)).paths
    shop.bases.id = "sha256:2"
    look = await shop.prints.look(shop.service)
    assert (look.is_news, look.paths) == (True, frozenset()), "a base is no file of the tree"
