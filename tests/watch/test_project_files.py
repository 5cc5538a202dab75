"""config.yaml read again: taken whole or not at all, by the one place that everyone asks (S28)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import anyio
import pytest

from devloop.config import load as configs
from devloop.config.load import CurrentConfig
from devloop.deploy.installer import Installation
from devloop.deploy.manifests import Manifests
from devloop.errors import PatchError
from devloop.events import ConfigReloaded, Event, Notice
from devloop.model import Application, BuildSpec, Service, Target, Trouble
from devloop.watch.project_files import Following, ProjectFiles
from devloop.watch.watcher import Interest, Watcher
from tests.support.fakes import Answers

pytestmark = pytest.mark.anyio

TEXT = """\
version: 1
cluster: {{context: kind-dev, namespace: {namespace}}}
services:
  {name}:
    image: web
    build: {{context: {context}, args: {{A: {arg}}}}}
    deploy: {{deployment: {workload}}}
  other: {{image: other, build: {{context: .}}}}
metrics: {{listen: "127.0.0.1:{port}"}}
gc: {{keep: {keep}}}
"""


class Idle:
    """Manifests of which nothing is wrong."""

    def __init__(self) -> None:
        self.held = anyio.Event()

    def affected(self) -> frozenset[str]:
        return frozenset()


class Project:
    def __init__(self, folder: Path, names: Sequence[str] = ()) -> None:
        (folder / "Dockerfile").write_text("FROM scratch\n")
        self.path = folder / "config.yaml"
        self.write()
        self.current = CurrentConfig(configs.load(self.path), names)
        self.events: list[Event] = []
        self.taken: list[tuple[str, ...]] = []
        self.affected: list[set[str]] = []
        self.files = ProjectFiles(
            self.current,
            lambda same: same,
            cast("Installation", None),
            lambda touched: self.taken.append(tuple(touched)),
            lambda names: self.affected.append(set(names)),
            self.events.append,
        )

    def write(self, **changed: object) -> None:
        values: dict[str, object] = {"namespace": "dev", "name": "web", "arg": 1, "port": 9100, "keep": 5}
        values |= {"context": ".", "workload": "web"}
        self.path.write_text(TEXT.format(**values | changed))

    def reload(self, **changed: object) -> list[Event]:
        self.write(**changed)
        before = len(self.events)
        self.files.reload()
        return self.events[before:]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


async def test_s28_only_what_changed_is_touched(project: Project) -> None:
    assert project.reload(arg=2) == [ConfigReloaded(("web",))]
    assert project.taken == [("web",)]
    assert project.current.services[0].build.args == {"A": "2"}
    assert project.reload(arg=2) == [], "saved again as it was"


async def test_s28_the_garbage_collectors_number_is_taken_without_a_service(project: Project) -> None:
    assert project.reload(keep=2) == [ConfigReloaded(())]
    assert project.current.config.gc.keep == 2


@pytest.mark.parametrize("more", [{}, {"arg": 2}, {"name": "front"}, {"keep": 2, "port": 9200}])
async def test_s28_with_another_cluster_nothing_is_taken(project: Project, more: dict[str, object]) -> None:
    before = project.current.config
    (notice,) = project.reload(namespace="prod", **more)
    assert isinstance(notice, Notice)
    assert notice.message.startswith("cluster: has changed; this config.yaml is not applied")
    assert project.current.config is before
    assert project.taken == []
    assert project.reload() == [ConfigReloaded(())], "and reported when it is as it was"


async def test_s28_another_port_waits_for_the_next_start_and_the_rest_does_not(project: Project) -> None:
    warning, taken = project.reload(port=9200, arg=2)
    assert isinstance(warning, Notice)
    assert taken == ConfigReloaded(("web",))
    assert project.current.config.metrics.address == ("127.0.0.1", 9100), "what counts is what is served"


async def test_s28_an_invalid_one_leaves_everything_as_it_is(project: Project) -> None:
    before = project.current.config
    for text in ("", "services: [", "version: 2\n", "\x00"):
        project.path.write_text(text)
        project.files.reload()
    project.path.unlink()
    project.files.reload()
    notice = [event for event in project.events if isinstance(event, Notice)]
    assert len(notice) == len(project.events) == 5
    assert all(one.message.endswith("keeping the previous config") for one in notice)
    assert project.current.config is before


async def test_s28_a_service_that_left_is_reported_with_what_stays(project: Project) -> None:
    reloaded, notice = project.reload(name="front", workload="front")
    assert reloaded == ConfigReloaded(("front",), ("web",))
    assert isinstance(notice, Notice)
    assert notice.message == "web is no longer in config.yaml; deployment/web stays in the cluster as it is"


async def test_s28_of_a_service_that_was_renamed_nothing_stays_behind(project: Project) -> None:
    reloaded, notice = project.reload(name="front")
    assert reloaded == ConfigReloaded(("front",), ("web",))
    assert notice == Notice("", "info", "web is no longer in config.yaml"), "front works for its Deployment"


async def test_s28_a_service_that_the_command_line_named_may_go_and_come_back(tmp_path: Path) -> None:
    project = Project(tmp_path, ["web"])
    project.reload(name="front")
    assert project.current.services == ()
    assert project.reload() == [ConfigReloaded(("web",))]


async def test_s28_it_does_not_wait_for_a_release_that_is_written(project: Project) -> None:
    asked = anyio.Event()

    class Busy:
        manifests = Idle()

        async def settle(self, *, trips_follow: bool) -> bool:
            asked.set()
            await anyio.sleep_forever()
            return False

    project.files._installation = cast("Installation", Busy())
    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(project.files.run)
            project.files.deliver(":releases", cast("Any", None))
            await asked.wait()
            project.write(arg=2)
            project.files.deliver(":config", cast("Any", None))
            await until(lambda: project.taken == [("web",)])
            group.cancel_scope.cancel()


async def test_s28_what_was_refused_is_taken_when_its_files_are_there(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new service is written down, then its folder made: nobody saved config.yaml again, and it was
    never taken."""
    monkeypatch.setattr("devloop.watch.project_files.AGAIN_SECONDS", 0.001)
    settled: list[bool] = []

    class Counting:
        manifests = Idle()

        async def settle(self, *, trips_follow: bool) -> bool:
            settled.append(trips_follow)
            return False

    project.files._installation = cast("Installation", Counting())
    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(project.files.run)
            project.write(context="late")
            project.files.deliver(":config", cast("Any", None))
            await until(lambda: project.events)
            await anyio.sleep(0.02)  # some looks: what was reported is not repeated
            (notice,) = project.events
            assert isinstance(notice, Notice)
            assert "late is not a folder" in notice.message
            assert len(settled) == 1, "a look that finds nothing new writes nothing"
            (tmp_path / "late").mkdir()
            await until(lambda: project.taken == [("web",)])
            await until(lambda: len(settled) == 2)
            group.cancel_scope.cancel()
    assert project.events[1:] == [ConfigReloaded(("web",))]


