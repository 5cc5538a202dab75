"""What manifests need is named and waited for; workloads say what devloop does with them meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import anyio
import pytest

from devloop.adapters.kubernetes.api.answers import Json
from devloop.adapters.kubernetes.apply.applier import Applier
from devloop.adapters.kubernetes.apply.removal import Removal
from devloop.adapters.kubernetes.cluster import KubernetesCluster
from devloop.adapters.kubernetes.inhabitants import Claims, others
from devloop.adapters.kubernetes.manifests import read_manifests
from devloop.adapters.kubernetes.patch import MANAGER
from devloop.adapters.kubernetes.views import MADE_BY, STATE
from devloop.deploy.diff import diff
from devloop.deploy.manifests import Manifests
from devloop.deploy.releaser import Releaser
from devloop.deploy.teardown import Teardown, plan, tear_down
from devloop.errors import PatchError, PrerequisiteError
from devloop.events import Applied, Event, Notice
from devloop.model import BuildSpec, Release, Service
from tests.adapters.kubernetes.test_manifests import CONFIG_MAP, WEB, write
from tests.support.kubernetes_objects import DEPLOYMENTS, SERVICE, Api, applied, deployment, ref, statefulset

SETTINGS = "/api/v1/namespaces/default/configmaps/settings"
SECRETS = "/api/v1/namespaces/default/secrets"
SECRET = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "by-hand"}}


def asking(**source: Any) -> dict[str, Any]:
    """The pod of `deployment()`, with one more source of its environment."""
    pod = {"containers": [{"name": "web", "image": "todo:1.0", "envFrom": [source]}]}
    return deployment(pod_spec=pod)


# --- what must be there beforehand --------------------------------------------------------------


async def test_what_asks_for_something_missing_is_left_and_named(
    api: Api, cluster: KubernetesCluster, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.yaml", CONFIG_MAP, asking(secretRef={"name": "by-hand"}))
    assert await applied(cluster, [path], [ref("1")]) == ("configmap/settings created",)
    error = await cluster.prerequisite()
    assert error is not None
    assert error.reason == "MissingSecret"
    assert "Secret by-hand in namespace default (asked for by deployment/web)" in error.message
    line = f"kubectl --context {cluster.context} -n default create secret generic by-hand"
    assert str(error.hint).startswith(line)
    assert await cluster.prerequisite(SERVICE.image) is not None
    assert await cluster.prerequisite("another") is None, "no object of that image waits"
    await api.create(SECRETS, SECRET)
    assert await cluster.prerequisite() is None
    assert await applied(cluster, [path], [ref("1")]) == ("deployment/web created",)


@pytest.mark.parametrize(
    "source",
    [
        {"secretRef": {"name": "by-hand", "optional": True}},
        {"configMapRef": {"name": "settings"}},  # brought by the manifests themselves
    ],
)
async def test_what_is_optional_or_brought_along_is_not_asked_for(
    api: Api, cluster: KubernetesCluster, tmp_path: Path, source: dict[str, Any]
) -> None:
    path = write(tmp_path / "a.yaml", asking(**source), CONFIG_MAP)
    assert "deployment/web created" in await applied(cluster, [path], [ref("1")])
    assert await cluster.prerequisite() is None


async def test_what_is_held_back_for_its_image_is_not_asked_about_yet(
    cluster: KubernetesCluster, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.yaml", asking(secretRef={"name": "by-hand"}))
    assert await applied(cluster, [path], [], [SERVICE.image]) == ()
    assert await cluster.prerequisite() is None


async def test_a_malformed_object_is_left_to_the_server(cluster: KubernetesCluster, tmp_path: Path) -> None:
    broken = {**deployment(), "spec": "text"}
    with pytest.raises(PatchError):
        await applied(cluster, [write(tmp_path / "a.yaml", broken)], [])


@pytest.fixture
def events() -> list[Event]:
    return []


def manifests_of(
    cluster: KubernetesCluster, tmp_path: Path, events: list[Event], *paths: Path
) -> tuple[Manifests, Service]:
    other = Service("other", "other", BuildSpec(tmp_path, tmp_path / "Dockerfile"), ())
    services = (SERVICE, other)
    return Manifests(
        lambda: paths, lambda: services, cluster, events.append, tmp_path / "state" / "m.json", "here"
    ), other


async def test_one_services_missing_secret_holds_up_no_other(
    api: Api, cluster: KubernetesCluster, tmp_path: Path, events: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("devloop.deploy.installer.POLL_SECONDS", 0.01)
    path = write(tmp_path / "a.yaml", CONFIG_MAP, asking(secretRef={"name": "by-hand"}))
    manifests, other = manifests_of(cluster, tmp_path, events, path)
    with pytest.raises(PrerequisiteError, match="Secret by-hand"):
        await manifests.install(SERVICE, ref("1"))
    assert manifests.blocked
    await manifests.install(other, "other:dl-0000000000000001")
    await manifests.install(other, "other:dl-0000000000000002")
    notices = [event for event in events if isinstance(event, Notice)]
    assert len(notices) == 1, "reported once"
    assert "Secret by-hand" in notices[0].message
    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(manifests.unblocked)
            await api.create(SECRETS, SECRET)
    assert not manifests.blocked
    assert await manifests.settle()
    assert [event.changed for event in events if isinstance(event, Applied)] == [
        ("configmap/settings created",),
        ("deployment/web created",),
    ]
    assert not await manifests.settle(), "remembered"


async def test_services_that_a_session_does_not_work_for_keep_their_images(
    api: Api, cluster: KubernetesCluster, tmp_path: Path, events: list[Event]
) -> None:
    """`devloop once web` with manifests that changed: another one's are not put back to a bare name."""
    theirs = deployment(name="other", pod_spec={"containers": [{"name": "other", "image": "other"}]})
    path, at = write(tmp_path / "a.yaml", deployment(), theirs), WEB.replace("/web", "/other")
    other = Service("other", "other", BuildSpec(tmp_path, tmp_path / "Dockerfile"), ())
    running: dict[str, str] = {}

    async def live(services: Sequence[Service]) -> dict[str, str]:
        assert services == [other]
        return running

    def session(*services: Service) -> Manifests:
        memory = tmp_path / "state" / "m.json"
        return Manifests(
            lambda: [path],
            lambda: services,
            cluster,
            events.append,
            memory,
            "here",
            lambda: (SERVICE, other),
            live,
        )

    assert await session(SERVICE).install(SERVICE, ref("1"))
    assert await cluster.client.find(at) is None, "never brought: not made without an image"
    assert not await session(SERVICE).install(SERVICE, ref("1")), "nor is all else applied again and again"
    whole = session(SERVICE, other)
    await whole.install(SERVICE, ref("1"))
    await whole.install(other, "other:dl-0000000000000001")
    running["other"] = "other:dl-0000000000000001"
    theirs["metadata"]["labels"] = {"changed": "yes"}
    write(path, deployment(), theirs)
    assert await session(SERVICE).install(SERVICE, ref("2"))
    now = await api.get(at)
    assert now["metadata"]["labels"]["changed"] == "yes"
    assert now["spec"]["template"]["spec"]["containers"][0]["image"] == "other:dl-0000000000000001"


