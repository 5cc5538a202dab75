"""Whether a Deployment's pods may get a new image in place, and which of them (S34). Pure.

Objects of the API in, a plan or the reason against it out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from devloop.adapters.kubernetes.api.answers import Json
from devloop.adapters.kubernetes.in_place_note import (
    find_container,
    images_run,
    instance_of,
    replaced,
    status_of,
)
from devloop.adapters.kubernetes.patch import MANAGER, matching, resumption
from devloop.adapters.kubernetes.views import image_writer, owned_by, template_of
from devloop.image_refs import digest, same
from devloop.model import InPlacePlan, PodToUpdate, Refusal, Target

DEFAULT_UNAVAILABLE = "25%"  # Kubernetes' own maxUnavailable


@dataclass(frozen=True, slots=True)
class Objects:
    """A Deployment, its ReplicaSets, and the pods of the namespace, as the API shows them."""

    deployment: Json
    sets: Sequence[Json]
    pods: Sequence[Json]


def plan_in_place(
    found: Objects, target: Target, image: str, ref: str, *, sync: bool = False
) -> InPlacePlan | Refusal:
    """What becomes of the pods; with `sync`, which of them get files instead of an image (S36).

    Raises PatchError where no container of the template is ours.
    """
    item = found.deployment
    meta, spec, status = item["metadata"], item.get("spec") or {}, item.get("status") or {}
    if resumption(item):
        return Refusal("unfinished", "the last update in place was cut off before its end")
    if spec.get("paused"):
        return Refusal("paused", f"{target} is paused")
    ours = matching(item, target, image)
    if len(ours) != 1 or ours[0][0] != "containers":
        return Refusal(
            "several_containers", f"several containers of {target} run {image}, or an init container"
        )
    container = ours[0][2]
    before = str(container.get("image") or "")
    if same(before, ref) and not sync:
        return Refusal("", f"{target} names {ref} already")
    if not digest(before) or image_writer(item) != MANAGER:
        return Refusal("not_ours", f"{before} in {target} was not written by devloop's last update")
    active = [one for one in found.sets if _is_active(one)]
    seen = int(status.get("observedGeneration") or 0) >= int(meta.get("generation") or 0)
    if seen and not active and spec.get("replicas") == 0:
        return Refusal("no_pods", f"{target} is scaled to 0 replicas")
    if not seen or len(active) != 1 or template_of(active[0]) != template_of(item):
        return Refusal("rolling", f"a rollout of {target} is under way")
    wanted = with_image(item, container["name"], ref)
    others = found.sets if not same(before, ref) else ()
    if any(template_of(one) == wanted for one in others):
        return Refusal("earlier_replicaset", f"an earlier ReplicaSet of {target} has this image already")
    pods = pods_of(found.pods, active[0])
    if not pods:
        return Refusal("no_pods", f"{target} has no pods")
    return _of_pods(found, target, container, before, ref, pods, sync=sync)


def _of_pods(
    found: Objects,
    target: Target,
    container: Json,
    before: str,
    ref: str,
    pods: Sequence[Json],
    *,
    sync: bool,
) -> InPlacePlan | Refusal:
    name = container["name"]
    chosen = []
    for pod in pods:
        there = find_container(pod, name)
        if there is None:
            return Refusal("not_ours", f"{pod['metadata']['name']} has no container {name}")
        if there.get("imagePullPolicy") == "Always":
            return Refusal("pull_always", f"imagePullPolicy of {target} is Always, which a pod keeps")
        images = images_run(pod, name)
        if not sync and not same(images[-1], ref) and any(same(one, ref) for one in images):
            return Refusal(
                "seen_in_pod",
                f"{pod['metadata']['name']} ran this image before, and the kubelet makes it wait there",
            )
        instance, node = running_instance(pod, name), str(pod["spec"].get("nodeName") or "")
        chosen.append(PodToUpdate(pod["metadata"]["name"], pod["metadata"]["uid"], images, instance, node))
    spec = found.deployment.get("spec") or {}
    return InPlacePlan(name, before, ref, tuple(chosen), at_once(spec, len(pods)), min_ready(spec))


def running_instance(pod: Json, container: str) -> str:
    """The id of the container if it runs the image that its pod names, else ""."""
    instance = instance_of(pod, container)
    running = "running" in (status_of(pod, container).get("state") or {})
    return instance if running and instance != replaced(pod, container)[0] else ""


# --- reading objects ------------------------------------------------------------------------------


def pods_of(pods: Iterable[Json], replicaset: Json) -> list[Json]:
    """The pods of this ReplicaSet that are neither on their way out nor over."""
    return [
        pod
        for pod in owned_by(pods, {replicaset["metadata"]["uid"]})
        if not pod["metadata"].get("deletionTimestamp")
        and (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")
    ]


def active_set(sets: Iterable[Json], deployment: Json) -> Json | None:
    """The ReplicaSet that carries the Deployment's template and has pods."""
    return next(
        (one for one in sets if _is_active(one) and template_of(one) == template_of(deployment)), None
    )


def _is_active(replicaset: Json) -> bool:
    spec, status = replicaset.get("spec") or {}, replicaset.get("status") or {}
    return bool(spec.get("replicas") or status.get("replicas"))


def with_image(item: Json, container: str, ref: str) -> tuple[Json, Json]:
    """The template of `item` as `template_of` gives it, with another image."""
    meta, spec = template_of(item)
    containers = [{**one, "image": ref} if one["name"] == container else one for one in spec["containers"]]
    return meta, {**spec, "containers": containers}


def at_once(spec: Json, pods: int) -> int:
    """How many of the pods may be unavailable (maxUnavailable), at least one; all where the strategy is to
    recreate them."""
    strategy = spec.get("strategy") or {}
    if strategy.get("type") == "Recreate":
        return pods
    written = str((strategy.get("rollingUpdate") or {}).get("maxUnavailable", DEFAULT_UNAVAILABLE))
    number = written.removesuffix("%")
    if not (number.isascii() and number.isdigit()):
        return 1
    share = math.floor(int(number) * pods / 100) if written.endswith("%") else int(number)
    return max(1, min(pods, share))


def min_ready(spec: Json) -> float:
    return float(spec.get("minReadySeconds") or 0)
