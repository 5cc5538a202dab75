"""The annotation that says what devloop does with a workload: put on while it writes, then taken off."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import anyio

from devloop.adapters.kubernetes.api.answers import ApiRefusedError, Json
from devloop.adapters.kubernetes.api.client import APPLY_PATCH, MERGE_PATCH, Client
from devloop.adapters.kubernetes.patch import MANAGER
from devloop.adapters.kubernetes.views import STATE
from devloop.deploy.diff import Preview, diff
from devloop.errors import PlatformError

MARKED = frozenset({"Deployment", "StatefulSet"})
UNMARK_SECONDS = 5.0  # how long marks are taken off after a cancellation


@asynccontextmanager
async def marks(client: Client) -> AsyncIterator[set[str]]:
    """The paths of what was marked; the marks go when the block ends, however it ends."""
    marked: set[str] = set()
    try:
        yield marked
    finally:
        with anyio.move_on_after(UNMARK_SECONDS, shield=True):
            for path in marked:
                with suppress(PlatformError, ApiRefusedError):  # the next apply takes it off
                    await mark(client, path, None)


async def marked_for(
    client: Client, path: str, item: Json, old: Json | None, marked: set[str]
) -> tuple[Json, Json | None]:
    """(the object to apply, the present one), one of them with the mark if applying changes anything."""
    if item["kind"] not in MARKED:
        return item, old
    if old is None:
        marked.add(path)
        meta = item["metadata"]
        notes = {**(meta.get("annotations") or {}), STATE: "installing"}
        return {**item, "metadata": {**meta, "annotations": notes}}, None
    if STATE in (old["metadata"].get("annotations") or {}):  # of an apply that was killed
        marked.add(path)
    params = {"fieldManager": MANAGER, "force": "true", "dryRun": "All"}
    with suppress(ApiRefusedError):  # applying it reports what is wrong
        if diff([Preview("", "", old, await send(client, path, params, item))]):
            marked.add(path)
            old = await mark(client, path, "upgrading")
    return item, old


async def mark(client: Client, path: str, word: str | None) -> Json:
    """Write, or with None take away, the annotation that says what devloop does with the workload; the object
    as it is then. Raises ApiRefusedError, PlatformError."""
    return await client.request(
        "PATCH",
        path,
        params={"fieldManager": MANAGER},
        body={"metadata": {"annotations": {STATE: word}}},
        content_type=MERGE_PATCH,
    )


async def send(client: Client, path: str, params: dict[str, str], item: Json) -> Json:
    """One server-side apply; the object as it is then."""
    return await client.request("PATCH", path, params=params, body=item, content_type=APPLY_PATCH)
