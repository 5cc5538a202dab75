from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from devloop.adapters.kubernetes.cluster import KubernetesCluster
from devloop.adapters.kubernetes.patch import plan
from devloop.adapters.lock import Owner
from devloop.errors import PatchError, PlatformError, TargetMissingError
from devloop.events import Event, Notice
from devloop.model import Target
from tests.support.faulty_proxy import Answer, Delay, Lose, Proxy, Swallow
from tests.support.kubernetes_objects import (
    DEPLOYMENTS,
    SERVICE,
    STATEFULSETS,
    TARGET,
    Api,
    deployment,
    loaded,
    ref,
    statefulset,
)

WEB = f"{DEPLOYMENTS}/web"
HELM = {
    "labels": {"app.kubernetes.io/managed-by": "Helm"},
    "annotations": {"meta.helm.sh/release-name": "todo"},
}


@pytest.fixture(params=["cached", "uncached"])
async def watched(
    request: pytest.FixtureRequest, cluster: KubernetesCluster
) -> AsyncIterator[KubernetesCluster]:
    """With and without a feed: the PATCH is planned from the watch's object, or from a read."""
    async with AsyncExitStack() as stack:
        if request.param == "cached":
            await stack.enter_async_context(cluster.feed(TARGET))
        yield cluster


def containers(item: dict[str, Any], kind: str = "containers") -> dict[str, dict[str, Any]]:
    return {c["name"]: c for c in item["spec"]["template"]["spec"][kind]}


async def test_s14_the_image_is_written_and_the_generation_returned(
    api: Api, watched: KubernetesCluster
) -> None:
    made = await api.create(DEPLOYMENTS, deployment())
    revision = await watched.patch(TARGET, SERVICE, loaded("1"))
    item = await api.get(WEB)
    assert containers(item)["web"]["image"] == ref("1")
    assert revision.changed
    assert (revision.uid, revision.generation) == (made["metadata"]["uid"], item["metadata"]["generation"])
    assert revision.generation == made["metadata"]["generation"] + 1
    assert revision.ref == ref("1")


async def test_s14_the_field_manager_is_devloop(api: Api, cluster: KubernetesCluster) -> None:
    await api.create(DEPLOYMENTS, deployment())
    await cluster.patch(TARGET, SERVICE, loaded("1"))
    managers = {m["manager"]: m for m in (await api.get(WEB))["metadata"]["managedFields"]}
    template = managers["devloop"]["fieldsV1"]["f:spec"]["f:template"]["f:spec"]
    assert "f:image" in template["f:containers"]['k:{"name":"web"}']


