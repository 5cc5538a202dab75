"""The writes of an update in place (S33): the pods, then three that make Deployment and ReplicaSet name the
image as well, by which no pod is replaced.

Every write is a JSON Patch that tests what it was planned from, so that one which got no answer is simply
sent again. Whoever is killed between two of them leaves a state that a plain roll brings to its right end
(`patch.resumption`, `rollout.follow`).
"""

from __future__ import annotations

from collections.abc import Mapping

import anyio

from devloop.adapters.kubernetes.api.answers import ApiRefusedError, ApiUnreachableError, Json
from devloop.adapters.kubernetes.api.client import Client
from devloop.adapters.kubernetes.apply.removal import delete_pod
from devloop.adapters.kubernetes.in_place_note import IN_PLACE, find_container, images_run, note_of
from devloop.adapters.kubernetes.in_place_plan import Objects, active_set, plan_in_place, pods_of
from devloop.adapters.kubernetes.patch import (
    PATHS,
    TRIES,
    Operation,
    annotation_path,
    matching,
    read_workload,
    resumption,
    send_json_patch,
)
from devloop.adapters.kubernetes.views import OWNER, owned_by, template_of
from devloop.clock import Clock
from devloop.concurrency import gather
from devloop.errors import InPlaceError
from devloop.image_refs import is_another_build, same
from devloop.model import InPlacePlan, PodToUpdate, Refusal, Revision, Target

SETS = "/apis/apps/v1/namespaces/{}/replicasets"
PODS = "/api/v1/namespaces/{}/pods"


