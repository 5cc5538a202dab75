"""What a client finds before it knows any object: version, groups, resources, health, identity."""

from __future__ import annotations

import pytest

from tests.contract.cluster import JSON, Cluster, Object, Refused, refused


def resources(cluster: Cluster, path: str) -> dict[str, Object]:
    return {r["name"]: r for r in cluster.call("GET", path).json()["resources"]}


def test_version_is_served(cluster: Cluster) -> None:
    """https://kubernetes.io/docs/concepts/overview/kubernetes-api/"""
    version = cluster.call("GET", "/version").json()
    assert version["major"] == "1"
    assert version["gitVersion"].startswith(f"v1.{version['minor'].rstrip('+')}.")


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_health_is_ok(cluster: Cluster, path: str) -> None:
    """https://kubernetes.io/docs/reference/using-api/health-checks/"""
    assert cluster.call("GET", path, accept="*/*").text == "ok"


def test_core_versions_are_listed(cluster: Cluster) -> None:
    """https://kubernetes.io/docs/concepts/overview/kubernetes-api/#discovery-api"""
    versions = cluster.call("GET", "/api").json()
    assert versions["kind"] == "APIVersions"
    assert "v1" in versions["versions"]


def test_groups_are_listed_with_their_preferred_version(cluster: Cluster) -> None:
    """https://kubernetes.io/docs/concepts/overview/kubernetes-api/#api-groups-and-versioning"""
    groups = cluster.call("GET", "/apis").json()
    assert groups["kind"] == "APIGroupList"
    apps = next(g for g in groups["groups"] if g["name"] == "apps")
    assert apps["preferredVersion"] == {"groupVersion": "apps/v1", "version": "v1"}


def test_one_group_is_described(cluster: Cluster) -> None:
    """https://kubernetes.io/docs/concepts/overview/kubernetes-api/#unaggregated-discovery"""
    group = cluster.call("GET", "/apis/apps").json()
    assert group["kind"] == "APIGroup"
    assert {"groupVersion": "apps/v1", "version": "v1"} in group["versions"]


def test_core_resources_tell_scope_verbs_and_short_names(cluster: Cluster) -> None:
    """https://kubernetes.io/docs/concepts/overview/kubernetes-api/#unaggregated-discovery"""
    found = resources(cluster, "/api/v1")
    pods = found["pods"]
    assert (pods["kind"], pods["namespaced"], pods["singularName"]) == ("Pod", True, "pod")
    assert "po" in pods["shortNames"]
    assert {"create", "delete", "get", "list", "patch", "update", "watch"} <= set(pods["verbs"])
    assert found["namespaces"]["namespaced"] is False
    assert "cm" in found["configmaps"]["shortNames"]


def test_subresources_are_resources_of_their_own(cluster: Cluster) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-uris"""
    core, apps = resources(cluster, "/api/v1"), resources(cluster, "/apis/apps/v1")
    assert {"pods/log", "pods/exec", "pods/portforward", "pods/status"} <= set(core)
    scale = apps["deployments/scale"]
    assert (scale["group"], scale["version"], scale["kind"]) == ("autoscaling", "v1", "Scale")
    assert {"deployments/status", "replicasets/scale", "statefulsets/scale"} <= set(apps)


def test_apps_resources_have_short_names_and_belong_to_all(cluster: Cluster) -> None:
    """https://kubernetes.io/docs/reference/kubectl/#resource-types"""
    apps = resources(cluster, "/apis/apps/v1")
    assert "deploy" in apps["deployments"]["shortNames"]
    assert "rs" in apps["replicasets"]["shortNames"]
    assert "sts" in apps["statefulsets"]["shortNames"]
    assert "all" in apps["deployments"]["categories"]


def test_discovery_answers_in_a_form_that_was_asked_for(cluster: Cluster) -> None:
    """https://kubernetes.io/docs/concepts/overview/kubernetes-api/#aggregated-discovery"""
    aggregated = f"{JSON};g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    answer = cluster.call("GET", "/apis", accept=f"{aggregated},{JSON}")
    if answer.json()["kind"] == "APIGroupDiscoveryList":
        assert "as=APIGroupDiscoveryList" in answer.headers["content-type"]
        apps = next(i for i in answer.json()["items"] if i["metadata"]["name"] == "apps")
        assert any(v["version"] == "v1" for v in apps["versions"])
    else:
        assert answer.json()["kind"] == "APIGroupList"


def test_openapi_v3_has_an_index_of_its_documents(cluster: Cluster) -> None:
    """https://kubernetes.io/docs/concepts/overview/kubernetes-api/#openapi-v3"""
    paths = cluster.call("GET", "/openapi/v3").json()["paths"]
    for group, document in paths.items():
        assert document["serverRelativeURL"].startswith(f"/openapi/v3/{group}")


def test_openapi_v3_names_the_options_of_a_patch(cluster: Cluster) -> None:
    """https://kubernetes.io/docs/concepts/overview/kubernetes-api/#openapi-v3"""
    where = cluster.call("GET", "/openapi/v3").json()["paths"]["apis/apps/v1"]["serverRelativeURL"]
    paths = cluster.call("GET", where).json()["paths"]
    patch = paths["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"]
    kind = {"group": "apps", "version": "v1", "kind": "Deployment"}
    assert patch["x-kubernetes-group-version-kind"] == kind
    assert {"dryRun", "fieldManager", "force"} <= {one["name"] for one in patch["parameters"]}


def test_unknown_group_is_not_found(cluster: Cluster) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-uris"""
    with refused(404):
        cluster.call("GET", "/apis/gadgets.example/v1/gadgets")


def test_unknown_resource_of_a_known_group_is_not_found(cluster: Cluster) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-uris"""
    with refused(404, "NotFound"):
        cluster.call("GET", "/api/v1/namespaces/default/gadgets")


def test_request_without_identity_is_refused(cluster: Cluster) -> None:
    """https://kubernetes.io/docs/reference/access-authn-authz/authentication/#anonymous-requests"""
    answer = cluster.anonymous.get("/api/v1/namespaces/default/secrets")
    assert answer.status_code in (401, 403)  # 403 where anonymous requests are let in so far
    assert answer.json()["kind"] == "Status"
    assert answer.json()["reason"] in ("Unauthorized", "Forbidden")


def test_wrong_token_is_unauthorized(cluster: Cluster) -> None:
    """https://kubernetes.io/docs/reference/access-authn-authz/authentication/#authentication-strategies"""
    wrong = {"Authorization": "Bearer not-the-token"}
    answer = cluster.anonymous.get("/api/v1/namespaces", headers=wrong)
    assert answer.status_code == 401
    with pytest.raises(Refused, match="Unauthorized"):
        raise Refused(answer)