# --- the annotation -----------------------------------------------------------------------------


class States:
    """Every value that the annotation had on the Deployment, None without it, "gone" at the end."""

    def __init__(self) -> None:
        self.seen: list[str | None] = []
        self._moved = anyio.Event()

    def listen(self, old: Json | None, new: Json | None, at: float, *, live: bool) -> None:
        value = (new["metadata"].get("annotations") or {}).get(STATE) if new is not None else "gone"
        if not self.seen or self.seen[-1] != value:
            self.seen.append(value)
        self._moved.set()

    async def until(self, done: Callable[[list[str | None]], bool]) -> list[str | None]:
        with anyio.fail_after(60):
            while not done(self.seen):
                self._moved = anyio.Event()
                await self._moved.wait()
        return self.seen


async def test_installing_upgrading_uninstalling_are_written_while_they_last(
    api: Api, cluster: KubernetesCluster, tmp_path: Path
) -> None:
    states = States()
    path = write(tmp_path / "a.yaml", deployment(replicas=1), CONFIG_MAP)
    removal = Removal(cluster.client, cluster.applier, lambda: [path], "project")
    async with anyio.create_task_group() as group:
        group.start_soon(cluster.observe, DEPLOYMENTS, states.listen)
        await applied(cluster, [path], [ref("1")])
        assert await states.until(lambda seen: seen[-1:] == [None]) == ["installing", None]
        assert await applied(cluster, [path], [ref("1")]) == ()
        write(path, deployment(replicas=1), {**CONFIG_MAP, "data": {"a": "2"}})
        assert await applied(cluster, [path], [ref("1")]) == ("configmap/settings configured",)
        write(path, deployment(replicas=2), {**CONFIG_MAP, "data": {"a": "2"}})
        assert await applied(cluster, [path], [ref("1")]) == ("deployment/web configured",)
        await states.until(lambda seen: len(seen) >= 4)
        assert states.seen[2:] == ["upgrading", None], "not for the ConfigMap's change"
        await removal.delete_made()
        assert (await states.until(lambda seen: seen[-1] == "gone"))[4:] == ["uninstalling", "gone"]
        group.cancel_scope.cancel()


