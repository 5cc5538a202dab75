"""Files that are none, odd names and odd times: nothing waits, nothing ends."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import pytest

from devloop.adapters.docker.endpoint import current
from devloop.adapters.kubernetes.api.kubeconfig import read_context
from devloop.adapters.kubernetes.manifests import read_manifests
from devloop.config import load as configs
from devloop.delta.delta import stamp
from devloop.deploy.helm_values import base_values
from devloop.deploy.kustomization import sources
from devloop.dockerfile.dockerignore import NO_RULES
from devloop.errors import ConfigError, DevloopError, FingerprintError, TreeMovedError
from devloop.files import read_bytes, read_text
from devloop.inputs.archive import copy_context, read_dockerfile, tar_context
from devloop.inputs.fingerprinter import TreeFingerprinter
from devloop.inputs.stat_cache import StatCache, identity
from devloop.model import BuildSpec, Change, Inputs, Release, Secret, Service, ValuesFile
from devloop.secrets.sources import Sources
from tests.watch.test_rescan import EVERYTHING, NoBases, amd64, service_of
from tests.watch.test_watcher import interest, watching

ODD_NAMES = [
    "new\nline",
    os.fsdecode(b"caf\xe9"),
    "x" * 255,
    "-rf",
    " ",
    "a\tb",
    "\u202egnp",
    "[x]*?",
    "$(x)",
    "\\",
]
YEAR_12000 = 317_000_000_000


def a_fifo(path: Path) -> None:
    os.mkfifo(path)


def a_socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # the path of a socket is at most 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def a_device(path: Path) -> None:
    os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))  # /dev/zero never ends


def a_link_to_a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def a_folder(path: Path) -> None:
    path.mkdir()


def a_circle(path: Path) -> None:
    path.symlink_to(path.name)


OTHERS = [a_fifo, a_socket, a_device, a_link_to_a_device, a_folder, a_circle]


@pytest.mark.parametrize("make", OTHERS)
@pytest.mark.timeout(20)
def test_what_is_no_file_is_an_error_at_once(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "it"
    make(path)
    for read in (read_bytes, read_text):
        with pytest.raises(OSError):
            read(path)


def test_a_file_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "it"
    path.write_bytes(b"\xef\xbb\xbfa\r\nb\rc\n")
    assert read_text(path, "utf-8-sig") == "a\nb\nc\n" == path.read_text("utf-8-sig")
    assert read_bytes(path, 4) == b"\xef\xbb\xbfa"


@pytest.mark.parametrize("make", OTHERS)
@pytest.mark.timeout(20)
def test_whatever_lies_where_a_file_is_read_becomes_an_error_of_ours(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    path = tmp_path / "it.yaml"
    make(path)
    release = Release("r", tmp_path, "d", values=(ValuesFile(path),))
    reads: list[Callable[[], object]] = [
        lambda: configs.load(path),
        lambda: read_manifests([path]),
        lambda: base_values(release, {}),
        lambda: read_context([path], "x"),
    ]
    for read in reads:
        with pytest.raises(ConfigError) as caught:
            read()
        assert "it.yaml" in caught.value.message
    empty = Inputs({}, (), "linux/amd64", "", "")
    with pytest.raises(TreeMovedError):
        read_dockerfile(path, empty)
    secret = BuildSpec(tmp_path, path, secrets=(Secret("s", file=path),))
    assert dict(Sources((Service("a", "a", secret, ()),)).values()) == {"s": ""}
    assert current({"HOME": str(tmp_path), "DOCKER_CONFIG": str(tmp_path)}).host


@pytest.mark.parametrize("make", OTHERS)
@pytest.mark.timeout(20)
def test_a_kustomization_that_names_what_is_no_file_is_read(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    (tmp_path / "kustomization.yaml").write_text("resources: [it.yaml]\ntransformers: [it.yaml]\n")
    make(tmp_path / "it.yaml")
    assert tmp_path / "kustomization.yaml" in sources(tmp_path)
    (tmp_path / "kustomization.yaml").unlink()
    make(tmp_path / "kustomization.yaml")
    assert tmp_path / "kustomization.yaml" in sources(tmp_path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "app"
    root.mkdir()
    (root / "main.py").write_text("one")
    (root / "Dockerfile").write_text("FROM scratch\nCOPY . /app/\n")
    return root


@pytest.fixture
def trees(tmp_path: Path) -> TreeFingerprinter:
    return TreeFingerprinter(NoBases(), StatCache(tmp_path / "stat.sqlite"), amd64)


@pytest.mark.parametrize("name", ["Dockerfile", ".dockerignore"])
@pytest.mark.parametrize("make", OTHERS)
@pytest.mark.timeout(20)
async def test_a_dockerfile_or_ignore_file_that_is_no_file_is_reported(
    root: Path, trees: TreeFingerprinter, name: str, make: Callable[[Path], None]
) -> None:
    (root / name).unlink(missing_ok=True)
    make(root / name)
    with pytest.raises(DevloopError) as caught:
        await trees.take(service_of(root), EVERYTHING)
    assert str(root / name) in caught.value.message


@pytest.mark.parametrize("make", OTHERS)
@pytest.mark.timeout(30)
async def test_in_a_context_it_counts_and_is_watched(
    root: Path, trees: TreeFingerprinter, make: Callable[[Path], None]
) -> None:
    service = service_of(root)
    before = await trees.take(service, EVERYTHING)
    async with watching(interest(root)) as ears:
        make(root / "it")
        await ears.until(lambda: ears.heard(root / "it") or ears.looks_at_all())
        await ears.settled()
        change = ears.changes[0][1]
        after = await trees.take(service, change)
        assert after.digest != before.digest
        assert await trees.looks_the_same(service)
        b"".join(tar_context(root, after.inputs, NO_RULES))
        copy_context(root, after.inputs, root.parent / "copy")
        ears.forget()
        (root / "main.py").write_text("two")
        await ears.until(lambda: ears.heard(root / "main.py"))
    cold = TreeFingerprinter(NoBases(), StatCache(root.parent / "other.sqlite"), amd64)
    again = await trees.take(service, Change(frozenset({root / "main.py"}), 0.0, 0.0))
    assert (await cold.take(service, EVERYTHING)).digest == again.digest


@pytest.mark.parametrize("name", ODD_NAMES)
async def test_odd_names_are_watched_read_and_sent(root: Path, trees: TreeFingerprinter, name: str) -> None:
    service = service_of(root)
    before = await trees.take(service, EVERYTHING)
    async with watching(interest(root)) as ears:
        (root / name).mkdir()
        (root / name / name).write_text("one")
        await ears.until(lambda: ears.heard(root / name / name) or ears.looks_at_all())
        await ears.settled()
    after = await trees.take(service, EVERYTHING)
    assert f"{name}/{name}" in after.inputs.files
    assert after.digest != before.digest
    assert b"".join(tar_context(root, after.inputs, NO_RULES))
    copy_context(root, after.inputs, root.parent / "copy")
    assert (root.parent / "copy" / name / name).read_text() == "one"
    await trees.close()
    warm = TreeFingerprinter(NoBases(), StatCache(root.parent / "stat.sqlite"), amd64)
    assert (await warm.take(service, EVERYTHING)).digest == after.digest


@pytest.mark.parametrize(
    "seconds", [YEAR_12000, 2**33, 2**34 - 1, -1, -(2**31), -62_167_219_200 - 1, 9_300_000_000]
)
async def test_times_from_another_age_end_nothing(
    tmp_path: Path, root: Path, trees: TreeFingerprinter, seconds: int
) -> None:
    """The file system keeps what it can of such a time; what it gives back is taken as it is."""
    os.utime(root / "main.py", (seconds, seconds))
    os.utime(root, (seconds, seconds))
    service = service_of(root)
    async with watching(interest(root)) as ears:
        (root / "main.py").chmod(0o755)
        await ears.until(lambda: ears.heard(root / "main.py"))
    first = await trees.take(service, EVERYTHING)
    await trees.close()
    warm = TreeFingerprinter(NoBases(), StatCache(tmp_path / "stat.sqlite"), amd64)
    assert (await warm.take(service, EVERYTHING)).digest == first.digest
    assert b"".join(tar_context(root, first.inputs, NO_RULES))
    copy_context(root, first.inputs, tmp_path / "copy")


@pytest.mark.parametrize("seconds", [YEAR_12000, 10**15, -1, -(2**31), -62_135_596_800, -(10**15), 0])
def test_a_time_that_no_config_can_say_is_the_nearest_that_it_can(seconds: int) -> None:
    text = stamp(seconds * 10**9 + 5)
    assert len(text) == len("2026-01-02T03:04:05.000000000Z")
    assert "0001" <= text[:4] <= "9999"
    assert stamp(1_700_000_000 * 10**9) == "2023-11-14T22:13:20.000000000Z"


def test_s7_the_stat_cache_keeps_times_that_a_database_cannot(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    found = file.stat()
    far = -(10**12) * 10**9
    shown = os.stat_result(
        (*tuple(found)[:7], found.st_atime, -1e12, found.st_ctime),
        {"st_mtime_ns": far, "st_ctime_ns": found.st_ctime_ns, "st_atime_ns": found.st_atime_ns},
    )
    assert all(-(2**63) <= part < 2**63 for part in identity(shown))


@pytest.fixture
def as_nobody(root: Path) -> Iterator[Path]:
    """A folder of another user than root, who reads everything, and this process as that user."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        app = Path(folder, "app")
        shutil.copytree(root, app)
        for path in (Path(folder), app, *app.iterdir()):
            os.chown(path, 65534, 65534)
        before = os.geteuid()
        os.seteuid(65534)
        try:
            yield app
        finally:
            os.seteuid(before)


