"""What is wrong with a pod, in Kubernetes' own word, with what to do about it. Pure; judge.py asks.

Each finding is `(deadline, Stuck)`: None = it will not mend by itself, a time = it has until then (S19).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from devloop.causes.find import excerpt, find_cause
from devloop.events import PodExited
from devloop.image_refs import split
from devloop.model import ContainerView, EventView, PodView, Snapshot, Stuck

Finding = tuple[float | None, Stuck]

GRACE = 10.0  # seconds for what may mend by itself: a node that frees up, a quota, an image on its way
RESYNC = 20.0  # seconds: the kubelet tries a missing image again after 10 to 15
LAST_EXIT = 3  # this many non-zero exits are an outcome

MISSING_IMAGE = frozenset({"ErrImageNeverPull", "ErrImagePull", "ImagePullBackOff"})
FATAL = frozenset(
    {
        "InvalidImageName",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
        "ImageInspectError",
    }
)

_HINTS = {
    "ErrImageNeverPull": "the node does not have {image}, and imagePullPolicy Never forbids pulling it:"
    " devloop loads it again; `devloop once --rebuild` rebuilds it",
    "ErrImagePull": "the node does not have {image} and cannot pull it: a name of devloop's is loaded again,"
    " any other must be loaded into the cluster or be pullable from there",
    "InvalidImageName": "{image} is not a valid image reference: lower case, no spaces, one tag",
    "CreateContainerConfigError": "a ConfigMap, a Secret or a key of one that the pod asks for is missing:"
    " kubectl get configmap,secret -n {namespace}",
    "CreateContainerError": "the node's runtime refused the container: command, mounts, or a name in use",
    "RunContainerError": "the container could not be started: is the command in the image, and executable?",
    "ImageInspectError": "the node's image store is damaged for {image}: remove the image there, save again",
    "OOMKilled": "the container used more memory than its limit{limit}: raise resources.limits.memory",
    "Unschedulable": "no node takes the pod: kubectl describe pod {pod} -n {namespace}; lower"
    " resources.requests, or free a node",
    "Completed": "the process ended by itself with code 0; what a Deployment runs has to keep running",
    "exec": "the image is for another architecture than the node: set build.platform, or drop --platform"
    " from the Dockerfile",
}
_HINTS["ImagePullBackOff"] = _HINTS["ErrImagePull"]
_SIGNALS = {
    137: "killed (SIGKILL)",
    139: "segmentation fault",
    143: "ended by SIGTERM",
    127: "command not found",
}


def find_symptom(snapshot: Snapshot, pod: PodView, loaded_at: float = 0.0) -> Finding | None:
    """The first thing that keeps this pod from becoming ready, if it is more than a matter of time.

    `loaded_at`: when its image was brought back to the node, 0 = it was not.
    """
    if pod.ready:
        return None
    if pod.unschedulable:
        since = pod.since if pod.since is not None else snapshot.at
        return since + GRACE, _stuck("Unschedulable", pod, None, snapshot, pod.unschedulable)
    for container in _by_start(pod):
        if (container.ready and not container.init) or container.name in snapshot.awaited:
            continue
        finding = _container(snapshot, pod, container, loaded_at)
        if finding:
            return finding
    return None


def refusal(snapshot: Snapshot, begun: float = 0.0) -> Finding | None:
    """No pod ever appears because the API server refuses it: quota, admission, pod security.

    `begun`: when the template was written; what was refused before may have been the one before.
    """
    status, reason, message = snapshot.conditions.get("ReplicaFailure", ("", "", ""))
    since = max(begun, snapshot.since.get("ReplicaFailure", snapshot.at))
    if status != "True":
        failed = [e for e in snapshot.events if e.reason == "FailedCreate" and e.seen_at >= begun]
        if snapshot.target.kind != "statefulset" or not failed or snapshot.current >= snapshot.replicas:
            return None
        reason, message, since = "FailedCreate", failed[-1].message, failed[0].seen_at
    hint = "the API server refuses the pod: see the message"
    if "quota" in message:
        hint = (
            f"kubectl describe quota -n {snapshot.target.namespace}; the rollout needs quota for one more pod"
        )
    elif "PodSecurity" in message or "violates" in message:
        hint = "the namespace's pod security level forbids this template"
    return since + GRACE, Stuck(reason or "FailedCreate", message, hint=hint)


def exits(container: ContainerView) -> int:
    """How often this container has ended, of the instances that count."""
    ended = container.exit_code is not None and not container.running
    return max(0, container.restarts + ended - container.first)


def _how_often(container: ContainerView, *, counted: bool) -> str:
    """Who only looks (`devloop status`) saw one of the exits; how many there were is in the restart count."""
    if not counted and 0 < container.first == container.restarts:
        return f"restarted {container.restarts} times in all" if container.restarts > 1 else "restarted once"
    often = exits(container)
    return "once" if often == 1 else f"{often} times"


def first_trouble(snapshot: Snapshot, pod: PodView, container: ContainerView) -> Stuck | None:
    """What a container that replaced a working one is given up for at once: its first end, or that it cannot
    be started. Nothing serves meanwhile. Its `first` is the first instance of the new image: restarts before
    that are updates."""
    if container.waiting in FATAL:
        return _stuck(container.waiting, pod, container, snapshot, container.message)
    return _crash(snapshot, pod, container, counted=True) if exits(container) else None


def read_log(stuck: Stuck, log: tuple[str, ...]) -> Stuck:
    """The same finding with the end of the log as evidence, with its cause where the process ended by itself,
    and a better hint where the log gives it away."""
    hint = stuck.hint
    if any("exec format error" in line for line in log):
        hint = _HINTS["exec"]
    elif stuck.exited and not log:
        hint = f"it printed nothing; {hint}"
    found = find_cause(log) if stuck.exited else None
    evidence = (*stuck.evidence, *excerpt(log, found))
    return replace(stuck, evidence=evidence, hint=hint, cause=str(found) if found else stuck.cause)


def exited(service: str, pod: PodView, container: ContainerView, log: tuple[str, ...]) -> PodExited:
    """The event of a container of a new pod that ended, with what its log says of it."""
    by_itself = container.exit_reason != "OOMKilled"
    found = find_cause(log) if by_itself else None
    return PodExited(
        service,
        pod.name,
        container.name,
        container.exit_code or 0,
        container.exit_reason,
        excerpt(log, found),
        str(found) if found else "",
    )


def _by_start(pod: PodView) -> list[ContainerView]:
    return sorted(pod.containers, key=lambda container: not container.init)


def _container(
    snapshot: Snapshot, pod: PodView, container: ContainerView, loaded_at: float
) -> Finding | None:
    if container.stale:
        return None  # of the image before: the kubelet has not come to this one yet
    reason = container.waiting
    if reason in MISSING_IMAGE:
        since = pod.since if pod.since is not None else snapshot.at
        deadline = max(since + GRACE, loaded_at + RESYNC if loaded_at else 0.0)
        return deadline, _stuck(reason, pod, container, snapshot, container.message)
    if reason in FATAL:
        return None, _stuck(reason, pod, container, snapshot, container.message)
    crashed = container.exit_code is not None and not (container.init and container.exit_code == 0)
    if not exits(container):
        return None
    if reason == "CrashLoopBackOff":
        return None, _crash(snapshot, pod, container)
    if crashed and container.exit_code and exits(container) >= LAST_EXIT:
        return None, _crash(snapshot, pod, container)
    if container.exit_reason in ("ContainerCannotRun", "StartError") and not container.running:
        return None, _crash(snapshot, pod, container)
    return None


def _crash(snapshot: Snapshot, pod: PodView, container: ContainerView, *, counted: bool = False) -> Stuck:
    """A container that keeps ending: reported by why it ended, not by the back-off that follows."""
    reason = container.waiting or container.exit_reason or "Error"
    code = container.exit_code
    signal_name = _SIGNALS.get(code or 0, "")
    message = (
        f"{container.name} exited with code {code}{f', {signal_name}' if signal_name else ''}"
        f" ({container.exit_reason or 'Error'}), {_how_often(container, counted=counted)}"
    )
    if container.exit_reason == "OOMKilled":
        limit = f" of {container.memory_limit}" if container.memory_limit else ""
        cause = f"OOMKilled: it used more memory than its limit{limit}"
        return replace(_stuck("OOMKilled", pod, container, snapshot, message), cause=cause)
    if code == 0:
        return _stuck(reason, pod, container, snapshot, message, _HINTS["Completed"])
    probe = _probe_failure(snapshot, pod, ("Liveness", "Startup"))
    if probe and code in (137, 143):  # killed from outside; any other code is the process's own doing
        hint = f"the kubelet ends it because its probe fails: {probe.message}"
        cause = probe.message.partition("\n")[0]
        return replace(_stuck(reason, pod, container, snapshot, message, hint), cause=cause)
    hint = "the next working save restarts it"
    return replace(_stuck(reason, pod, container, snapshot, message, hint), exited=True)


def probe_failure(snapshot: Snapshot, pod: PodView, times: int = 1) -> str:
    """The kubelet's last word on a probe of this pod that failed `times` times or more, "" if none did."""
    event = _probe_failure(snapshot, pod, ("Readiness", "Startup"))
    return event.message if event and event.count >= times else ""


