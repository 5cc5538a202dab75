"""What plain manifests ask for and do not bring: namespaces, Secrets, ConfigMaps, looked for beforehand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from devloop.adapters.kubernetes.api.answers import ApiRefusedError, Json
from devloop.adapters.kubernetes.api.client import Client
from devloop.deploy.needs import Need, needs_of
from devloop.errors import PrerequisiteError

Key = tuple[str, str, str]  # kind, name, namespace
# Kinds that lie in no namespace, of those that can be known without asking the server.
CLUSTERED = frozenset(
    {"Namespace", "StorageClass", "PersistentVolume", "CustomResourceDefinition", "ClusterRole"}
    | {"ClusterRoleBinding", "IngressClass", "PriorityClass", "RuntimeClass", "APIService"}
    | {"ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"}
)


def wants(item: Json, namespace: str) -> list[Need]:
    """Its namespace, and what its pods name. What is malformed wants nothing: the server reports why."""
    found: list[Need] = []
    kind, meta = str(item["kind"]), item["metadata"]
    own = meta.get("namespace")
    if kind not in CLUSTERED and (own or "." not in str(item["apiVersion"]).partition("/")[0]):
        name = str(own or namespace)
        found.append(Need("Namespace", name, name, f"{kind.lower()}/{meta['name']}"))
    try:
        found += needs_of([item], namespace)
    except (AttributeError, TypeError, KeyError):
        return found
    return found


async def missing_of(
    client: Client, due: Sequence[Json], all_objects: Iterable[Json], namespace: str
) -> list[Need]:
    """What the objects that are `due` want, and is neither among `all_objects` nor in the cluster.

    Raises PlatformError.
    """
    brought = {_key_of(item, namespace) for item in all_objects}
    found: dict[Key, Need] = {}
    for item in due:
        for need in wants(item, namespace):
            key = (need.kind, need.name, need.namespace)
            old = found.get(key)
            keys = tuple(dict.fromkeys((*old.keys, *need.keys))) if old else need.keys
            if key not in brought:
                found[key] = replace(old or need, keys=keys)
    return await unmet(client, list(found.values()))


async def unmet(client: Client, needs: Iterable[Need]) -> list[Need]:
    """Those that the cluster does not have; what may not be looked at, or has no name that could be one,
    cannot be missed.

    Raises PlatformError.
    """
    lacking: list[Need] = []
    for need in needs:
        try:
            await client.get(need.path)
        except ApiRefusedError as error:
            if error.status == 404:
                lacking.append(need)
    without = {need.name for need in lacking if need.kind == "Namespace"}
    # What is in a namespace that is missing cannot be made before it.
    return [need for need in lacking if need.kind == "Namespace" or need.namespace not in without]


def asked_by(item: Json, missing: Iterable[Need], namespace: str) -> list[Need]:
    """Those of the missing that the object wants."""
    keys = {(need.kind, need.name, need.namespace) for need in wants(item, namespace)}
    return [need for need in missing if (need.kind, need.name, need.namespace) in keys]


def missing_error(missing: Sequence[Need], context: str) -> PrerequisiteError:
    """All of them in one error, with the lines that make them."""
    named = ", ".join(
        f"{need.kind} {need.name}{'' if need.kind == 'Namespace' else f' in namespace {need.namespace}'}"
        f" (asked for by {need.wanted_by})"
        for need in missing
    )
    return PrerequisiteError(
        f"not in the cluster: {named}",
        reason=f"Missing{missing[0].kind}",
        hint="\n     ".join(need.make(context) for need in missing),
    )


def _key_of(item: Json, namespace: str) -> Key:
    kind, meta = str(item["kind"]), item["metadata"]
    name = str(meta["name"])
    return kind, name, name if kind == "Namespace" else str(meta.get("namespace") or namespace)
