"""The PATCH: one JSON Patch that writes our image into a pod template, and nothing else (S14-S16)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel

from devloop.adapters.kubernetes.api.answers import ApiRefusedError, ApiUnreachableError, Json
from devloop.adapters.kubernetes.api.client import JSON_PATCH, Client
from devloop.adapters.kubernetes.in_place_note import IN_PLACE
from devloop.adapters.kubernetes.views import OWNER, is_helm_managed
from devloop.clock import Clock
from devloop.errors import PatchError, PlatformError, TargetMissingError
from devloop.image_refs import repository, same, same_repository
from devloop.model import Revision, Target

PATHS = {
    "deployment": "/apis/apps/v1/namespaces/{}/deployments/{}",
    "statefulset": "/apis/apps/v1/namespaces/{}/statefulsets/{}",
}
MANAGER = "devloop"
RESTARTED = "kubectl.kubernetes.io/restartedAt"  # kubectl's own: `kubectl rollout history` knows it
TRIES = 3  # of a PATCH whose `test` fails because somebody else wrote in between
SHIELD_SECONDS = 5.0  # how long a PATCH is kept from being cancelled, reading back included (S16)
ANSWER_SECONDS = 3.0  # for the PATCH itself: the rest of the shield is for reading back

Operation = dict[str, Any]


async def write_image(
    client: Client,
    clock: Clock,
    target: Target,
    image: str,
    ref: str,
    owner: str,
    find: Callable[[], Json | None],
) -> Revision:
    """Make the template of `target` say `ref` wherever it names the repository of `image`.

    `find` gives the object from a watch, which saves a read. Raises PatchError, TargetMissingError,
    PlatformError; cancellation waits until the PATCH is decided, at most SHIELD_SECONDS.
    """
    planned = partial(plan, target=target, image=image, ref=ref, owner=owner)
    is_done = partial(_carried, target=target, image=image, ref=ref)
    return await _write(client, clock, target, ref, find(), planned, is_done)


async def restart(client: Client, clock: Clock, target: Target, ref: str, owner: str) -> Revision:
    """Have the pods of `target` replaced; `ref` is what they run and keep. Raises as `write_image`."""
    at = datetime.fromtimestamp(clock.now(), UTC).isoformat()

    def is_done(item: Json) -> bool:
        return _template_notes(item).get(RESTARTED) == at

    planned = partial(restart_plan, at=at, owner=owner)
    return await _write(client, clock, target, ref, None, planned, is_done)


async def _write(
    client: Client,
    clock: Clock,
    target: Target,
    ref: str,
    item: Json | None,
    plan_for: Callable[[Json], list[Operation]],
    is_done: Callable[[Json], bool],
) -> Revision:
    """PATCH what `plan_for` gives for the object, again where somebody else wrote in between."""
    path = PATHS[target.kind].format(target.namespace, target.name)
    item = item or await _read(client, path, target)
    failure: PatchError | PlatformError | None = None
    for _ in range(TRIES):
        operations = plan_for(item)
        if not operations:
            # Nothing to do, unless the watch is behind: asked once, for a wrong "unchanged" loses an edit.
            item = await _read(client, path, target)
            operations = plan_for(item)
        if not operations:
            return _revision(target, item, ref, clock.now(), changed=False)
        try:
            return await _send(client, clock, path, target, ref, operations, is_done)
        except ApiRefusedError as error:
            failure = refuse(error, target, client)
            if error.status not in (409, 422):
                raise failure from error
            item = await _read(client, path, target)
        except _NotAppliedError as error:
            failure, item = error.cause, error.item
            await anyio.lowlevel.checkpoint()
    assert failure is not None
    raise failure


class _NotAppliedError(Exception):
    """The PATCH got no answer (`cause`), and the object as read afterwards does not show it."""

    def __init__(self, cause: ApiUnreachableError, item: Json) -> None:
        super().__init__(str(cause))
        self.cause, self.item = cause, item


async def _send(
    client: Client,
    clock: Clock,
    path: str,
    target: Target,
    ref: str,
    operations: list[Operation],
    is_done: Callable[[Json], bool],
) -> Revision:
    """Send it, and know what came of it: an answer that is broken or late is settled by reading (S16)."""
    with anyio.move_on_after(SHIELD_SECONDS, shield=True):
        patched_at = clock.now()
        try:
            item = await send_json_patch(client, path, operations)
            return _revision(target, item, ref, patched_at, changed=True)
        except ApiUnreachableError as error:
            if not error.sent:
                raise
            item = await _read_back(client, path, target, error)
            if not is_done(item):
                raise _NotAppliedError(error, item) from error
            return _revision(target, item, ref, patched_at, changed=True)
    raise ApiUnreachableError(
        f"PATCH of {target}: no answer within {SHIELD_SECONDS:.0f} s", sent=True, reason="Timeout"
    )


async def send_json_patch(client: Client, path: str, operations: Sequence[Operation]) -> Json:
    """One try, in devloop's name. Raises ApiRefusedError, ApiUnreachableError."""
    return await client.request(
        "PATCH",
        path,
        params={"fieldManager": MANAGER},
        body=operations,
        content_type=JSON_PATCH,
        seconds=ANSWER_SECONDS,
    )


