"""What `devloop init` asks a local cluster: the workloads and Services that run there, and whose they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from devloop.adapters.kubernetes.api.access import Access, open_access
from devloop.adapters.kubernetes.api.client import Client
from devloop.adapters.kubernetes.views import MADE_BY, OWNER
from devloop.adapters.lock import Owner
from devloop.config.load import project_id
from devloop.errors import DevloopError
from devloop.init.found import Found, Json, Note, Workload
from devloop.init.project.objects import flat, identity, workloads
from devloop.init.proposal.values import Place

LOOKED_AT = (("apps/v1", "Deployment"), ("apps/v1", "StatefulSet"), ("v1", "Service"))
SYSTEM = (
    "kube-system",
    "kube-public",
    "kube-node-lease",
    "kubernetes-dashboard",
    "local-path-storage",
    "ingress-nginx",
)


async def with_workloads(found: Found, place: Place, files: Sequence[Path], config: Path) -> Found:
    """As `with_cluster` of init_facts.py, for a context that may be asked."""

    async def opened(last: Access | None) -> Access:
        return await open_access(files, place.context, allow_remote=False, last=last)

    running: list[Workload] = []
    try:
        async with Client(opened) as client:
            for version, kind in LOOKED_AT:
                group = "/api/v1" if version == "v1" else f"/apis/{version}"
                answer = await client.get(f"{group}/{kind.lower()}s")
                items = [{"apiVersion": version, **one, "kind": kind} for one in answer.get("items") or ()]
                running += [_running(one, place.context, config) for one in flat(items)]
    except DevloopError as error:
        note = Note(f"context {place.context}", f"not asked for its workloads: {error.message}")
        return replace(found, notes=(*found.notes, note))
    meant = [one for one in running if one.namespace not in SYSTEM]
    if place.given:
        meant = [one for one in meant if one.namespace == place.namespace]
    ours, others = (tuple(one for one in meant if bool(one.owner) is foreign) for foreign in (False, True))
    return replace(found, cluster=ours, foreign=others)


def _running(item: Json, context: str, config: Path) -> Workload:
    where = f"context {context}"
    kind, namespace, name = identity(item)
    one = next(workloads((item,), where), Workload(kind, name, namespace, (), where))
    projects = _projects(item)
    others = [name for mark, name in projects.items() if mark != project_id(config)]
    return replace(one, context=context, owner=others[0] if others else "", own=bool(projects) and not others)


def _projects(item: Json) -> dict[str, str]:
    """The devloop projects that write to the object or brought it: id -> how it is shown."""
    notes = item["metadata"].get("annotations") or {}
    found: dict[str, str] = {}
    if (writer := Owner.parse(str(notes.get(OWNER) or ""))) is not None:
        path = writer.path.replace("\0", "")  # whoever wrote it: no file has one in its name
        found[project_id(Path(path))] = path
    if maker := str(notes.get(MADE_BY) or ""):
        found.setdefault(maker, f"project id {maker}")
    return found