class InPlaceUpdate:
    """One update of one Deployment by the only writer there is: `look`, then `put` for each pod, and `finish`
    or `undo`.

    All but `look` raise InPlaceError where somebody else wrote meanwhile, or the user may not write this;
    PlatformError.
    """

    def __init__(
        self, client: Client, clock: Clock, target: Target, image: str, ref: str, owner: str
    ) -> None:
        self._client, self._clock, self._target = client, clock, target
        self._image, self._ref, self._owner = image, ref, owner
        self._path = PATHS[target.kind].format(target.namespace, target.name)
        self._found = Objects({}, (), ())
        self._container = self._before = ""
        self._patched_at: float | None = None

    async def look(self) -> InPlacePlan | Refusal:
        """What is to be done, by the objects as they are now. Raises PatchError, TargetMissingError,
        PlatformError."""
        if self._target.kind != "deployment":
            return Refusal(
                "statefulset", f"{self._target} is a StatefulSet, and any write to its template rolls it"
            )
        self._found = await self._objects(await read_workload(self._client, self._target))
        plan = plan_in_place(self._found, self._target, self._image, self._ref)
        if isinstance(plan, InPlacePlan):
            self._container, self._before = plan.container, plan.before
        return plan

    async def put(self, pod: PodToUpdate) -> bool:
        """PATCH the image of this pod's container; False where the pod is gone, or on its way out."""
        found = next((one for one in self._found.pods if one["metadata"]["uid"] == pod.uid), None)
        return found is not None and await self._put(found, self._ref)

    async def finish(self) -> Revision:
        """Make Deployment and ReplicaSet name the image, and with them the pods that were made meanwhile: one
        unit, which no cancellation interrupts."""
        with anyio.CancelScope(shield=True):
            patched_at = self._patched_at or self._clock.now()
            replicaset = active_set(self._found.sets, self._found.deployment)
            assert replicaset is not None, "planned without one"
            paused = await self._name_in_deployment()
            await self._name_in_set(replicaset)
            item = await self._resume(paused)
            for pod in pods_of(await self._list((PODS, {})), replicaset):
                await self._put(pod, self._ref)
        meta = item["metadata"]
        generation = int(meta.get("generation") or 0)
        return Revision(self._target, meta["uid"], generation, self._ref, patched_at, how="in-place")

    async def undo(self, pod: PodToUpdate) -> None:
        """Give the pod the template's image again: by a PATCH where it is the one that the pod was made with,
        else by another pod, for the kubelet makes an image wait that comes back once more (S35)."""
        with anyio.CancelScope(shield=True):
            found = await self._client.find(f"{PODS.format(self._target.namespace)}/{pod.name}")
            if found is None or found["metadata"]["uid"] != pod.uid:
                return
            images = images_run(found, self._container)
            if same(images[-1], self._before):
                return
            if images[0] != self._before or images.count(self._before) > 1:
                await delete_pod(self._client, self._target.namespace, pod.name, pod.uid)
            else:
                await self._put(found, self._before)

    async def drop(self, pod: str, uid: str, container: str) -> bool:
        """Delete a pod whose container has another image, by what the API says now; True if it had."""
        found = await self._client.find(f"{PODS.format(self._target.namespace)}/{pod}")
        there = find_container(found, container) if found is not None else None
        if found is None or there is None or found["metadata"]["uid"] != uid:
            return False
        if same(str(there.get("image") or ""), self._ref):
            return False
        await delete_pod(self._client, self._target.namespace, pod, uid)
        return True

    async def clear(self) -> list[str]:
        """End a pause that an update in place left, and delete the pods that it left with an image of this
        service that the template does not name; their names."""
        if self._target.kind != "deployment":
            return []
        item = await self._resume(await read_workload(self._client, self._target))
        found = await self._objects(item)
        replicaset = active_set(found.sets, item)
        pods = pods_of(found.pods, replicaset) if replicaset is not None else []
        left = [pod for pod in pods if self._is_left(pod, item)]
        for pod in left:
            await delete_pod(
                self._client, self._target.namespace, pod["metadata"]["name"], pod["metadata"]["uid"]
            )
        return [pod["metadata"]["name"] for pod in left]

    def _is_left(self, pod: Json, item: Json) -> bool:
        runs = {one["name"]: str(one.get("image") or "") for one in pod["spec"]["containers"]}
        return any(
            is_another_build(runs.get(one["name"], ""), str(one.get("image") or ""))
            for _, _, one in matching(item, self._target, self._image)
        )

    async def _objects(self, item: Json) -> Objects:
        labels = ((item.get("spec") or {}).get("selector") or {}).get("matchLabels") or {}
        sets, pods = await gather(self._list, [(SETS, labels), (PODS, labels)])
        return Objects(item, owned_by(sets, {item["metadata"]["uid"]}), pods)

    async def _put(self, pod: Json, ref: str) -> bool:
        uid, found = pod["metadata"]["uid"], pod
        path = f"{PODS.format(self._target.namespace)}/{pod['metadata']['name']}"
        for _ in range(TRIES):
            if found["metadata"]["uid"] != uid or found["metadata"].get("deletionTimestamp"):
                return False
            if same(str((find_container(found, self._container) or {}).get("image") or ""), ref):
                return True
            self._patched_at = self._patched_at or self._clock.now()
            if await self._write(path, self._pod_operations(found, ref)) is not None:
                return True
            again = await self._client.find(path)
            if again is None:
                return False
            found = again
        raise InPlaceError(f"{path} is written to by somebody else all the time")

    # --- the three writes -------------------------------------------------------------------------

    async def _name_in_deployment(self) -> Json:
        item = self._found.deployment
        template = template_of(item)
        for _ in range(TRIES):
            written = await self._write(self._path, self._pausing(item))
            if written is not None:
                return written
            item = await read_workload(self._client, self._target)
            note = (item["metadata"].get("annotations") or {}).get(IN_PLACE)
            if note == self._ref and self._is_named(item):
                return item  # the answer to it was lost
            if template_of(item) != template or note or (item.get("spec") or {}).get("paused"):
                break
        raise InPlaceError(f"{self._target} was changed by somebody else meanwhile")

    def _pausing(self, item: Json) -> list[Operation]:
        meta = item["metadata"]
        kind, index, _ = matching(item, self._target, self._image)[0]
        notes = {IN_PLACE: self._ref, OWNER: self._owner}
        # The generation counts every change of the spec: nobody changed the template, or paused it.
        return [
            {"op": "test", "path": "/metadata/uid", "value": meta["uid"]},
            {"op": "test", "path": "/metadata/generation", "value": meta["generation"]},
            {"op": "replace", "path": f"/spec/template/spec/{kind}/{index}/image", "value": self._ref},
            {"op": "add", "path": "/spec/paused", "value": True},
            *_noting(item, notes),
        ]

    async def _name_in_set(self, replicaset: Json) -> None:
        meta = replicaset["metadata"]
        path = f"{SETS.format(self._target.namespace)}/{meta['name']}"
        kind, index, container = matching(replicaset, self._target, self._image)[0]
        at = f"/spec/template/spec/{kind}/{index}/image"
        operations: list[Operation] = [
            {"op": "test", "path": "/metadata/uid", "value": meta["uid"]},
            {"op": "test", "path": at, "value": container["image"]},
            {"op": "replace", "path": at, "value": self._ref},
        ]
        if await self._write(path, operations) is None and not self._is_named(await self._client.find(path)):
            raise InPlaceError(f"ReplicaSet {meta['name']} was changed by somebody else meanwhile")

    async def _resume(self, item: Json) -> Json:
        """End the pause of `item`; the Deployment as it is then."""
        for _ in range(TRIES):
            operations = resumption(item)
            if not operations:
                return item
            written = await self._write(self._path, operations)
            if written is not None:
                return written
            item = await read_workload(self._client, self._target)
        raise InPlaceError(f"{self._target} is written to by somebody else all the time")

    # --- calls ------------------------------------------------------------------------------------

    async def _write(self, path: str, operations: list[Operation]) -> Json | None:
        """Send it until it is answered; None where what it tests is no longer so, or the object is gone. That
        may be by its own doing, where an answer was lost."""
        failure: ApiUnreachableError | None = None
        with anyio.CancelScope(shield=True):
            for _ in range(TRIES):
                try:
                    return await send_json_patch(self._client, path, operations)
                except ApiRefusedError as error:
                    if error.status in (404, 409, 422):
                        return None
                    reason = "forbidden" if error.status == 403 else "refused"
                    raise InPlaceError(f"PATCH of {path}: {error.message}", reason=reason) from error
                except ApiUnreachableError as error:
                    failure = error
                    await anyio.sleep(0.1)
        assert failure is not None
        raise failure

    async def _list(self, what: tuple[str, Mapping[str, str]]) -> list[Json]:
        path, labels = what
        params = (
            {"labelSelector": ",".join(f"{key}={value}" for key, value in labels.items())} if labels else {}
        )
        found = await self._client.get(path.format(self._target.namespace), params)
        return list(found.get("items") or ())

    def _pod_operations(self, pod: Json, ref: str) -> list[Operation]:
        containers = (pod.get("spec") or {}).get("containers") or ()
        index = next(place for place, one in enumerate(containers) if one["name"] == self._container)
        at = f"/spec/containers/{index}/image"
        return [
            {"op": "test", "path": "/metadata/uid", "value": pod["metadata"]["uid"]},
            {"op": "test", "path": at, "value": containers[index]["image"]},
            {"op": "replace", "path": at, "value": ref},
            *_noting(pod, {IN_PLACE: note_of(pod, self._container, ref)}),
        ]

    def _is_named(self, item: Json | None) -> bool:
        return item is not None and all(
            same(str(container.get("image") or ""), self._ref)
            for _, _, container in matching(item, self._target, self._image)
        )


def _noting(item: Json, notes: Mapping[str, str]) -> list[Operation]:
    """The operations that write annotations."""
    if item["metadata"].get("annotations"):
        return [{"op": "add", "path": annotation_path(name), "value": text} for name, text in notes.items()]
    # Without this test an annotation written in the meantime would be wiped out.
    version = item["metadata"]["resourceVersion"]
    return [
        {"op": "test", "path": "/metadata/resourceVersion", "value": version},
        {"op": "add", "path": "/metadata/annotations", "value": dict(notes)},
    ]
