"""What `devloop init` asks of others: Helm for what charts make, the API server for workloads."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from devloop.adapters.helm.runner import KubeTarget, Runner
from devloop.adapters.helm.runner_selection import choose
from devloop.deploy.helm_values import base_values
from devloop.errors import DevloopError
from devloop.init.found import Chart, Found, Workload
from devloop.init.project.charts import with_rendered
from devloop.init.project.objects import flat, workloads
from devloop.init.proposal.values import Place
from devloop.kubernetes_yaml.documents import documents
from devloop.model import Release, ValuesFile

NOWHERE = KubeTarget((Path(os.devnull),), "")  # rendering asks no cluster
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
    from devloop.commands.init_cluster import with_workloads  # with a client that takes long to import

    return await with_workloads(found, place, files, config)
