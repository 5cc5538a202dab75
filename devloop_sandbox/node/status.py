"""A pod's status from what its containers did: inspections in, the API's words out; `write` stores it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from devloop_sandbox.node.container import ATTEMPT, IMAGE
from devloop_sandbox.objects.resources import Obj
from devloop_sandbox.store.store import Store

EPOCH = "0001-01-01T00:00:00Z"


@dataclass(slots=True)
class Record:
    """What the node knows of one container of a pod: the newest engine container and the one before."""

    spec: Obj
    init: bool = False
    current: Obj | None = None  # inspections; the newest attempt, then the newest dead one before it
    previous: Obj | None = None
    waiting: tuple[str, str] | None = None  # reason, message: why there is nothing running
    ready: bool = False
    started: bool = False
    messages: dict[str, str] = field(default_factory=dict)  # container id -> termination message
    leaving: str = ""  # id of the container that is being killed because its image has changed

    @property
    def name(self) -> str:
        return str(self.spec["name"])

    @property
    def attempt(self) -> int:
        return -1 if self.current is None else int(self.current["Config"]["Labels"][ATTEMPT])

    @property
    def image(self) -> str:
        """The reference that the newest container was started with; the spec's before there is one."""
        labels = {} if self.current is None else self.current["Config"]["Labels"]
        return str(labels.get(IMAGE, self.spec["image"]))

    @property
    def outdated(self) -> bool:
        """It runs, and not the image that the pod now names."""
        return self.running and not self.init and self.image != self.spec["image"]

    @property
    def running(self) -> bool:
        return self.current is not None and bool(self.current["State"]["Running"])

    @property
    def exited(self) -> bool:
        """Created and not running any more, or never could."""
        return self.current is not None and not self.running

    @property
    def succeeded(self) -> bool:
        return self.exited and terminated(self.current or {})["exitCode"] == 0


def seconds(moment: str) -> str:
    """The engine's nanoseconds as the API's whole seconds."""
    return moment[:19] + "Z" if moment else EPOCH


def parse(moment: str) -> datetime:
    """An engine or API time, cut to whole seconds."""
    return datetime.fromisoformat(moment[:19]).replace(tzinfo=UTC)


def ended(inspection: Obj) -> float:
    """When a dead container ended, in seconds since the epoch."""
    finished = inspection["State"]["FinishedAt"]
    if finished.startswith("0001"):  # it never ran
        finished = inspection["Created"]
    return datetime.fromisoformat(finished).timestamp()


def terminated(inspection: Obj, message: str = "") -> Obj:
    """state.terminated of a dead container."""
    state = inspection["State"]
    code = int(state["ExitCode"])
    never_ran = state["StartedAt"].startswith("0001")
    if state.get("OOMKilled"):
        reason = "OOMKilled"
    elif never_ran:
        reason, message = "ContainerCannotRun", state.get("Error") or message
    else:
        reason = "Completed" if code == 0 else "Error"
    finished = state["FinishedAt"]
    if never_ran and finished.startswith("0001"):
        finished = inspection["Created"]
    found: Obj = {
        "exitCode": code if code or not never_ran else 128,
        "reason": reason,
        "startedAt": seconds(finished if never_ran else state["StartedAt"]),
        "finishedAt": seconds(finished),
        "containerID": f"docker://{inspection['Id']}",
    }
    return found | ({"message": message} if message else {})


def container_status(record: Record, default_reason: str) -> Obj:
    """One entry of containerStatuses."""
    current, previous = record.current, record.previous
    shown: Obj = {"waiting": {"reason": default_reason}}
    last: Obj = {}
    if current is not None and record.running:
        shown = {"running": {"startedAt": seconds(current["State"]["StartedAt"])}}
    elif current is not None:
        shown = {"terminated": terminated(current, record.messages.get(current["Id"], ""))}
    if previous is not None:
        last = {"terminated": terminated(previous, record.messages.get(previous["Id"], ""))}
    if record.waiting is not None and not record.running:
        if current is not None:
            last = {"terminated": shown["terminated"]}
        reason, message = record.waiting
        shown = {"waiting": {"reason": reason} | ({"message": message} if message else {})}
    return {
        "name": record.name,
        "state": shown,
        "lastState": last,
        "ready": record.ready and (record.running or (record.init and record.succeeded)),
        "started": record.started and record.running,
        "restartCount": max(record.attempt, 0),
        "image": record.image,
        "imageID": _image_id(current) if current is not None else "",
        **({"containerID": f"docker://{current['Id']}"} if current is not None else {}),
        **_resources(record.spec),
    }


