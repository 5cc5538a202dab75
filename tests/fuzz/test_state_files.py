"""What devloop keeps in its state directory, and reads back: damaged in any way it costs time, no error.

The values that come out have their types, and what is written over a damaged file can be read again.
"""

from __future__ import annotations

import base64
import json
import os
import re
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import anyio
from hypothesis import example, given
from hypothesis import strategies as st

from devloop.adapters.checks.images import Scans
from devloop.adapters.delta.parent_files import ParentFiles
from devloop.adapters.docker.blob_index import Blob, Blobs
from devloop.adapters.docker.engine import Engine
from devloop.adapters.lock import Owner
from devloop.adapters.nodes.gc import FirstSeen
from devloop.clock import Clock
from devloop.commands import watch_addresses
from devloop.config import load as configs
from devloop.delta.layer_index import Layer, LayerNode
from devloop.deploy.manifests import Manifests
from devloop.errors import PlatformError
from devloop.events import Notice
from devloop.inputs import rebuild_salt
from devloop.inputs.stat_cache import StatCache
from devloop.ports import Cluster
from devloop.sinks.journal import Journal
from devloop.sinks.live_images import History
from tests.fuzz.words import NASTY, bounded, broken_bytes, cases, json_texts

NOW = 1_700_000_000.0
DIGEST = "sha256:" + "5" * 64