@pytest.mark.parametrize("name", ["locked", "secret"])
async def test_what_is_unreadable_is_reported_and_the_rest_is_watched(as_nobody: Path, name: str) -> None:
    root = as_nobody
    trees = TreeFingerprinter(NoBases(), StatCache(root.parent / "stat.sqlite"), amd64)
    async with watching(interest(root)) as ears:
        if name == "locked":
            (root / name).mkdir()
            (root / name / "file").write_text("x")
        else:
            (root / name).write_text("x")
        (root / name).chmod(0)
        await ears.until(lambda: ears.heard(root / name))
        await ears.settled()
        with pytest.raises(FingerprintError) as caught:
            await trees.take(service_of(root), EVERYTHING)
        assert (caught.value.reason, name in caught.value.message) == ("Unreadable", True)
        ears.forget()
        (root / "main.py").write_text("two")
        await ears.until(lambda: ears.heard(root / "main.py"))
        await ears.settled()
        ears.forget()
        (root / name).chmod(0o755)
        await ears.until(lambda: ears.heard(root / name))
        assert (await trees.take(service_of(root), ears.changes[0][1])).digest
        await ears.settled()
        ears.forget()
        if name == "locked":
            (root / name / "file").write_text("seen now")
            await ears.until(lambda: ears.heard(root / name / "file"))


async def test_a_root_that_may_not_be_entered_ends_nothing(as_nobody: Path) -> None:
    as_nobody.parent.chmod(0)
    try:
        async with watching(interest(as_nobody, files=frozenset({as_nobody / "Dockerfile"}))) as ears:
            as_nobody.parent.chmod(0o755)
            await ears.until(ears.looks_at_all)
            await ears.settled()
            ears.forget()
            (as_nobody / "main.py").write_text("two")
            await ears.until(lambda: ears.heard(as_nobody / "main.py"))
    finally:
        as_nobody.parent.chmod(0o755)


async def test_links_in_a_circle_in_a_context_end_nothing(root: Path, trees: TreeFingerprinter) -> None:
    (root / "a").symlink_to("b")
    (root / "b").symlink_to("a")
    (root / "self").symlink_to(".")
    (root / "up").symlink_to("..")
    (root / "Dockerfile").write_text(
        "FROM scratch\nCOPY a /a\nCOPY self /self\nCOPY up/ /up/\nCOPY self/self/main.py /\n"
    )
    with anyio.fail_after(10):
        found = await trees.take(service_of(root), EVERYTHING)
    assert found.digest
