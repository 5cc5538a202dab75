"""The writes of an update in place (S33): the pods, then three that make Deployment and ReplicaSet name the
image as well, by which no pod is replaced.

Every write is a JSON Patch that tests what it was planned from, so that one which got no answer is simply
sent again. Whoever is killed between two of them leaves a state that a plain roll brings to its right end
(`patch.resumption`, `rollout.follow`).
"""

from __future__ import annotations

import anyio

from devloop.adapters.kubernetes.api.answers import Json
from devloop.adapters.kubernetes.api.client import Client
from devloop.adapters.kubernetes.apply.removal import delete_pod
from devloop.adapters.kubernetes.in_place_note import IN_PLACE, images_run
from devloop.adapters.kubernetes.in_place_plan import Objects, active_set, plan_in_place, pods_of
from devloop.adapters.kubernetes.in_place_pods import PODS, SETS, PodWriter, noting
from devloop.adapters.kubernetes.patch import TRIES, Operation, matching, read_workload
from devloop.adapters.kubernetes.views import OWNER, template_of
from devloop.clock import Clock
from devloop.errors import InPlaceError
from devloop.image_refs import same
from devloop.model import InPlacePlan, PodToUpdate, Refusal, Revision, Target, UpdateMode
from devloop.synced import SyncedContainers


class InPlaceUpdate(PodWriter):
    """One update of one Deployment by the only writer there is: `look`, then `put` for each pod, and `finish`
    or `undo`. After a sync, `finish` alone (S37).

    All but `look` raise InPlaceError where somebody else wrote meanwhile, or the user may not write this;
    PlatformError.
    """

    def __init__(
        self,
        client: Client,
        clock: Clock,
        target: Target,
        image: str,
        ref: str,
        owner: str,
        synced: SyncedContainers | None = None,
    ) -> None:
        super().__init__(client, clock, target, image, ref, synced)
        self._owner = owner
        self._found = Objects({}, (), ())
        self._container = self._before = ""
        self._sync = False

    async def look(self, *, sync: bool = False) -> InPlacePlan | Refusal:
        """What is to be done, by the objects as they are now; with `sync` by files instead of an image.

        Raises PatchError, TargetMissingError, PlatformError."""
        if self._target.kind != "deployment":
            return Refusal(
                "statefulset", f"{self._target} is a StatefulSet, and any write to its template rolls it"
            )
        self._found = await self._objects(await read_workload(self._client, self._target))
        self._sync = sync
        plan = plan_in_place(self._found, self._target, self._image, self._ref, sync=sync)
        if isinstance(plan, InPlacePlan):
            self._container, self._before = plan.container, plan.before
        return plan

    async def put(self, pod: PodToUpdate) -> bool:
        """PATCH the image of this pod's container; False where the pod is gone, or on its way out."""
        found = next((one for one in self._found.pods if one["metadata"]["uid"] == pod.uid), None)
        return found is not None and await self._put(found, self._container, self._ref)

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
                if not self._sync:
                    await self._put(pod, self._container, self._ref)
                elif not self._holds(pod, self._container):
                    await self._give(pod, self._container)
        meta = item["metadata"]
        generation = int(meta.get("generation") or 0)
        how: UpdateMode = "sync" if self._sync else "in-place"
        return Revision(self._target, meta["uid"], generation, self._ref, patched_at, how=how)

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
                await self._put(found, self._container, self._before)

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
            *noting(item, notes),
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

    def _is_named(self, item: Json | None) -> bool:
        return item is not None and all(
            same(str(container.get("image") or ""), self._ref)
            for _, _, container in matching(item, self._target, self._image)
        )
