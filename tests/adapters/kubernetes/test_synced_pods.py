"""The writes around synced files, against a real API server: whom they touch, what they leave alone (S37)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from devloop.adapters.kubernetes.cluster import KubernetesCluster
from devloop.image_refs import digest
from devloop.model import InPlacePlan, Refusal
from devloop.synced import SyncedContainers
from tests.adapters.kubernetes.test_in_place import (
    FIRST,
    SECOND,
    SET,
    THIRD,
    WEB,
    images,
    make,
    planned,
)
from tests.support.kubernetes_objects import PODS, SERVICE, TARGET, Api


@pytest.fixture
def record(tmp_path: Path, cluster: KubernetesCluster) -> SyncedContainers:
    cluster.synced = SyncedContainers(tmp_path / "synced.json")
    return cluster.synced


async def running(api: Api, pods: int = 2) -> None:
    """All containers run."""
    for number in range(pods):
        await instance(api, f"web-{number}", f"docker://web-{number}")


async def instance(api: Api, name: str, container: str, restarts: int = 0) -> None:
    status = {"name": "web", "containerID": container, "restartCount": restarts, "ready": True}
    status["state"] = {"running": {}}
    await api.status(f"{PODS}/{name}", {"phase": "Running", "containerStatuses": [status]})


async def uid(api: Api, name: str) -> str:
    return str((await api.get(f"{PODS}/{name}"))["metadata"]["uid"])


async def left(api: Api) -> set[str]:
    """Pods that are not on their way out."""
    found = (await api.get(PODS))["items"]
    return {one["metadata"]["name"] for one in found if "deletionTimestamp" not in one["metadata"]}


@asynccontextmanager
async def baked(
    api: Api, cluster: KubernetesCluster, record: SyncedContainers, pods: int = 2
) -> AsyncIterator[dict[str, Any]]:
    """The second image was synced into all pods, and Deployment and ReplicaSet name it."""
    await make(api, cluster, pods)
    await running(api, pods)
    record.finish(SERVICE.name, [f"docker://web-{n}" for n in range(pods)], digest(SECOND))
    async with cluster.in_place(TARGET, SERVICE, SECOND) as update:
        plan = await update.look(sync=True)
        assert isinstance(plan, InPlacePlan), plan
        revision = await update.finish()
    assert revision.how == "sync"
    yield await api.get(WEB)


async def test_s37_the_three_writes_name_the_image_and_touch_no_pod_that_holds_it(
    api: Api, cluster: KubernetesCluster, record: SyncedContainers
) -> None:
    await make(api, cluster, 3)
    await running(api, 3)
    async with cluster.in_place(TARGET, SERVICE, SECOND) as update:
        plan = await update.look(sync=True)
        assert isinstance(plan, InPlacePlan), plan
        assert [pod.instance for pod in plan.pods] == [f"docker://web-{n}" for n in range(3)]
        # One was restarted meanwhile, and one was never synced.
        record.finish(SERVICE.name, ["docker://web-0", "docker://web-1"], digest(SECOND))
        await instance(api, "web-1", "docker://next", restarts=1)
        await update.finish()
    assert await images(api) == {"web-0": FIRST, "web-1": SECOND, "web-2": SECOND, WEB: SECOND, SET: SECOND}
    item = await api.get(WEB)
    assert "paused" not in item["spec"]


async def test_s36_an_image_that_ran_in_the_pod_is_no_hindrance_to_files(
    api: Api, cluster: KubernetesCluster, record: SyncedContainers
) -> None:
    await make(api, cluster, 1)
    await running(api, 1)
    async with cluster.in_place(TARGET, SERVICE, SECOND) as update:
        await update.put((await planned(update)).pods[0])
        await update.finish()
    item = await api.get(WEB)
    await api.status(WEB, {"observedGeneration": item["metadata"]["generation"], "replicas": 1})
    async with cluster.in_place(TARGET, SERVICE, FIRST) as update:
        plan, files = await update.look(), await update.look(sync=True)
        assert isinstance(plan, Refusal)
        assert plan.reason == "seen_in_pod"
        assert isinstance(files, InPlacePlan)
        assert files.pods[0].instance == "", "its container has yet to be replaced"
    await instance(api, "web-0", "docker://second", restarts=1)
    async with cluster.in_place(TARGET, SERVICE, FIRST) as update:
        files = await update.look(sync=True)
        assert isinstance(files, InPlacePlan)
        assert files.pods[0].instance == "docker://second"


async def test_s37_a_container_that_starts_again_is_given_the_image_in_place_and_another_pod_once_it_ran(
    api: Api, cluster: KubernetesCluster, record: SyncedContainers
) -> None:
    async with baked(api, cluster, record):
        pod = await uid(api, "web-0")
        async with cluster.in_place(TARGET, SERVICE, SECOND) as update:
            assert await update.mend("web-0", pod, "web") == "", "it holds the content"
            await instance(api, "web-0", "docker://next", restarts=1)
            assert await update.mend("web-0", "another", "web") == ""
            assert await update.mend("web-0", pod, "web") == "restarting its container"
            assert await update.mend("web-0", pod, "web") == "", "once"
        assert (await images(api))["web-0"] == SECOND
        # Synced on, and ended again: this image is no news to the pod.
        record.finish(SERVICE.name, ["docker://third"], digest(THIRD))
        await instance(api, "web-0", "docker://third", restarts=2)
        async with cluster.in_place(TARGET, SERVICE, SECOND) as update:
            assert await update.mend("web-0", pod, "web") == "deleting it"
        assert await left(api) == {"web-1"}


async def test_s38_at_the_end_the_pods_get_the_image_that_holds_what_they_run(
    api: Api, cluster: KubernetesCluster, record: SyncedContainers
) -> None:
    async with baked(api, cluster, record):
        record.finish(SERVICE.name, ["docker://web-1"], digest(THIRD))  # whose image was not loaded
        async with cluster.in_place(TARGET, SERVICE, "") as update:
            assert await update.bake() == ["web-0", "web-1"]
            assert await update.bake() == []
        assert await images(api) == {"web-0": SECOND, "web-1": SECOND, WEB: SECOND, SET: SECOND}


async def test_s38_files_that_no_image_holds_go_with_their_pod(
    api: Api, cluster: KubernetesCluster, record: SyncedContainers
) -> None:
    """Ctrl-C between the files and their image: the kubelet restarts nothing for the image that is there."""
    await make(api, cluster)
    await running(api)
    record.finish(SERVICE.name, ["docker://web-0"], digest(SECOND))
    async with cluster.in_place(TARGET, SERVICE, "") as update:
        assert await update.bake() == ["web-0"]
    assert await left(api) == {"web-1"}


async def test_s38_what_nobody_looks_after_is_given_the_image(
    api: Api, cluster: KubernetesCluster, record: SyncedContainers
) -> None:
    async with baked(api, cluster, record):
        record.disown(())
        async with cluster.in_place(TARGET, SERVICE, SECOND) as update:
            assert await update.mend("web-0", await uid(api, "web-0"), "web") == "restarting its container"
        # Of the template's image already, the kubelet would restart nothing.
        async with cluster.in_place(TARGET, SERVICE, FIRST) as update:
            assert await update.mend("web-1", await uid(api, "web-1"), "web") == "deleting it"


async def test_s37_what_was_synced_whole_is_no_leftover_and_what_was_cut_off_is_one(
    api: Api, cluster: KubernetesCluster, record: SyncedContainers
) -> None:
    await make(api, cluster)
    await running(api)
    record.finish(SERVICE.name, ["docker://web-0"], digest(SECOND))
    record.begin(SERVICE.name, ["docker://web-1"])
    async with cluster.in_place(TARGET, SERVICE, "") as update:
        assert await update.clear() == ["web-1"]


async def test_s37_the_watch_shows_what_was_synced_as_soon_as_it_is_noted(
    api: Api, cluster: KubernetesCluster, record: SyncedContainers
) -> None:
    await make(api, cluster, 1)
    await running(api, 1)
    async with cluster.feed(TARGET) as feed:
        seen = feed.latest
        assert seen.pods[0].containers[0].synced is None
        record.begin(SERVICE.name, ["docker://web-0"])
        seen = await feed.next(seen)
        assert seen.pods[0].containers[0].synced == ""
        record.finish(SERVICE.name, ["docker://web-0"], digest(SECOND))
        seen = await feed.next(seen)
        assert seen.pods[0].containers[0].synced == digest(SECOND)
