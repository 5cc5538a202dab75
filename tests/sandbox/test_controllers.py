"""The control loops over a store, with the test playing the kubelet: it alone says when a pod is ready."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from devloop_sandbox.admission.gate import Gate
from devloop_sandbox.controllers import manager
from devloop_sandbox.options import Options
from devloop_sandbox.store.store import Store, now

Obj = dict[str, Any]
REVISION = "deployment.kubernetes.io/revision"


class Loops:
    def __init__(self, store: Store) -> None:
        self.store = store

    async def until(self, look: Callable[[], Any], wanted: str = "") -> Any:
        with self.store.subscribe() as events, suppress(TimeoutError):
            async with asyncio.timeout(20):
                while not (found := look()):
                    with suppress(TimeoutError):
                        async with asyncio.timeout(0.1):
                            await anext(aiter(events))
                return found
        raise AssertionError(f"{wanted}: {self.store.list('deployments')} {self.pods()}")

    async def settle(self) -> None:
        """Let the loops run until none of them writes any more."""
        version = -1
        while version != self.store.resource_version:
            version = self.store.resource_version
            for _ in range(30):
                await asyncio.sleep(0)

    def deploy(self, replicas: int = 1, image: str = "a:1", **more: Any) -> Obj:
        template = {
            "metadata": {"labels": {"app": "d"}},
            "spec": {"containers": [{"name": "c", "image": image}], "terminationGracePeriodSeconds": 0},
        }
        spec = {"replicas": replicas, "selector": {"matchLabels": {"app": "d"}}, "template": template, **more}
        return self.store.create(
            "deployments", {"metadata": {"name": "d", "namespace": "default"}, "spec": spec}
        )

    def change(self, change: Callable[[Obj], None], resource: str = "deployments", name: str = "d") -> None:
        self.store.mutate(resource, "default", name, change)

    def image(self, image: str) -> None:
        def change(deployment: Obj) -> None:
            deployment["spec"]["template"]["spec"]["containers"][0]["image"] = image

        self.change(change)

    @property
    def deployment(self) -> Obj:
        return self.store.get("deployments", "default", "d")

    def condition(self, kind: str) -> Obj:
        found = self.deployment.get("status", {}).get("conditions") or []
        return next((one for one in found if one["type"] == kind), {})

    def pods(self, image: str = "") -> list[Obj]:
        found = self.store.list("pods", "default")
        return [pod for pod in found if not image or pod["spec"]["containers"][0]["image"] == image]

    def sizes(self) -> dict[str, int]:
        sets = self.store.list("replicasets", "default")
        return {
            one["spec"]["template"]["spec"]["containers"][0]["image"]: one["spec"]["replicas"] for one in sets
        }

    def make_ready(self, image: str = "") -> None:
        def change(pod: Obj) -> None:
            ready = {"type": "Ready", "status": "True", "lastTransitionTime": now()}
            pod["status"] = {**pod["status"], "phase": "Running", "podIP": "10.1.1.1", "conditions": [ready]}

        for pod in self.pods(image):
            self.store.mutate("pods", "default", pod["metadata"]["name"], change, subresource="status")

    async def rolled(self, image: str = "") -> None:
        """Make everything ready until the Deployment is complete."""

        def look() -> bool:
            self.make_ready()
            status, meta = self.deployment.get("status", {}), self.deployment["metadata"]
            counts = {status.get(name, 0) for name in ("replicas", "updatedReplicas", "availableReplicas")}
            current = status.get("observedGeneration") == meta["generation"]
            return current and counts == {self.deployment["spec"]["replicas"]}

        await self.until(look, f"rollout of {image}")
        await self.settle()


@pytest.fixture
async def loops(tmp_path: Path) -> AsyncIterator[Loops]:
    options = Options("loops", tmp_path)
    store = Store(None, Gate(options))
    store.create("namespaces", {"metadata": {"name": "default"}})
    task = asyncio.create_task(manager.run_all(store, options))
    yield Loops(store)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    store.close()


async def test_rolling_update_keeps_the_old_pods_until_the_new_are_ready(loops: Loops) -> None:
    loops.deploy(4, strategy={"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}})
    await loops.rolled()
    loops.image("a:2")
    await loops.settle()
    assert loops.sizes() == {"a:1": 4, "a:2": 1}
    loops.make_ready("a:2")
    await loops.settle()
    assert loops.sizes() == {"a:1": 3, "a:2": 2}
    await loops.rolled()
    assert loops.sizes() == {"a:1": 0, "a:2": 4}
    assert loops.condition("Progressing")["reason"] == "NewReplicaSetAvailable"


async def test_recreate_waits_for_the_last_old_pod(loops: Loops) -> None:
    loops.deploy(2, strategy={"type": "Recreate"})
    await loops.rolled()
    for pod in loops.pods():  # a finalizer keeps the old pods terminating
        loops.change(lambda p: p["metadata"].update(finalizers=["x/y"]), "pods", pod["metadata"]["name"])
    loops.image("a:2")
    await loops.settle()
    assert loops.pods("a:2") == []
    for pod in loops.pods():
        loops.change(lambda p: p["metadata"].update(finalizers=[]), "pods", pod["metadata"]["name"])
    await loops.until(lambda: len(loops.pods("a:2")) == 2 and not loops.pods("a:1"))


async def test_return_to_an_old_template_takes_its_replica_set_and_a_new_revision(loops: Loops) -> None:
    loops.deploy()
    await loops.rolled()
    first = loops.store.list("replicasets")[0]["metadata"]["uid"]
    loops.image("a:2")
    await loops.rolled()
    loops.image("a:1")
    await loops.rolled()
    (back,) = [one for one in loops.store.list("replicasets") if one["spec"]["replicas"]]
    assert back["metadata"]["uid"] == first
    assert back["metadata"]["annotations"][REVISION] == "3"
    assert loops.deployment["metadata"]["annotations"][REVISION] == "3"


async def test_paused_deployment_scales_but_does_not_roll(loops: Loops) -> None:
    loops.deploy()
    await loops.rolled()
    loops.change(lambda d: d["spec"].update(paused=True))
    loops.image("a:2")
    await loops.settle()
    assert loops.condition("Progressing")["reason"] == "DeploymentPaused"
    loops.change(lambda d: d["spec"].update(replicas=3))
    await loops.settle()
    assert loops.sizes() == {"a:1": 3}
    loops.change(lambda d: d["spec"].update(paused=False))
    await loops.rolled()
    assert loops.sizes() == {"a:1": 0, "a:2": 3}


async def test_missed_deadline_is_a_condition_and_progress_clears_it(loops: Loops) -> None:
    loops.deploy(progressDeadlineSeconds=1)
    await loops.until(lambda: loops.condition("Progressing").get("reason") == "ProgressDeadlineExceeded")
    assert loops.condition("Progressing")["status"] == "False"
    await loops.rolled()
    assert loops.condition("Progressing")["status"] == "True"


async def test_refused_pods_show_as_replica_failure(loops: Loops) -> None:
    loops.deploy(2)
    await loops.rolled()
    loops.change(lambda d: d["spec"]["template"]["spec"].update(hostPID=True))
    failure = await loops.until(lambda: loops.condition("ReplicaFailure"))
    assert (failure["status"], failure["reason"]) == ("True", "FailedCreate")
    assert "violates PodSecurity" in failure["message"]
    assert len(loops.pods()) == 2
    loops.change(lambda d: d["spec"]["template"]["spec"].pop("hostPID"))
    await loops.rolled()
    assert loops.condition("ReplicaFailure") == {}


async def test_history_keeps_its_limit(loops: Loops) -> None:
    loops.deploy(revisionHistoryLimit=1)
    await loops.rolled()
    for image in ("a:2", "a:3", "a:4"):
        loops.image(image)
        await loops.rolled()
    await loops.until(lambda: set(loops.sizes()) == {"a:3", "a:4"})


@pytest.mark.parametrize(("propagation", "left"), [("Background", 0), ("Foreground", 0), ("Orphan", 1)])
async def test_dependents_go_or_stay_with_their_owner(loops: Loops, propagation: str, left: int) -> None:
    loops.deploy()
    await loops.rolled()
    loops.store.delete("deployments", "default", "d", propagation=propagation)
    await loops.until(lambda: not loops.store.list("deployments"))
    await loops.settle()
    assert (len(loops.store.list("replicasets")), len(loops.pods())) == (left, left)
    assert all("ownerReferences" not in one["metadata"] for one in loops.store.list("replicasets"))


async def test_scale_down_takes_the_unready_pod_first(loops: Loops) -> None:
    loops.deploy(3)
    await loops.settle()
    keep = loops.pods()[1]["metadata"]["name"]

    def change(pod: Obj) -> None:
        ready = {"type": "Ready", "status": "True", "lastTransitionTime": now()}
        pod["status"] = {**pod["status"], "phase": "Running", "conditions": [ready]}

    loops.store.mutate("pods", "default", keep, change, subresource="status")
    loops.change(lambda d: d["spec"].update(replicas=1))
    await loops.until(lambda: [pod["metadata"]["name"] for pod in loops.pods()] == [keep])


async def test_deleted_namespace_takes_its_content_along(loops: Loops) -> None:
    loops.store.create("namespaces", {"metadata": {"name": "ns"}})
    await loops.until(lambda: loops.store.find("serviceaccounts", "ns", "default"))
    loops.store.create("configmaps", {"metadata": {"name": "c", "namespace": "ns"}, "data": {}})
    loops.store.delete("namespaces", "", "ns")
    await loops.until(lambda: not loops.store.find("namespaces", "", "ns"))
    assert loops.store.list("configmaps", "ns") == []


async def test_stateful_set_goes_up_in_order_and_is_replaced_from_the_top(loops: Loops) -> None:
    template = {"metadata": {"labels": {"app": "s"}}, "spec": {"containers": [{"name": "c", "image": "a:1"}]}}
    spec = {
        "replicas": 2,
        "serviceName": "s",
        "selector": {"matchLabels": {"app": "s"}},
        "template": template,
    }
    loops.store.create("statefulsets", {"metadata": {"name": "s", "namespace": "default"}, "spec": spec})

    def names(image: str = "") -> list[str]:
        return [pod["metadata"]["name"] for pod in loops.pods(image)]

    await loops.settle()
    assert names() == ["s-0"]
    loops.make_ready()
    await loops.settle()
    assert names() == ["s-0", "s-1"]
    loops.make_ready()
    await loops.settle()

    def change(stateful: Obj) -> None:
        stateful["spec"]["template"]["spec"]["containers"][0]["image"] = "a:2"

    loops.change(change, "statefulsets", "s")
    await loops.settle()
    assert (names("a:1"), names("a:2")) == (["s-0"], ["s-1"])
    loops.make_ready()
    await loops.settle()
    assert names("a:2") == ["s-0", "s-1"]
    loops.make_ready()
    await loops.settle()
    status = loops.store.get("statefulsets", "default", "s")["status"]
    assert status["currentRevision"] == status["updateRevision"]


async def test_endpoints_follow_readiness(loops: Loops) -> None:
    service = {"selector": {"app": "d"}, "ports": [{"port": 80, "targetPort": 8001}]}
    loops.store.create("services", {"metadata": {"name": "d", "namespace": "default"}, "spec": service})
    loops.deploy()
    await loops.settle()
    assert loops.store.get("endpoints", "default", "d").get("subsets", []) == []
    loops.make_ready()
    await loops.settle()
    (subset,) = loops.store.get("endpoints", "default", "d")["subsets"]
    assert [entry["ip"] for entry in subset["addresses"]] == ["10.1.1.1"]
    assert subset["ports"] == [{"port": 8001, "protocol": "TCP"}]
