"""Docker with the containerd image store (Docker 29's default), against an engine that is faked over HTTP.

The engine at hand, 20.10, has no such store, so nothing here ran on a real one. The fake does what Docker's
source says (daemon/containerd/image_exporter.go): the Id is the manifest's digest, blobs may be missing where
the snapshots are there, and a load that could not unpack says so in a message and succeeds all the same.
"""

from __future__ import annotations

import gzip
import io
import json
import shutil
import tarfile
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from devloop.adapters.archive import oci_layout as oci
from devloop.adapters.archive.docker_archive import Tally, chain_ids
from devloop.adapters.delta.parents import ParentStore
from devloop.adapters.docker.blob_index import LAYER, Blob, Blobs
from devloop.adapters.docker.config_digest import Digests
from devloop.adapters.docker.endpoint import Endpoint
from devloop.adapters.docker.engine import Engine
from devloop.adapters.docker.engine_facts import ImageFacts
from devloop.adapters.nodes.routes import EngineRoute, SharedRoute
from devloop.adapters.nodes.stores import EngineStore
from devloop.adapters.tar_stream import END, member
from devloop.delta.layer_index import LayerNode
from devloop.errors import LoadError
from devloop.model import Archive, Base, Image
from tests.adapters.conftest import fingerprint

REF = "app:dl-1"


def layer(**files: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content.encode()))
    return out.getvalue()


def files_of(blob: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(blob)) as tar:
        return {one.name: tar.extractfile(one).read() for one in tar if one.isreg()}  # type: ignore[union-attr]


