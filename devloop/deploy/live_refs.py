"""What the cluster runs of each image."""

from __future__ import annotations

from collections.abc import Sequence

from devloop.deploy.releaser import Releaser
from devloop.model import Service


async def live_refs(releaser: Releaser, services: Sequence[Service]) -> dict[str, str]:
    """Image of a service -> the reference that the first of its targets runs that is there."""
    refs: dict[str, str] = {}
    for service in services:
        for one in await releaser.live(service.targets, service.image):
            if one is not None and one.ref:
                refs.setdefault(service.image, one.ref)
    return refs
