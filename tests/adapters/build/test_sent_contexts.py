"""What goes to the docker command is what the image holds, whatever BuildKit keeps of a context (S8)."""

from __future__ import annotations

import io
import os
import random
import shutil
import stat
import tarfile
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import anyio
import docker
import pytest

from devloop import scratch
from devloop.adapters.build import sent_contexts as sent
from devloop.adapters.build.sent_contexts import Name, SentContexts
from devloop.errors import BuildError, TreeMovedError
from devloop.model import BuildSpec, FileEntry, Image, Inputs, Service
from tests.adapters.build.test_builder import no_buildkit, without_command
from tests.support.file_to_node import Pipeline, shown

SEEDS = [int(seed) for seed in os.environ.get("DEVLOOP_TEST_SEEDS", "1-4").split("-")]  # from, to
NPM = 499_162_500  # the time of every file in a package of npm's
DOCKERFILE = "FROM {tiny}\nCOPY . /app/\nRUN cat /app/tree/file > /seen; ls -ld /app/tree > /mode\n"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (NPM, NPM))


@pytest.fixture
def service(pipeline: Pipeline, tiny: str) -> Service:
    """A service every file of which has the same time, at all times."""
    context = pipeline.service.build.context
    shutil.rmtree(context)
    write(context / "Dockerfile", DOCKERFILE.format(tiny=tiny))
    write(context / ".dockerignore", "aaaa\n")
    write(context / "tree/file", "v1\n")
    write(context / "aaaa", "a\n")
    write(context / "bbbb", "b\n")
    (context / "tree").chmod(0o755)
    return pipeline.service


def restart(pipeline: Pipeline) -> None:
    """Another devloop on the same state."""
    pipeline.fingerprinter._memories.clear()
    known = pipeline.builder._full._reader._sent
    for name in known._names.values():
        if name.record is not None:
            name.record.close()  # as the end of a process does
    pipeline.builder._full._reader._sent = SentContexts(known._folder)


async def built(pipeline: Pipeline) -> Image:
    taken = await pipeline.fingerprint()
    return await pipeline.builder._full.build(pipeline.service, taken)


async def seen(pipeline: Pipeline) -> str:
    image = await built(pipeline)
    assert image.how == "cli"
    return await shown(pipeline.bench, image, "cat /seen; ls /app")


def link_of(pipeline: Pipeline) -> Path:
    (name,) = pipeline.builder._full._reader._sent._names.values()
    return name.link


@pytest.mark.engine
async def test_s8_other_content_of_the_same_size_and_time(pipeline: Pipeline, service: Service) -> None:
    context = service.build.context
    for text in ("v1\n", "v2\n", "v3\n", "v1\n", "v2\n"):
        write(context / "tree/file", text)
        assert (await seen(pipeline)).startswith(text)


@pytest.mark.engine
async def test_s8_another_mode_of_a_directory(pipeline: Pipeline, service: Service) -> None:
    for mode, text in ((0o755, "drwxr-xr-x"), (0o700, "drwx------"), (0o755, "drwxr-xr-x")):
        (service.build.context / "tree").chmod(mode)
        assert (await shown(pipeline.bench, await built(pipeline), "cat /mode")).startswith(text)


@pytest.mark.engine
async def test_s8_a_dockerfile_of_the_same_size_and_time(
    pipeline: Pipeline, service: Service, tiny: str
) -> None:
    for word in ("one", "two"):
        write(service.build.dockerfile, f"FROM {tiny}\nCOPY . /app/\nRUN echo {word} > /seen\n")
        assert (await seen(pipeline)).startswith(word)


@pytest.mark.engine
async def test_s8_an_ignore_file_of_the_same_size_and_time(pipeline: Pipeline, service: Service) -> None:
    for gone, left in (("aaaa", "bbbb"), ("bbbb", "aaaa")):
        write(service.build.context / ".dockerignore", f"{gone}\n")
        names = (await seen(pipeline)).split()
        assert left in names
        assert gone not in names


@pytest.mark.engine
async def test_s8_what_changed_while_devloop_was_away(pipeline: Pipeline, service: Service) -> None:
    assert (await seen(pipeline)).startswith("v1\n")
    before = link_of(pipeline)
    restart(pipeline)
    write(service.build.context / "tree/more", "more\n")
    await seen(pipeline)
    assert link_of(pipeline) == before  # it sent the one file that is new
    restart(pipeline)
    write(service.build.context / "tree/file", "v2\n")
    assert (await seen(pipeline)).startswith("v2\n")
    assert link_of(pipeline) != before
    assert not before.is_symlink()