async def test_a_mark_that_a_killed_devloop_left_is_taken_off(
    api: Api, cluster: KubernetesCluster, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.yaml", deployment(replicas=1))
    await applied(cluster, [path], [ref("1")])
    await api.merge(WEB, {"metadata": {"annotations": {STATE: "upgrading"}}}, "devloop")
    assert await applied(cluster, [path], [ref("1")]) == ()
    assert STATE not in ((await api.get(WEB))["metadata"].get("annotations") or {})


async def test_a_refused_change_leaves_no_mark(api: Api, cluster: KubernetesCluster, tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", deployment(replicas=1))
    await applied(cluster, [path], [ref("1")])
    await api.merge(WEB, {"spec": {"replicas": 5}}, "autoscaler")
    with pytest.raises(PatchError, match="autoscaler"):
        await applied(cluster, [path], [ref("1")])
    assert STATE not in ((await api.get(WEB))["metadata"].get("annotations") or {})


# --- what devloop made --------------------------------------------------------------------------


def removal_of(cluster: KubernetesCluster, project: str, *files: Path, **fields: Any) -> Removal:
    return Removal(cluster.client, cluster.applier, lambda: files, project, **fields)


async def test_what_was_made_is_known_when_no_manifest_names_it_any_more(
    api: Api, cluster: KubernetesCluster, tmp_path: Path
) -> None:
    """By the note on it; nothing that another project made, or that was only PATCHed, or that is a copy."""
    left, listed = write(tmp_path / "a.yaml", deployment(replicas=1), CONFIG_MAP), tmp_path / "b.yaml"
    write(listed, {**CONFIG_MAP, "metadata": {"name": "listed"}})
    ours = Applier(cluster.client, "default", "ours")
    await ours.apply([left, listed], [ref("1")])
    await Applier(cluster.client, "default", "theirs").apply(
        [write(tmp_path / "c.yaml", {**CONFIG_MAP, "metadata": {"name": "theirs"}})], ()
    )
    web = await api.get(WEB)
    assert web["metadata"]["annotations"][MADE_BY] == "ours"
    assert not web["spec"]["template"]["metadata"].get("annotations"), "a note of the pods would roll them"
    copy = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "controller": True, "name": "web", "uid": "u"}
    await cluster.client.request(
        "POST",
        "/api/v1/namespaces/default/configmaps",
        body={"apiVersion": "v1", "kind": "ConfigMap",
              "metadata": {"name": "copy", "annotations": {MADE_BY: "ours"}, "ownerReferences": [copy]}},
    )  # fmt: skip
    removal = removal_of(cluster, "ours", listed)
    assert sorted(map(str, await removal.find_left())) == ["configmap/settings", "deployment/web"]
    assert await removal.find_made() == ["deployment/web", "configmap/settings", "configmap/listed"]
    assert await removal_of(cluster, "others", listed).find_made() == [], "it has another project's note"
    await removal.delete_made()
    assert await removal.find_made() == []
    assert await cluster.client.find("/api/v1/namespaces/default/configmaps/theirs")
    assert await cluster.client.find("/api/v1/namespaces/default/configmaps/copy")


NO_RELEASES = cast("Releaser", None)  # asked for none
NAMESPACE = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}
IN_SHOP = {**CONFIG_MAP, "metadata": {"name": "settings", "namespace": "shop"}}


async def torn_down(removal: Removal) -> Teardown:
    """What `down` removes of manifests alone."""
    return await tear_down(await plan((), (), NO_RELEASES, removal), NO_RELEASES, removal)


async def test_what_others_put_into_a_namespace_meanwhile_keeps_it(
    api: Api, cluster: KubernetesCluster, tmp_path: Path
) -> None:
    """Between the question and the answer."""
    path = write(tmp_path / "a.yaml", NAMESPACE)
    await Applier(cluster.client, "default", "ours").apply([path], ())
    removal = removal_of(cluster, "ours", path)
    found = await plan((), (), NO_RELEASES, removal)
    assert found.namespaces == ("shop",)
    await api.create("/api/v1/namespaces/shop/configmaps", IN_SHOP)
    done = await tear_down(found, NO_RELEASES, removal)
    assert (done.lines(), list(done.kept)) == ([], ["shop"])
    assert not (await api.get("/api/v1/namespaces/shop"))["metadata"].get("deletionTimestamp")