def _probe_failure(snapshot: Snapshot, pod: PodView, kinds: tuple[str, ...]) -> EventView | None:
    events = [e for e in _events(snapshot, pod) if e.reason == "Unhealthy" and e.message.startswith(kinds)]
    return events[-1] if events else None


def _events(snapshot: Snapshot, pod: PodView) -> Iterator[EventView]:
    return (event for event in snapshot.events if event.concerns(pod))


def _stuck(
    reason: str,
    pod: PodView,
    container: ContainerView | None,
    snapshot: Snapshot,
    message: str,
    hint: str | None = None,
) -> Stuck:
    image = container.image if container else ""
    if hint is None and "exec format error" in message:
        hint = _HINTS["exec"]
    limit = f" of {container.memory_limit}" if container and container.memory_limit else ""
    template = _HINTS.get(reason, "kubectl describe pod {pod} -n {namespace}")
    hint = hint or template.format(image=image, pod=pod.name, namespace=pod.namespace, limit=limit)
    # Of a process that ended, a refused readiness probe proves nothing.
    ended = container is not None and container.exit_code is not None
    warnings = [
        f"{e.reason}: {e.message}"
        for e in _events(snapshot, pod)
        if e.type == "Warning" and not (ended and e.message.startswith("Readiness"))
    ]
    where = f"{pod.name}/{container.name}" if container else pod.name
    other = snapshot.theirs.get(container.name) if container else None
    whose = f" (the container of {other.service}, which {other.rests})" if other else ""
    return Stuck(
        reason,
        f"{where}: {message or reason}" + (f" ({split(image)[0]})" if not message and image else "") + whose,
        evidence=tuple(dict.fromkeys(warnings))[-5:],
        hint=hint,
        pod=pod.name,
        container=container.name if container else "",
    )
