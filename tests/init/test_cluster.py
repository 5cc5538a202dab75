"""What `devloop init` takes of the workloads that the context runs, and what it leaves alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from devloop.adapters.lock import Owner
from devloop.commands.init import place_of
from devloop.commands.init_facts import with_cluster
from devloop.config.load import project_id
from devloop.init.project.scan import scan
from devloop.init.proposal.propose import propose
from devloop.init.proposal.render import config_text, summary
from devloop.init.proposal.values import Proposal
from devloop_sandbox.options import Options
from devloop_sandbox.server import api_server
from tests.support.kubernetes_objects import Api
from tests.support.project_files import Files, dockerfile, workload, write

COMPOSE = {
    "compose.yaml": "services:\n  web:\n    build: ./web\n    ports: ['8080:8080']\n",
    "web/Dockerfile": dockerfile(". ."),
}
BARE = {"web/Dockerfile": dockerfile(". .")}
OTHER = "/home/somebody/other/config.yaml"


@dataclass
class Cluster:
    kubeconfig: Path
    api: Api
    project: Path

    async def run(self, name: str, image: str, namespace: str = "default", **notes: str) -> None:
        item: dict[str, Any] = yaml.safe_load(workload(name, image, namespace=namespace))
        item["metadata"]["annotations"] = {
            f"dev.devloop/{key.replace('_', '-')}": v for key, v in notes.items()
        }
        await self.api.create(f"/apis/apps/v1/namespaces/{namespace}/deployments", item)

    async def make_namespace(self, name: str) -> None:
        item = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        await self.api.create("/api/v1/namespaces", item)

    async def proposed(
        self, files: Files, namespace: str | None = None, answers: Mapping[str, str] | None = None
    ) -> Proposal:
        place = place_of(None, namespace, self.kubeconfig, {})
        found = scan(write(self.project.parent, files))
        found = await with_cluster(found, place, [self.kubeconfig], self.project, asks=place.local)
        return propose(found, place, answers or {})


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    state = tmp_path / "sandbox"
    state.mkdir()
    (tmp_path / "shop").mkdir()
    async with (
        api_server(Options(name="init", state_dir=state)),
        Api.open(state / "kubeconfig") as api,
    ):
        yield Cluster(state / "kubeconfig", api, tmp_path / "shop" / "config.yaml")


def skaffold(image: str, context: str) -> str:
    artifact = {"image": image, "context": context}
    return yaml.safe_dump(
        {"apiVersion": "skaffold/v4beta11", "kind": "Config", "build": {"artifacts": [artifact]}}
    )


def owner(path: str) -> str:
    return Owner("here", 4711, path).dump()


@pytest.mark.parametrize("notes", [{"owner": owner(OTHER)}, {"created_by": "0123456789ab"}])
@pytest.mark.parametrize("files", [COMPOSE, BARE])
async def test_another_projects_workload_is_left_alone_and_named(
    cluster: Cluster, files: Files, notes: dict[str, str]
) -> None:
    await cluster.run("web", "registry.example.com/team/web:1", **notes)
    made = await cluster.proposed(files)
    assert [(one.image, one.targets[0].name) for one in made.services] == [("shop-web", "web")]
    text = "\n".join(str(note) for note in made.left_out)
    assert "Deployment web in namespace default" in text
    assert "of another devloop project" in text


async def test_new_manifests_get_a_namespace_in_which_no_name_is_taken(cluster: Cluster) -> None:
    await cluster.make_namespace("shop")
    for namespace in ("default", "shop"):
        await cluster.run("web", "registry.example.com/team/web:1", namespace)
    made = await cluster.proposed(COMPOSE)
    assert made.namespace == "shop-2"
    assert yaml.safe_load(made.written["k8s/namespace.yaml"])["metadata"] == {"name": "shop-2"}
    assert "web in namespace default: is there already, in no file here" in config_text(made)


async def test_a_namespace_that_is_new_is_made_before_what_goes_into_it(cluster: Cluster) -> None:
    """Before `devloop watch` nobody has applied its manifest yet."""
    await cluster.run("web", "registry.example.com/team/web:1")
    services = {"web": {"build": "web", "env_file": ".env"}}
    made = await cluster.proposed({**COMPOSE, "compose.yaml": yaml.safe_dump({"services": services})})
    assert made.first == (
        "kubectl create namespace shop",
        "kubectl -n shop create secret generic web-env --from-env-file=.env",
    )


@pytest.mark.parametrize(("namespace", "kubectl"), [(None, "kubectl"), ("default", "kubectl -n default")])
async def test_a_namespace_that_was_asked_for_is_in_the_commands(
    cluster: Cluster, namespace: str | None, kubectl: str
) -> None:
    """The one of the kubeconfig's context may be another."""
    services = {"web": {"build": "web", "env_file": ".env"}}
    made = await cluster.proposed(
        {**COMPOSE, "compose.yaml": yaml.safe_dump({"services": services})}, namespace
    )
    assert made.first == (f"{kubectl} create secret generic web-env --from-env-file=.env",)


