"""Having a container's image on the node, by its imagePullPolicy."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from devloop_sandbox.engine.client import Engine, EngineError
from devloop_sandbox.engine.problem import Problem
from devloop_sandbox.objects.resources import Obj

Report = Callable[[str, str, str], None]  # (type, reason, message) of an event

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"^(?:[A-Za-z0-9.\-]+(?::[0-9]+)?/)?{_COMPONENT}(?:/{_COMPONENT})*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.\-]{0,127})?(?:@sha256:[0-9a-f]{64})?$"
)


def is_reference(image: str) -> bool:
    return bool(_REFERENCE.match(image))


def pull_policy(container: Obj) -> str:
    """As set, or Always for :latest and no tag, else IfNotPresent."""
    policy = container.get("imagePullPolicy")
    if policy:
        return str(policy)
    name = container["image"].rpartition("/")[2]
    tagless = ":" not in name and "@" not in name
    return "Always" if tagless or name.endswith(":latest") else "IfNotPresent"


async def ensure(engine: Engine, container: Obj, report: Report, may_pull: bool) -> Obj:
    """The image's inspection. Problem: InvalidImageName, ErrImageNeverPull, ErrImagePull, ImagePullBackOff.

    `may_pull` is False while the back-off of an earlier failure runs.
    """
    name = container["image"]
    if not is_reference(name):
        text = f'couldn\'t parse image name "{name}": invalid reference format'
        report("Warning", "InspectFailed", f'Failed to apply default image tag "{name}": {text}')
        raise Problem("InvalidImageName", f'Failed to apply default image tag "{name}": {text}')
    policy = pull_policy(container)
    found = await _find(engine, name)
    if found is not None and policy != "Always":
        report("Normal", "Pulled", f'Container image "{name}" already present on machine')
        return found
    if policy == "Never":
        text = f'Container image "{name}" is not present with pull policy of Never'
        report("Warning", "ErrImageNeverPull", text)
        raise Problem("ErrImageNeverPull", text)
    if not may_pull:
        report("Normal", "BackOff", f'Back-off pulling image "{name}"')
        raise Problem("ImagePullBackOff", f'Back-off pulling image "{name}"')
    report("Normal", "Pulling", f'Pulling image "{name}"')
    error = await _pull(engine, name)
    found = await _find(engine, name) if error is None else None
    if found is None:
        text = f'Failed to pull image "{name}": {error or "the engine does not have it afterwards"}'
        report("Warning", "Failed", text)
        report("Warning", "Failed", "Error: ErrImagePull")
        raise Problem("ErrImagePull", error or text)
    report("Normal", "Pulled", f'Successfully pulled image "{name}"')
    return found


async def _find(engine: Engine, name: str) -> Obj | None:
    try:
        found: Obj = await engine.call("GET", f"/images/{name}/json")
    except EngineError as error:
        if error.status == 404:
            return None
        raise
    return found


async def _pull(engine: Engine, name: str) -> str | None:
    """What the engine says against it, or None."""
    params = {"fromImage": name}
    if "@" not in name and ":" not in name.rpartition("/")[2]:
        params["tag"] = "latest"
    try:
        async with engine.open("POST", "/images/create", params=params) as response:
            async for line in response.content:
                message = json.loads(line)
                if "error" in message:
                    return f"rpc error: code = Unknown desc = {message['error']}"
    except EngineError as error:
        if error.status == 0:
            raise
        return f"rpc error: code = Unknown desc = Error response from daemon: {error.message}"
    return None