async def test_a_namespace_that_devloop_made_goes_with_what_is_in_it(
    cluster: KubernetesCluster, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.yaml", NAMESPACE, IN_SHOP)
    for _ in range(2):  # applied again it is there before, and is this project's still
        await Applier(cluster.client, "default", "ours").apply([path], ())
    found = await plan((), (), NO_RELEASES, removal_of(cluster, "ours", path))
    assert found.lines() == ["configmap/settings", "namespace shop, which devloop created"]
    assert found.stays() == []


async def test_a_namespace_in_which_others_have_something_stays_and_says_so(
    api: Api, cluster: KubernetesCluster, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.yaml", NAMESPACE, IN_SHOP)
    await Applier(cluster.client, "default", "ours").apply([path], ())
    secret = {**SECRET, "metadata": {"name": "by-hand", "namespace": "shop"}}
    await api.create("/api/v1/namespaces/shop/secrets", secret)
    done = await torn_down(removal_of(cluster, "ours", path))
    assert done.lines() == ["configmap/settings"]
    assert done.stays() == ["namespace shop stays: devloop created it, but not secret/by-hand in it"]
    assert await cluster.client.find("/api/v1/namespaces/shop/secrets/by-hand")


async def test_a_namespace_that_was_there_before_is_nobodys(
    api: Api, cluster: KubernetesCluster, tmp_path: Path
) -> None:
    await api.create("/api/v1/namespaces", NAMESPACE)
    path = write(tmp_path / "a.yaml", NAMESPACE, IN_SHOP)
    await Applier(cluster.client, "default", "ours").apply([path], ())
    done = await torn_down(removal_of(cluster, "ours", path))
    assert (done.lines(), done.stays()) == (["configmap/settings"], [])
    assert await cluster.client.find("/api/v1/namespaces/shop")


def test_claims_of_a_statefulset_of_ours_are_not_others_even_when_it_is_gone() -> None:
    item = statefulset(metadata={"namespace": "shop", "annotations": {MADE_BY: "ours"}})
    item["spec"]["volumeClaimTemplates"] = [{"metadata": {"name": "data"}}]
    volumes = [
        ("PersistentVolumeClaim", name, {"metadata": {"name": name, "namespace": "shop"}})
        for name in ("data-web-0", "data-web-backup", "other")
    ]
    claims: Claims = set()
    for there in ([*volumes, ("StatefulSet", "web", item)], volumes):
        found = others(there, "ours", releases=(), paths=(), claims=claims)
        assert found == ["persistentvolumeclaim/data-web-backup", "persistentvolumeclaim/other"]


async def test_what_a_release_of_ours_brought_is_not_others(api: Api, cluster: KubernetesCluster) -> None:
    noted = {"name": "shop", "annotations": {MADE_BY: "ours"}}
    await api.create("/api/v1/namespaces", {**NAMESPACE, "metadata": noted})
    for name, release in (("ours", "app"), ("theirs", "other")):
        notes = {"meta.helm.sh/release-name": release, "meta.helm.sh/release-namespace": "shop"}
        meta = {"name": name, "namespace": "shop", "annotations": notes}
        await api.create("/api/v1/namespaces/shop/configmaps", {**CONFIG_MAP, "metadata": meta})
    found = await removal_of(cluster, "ours").own_namespaces((), [Release("app", Path(), "shop")])
    assert found == {"shop": ["configmap/theirs"]}


async def test_helms_record_of_a_release_is_nothing_that_is_left(
    api: Api, cluster: KubernetesCluster
) -> None:
    """It has the note, and `diff` called it left over as long as the release was there."""
    meta = {"name": "sh.helm.release.v1.app.v1", "annotations": {MADE_BY: "ours"}}
    await api.create(SECRETS, {**SECRET, "type": "helm.sh/release.v1", "metadata": meta})
    await api.create(SECRETS, {**SECRET, "metadata": {"name": "mine", "annotations": {MADE_BY: "ours"}}})
    assert [str(one) for one in await removal_of(cluster, "ours").find_left()] == ["secret/mine"]


async def test_a_diff_does_not_show_the_note(api: Api, cluster: KubernetesCluster, tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", CONFIG_MAP)
    noting = Applier(cluster.client, "default", "ours")
    await Applier(cluster.client, "default").apply([path], ())  # as before there was a note
    assert MADE_BY not in ((await api.get(SETTINGS))["metadata"].get("annotations") or {})
    assert diff(await noting.preview(read_manifests([path]), MANAGER, {})) == []
    await noting.apply([path], ())
    assert (await api.get(SETTINGS))["metadata"]["annotations"] == {MADE_BY: "ours"}
    assert diff(await noting.preview(read_manifests([path]), MANAGER, {})) == []


async def test_where_not_all_namespaces_count_the_others_stay(
    cluster: KubernetesCluster, tmp_path: Path
) -> None:
    await Applier(cluster.client, "default", "ours").apply([write(tmp_path / "a.yaml", CONFIG_MAP)], ())
    assert await removal_of(cluster, "ours", namespaces=["other"], everywhere=False).find_left() == []
    assert await removal_of(cluster, "ours", namespaces=["default"], everywhere=False).find_left()
