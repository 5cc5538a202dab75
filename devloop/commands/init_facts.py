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
from devloop.deploy.helm_values import base_values
from devloop.errors import DevloopError
from devloop.init.found import Chart, Found, Note, Workload
from devloop.init.project.charts import with_rendered
from devloop.init.project.objects import flat, workloads
from devloop.init.proposal.values import Place
from devloop.kubernetes_yaml.documents import documents
from devloop.model import Release, ValuesFile

NOWHERE = KubeTarget((Path(os.devnull),), "")  # rendering asks no cluster
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


async def with_cluster(found: Found, place: Place, files: Sequence[Path], *, asks: bool) -> Found:
    """With the Deployments and StatefulSets of the context; one that does not answer is a note."""
    if not asks:
        return found

    async def opened(last: Access | None) -> Access:
        return await open_access(files, place.context, allow_remote=False, last=last)

    running: list[Workload] = []
    try:
        async with Client(opened) as client:
            for kind in ("Deployment", "StatefulSet"):
                answer = await client.get(f"/apis/apps/v1/{kind.lower()}s", {"limit": "500"})
                items = [{"apiVersion": "apps/v1", **one, "kind": kind} for one in answer.get("items") or ()]
                running += workloads(flat(items), f"context {place.context}")
    except DevloopError as error:
        note = Note(f"context {place.context}", f"not asked for its workloads: {error.message}")
        return replace(found, notes=(*found.notes, note))
    return replace(found, cluster=tuple(one for one in running if one.namespace not in SYSTEM))
