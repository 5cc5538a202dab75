"""The pods of one Deployment, one by one: what each runs, and the writes that give it another image.

Every write is a JSON Patch that tests what it was planned from, so that one which got no answer is simply
sent again.
"""

from __future__ import annotations

from collections.abc import Mapping

import anyio

from devloop.adapters.kubernetes.api.answers import ApiRefusedError, ApiUnreachableError, Json
from devloop.adapters.kubernetes.api.client import Client
from devloop.adapters.kubernetes.apply.removal import delete_pod
from devloop.adapters.kubernetes.in_place_note import (
    IN_PLACE,
    find_container,
    images_run,
    instance_of,
    note_of,
    replaced,
)
from devloop.adapters.kubernetes.in_place_plan import Objects, active_set, pods_of
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
from devloop.adapters.kubernetes.views import owned_by
from devloop.clock import Clock
from devloop.concurrency import gather
from devloop.errors import InPlaceError
from devloop.image_refs import digest, is_another_build, same
from devloop.model import Target
from devloop.synced import SyncedContainers

SETS = "/apis/apps/v1/namespaces/{}/replicasets"
PODS = "/api/v1/namespaces/{}/pods"


class PodWriter:
    """The pods of `target` that run the repository `image`; `ref` is what they are to run. `synced` knows
    into which containers files were synced (S37).

    Raises InPlaceError where somebody else wrote meanwhile, or the user may not write this; PlatformError.
    """

    def __init__(
        self,
        client: Client,
        clock: Clock,
        target: Target,
        image: str,
        ref: str,
        synced: SyncedContainers | None,
    ) -> None:
        self._client, self._clock, self._target = client, clock, target
        self._image, self._ref, self._synced = image, ref, synced
        self._path = PATHS[target.kind].format(target.namespace, target.name)
        self._patched_at: float | None = None

    async def drop(self, pod: str, uid: str, container: str) -> bool:
        """Delete a pod whose container runs something else, by what the API says now; True if it did."""
        found = await self._wrong(pod, uid, container)
        if found is not None:
            await self._delete(found)
        return found is not None

    async def mend(self, pod: str, uid: str, container: str) -> str:
        """Give such a pod the image, in place where it never ran it; what was done, "" = nothing."""
        found = await self._wrong(pod, uid, container)
        return await self._give(found, container) if found is not None else ""

    async def clear(self) -> list[str]:
        """End a pause that an update in place left, and delete the pods that it left with an image of this
        service that the template does not name; their names."""
        if self._target.kind != "deployment":
            return []
        item = await self._resume(await read_workload(self._client, self._target))
        left = [pod for pod in await self._pods(item) if self._is_left(pod, item)]
        for pod in left:
            await self._delete(pod)
        return [pod["metadata"]["name"] for pod in left]

    async def bake(self) -> list[str]:
        """Give the pods into which files were synced the template's image (S38), which mostly holds the same;
        their names."""
        item = await read_workload(self._client, self._target)
        given: list[str] = []
        for _, _, container in matching(item, self._target, self._image):
            name, self._ref = container["name"], str(container.get("image") or "")
            synced = [pod for pod in await self._pods(item) if self._content(pod, name) is not None]
            given += [pod["metadata"]["name"] for pod in synced if await self._give(pod, name)]
        return given

    # --- what a pod runs --------------------------------------------------------------------------

    async def _wrong(self, pod: str, uid: str, container: str) -> Json | None:
        """The pod as it is now, if its container runs something else."""
        found = await self._client.find(f"{PODS.format(self._target.namespace)}/{pod}")
        if found is None or find_container(found, container) is None or found["metadata"]["uid"] != uid:
            return None
        return None if self._holds(found, container) else found

    def _is_left(self, pod: Json, item: Json) -> bool:
        """By its image, where it runs that, or of unknown content. What was synced into it whole stays: it is
        the tree's, or an earlier one that works, and the next trip goes on from it."""
        runs = {one["name"]: str(one.get("image") or "") for one in pod["spec"]["containers"]}
        for _, _, one in matching(item, self._target, self._image):
            content = self._content(pod, one["name"])
            another = is_another_build(runs.get(one["name"], ""), str(one.get("image") or ""))
            if not content and (another or content is not None):
                return True
        return False

    def _content(self, pod: Json, container: str) -> str | None:
        """What was synced into the container that runs the pod's image (`SyncedContainers.content`): not into
        one that is about to end, for the pod has another image by now."""
        instance = instance_of(pod, container)
        if self._synced is None or instance == replaced(pod, container)[0]:
            return None
        return self._synced.content(instance)

    def _holds(self, pod: Json, container: str) -> bool:
        """Whether what the container runs is `ref`, by its image or by a sync."""
        content = self._content(pod, container)
        if content is not None:
            return content == digest(self._ref)
        return same(str((find_container(pod, container) or {}).get("image") or ""), self._ref)

    # --- what it is to run ------------------------------------------------------------------------

    async def _give(self, pod: Json, container: str) -> str:
        """The image by a PATCH, or by another pod where the kubelet would make it wait in this one (S34);
        what was done, "" = nothing."""
        images = images_run(pod, container)
        if not any(same(one, self._ref) for one in images):
            return "restarting its container" if await self._put(pod, container, self._ref) else ""
        if same(images[-1], self._ref) and self._content(pod, container) is None:
            return ""
        await self._delete(pod)
        return "deleting it"

    async def _delete(self, pod: Json) -> None:
        meta = pod["metadata"]
        await delete_pod(self._client, self._target.namespace, meta["name"], meta["uid"])

    async def _put(self, pod: Json, container: str, ref: str) -> bool:
        """PATCH the image of its container; False where the pod is gone, or on its way out."""
        uid, found = pod["metadata"]["uid"], pod
        path = f"{PODS.format(self._target.namespace)}/{pod['metadata']['name']}"
        for _ in range(TRIES):
            if found["metadata"]["uid"] != uid or found["metadata"].get("deletionTimestamp"):
                return False
            if same(str((find_container(found, container) or {}).get("image") or ""), ref):
                return True
            self._patched_at = self._patched_at or self._clock.now()
            if await self._write(path, _pod_operations(found, container, ref)) is not None:
                return True
            again = await self._client.find(path)
            if again is None:
                return False
            found = again
        raise InPlaceError(f"{path} is written to by somebody else all the time")

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

    async def _pods(self, item: Json) -> list[Json]:
        """Those of the template."""
        found = await self._objects(item)
        replicaset = active_set(found.sets, item)
        return pods_of(found.pods, replicaset) if replicaset is not None else []

    async def _objects(self, item: Json) -> Objects:
        labels = ((item.get("spec") or {}).get("selector") or {}).get("matchLabels") or {}
        sets, pods = await gather(self._list, [(SETS, labels), (PODS, labels)])
        return Objects(item, owned_by(sets, {item["metadata"]["uid"]}), pods)

    async def _list(self, what: tuple[str, Mapping[str, str]]) -> list[Json]:
        path, labels = what
        params = (
            {"labelSelector": ",".join(f"{key}={value}" for key, value in labels.items())} if labels else {}
        )
        found = await self._client.get(path.format(self._target.namespace), params)
        return list(found.get("items") or ())

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


def _pod_operations(pod: Json, container: str, ref: str) -> list[Operation]:
    containers = (pod.get("spec") or {}).get("containers") or ()
    index = next(place for place, one in enumerate(containers) if one["name"] == container)
    at = f"/spec/containers/{index}/image"
    return [
        {"op": "test", "path": "/metadata/uid", "value": pod["metadata"]["uid"]},
        {"op": "test", "path": at, "value": containers[index]["image"]},
        {"op": "replace", "path": at, "value": ref},
        *noting(pod, {IN_PLACE: note_of(pod, container, ref)}),
    ]


def noting(item: Json, notes: Mapping[str, str]) -> list[Operation]:
    """The operations that write annotations."""
    if item["metadata"].get("annotations"):
        return [{"op": "add", "path": annotation_path(name), "value": text} for name, text in notes.items()]
    # Without this test an annotation written in the meantime would be wiped out.
    version = item["metadata"]["resourceVersion"]
    return [
        {"op": "test", "path": "/metadata/resourceVersion", "value": version},
        {"op": "add", "path": "/metadata/annotations", "value": dict(notes)},
    ]
