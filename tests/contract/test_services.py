"""Services: endpoints by readiness, names, ports, and who answers."""

from __future__ import annotations

import socket
import urllib.request
from collections.abc import Callable, Iterator

import pytest

from tests.contract.cluster import Namespace, Object, Refused, eventually, is_true, name_of, refused, uid
from tests.contract.objects import container, deployment, fetch, http_server, pod, service

GATED = {
    "exec": {"command": ["test", "-e", "/tmp/good"]},
    "periodSeconds": 1,
    "failureThreshold": 1,
    "timeoutSeconds": 20,
}


def addresses(endpoints: Object, key: str = "addresses") -> set[str]:
    return {
        a["targetRef"]["name"] for subset in endpoints.get("subsets") or [] for a in subset.get(key) or []
    }


def wait_endpoints(ns: Namespace, *pods: str, name: str = "web") -> Object:
    def look() -> Object | None:
        if not ns.exists("Endpoints", name):
            return None
        found = ns.read("Endpoints", name)
        return found if addresses(found) == set(pods) else None

    return eventually(look, f"endpoints of {name} never became {pods}")


def answer(ns: Namespace, url: str, client: str = "client") -> str:
    return ns.execute(client, *fetch(url)).stdout.decode().strip()


def wait_answer(ns: Namespace, url: str, text: str, client: str = "client") -> None:
    eventually(lambda: answer(ns, url, client) == text, f"{url} never answered {text!r}")


@pytest.fixture(scope="module")
def town(namespaces: Callable[[], Namespace]) -> Iterator[Namespace]:
    """A pod `server` behind the Service `web` (80 -> 8080), and a pod `client`."""
    ns = namespaces()
    ns.create(service())
    ns.create(pod(http_server("hello"), name="server", labels={"app": "web"}))
    ns.create(pod(name="client"))
    for name in ("server", "client"):
        ns.wait("Pod", name, lambda p: is_true(p, "Ready"))
    wait_endpoints(ns, "server")
    yield ns
    ns.cluster.call("DELETE", f"/api/v1/namespaces/{ns.name}")


# -- endpoints -----------------------------------------------------------------------------------