def _image_id(inspection: Obj) -> str:
    """As cri-dockerd names it: the containerd image store knows each image by a repository digest, too."""
    if "ImageManifestDescriptor" not in inspection:
        return f"docker://{inspection['Image']}"
    name = inspection["Config"]["Image"].partition("@")[0]
    head, colon, tag = name.rpartition(":")
    return f"docker-pullable://{head if colon and '/' not in tag else name}@{inspection['Image']}"


def _resources(spec: Obj) -> Obj:
    resources = {key: value for key, value in (spec.get("resources") or {}).items() if value}
    requests = resources.get("requests")
    return {"resources": resources} | ({"allocatedResources": requests} if requests else {})


def phase(pod: Obj, inits: list[Record], containers: list[Record]) -> str:
    policy = pod["spec"].get("restartPolicy", "Always")
    for record in inits:
        if not record.succeeded:
            return "Failed" if record.exited and policy == "Never" else "Pending"
    if any(record.current is None for record in containers):
        return "Pending"
    if any(record.running for record in containers) or policy == "Always":
        return "Running"
    if all(record.succeeded for record in containers):
        return "Succeeded"
    return "Failed" if policy == "Never" else "Running"


def build(pod: Obj, inits: list[Record], containers: list[Record], facts: Obj, now: str) -> Obj:
    """The whole status. `facts` holds podIP, hostIP and startTime; transition times are kept."""
    old = pod.get("status", {})
    current_phase = phase(pod, inits, containers)
    waiting = "PodInitializing" if inits else "ContainerCreating"
    initialized = all(record.succeeded for record in inits)
    statuses = [container_status(record, waiting) for record in containers]
    unready = [
        record.name for record, status in zip(containers, statuses, strict=True) if not status["ready"]
    ]
    unfinished = [record.name for record in inits if not record.succeeded]
    done = current_phase in ("Succeeded", "Failed")
    ready: tuple[bool, str, str] = (True, "", "")
    if done:
        ready = (False, "PodCompleted" if current_phase == "Succeeded" else "PodFailed", "")
    elif unready:
        ready = (False, "ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]")
    init_message = f"containers with incomplete status: [{' '.join(unfinished)}]"
    wanted = {
        "PodReadyToStartContainers": ("podIP" in facts and not done, "", ""),
        "Initialized": (
            initialized,
            *(("", "") if initialized else ("ContainersNotInitialized", init_message)),
        ),
        "Ready": ready,
        "ContainersReady": ready,
        "PodScheduled": (True, "", ""),
    }
    status = {key: value for key, value in old.items() if key in ("qosClass", "startTime", "podIP", "podIPs")}
    status |= facts | {"phase": current_phase, "conditions": conditions(old, wanted, now)}
    if inits:
        status["initContainerStatuses"] = [container_status(record, "PodInitializing") for record in inits]
    status["containerStatuses"] = statuses
    return status


def conditions(old: Obj, wanted: dict[str, tuple[bool, str, str]], now: str) -> list[Obj]:
    """Condition objects; lastTransitionTime moves only when the status does."""
    before: dict[str, Any] = {item["type"]: item for item in old.get("conditions") or []}
    made = []
    for kind, (true, reason, message) in wanted.items():
        value = "True" if true else "False"
        known = before.pop(kind, {})
        entry: Obj = {"type": kind, "status": value, "lastProbeTime": None}
        entry["lastTransitionTime"] = known["lastTransitionTime"] if known.get("status") == value else now
        made.append(
            entry | ({"reason": reason} if reason else {}) | ({"message": message} if message else {})
        )
    return [*made, *before.values()]


def version_of(pod: Obj) -> int:
    return int(pod["metadata"]["resourceVersion"])


def write(store: Store, pod: Obj, fresh: Obj) -> Obj:
    """Store it as the pod's status; the pod as it is then. ApiError 404 if it has just gone."""
    meta = pod["metadata"]

    def change(copy: Obj) -> None:
        if copy["metadata"]["uid"] == meta["uid"]:
            copy["status"] = fresh

    written = store.mutate("pods", meta["namespace"], meta["name"], change, subresource="status")
    return written if written["metadata"]["uid"] == meta["uid"] else pod
