"""When each container of a pod is tried again: its restartPolicy, and the back-off of restarts and pulls.

The kubelet reckons the back-off per image of a container: an image that is new in the pod starts at once,
whatever the one before did; two that take turns are kept waiting like one that crashes.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from devloop_sandbox.node import status
from devloop_sandbox.node.parts import Parts
from devloop_sandbox.node.status import Record
from devloop_sandbox.objects.resources import Obj

INITIAL, MAXIMUM = 10.0, 300.0  # seconds
RETRY = 10.0  # seconds until a pod that could not be set up is tried again, scaled as the back-off is
_SOON = ("ErrImagePull", "RunContainerError", "PostStartHookError")  # the next pass shows the back-off


@dataclass(slots=True)
class Backoff:
    """The kubelet's patience with one container (or image): 10 s, doubling to 300 s, forgotten after ten
    quiet minutes. Times are seconds of one clock; waits come out scaled."""

    scale: float = 1.0
    seconds: float = 0.0  # nominal length of the current wait; 0 = nothing has failed yet
    updated: float = 0.0

    def remaining(self, since: float, now: float) -> float:
        """How much longer to wait when the failure was at `since`; 0 = go on."""
        if not self.seconds or self._expired(since):
            return 0.0
        return max(0.0, since + self.seconds * self.scale - now)

    def advance(self, since: float, now: float) -> None:
        """Another try begins: the next wait is twice as long, or the first again."""
        fresh = not self.seconds or self._expired(since)
        self.seconds = INITIAL if fresh else min(self.seconds * 2, MAXIMUM)
        self.updated = now

    def _expired(self, since: float) -> bool:
        return since - self.updated > 2 * MAXIMUM * self.scale


def go_duration(seconds: float) -> str:
    """10 -> "10s", 160 -> "2m40s", 300 -> "5m0s"."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def should_run(pod: Obj, record: Record) -> bool:
    """Whether the container has to be started, by the pod's restartPolicy."""
    if record.current is None:
        return True
    policy = pod["spec"].get("restartPolicy", "Always")
    if policy == "Always" and not record.init:
        return True
    return policy != "Never" and not record.succeeded


class Attempts:
    """For one pod."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._scale = parts.options.backoff_scale
        self._restarts: dict[tuple[str, str], Backoff] = {}  # by container and image
        self._pulls: dict[str, Backoff] = {}  # by image
        self._allowed: dict[str, str] = {}  # container -> the image that may take its place at once

    def wait_for_restart(self, pod: Obj, record: Record) -> float:
        """The seconds that a container which has ended has to wait; 0.0 counts as a restart."""
        if record.current is None or self._allowed.pop(record.name, None) == record.spec["image"]:
            return 0.0
        left = self._wait_after(record, record.current)
        if left:
            self._show(pod, record, self._restarts[_key(record)])
        return left

    def will_replace(self, record: Record) -> None:
        """The running container is to be killed for another image. Like the kubelet, which looks before it
        kills, this asks how long ago the container *before* it ended."""
        if record.previous is None or not self._wait_after(record, record.previous):
            self._allowed[record.name] = record.spec["image"]

    def may_replace(self, record: Record) -> bool:
        """Whether a killed container's new image starts at once, and whatever the restartPolicy."""
        return self._allowed.get(record.name) == str(record.spec["image"])

    def _wait_after(self, record: Record, dead: Obj) -> float:
        """The seconds left since that end; 0.0 counts as another start of the image."""
        moment, end = time.time(), status.ended(dead)
        backoff = self._restarts.setdefault(_key(record), Backoff(self._scale))
        left = backoff.remaining(end, moment)
        if not left:
            backoff.advance(end, moment)
        return left

    def may_pull(self, record: Record) -> bool:
        backoff = self._pulls.setdefault(record.spec["image"], Backoff(self._scale))
        return not backoff.remaining(backoff.updated, time.time())

    def pull_failed(self, record: Record, began: float) -> None:
        self._pulls[record.spec["image"]].advance(began, began)

    def retry_after(self, reason: str) -> float:
        """Seconds until a container whose start failed for that reason is looked at again."""
        return (2.0 if reason in _SOON else RETRY) * self._scale

    def _show(self, pod: Obj, record: Record, backoff: Backoff) -> None:
        if record.waiting is not None and record.waiting[0] == "CrashLoopBackOff":
            return
        meta = pod["metadata"]
        where = f"{meta['name']}_{meta['namespace']}({meta['uid']})"
        wait = go_duration(backoff.seconds)
        text = f"back-off {wait} restarting failed container={record.name} pod={where}"
        record.waiting = ("CrashLoopBackOff", text)
        event = f"Back-off restarting failed container {record.name} in pod {where}"
        self._parts.report(pod, record, "Warning", "BackOff", event)


def _key(record: Record) -> tuple[str, str]:
    return record.name, record.spec["image"]
