"""Each object's trouble is its own: who hears of it, who goes on, what is retried."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from devloop.adapters.kubernetes.api import client as clients
from devloop.adapters.kubernetes.apply.removal import Removal
from devloop.adapters.kubernetes.cluster import KubernetesCluster
from devloop.deploy.manifests import Manifests
from devloop.errors import ConfigError, PatchError, PlatformError, PrerequisiteError
from devloop.events import Event, Notice
from devloop.model import BuildSpec, Service, Target
from tests.adapters.kubernetes.test_manifests import CONFIG_MAP, write
from tests.support.faulty_proxy import Answer, Proxy, Swallow
from tests.support.kubernetes_objects import DEPLOYMENTS, STATEFULSETS, Api, deployment, statefulset

API = Service(
    "api", "api", BuildSpec(Path("/a"), Path("/a/Dockerfile")), (Target("deployment", "api", "default"),)
)
DB = Service(
    "db", "db", BuildSpec(Path("/b"), Path("/b/Dockerfile")), (Target("statefulset", "db", "default"),)
)
API_REF, DB_REF = "api:dl-0000000000000001", "db:dl-0000000000000002"
ROCKET = {"apiVersion": "acme.io/v1", "kind": "Rocket", "metadata": {"name": "r"}}


def of(service: Service, **fields: Any) -> dict[str, Any]:
    make = deployment if service is API else statefulset
    item = make(f"{service.image}:1", **fields)
    item["metadata"]["name"] = service.name
    return item


def broken(service: Service) -> dict[str, Any]:
    item = of(service)
    item["spec"]["selector"] = {"matchLabels": {"app": "another"}}
    return item


class Project:
    """Manifests of two services on a cluster, and what was reported."""

    def __init__(
        self, cluster: KubernetesCluster, folder: Path, services: Sequence[Service] = (API, DB)
    ) -> None:
        self.folder, self.events = folder, list[Event]()
        self.manifests = Manifests(
            lambda: sorted(folder.glob("*.yaml")),
            lambda: services,
            cluster,
            self.events.append,
            folder / "state" / "m.json",
            "here",
        )

    def write(self, name: str, *documents: object) -> Path:
        return write(self.folder / f"{name}.yaml", *documents)

    def notices(self) -> list[tuple[str, str]]:
        return [(event.service, event.message) for event in self.events if isinstance(event, Notice)]


@pytest.fixture
def project(cluster: KubernetesCluster, tmp_path: Path) -> Project:
    folder = tmp_path / "project"
    folder.mkdir()
    return Project(cluster, folder)


async def test_a_broken_workload_fails_its_own_service_under_its_own_name(api: Api, project: Project) -> None:
    project.write("a", of(API), CONFIG_MAP)
    project.write("b", broken(DB))
    await project.manifests.install(API, API_REF)
    assert await api.get(f"{DEPLOYMENTS}/api"), "the other goes on"
    with pytest.raises(PatchError, match="statefulset/db was refused"):
        await project.manifests.install(DB, DB_REF)
    await project.manifests.install(API, "api:dl-0000000000000003")
    assert project.notices() == [], "the one that it concerns says it"
    project.write("b", of(DB))
    assert await project.manifests.install(DB, DB_REF)
    assert await api.get(f"{STATEFULSETS}/db")
    assert not await project.manifests.settle(), "remembered"


async def test_the_order_of_files_and_services_does_not_matter(api: Api, project: Project) -> None:
    project.write("a", broken(API))
    project.write("b", of(DB), CONFIG_MAP)
    await project.manifests.install(DB, DB_REF)
    assert await api.get(f"{STATEFULSETS}/db")
    with pytest.raises(PatchError, match="deployment/api"):
        await project.manifests.install(API, API_REF)


async def test_a_workload_is_its_services_by_its_name_too(
    api: Api, cluster: KubernetesCluster, tmp_path: Path
) -> None:
    """`container:` names one whose image is another until devloop PATCHes it."""
    named = replace(API, targets=(replace(API.targets[0], container="web"),), image="elsewhere/api")
    project = Project(cluster, tmp_path, (named, DB))
    project.write("a", broken(API))
    await project.manifests.install(DB, DB_REF)
    with pytest.raises(PatchError, match="deployment/api"):
        await project.manifests.install(named, "elsewhere/api:dl-0000000000000001")


@pytest.mark.parametrize(
    ("odd", "words"),
    [
        (
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"ports": "text"}},
            "service/s",
        ),
        ({**CONFIG_MAP, "metadata": {"name": "Not A Name"}}, "Not A Name"),
    ],
)
async def test_a_projects_object_is_reported_once_as_the_projects_and_services_go_on(
    api: Api, project: Project, odd: dict[str, Any], words: str
) -> None:
    project.write("a", of(API), odd, of(DB))
    await project.manifests.install(API, API_REF)
    await project.manifests.install(DB, DB_REF)
    await project.manifests.install(API, "api:dl-0000000000000003")
    assert await api.get(f"{DEPLOYMENTS}/api")
    assert await api.get(f"{STATEFULSETS}/db")
    ((service, message),) = project.notices()
    assert service == ""
    assert words in message
    with pytest.raises(PatchError, match=words):
        await project.manifests.settle()


async def test_a_file_that_cannot_be_read_is_the_projects_trouble(api: Api, project: Project) -> None:
    project.write("a", of(API))
    (project.folder / "b.yaml").write_text("kind: [half\n")
    await project.manifests.install(API, API_REF)
    assert await api.get(f"{DEPLOYMENTS}/api")
    ((service, message),) = project.notices()
    assert (service, str(project.folder / "b.yaml") in message) == ("", True)
    with pytest.raises(ConfigError):
        await project.manifests.settle()


async def test_what_was_applied_is_left_alone_while_something_else_stays_refused(
    api: Api, project: Project
) -> None:
    """Hand-made changes outlive every trip of a project with one broken object."""
    project.write("a", of(API), of(DB), {**CONFIG_MAP, "metadata": {"name": "Not A Name"}})
    await project.manifests.install(API, API_REF)
    await project.manifests.install(DB, DB_REF)
    await api.merge(
        f"{DEPLOYMENTS}/api", {"metadata": {"labels": {"by": "hand"}}, "spec": {"replicas": 3}}, "devloop"
    )
    assert not await project.manifests.install(API, "api:dl-0000000000000003")
    assert (await api.get(f"{DEPLOYMENTS}/api"))["spec"]["replicas"] == 3


async def test_files_that_changed_tell_a_services_trouble_under_its_name(api: Api, project: Project) -> None:
    """No trip runs: the manifests' own settling says whose it is."""
    project.write("a", of(API), of(DB))
    await project.manifests.install(API, API_REF)
    await project.manifests.install(DB, DB_REF)
    project.write("a", of(API), broken(DB), CONFIG_MAP)
    await project.manifests.settle()
    ((service, message),) = project.notices()
    assert (service, "statefulset/db" in message) == ("db", True)
    assert await api.get("/api/v1/namespaces/default/configmaps/settings")