@dataclass
class Store:
    """The engine's state: a content store, images by name, and what is unpacked by chain ID."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    images: dict[str, str] = field(default_factory=dict)
    snapshots: dict[str, dict[str, bytes]] = field(default_factory=dict)
    notes: dict[str, dict[str, str]] = field(default_factory=dict)  # annotations of the images
    containers: dict[str, str] = field(default_factory=dict)
    saved: int = 0
    spoiled: bool = False  # the snapshots it makes hold other bytes

    def described(self, ref: str) -> tuple[dict[str, Any], dict[str, Any]]:
        manifest = json.loads(self.blobs[self.images[ref]])
        return manifest, json.loads(self.blobs[manifest["config"]["digest"]])

    def chains(self, ref: str) -> tuple[str, ...]:
        return chain_ids(self.described(ref)[1]["rootfs"]["diff_ids"])

    def load(self, archive: bytes) -> list[dict[str, str]]:
        content = files_of(archive)
        self.blobs |= {f"sha256:{k[13:]}": v for k, v in content.items() if k.startswith("blobs/sha256/")}
        index = json.loads(content["index.json"])["manifests"][0]
        name = index["annotations"]["io.containerd.image.name"].removeprefix("docker.io/library/")
        self.images[name], self.notes[name] = index["digest"], index["annotations"]
        return [{"stream": self.unpack(name)}]

    def unpack(self, ref: str) -> str:
        manifest, _ = self.described(ref)
        below: dict[str, bytes] = {}
        for chain, described in zip(self.chains(ref), manifest["layers"], strict=True):
            if chain not in self.snapshots:
                blob = self.blobs.get(described["digest"])
                if blob is None:
                    return f"Error unpacking image {ref}: content digest {described['digest']}: not found"
                plain = gzip.decompress(blob) if blob.startswith(b"\x1f\x8b") else blob
                added = {k: b"other" if self.spoiled else v for k, v in files_of(plain).items()}
                self.snapshots[chain] = {**below, **added}
            below = self.snapshots[chain]
        return f"Loaded image: {ref}"

    def save(self, ref: str) -> bytes:
        manifest, _ = self.described(ref)
        wanted = [
            self.images[ref],
            manifest["config"]["digest"],
            *(one["digest"] for one in manifest["layers"]),
        ]
        self.saved += 1
        here = sorted(digest for digest in wanted if digest in self.blobs)
        blobs = b"".join(member(f"blobs/sha256/{d[7:]}", self.blobs[d]) for d in here)
        return blobs + oci.frame(self.blobs[self.images[ref]], ref) + END


def application(store: Store) -> web.Application:
    routes = web.RouteTableDef()

    def refuse(status: int, message: str) -> web.Response:
        return web.json_response({"message": message}, status=status)

    @routes.get("/info")
    async def info(_: web.Request) -> web.Response:
        status = [["driver-type", "io.containerd.snapshotter.v1"]]
        return web.json_response({"ID": str(id(store)), "DriverStatus": status, "Architecture": "x86_64"})

    @routes.get("/images/{ref}/json")
    async def inspect(request: web.Request) -> web.Response:
        ref = request.match_info["ref"]
        if ref not in store.images:
            return refuse(404, "no such image")
        manifest, config = store.described(ref)
        facts = {"Id": store.images[ref], "Size": 10, "Descriptor": {"annotations": store.notes.get(ref)}}
        if all(one["digest"] in store.blobs for one in manifest["layers"]):  # else it shows nothing more
            layers = {"Layers": config["rootfs"]["diff_ids"]}
            facts |= {"RootFS": layers, "Architecture": "amd64", "Os": "linux", "Config": config["config"]}
        return web.json_response(facts)

    @routes.get("/images/{ref}/get")
    async def get(request: web.Request) -> web.Response:
        try:
            return web.Response(body=store.save(request.match_info["ref"]))
        except KeyError as missing:
            return refuse(500, f"content digest {missing}: not found")

    @routes.post("/images/load")
    async def load(request: web.Request) -> web.Response:
        answers = store.load(await request.read())
        return web.Response(text="".join(json.dumps(answer) + "\n" for answer in answers))

    @routes.delete("/images/{ref}")
    async def delete(request: web.Request) -> web.Response:
        gone = store.images.pop(request.match_info["ref"], None)
        return web.json_response([]) if gone else refuse(404, "no such image")

    @routes.post("/containers/create")
    async def create(request: web.Request) -> web.Response:
        ref = (await request.json())["Image"]
        if store.chains(ref)[-1] not in store.snapshots:
            return refuse(404, "parent snapshot does not exist: not found")
        store.containers["c"] = ref
        return web.json_response({"Id": "c"}, status=201)

    @routes.get("/containers/c/archive")
    async def archive(request: web.Request) -> web.Response:
        path = request.query["path"].lstrip("/")
        content = store.snapshots[store.chains(store.containers["c"])[-1]].get(path)
        if content is None:
            return refuse(404, f"Could not find the file /{path}")
        return web.Response(body=member(path.rpartition("/")[2], content) + END)

    @routes.get("/_ping")
    async def ping(_: web.Request) -> web.Response:
        return web.Response(text="OK", headers={"Api-Version": "1.43"})

    @routes.delete("/containers/c")
    async def remove(_: web.Request) -> web.Response:
        del store.containers["c"]
        return web.Response(status=204)

    made = web.Application(client_max_size=1 << 30)
    made.add_routes(routes)
    return made


@dataclass
class Fake:
    store: Store
    engine: Engine
    digests: Digests

    @property
    def node(self) -> EngineStore:
        return EngineStore("node", self.engine, self.digests)


@pytest.fixture
async def fakes() -> AsyncIterator[list[Fake]]:
    """Two such engines: a builder's, and a node's."""
    home = Path(tempfile.mkdtemp(prefix="dlt"))
    made, runners = [], []
    for name in ("builder", "node"):
        store = Store()
        served = application(store)
        served.add_subapp("/v1.43/", application(store))  # the docker package names the version
        runner = web.AppRunner(served)
        await runner.setup()
        await web.UnixSite(runner, str(home / name)).start()
        engine = Engine.at(Endpoint(f"unix://{home / name}", origin="the test"))
        made.append(Fake(store, engine, Digests(engine)))
        runners.append(runner)
    yield made
    for fake, runner in zip(made, runners, strict=True):
        await fake.engine.aclose()
        await runner.cleanup()
    shutil.rmtree(home)


def put_base(store: Store, *, blobs: bool = True) -> tuple[str, str]:
    """A base as a pull leaves it: its layer's blob is compressed. The diff_id, and the config's digest."""
    plain = layer(base="below")
    packed = gzip.compress(plain, mtime=0)
    diff_id = oci.sha256(plain)
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Env": ["PATH=/bin"]},
            "history": [{"created_by": "pulled"}],
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        }
    ).encode()
    compressed = Blob(oci.sha256(packed), len(packed), f"{LAYER}+gzip")
    described = oci.manifest(oci.sha256(config), len(config), [compressed])
    store.blobs |= {oci.sha256(one): one for one in (config, described, packed)}
    store.images["base:1"] = oci.sha256(described)
    store.unpack("base:1")
    if not blobs:
        del store.blobs[oci.sha256(packed)]
    return diff_id, oci.sha256(config)


def delta_on(diff_id: str, **files: str) -> Image:
    new = layer(**files)
    diff_ids = (diff_id, oci.sha256(new))
    config = json.dumps(
        {"architecture": "amd64", "config": {}, "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    ).encode()
    return Image("app", fingerprint(), REF, oci.sha256(config), "delta", 100, Archive(config, new, diff_ids))


async def test_a_delta_is_verified_by_its_manifest_and_a_file_that_is_read(fakes: list[Fake]) -> None:
    """S2: the Id is the manifest's digest there, and devloop still speaks of the config's."""
    fake = fakes[0]
    image = delta_on(put_base(fake.store, blobs=False)[0], changed="new")
    route = SharedRoute(fake.engine, (fake.node,))
    tally = await route.send(image, route.stores, lambda _: None)
    assert tally.sent < 20_000
    assert fake.store.images[REF] != image.id
    assert await fake.node.digest(REF) == image.id
    assert fake.store.saved == 0
    assert fake.store.containers == {}


async def test_a_delta_that_only_deletes_is_verified_by_a_container_that_can_be_made(
    fakes: list[Fake],
) -> None:
    fake = fakes[0]
    image = delta_on(put_base(fake.store)[0], **{".wh.base": ""})
    await SharedRoute(fake.engine, (fake.node,)).send(image, (fake.node,), lambda _: None)
    assert await fake.node.digest(REF) == image.id


async def test_s3_a_load_that_only_says_so_leaves_no_tag(fakes: list[Fake]) -> None:
    """The layer below is nowhere: Docker prints that it cannot unpack, answers 200 and keeps the tag."""
    fake = fakes[0]
    image = delta_on(oci.sha256(layer(base="below")), changed="new")
    with pytest.raises(LoadError) as caught:
        await SharedRoute(fake.engine, (fake.node,)).send(image, (fake.node,), lambda _: None)
    assert caught.value.reason == "NotUnpacked"
    assert REF not in fake.store.images
    assert fake.store.containers == {}


async def test_s3_other_content_under_the_tag_is_an_error(fakes: list[Fake]) -> None:
    fake = fakes[0]
    diff_id, _ = put_base(fake.store)
    fake.store.spoiled = True
    with pytest.raises(LoadError) as caught:
        await SharedRoute(fake.engine, (fake.node,)).send(
            delta_on(diff_id, changed="new"), (fake.node,), lambda _: None
        )
    assert "/changed is not what the delta holds" in caught.value.message
    assert REF not in fake.store.images


async def test_a_node_that_lacks_the_layers_below_gets_the_whole_image(fakes: list[Fake]) -> None:
    builder, node = fakes
    plain = layer(base="below")
    builder.store.blobs[oci.sha256(plain)] = plain
    image = delta_on(oci.sha256(plain), changed="new")
    route = EngineRoute("engine", builder.engine, builder.digests, (node.node,))
    tally = await route.send(image, route.stores, lambda _: None)
    assert tally.sent > len(plain)
    assert node.store.snapshots[node.store.chains(REF)[-1]] == {"base": b"below", "changed": b"new"}
    assert await node.node.digest(REF) == image.id


async def test_layers_of_a_base_are_read_from_compressed_blobs(fakes: list[Fake], tmp_path: Path) -> None:
    """In its archive blobs come in any order, named by what they are compressed to."""
    fake = fakes[0]
    diff_id, config = put_base(fake.store)
    store = ParentStore(tmp_path)
    parent = await store.base(fake.engine, Base("base:1", config))
    assert parent is not None
    assert parent.diff_ids == (diff_id,)
    assert parent.layers.find("base") == LayerNode("file", 0o644, 0, 0, 0, len("below"))
    again = await ParentStore(tmp_path).base(fake.engine, Base("base:1", config))
    assert again is not None
    assert fake.store.saved == 1


async def test_a_delta_of_an_earlier_run_is_known_without_reading_it(fakes: list[Fake]) -> None:
    """Its own index notes the config's digest, as BuildKit's does."""
    fake = fakes[0]
    image = delta_on(put_base(fake.store, blobs=False)[0], changed="new")
    await SharedRoute(fake.engine, (fake.node,)).send(image, (fake.node,), lambda _: None)
    later = EngineStore("node", fake.engine, Digests(fake.engine))
    assert await later.digest(REF) == image.id
    assert fake.store.saved == 0


async def test_an_image_without_all_blobs_is_known_by_the_engines_own_id(fakes: list[Fake]) -> None:
    fake = fakes[0]
    put_base(fake.store, blobs=False)
    facts = await facts_of(fake, "base:1")
    assert await fake.digests.of("base:1", facts) == facts.id == fake.store.images["base:1"]
    assert await fake.digests.layers("base:1", facts) == {}
    assert fake.store.saved == 0


async def test_a_delta_names_the_blobs_that_the_engine_has(fakes: list[Fake], tmp_path: Path) -> None:
    """Else the engine has its snapshots only, and tells neither its labels nor its layers."""
    fake = fakes[0]
    diff_id, config = put_base(fake.store)
    kept = tmp_path / "blobs.json"
    await Digests(fake.engine, Blobs(kept)).layers("base:1", await facts_of(fake, "base:1"))
    image = delta_on(diff_id, changed="new")
    node = EngineStore("node", fake.engine, Digests(fake.engine, Blobs(kept)))  # of the next run
    await SharedRoute(fake.engine, (node,)).send(image, (node,), lambda _: None)
    assert image.archive is not None
    assert (await facts_of(fake, REF)).diff_ids == image.archive.diff_ids
    assert fake.store.saved == 1
    assert await Digests(fake.engine).of("base:1", await facts_of(fake, "base:1")) == config


async def test_compressed_layers_that_a_node_has_are_left_out(fakes: list[Fake]) -> None:
    """From such an engine into containerd, as they are; the manifest is the engine's own."""
    fake = fakes[0]
    diff_id, config = put_base(fake.store)
    facts = await facts_of(fake, "base:1")
    blobs = await fake.digests.layers("base:1", facts)
    for known, members in ((frozenset[str](), 1), (frozenset({diff_id}), 0)):
        tally = Tally()
        repacked = oci.Repacked("base:1", config, facts.diff_ids, known, tally, blobs)
        async with fake.engine.save("base:1") as archive:
            sent = files_of(b"".join([piece async for piece in repacked.filter(archive)]))
        assert sum(f"sha256:{name[13:]}" == blobs[diff_id].digest for name in sent) == members
        index = json.loads(sent["index.json"])["manifests"][0]
        layers = json.loads(sent[f"blobs/sha256/{index['digest'][7:]}"])["layers"]
        assert [(one["digest"], one["mediaType"]) for one in layers] == [
            (blobs[diff_id].digest, f"{LAYER}+gzip")
        ]
        assert (tally.skipped > 0) == (not members)


async def facts_of(fake: Fake, ref: str) -> ImageFacts:
    facts = await fake.engine.inspect(ref)
    assert facts is not None
    return facts
