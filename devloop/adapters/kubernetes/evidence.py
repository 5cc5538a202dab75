"""A container's output: its last lines, and its log followed line by line across cut connections."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from datetime import datetime

import anyio

from devloop.adapters.kubernetes.api.answers import ApiRefusedError, ApiUnreachableError
from devloop.adapters.kubernetes.api.client import Client

LONGEST = 256 * 1024  # bytes of a log taken as evidence
RETRY_SECONDS = 0.5


def _path(namespace: str, pod: str) -> str:
    return f"/api/v1/namespaces/{namespace}/pods/{pod}/log"


async def read_last_words(
    client: Client, namespace: str, pod: str, container: str, lines: int
) -> tuple[str, ...]:
    """The last log lines of the instance that died before the present one, else of the present one.

    Evidence only: no log is an empty tuple, never an error.
    """
    for previous in ("true", "false"):
        params = {
            "container": container,
            "tailLines": str(lines),
            "limitBytes": str(LONGEST),
            "previous": previous,
        }
        try:
            async with client.lines(_path(namespace, pod), params, silence=3.0) as answer:
                found = [line.decode(errors="replace").rstrip("\r") async for line in answer]
        except (ApiRefusedError, ApiUnreachableError):
            continue
        if found:
            return tuple(found[-lines:])
    return ()


async def read_log(
    client: Client, namespace: str, pod: str, container: str, *, since: float | None, tail: int | None
) -> list[tuple[str, str]]:
    """(time stamp, line) of what a container has logged, of its last instance where it is not running: of the
    last `since` seconds, at most the last `tail` lines. Without a log, or once its pod is gone, nothing.

    Raises PlatformError.
    """
    params = {"container": container, "timestamps": "true"}
    if since is not None:
        params["sinceSeconds"] = str(max(1, math.ceil(since)))
    if tail is not None:
        params["tailLines"] = str(tail)
    try:
        async with client.lines(_path(namespace, pod), params, silence=10.0) as answer:
            return [_stamped(raw) async for raw in answer]
    except ApiRefusedError:
        return []


def _stamped(raw: bytes) -> tuple[str, str]:
    stamp, _, line = raw.decode(errors="replace").partition(" ")
    return stamp, line.rstrip("\r")


async def follow_log(
    client: Client, namespace: str, pod: str, container: str, *, from_now: bool = False, after: str = ""
) -> AsyncIterator[str]:
    """Every line from the container's start, from now, or `after` a time stamp, until it ends or is gone.

    A cut connection is taken up where it was cut. Raises nothing but what cancels it.
    """
    last = after  # timestamp of the newest line that was given out
    while True:
        params = {"container": container, "follow": "true", "timestamps": "true"}
        if last:
            params["sinceTime"] = _whole_seconds(last)
        elif from_now:
            params["tailLines"] = "0"
        try:
            async with client.lines(_path(namespace, pod), params, silence=None) as answer:
                async for raw in answer:
                    stamp, line = _stamped(raw)
                    if stamp > last:
                        last = stamp
                        yield line
            return
        except ApiRefusedError as error:
            if error.status != 400:  # 400: the container has not started yet
                return
        except ApiUnreachableError:
            pass
        await anyio.sleep(RETRY_SECONDS)


def _whole_seconds(stamp: str) -> str:
    """sinceTime keeps whole seconds on some servers: ask from the second's start, drop what is known."""
    return datetime.fromisoformat(stamp[:19] + "+00:00").strftime("%Y-%m-%dT%H:%M:%SZ")
