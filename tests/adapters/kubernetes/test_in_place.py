"""The writes of an update in place, against a real API server: what each leaves, and what cuts it off."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from devloop.adapters.kubernetes import patch
from devloop.adapters.kubernetes.cluster import KubernetesCluster
from devloop.adapters.kubernetes.in_place_note import images_run
from devloop.errors import InPlaceError
from devloop.model import InPlacePlan, Refusal
from devloop.ports import InPlaceUpdate
from tests.support.faulty_proxy import Answer, Lose, Proxy, Swallow
from tests.support.kubernetes_objects import (
    DEPLOYMENTS,
    PODS,
    REPLICASETS,
    SERVICE,
    STATEFULSETS,
    TARGET,
    Api,
    deployment,
    loaded,
    pod,
    ref,
    replicaset,
    statefulset,
)

WEB, SET = f"{DEPLOYMENTS}/web", f"{REPLICASETS}/web-aa"
FIRST, SECOND, THIRD = ref("1"), ref("2"), ref("3")
LABELS = {"app": "web", "pod-template-hash": "aa"}


async def make(api: Api, cluster: KubernetesCluster, pods: int = 2) -> None:
    """A Deployment as devloop's last PATCH and the controllers left it, with running pods."""
    await api.create(DEPLOYMENTS, deployment("todo:0"))
    await cluster.patch(TARGET, SERVICE, loaded("1"))
    item = await api.merge(WEB, {"metadata": {"annotations": {"deployment.kubernetes.io/revision": "1"}}})
    one = await api.create(REPLICASETS, replicaset(item, "aa", "1", FIRST))
    await api.status(WEB, {"observedGeneration": item["metadata"]["generation"], "replicas": pods})
    await api.status(SET, {"replicas": pods})
    for number in range(pods):
        await run(api, one, f"web-{number}")


async def run(api: Api, owner: dict[str, Any], name: str, image: str = FIRST) -> None:
    await api.create(PODS, pod(owner, name, image, LABELS))
    container = {"name": "web", "containerID": f"docker://{name}", "restartCount": 0, "ready": True}
    await api.status(f"{PODS}/{name}", {"phase": "Running", "containerStatuses": [container]})


async def images(api: Api) -> dict[str, str]:
    """What Deployment, ReplicaSet and every pod name."""
    found = {pod["metadata"]["name"]: pod["spec"] for pod in (await api.get(PODS))["items"]}
    found |= {path: (await api.get(path))["spec"]["template"]["spec"] for path in (WEB, SET)}
    return {name: spec["containers"][0]["image"] for name, spec in found.items()}


async def planned(update: InPlaceUpdate) -> InPlacePlan:
    plan = await update.look()
    assert isinstance(plan, InPlacePlan), plan
    return plan


async def test_s33_pods_first_then_deployment_and_replicaset_name_the_image(
    api: Api, cluster: KubernetesCluster
) -> None:
    await make(api, cluster)
    async with cluster.in_place(TARGET, SERVICE, SECOND) as update:
        plan = await planned(update)
        assert await update.put(plan.pods[0])
        assert await images(api) == {"web-0": SECOND, "web-1": FIRST, WEB: FIRST, SET: FIRST}
        assert await update.put(plan.pods[1])
        revision = await update.finish()
    assert set((await images(api)).values()) == {SECOND}
    item = await api.get(WEB)
    assert "paused" not in item["spec"]
    assert "dev.devloop/in-place" not in item["metadata"]["annotations"]
    assert '"pid":4711' in item["metadata"]["annotations"]["dev.devloop/owner"]
    assert (revision.generation, revision.how) == (item["metadata"]["generation"], "in-place")
    one = await api.get(f"{PODS}/web-0")
    assert images_run(one, "web") == (FIRST, SECOND)
    assert '"replaced":"docker://web-0"' in one["metadata"]["annotations"]["dev.devloop/in-place"]


