"""What a container finds when it starts: command, variables, their sources and their order."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from tests.contract.cluster import Namespace, Object, container_status, terminated, uid, waiting_reason
from tests.contract.objects import config_map, container, job, pod, secret, service

PRINT_ENV = ["python3", "-c", "import json,os;print(json.dumps(dict(os.environ)))"]


def ended(ns: Namespace, name: str = "one") -> Object:
    return ns.wait("Pod", name, lambda p: p["status"]["phase"] in ("Succeeded", "Failed"))


def field(path: str) -> Object:
    return {"valueFrom": {"fieldRef": {"fieldPath": path}}}


def from_config(name: str, key: str, **more: object) -> Object:
    return {"valueFrom": {"configMapKeyRef": {"name": name, "key": key, **more}}}


def from_secret(name: str, key: str, **more: object) -> Object:
    return {"valueFrom": {"secretKeyRef": {"name": name, "key": key, **more}}}


class Printed:
    """A pod that printed its environment, and the object it was."""

    def __init__(self, ns: Namespace) -> None:
        ns.create(config_map("settings", data={"colour": "red", "size": "9"}))
        ns.create(config_map("prefixed", data={"a": "1"}))
        ns.create(secret("keys", stringData={"word": "open"}))
        resources = {
            "requests": {"cpu": "10m", "memory": "32Mi"},
            "limits": {"cpu": "500m", "memory": "128Mi"},
        }
        env = [
            {"name": "PLAIN", "value": "text"},
            {"name": "EMPTY"},
            {"name": "COLOUR", **from_config("settings", "colour")},
            {"name": "WORD", **from_secret("keys", "word")},
            {"name": "NO_KEY", **from_config("settings", "none", optional=True)},
            {"name": "NO_MAP", **from_config("none", "a", optional=True)},
            {"name": "NO_SECRET", **from_secret("none", "a", optional=True)},
            {"name": "POD", **field("metadata.name")},
            {"name": "NAMESPACE", **field("metadata.namespace")},
            {"name": "UID", **field("metadata.uid")},
            {"name": "LABEL", **field("metadata.labels['tier']")},
            {"name": "NOTE", **field("metadata.annotations['contract.example/note']")},
            {"name": "POD_IP", **field("status.podIP")},
            {"name": "NODE", **field("spec.nodeName")},
            {"name": "LIMIT", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory"}}},
            {
                "name": "CPU",
                "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}},
            },
            {"name": "GREETING", "value": "$(PLAIN) and $(COLOUR)"},
            {"name": "ESCAPED", "value": "$$(PLAIN)"},
            {"name": "UNKNOWN", "value": "$(NOWHERE)"},
            {"name": "TOO_EARLY", "value": "$(LATER)"},
            {"name": "LATER", "value": "now"},
            {"name": "size", "value": "own"},
            {"name": "TWICE", "value": "first"},
            {"name": "TWICE", "value": "last"},
        ]
        sources = [
            {"configMapRef": {"name": "settings"}},
            {"prefix": "PRE_", "configMapRef": {"name": "prefixed"}},
            {"secretRef": {"name": "keys"}},
            {"configMapRef": {"name": "none", "optional": True}},
        ]
        main = container(None, command=PRINT_ENV, env=env, envFrom=sources, resources=resources)
        thing = pod(main, restartPolicy="Never")
        thing["metadata"]["labels"] = {"tier": "front"}
        thing["metadata"]["annotations"] = {"contract.example/note": "noted"}
        ns.create(thing)
        self.pod = ended(ns)
        self.ns = ns
        self.env: dict[str, str] = json.loads(ns.wait_log("one", "}"))


@pytest.fixture(scope="module")
def printed(namespaces: Callable[[], Namespace]) -> Iterator[Printed]:
    ns = namespaces()
    yield Printed(ns)
    ns.cluster.call("DELETE", f"/api/v1/namespaces/{ns.name}")


def test_plain_values(printed: Printed) -> None:
    """https://kubernetes.io/docs/tasks/inject-data-application/define-environment-variable-container/"""
    assert printed.env["PLAIN"] == "text"
    assert printed.env["EMPTY"] == ""


def test_values_from_config_maps_and_secrets(printed: Printed) -> None:
    """https://kubernetes.io/docs/tasks/configure-pod-container/configure-pod-configmap/#define-container-environment-variables-using-configmap-data"""
    assert printed.env["COLOUR"] == "red"
    assert printed.env["WORD"] == "open"


def test_optional_sources_that_are_missing_leave_the_variable_out(printed: Printed) -> None:
    """https://kubernetes.io/docs/tasks/configure-pod-container/configure-pod-configmap/#optional-configmaps"""
    assert not {"NO_KEY", "NO_MAP", "NO_SECRET"} & set(printed.env)


def test_fields_of_the_pod(printed: Printed) -> None:
    """https://kubernetes.io/docs/concepts/workloads/pods/downward-api/#downwardapi-fieldRef"""
    env, seen = printed.env, printed.pod
    assert env["POD"] == "one"
    assert env["NAMESPACE"] == printed.ns.name
    assert env["UID"] == uid(seen)
    assert env["LABEL"] == "front"
    assert env["NOTE"] == "noted"
    assert env["NODE"] == seen["spec"]["nodeName"]
    assert env["POD_IP"].count(".") == 3 or ":" in env["POD_IP"]