async def test_s4_equal_is_not_patched(api: Api, watched: KubernetesCluster) -> None:
    await api.create(DEPLOYMENTS, deployment(ref("1")))
    before = await api.get(WEB)
    revision = await watched.patch(TARGET, SERVICE, loaded("1"))
    assert not revision.changed
    assert revision.generation == before["metadata"]["generation"]
    assert (await api.get(WEB))["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


async def test_s14_init_containers_and_every_spelling_of_the_repository(
    api: Api, cluster: KubernetesCluster
) -> None:
    spec = {
        "initContainers": [{"name": "migrate", "image": "docker.io/library/todo:1.0"}],
        "containers": [
            {"name": "web", "image": "todo"},
            {"name": "worker", "image": "index.docker.io/todo:2"},
            {"name": "db", "image": "postgres:17"},
            {"name": "other", "image": "me/todo:1"},
        ],
    }
    await api.create(DEPLOYMENTS, deployment(pod_spec=spec))
    await cluster.patch(TARGET, SERVICE, loaded("1"))
    item = await api.get(WEB)
    images = {name: c["image"] for name, c in containers(item).items()}
    assert images == {"web": ref("1"), "worker": ref("1"), "db": "postgres:17", "other": "me/todo:1"}
    assert containers(item, "initContainers")["migrate"]["image"] == ref("1")


async def test_s14_a_named_container_is_written_whatever_its_image(
    api: Api, cluster: KubernetesCluster
) -> None:
    spec = {"containers": [{"name": "web", "image": "todo:1"}, {"name": "old", "image": "legacy/name:1"}]}
    await api.create(DEPLOYMENTS, deployment(pod_spec=spec))
    await cluster.patch(replace(TARGET, container="old"), SERVICE, loaded("1"))
    found = containers(await api.get(WEB))
    assert (found["old"]["image"], found["web"]["image"]) == (ref("1"), "todo:1")


@pytest.mark.parametrize("container", [None, "nginx"])
async def test_s14_no_match_lists_what_is_there(
    api: Api, cluster: KubernetesCluster, container: str | None
) -> None:
    await api.create(DEPLOYMENTS, deployment("somebody/else:1"))
    before = await api.get(WEB)
    with pytest.raises(PatchError) as caught:
        await cluster.patch(replace(TARGET, container=container), SERVICE, loaded("1"))
    assert "web (somebody/else:1)" in caught.value.message
    assert caught.value.hint
    assert await api.get(WEB) == before


async def test_s14_a_container_renamed_since_the_watch_saw_it_is_read_again(
    api: Api, cluster: KubernetesCluster
) -> None:
    """The patch is planned for containers[0]; by the time it arrives another container stands there."""
    await api.create(DEPLOYMENTS, deployment())
    stale = await api.get(WEB)
    spec = {"containers": [{"name": "proxy", "image": "envoy:1"}, {"name": "web", "image": "todo:1"}]}
    await api.merge(WEB, {"spec": {"template": {"spec": spec}}})
    revision = await _patch_from(cluster, stale)
    found = containers(await api.get(WEB))
    assert (found["proxy"]["image"], found["web"]["image"]) == ("envoy:1", ref("1"))
    assert revision.changed


async def test_s14_a_deployment_made_anew_is_read_again(api: Api, cluster: KubernetesCluster) -> None:
    await api.create(DEPLOYMENTS, deployment())
    stale = await api.get(WEB)
    await api.delete(WEB)
    fresh = await api.create(DEPLOYMENTS, deployment())
    assert (await _patch_from(cluster, stale)).uid == fresh["metadata"]["uid"]


async def test_s26_annotations_written_in_between_are_not_wiped_out(
    api: Api, cluster: KubernetesCluster
) -> None:
    await api.create(DEPLOYMENTS, deployment())
    stale = await api.get(WEB)
    assert not stale["metadata"].get("annotations")
    await api.merge(WEB, {"metadata": {"annotations": {"mine": "kept"}}})
    await _patch_from(cluster, stale)
    notes = (await api.get(WEB))["metadata"]["annotations"]
    assert notes["mine"] == "kept"
    assert "dev.devloop/owner" in notes


async def _patch_from(cluster: KubernetesCluster, stale: dict[str, Any]) -> Any:
    from devloop.adapters.kubernetes.patch import write_image
    from devloop.clock import Clock

    return await write_image(cluster.client, Clock(), TARGET, "todo", ref("1"), "{}", lambda: stale)


@pytest.mark.parametrize("faults", [1, 2])
async def test_s14_422_is_read_again_and_tried_again(
    api: Api, proxy: Proxy, shaky: KubernetesCluster, faults: int
) -> None:
    await api.create(DEPLOYMENTS, deployment())
    proxy.on("PATCH", "/deployments/web", Answer(422, reason="Invalid"), times=faults)
    assert (await shaky.patch(TARGET, SERVICE, loaded("1"))).changed
    assert containers(await api.get(WEB))["web"]["image"] == ref("1")


async def test_s14_422_for_ever_is_a_patch_error_with_the_servers_words(
    api: Api, proxy: Proxy, shaky: KubernetesCluster
) -> None:
    await api.create(DEPLOYMENTS, deployment())
    proxy.on("PATCH", "/deployments/web", Answer(422, reason="Invalid", message="no such thing"), times=9)
    with pytest.raises(PatchError, match="no such thing"):
        await shaky.patch(TARGET, SERVICE, loaded("1"))
    assert proxy.hits == 3


async def test_s15_pull_policy_always_becomes_if_not_present(api: Api, cluster: KubernetesCluster) -> None:
    await api.create(DEPLOYMENTS, deployment(pull="Always"))
    await cluster.patch(TARGET, SERVICE, loaded("1"))
    assert containers(await api.get(WEB))["web"]["imagePullPolicy"] == "IfNotPresent"


@pytest.mark.parametrize("policy", ["Never", "IfNotPresent"])
async def test_s15_other_pull_policies_stay(api: Api, cluster: KubernetesCluster, policy: str) -> None:
    await api.create(DEPLOYMENTS, deployment(pull=policy))
    await cluster.patch(TARGET, SERVICE, loaded("1"))
    assert containers(await api.get(WEB))["web"]["imagePullPolicy"] == policy


async def test_s15_a_policy_that_helm_manages_is_left_to_the_release(
    api: Api, cluster: KubernetesCluster
) -> None:
    await api.create(DEPLOYMENTS, deployment(pull="Always", metadata=HELM))
    await cluster.patch(TARGET, SERVICE, loaded("1"))
    found = containers(await api.get(WEB))["web"]
    assert (found["imagePullPolicy"], found["image"]) == ("Always", ref("1"))


async def test_s16_a_lost_answer_is_settled_by_reading(
    api: Api, proxy: Proxy, shaky: KubernetesCluster
) -> None:
    await api.create(DEPLOYMENTS, deployment())
    proxy.on("PATCH", "/deployments/web", Lose())
    revision = await shaky.patch(TARGET, SERVICE, loaded("1"))
    item = await api.get(WEB)
    assert revision.changed
    assert revision.generation == item["metadata"]["generation"] == 2
    assert sum(line.startswith("PATCH") for line in proxy.seen) == 1


async def test_s16_half_an_answer_is_settled_by_reading(
    api: Api, proxy: Proxy, shaky: KubernetesCluster
) -> None:
    await api.create(DEPLOYMENTS, deployment())
    proxy.on("PATCH", "/deployments/web", Lose(keep=300))
    assert (await shaky.patch(TARGET, SERVICE, loaded("1"))).generation == 2


async def test_s16_no_answer_but_the_effect_is_settled_by_reading(
    api: Api, proxy: Proxy, shaky: KubernetesCluster
) -> None:
    await api.create(DEPLOYMENTS, deployment())
    proxy.on("PATCH", "/deployments/web", Swallow(forward=True))
    assert (await shaky.patch(TARGET, SERVICE, loaded("1"))).generation == 2


async def test_s16_no_answer_and_no_effect_is_tried_again(
    api: Api, proxy: Proxy, shaky: KubernetesCluster
) -> None:
    await api.create(DEPLOYMENTS, deployment())
    proxy.on("PATCH", "/deployments/web", Answer(500))
    assert (await shaky.patch(TARGET, SERVICE, loaded("1"))).generation == 2
    assert containers(await api.get(WEB))["web"]["image"] == ref("1")


async def test_s16_a_server_that_only_fails_is_a_platform_error(
    api: Api, proxy: Proxy, shaky: KubernetesCluster
) -> None:
    await api.create(DEPLOYMENTS, deployment())
    proxy.on("PATCH", "/deployments/web", Answer(500, message="etcd is gone"), times=9)
    with pytest.raises(PlatformError, match="etcd is gone"):
        await shaky.patch(TARGET, SERVICE, loaded("1"))
    assert proxy.hits == 3
    assert containers(await api.get(WEB))["web"]["image"] == "todo:1"


async def test_s16_a_cancelled_patch_is_decided_first(
    api: Api, proxy: Proxy, shaky: KubernetesCluster
) -> None:
    await api.create(DEPLOYMENTS, deployment())
    proxy.on("PATCH", "/deployments/web", Delay(0.3))
    done: list[Any] = []

    async def patch() -> None:
        done.append(await shaky.patch(TARGET, SERVICE, loaded("1")))

    async with anyio.create_task_group() as group:
        group.start_soon(patch)
        await proxy.wait_for("PATCH", "/deployments/web")
        group.cancel_scope.cancel()
    assert containers(await api.get(WEB))["web"]["image"] == ref("1")


async def test_cancelling_a_hanging_read_is_immediate(
    api: Api, proxy: Proxy, shaky: KubernetesCluster
) -> None:
    """The server hangs on the GET before the PATCH: nothing has been sent, so nothing is shielded."""
    proxy.on("GET", "/deployments/web", Swallow())
    with anyio.move_on_after(30) as patience:
        async with anyio.create_task_group() as group:
            group.start_soon(shaky.patch, TARGET, SERVICE, loaded("1"))
            await proxy.wait_for("GET", "/deployments/web")
            begun = anyio.current_time()
            group.cancel_scope.cancel()
        patience.deadline = anyio.current_time() + 1
        assert anyio.current_time() - begun < 1.0  # the target is 0.1 s; bench/ measures, this only proves
    assert not patience.cancelled_caught


async def test_s17_a_missing_target_names_context_namespace_and_the_apply_line(
    api: Api, cluster: KubernetesCluster
) -> None:
    with pytest.raises(TargetMissingError) as caught:
        await cluster.patch(TARGET, SERVICE, loaded("1"))
    assert "namespace default of context devloop-sandbox-adapters" in caught.value.message
    assert "apply -f" in str(caught.value.hint)


async def test_s17_a_statefulset_is_patched_the_same(api: Api, cluster: KubernetesCluster) -> None:
    await api.create(STATEFULSETS, statefulset())
    await cluster.patch(Target("statefulset", "web", "default"), SERVICE, loaded("1"))
    assert containers(await api.get(f"{STATEFULSETS}/web"))["web"]["image"] == ref("1")


async def test_s26_the_owner_is_written_with_the_patch_and_not_on_the_template(
    api: Api, cluster: KubernetesCluster
) -> None:
    await api.create(DEPLOYMENTS, deployment(metadata={"annotations": {"a": "b"}}))
    await cluster.patch(TARGET, SERVICE, loaded("1"))
    item = await api.get(WEB)
    owner = Owner.parse(item["metadata"]["annotations"]["dev.devloop/owner"])
    assert owner == Owner("this-host", 4711, "/home/me/todo/config.yaml")
    assert item["metadata"]["annotations"]["a"] == "b"
    assert "annotations" not in item["spec"]["template"]["metadata"]


@pytest.mark.parametrize("is_there", [True, False])
async def test_s26_another_project_of_this_host_is_a_warning_unless_it_was_moved(
    api: Api, cluster: KubernetesCluster, events: list[Event], tmp_path: Path, *, is_there: bool
) -> None:
    config = tmp_path / "config.yaml"
    if is_there:
        config.touch()
    other = Owner("this-host", 99, str(config)).dump()
    await api.create(DEPLOYMENTS, deployment(metadata={"annotations": {"dev.devloop/owner": other}}))
    async with cluster.feed(TARGET):
        await cluster.patch(TARGET, SERVICE, loaded("1"))
        await cluster.patch(TARGET, SERVICE, loaded("2"))
    warnings = [e.message for e in events if isinstance(e, Notice) and e.level == "warning"]
    taken_over = (
        f"deployment/web was last written by a devloop of {config}; now it runs what this project has"
    )
    assert warnings == ([taken_over] if is_there else [])


async def test_s26_another_hosts_devloop_is_a_warning_once(
    api: Api, cluster: KubernetesCluster, events: list[Event]
) -> None:
    other = Owner("laptop-2", 99, "/elsewhere/config.yaml").dump()
    await api.create(DEPLOYMENTS, deployment(metadata={"annotations": {"dev.devloop/owner": other}}))
    async with cluster.feed(TARGET):
        await cluster.patch(TARGET, SERVICE, loaded("1"))
    warnings = [e for e in events if isinstance(e, Notice) and e.level == "warning"]
    assert len(warnings) == 1
    assert "laptop-2" in warnings[0].message


async def test_s24_annotating_the_workload_rolls_nothing(api: Api, cluster: KubernetesCluster) -> None:
    made = await api.create(DEPLOYMENTS, deployment())
    await cluster.annotate(TARGET, {"dev.devloop/hold": "00aa"})
    held = await api.get(WEB)
    assert held["metadata"]["annotations"]["dev.devloop/hold"] == "00aa"
    assert held["metadata"]["generation"] == made["metadata"]["generation"]
    await cluster.annotate(TARGET, {"dev.devloop/hold": None})
    assert "dev.devloop/hold" not in ((await api.get(WEB))["metadata"].get("annotations") or {})
    with pytest.raises(TargetMissingError):
        await cluster.annotate(Target("deployment", "gone", "default"), {"a": "b"})


def test_s14_the_plan_tests_uid_and_names_before_it_writes() -> None:
    item = deployment(metadata={"annotations": {"x": "y"}, "uid": "u-1", "resourceVersion": "7"})
    operations = [(o["op"], o["path"]) for o in plan(item, TARGET, "todo", ref("1"), "me")]
    assert operations == [
        ("test", "/metadata/uid"),
        ("test", "/spec/template/spec/containers/0/name"),
        ("replace", "/spec/template/spec/containers/0/image"),
        ("add", "/metadata/annotations/dev.devloop~1owner"),
    ]


async def test_s24_a_replica_sets_revision_that_is_no_number_is_the_oldest(
    api: Api, cluster: KubernetesCluster
) -> None:
    made = await api.create(DEPLOYMENTS, deployment(ref("3")))
    meta = made["metadata"]
    owner = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "name": "web",
        "uid": meta["uid"],
        "controller": True,
    }
    for number, revision in (("1", "first"), ("2", "2")):
        spec = {**deployment(ref(number))["spec"], "replicas": 0}
        spec = {key: value for key, value in spec.items() if key in ("replicas", "selector", "template")}
        notes = {"deployment.kubernetes.io/revision": revision}
        await api.create(
            DEPLOYMENTS.replace("deployments", "replicasets"),
            {
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "spec": spec,
                "metadata": {
                    "name": f"web-{number}", "labels": {"app": "web"}, "annotations": notes,
                    "ownerReferences": [owner],
                },
            },
        )  # fmt: skip
    assert await cluster.earlier_images(TARGET, "todo") == (ref("3"), ref("2"), ref("1"))