@contextmanager
def kept(name: str, content: bytes) -> Iterator[Path]:
    """A state directory in which the file has this content."""
    with tempfile.TemporaryDirectory() as made, bounded():
        file = Path(made, name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        yield file


@cases(20)
@given(json_texts({"web": ["web:dl-1", "web:dl-2"], "api": ["api:dl-1"]}))
def test_live_images(content: bytes) -> None:
    with kept("lived.json", content) as file:
        history = History(file)
        refs = [*history.of("web"), *history.newest(1), *history.all()]
        assert all(isinstance(ref, str) for ref in refs)
        history.forget(frozenset({"web:dl-1"}))
        assert History(file).all() == history.all()


@cases(20)
@given(json_texts({"web": "salt", "api": "x"}))
def test_rebuild_salts(content: bytes) -> None:
    for name in (rebuild_salt.FILE, rebuild_salt.OLD_FILE):
        with kept(name, content) as file:
            known = rebuild_salt.read(file.parent)
            assert all(isinstance(one, str) for pair in known.items() for one in pair)
            salts = rebuild_salt.RebuildSalts(file.parent)
            salts.renew(["web"], "new")
            assert salts.by_service["web"] == "new"
            assert rebuild_salt.read(file.parent)["web"] == "new"


@cases(20)
@given(json_texts({"url": "http://127.0.0.1:9100"}))
def test_announcements_of_watches(content: bytes) -> None:
    with kept("p/config.yaml", b"version: 1\n") as file:
        (file.parent / "Dockerfile").write_text("FROM scratch\n")
        file.write_text("version: 1\nservices: {a: {image: a, build: {context: .}}}\n")
        before = os.environ.get("XDG_STATE_HOME")
        os.environ["XDG_STATE_HOME"] = str(file.parents[1])
        try:
            config = configs.load(file)
            folder = configs.state_dir(file) / watch_addresses.FOLDER
            folder.mkdir(parents=True)
            (folder / f"{os.getpid()}.json").write_bytes(content)
            for address in watch_addresses.addresses(config):
                assert isinstance(address.url, str | None)
        finally:
            if before is None:
                del os.environ["XDG_STATE_HOME"]
            else:
                os.environ["XDG_STATE_HOME"] = before


@cases(20)
@given(json_texts({"host": "here", "pid": 5, "path": "/p/config.yaml"}))
def test_owners_in_lock_files_and_annotations(content: bytes) -> None:
    with bounded():
        owner = Owner.parse(content.decode(errors="replace"))
    assert owner is None or isinstance(owner.pid, int)


@cases(20)
@given(json_texts({"https://127.0.0.1:1 default": "0123 web api", "x": "0123"}))
def test_what_was_applied_last(content: bytes) -> None:
    with kept("manifests.json", content) as file:
        manifests = Manifests(
            tuple, tuple, cast(Cluster, None), lambda _: None, file, "https://127.0.0.1:1 default"
        )
        digest, left_out = manifests._applied()
        assert all(isinstance(one, str) for one in (digest, *left_out))
        manifests._remember("now", ("web",))
        assert manifests._applied() == ("now", {"web"})


@cases(20)
@given(json_texts({DIGEST: [["/app/.env", False], ["/app/key", True]]}))
def test_scans_of_images(content: bytes) -> None:
    """An image that is not known any more would be read again, by this engine that is not there."""

    class Gone:
        def save(self, ref: str) -> object:
            raise PlatformError("no engine")

        inspect = save

    with kept("layers.json", content) as file, suppress(PlatformError):
        files = anyio.run(Scans(file).files, cast(Engine, Gone()), "web:1", DIGEST)
        assert all(isinstance(one.path, str) and isinstance(one.private_key, bool) for one in files)


@cases(20)
@given(json_texts({"node": {"web:dl-1": NOW - 5000.0, "web:dl-2": NOW}}))
@example(b'{"node": {"web:dl-1": -1e30}}')  # older than an hour from the first look on
@example(b'{"node": {"web:dl-1": NaN}}')  # never older than an hour: the image stayed for ever
@example(b'{"node": {"web:dl-1": ' + b"9" * 400 + b"}}")
def test_when_images_were_first_seen(content: bytes) -> None:
    with kept("seen.json", content) as file:
        for _ in range(2):  # and what it wrote itself
            since = FirstSeen(file).since("node", ["web:dl-1", "web:dl-3"], NOW)
            assert since.keys() == {"web:dl-1", "web:dl-3"}
            assert all(0 <= at <= NOW for at in since.values()), since


@cases(20)
@given(json_texts({"layers": {DIGEST: [DIGEST, 5, "application/x"]}, "configs": {DIGEST: DIGEST}}))
def test_digests_of_blobs(content: bytes) -> None:
    with kept("blobs.json", content) as file:
        blobs = Blobs(file)
        for blob in blobs.of([DIGEST]).values():
            assert (type(blob.digest), type(blob.size), type(blob.media)) == (str, int, str)
        assert isinstance(blobs.config(DIGEST), str | None)
        blobs.name("image", DIGEST)
        assert Blobs(file).config("image") == DIGEST
        assert blobs.of([DIGEST]) == Blobs(file).of([DIGEST])
        assert Blob(DIGEST, 5) == Blob(DIGEST, 5)


CONFIG = {
    "architecture": "amd64", "config": {"Env": ["A=b"], "Labels": {"a": "b"}},
    "history": [{"created_by": "COPY"}], "rootfs": {"type": "layers", "diff_ids": [DIGEST]},
}  # fmt: skip
PACKED = base64.b64encode(json.dumps(CONFIG).encode()).decode()
RECORD = {"recipe": "r", "config": PACKED, "diff_ids": [DIGEST], "full": 1}
NODES = {"app": LayerNode("dir", 0o755, 0, 0), "app/x": LayerNode("file", 0o644, 0, 0, 5, 3)}
LAYER = Layer(NODES, frozenset({"gone"}), frozenset({"app"}))


def _is_sound(layer: Layer) -> bool:
    texts = [*layer.nodes, *layer.gone, *layer.opaque]
    numbers = [
        n for node in layer.nodes.values() for n in (node.mode, node.uid, node.gid, node.mtime, node.size)
    ]
    kinds = {node.kind for node in layer.nodes.values()}
    links = [node.link for node in layer.nodes.values()]
    return (
        all(isinstance(one, str) for one in (*texts, *links))
        and all(type(one) is int for one in numbers)
        and kinds <= {"file", "dir", "link", "hard", "other"}
    )


def _packed(text: bytes) -> bytes:
    return zlib.compress(text, 1)


ROWS = [1, [["app", "dir", 493, 0, 0, 0, 0, ""], ["app/x", "file", 420, 0, 0, 5, 3, ""]], ["gone"], ["app"]]


@cases(25)
@given(json_texts(ROWS).map(_packed) | broken_bytes(LAYER.dump()) | st.sampled_from(NASTY))
def test_layers(content: bytes) -> None:
    with bounded():
        try:
            layer = Layer.load(content)
        except ValueError:
            return
    assert _is_sound(layer)
    assert Layer.load(layer.dump()) == layer


def _with_config(value: object) -> bytes:
    return json.dumps({**RECORD, "config": base64.b64encode(cast(bytes, value)).decode()}).encode()


@cases(25)
@given(json_texts(RECORD) | json_texts(CONFIG).map(_with_config))
def test_parents(content: bytes) -> None:
    with kept("of-web/0123.json", content) as file:
        folder = file.parents[1]
        (folder / "layers").mkdir()
        (folder / "layers" / f"{'5' * 64}.layer").write_bytes(LAYER.dump())
        files = ParentFiles(folder)
        parent = files.read("web", "0123")
        if parent is not None:
            config = json.loads(parent.config)
            assert config["rootfs"]["diff_ids"] == [*parent.diff_ids]
            assert 0 <= parent.full <= len(parent.diff_ids) == len(parent.layers.stack)
            files.write("web", "4567", parent)
            assert ParentFiles(folder).read("web", "4567") == parent
        sound = json.dumps(RECORD).encode()
        (file.parent / "89ab.json").write_bytes(sound)
        other = ParentFiles(folder).read("web", "89ab")
        assert other is not None
        files.write("web", "cdef", other)  # tidies up, past the damaged record


def _database() -> bytes:
    with tempfile.TemporaryDirectory() as made:
        file = Path(made, "stat.sqlite")
        source = Path(made, "source")
        source.write_text("x")
        os.utime(source, (5, 5))
        cache = StatCache(file, now_ns=lambda: 1 << 62)
        cache.read(str(source), lambda: None)
        cache.save()
        return file.read_bytes()


DATABASE = _database()


@cases(20)
@given(broken_bytes(DATABASE) | st.sampled_from(NASTY))
@example(DATABASE.replace(b"mtime INTEGER", b"mtime 0\x80INTEGE"))  # SQLite's own message is no UTF-8
def test_the_stat_cache(content: bytes) -> None:
    with kept("stat.sqlite", content) as file:
        source = file.parent / "source"
        source.write_text("content")
        warnings: list[str] = []
        cache = StatCache(file, warn=warnings.append)
        assert all(
            re.fullmatch("[0-9a-f]{64}", digest) and all(type(n) is int for n in seen)
            for seen, digest in cache.below(str(file.parent)).values()
        )
        found, _ = cache.read(str(source), lambda: None)
        assert found == "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73"
        cache.save()
        assert all(str(file) in one for one in warnings)


@cases(25)
@given(json_texts({"time": 5, "event": "Notice"}).map(lambda line: line * 3))
def test_the_journal_goes_on_in_a_line_of_its_own(content: bytes) -> None:
    with kept("journal.jsonl", content) as file:
        with Journal(file.parent, Clock()) as journal:
            journal(Notice("web", "info", "after the damage"))
            assert journal.trouble is None
        assert file.read_bytes().startswith(content)
        assert json.loads(file.read_bytes().splitlines()[-1])["message"] == "after the damage"


READERS: dict[str, Callable[[Path], Any]] = {
    "lived.json": lambda file: History(file).all(),
    "rebuilds.json": lambda file: rebuild_salt.read(file.parent),
    "seen.json": lambda file: FirstSeen(file).since("node", ["a"], NOW),
    "blobs.json": lambda file: Blobs(file).config("a"),
    "0123.json": lambda file: ParentFiles(file.parents[1]).read("x", "0123"),
}


@cases(20)
@given(st.sampled_from(sorted(READERS)), st.sampled_from(("fifo", "folder", "link", "device")))
def test_what_is_no_file(name: str, kind: str) -> None:
    """Nobody waits at a FIFO."""
    with tempfile.TemporaryDirectory() as made, bounded():
        file = Path(made, "of-x", name)
        file.parent.mkdir()
        if kind == "fifo":
            os.mkfifo(file)
        elif kind == "folder":
            file.mkdir()
        else:
            file.symlink_to("/dev/zero" if kind == "device" else name)
        READERS[name](file)