def test_resources_of_the_container(printed: Printed) -> None:
    """https://kubernetes.io/docs/concepts/workloads/pods/downward-api/#downwardapi-resourceFieldRef"""
    assert printed.env["LIMIT"] == str(128 * 1024 * 1024)
    assert printed.env["CPU"] == "500"


def test_references_to_variables_before_are_expanded(printed: Printed) -> None:
    """https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/"""
    assert printed.env["GREETING"] == "text and red"
    assert printed.env["ESCAPED"] == "$(PLAIN)"
    assert printed.env["UNKNOWN"] == "$(NOWHERE)"
    assert printed.env["TOO_EARLY"] == "$(LATER)"


def test_all_keys_of_a_source(printed: Printed) -> None:
    """https://kubernetes.io/docs/tasks/configure-pod-container/configure-pod-configmap/#configure-all-key-value-pairs-in-a-configmap-as-container-environment-variables"""
    assert printed.env["colour"] == "red"
    assert printed.env["PRE_a"] == "1"
    assert printed.env["word"] == "open"


def test_own_variable_wins_over_a_source(printed: Printed) -> None:
    """https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#environment-variables"""
    assert printed.env["size"] == "own"


def test_last_of_two_values_wins(printed: Printed) -> None:
    """https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#environment-variables"""
    assert printed.env["TWICE"] == "last"


def test_every_container_has_the_address_of_the_api_server(printed: Printed) -> None:
    """https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/"""
    assert printed.env["KUBERNETES_SERVICE_HOST"]
    assert printed.env["KUBERNETES_SERVICE_PORT"].isdigit()


def test_services_of_the_namespace_are_in_the_environment(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables"""
    made = ns.create(service("my-db", port=5432))
    env: dict[str, str] = {}
    for name in ("one", "two", "three"):  # a node may learn of a pod before it learns of a service
        ns.create(pod(container(None, command=PRINT_ENV), name=name, restartPolicy="Never"))
        ended(ns, name)
        env = json.loads(ns.wait_log(name, "}"))
        if "MY_DB_SERVICE_HOST" in env:
            break
    assert env["MY_DB_SERVICE_HOST"] == made["spec"]["clusterIP"]
    assert env["MY_DB_SERVICE_PORT"] == "5432"


def test_services_are_not_in_the_environment_where_links_are_off(ns: Namespace) -> None:
    """https://kubernetes.io/docs/tutorials/services/connect-applications-service/#accessing-the-service"""
    ns.create(service("my-db", port=5432))
    main = container(None, command=PRINT_ENV)
    ns.create(pod(main, restartPolicy="Never", enableServiceLinks=False))
    ended(ns)
    assert "MY_DB_SERVICE_HOST" not in json.loads(ns.wait_log("one", "}"))


def test_command_and_args_take_variables(ns: Namespace) -> None:
    """https://kubernetes.io/docs/tasks/inject-data-application/define-command-argument-container/#use-environment-variables-to-define-arguments"""
    main = container(
        None,
        command=["sh", "-c", 'echo "$1/$2/$(WHO)"', "sh"],
        args=["$(WHO)", "$$(WHO)"],
        env=[{"name": "WHO", "value": "me"}],
    )
    ns.create(pod(main, restartPolicy="Never"))
    ended(ns)
    assert ns.wait_log("one", "me").strip() == "me/$(WHO)/me"


def test_working_directory(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#entrypoint"""
    ns.create(pod(container("pwd", workingDir="/usr/lib"), restartPolicy="Never"))
    ended(ns)
    assert ns.wait_log("one", "/").strip() == "/usr/lib"


def test_host_name_is_the_name_of_the_pod(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/#pod-s-hostname-and-subdomain-fields"""
    ns.create(job("uname -n", name="my-pod"))
    ended(ns, "my-pod")
    assert ns.wait_log("my-pod", "my").strip() == "my-pod"


@pytest.mark.parametrize("sort", ["config map", "secret", "key"])
def test_missing_source_holds_the_container_until_it_is_there(ns: Namespace, sort: str) -> None:
    """https://kubernetes.io/docs/tasks/configure-pod-container/configure-pod-configmap/#restrictions"""
    needs = {
        "config map": from_config("late", "a"),
        "secret": from_secret("late", "a"),
        "key": from_config("early", "b"),
    }[sort]
    ns.create(config_map("early", data={"a": "1"}))
    env = [{"name": "A", **needs}]
    ns.create(pod(container("echo got $A", env=env), restartPolicy="Never"))
    held = ns.wait("Pod", "one", lambda p: waiting_reason(p) == "CreateContainerConfigError")
    assert held["status"]["phase"] == "Pending"
    assert container_status(held)["restartCount"] == 0
    assert container_status(held)["state"]["waiting"]["message"]
    if sort == "config map":
        ns.create(config_map("late", data={"a": "1"}))
    elif sort == "secret":
        ns.create(secret("late", stringData={"a": "1"}))
    else:
        ns.merge("ConfigMap", "early", {"data": {"b": "1"}})
    ns.wait("Pod", "one", lambda p: terminated(p).get("exitCode") == 0, seconds=120)
    assert ns.wait_log("one", "got").strip() == "got 1"


def test_missing_source_of_all_keys_holds_the_container(ns: Namespace) -> None:
    """https://kubernetes.io/docs/tasks/configure-pod-container/configure-pod-configmap/#restrictions"""
    ns.create(pod(container("true", envFrom=[{"configMapRef": {"name": "none"}}])))
    ns.wait("Pod", "one", lambda p: waiting_reason(p) == "CreateContainerConfigError")