async def test_s33_a_pod_that_is_gone_or_another_one_is_left_alone(
    api: Api, cluster: KubernetesCluster
) -> None:
    await make(api, cluster)
    one = await api.get(SET)
    async with cluster.in_place(TARGET, SERVICE, SECOND) as update:
        plan = await planned(update)
        await api.delete(f"{PODS}/web-0")
        assert not await update.put(plan.pods[0])
        await api.delete(f"{PODS}/web-1")
        await run(api, one, "web-1")
        assert not await update.put(plan.pods[1])


async def test_s33_a_pod_made_between_listing_and_the_second_write_gets_the_image(
    api: Api, cluster: KubernetesCluster
) -> None:
    await make(api, cluster)
    one = await api.get(SET)
    async with cluster.in_place(TARGET, SERVICE, SECOND) as update:
        for each in (await planned(update)).pods:
            await update.put(each)
        await run(api, one, "web-late")
        await update.finish()
    assert set((await images(api)).values()) == {SECOND}


async def test_s33_a_workload_that_was_scaled_meanwhile_is_no_conflict(
    api: Api, cluster: KubernetesCluster
) -> None:
    await make(api, cluster)
    async with cluster.in_place(TARGET, SERVICE, SECOND) as update:
        for each in (await planned(update)).pods:
            await update.put(each)
        await api.merge(WEB, {"spec": {"replicas": 3}})
        await update.finish()
    item = await api.get(WEB)
    assert item["spec"]["replicas"] == 3
    assert set((await images(api)).values()) == {SECOND}


@pytest.mark.parametrize("what", ["template", "paused"])
async def test_s34_another_writer_ends_the_update(api: Api, cluster: KubernetesCluster, what: str) -> None:
    await make(api, cluster)
    change: dict[str, Any] = {"paused": True}
    if what == "template":
        change = {"template": {"metadata": {"annotations": {"restarted": "now"}}}}
    async with cluster.in_place(TARGET, SERVICE, SECOND) as update:
        for each in (await planned(update)).pods:
            await update.put(each)
        await api.merge(WEB, {"spec": change})
        with pytest.raises(InPlaceError) as caught:
            await update.finish()
    assert caught.value.reason == "conflict"
    assert (await images(api))[WEB] == FIRST


async def test_s34_a_statefulset_is_rolled(api: Api, cluster: KubernetesCluster) -> None:
    await api.create(STATEFULSETS, statefulset("todo:0"))
    target = TARGET.__class__("statefulset", "web", "default")
    async with cluster.in_place(target, SERVICE, SECOND) as update:
        refused = await update.look()
    assert isinstance(refused, Refusal)
    assert refused.reason == "statefulset"


async def test_s34_a_user_who_may_not_patch_pods_gets_a_roll(
    api: Api, shaky: KubernetesCluster, proxy: Proxy
) -> None:
    await make(api, shaky)
    async with shaky.in_place(TARGET, SERVICE, SECOND) as update:
        plan = await planned(update)
        proxy.on("PATCH", "/pods/", Answer(403, reason="Forbidden"))
        with pytest.raises(InPlaceError) as caught:
            await update.put(plan.pods[0])
    assert caught.value.reason == "forbidden"


