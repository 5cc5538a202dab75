"""What the API server refuses with 422 Invalid, and which field it blames."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.cluster import Namespace, Object, refused
from tests.contract.objects import config_map, container, deployment, pod, secret, service, stateful_set

INVALID, REQUIRED, DUPLICATE = "FieldValueInvalid", "FieldValueRequired", "FieldValueDuplicate"
UNSUPPORTED, FORBIDDEN = "FieldValueNotSupported", "FieldValueForbidden"


@pytest.fixture
def ns(shared_ns: Namespace) -> Namespace:
    """Nothing is kept of what is refused: one namespace serves the module."""
    return shared_ns


def invalid(ns: Namespace, thing: Object, field: str, cause: str) -> None:
    """Creating it must be refused because of that field, or one inside it if it ends in `*`."""
    with refused(422, "Invalid") as refusal:
        ns.create(thing, dryRun="All")
    causes = refusal.causes
    if field.endswith("*"):
        assert any(f.startswith(field[:-1]) and causes[f] == cause for f in causes), causes
    else:
        assert causes.get(field) == cause, causes
    assert refusal.error.details["kind"] == thing["kind"]


def with_metadata(**metadata: Any) -> Object:
    return {**config_map(), "metadata": metadata}


@pytest.mark.parametrize("name", ["Upper", "under_score", "-start", "end-", "a..b", "a" * 254])
def test_name_must_be_a_dns_subdomain(ns: Namespace, name: str) -> None:
    """https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#dns-subdomain-names"""
    invalid(ns, config_map(name), "metadata.name", INVALID)


