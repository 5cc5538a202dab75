"""What the server fills in when an object leaves it out."""

from __future__ import annotations

import pytest

from tests.contract.cluster import Namespace, Object
from tests.contract.objects import IMAGE, deployment, pod, secret, service, stateful_set


@pytest.fixture
def ns(shared_ns: Namespace) -> Namespace:
    """Everything here is a dry run: one namespace serves the module."""
    return shared_ns


def filled(ns: Namespace, thing: Object) -> Object:
    return ns.create(thing, dryRun="All")


def bare(**fields: object) -> Object:
    """A pod with no more than it needs."""
    thing = pod()
    thing["spec"] = {"containers": [{"name": "main", "image": IMAGE, **fields}]}
    return thing


def test_pod_defaults(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#PodSpec"""
    made = filled(ns, bare())
    spec = made["spec"]
    assert spec["restartPolicy"] == "Always"
    assert spec["terminationGracePeriodSeconds"] == 30
    assert spec["dnsPolicy"] == "ClusterFirst"
    assert spec["schedulerName"] == "default-scheduler"
    assert made["status"]["phase"] == "Pending"


def test_container_defaults(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#Container"""
    made = filled(ns, bare(ports=[{"containerPort": 80}]))["spec"]["containers"][0]
    assert made["terminationMessagePath"] == "/dev/termination-log"
    assert made["terminationMessagePolicy"] == "File"
    assert made["ports"] == [{"containerPort": 80, "protocol": "TCP"}]


@pytest.mark.parametrize(
    "image, policy",
    [
        ("example.com/app:1.2", "IfNotPresent"),
        ("example.com/app:latest", "Always"),
        ("example.com/app", "Always"),
        (f"example.com/app@sha256:{'0' * 64}", "IfNotPresent"),
    ],
)
def test_pull_policy_follows_the_tag(ns: Namespace, image: str, policy: str) -> None:
    """https://kubernetes.io/docs/concepts/containers/images/#imagepullpolicy-defaulting"""
    made = filled(ns, bare(image=image))
    assert made["spec"]["containers"][0]["imagePullPolicy"] == policy


def test_probe_defaults(ns: Namespace) -> None:
    """https://kubernetes.io/docs/tasks/configure-pod-container/configure-liveness-readiness-startup-probes/#configure-probes"""
    probe = {"httpGet": {"port": 80}}
    made = filled(ns, bare(readinessProbe=probe))["spec"]["containers"][0]["readinessProbe"]
    assert made["timeoutSeconds"] == 1
    assert made["periodSeconds"] == 10
    assert made["successThreshold"] == 1
    assert made["failureThreshold"] == 3
    assert made["httpGet"] == {"path": "/", "port": 80, "scheme": "HTTP"}


def test_request_defaults_to_the_limit(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/configuration/manage-resources-containers/#requests-and-limits"""
    made = filled(ns, bare(resources={"limits": {"memory": "64Mi"}}))
    assert made["spec"]["containers"][0]["resources"]["requests"] == {"memory": "64Mi"}


@pytest.mark.parametrize(
    "resources, quality",
    [
        ({}, "BestEffort"),
        ({"requests": {"cpu": "10m"}}, "Burstable"),
        ({"limits": {"cpu": "10m", "memory": "64Mi"}}, "Guaranteed"),
    ],
)
def test_quality_of_service_follows_the_resources(ns: Namespace, resources: Object, quality: str) -> None:
    """https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/"""
    assert filled(ns, bare(resources=resources))["status"]["qosClass"] == quality


def test_volume_mode_defaults(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/kubernetes-api/config-and-storage-resources/volume/"""
    thing = bare()
    thing["spec"]["volumes"] = [
        {"name": "c", "configMap": {"name": "c"}},
        {"name": "s", "secret": {"secretName": "s"}},
    ]
    volumes = {v["name"]: v for v in filled(ns, thing)["spec"]["volumes"]}
    assert volumes["c"]["configMap"]["defaultMode"] == 0o644
    assert volumes["s"]["secret"]["defaultMode"] == 0o644


def test_deployment_defaults(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/deployment-v1/#DeploymentSpec"""
    thing = deployment()
    del thing["spec"]["replicas"]
    spec = filled(ns, thing)["spec"]
    assert spec["replicas"] == 1
    assert spec["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"},
    }
    assert spec["revisionHistoryLimit"] == 10
    assert spec["progressDeadlineSeconds"] == 600
    assert spec["template"]["spec"]["restartPolicy"] == "Always"


def test_stateful_set_defaults(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/stateful-set-v1/#StatefulSetSpec"""
    spec = filled(ns, stateful_set())["spec"]
    assert spec["podManagementPolicy"] == "OrderedReady"
    assert spec["updateStrategy"]["type"] == "RollingUpdate"
    assert spec["updateStrategy"]["rollingUpdate"]["partition"] == 0
    assert spec["revisionHistoryLimit"] == 10


def test_service_defaults(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/services-networking/service/#defining-a-service"""
    spec = filled(ns, service(ports=[{"port": 80}]))["spec"]
    assert spec["type"] == "ClusterIP"
    assert spec["sessionAffinity"] == "None"
    assert spec["ports"] == [{"port": 80, "protocol": "TCP", "targetPort": 80}]


def test_service_gets_an_address_of_the_cluster(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/services-networking/service/#type-clusterip"""
    spec = ns.create(service())["spec"]
    assert spec["clusterIP"].count(".") == 3 or ":" in spec["clusterIP"]
    assert spec["clusterIPs"] == [spec["clusterIP"]]


def test_headless_service_has_no_address(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/services-networking/service/#headless-services"""
    assert ns.create(service("head", clusterIP="None"))["spec"]["clusterIP"] == "None"


def test_node_port_is_given_by_the_server(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/services-networking/service/#type-nodeport"""
    ports = [{"name": "a", "port": 80}, {"name": "b", "port": 81}]
    spec = ns.create(service("open", type="NodePort", ports=ports))["spec"]
    given = {port["nodePort"] for port in spec["ports"]}
    assert len(given) == 2
    assert all(0 < port < 65536 for port in given)


def test_secret_is_opaque(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/configuration/secret/#opaque-secrets"""
    assert filled(ns, secret())["type"] == "Opaque"


def test_namespace_carries_its_name_as_a_label(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/overview/working-with-objects/namespaces/#automatic-labelling"""
    labels = ns.read("Namespace", ns.name)["metadata"]["labels"]
    assert labels["kubernetes.io/metadata.name"] == ns.name
