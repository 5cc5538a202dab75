"""Real engines for the adapters' tests: this machine's, and a second one that may be broken at will."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from devloop.adapters.build.builder import ImageBuilder
from devloop.adapters.build.sent_contexts import SentContexts
from devloop.adapters.docker.config_digest import Digests
from devloop.adapters.docker.endpoint import current
from devloop.adapters.docker.engine import Engine
from devloop.adapters.nodes.routes import SharedRoute
from devloop.adapters.nodes.stores import EngineStore
from devloop.events import Event, Output
from devloop.model import BuildSpec, Fingerprint, Inputs, Secret, Service
from tests.support.dockerd import Dockerd
from tests.support.file_to_node import DOCKERFILE, Pipeline
from tests.support.registry import Registry, registry_command

TINY = f"devloop-dockertest-tiny:{os.getpid()}"  # each process removes its own
PREFIX = "devloop-dockertest-"


@pytest.fixture(scope="session")
def tiny() -> Iterator[str]:
    """A base image of one static busybox, made from this machine's own."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.GNU_FORMAT) as tar:
        busybox = shutil.which("busybox")
        assert busybox, "apt install busybox-static"
        tar.add(os.path.realpath(busybox), "bin/busybox")
        for name in ("sh", "sleep", "echo", "cat", "ls", "true", "false", "dd", "seq", "mkdir", "touch"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    subprocess.run(["docker", "import", "-", TINY], input=archive.getvalue(), check=True, capture_output=True)
    yield TINY
    subprocess.run(["docker", "image", "rm", TINY], check=False, capture_output=True)


@dataclass
class Folder:
    """`ContextTree` over a folder of a test, without the real one's ignore rules."""

    moved: bool = False

    async def archive(self, service: Service, fingerprint: Fingerprint) -> AsyncIterator[bytes]:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
            for path in sorted(service.build.context.iterdir()):
                tar.add(path, path.name)
        yield out.getvalue()

    async def complete(self, service: Service, fingerprint: Fingerprint) -> bool:
        return service.build.dockerfile.is_relative_to(service.build.context)

    async def still_matches(self, service: Service, fingerprint: Fingerprint) -> bool:
        return not self.moved


@dataclass
class Bench:
    """What a test of builds needs: an engine, a maker of services, and all that was emitted."""

    engine: Engine
    digests: Digests
    folder: Path
    events: list[Event] = field(default_factory=list)
    tree: Folder = field(default_factory=Folder)
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))
    made: set[str] = field(default_factory=set)
    project: str = field(default_factory=lambda: f"test-{uuid.uuid4().hex[:8]}")

    def service(
        self, dockerfile: str, *, args: dict[str, str] | None = None, secrets: tuple[Secret, ...] = ()
    ) -> Service:
        """A service whose context holds the Dockerfile and a file of its own content."""
        context = self.folder / uuid.uuid4().hex[:8]
        context.mkdir()
        (context / "Dockerfile").write_text(dockerfile)
        (context / "file").write_text(context.name)
        image = f"{PREFIX}{context.name}"
        self.made.add(image)
        return Service(
            context.name,
            image,
            BuildSpec(context, context / "Dockerfile", args=args or {}, secrets=secrets),
            (),
        )

    def builder(self, **wiring: object) -> ImageBuilder:
        return ImageBuilder(
            self.engine,
            self.digests,
            self.tree,
            self.project,
            self.events.append,
            self.environment,
            SentContexts(self.folder / "contexts"),
            **wiring,  # type: ignore[arg-type]
        )

    def lines(self) -> list[str]:
        return [event.line for event in self.events if isinstance(event, Output)]


def fingerprint(platform: str = "linux/amd64") -> Fingerprint:
    return Fingerprint(uuid.uuid4().hex[:16], Inputs({}, (), platform, "", ""))


@pytest.fixture
async def bench(tmp_path: Path, tiny: str) -> AsyncIterator[Bench]:
    """The builder's engine of this machine; whatever is built on it goes at the end."""
    engine = Engine.at(current(os.environ), role="builder's engine")
    bench = Bench(engine, Digests(engine), tmp_path)
    yield bench
    for image in await engine.images():
        for ref in image.refs:
            if ref.rpartition(":")[0] in bench.made:
                await engine.remove(ref)
    await engine.aclose()


@pytest.fixture
async def pipeline(bench: Bench, tiny: str, tmp_path: Path) -> AsyncIterator[Pipeline]:
    made = bench.service(DOCKERFILE.format(tiny=tiny))
    service = Service(made.name, made.image, BuildSpec(made.build.context, made.build.dockerfile), ())
    route = SharedRoute(bench.engine, (EngineStore("node", bench.engine, bench.digests),))
    pipeline = Pipeline(bench, service, tmp_path / "state", route)
    (tmp_path / "state").mkdir()
    pipeline.write("src/main.py", "one")
    pipeline.write("src/other.py", "other")
    pipeline.start()
    yield pipeline
    for fingerprinter in pipeline.fingerprinters:
        await fingerprinter.close()


@pytest.fixture(scope="session")
def second(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dockerd]:
    """A second engine that stands for a node's: on a unix socket, and on TCP with TLS."""
    with Dockerd(tmp_path_factory.mktemp("node")) as dockerd:
        yield dockerd


@pytest.fixture
async def node(second: Dockerd) -> AsyncIterator[Engine]:
    """The second engine, empty."""
    engine = Engine.at(second.endpoint(), role="node's engine")
    for image in await engine.images():
        for ref in image.refs or (image.id,):
            await engine.remove(ref)
    yield engine
    await engine.aclose()


@pytest.fixture(scope="session")
def registry_program(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The registry's program; its package is fetched once per machine."""
    return registry_command(Path(tempfile.gettempdir()) / "devloop-test-registry")


@pytest.fixture
def registry(tmp_path: Path, registry_program: str) -> Iterator[Registry]:
    folder = tmp_path / "registry"
    folder.mkdir()
    with Registry(folder, registry_program) as running:
        yield running


@pytest.fixture
def locked_registry(tmp_path: Path, registry_program: str) -> Iterator[Registry]:
    """A registry that asks for a login."""
    folder = tmp_path / "locked-registry"
    folder.mkdir()
    with Registry(folder, registry_program, auth=True) as running:
        yield running
