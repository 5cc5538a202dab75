"""The two columns that kubectl works out of more than one field: a pod's STATUS, and ages."""

from __future__ import annotations

from datetime import UTC, datetime

from devloop_sandbox.objects.resources import Obj


def age(stamp: str | None, until: str | None = None) -> str:
    """`5s`, `3m12s`, `2h`, `4d`: as kubectl writes the time since `stamp`, until now or `until`."""
    if not stamp:
        return "<unknown>"
    then = datetime.fromisoformat(stamp.replace("Z", "+00:00"))
    end = datetime.fromisoformat(until.replace("Z", "+00:00")) if until else datetime.now(UTC)
    seconds = max(0, int((end - then).total_seconds()))
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if seconds < 120:
        return f"{seconds}s"
    if minutes < 10:
        return f"{minutes}m{seconds % 60}s" if seconds % 60 else f"{minutes}m"
    if hours < 3:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    return f"{hours}h" if hours < 48 else f"{days}d"


def pod_reason(obj: Obj) -> str:
    """kubectl's STATUS column."""
    status = obj.get("status", {})
    reason: str = status.get("reason") or status.get("phase", "Unknown")
    waiting = _init_reason(obj)
    if waiting:
        reason = waiting
    else:
        running = False
        for state in reversed(status.get("containerStatuses", [])):
            now = state.get("state", {})
            if now.get("waiting", {}).get("reason"):
                reason = now["waiting"]["reason"]
            elif "terminated" in now:
                reason = _ended(now["terminated"])
            elif state.get("ready") and "running" in now:
                running = True
        if reason == "Completed" and running:
            reason = "Running"
    return "Terminating" if "deletionTimestamp" in obj["metadata"] else reason


def _ended(state: Obj) -> str:
    signal = state.get("signal")
    code = f"Signal:{signal}" if signal else f"ExitCode:{state.get('exitCode')}"
    return state.get("reason") or code


def _init_reason(obj: Obj) -> str:
    states = obj.get("status", {}).get("initContainerStatuses", [])
    for done, state in enumerate(states):
        now = state.get("state", {})
        if "terminated" in now and now["terminated"].get("exitCode") == 0:
            continue
        if "terminated" in now:
            return f"Init:{_ended(now['terminated'])}"
        why = now.get("waiting", {}).get("reason", "")
        if why and why != "PodInitializing":
            return f"Init:{why}"
        return f"Init:{done}/{len(states)}"
    return ""