async def test_a_service_of_another_project_is_a_taken_name_too(cluster: Cluster) -> None:
    meta = {"name": "web", "annotations": {"dev.devloop/created-by": "0123456789ab"}}
    item = {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"ports": [{"port": 80}]}}
    await cluster.api.create("/api/v1/namespaces/default/services", item)
    made = await cluster.proposed(COMPOSE)
    assert made.namespace == "shop"
    assert "Service web in namespace default" in config_text(made)


async def test_in_a_namespace_that_was_asked_for_a_taken_name_is_left_out(cluster: Cluster) -> None:
    await cluster.run("web", "registry.example.com/team/web:1", owner=owner(OTHER))
    made = await cluster.proposed(COMPOSE, "default")
    assert (made.namespace, made.written, made.services[0].targets) == ("default", {}, ())
    text = " ".join(str(note) for note in made.left_out)
    assert "is there already, another devloop project's (/home/somebody/other/config.yaml)" in text


async def test_what_files_describe_and_another_project_runs_is_told(cluster: Cluster) -> None:
    await cluster.run("web", "web:1", owner=owner(OTHER))
    made = await cluster.proposed({**BARE, "k8s/web.yaml": workload("web", "web")})
    assert "k8s/web.yaml describes it, but another devloop project runs it" in "".join(
        map(str, made.left_out)
    )


async def test_an_image_that_files_describe_brings_nothing_of_the_cluster_along(cluster: Cluster) -> None:
    await cluster.run("canary", "web:1")
    made = await cluster.proposed({**BARE, "k8s/web.yaml": workload("web", "web")})
    assert [target.name for one in made.services for target in one.targets] == ["web"]


@pytest.mark.parametrize(
    "notes", [{"owner": True}, {"created_by": True}, {"owner": True, "created_by": True}]
)
async def test_this_projects_own_workload_is_a_target_still(cluster: Cluster, notes: dict[str, bool]) -> None:
    marks = {"owner": owner(str(cluster.project)), "created_by": project_id(cluster.project)}
    await cluster.run("web", "team/web:1", **{key: marks[key] for key in notes})
    made = await cluster.proposed(BARE)
    assert [(one.image, one.targets[0].name) for one in made.services] == [("team/web", "web")]


async def test_compose_services_get_manifests_whatever_the_cluster_runs(cluster: Cluster) -> None:
    await cluster.make_namespace("elsewhere")
    await cluster.run("web", "registry.example.com/team/web:1", "elsewhere")
    made = await cluster.proposed(COMPOSE)
    assert [one.image for one in made.services] == ["shop-web"]
    assert (list(made.written), made.left_out) == (["k8s/web.yaml"], ())


async def test_a_workload_that_is_only_called_alike_is_asked_for(cluster: Cluster) -> None:
    await cluster.make_namespace("team")
    await cluster.run("web", "team/web:1", "team")
    made = await cluster.proposed(BARE)
    assert [one.image for one in made.services] == ["shop-web"]
    text = " ".join(config_text(made).replace("#", "").split())
    assert "Deployment web in namespace team of the cluster runs it, and it may be another project's" in text
    assert "write image: team/web and deploy: {deployment: web, namespace: team}" in text
    assert [one.key for one in made.questions] == ["image:team/web", "write"]
    made = await cluster.proposed(BARE, answers={"image:team/web": "web/Dockerfile"})
    assert [(one.image, one.targets[0].name, made.namespace) for one in made.services] == [
        ("team/web", "web", "team")
    ]
    made = await cluster.proposed(BARE, answers={"image:team/web": "-"})
    assert [one.image for one in made.services] == ["shop-web"]


async def test_what_is_from_the_cluster_is_told_as_found_there(cluster: Cluster) -> None:
    await cluster.make_namespace("shop")
    await cluster.run("web", "team/web:1", "shop")
    await cluster.run("ledger", "team/ledger:1", "shop")
    made = await cluster.proposed(
        {**BARE, "skaffold.yaml": skaffold("team/web", "web")}, answers={"image:web": "-"}
    )
    assert [one.targets[0].name for one in made.services] == ["web"]
    for text in (config_text(made), "\n".join(summary(made))):
        text = " ".join(text.replace("#", "").split())
        assert "Deployment web is in no file here: it was found in the cluster, namespace shop" in text
        assert "Deployment ledger in namespace shop: found in the cluster" in text


async def test_a_build_sections_name_without_a_registry_or_folder_is_no_proof(cluster: Cluster) -> None:
    await cluster.run("web", "web:1")
    made = await cluster.proposed({**BARE, "skaffold.yaml": skaffold("web", "web")})
    assert made.services[0].targets[0].name == "web"
    assert made.namespace == "shop"  # its own manifest, beside the other's


async def test_the_only_image_of_the_cluster_is_not_taken_for_the_only_dockerfile(cluster: Cluster) -> None:
    await cluster.run("ledger", "team/ledger:1")
    made = await cluster.proposed(BARE)
    assert [one.image for one in made.services] == ["shop-web"]
    assert made.questions[0].key == "write"


async def test_a_namespace_that_was_asked_for_is_written_and_alone_looked_at(cluster: Cluster) -> None:
    await cluster.run("web", "team/web:1")
    made = await cluster.proposed(BARE, "empty")
    assert (made.namespace, list(made.written), made.left_out) == ("empty", ["k8s/web.yaml"], ())
