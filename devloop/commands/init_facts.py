"""What `devloop init` asks of others: Helm for what charts make, the API server for workloads."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from devloop.adapters.helm.runner import KubeTarget, Runner
from devloop.adapters.helm.runner_selection import choose
from devloop.adapters.kubernetes.api.access import Access, open_access
from devloop.adapters.kubernetes.api.client import Client
from devloop.adapters.kubernetes.views import MADE_BY, OWNER
from devloop.adapters.lock import Owner
from devloop.config.load import project_id
from devloop.deploy.helm_values import base_values
from devloop.errors import DevloopError
from devloop.init.found import Chart, Found, Json, Note, Workload
from devloop.init.project.charts import with_rendered
from devloop.init.project.objects import flat, identity, workloads
from devloop.init.proposal.values import Place
from devloop.kubernetes_yaml.documents import documents
from devloop.model import Release, ValuesFile

NOWHERE = KubeTarget((Path(os.devnull),), "")  # rendering asks no cluster
LOOKED_AT = (("apps/v1", "Deployment"), ("apps/v1", "StatefulSet"), ("v1", "Service"))
SYSTEM = (
    "kube-system",
    "kube-public",
    "kube-node-lease",
    "kubernetes-dashboard",
    "local-path-storage",
    "ingress-nginx",
)
READ = "Helm is not here: what it makes is read from its templates' text (pip install 'devloop[helm]')"


async def with_helm(found: Found, root: Path, namespace: str) -> Found:
    """Charts with the workloads that Helm renders; where it cannot, the reason is the chart's trouble."""
    if not found.charts:
        return found
    try:
        runner = choose(NOWHERE, os.environ)
    except DevloopError:
        return replace(found, charts=tuple(replace(one, trouble=READ) for one in found.charts))
    return replace(
        found, charts=tuple([await _rendered(one, runner, root, namespace) for one in found.charts])
    )


async def _rendered(chart: Chart, runner: Runner, root: Path, namespace: str) -> Chart:
    files = tuple(ValuesFile(root / one) for one in chart.values)
    where = chart.namespace or namespace
    release = Release(chart.release, root / chart.folder, where, values=files, set=chart.set)
    try:
        text = await runner.render(release, base_values(release, os.environ), upgrade=False)
        objects = flat(one.value for one in documents(text, str(release)))
    except DevloopError as error:
        return replace(
            chart, trouble=f"Helm does not render it: {' '.join((error.message, *error.evidence))}"
        )
    made = tuple(_at_home(one, where) for one in workloads(objects, chart.folder))
    return with_rendered(chart, made)


def _at_home(one: Workload, namespace: str) -> Workload:
    """Its namespace only where it is not the release's."""
    return replace(one, namespace="") if one.namespace == namespace else one


async def with_cluster(
    found: Found, place: Place, files: Sequence[Path], config: Path, *, asks: bool
) -> Found:
    """With the workloads and Services of the context, other projects' apart; a context that does not
    answer is a note. `config`: the config.yaml that is to be written."""
    if not asks:
        return found

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