async def test_s28_whoever_waits_for_the_next_config_gets_it(project: Project) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(project.current.taken)
        await anyio.wait_all_tasks_blocked()
        project.reload(arg=3)


async def test_s28_the_last_wish_has_the_last_word() -> None:
    """Two reloads while the first one's interests are still read: at ec3513f the older ones could win."""
    armed: list[int] = []
    looked: list[list[str]] = []
    now = 0

    class Slow:
        async def reconfigure(self, interests: Any) -> None:
            await anyio.sleep(0.01)
            armed.append(interests)

    def interests() -> Sequence[Interest]:
        return cast("Sequence[Interest]", now)

    following = Following(cast("Watcher", Slow()), interests, lambda names: looked.append(list(names)))
    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(following.run)
            for now in range(1, 6):
                following.renew([f"s{now}"])
                await anyio.sleep(0.004)
            await until(lambda: sum(map(len, looked)) == 5)
            group.cancel_scope.cancel()
    assert armed[-1] == 5
    assert armed == sorted(armed)


async def until(look: Callable[[], object]) -> None:
    while not look():
        await anyio.sleep(0.001)


async def test_s19_a_service_whose_manifest_another_ones_trip_found_refused_first_is_affected(
    project: Project, tmp_path: Path
) -> None:
    """A manifest saved while the trip of another service is about to apply: nobody reported its refusal, nor
    tried the service again when it was mended like that."""
    cluster = Answers()
    files = [tmp_path / "web.yaml"]
    files[0].write_text("a: 1")
    build = BuildSpec(tmp_path, tmp_path / "Dockerfile")
    web = Service("web", "web", build, (Target("deployment", "web", "default"),))
    other = Service("other", "other", build, ())
    made = Manifests(
        lambda: files,
        lambda: [web, other],
        cast("Any", cluster),
        project.events.append,
        tmp_path / "memory",
        "here",
    )

    class Real:
        manifests = made

        async def settle(self, *, trips_follow: bool) -> bool:
            return await made.settle(trips_follow=trips_follow)

    project.files._installation = cast("Installation", Real())
    refused = Trouble("deployment/web", "default", frozenset(), PatchError("refused"))
    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(project.files.run)
            for number, troubles in enumerate([(), (refused,), (refused,), ()], 1):
                cluster.next = Application((), troubles)
                files[0].write_text(f"a: {number}")
                await made.install(other, "other:dl-1")
                project.files.deliver(":manifests", cast("Any", None))
                await until(lambda: len(project.affected) == number)  # noqa: B023
            cluster.next = Application((), (refused,))
            files[0].write_text("a: 5")
            with pytest.raises(PatchError):
                await made.install(web, "web:dl-1")
            project.files.deliver(":manifests", cast("Any", None))
            await until(lambda: len(project.affected) == 5)
            files.clear()
            project.files.deliver(":manifests", cast("Any", None))
            await until(lambda: len(project.affected) == 6)
            group.cancel_scope.cancel()
    assert project.affected == [set(), {"web"}, set(), {"web"}, set(), {"web"}]


async def test_s39_a_look_takes_what_was_saved_and_repeats_nothing(project: Project) -> None:
    project.files.look()
    project.files.look()
    assert project.events == []
    project.write(arg=2)
    project.files.look()
    project.files.look()
    assert project.taken == [("web",)]
    project.write(arg=2, port=9200)
    for _ in range(3):
        project.files.look()
    assert [event.message for event in project.events if isinstance(event, Notice)] == [
        "metrics: has changed"
    ]
    project.path.write_text("services: 7\n")
    for _ in range(3):
        project.files.look()
    assert len([event for event in project.events if isinstance(event, Notice)]) == 2
    assert project.files.refusal
    project.write(arg=3, port=9200)
    project.files.look()
    assert (project.taken[-1], project.files.refusal) == (("web",), "")