@pytest.mark.engine
async def test_s8_a_lost_state_and_other_users_of_the_builder(pipeline: Pipeline, service: Service) -> None:
    context = service.build.context
    by_hand = ["/usr/bin/docker", "build", "--quiet", os.fspath(context)]
    environment = {**os.environ, "DOCKER_BUILDKIT": "1"}
    write(context / "tree/file", "v0\n")
    await anyio.run_process(by_hand, env=environment)
    for text in ("v1\n", "v2\n", "v1\n"):
        write(context / "tree/file", text)
        assert (await seen(pipeline)).startswith(text)
        write(context / "tree/file", "v0\n")
        await anyio.run_process(by_hand, env=environment)
        shutil.rmtree(pipeline.builder._full._reader._sent._folder)
        restart(pipeline)


@pytest.mark.engine
async def test_s8_services_of_like_named_folders(pipeline: Pipeline, service: Service) -> None:
    """buildx knows a context by the last part of its path."""
    first = service.build.context
    links = set()
    for number in (1, 2):
        context = first.with_name(f"p{number}") / "app"
        shutil.copytree(first, context)
        write(context / "tree/file", f"v{number}\n")
        other = replace(service, name=f"s{number}", build=BuildSpec(context, context / "Dockerfile"))
        pipeline.service = other
        assert (await seen(pipeline)).startswith(f"v{number}\n")
        links |= {name.link.name for name in pipeline.builder._full._reader._sent._names.values()}
    assert len(links) == 2


@pytest.mark.engine
async def test_s9_a_copy_is_read_by_the_ignore_rules_of_the_same_command(
    pipeline: Pipeline, service: Service
) -> None:
    """20.10's command and newer ones leave different files out here; in both cases it is that command's."""
    context = service.build.context
    (context / ".dockerignore").write_text("(a)*\nx{2}\nsub\n!**/keep\n")
    for path in ("(a)a", "aaaa", "xx", "x{2}", "sub/keep", "sub/not"):
        write(context / path, "x")
    found = set()
    for moved in (False, True):
        write(context / "tree/file", f"{moved}\n")
        if moved:
            pipeline.builder._full._reader._moved.add(service.name)
        image = await built(pipeline)
        found.add(await shown(pipeline.bench, image, "ls -R /app"))
    assert len(found) == 1


