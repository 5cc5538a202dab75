"""When a release is written, with which tags, and who waits for whom; Helm is a fake that can refuse."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from devloop.deploy.releases import Releases
from devloop.errors import BuildError, PrerequisiteError, ReleaseError, ReleaseWaitsError
from devloop.events import Event
from devloop.model import BuildSpec, Failed, LiveImage, Release, ReleaseView, Service, Target, Timing, Values

pytestmark = pytest.mark.anyio
NO_TIME = Timing(0.0, 0.0, ())


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def service(name: str) -> Service:
    build = BuildSpec(Path("/src"), Path("/src/Dockerfile"))
    return Service(name, f"shop-{name}", build, (Target("deployment", name, "default"),))


A, B = service("a"), service("b")


class FakeHelm:
    def __init__(self) -> None:
        self.view: ReleaseView | None = None
        self.running: dict[str, LiveImage] = {}  # target -> what it runs
        self.written: list[tuple[str, Values]] = []
        self.refusals: list[ReleaseError] = []
        self.missing: list[PrerequisiteError] = []
        self.at_work = anyio.Event()
        self.go_on: anyio.Event | None = None

    @asynccontextmanager
    async def exclusive(self, release: Release) -> AsyncIterator[None]:
        yield

    async def find(self, release: Release) -> ReleaseView | None:
        return self.view

    async def live(self, targets: Sequence[Target], image: str) -> Sequence[LiveImage | None]:
        return [self.running.get(target.name) for target in targets]

    async def ensure_namespace(self, release: Release) -> bool:
        return False

    async def render(self, release: Release, values: Values, *, upgrade: bool) -> str:
        return ""

    async def check_needs(self, release: Release, manifest: str) -> None:
        if self.missing:
            raise self.missing.pop()

    async def install(self, release: Release, values: Values, note: str) -> None:
        await self._write("install", values, note)

    async def upgrade(self, release: Release, values: Values, note: str) -> None:
        await self._write("upgrade", values, note)

    async def _write(self, action: str, values: Values, note: str) -> None:
        self.at_work.set()
        if self.go_on is not None:
            await self.go_on.wait()
        self.written.append((action, values))
        revision = (self.view.revision if self.view else 0) + 1
        self.view = ReleaseView(revision, "failed" if self.refusals else "deployed", note)
        if self.refusals:
            raise self.refusals.pop()

    async def uninstall(self, release: Release) -> None:
        self.written.append(("uninstall", {}))
        self.view = None

    async def give_up(self, release: Release, view: ReleaseView) -> None:
        self.written.append(("give up", {}))


@pytest.fixture
def helm() -> FakeHelm:
    return FakeHelm()


@pytest.fixture
def release(tmp_path: Path) -> Release:
    (tmp_path / "Chart.yaml").write_text("name: shop\n")
    return Release("shop", tmp_path, "default", images={"a": "a", "b": "b"})


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def releases(helm: FakeHelm, release: Release, events: list[Event]) -> Releases:
    return Releases(lambda: [release], lambda: [A, B], lambda: [A, B], helm, events.append, {})


def tags(helm: FakeHelm) -> tuple[str, str]:
    return helm.written[-1][1]["a"]["tag"], helm.written[-1][1]["b"]["tag"]


async def test_s22_the_first_install_waits_for_the_image_of_every_service(
    releases: Releases, helm: FakeHelm
) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(releases.install, A, "shop-a:dl-1")
        await anyio.wait_all_tasks_blocked()
        assert helm.written == []
        await releases.install(B, "shop-b:dl-2")
    assert [action for action, _ in helm.written] == ["install"]
    assert tags(helm) == ("dl-1", "dl-2")


async def test_s22_nobody_waits_for_a_service_that_failed(releases: Releases, helm: FakeHelm) -> None:
    failed = Failed("build", BuildError("no"), NO_TIME)
    messages: list[str] = []

    async def install() -> None:
        try:
            await releases.install(A, "shop-a:dl-1")
        except ReleaseWaitsError as error:
            messages.append(error.message)

    async with anyio.create_task_group() as group:
        group.start_soon(install)
        await anyio.wait_all_tasks_blocked()
        assert messages == []
        releases.ended(B, failed)
    assert len(messages) == 1
    assert "waits for the image of b, which failed in build" in messages[0]
    await releases.install(B, "shop-b:dl-2")
    assert tags(helm) == ("dl-1", "dl-2"), "the release is installed as soon as b is mended"


async def test_s22_what_devloop_patched_is_upgraded_with_and_what_helm_wrote_gets_the_newest(
    releases: Releases, helm: FakeHelm
) -> None:
    helm.view = ReleaseView(1, "deployed", "by hand")
    helm.running = {"a": LiveImage("shop-a:dl-1", "devloop"), "b": LiveImage("shop-b:1.0.0", "helm")}
    await releases.install(A, "shop-a:dl-9")
    assert tags(helm) == ("dl-1", "1.0.0"), "b has no image of ours yet"
    helm.view = ReleaseView(2, "deployed", "by hand")
    await releases.install(B, "shop-b:dl-9")
    assert tags(helm) == ("dl-1", "dl-9")


async def test_s22_no_patch_comes_amid_an_upgrade(releases: Releases, helm: FakeHelm) -> None:
    helm.view = ReleaseView(1, "deployed", "by hand")
    helm.go_on = anyio.Event()
    order: list[str] = []

    async def patch() -> None:
        async with releases.writing(A):
            order.append(f"patch after {len(helm.written)} writes")

    async with anyio.create_task_group() as group:
        group.start_soon(releases.settle)
        await helm.at_work.wait()
        group.start_soon(patch)
        await anyio.wait_all_tasks_blocked()
        assert order == []
        helm.go_on.set()
    assert order == ["patch after 1 writes"]


async def test_s22_what_is_in_order_is_left_alone_unless_a_target_is_missing(
    releases: Releases, helm: FakeHelm
) -> None:
    helm.view = ReleaseView(1, "deployed", "")
    helm.running = {"a": LiveImage("shop-a:1", "helm"), "b": LiveImage("shop-b:1", "helm")}
    assert await releases.settle()
    assert not await releases.settle()
    assert not await releases.install(A, "shop-a:1", missing=True), "it is there after all"
    del helm.running["a"]
    assert await releases.install(A, "shop-a:1", missing=True)


async def test_a_refusal_is_not_asked_for_again_until_something_changes(
    releases: Releases, helm: FakeHelm, release: Release
) -> None:
    helm.view = ReleaseView(1, "deployed", "by hand")
    helm.refusals = [ReleaseError("a conflict")]
    with pytest.raises(ReleaseError):
        await releases.settle()
    assert not await releases.settle(), "the record of the refusal itself wakes us: no circle"
    assert len(helm.written) == 1
    (release.chart / "values.yaml").write_text("{}\n")
    assert await releases.settle()


@pytest.mark.parametrize("status", ["pending-install", "pending-upgrade", "pending-rollback"])
async def test_s23_a_pending_revision_is_given_up_and_upgraded(
    releases: Releases, helm: FakeHelm, status: str
) -> None:
    helm.view = ReleaseView(1, status, "devloop of before")
    assert await releases.settle()
    assert [action for action, _ in helm.written] == ["give up", "upgrade"]


async def test_s23_a_killed_uninstall_is_ended_first(releases: Releases, helm: FakeHelm) -> None:
    helm.view = ReleaseView(1, "uninstalling", "")
    assert await releases.settle()
    assert [action for action, _ in helm.written] == ["uninstall", "install"]


async def test_what_was_missing_unblocks_when_it_is_there(
    releases: Releases, helm: FakeHelm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("devloop.deploy.releases.POLL_SECONDS", 0.001)
    helm.view = ReleaseView(1, "deployed", "by hand")
    helm.missing = [PrerequisiteError("still no Secret"), PrerequisiteError("no Secret")]
    with pytest.raises(PrerequisiteError):
        await releases.settle()
    await releases.unblocked()
    assert helm.missing == []
    assert await releases.settle()
