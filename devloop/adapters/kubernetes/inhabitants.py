"""What lives in a namespace beside what devloop brought there: `down` removes nothing of others."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from devloop.adapters.kubernetes.api.answers import Json
from devloop.adapters.kubernetes.api.client import Client
from devloop.adapters.kubernetes.made import is_controlled, objects_in
from devloop.adapters.kubernetes.views import MADE_BY
from devloop.model import Release

# What Kubernetes puts into every namespace.
BUILT_IN = frozenset({("ConfigMap", "kube-root-ca.crt"), ("ServiceAccount", "default")})
TOKEN = "kubernetes.io/service-account-token"  # the type of a service account's Secret
Object = tuple[str, str, Json]  # kind, path, the object itself
Claims = set[tuple[str, str]]  # namespace, beginning of the name


async def strangers(
    client: Client,
    namespace: str,
    project: str,
    *,
    releases: Iterable[Release],
    paths: Collection[str],
    claims: Claims,
) -> list[str]:
    """Objects that this project's devloop did not bring, "configmap/settings"; `claims` as in `others`.

    Raises PlatformError.
    """
    there = [one async for one in objects_in(client, namespace)]
    named = {(one.name, one.namespace) for one in releases}
    return others(there, project, releases=named, paths=paths, claims=claims)


def others(
    there: Sequence[Object],
    project: str,
    *,
    releases: Collection[tuple[str, str]],
    paths: Collection[str],
    claims: Claims,
) -> list[str]:
    """Of the objects those that are not the project's own: with its note, at one of the paths, or of one of
    the releases (name, namespace). What a controller made of an object goes with that and does not count.

    `claims` grows by those of its StatefulSets, which outlive them.
    """
    found: dict[str, str] = {}
    for kind, path, item in there:
        if _is_built_in(kind, item) or is_controlled(item):
            continue
        if path in paths or _is_ours(item, project, releases):
            claims.update(_claims_of(kind, item))
            continue
        uid = str(item["metadata"].get("uid") or path)  # one object may be served by several groups
        found.setdefault(uid, f"{kind.lower()}/{_place(item)[1]}")
    own = {
        f"persistentvolumeclaim/{name}" for kind, _, item in there for name in _claimed(kind, item, claims)
    }
    return sorted(one for one in found.values() if one not in own)


def _is_built_in(kind: str, item: Json) -> bool:
    return (kind, item["metadata"]["name"]) in BUILT_IN or (kind == "Secret" and item.get("type") == TOKEN)


def _is_ours(item: Json, project: str, releases: Collection[tuple[str, str]]) -> bool:
    notes = item["metadata"].get("annotations") or {}
    labels = item["metadata"].get("labels") or {}
    if notes.get(MADE_BY) == project:
        return True
    if labels.get("owner") == "helm":  # a release's own record
        return (str(labels.get("name")), str(item["metadata"].get("namespace") or "")) in releases
    return (
        str(notes.get("meta.helm.sh/release-name")),
        str(notes.get("meta.helm.sh/release-namespace")),
    ) in releases


def _place(item: Json) -> tuple[str, str]:
    return str(item["metadata"].get("namespace") or ""), str(item["metadata"]["name"])


def _claims_of(kind: str, item: Json) -> Iterator[tuple[str, str]]:
    namespace, name = _place(item)
    if kind == "StatefulSet":
        for one in (item.get("spec") or {}).get("volumeClaimTemplates") or ():
            yield namespace, f"{one['metadata']['name']}-{name}-"


def _claimed(kind: str, item: Json, claims: Claims) -> Iterator[str]:
    """The object's name if it is such a claim: what follows is the number of a pod."""
    namespace, name = _place(item)
    begin = name.rstrip("0123456789")
    if kind == "PersistentVolumeClaim" and begin != name and (namespace, begin) in claims:
        yield name
