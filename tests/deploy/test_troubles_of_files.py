"""A manifest that cannot be read: whose trouble it is, and that it stops no other object."""

from __future__ import annotations

from pathlib import Path

import pytest

from devloop.adapters.kubernetes.manifests import gather_each
from devloop.deploy.manifests import Manifests
from devloop.errors import ConfigError, PatchError, PrerequisiteError
from devloop.events import Event, Notice
from devloop.model import Application, BuildSpec, Service, Target, Trouble
from tests.support.fakes import Answers
from tests.support.project_files import workload

pytestmark = pytest.mark.anyio
BUILD = BuildSpec(Path("/src"), Path("/src/Dockerfile"))
WEB = Service("web", "shop", BUILD, (Target("deployment", "web", "default"),))
BROKEN = ConfigError("k8s/x.yaml:2: a value is missing")
UNREAD = Trouble("k8s/x.yaml", "", frozenset(), BROKEN)


def manifests(folder: Path, cluster: Answers) -> tuple[Manifests, list[Event]]:
    (folder / "web.yaml").write_text("a: 1")
    events: list[Event] = []
    made = Manifests(
        lambda: sorted(folder.glob("*.yaml")),
        lambda: [WEB],
        cluster,
        events.append,
        folder / "memory",
        "here",  # type: ignore[arg-type]
    )
    return made, events


async def test_one_document_that_is_broken_leaves_the_others_of_its_file(tmp_path: Path) -> None:
    file = tmp_path / "all.yaml"
    file.write_text("a: [\n---\n" + workload("web", "shop:1") + "---\nmetadata: {name: x}\n---\n- 1\n")
    found, wrong = await gather_each([file, tmp_path / "gone.yaml"])
    assert [one.name for one in found] == ["deployment/web"]
    assert [error.message.replace(str(tmp_path), "") for _, error in wrong] == [
        "/all.yaml:2: a value is missing, or a bracket is not closed",
        "/all.yaml:14: not a Kubernetes object: apiVersion is missing",
        "/all.yaml:16: not a Kubernetes object: a list where a mapping is expected",
        "/gone.yaml cannot be read: No such file or directory",
    ]
    assert all(error.hint for _, error in wrong)


async def test_items_of_a_list_are_each_for_themselves(tmp_path: Path) -> None:
    file = tmp_path / "list.yaml"
    items = "  - {metadata: {name: x}}\n  - {apiVersion: v1, kind: ConfigMap, metadata: {name: other}}\n"
    file.write_text(f"apiVersion: v1\nkind: List\nitems:\n{items}")
    found, wrong = await gather_each([file])
    assert [one.name for one in found] == ["configmap/other"]
    assert len(wrong) == 1


async def test_a_file_that_cannot_be_read_is_no_services_while_their_workloads_are_there(
    tmp_path: Path,
) -> None:
    cluster = Answers()
    cluster.next = Application((), (UNREAD,), frozenset({("deployment/web", "default")}))
    made, events = manifests(tmp_path, cluster)
    await made.install(WEB, "shop:dl-1", missing=True)
    (notice,) = [one for one in events if isinstance(one, Notice)]
    assert (notice.service, notice.about, notice.level, notice.message) == (
        "",
        "manifests",
        "error",
        BROKEN.message,
    )


async def test_a_workload_that_is_nowhere_may_be_in_the_file_that_cannot_be_read(tmp_path: Path) -> None:
    cluster = Answers()
    cluster.next = Application((), (UNREAD,), frozenset())
    made, events = manifests(tmp_path, cluster)
    with pytest.raises(ConfigError, match=r"k8s/x\.yaml:2"):
        await made.install(WEB, "shop:dl-1", missing=True)
    assert not [one for one in events if isinstance(one, Notice)]  # the trip reports it


