"""Whether the kernel killed a container for its memory limit, when the engine did not notice.

The engine learns of it by an event that comes too late for a short-lived process, or not at all
(Docker 20.10 with cgroup v1). The kernel's log names the container's cgroup.
"""

from __future__ import annotations

import os

from devloop_sandbox.objects.resources import Obj

_RECORD = 8192  # bytes; one read gives one record


def was_killed(container: str, log: str = "/dev/kmsg") -> bool:
    """True if the kernel's log has an OOM kill in the cgroup of this container id."""
    try:
        handle = os.open(log, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False  # no right to read it: the engine's word stands
    try:
        while True:
            try:
                record = os.read(handle, _RECORD)
            except BlockingIOError:
                return False
            except BrokenPipeError:
                continue  # overwritten while we read; the next read gives the oldest there is
            if not record:
                return False
            if b"oom_memcg=" in record and container.encode() in record:
                return True
    finally:
        os.close(handle)


def correct_oom(inspection: Obj) -> None:
    """Set State.OOMKilled of a dead container with a memory limit by what the kernel says."""
    state = inspection["State"]
    if state["ExitCode"] == 137 and not state["OOMKilled"] and inspection["HostConfig"]["Memory"]:
        state["OOMKilled"] = was_killed(inspection["Id"])