async def test_a_namespace_that_is_missing_holds_up_only_what_is_in_it(api: Api, project: Project) -> None:
    away = {**CONFIG_MAP, "metadata": {"name": "settings", "namespace": "nowhere"}}
    project.write("a", of(API), away)
    await project.manifests.install(API, API_REF)
    assert await api.get(f"{DEPLOYMENTS}/api")
    ((service, message),) = project.notices()
    assert (service, "Namespace nowhere" in message) == ("", True)


# --- kinds --------------------------------------------------------------------------------------


async def test_a_kind_that_is_not_served_is_waited_for_and_holds_up_nobody(
    api: Api, project: Project
) -> None:
    project.write("a", of(API), ROCKET)
    await project.manifests.install(API, API_REF)
    assert await api.get(f"{DEPLOYMENTS}/api")
    ((service, message),) = project.notices()
    assert (service, "serves no acme.io/v1" in message) == ("", True)
    with pytest.raises(PrerequisiteError):
        await project.manifests.settle()
    assert project.manifests.held.is_set()


async def test_a_kind_whose_definition_came_later_is_found_without_a_restart(
    api: Api, proxy: Proxy, shaky: KubernetesCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("devloop.deploy.installer.POLL_SECONDS", 0.01)
    folder = tmp_path / "project"
    folder.mkdir()
    project = Project(shaky, folder, (API,))
    project.write("a", of(API), ROCKET)
    await project.manifests.install(API, API_REF)
    assert await api.get(f"{DEPLOYMENTS}/api")
    assert project.manifests.held.is_set()
    made = json.dumps({**ROCKET, "metadata": {"name": "r", "resourceVersion": "1"}}).encode()
    proxy.on("GET", "/apis/acme.io/v1/namespaces/", Answer(404, reason="NotFound"), times=99)
    proxy.on("PATCH", "/apis/acme.io/v1/namespaces/default/rockets/r", Answer(201, made))
    served = b'{"kind":"APIResourceList","resources":[{"name":"rockets","kind":"Rocket","namespaced":true}]}'
    proxy.on("GET", "/apis/acme.io/v1", Answer(200, served), times=99)
    with anyio.fail_after(60):
        await project.manifests.unblocked()
    assert await project.manifests.settle()
    assert not await project.manifests.settle(), "remembered"


async def test_an_object_waits_for_the_definition_that_is_applied_with_it(
    proxy: Proxy, shaky: KubernetesCluster, tmp_path: Path
) -> None:
    """A definition is served some time after it was written: kubectl apply fails here at first."""
    group, version = "/apis/apiextensions.k8s.io/v1", "/apis/acme.io/v1"
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "rockets.acme.io"},
        "spec": {"group": "acme.io", "names": {"kind": "Rocket", "plural": "rockets"}},
    }
    definitions = {
        "name": "customresourcedefinitions",
        "kind": "CustomResourceDefinition",
        "namespaced": False,
    }
    rockets = {"name": "rockets", "kind": "Rocket", "namespaced": True}
    for prefix, resource, name in ((group, definitions, "rockets.acme.io"), (version, rockets, "r")):
        made = {"metadata": {"name": name, "resourceVersion": "1"}}
        proxy.on("PATCH", prefix, Answer(201, json.dumps(made).encode()))
        proxy.on("GET", f"/{name}", Answer(404, reason="NotFound"), times=9)
        if resource is rockets:
            proxy.on("GET", prefix, Answer(404, reason="NotFound"), times=3)
        proxy.on("GET", prefix, Answer(200, json.dumps({"resources": [resource]}).encode()), times=99)
    path = write(tmp_path / "a.yaml", ROCKET, definition)
    done = await shaky.apply([path], [])
    assert done.changed == ("customresourcedefinition/rockets.acme.io created", "rocket/r created")
    assert await shaky.prerequisite() is None


