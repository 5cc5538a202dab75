"""StatefulSets: pods with names that stay, made and replaced one by one in order."""

from __future__ import annotations

from collections.abc import Iterable

from typing_extensions import override

from devloop_sandbox.controllers.base import Controller, Key, key_of
from devloop_sandbox.controllers.owners import (
    claimed,
    controller_key,
    delete_quietly,
    is_ready,
    ordinal,
    pod_from,
    reference_to,
    until_available,
)
from devloop_sandbox.controllers.revisions import template_hash
from devloop_sandbox.objects.errors import ApiError
from devloop_sandbox.objects.resources import Obj, clone
from devloop_sandbox.store.store import Event

REVISION_LABEL = "controller-revision-hash"


class StatefulSets(Controller):
    component = "statefulset-controller"

    @override
    def initial(self) -> Iterable[Key]:
        return [key_of(obj) for obj in self.store.list("statefulsets")]

    @override
    def keys(self, event: Event) -> Iterable[Key]:
        if event.resource == "statefulsets":
            return [key_of(event.obj)]
        owner = controller_key(event.obj, "StatefulSet") if event.resource == "pods" else None
        return [owner] if owner else []

    @override
    def sync(self, key: Key) -> float | None:
        found = self.store.find("statefulsets", *key)
        if found is None or "deletionTimestamp" in found["metadata"]:
            return None
        current, update = self._revisions(found)
        pods = self._pods(found)
        again = self._step(found, pods, current, update)
        self._write_status(found, self._pods(found), current, update)
        return again

    def _pods(self, owner: Obj) -> dict[int, Obj]:
        pods = claimed(self.store, "pods", owner)
        return {ordinal(pod["metadata"]["name"]): pod for pod in pods}

    def _step(self, owner: Obj, pods: dict[int, Obj], current: Obj, update: Obj) -> float | None:
        """Create, delete or replace; in order, so usually one pod per step."""
        spec = owner["spec"]
        ordered = spec.get("podManagementPolicy", "OrderedReady") == "OrderedReady"
        strategy = spec.get("updateStrategy") or {}
        partition = (strategy.get("rollingUpdate") or {}).get("partition") or 0
        for index in range(spec["replicas"]):
            pod = pods.get(index)
            if pod is not None and pod.get("status", {}).get("phase") in ("Failed", "Succeeded"):
                self._delete(owner, pod)
                return None
            if pod is None:
                self._create(owner, index, current if index < partition else update)
            if ordered and (pod is None or "deletionTimestamp" in pod["metadata"]):
                return None
            if ordered and (wait := until_available(pod or {}, spec.get("minReadySeconds") or 0)) != 0:
                return wait
        if self._shrink(owner, pods, ordered=ordered):
            return None
        if strategy.get("type", "RollingUpdate") == "RollingUpdate":
            self._replace(owner, pods, partition, update["metadata"]["name"])
        return None

    def _shrink(self, owner: Obj, pods: dict[int, Obj], *, ordered: bool) -> bool:
        """Delete from the top what is too many; True while something is on its way out."""
        surplus = sorted((index for index in pods if index >= owner["spec"]["replicas"]), reverse=True)
        for index in surplus[:1] if ordered else surplus:
            if "deletionTimestamp" not in pods[index]["metadata"]:
                self._delete(owner, pods[index])
        return bool(surplus) and ordered

    def _replace(self, owner: Obj, pods: dict[int, Obj], partition: int, revision: str) -> None:
        """The highest pod of another revision goes; the next one only when that is ready again."""
        for index in range(owner["spec"]["replicas"] - 1, partition - 1, -1):
            pod = pods.get(index)
            if pod is None or "deletionTimestamp" in pod["metadata"]:
                return
            if pod["metadata"]["labels"].get(REVISION_LABEL) != revision:
                self._delete(owner, pod)
                return
            if not is_ready(pod):
                return

    def _create(self, owner: Obj, index: int, revision: Obj) -> None:
        name = f"{owner['metadata']['name']}-{index}"
        pod = pod_from(owner, revision["data"]["spec"]["template"], name)
        pod["spec"].pop("$patch", None)
        pod["metadata"].setdefault("labels", {}).update({
            "statefulset.kubernetes.io/pod-name": name,
            "apps.kubernetes.io/pod-index": str(index),
            REVISION_LABEL: revision["metadata"]["name"],
        })  # fmt: skip
        pod["spec"] |= {"hostname": name, "subdomain": owner["spec"].get("serviceName") or ""}
        for claim in owner["spec"].get("volumeClaimTemplates") or []:
            volume = claim["metadata"]["name"]
            others = [one for one in pod["spec"].get("volumes") or [] if one["name"] != volume]
            source = {"name": volume, "persistentVolumeClaim": {"claimName": f"{volume}-{name}"}}
            pod["spec"]["volumes"] = [*others, source]
        set_name = owner["metadata"]["name"]
        try:
            self.store.create("pods", pod)
        except ApiError as error:
            text = f"create Pod {name} in StatefulSet {set_name} failed error: {error.message}"
            self.record(owner, "Warning", "FailedCreate", text)
            raise
        text = f"create Pod {name} in StatefulSet {set_name} successful"
        self.record(owner, "Normal", "SuccessfulCreate", text)

    def _delete(self, owner: Obj, pod: Obj) -> None:
        if delete_quietly(self.store, "pods", pod):
            text = (
                f"delete Pod {pod['metadata']['name']} in StatefulSet {owner['metadata']['name']} successful"
            )
            self.record(owner, "Normal", "SuccessfulDelete", text)

    def _revisions(self, owner: Obj) -> tuple[Obj, Obj]:
        """(current, update): ControllerRevisions of the last complete rollout and of the template."""
        known = sorted(
            claimed(self.store, "controllerrevisions", owner), key=lambda one: int(one["revision"])
        )
        wanted = clone(owner["spec"]["template"])
        update = next((one for one in known if _template(one) == wanted), None)
        newest = known[-1]["revision"] if known else 0
        if update is None:
            update = self._create_revision(owner, wanted, newest + 1)
        elif update["revision"] != newest:

            def renew(copy: Obj) -> None:
                copy["revision"] = newest + 1

            update = self.store.mutate("controllerrevisions", *key_of(update), renew)
        name = owner.get("status", {}).get("currentRevision")
        current = next((one for one in known if one["metadata"]["name"] == name), update)
        self._forget(owner, [one for one in known if one is not current and one is not update])
        return current, update

    def _create_revision(self, owner: Obj, template: Obj, number: int) -> Obj:
        meta = owner["metadata"]
        labels = (template.get("metadata") or {}).get("labels") or {}
        return self.store.create(
            "controllerrevisions",
            {
                "metadata": {
                    "name": f"{meta['name']}-{template_hash(template)}",
                    "namespace": meta["namespace"],
                    "labels": labels,
                    "ownerReferences": [reference_to(owner)],
                },
                "data": {"spec": {"template": {**template, "$patch": "replace"}}},
                "revision": number,
            },
        )

    def _forget(self, owner: Obj, unused: list[Obj]) -> None:
        limit = owner["spec"].get("revisionHistoryLimit", 10)
        for one in unused[: max(0, len(unused) - limit)]:
            delete_quietly(self.store, "controllerrevisions", one)

    def _write_status(self, owner: Obj, pods: dict[int, Obj], current: Obj, update: Obj) -> None:
        now_current, now_update = current["metadata"]["name"], update["metadata"]["name"]
        mine = [pod for pod in pods.values() if "deletionTimestamp" not in pod["metadata"]]
        revisions = [pod["metadata"]["labels"].get(REVISION_LABEL) for pod in mine]
        ready = sum(map(is_ready, mine))
        seconds = owner["spec"].get("minReadySeconds") or 0
        counts = {
            "readyReplicas": ready,
            "currentReplicas": revisions.count(now_current),
            "updatedReplicas": revisions.count(now_update),
        }
        if counts["updatedReplicas"] == ready == owner["spec"]["replicas"]:
            now_current, counts["currentReplicas"] = now_update, counts["updatedReplicas"]
        status: Obj = {name: count for name, count in counts.items() if count}
        status |= {
            "replicas": len(mine),
            "availableReplicas": sum(until_available(pod, seconds) == 0 for pod in mine),
            "observedGeneration": owner["metadata"].get("generation", 1),
            "currentRevision": now_current,
            "updateRevision": now_update,
            "collisionCount": 0,
        }
        if status != owner.get("status"):

            def change(copy: Obj) -> None:
                copy["status"] = status

            self.store.mutate("statefulsets", *key_of(owner), change, subresource="status")


def _template(revision: Obj) -> Obj:
    template: Obj = clone(revision["data"]["spec"]["template"])
    template.pop("$patch", None)
    return template
