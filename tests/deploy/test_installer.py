"""Manifests and releases together: what one lacks the other may bring, and who waits for what."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import anyio
import pytest

from devloop.config import load as configs
from devloop.deploy.installer import Installation
from devloop.deploy.manifests import Manifests
from devloop.deploy.releases import Releases
from devloop.errors import PatchError, PlatformError, PrerequisiteError, ReleaseError
from devloop.events import Event, Notice
from devloop.model import Application, Trouble
from devloop.ports import Cluster
from devloop.trip.sharing import Sharing
from devloop.watch.project_files import ProjectFiles

pytestmark = pytest.mark.anyio
LACKING = PrerequisiteError("not in the cluster: Secret s", hint="kubectl create secret")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class FakeCluster:
    """Applies everything but what asks for the Secret, as long as that is missing."""

    def __init__(self) -> None:
        self.missing = True
        self.applied = 0
        self.asked = 0
        self.away = 0  # how often nobody answers

    async def apply(self, *_: object) -> Application:
        await anyio.lowlevel.checkpoint()
        self.applied += 1
        return Application(("configmap/c created",))

    async def prerequisite(self, image: str = "") -> PrerequisiteError | None:
        await anyio.lowlevel.checkpoint()
        self.asked += 1
        if self.away:
            self.away -= 1
            raise PlatformError("no answer")
        return LACKING if self.missing else None


class FakeReleases:
    blocked = False

    def __init__(self, bring: Callable[[], bool]) -> None:
        self._bring = bring

    async def make_namespaces(self) -> None:
        await anyio.lowlevel.checkpoint()

    async def settle(self) -> bool:
        await anyio.lowlevel.checkpoint()
        return self._bring()

    async def unblocked(self) -> None:
        await anyio.sleep_forever()


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("devloop.deploy.installer.POLL_SECONDS", 0.001)


@pytest.fixture
def installing(tmp_path: Path, cluster: FakeCluster) -> Callable[[Callable[[], bool]], Installation]:
    (tmp_path / "a.yaml").write_text("a: 1\n")

    def make(bring: Callable[[], bool]) -> Installation:
        manifests = Manifests(
            lambda: [tmp_path / "a.yaml"], lambda: (), cast("Cluster", cluster), lambda event: None,
            tmp_path / "memory.json", "here",
        )  # fmt: skip
        return Installation(manifests, cast("Releases", FakeReleases(bring)), Sharing())

    return make


Make = Callable[[Callable[[], bool]], Installation]


async def test_a_release_may_bring_what_manifests_lack(installing: Make, cluster: FakeCluster) -> None:
    def bring() -> bool:
        cluster.missing = False
        return True

    installation = installing(bring)
    assert await installation.settle()
    assert cluster.applied == 2
    assert not installation.manifests.blocked


async def test_what_no_release_brings_is_reported_after_the_releases(
    installing: Make, cluster: FakeCluster
) -> None:
    brought: list[str] = []
    installation = installing(lambda: bool(brought.append("release")))
    with pytest.raises(PrerequisiteError, match="Secret s"):
        await installation.settle()
    assert brought == ["release"]
    assert cluster.applied == 1
    assert installation.manifests.blocked


async def test_an_error_of_a_release_is_not_hidden(installing: Make) -> None:
    def refuse() -> bool:
        raise ReleaseError("no chart")

    with pytest.raises(ReleaseError, match="no chart"):
        await installing(refuse).settle()


async def test_waiting_outlives_an_api_server_that_is_away(installing: Make, cluster: FakeCluster) -> None:
    installation = installing(lambda: False)
    with pytest.raises(PrerequisiteError):
        await installation.settle()
    cluster.away = 3
    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(installation.unblocked)
            while cluster.asked < 6:
                await anyio.sleep(0)
            cluster.missing = False
    assert not installation.manifests.blocked


async def test_watch_applies_by_itself_what_no_service_waits_for(
    installing: Make, cluster: FakeCluster, tmp_path: Path
) -> None:
    """Objects that belong to no service, an Ingress for one: nobody's trip would bring them."""
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    (tmp_path / "config.yaml").write_text(
        "version: 1\nservices: {a: {image: a, build: {context: .}}}\nmanifests: [a.yaml]\n"
    )
    config = configs.load(tmp_path / "config.yaml")
    events: list[Event] = []
    installation = installing(lambda: False)
    files = ProjectFiles(
        configs.CurrentConfig(config),
        lambda same: same,
        installation,
        lambda _: None,
        lambda _: None,
        events.append,
    )
    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(files.run)
            files.deliver(":manifests", cast("Any", None))
            while not events:
                await anyio.sleep(0)
            (notice,) = [event for event in events if isinstance(event, Notice)]
            assert "Secret s" in notice.message
            cluster.missing = False
            while cluster.applied < 2:
                await anyio.sleep(0.001)
            group.cancel_scope.cancel()
    assert len(events) == 1, "and nothing more to say"


class HalfDone(FakeCluster):
    """Applies what it can; a file that says so holds one object more, which is refused."""

    def __init__(self) -> None:
        super().__init__()
        self.missing = False
        self.holds = ""

    async def apply(self, files: Sequence[Path], *_: object) -> Application:
        await anyio.lowlevel.checkpoint()
        content = files[0].read_text()
        changed = () if self.holds == content else ("deployment/d configured",)
        self.holds = content
        refused = PatchError("thing/t was refused", reason="Invalid")
        return Application(
            changed, (Trouble("thing/t", "default", frozenset(), refused),) if "refused" in content else ()
        )


async def test_a_manifest_that_is_undone_is_undone_in_the_cluster(tmp_path: Path) -> None:
    """One save, of which a part was applied and a part refused, then the content from before: it was taken
    for applied already, the part stayed, and the refusal was reported for ever."""
    file, cluster = tmp_path / "a.yaml", HalfDone()

    def session() -> Manifests:
        return Manifests(
            lambda: [file], lambda: (), cast("Cluster", cluster), lambda event: None,
            tmp_path / "memory.json", "here",
        )  # fmt: skip

    for again in (False, True):  # by the same session, and by one that is started after a kill
        manifests = session()
        file.write_text("replicas: 1\n")
        await manifests.settle()
        file.write_text("replicas: 2\nrefused: 1\n")
        with pytest.raises(PatchError):
            await manifests.settle()
        file.write_text("replicas: 1\n")
        assert await (session() if again else manifests).settle()
        assert cluster.holds == "replicas: 1\n"
