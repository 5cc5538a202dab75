"""Helm's own records of a release: Secrets `sh.helm.release.v1.NAME.vN`, read and, after a crash, mended.

Helm keeps base64 of gzip of JSON in `data.release`, which the API gives base64-encoded once more.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import json
import zlib
from collections.abc import Iterable
from contextlib import suppress

from devloop.adapters.kubernetes.api.answers import ApiRefusedError, Json
from devloop.adapters.kubernetes.api.client import MERGE_PATCH, Client
from devloop.adapters.kubernetes.views import MADE_BY
from devloop.errors import ReleaseError
from devloop.model import Release, ReleaseView

SECRETS = "/api/v1/namespaces/{}/secrets"
INTERRUPTED = "interrupted: its helm was killed"


def decode(text: str) -> Json:
    """The release as JSON. Raises ValueError."""
    try:
        data = base64.b64decode(base64.b64decode(text))
        found = json.loads(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data)
    except (binascii.Error, OSError, EOFError, zlib.error) as error:
        raise ValueError(str(error)) from error
    if not isinstance(found, dict):
        raise ValueError("no object")
    return found


def encode(release: Json) -> str:
    data = gzip.compress(json.dumps(release, separators=(",", ":")).encode(), mtime=0)
    return base64.b64encode(base64.b64encode(data)).decode()


async def find(client: Client, release: Release) -> ReleaseView | None:
    """The newest revision. A record that cannot be read has its status from its labels, and no note."""
    secret = await _newest(client, release)
    if secret is None:
        return None
    labels = secret["metadata"].get("labels") or {}
    try:
        note = str((decode(secret["data"]["release"]).get("info") or {}).get("description") or "")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        note = ""
    return ReleaseView(_revision(secret), str(labels.get("status") or ""), note)


async def give_up(client: Client, release: Release, view: ReleaseView) -> None:
    """Make the pending revision a failed one, as `helm` itself would have: the next upgrade goes on."""
    name = f"sh.helm.release.v1.{release.name}.v{view.revision}"
    path = f"{SECRETS.format(release.namespace)}/{name}"
    secret = await client.get(path)
    try:
        held = decode(secret["data"]["release"])
    except (ValueError, KeyError, TypeError) as error:
        raise ReleaseError(
            f"{release}: Secret {name} holds no release: {error}",
            hint=f"kubectl -n {release.namespace} delete secret {name}",
        ) from error
    held["info"] = {**(held.get("info") or {}), "status": "failed", "description": INTERRUPTED}
    body = {
        "metadata": {
            "labels": {"status": "failed"},
            "resourceVersion": secret["metadata"]["resourceVersion"],
        },
        "data": {"release": encode(held)},
    }
    await client.request("PATCH", path, body=body, content_type=MERGE_PATCH)


async def note(client: Client, release: Release, project: str) -> None:
    """Write on the newest revision who made it: config.yaml may name the release no more when it is to go."""
    secret = await _newest(client, release)
    if secret is not None:
        path = f"{SECRETS.format(release.namespace)}/{secret['metadata']['name']}"
        body = {"metadata": {"annotations": {MADE_BY: project}}}
        with suppress(ApiRefusedError):  # gone meanwhile
            await client.request("PATCH", path, body=body, content_type=MERGE_PATCH)


async def noted(client: Client, project: str, namespaces: Iterable[str]) -> list[tuple[str, str]]:
    """(name, namespace) of the releases that the project's devloop made. `namespaces` are looked at where the
    user may not list all."""
    params = {"labelSelector": "owner=helm"}
    try:
        items = (await client.get("/api/v1/secrets", params)).get("items") or []
    except ApiRefusedError:
        items = []
        for namespace in sorted(set(namespaces)):
            with suppress(ApiRefusedError):  # what may not be read was not made by this user either
                items += (await client.get(SECRETS.format(namespace), params)).get("items") or ()
    metas = [item["metadata"] for item in items]
    ours = [meta for meta in metas if (meta.get("annotations") or {}).get(MADE_BY) == project]
    return sorted({(str((meta.get("labels") or {}).get("name")), str(meta["namespace"])) for meta in ours})


async def _newest(client: Client, release: Release) -> Json | None:
    params = {"labelSelector": f"owner=helm,name={release.name},status!=superseded"}
    try:
        data = await client.get(SECRETS.format(release.namespace), params)
    except ApiRefusedError as error:
        if error.status == 404:
            return None
        raise ReleaseError(
            f"{release}: its records in namespace {release.namespace} cannot be read: {error.message}",
            reason=error.reason,
        ) from error
    return max(data.get("items") or (), key=_revision, default=None)


def _revision(secret: Json) -> int:
    text = str((secret["metadata"].get("labels") or {}).get("version") or "0")
    return int(text) if text.isdigit() else 0