async def _read_back(client: Client, path: str, target: Target, unknown: ApiUnreachableError) -> Json:
    for _ in range(3):
        with contextlib.suppress(ApiUnreachableError):
            return await _read(client, path, target, seconds=1.0)
        await anyio.sleep(0.1)
    raise unknown


async def read_workload(client: Client, target: Target) -> Json:
    """The Deployment or StatefulSet. Raises PatchError, TargetMissingError, PlatformError."""
    return await _read(client, PATHS[target.kind].format(target.namespace, target.name), target)


async def _read(client: Client, path: str, target: Target, seconds: float = 10.0) -> Json:
    try:
        return await client.request("GET", path, seconds=seconds)
    except ApiRefusedError as error:
        if error.status == 404:
            await _require_namespace(client, target)
        raise refuse(error, target, client) from error


async def _require_namespace(client: Client, target: Target) -> None:
    """The server says of an object only that it is not there. Raises TargetMissingError."""
    try:
        there = await client.find(f"/api/v1/namespaces/{target.namespace}") is not None
    except ApiRefusedError:
        return  # it may not be looked at
    if not there:
        context = client.access.context.name
        raise TargetMissingError(
            f"namespace {target.namespace} does not exist in context {context}, and so {target} does not",
            reason="MissingNamespace",
            hint=f"kubectl --context {context} create namespace {target.namespace}",
        )


def plan(item: Json, target: Target, image: str, ref: str, owner: str) -> list[Operation]:
    """The operations that make `item` say `ref`; none if it does. Raises PatchError if nothing matches."""
    found = matching(item, target, image)
    helm = is_helm_managed(item)
    changes: list[Operation] = []
    for kind, index, container in found:
        at = f"/spec/template/spec/{kind}/{index}"
        changed: list[Operation] = []
        if not same(str(container.get("image") or ""), ref):
            changed.append({"op": "replace", "path": f"{at}/image", "value": ref})
        if container.get("imagePullPolicy") == "Always" and not helm:
            changed.append({"op": "replace", "path": f"{at}/imagePullPolicy", "value": "IfNotPresent"})
        if changed:
            changes += [{"op": "test", "path": f"{at}/name", "value": container["name"]}, *changed]
    changes += resumption(item)
    return _signed(item, changes, owner) if changes else []


def restart_plan(item: Json, at: str, owner: str) -> list[Operation]:
    """The operations that make the template of `item` another one and change nothing of what its pods run."""
    path, notes = "/spec/template/metadata/annotations", _template_notes(item)
    test: Operation = {"op": "test", "path": path, "value": notes or None}  # null: there are none
    return _signed(item, [test, {"op": "add", "path": path, "value": {**notes, RESTARTED: at}}], owner)