async def test_of_several_files_that_cannot_be_read_each_is_reported(tmp_path: Path) -> None:
    cluster = Answers()
    others = [Trouble(f"k8s/{n}.yaml", "", frozenset(), ConfigError(f"k8s/{n}.yaml:1: no")) for n in "ab"]
    cluster.next = Application((), (UNREAD, *others), frozenset())
    made, events = manifests(tmp_path, cluster)
    with pytest.raises(ConfigError, match=r"k8s/x\.yaml:2") as raised:
        await made.settle()
    assert raised.value.about == "manifests"
    reported = [(one.message, one.about) for one in events if isinstance(one, Notice)]
    assert reported == [("k8s/a.yaml:1: no", "manifests"), ("k8s/b.yaml:1: no", "manifests")]


async def test_that_all_are_applied_again_is_reported_once(tmp_path: Path) -> None:
    cluster = Answers()
    cluster.next = Application((), (UNREAD,), frozenset())
    made, events = manifests(tmp_path, cluster)
    with pytest.raises(ConfigError):
        await made.settle()
    cluster.next = Application(("deployment/web configured",))
    (tmp_path / "web.yaml").write_text("a: 2")
    await made.settle()
    (tmp_path / "web.yaml").write_text("a: 3")
    await made.settle()
    notice = [(one.level, one.about) for one in events if isinstance(one, Notice)]
    assert notice == [("info", "manifests")]


REFUSED = Trouble("deployment/web", "default", frozenset(), PatchError("refused"))


@pytest.mark.parametrize("raised", [True, False])
async def test_a_services_trouble_is_over_under_its_own_name(tmp_path: Path, raised: bool) -> None:
    """Shown as `web |`, its end was shown under manifests."""
    cluster = Answers()
    cluster.next = Application((), (REFUSED,))
    made, events = manifests(tmp_path, cluster)
    if raised:  # in the trip of the service
        with pytest.raises(PatchError):
            await made.install(WEB, "shop:dl-1")
    else:
        await made.settle()
    cluster.next = Application(("deployment/web configured",))
    (tmp_path / "web.yaml").write_text("a: 2")
    for _ in range(2):
        await made.settle()
    infos = [one for one in events if isinstance(one, Notice) and one.level == "info"]
    assert [(one.service, one.about, one.message) for one in infos] == [
        ("web", "", "its manifests are applied")
    ]


async def test_the_projects_own_trouble_is_over_while_a_services_stands(tmp_path: Path) -> None:
    cluster = Answers()
    cluster.next = Application((), (UNREAD, REFUSED), frozenset({("deployment/web", "default")}))
    made, events = manifests(tmp_path, cluster)
    with pytest.raises(ConfigError):
        await made.settle()
    cluster.next = Application((), (REFUSED,))
    (tmp_path / "web.yaml").write_text("a: 2")
    await made.settle()
    notices = [(one.level, one.service, one.about) for one in events if isinstance(one, Notice)]
    assert notices == [("error", "web", ""), ("info", "", "manifests")]


async def test_files_that_are_taken_away_lack_nothing_and_are_applied_when_they_come_back(
    tmp_path: Path,
) -> None:
    cluster = Answers()
    made, events = manifests(tmp_path, cluster)
    cluster.lacks = PrerequisiteError("there is no namespace x")
    with pytest.raises(PrerequisiteError):
        await made.settle()
    (tmp_path / "web.yaml").unlink()
    assert not await made.settle()
    assert not made.blocked
    assert [event.level for event in events if isinstance(event, Notice)] == ["info"]
    cluster.lacks, cluster.next = None, Application(("deployment/web created",))
    (tmp_path / "web.yaml").write_text("a: 1")
    assert await made.settle()


async def test_what_cannot_be_read_counts_once_however_often_it_is_tried(tmp_path: Path) -> None:
    cluster = Answers()
    made, _ = manifests(tmp_path, cluster)
    refused = Trouble("deployment/web", "default", frozenset(), PatchError("refused"))
    cluster.next = Application((), (UNREAD, refused))
    for _ in range(3):
        with pytest.raises(PatchError, match="refused"):
            await made.install(WEB, "shop:dl-1")
    assert made._troubles == (UNREAD, refused)