@pytest.mark.engine
@pytest.mark.parametrize("how", ["buildkit", "legacy"])
async def test_s8_other_content_by_the_api(
    pipeline: Pipeline, service: Service, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    without_command(pipeline.bench, monkeypatch)
    pipeline.start()
    if how == "legacy":
        monkeypatch.setattr("devloop.adapters.build.builder.ImageBuilder._has_buildkit", no_buildkit)
    for text, mode, suffix in (
        ("v1\n", 0o755, "drwxr-xr-x"),
        ("v2\n", 0o755, "drwxr-xr-x"),
        ("v2\n", 0o700, "drwx--"),
    ):
        write(service.build.context / "tree/file", text)
        (service.build.context / "tree").chmod(mode)
        image = await built(pipeline)
        assert image.how == how
        seen = await shown(pipeline.bench, image, "cat /seen /mode")
        assert seen.startswith(text + suffix)


@pytest.mark.engine
async def test_s8_a_build_that_failed_after_the_read_keeps_its_name(
    pipeline: Pipeline, service: Service, tiny: str
) -> None:
    write(service.build.dockerfile, f"FROM {tiny}\nCOPY . /app/\nRUN cat /app/tree/none\n")
    with pytest.raises(BuildError):
        await built(pipeline)
    before = link_of(pipeline)
    write(service.build.context / "tree/none", "x\n")
    await built(pipeline)
    assert link_of(pipeline) == before


def trusting(name: Name, entries: object) -> bool:
    return sent._say(name, sent._BEGUN)


BUGS: dict[str, tuple[object, str, Callable[..., object]]] = {
    "the record is not looked at": (sent, "_add", trusting),
}


@pytest.mark.engine
@pytest.mark.parametrize("bug", BUGS)
async def test_s8_planted_bugs_are_found(
    bug: str, pipeline: Pipeline, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, name, wrong = BUGS[bug]
    monkeypatch.setattr(owner, name, wrong)
    assert (await seen(pipeline)).startswith("v1\n")
    write(service.build.context / "tree/file", "v2\n")
    assert not (await seen(pipeline)).startswith("v2\n")


# --- random edits that leave size and time as they are


def files_of(root: Path) -> dict[str, tuple[str, int, str]]:
    """Kind, mode and content of all below a directory; what a build may copy."""
    found = {}
    for path in sorted(root.rglob("*")):
        mode = stat.S_IMODE(path.lstat().st_mode)
        if path.is_symlink():
            found[str(path.relative_to(root))] = "link", 0, str(path.readlink())
        elif path.is_dir():
            found[str(path.relative_to(root))] = "dir", mode, ""
        else:
            found[str(path.relative_to(root))] = "file", mode, path.read_text()
    return found


def edit(chance: random.Random, root: Path) -> str:
    """One edit below a directory whose files all have four bytes and one time."""
    paths = [path for path in sorted(root.rglob("*")) if path.exists() or path.is_symlink()]
    path, other = chance.choice(paths), chance.choice(paths)
    kind = chance.choice(
        ("write", "write", "mode", "swap", "hard", "link", "new", "remove", "folder", "empty")
    )
    if kind == "write" and path.is_file():
        path.write_text(f"{chance.randrange(1000):03}\n")
    elif kind == "mode" and not path.is_symlink():
        path.chmod(chance.choice((0o700, 0o755, 0o711)))
    elif kind == "swap" and not (path.is_relative_to(other) or other.is_relative_to(path)):
        aside = root.with_name("aside")
        for source, target in ((path, aside), (other, path), (aside, other)):
            source.rename(target)
    elif kind == "hard" and path.is_file() and not path.is_symlink() and other.is_file() and path != other:
        other.unlink()
        other.hardlink_to(path)
    elif kind == "link" and path.is_file():
        path.unlink()
        path.symlink_to(chance.choice(("file", "none", "more")))
    elif kind == "new" and path.is_dir() and not path.is_symlink():
        target = path / chance.choice(("file", "more", "other"))
        if not target.is_dir():
            write(target, f"{chance.randrange(1000):03}\n")
    elif kind == "remove" and path.is_file():
        path.unlink()
    elif kind == "folder" and path.is_file():
        path.unlink()
        path.mkdir()
    elif kind == "empty" and path.is_dir() and not path.is_symlink() and path != root / "tree":
        shutil.rmtree(path)
        write(path, f"{chance.randrange(1000):03}\n")
    for one in root.rglob("*"):
        os.utime(one, (NPM, NPM), follow_symlinks=False)
    return f"{kind} {path.relative_to(root)} {other.relative_to(root)}"


async def image_of(pipeline: Pipeline, image: Image, home: Path) -> dict[str, tuple[str, int, str]]:
    """What the image has in /app/tree."""
    client = docker.from_env()
    container = client.api.create_container(image.ref, command=["/none"])["Id"]
    try:
        data = b"".join(client.api.get_archive(container, "/app/tree")[0])
    finally:
        client.api.remove_container(container)
        client.close()
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        archive.extractall(home, filter="fully_trusted")
    found = files_of(home / "tree")
    shutil.rmtree(home / "tree")
    return found


@pytest.mark.engine
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(SEEDS[0], SEEDS[1]))
async def test_s8_any_edit_that_leaves_size_and_time(
    seed: int, pipeline: Pipeline, service: Service, tmp_path: Path, tiny: str
) -> None:
    chance, root = random.Random(seed), service.build.context / "src"
    write(service.build.dockerfile, f"FROM {tiny}\nCOPY src /app/tree\n")
    for name in ("file", "more", "sub/file", "sub/deep/other"):
        write(root / name, f"{chance.randrange(1000):03}\n")
    (tmp_path / "out").mkdir()
    edits: list[str] = []
    for _ in range(8):
        if chance.random() < 0.5:  # a newer save comes first
            with anyio.move_on_after(chance.uniform(0, 1)), suppress(TreeMovedError):
                await built(pipeline)
            edits.append(edit(chance, root))
        image = await built(pipeline)
        assert image.how == "cli"
        assert await image_of(pipeline, image, tmp_path / "out") == files_of(root), edits
        edits += [edit(chance, root) for _ in range(chance.choice((1, 1, 2)))]


# --- the record alone


def inputs(**digests: str) -> Inputs:
    files = {name: FileEntry(name, "file", 0o644, 1, 7, digest) for name, digest in digests.items()}
    return Inputs(files, (), "linux/amd64", "d" * 64, "")


@pytest.fixture
def spec(tmp_path: Path) -> BuildSpec:
    context = tmp_path / "context"
    context.mkdir()
    write(context / "Dockerfile", "FROM scratch\n")
    return BuildSpec(context, context / "Dockerfile")


def test_a_name_stays_while_nothing_can_be_confused(tmp_path: Path, spec: BuildSpec) -> None:
    contexts = SentContexts(tmp_path / "sent")
    names = []
    for known in (inputs(a="1"), inputs(a="1", b="2"), inputs(b="2"), inputs(a="1")):
        names.append(contexts.take("app", spec, known))
        assert names[-1].link.resolve() == spec.context
        contexts.done(names[-1], read=True)
    assert len({name.link for name in names}) == 1
    other = contexts.take("app", spec, inputs(a="2"))
    assert other.link != names[0].link
    contexts.done(other, read=True)
    assert [path.name for path in (tmp_path / "sent").iterdir() if path.is_symlink()] == [other.link.name]


def test_a_build_that_did_not_read_all_ends_its_name(tmp_path: Path, spec: BuildSpec) -> None:
    contexts = SentContexts(tmp_path / "sent")
    first = contexts.take("app", spec, inputs(a="1"))
    beside = contexts.take("app", spec, inputs(a="1", b="1"))
    assert beside.link == first.link
    contexts.done(first, read=False)
    assert beside.link.is_symlink()  # it is still read through
    contexts.done(beside, read=True)
    assert not beside.link.is_symlink()
    assert contexts.take("app", spec, inputs(a="1")).link != first.link


def test_a_killed_devloop_leaves_no_name_that_is_trusted(tmp_path: Path, spec: BuildSpec) -> None:
    killed = SentContexts(tmp_path / "sent").take("app", spec, inputs(a="1"))
    assert SentContexts(tmp_path / "sent").take("app", spec, inputs(a="1")).link != killed.link
    assert killed.link.is_symlink()  # its process still lives: its lock says so
    assert killed.record is not None
    killed.record.close()
    after = SentContexts(tmp_path / "sent").take("app", spec, inputs(a="1"))
    assert after.link != killed.link
    assert not killed.link.is_symlink()


def test_without_a_state_directory_every_build_has_a_name_of_its_own(tmp_path: Path, spec: BuildSpec) -> None:
    (tmp_path / "file").write_text("")
    contexts = SentContexts(tmp_path / "file" / "sent")
    names = []
    for _ in range(2):
        names.append(contexts.take("app", spec, inputs(a="1")))
        assert names[-1].link.resolve() == spec.context
        contexts.done(names[-1], read=True)
    assert names[0].link != names[1].link
    assert not any(name.link.parent.exists() for name in names)


def test_s27_a_name_for_one_build_lies_where_the_next_start_removes_it(
    tmp_path: Path, spec: BuildSpec
) -> None:
    (tmp_path / "file").write_text("")
    name = SentContexts(tmp_path / "file" / "sent").take("app", spec, inputs(a="1"))
    assert (name.link.parent.parent / scratch.LOCK).exists()


def test_without_any_space_the_build_fails_with_that_reason(
    tmp_path: Path, spec: BuildSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file" / "tmp"))
    monkeypatch.setattr(scratch, "_own", scratch._Own())
    with pytest.raises(BuildError, match="cannot make a link"):
        SentContexts(tmp_path / "file" / "sent").take("app", spec, inputs(a="1"))


def test_a_damaged_record_is_not_trusted(tmp_path: Path, spec: BuildSpec) -> None:
    contexts = SentContexts(tmp_path / "sent")
    first = contexts.take("app", spec, inputs(a="1"))
    contexts.done(first, read=True)
    sent._record_of(first.link).write_bytes(b"\xff\x00 half a li")
    assert contexts.take("app", spec, inputs(a="1")).link != first.link


def test_a_record_does_not_grow_for_ever(
    tmp_path: Path, spec: BuildSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sent, "_SPARE", 10)
    contexts = SentContexts(tmp_path / "sent")
    links = set()
    for number in range(40):
        name = contexts.take("app", spec, inputs(**{f"f{number}": "1"}))
        contexts.done(name, read=True)
        links.add(name.link)
    assert 1 < len(links) < 10
    assert len(list((tmp_path / "sent").iterdir())) == 2