FAULTS = {
    "lost": Lose(),
    "not arrived": Swallow(),
    "not answered": Swallow(forward=True),
    "busy": Answer(503),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("write", ["/pods/web-0", "/pods/web-1", "/deployments/", "/replicasets/", "last"])
async def test_s33_a_write_without_an_answer_is_sent_again(
    api: Api, shaky: KubernetesCluster, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, fault: str, write: str
) -> None:
    monkeypatch.setattr(patch, "ANSWER_SECONDS", 0.5)
    await make(api, shaky)

    async def disturb() -> None:
        if write == "last":
            await proxy.wait_for("PATCH", "/replicasets/")
        proxy.on("PATCH", write.replace("last", "/deployments/"), FAULTS[fault])

    async with shaky.in_place(TARGET, SERVICE, SECOND) as update, anyio.create_task_group() as group:
        plan = await planned(update)
        group.start_soon(disturb)
        await anyio.wait_all_tasks_blocked()
        for each in plan.pods:
            assert await update.put(each)
        await update.finish()
    assert proxy.hits == 1
    assert set((await images(api)).values()) == {SECOND}
    assert "paused" not in (await api.get(WEB))["spec"]
    for name in ("web-0", "web-1"):
        assert images_run(await api.get(f"{PODS}/{name}"), "web") == (FIRST, SECOND)


@pytest.mark.parametrize("written", [1, 2])
async def test_s35_a_plain_patch_ends_what_was_cut_off(
    api: Api, cluster: KubernetesCluster, written: int
) -> None:
    await make(api, cluster)
    at = {"spec": {"template": {"spec": {"containers": [{"name": "web", "image": SECOND}]}}}}
    note = {"metadata": {"annotations": {"dev.devloop/in-place": SECOND}}}
    await api.merge(WEB, {"spec": {**at["spec"], "paused": True}, **note})
    if written == 2:
        await api.merge(SET, at)
    async with cluster.in_place(TARGET, SERVICE, THIRD) as update:
        refused = await update.look()
    assert isinstance(refused, Refusal)
    assert refused.reason == "unfinished"
    for digit, wanted in (("2", SECOND), ("3", THIRD)):
        revision = await cluster.patch(TARGET, SERVICE, loaded(digit))
        item = await api.get(WEB)
        assert revision.changed
        assert "paused" not in item["spec"]
        assert "dev.devloop/in-place" not in item["metadata"]["annotations"]
        assert item["spec"]["template"]["spec"]["containers"][0]["image"] == wanted


async def test_s34_a_pause_of_somebody_else_stays(api: Api, cluster: KubernetesCluster) -> None:
    await make(api, cluster)
    await api.merge(WEB, {"spec": {"paused": True}})
    await cluster.patch(TARGET, SERVICE, loaded("2"))
    assert (await api.get(WEB))["spec"]["paused"] is True


async def test_s35_undone_by_a_patch_once_and_by_another_pod_from_then_on(
    api: Api, cluster: KubernetesCluster
) -> None:
    await make(api, cluster, pods=1)
    for wanted in (SECOND, THIRD):
        async with cluster.in_place(TARGET, SERVICE, wanted) as update:
            (one,) = (await planned(update)).pods
            await update.put(one)
            await update.undo(one)
    found = (await api.get(PODS))["items"]
    assert [one for one in found if "deletionTimestamp" not in one["metadata"]] == []


async def test_s35_a_stray_pod_is_deleted_by_what_the_api_says_now(
    api: Api, cluster: KubernetesCluster
) -> None:
    await make(api, cluster)
    uids = {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in (await api.get(PODS))["items"]}
    async with cluster.in_place(TARGET, SERVICE, FIRST) as update:
        assert not await update.drop("web-0", uids["web-0"], "web")
        assert not await update.drop("web-0", "another", "web")
        assert not await update.drop("gone", uids["web-0"], "web")
    async with cluster.in_place(TARGET, SERVICE, SECOND) as update:
        assert await update.drop("web-0", uids["web-0"], "web")


@pytest.mark.parametrize("written", [0, 1, 2])
async def test_s35_what_a_cut_off_update_left_is_cleared_by_what_the_template_names(
    api: Api, cluster: KubernetesCluster, written: int
) -> None:
    await make(api, cluster)
    named = [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": SECOND}]
    async with cluster.in_place(TARGET, SERVICE, SECOND) as update:
        await update.put((await planned(update)).pods[0])
    if written:
        note = {"annotations": {"dev.devloop/in-place": SECOND}}
        await api.merge(WEB, {"metadata": note, "spec": {"paused": True}})
        await api.call("PATCH", WEB, named, "application/json-patch+json")
    if written > 1:
        await api.call("PATCH", SET, named, "application/json-patch+json")
    async with cluster.in_place(TARGET, SERVICE, "") as update:
        # Between the first two writes no ReplicaSet has the template: its controller rolls it.
        assert await update.clear() == [["web-0"], [], ["web-1"]][written]
        assert await update.clear() == []
    item = await api.get(WEB)
    assert "paused" not in item["spec"]
    assert "dev.devloop/in-place" not in item["metadata"].get("annotations", {})