async def test_down_passes_over_kinds_that_are_not_served_any_more(
    api: Api, cluster: KubernetesCluster, project: Project
) -> None:
    path = project.write("a", ROCKET, CONFIG_MAP)
    await cluster.apply([path], [])
    removal = Removal(cluster.client, cluster.applier, lambda: [path], "project")
    assert await removal.find_made() == ["configmap/settings"]


# --- an object that hangs -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault", [Swallow(), Answer(500, message='failed calling webhook "x.acme.io"')], ids=["hangs", "500"]
)
async def test_an_object_whose_webhook_hangs_fails_alone_and_delays_no_second_trip(
    api: Api,
    proxy: Proxy,
    shaky: KubernetesCluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: Swallow | Answer,
) -> None:
    monkeypatch.setattr(
        clients.Client.request, "__kwdefaults__", {**clients.Client.request.__kwdefaults__, "seconds": 0.5}
    )
    folder = tmp_path / "project"
    folder.mkdir()
    project = Project(shaky, folder)
    project.write("a", of(API), of(DB))
    proxy.on("PATCH", "/statefulsets/db", fault, times=100)
    with anyio.fail_after(60):
        await project.manifests.install(API, API_REF)
        assert await api.get(f"{DEPLOYMENTS}/api")
        with pytest.raises(PlatformError, match="statefulset/db could not be applied") as caught:
            await project.manifests.install(DB, DB_REF)
        assert "webhook" in str(caught.value.hint)
        before = proxy.hits
        await project.manifests.install(API, "api:dl-0000000000000003")
        assert proxy.hits == before, "the other does not wait for it again"
        proxy.heal()
        assert await project.manifests.install(DB, DB_REF)
    assert await api.get(f"{STATEFULSETS}/db")


async def test_an_api_server_that_is_gone_is_everybodys_trouble(
    proxy: Proxy, shaky: KubernetesCluster, tmp_path: Path
) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    project = Project(shaky, folder)
    project.write("a", of(API), of(DB))
    await proxy.refuse()
    for service, ref in ((API, API_REF), (DB, DB_REF)):
        with pytest.raises(PlatformError):
            await project.manifests.install(service, ref)