def test_endpoints_name_the_ready_pod_and_its_port(town: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/services-networking/service/#endpoints"""
    (subset,) = town.read("Endpoints", "web")["subsets"]
    server = town.read("Pod", "server")
    (address,) = subset["addresses"]
    assert address["ip"] == server["status"]["podIP"]
    assert address["targetRef"]["kind"] == "Pod"
    assert address["targetRef"]["uid"] == uid(server)
    assert [p["port"] for p in subset["ports"]] == [8080]


def slices(ns: Namespace, name: str = "web") -> dict[str, bool]:
    """Pod -> whether it is ready, from the Service's EndpointSlices."""
    mine = f"kubernetes.io/service-name={name}"
    return {
        entry["targetRef"]["name"]: entry["conditions"]["ready"]
        for found in ns.items("EndpointSlice", labelSelector=mine)
        for entry in found["endpoints"]
    }


def test_endpoint_slices_name_the_ready_pod_and_its_port(town: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/"""
    eventually(lambda: slices(town) == {"server": True}, "the slice never named the pod")
    (found,) = town.items("EndpointSlice", labelSelector="kubernetes.io/service-name=web")
    server = town.read("Pod", "server")
    assert found["addressType"] == "IPv4"
    assert [(p["port"], p["protocol"]) for p in found["ports"]] == [(8080, "TCP")]
    assert found["endpoints"][0]["addresses"] == [server["status"]["podIP"]]
    assert found["endpoints"][0]["nodeName"] == server["spec"]["nodeName"]
    assert [o["kind"] for o in found["metadata"]["ownerReferences"]] == ["Service"]


def test_endpoint_slices_follow_readiness_and_the_service(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/#conditions"""
    ns.create(service())
    ns.create(pod(container(readinessProbe=GATED), labels={"app": "web"}))
    eventually(lambda: slices(ns) == {"one": False}, "the pod is not reported as not ready")
    assert ns.execute("one", "touch", "/tmp/good").code == 0
    eventually(lambda: slices(ns) == {"one": True}, "the pod is not reported as ready")
    ns.delete("Service", "web")
    eventually(lambda: ns.items("EndpointSlice") == [], "its slices stay")


def test_endpoints_follow_readiness(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#when-should-you-use-a-readiness-probe"""
    ns.create(service())
    ns.create(pod(container(readinessProbe=GATED), labels={"app": "web"}))
    eventually(
        lambda: addresses(ns.read("Endpoints", "web"), "notReadyAddresses") == {"one"},
        "the pod is not reported as not ready",
    )
    assert addresses(ns.read("Endpoints", "web")) == set()
    assert ns.execute("one", "touch", "/tmp/good").code == 0
    wait_endpoints(ns, "one")
    assert ns.execute("one", "rm", "/tmp/good").code == 0
    wait_endpoints(ns)


def test_endpoints_follow_labels(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/services-networking/service/#defining-a-service"""
    ns.create(service())
    ns.create(pod(labels={"app": "other"}))
    ns.wait("Pod", "one", lambda p: is_true(p, "Ready"))
    wait_endpoints(ns)
    ns.merge("Pod", "one", {"metadata": {"labels": {"app": "web"}}})
    wait_endpoints(ns, "one")


def test_endpoints_follow_the_selector(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/services-networking/service/#defining-a-service"""
    for name in ("blue", "green"):
        ns.create(pod(name=name, labels={"app": name}))
    ns.create(service(selector={"app": "blue"}))
    wait_endpoints(ns, "blue")
    ns.merge("Service", "web", {"spec": {"selector": {"app": "green"}}})
    wait_endpoints(ns, "green")


def test_endpoints_lose_a_pod_that_is_deleted(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-termination-flow"""
    ns.create(service())
    ns.create(pod(labels={"app": "web"}))
    wait_endpoints(ns, "one")
    ns.delete("Pod", "one")
    wait_endpoints(ns)


def test_endpoints_go_with_the_service(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/services-networking/service/#endpoints"""
    ns.create(service())
    wait_endpoints(ns)
    ns.delete("Service", "web")
    ns.wait_gone("Endpoints", "web")


def test_named_target_port_is_looked_up_in_each_pod(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/services-networking/service/#field-spec-ports"""
    ports = {"old": 8080, "new": 9090}
    for name, port in ports.items():
        main = container(ports=[{"name": "http", "containerPort": port}])
        ns.create(pod(main, name=name, labels={"app": "web"}))
    ns.create(service(target="http"))

    def found() -> dict[str, int]:
        subsets = ns.read("Endpoints", "web").get("subsets") or []
        return {
            a["targetRef"]["name"]: s["ports"][0]["port"] for s in subsets for a in s.get("addresses") or []
        }

    ns.wait("Service", "web", lambda _: ns.exists("Endpoints", "web") and found() == ports)


def test_service_without_a_selector_has_no_endpoints_of_its_own(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/services-networking/service/#services-without-selectors"""
    ns.create(service("own", selector=None))
    ns.create(service("web"))
    wait_endpoints(ns, name="web")
    assert not ns.exists("Endpoints", "own")


# -- traffic -------------------------------------------------------------------------------------


def test_service_answers_by_its_name(town: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/"""
    wait_answer(town, "http://web/", "hello")


def test_service_answers_by_name_and_namespace(town: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/#namespaces-of-services"""
    wait_answer(town, f"http://web.{town.name}/", "hello")
    wait_answer(town, f"http://web.{town.name}.svc/", "hello")


def test_service_of_another_namespace_needs_the_namespace(
    town: Namespace, namespaces: Callable[[], Namespace]
) -> None:
    """https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/#namespaces-of-services"""
    away = namespaces()
    away.create(pod(name="client"))
    away.wait("Pod", "client", lambda p: is_true(p, "Ready"))
    wait_answer(away, f"http://web.{town.name}/", "hello")
    assert away.execute("client", *fetch("http://web/")).code != 0
    away.cluster.call("DELETE", f"/api/v1/namespaces/{away.name}")


def test_service_answers_by_its_cluster_address(town: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/services-networking/service/#type-clusterip"""
    address = town.read("Service", "web")["spec"]["clusterIP"]
    host = f"[{address}]" if ":" in address else address
    wait_answer(town, f"http://{host}/", "hello")


def test_name_of_the_service_is_its_cluster_address(town: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/#services"""
    program = "import socket; print(socket.gethostbyname('web'))"
    ran = town.execute("client", "python3", "-c", program)
    assert ran.stdout.decode().strip() == town.read("Service", "web")["spec"]["clusterIP"]


def test_unknown_name_is_not_resolved(town: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/"""
    program = "import socket; socket.gethostbyname('no-such-service')"
    ran = town.execute("client", "python3", "-c", program)
    assert ran.code == 1
    assert b"gaierror" in ran.stderr


def test_service_maps_several_ports(town: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/services-networking/service/#multi-port-services"""
    ports = [
        {"name": "number", "port": 8001, "targetPort": 8080},
        {"name": "name", "port": 8002, "targetPort": "http"},
    ]
    town.create(service("ports", ports=ports, selector={"app": "web"}))
    wait_answer(town, "http://ports:8001/", "hello")
    wait_answer(town, "http://ports:8002/", "hello")


def test_service_without_endpoints_does_not_answer(town: Namespace) -> None:
    """https://kubernetes.io/docs/tasks/debug/debug-application/debug-service/"""
    town.create(service("empty"))
    assert town.execute("client", *fetch("http://empty/")).code != 0


def test_pod_reaches_itself_by_its_service(town: Namespace) -> None:
    """https://kubernetes.io/docs/tasks/debug/debug-application/debug-service/#a-pod-fails-to-reach-itself-via-the-service-ip"""
    wait_answer(town, "http://web/", "hello", client="server")


def test_only_ready_pods_get_traffic(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#types-of-probe"""
    ns.create(service())
    gated = http_server("gated", readinessProbe=GATED)
    ns.create(pod(http_server("open"), name="open", labels={"app": "web"}))
    ns.create(pod(gated, name="gated", labels={"app": "web"}))
    ns.create(pod(name="client"))
    for name in ("open", "client"):
        ns.wait("Pod", name, lambda p: is_true(p, "Ready"))
    wait_endpoints(ns, "open")
    wait_answer(ns, "http://web/", "open")
    assert {answer(ns, "http://web/") for _ in range(5)} == {"open"}
    assert ns.execute("gated", "touch", "/tmp/good").code == 0
    wait_endpoints(ns, "open", "gated")
    seen: set[str] = set()
    eventually(
        lambda: seen.add(answer(ns, "http://web/")) or seen == {"open", "gated"},
        "the pod that became ready never got traffic",
    )


def test_traffic_moves_to_the_new_pods_of_a_rollout(ns: Namespace) -> None:
    """https://kubernetes.io/docs/tutorials/kubernetes-basics/update/update-intro/"""
    ready = {"tcpSocket": {"port": 8080}, "periodSeconds": 1}
    ns.create(service())
    ns.create(pod(name="client"))
    ns.create(deployment(http_server("old", readinessProbe=ready)))
    ns.wait("Pod", "client", lambda p: is_true(p, "Ready"))
    wait_answer(ns, "http://web/", "old")
    new = http_server("new", readinessProbe=ready)
    ns.strategic("Deployment", "web", {"spec": {"template": {"spec": {"containers": [new]}}}})
    wait_answer(ns, "http://web/", "new")
    ns.wait_items("Pod", lambda pods: len(pods) == 1, labelSelector="app=web")
    assert {answer(ns, "http://web/") for _ in range(3)} == {"new"}


def _node_addresses(ns: Namespace) -> list[str]:
    nodes = ns.cluster.call("GET", "/api/v1/nodes").json()["items"]
    found = [a["address"] for n in nodes for a in n["status"]["addresses"]]
    return ["127.0.0.1", *dict.fromkeys(found)]


def _reaches(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=2).close()
    except OSError:
        return False
    return True


def test_node_port_answers(town: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/services-networking/service/#type-nodeport"""
    town.create(service("open", type="NodePort", selector={"app": "web"}))
    port = town.read("Service", "open")["spec"]["ports"][0]["nodePort"]
    wait_answer(town, "http://open/", "hello")
    # From this machine where it has a way to the node (the sandbox, minikube), else from a pod.
    hosts = _node_addresses(town)
    found = [host for host in hosts if _reaches(host, port)]
    if found:
        with urllib.request.urlopen(f"http://{found[0]}:{port}/", timeout=5) as page:
            assert page.read().decode().strip() == "hello"
    else:
        host_ip = town.read("Pod", "client")["status"]["hostIP"]
        wait_answer(town, f"http://{host_ip}:{port}/", "hello")


def test_node_port_can_be_chosen_once(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/services-networking/service/#nodeport-custom-port"""
    first = ns.create(service("first", type="NodePort"))
    given = first["spec"]["ports"][0]["nodePort"]
    with refused(422, "Invalid") as refusal:
        ns.create(service("second", type="NodePort", ports=[{"port": 80, "nodePort": given}]))
    assert "spec.ports[0].nodePort" in refusal.causes
    ns.delete("Service", "first")
    wish = service("second", type="NodePort", ports=[{"port": 80, "nodePort": given}])
    eventually(lambda: _created(ns, wish), f"port {given} is not free again")
    assert ns.read("Service", "second")["spec"]["ports"][0]["nodePort"] == given
    assert name_of(ns.read("Service", "second")) == "second"


def _created(ns: Namespace, wish: Object) -> Object | None:
    try:
        return ns.create(wish)
    except Refused as error:
        if "allocated" in error.message:
            return None
        raise