def _template_notes(item: Json) -> Json:
    return ((item.get("spec") or {}).get("template") or {}).get("metadata", {}).get("annotations") or {}


def _signed(item: Json, changes: list[Operation], owner: str) -> list[Operation]:
    """The changes to this very object, and the note of whoever makes them (S26)."""
    meta = item["metadata"]
    operations: list[Operation] = [{"op": "test", "path": "/metadata/uid", "value": meta["uid"]}]
    if meta.get("annotations"):
        note: Operation = {"op": "add", "path": annotation_path(OWNER), "value": owner}
    else:
        # Without this test an annotation written in the meantime would be wiped out.
        version = meta["resourceVersion"]
        operations.append({"op": "test", "path": "/metadata/resourceVersion", "value": version})
        note = {"op": "add", "path": "/metadata/annotations", "value": {OWNER: owner}}
    return [*operations, *changes, note]


def resumption(item: Json) -> list[Operation]:
    """The operations that end a pause which an update in place left when it was cut off (S35).

    The annotation alone proves nothing: the Deployment's controller copies it to the ReplicaSet, and
    `kubectl rollout undo` back again.
    """
    note = (item["metadata"].get("annotations") or {}).get(IN_PLACE)
    if note is None or not (item.get("spec") or {}).get("paused"):
        return []
    at = annotation_path(IN_PLACE)
    return [
        {"op": "test", "path": at, "value": note},
        {"op": "remove", "path": at},
        {"op": "remove", "path": "/spec/paused"},
    ]


def annotation_path(name: str) -> str:
    """Of an annotation, as JSON Patch wants it."""
    return f"/metadata/annotations/{name.replace('~', '~0').replace('/', '~1')}"


def matching(item: Json, target: Target, image: str) -> list[tuple[str, int, Json]]:
    """(containers | initContainers, index, container) of all that are ours: by name if the config names
    one, else by repository. Raises PatchError that lists what is there."""
    spec = ((item.get("spec") or {}).get("template") or {}).get("spec") or {}
    there = [
        (kind, index, container)
        for kind in ("initContainers", "containers")
        for index, container in enumerate(spec.get(kind) or ())
    ]
    if target.container is not None:
        found = [one for one in there if one[2]["name"] == target.container]
        wanted = f"container {target.container!r}"
    else:
        found = [one for one in there if same_repository(str(one[2].get("image") or ""), image)]
        wanted = f"container with an image of {repository(image)}"
    if found:
        return found
    listed = ", ".join(f"{container['name']} ({container.get('image')})" for _, _, container in there)
    raise PatchError(
        f"{target} in namespace {target.namespace} has no {wanted}; it has: {listed or 'none'}",
        reason="NoContainer",
        hint="set the service's image to that repository, or name the container: deploy: {container: …}",
    )


def _carried(item: Json, target: Target, image: str, ref: str) -> bool:
    return all(same(str(c.get("image") or ""), ref) for _, _, c in matching(item, target, image))


def _revision(target: Target, item: Json, ref: str, at: float, *, changed: bool) -> Revision:
    meta = item["metadata"]
    return Revision(target, meta["uid"], int(meta.get("generation") or 0), ref, at, changed)


def refuse(error: ApiRefusedError, target: Target, client: Client) -> PatchError:
    """The server's no as an error for people; 404 is TargetMissingError (S17)."""
    context = client.access.context.name
    if error.status == 404:
        return TargetMissingError(
            f"{target} does not exist in namespace {target.namespace} of context {context}",
            hint=f"kubectl --context {context} -n {target.namespace} apply -f FILE, or list its file under"
            " manifests: in config.yaml",
        )
    return PatchError(
        f"PATCH of {target} in namespace {target.namespace} was refused: {error.message}",
        reason=error.reason,
        hint=error.hint
        or (f"kubectl --context {context} auth can-i patch {target.kind}s" * (error.status == 403)),
    )