@pytest.mark.parametrize("notes", [{}, {"sidecar.example.com/inject": "true"}])
async def test_a_restart_changes_the_template_and_no_image(
    api: Api, cluster: KubernetesCluster, notes: dict[str, str]
) -> None:
    made = await api.create(DEPLOYMENTS, deployment())
    if notes:
        await api.merge(WEB, {"spec": {"template": {"metadata": {"annotations": notes}}}})
    before = await api.get(WEB)
    revision = await cluster.restart(TARGET, "todo:1")
    item = await api.get(WEB)
    found = item["spec"]["template"]["metadata"]["annotations"]
    assert {name: text for name, text in found.items() if name in notes} == notes
    assert found.keys() - notes.keys() == {"kubectl.kubernetes.io/restartedAt"}
    assert item["spec"]["template"]["spec"] == before["spec"]["template"]["spec"]
    assert (revision.uid, revision.changed) == (made["metadata"]["uid"], True)
    assert revision.generation == item["metadata"]["generation"] > before["metadata"]["generation"]
    assert "dev.devloop/owner" in item["metadata"]["annotations"]
    again = await cluster.restart(TARGET, "todo:1")
    assert again.generation > revision.generation, "within the same second too"


async def test_s16_a_restart_whose_answer_is_lost_is_done_once(
    api: Api, proxy: Proxy, shaky: KubernetesCluster
) -> None:
    await api.create(DEPLOYMENTS, deployment())
    proxy.on("PATCH", "/deployments/web", Lose())
    revision = await shaky.restart(TARGET, "todo:1")
    assert revision.generation == (await api.get(WEB))["metadata"]["generation"] == 2


async def test_a_restart_of_what_is_not_there_is_an_error(cluster: KubernetesCluster) -> None:
    with pytest.raises(TargetMissingError):
        await cluster.restart(TARGET, "todo:1")