def test_name_may_have_dots_and_253_characters(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#dns-subdomain-names"""
    for name in ("a.b-c.9", "a" * 253):
        assert ns.create(config_map(name), dryRun="All")["metadata"]["name"] == name


def test_service_name_must_be_a_dns_label(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/services-networking/service/#defining-a-service"""
    invalid(ns, service("a.b"), "metadata.name", INVALID)


def test_namespace_name_must_be_a_dns_label(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#dns-label-names"""
    thing = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a.b"}}
    invalid(ns, thing, "metadata.name", INVALID)


def test_name_or_generate_name_is_required(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#generated-values"""
    invalid(ns, with_metadata(), "metadata.name", REQUIRED)


@pytest.mark.parametrize("value", ["a b", "-a", "a" * 64, "a/b"])
def test_label_value_is_checked(ns: Namespace, value: str) -> None:
    """https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set"""
    invalid(ns, with_metadata(name="a", labels={"k": value}), "metadata.labels*", INVALID)


@pytest.mark.parametrize("key", ["a b", "a/b/c", "Upper.Example/ok/", "/a"])
def test_label_key_is_checked(ns: Namespace, key: str) -> None:
    """https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set"""
    invalid(ns, with_metadata(name="a", labels={key: "v"}), "metadata.labels*", INVALID)


def test_label_may_have_a_prefix_and_an_empty_value(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set"""
    labels = {"example.com/Some_key.x": "", "b": "V.a_l-1"}
    made = ns.create(with_metadata(name="a", labels=labels), dryRun="All")
    assert made["metadata"]["labels"] == labels


def test_annotation_may_be_any_text(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/overview/working-with-objects/annotations/#syntax-and-character-set"""
    annotations = {"example.com/note": '{"a": "ü / \n"}'}
    made = ns.create(with_metadata(name="a", annotations=annotations), dryRun="All")
    assert made["metadata"]["annotations"] == annotations


def test_config_map_key_is_checked(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/configuration/configmap/#configmap-object"""
    invalid(ns, config_map(data={"a/b": "1"}), "data[a/b]", INVALID)


def test_config_map_holds_at_most_one_mebibyte(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/configuration/configmap/#motivation"""
    with refused(422, "Invalid"):
        ns.create(config_map(data={"a": "x" * (1024 * 1024 + 1)}), dryRun="All")


def test_tls_secret_needs_its_two_keys(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/configuration/secret/#tls-secrets"""
    thing = secret(type="kubernetes.io/tls", data={"tls.crt": "YQ=="})
    invalid(ns, thing, "data[tls.key]", REQUIRED)


def test_pod_needs_a_container(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#containers"""
    thing = {**pod(), "spec": {"containers": []}}
    invalid(ns, thing, "spec.containers", REQUIRED)


def test_container_needs_a_name(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#Container"""
    invalid(ns, pod(container(name="")), "spec.containers[0].name", REQUIRED)


def test_container_names_are_unique(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#Container"""
    invalid(ns, pod(container(), container()), "spec.containers[1].name", DUPLICATE)


def test_container_needs_an_image(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/containers/images/#image-names"""
    invalid(ns, pod(container(image="")), "spec.containers[0].image", REQUIRED)


@pytest.mark.parametrize(
    "fields, field",
    [
        ({"restartPolicy": "Sometimes"}, "spec.restartPolicy"),
        ({"dnsPolicy": "Elsewhere"}, "spec.dnsPolicy"),
        (
            {"containers": [container(imagePullPolicy="Maybe")]},
            "spec.containers[0].imagePullPolicy",
        ),
        (
            {"containers": [container(ports=[{"containerPort": 80, "protocol": "HTTP"}])]},
            "spec.containers[0].ports[0].protocol",
        ),
    ],
)
def test_pod_takes_only_known_values(ns: Namespace, fields: Object, field: str) -> None:
    """https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#PodSpec"""
    thing = pod()
    thing["spec"].update(fields)
    invalid(ns, thing, field, UNSUPPORTED)


def test_mount_needs_a_volume(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/storage/volumes/"""
    thing = pod(container(volumeMounts=[{"name": "gone", "mountPath": "/x"}]))
    invalid(ns, thing, "spec.containers[0].volumeMounts[0].name", "FieldValueNotFound")


def test_volume_names_are_unique(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/kubernetes-api/config-and-storage-resources/volume/"""
    twice = [{"name": "a", "emptyDir": {}}, {"name": "a", "emptyDir": {}}]
    invalid(ns, pod(volumes=twice), "spec.volumes[1].name", DUPLICATE)


def test_mount_paths_are_unique(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#volumes-1"""
    mounts = [{"name": "a", "mountPath": "/x"}, {"name": "a", "mountPath": "/x"}]
    thing = pod(container(volumeMounts=mounts), volumes=[{"name": "a", "emptyDir": {}}])
    invalid(ns, thing, "spec.containers[0].volumeMounts[1].mountPath", INVALID)


def test_variable_has_a_value_or_a_source(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#environment-variables"""
    source = {"configMapKeyRef": {"name": "a", "key": "b"}}
    thing = pod(container(env=[{"name": "A", "value": "1", "valueFrom": source}]))
    invalid(ns, thing, "spec.containers[0].env[0].valueFrom", INVALID)


def test_variable_name_must_not_have_an_equals_sign(ns: Namespace) -> None:
    """https://kubernetes.io/docs/tasks/inject-data-application/define-environment-variable-container/"""
    thing = pod(container(env=[{"name": "A=B", "value": "1"}]))
    invalid(ns, thing, "spec.containers[0].env[0].name", INVALID)


def test_request_must_not_exceed_the_limit(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/configuration/manage-resources-containers/#requests-and-limits"""
    resources = {"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}}
    thing = pod(container(resources=resources))
    invalid(ns, thing, "spec.containers[0].resources.requests", INVALID)


def test_quantity_must_be_one(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/"""
    with refused(400, "BadRequest"):
        ns.create(pod(container(resources={"limits": {"memory": "much"}})), dryRun="All")


def test_probe_needs_exactly_one_handler(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#probe-check-methods"""
    none = pod(container(readinessProbe={"periodSeconds": 1}))
    invalid(ns, none, "spec.containers[0].readinessProbe", REQUIRED)
    both = {"exec": {"command": ["true"]}, "tcpSocket": {"port": 80}}
    invalid(
        ns,
        pod(container(readinessProbe=both)),
        "spec.containers[0].readinessProbe.tcpSocket",
        FORBIDDEN,
    )


def test_liveness_succeeds_after_one(ns: Namespace) -> None:
    """https://kubernetes.io/docs/tasks/configure-pod-container/configure-liveness-readiness-startup-probes/#configure-probes"""
    probe = {"exec": {"command": ["true"]}, "successThreshold": 2}
    invalid(
        ns,
        pod(container(livenessProbe=probe)),
        "spec.containers[0].livenessProbe.successThreshold",
        INVALID,
    )


def test_running_pod_keeps_its_spec_but_for_the_image(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/pods/#pod-update-and-replacement"""
    ns.create(pod(name="fixed", nodeSelector={"contract.example/none": "yes"}))
    with refused(422, "Invalid") as refusal:
        command = {"spec": {"containers": [{"name": "main", "command": ["true"]}]}}
        ns.strategic("Pod", "fixed", command)
    assert refusal.causes == {"spec": FORBIDDEN}
    image = {"spec": {"containers": [{"name": "main", "image": "other:1"}]}}
    changed = ns.strategic("Pod", "fixed", image)
    assert changed["spec"]["containers"][0]["image"] == "other:1"


def test_deployment_selects_its_own_template(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#selector"""
    thing = deployment(selector={"matchLabels": {"app": "other"}})
    invalid(ns, thing, "spec.template.metadata.labels", INVALID)


def test_deployment_needs_a_selector(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#selector"""
    thing = deployment()
    del thing["spec"]["selector"]
    invalid(ns, thing, "spec.selector", REQUIRED)


def test_deployment_selector_cannot_change(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#label-selector-updates"""
    made = ns.create(deployment(name="settled", replicas=0))
    labels = {"app": "other"}
    made["spec"]["selector"]["matchLabels"] = labels
    made["spec"]["template"]["metadata"]["labels"] = labels
    with refused(422, "Invalid") as refusal:
        ns.merge("Deployment", "settled", {"spec": made["spec"]})
    assert refusal.causes == {"spec.selector": INVALID}
    assert "field is immutable" in refusal.message


def test_deployment_pods_restart_always(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#pod-template"""
    thing = deployment(template={"restartPolicy": "Never"})
    invalid(ns, thing, "spec.template.spec.restartPolicy", UNSUPPORTED)


def test_replicas_cannot_be_negative(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/deployment-v1/#DeploymentSpec"""
    invalid(ns, deployment(replicas=-1), "spec.replicas", INVALID)


def test_surge_and_unavailable_cannot_both_be_zero(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#max-unavailable"""
    strategy = {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}}
    thing = deployment(strategy=strategy)
    invalid(ns, thing, "spec.strategy.rollingUpdate.maxUnavailable", INVALID)


def test_strategy_must_be_known(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#strategy"""
    thing = deployment(strategy={"type": "BlueGreen"})
    invalid(ns, thing, "spec.strategy*", UNSUPPORTED)


def test_recreate_takes_no_rolling_update(ns: Namespace) -> None:
    """https://kubernetes.io/docs/tasks/manage-kubernetes-objects/update-api-object-kubectl-patch/#use-strategic-merge-patch-to-update-a-deployment-using-the-retainkeys-strategy"""
    thing = deployment(strategy={"type": "Recreate", "rollingUpdate": {"maxSurge": 1}})
    invalid(ns, thing, "spec.strategy.rollingUpdate", FORBIDDEN)


def test_progress_deadline_is_longer_than_min_ready(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#progress-deadline-seconds"""
    thing = deployment(progressDeadlineSeconds=5, minReadySeconds=5)
    invalid(ns, thing, "spec.progressDeadlineSeconds", INVALID)


def test_stateful_set_keeps_its_service_name(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/"""
    ns.create(stateful_set(replicas=0))
    with refused(422, "Invalid") as refusal:
        ns.merge("StatefulSet", "db", {"spec": {"serviceName": "other"}})
    assert refusal.causes == {"spec": FORBIDDEN}


def test_service_ports_are_unique(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/services-networking/service/#field-spec-ports"""
    ports = [{"name": "a", "port": 80}, {"name": "b", "port": 80}]
    invalid(ns, service(ports=ports), "spec.ports[1]", DUPLICATE)


def test_service_port_names_are_unique(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/services-networking/service/#multi-port-services"""
    ports = [{"name": "a", "port": 80}, {"name": "a", "port": 81}]
    invalid(ns, service(ports=ports), "spec.ports[1].name", DUPLICATE)


def test_several_service_ports_need_names(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/services-networking/service/#multi-port-services"""
    ports = [{"port": 80}, {"port": 81}]
    invalid(ns, service(ports=ports), "spec.ports[0].name", REQUIRED)


def test_service_port_is_a_port_number(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/kubernetes-api/service-resources/service-v1/#ServiceSpec"""
    invalid(ns, service(port=70000), "spec.ports[0].port", INVALID)


def test_service_type_must_be_known(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/services-networking/service/#publishing-services-service-types"""
    invalid(ns, service(type="Somewhere"), "spec.type", UNSUPPORTED)


def test_all_causes_are_reported_at_once(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/"""
    thing = deployment(replicas=-1, strategy={"type": "BlueGreen"})
    with refused(422, "Invalid") as refusal:
        ns.create(thing)
    assert "spec.replicas" in refusal.causes
    assert any(field.startswith("spec.strategy") for field in refusal.causes)
