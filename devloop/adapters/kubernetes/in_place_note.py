"""What devloop notes on a pod whose image it changes in place: the annotation `dev.devloop/in-place`. Pure.

It is written by the same PATCH as the image, so that there is never one without the other, whoever is killed
when: which images a container ran in this pod (the kubelet makes one wait that comes back), and which
instance was replaced last (its status stands until the kubelet gets to the new one).
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from devloop.adapters.kubernetes.api.answers import Json

IN_PLACE = "dev.devloop/in-place"  # on a Deployment: the image that an update in place is about to name


def find_container(pod: Json, name: str) -> Json | None:
    """The container's spec; never an init container."""
    return next((one for one in (pod.get("spec") or {}).get("containers") or () if one["name"] == name), None)


def noted(pod: Json) -> Mapping[str, Json]:
    """What is noted on the pod, by container; nothing where somebody wrote something else there."""
    text = (pod["metadata"].get("annotations") or {}).get(IN_PLACE)
    try:
        found = json.loads(text) if isinstance(text, str) else {}
    except (ValueError, RecursionError):
        return {}
    return (
        {name: one for name, one in found.items() if isinstance(one, dict)} if isinstance(found, dict) else {}
    )


def images_run(pod: Json, container: str) -> tuple[str, ...]:
    """The images that the container ran in this pod, the first first and the present one last."""
    present = str((find_container(pod, container) or {}).get("image") or "")
    images = noted(pod).get(container, {}).get("images")
    known = tuple(map(str, images)) if isinstance(images, list) else ()
    return known if known[-1:] == (present,) else (*known, present)


def status_of(pod: Json, container: str) -> Json:
    """What the status says of the container, {} for one that it does not show yet."""
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    return next((one for one in statuses if one["name"] == container), {})


def instance_of(pod: Json, container: str) -> str:
    """The id that the status shows for the container, "docker://…"; "" before the first."""
    return str(status_of(pod, container).get("containerID") or "")


def note_of(pod: Json, container: str, ref: str) -> str:
    """The annotation's text for a pod whose container is to run `ref`."""
    status = status_of(pod, container)
    mine = {
        "images": [*images_run(pod, container), ref],
        "replaced": str(status.get("containerID") or ""),
        "restarts": int(status.get("restartCount") or 0),
    }
    return json.dumps({**noted(pod), container: mine}, separators=(",", ":"))


def replaced(pod: Json, container: str) -> tuple[str, int]:
    """(id, restart count from which the present image runs) of the instance that was replaced last; ("", 0)
    where none was."""
    mine = noted(pod).get(container, {})
    restarts, instance = mine.get("restarts"), str(mine.get("replaced") or "")
    return instance, restarts + 1 if instance and isinstance(restarts, int) else 0
