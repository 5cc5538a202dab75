"""Node, controllers and network over the real engine: what the contract suite cannot see from outside."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from devloop_sandbox.cleanup import clean_engine
from devloop_sandbox.engine.bridge import LABEL
from devloop_sandbox.engine.client import Engine
from devloop_sandbox.engine.holders import SPARE
from devloop_sandbox.objects.errors import ApiError
from tests.support.sandbox_parts import IMAGE, Parts, container, is_ready, pod_spec, running, state

pytestmark = [pytest.mark.engine, pytest.mark.timeout(180)]

WEB = "import http.server as h; h.test(h.SimpleHTTPRequestHandler, port=8001, bind='0.0.0.0')"


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def cluster(anyio_backend: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Parts]:
    async with running(tmp_path_factory.mktemp("sandbox")) as parts:
        yield parts


def _events(cluster: Parts, name: str) -> dict[str, str]:
    """reason -> message"""
    found = [one for one in cluster.store.list("events") if one["involvedObject"]["name"] == name]
    return {one["reason"]: one["message"] for one in found}


async def _get(url: str) -> tuple[int, str]:
    """(curl's exit code, body): 52 and 56 are a connection that was reset."""
    curl = await asyncio.create_subprocess_exec(
        "curl", "-sS", "-m", "5", url, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    body, _ = await curl.communicate()
    return curl.returncode or 0, body.decode()


async def test_program_sees_the_pods_name_from_its_first_instruction(cluster: Parts) -> None:
    """A warm holder has another name; the pod's must be there before the program is."""
    for number in range(5):
        name = f"named-{number}"
        cluster.create("pods", name, pod_spec(container("hostname; cat /etc/hostname; sleep 3600")))
        pod = await cluster.pod(name, is_ready)
        log = ""
        while log.count("\n") < 2:
            log = await cluster.log(pod)
        assert log.split() == [name, name]
        cluster.store.delete("pods", "default", name, grace=0)


async def test_oom_kill_is_reported_though_the_engine_missed_it(cluster: Parts) -> None:
    greedy = ["python3", "-c", "x = b'x' * (256 << 20)"]
    main = {"name": "main", "image": IMAGE, "command": greedy, "resources": {"limits": {"memory": "32Mi"}}}
    cluster.create("pods", "greedy", pod_spec(main, restartPolicy="Never"))
    pod = await cluster.pod("greedy", lambda p: p["status"]["phase"] == "Failed")
    assert state(pod)["terminated"]["reason"] == "OOMKilled"
    assert state(pod)["terminated"]["exitCode"] == 137


async def test_crash_loop_backs_off_and_keeps_the_last_dead_container(cluster: Parts) -> None:
    cluster.create("pods", "crashing", pod_spec(container('echo "try $(date +%s%N)"; exit 3')))

    def third(pod: dict[str, Any]) -> bool:
        return bool(
            pod["status"].get("containerStatuses", [{}])[0].get("restartCount", 0) >= 2
            and "CrashLoopBackOff" in str(state(pod))
        )

    pod = await cluster.pod("crashing", third)
    status = pod["status"]["containerStatuses"][0]
    assert status["lastState"]["terminated"]["exitCode"] == 3
    uid = pod["metadata"]["uid"]
    seconds = {"2": "20s", "3": "40s", "4": "1m20s"}[str(status["restartCount"])]
    text = f"back-off {seconds} restarting failed container=main pod=crashing_default({uid})"
    assert state(pod)["waiting"]["message"] == text
    assert _events(cluster, "crashing")["BackOff"].startswith("Back-off restarting failed container main")
    async with Engine(cluster.options.engine) as engine:
        kept = await engine.containers(f"io.kubernetes.pod.uid={uid}")
    assert len(kept) == 2
    assert (await cluster.log(pod, previous=True)).startswith("try ")
    cluster.store.delete("pods", "default", "crashing", grace=0)


async def test_changed_config_map_reaches_the_running_pod(cluster: Parts) -> None:
    cluster.store.create(
        "configmaps", {"metadata": {"name": "conf", "namespace": "default"}, "data": {"a": "1"}}
    )
    volume = {"name": "conf", "configMap": {"name": "conf"}}
    main = container(volumeMounts=[{"name": "conf", "mountPath": "/etc/conf"}])
    cluster.create(
        "pods", "configured", pod_spec(main, volumes=[volume], securityContext={"runAsUser": 1001})
    )
    pod = await cluster.pod("configured", is_ready)
    assert await cluster.run(pod, "cat", "/etc/conf/a") == (0, "1")

    def change(config: dict[str, Any]) -> None:
        config["data"] = {"a": "2", "b": "3"}

    cluster.store.mutate("configmaps", "default", "conf", change)
    while await cluster.run(pod, "cat", "/etc/conf/a", "/etc/conf/b") != (0, "23"):
        pass
    code, _ = await cluster.run(pod, "sh", "-c", "echo x > /etc/conf/a")
    assert code != 0  # it is read-only
    cluster.store.delete("pods", "default", "configured", grace=0)


async def test_service_is_reached_by_name_address_and_node_port(cluster: Parts) -> None:
    labels = {"app": "web"}
    probe = {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1}
    main = {
        "name": "main",
        "image": IMAGE,
        "command": ["python3", "-c", WEB],
        "workingDir": "/etc",
        "ports": [{"name": "http", "containerPort": 8001}],
        "readinessProbe": probe,
    }
    ports = [{"name": "web", "port": 80, "targetPort": "http"}]
    service = cluster.create("services", "web", {"type": "NodePort", "selector": labels, "ports": ports})
    node_port, address = service["spec"]["ports"][0]["nodePort"], service["spec"]["clusterIP"]

    async def refused() -> bool:
        code, _ = await _get(f"http://127.0.0.1:{node_port}/hostname")
        return code in (52, 56)

    while not await refused():  # listening, but nobody stands behind it
        pass
    cluster.create("pods", "server", pod_spec(main), metadata={"labels": labels})
    cluster.create("pods", "client", pod_spec())
    client = await cluster.pod("client", is_ready)
    await cluster.pod("server", is_ready)
    assert await _get(f"http://127.0.0.1:{node_port}/hostname") == (0, "server\n")
    assert await _get(f"http://{address}/hostname") == (0, "server\n")
    fetch = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1]).read().decode(), end='')"
    for name in ("web", "web.default", "web.default.svc", "web.default.svc.cluster.local"):
        got = await cluster.run(client, "python3", "-c", fetch, f"http://{name}/hostname")
        assert got == (0, "server\n"), name
    cluster.store.delete("pods", "default", "server")
    while not await refused():
        pass
    cluster.store.delete("services", "default", "web")

    async def nobody_listens() -> bool:
        return (await _get(f"http://127.0.0.1:{node_port}/"))[0] == 7

    while not await nobody_listens():
        pass
    assert address not in Path(cluster.options.state_dir / "addresses").read_text()
    cluster.store.delete("pods", "default", "client", grace=0)


async def test_port_forward_reaches_what_listens_on_the_pods_loopback_only(cluster: Parts) -> None:
    script = "echo up; python3 -m http.server 9000 --bind 127.0.0.1 --directory /etc"
    cluster.create("pods", "private", pod_spec(container(script)))
    pod = await cluster.pod("private", is_ready)
    while True:
        try:
            reader, writer = await cluster.node.port_forward(pod, 9000)
            break
        except ApiError:
            continue
    writer.write(b"GET /hostname HTTP/1.0\r\n\r\n")
    assert (await reader.read()).endswith(b"private\n")
    writer.close()
    cluster.store.delete("pods", "default", "private", grace=0)


async def test_dead_holder_brings_the_pod_up_again(cluster: Parts) -> None:
    cluster.create("pods", "homeless", pod_spec())
    pod = await cluster.pod("homeless", is_ready)
    async with Engine(cluster.options.engine) as engine:
        holder = cluster.node.holder(pod)
        assert holder is not None
        await engine.remove(holder.container)
    again = await cluster.pod(
        "homeless", lambda p: is_ready(p) and p["status"]["containerStatuses"][0]["restartCount"] == 1
    )
    assert again["metadata"]["uid"] == pod["metadata"]["uid"]
    assert "SandboxChanged" in _events(cluster, "homeless")
    assert (await cluster.run(again, "hostname"))[1] == "homeless\n"
    cluster.store.delete("pods", "default", "homeless", grace=0)


async def test_pod_that_asks_for_too_much_stays_pending_until_it_fits(cluster: Parts) -> None:
    huge = container(resources={"requests": {"memory": "4Ti"}})
    cluster.create("pods", "huge", pod_spec(huge))
    pod = await cluster.pod("huge", lambda p: p["status"].get("conditions"))
    (scheduled,) = pod["status"]["conditions"]
    assert (scheduled["status"], scheduled["reason"]) == ("False", "Unschedulable")
    assert scheduled["message"].startswith("0/1 nodes are available: 1 Insufficient memory")
    assert "FailedScheduling" in _events(cluster, "huge")
    cluster.store.delete("pods", "default", "huge", grace=0)
    assert cluster.store.find("pods", "default", "huge") is None


async def test_a_warm_holder_that_has_gone_unseen_is_replaced(cluster: Parts) -> None:
    cluster.create("pods", "first", pod_spec())
    first = await cluster.pod("first", is_ready)
    taken = cluster.node.holder(first)
    assert taken is not None
    cluster.store.delete("pods", "default", "first", grace=0)
    await cluster.until(lambda: cluster.store.find("pods", "default", "first") is None)
    cluster.node.parts.pool.adopt(taken)  # the engine has none of that name any more
    for number in range(SPARE + 1):
        cluster.create("pods", f"next-{number}", pod_spec())
    for number in range(SPARE + 1):
        await cluster.pod(f"next-{number}", is_ready)
        cluster.store.delete("pods", "default", f"next-{number}", grace=0)


async def _container_names(cluster: Parts) -> list[str]:
    """A container that the engine is removing at this moment has no name any more."""
    async with Engine(cluster.options.engine) as engine:
        found = await engine.containers(f"{LABEL}={cluster.options.project}")
    return [name for entry in found for name in entry["Names"] or ()]


async def test_warm_holders_are_refilled_and_no_more_than_that(cluster: Parts) -> None:
    async def warm() -> int:
        return sum("k8s_POD_warm_" in name for name in await _container_names(cluster))

    cluster.create("pods", "taker", pod_spec())
    await cluster.pod("taker", is_ready)
    while await warm() != SPARE:
        pass
    cluster.store.delete("pods", "default", "taker", grace=0)


async def test_pods_deleted_while_they_start_leave_no_container(cluster: Parts) -> None:
    async def strangers() -> list[str]:
        return [name for name in await _container_names(cluster) if "_fleeting-" in name]

    for number in range(12):
        name = f"fleeting-{number}"
        cluster.create("pods", name, pod_spec())
        await cluster.until(
            lambda name=name: cluster.store.get("pods", "default", name)["spec"].get("nodeName")
        )
        for _ in range(number * 40):  # another point of its start each time
            await asyncio.sleep(0)
        cluster.store.delete("pods", "default", name, grace=0)
    while await strangers():
        pass


async def test_killed_in_mid_rollout_it_ends_where_it_would_have(tmp_path: Path) -> None:
    """Issue B: the containers that run are taken over, not started again."""
    parts = Parts(tmp_path)
    await parts.start()
    try:
        labels = {"app": "a"}
        probe = {"exec": {"command": ["test", "-e", "/tmp/go"]}, "periodSeconds": 1}
        template = {"metadata": {"labels": labels}, "spec": pod_spec(container("touch /tmp/go; sleep 3600"))}
        template["spec"]["containers"][0]["readinessProbe"] = probe
        spec = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
        parts.create("deployments", "a", spec)

        def deployed(generation: int) -> bool:
            status = parts.store.get("deployments", "default", "a").get("status", {})
            counts = [status.get(f"{name}eplicas") for name in ("r", "updatedR", "availableR")]
            return counts == [2, 2, 2] and status["observedGeneration"] == generation

        await parts.until(lambda: deployed(1))
        first = {pod["metadata"]["uid"]: state(pod) for pod in parts.store.list("pods")}
        await parts.crash()
        await parts.start()
        await parts.until(lambda: parts.store.list("nodes"))
        await parts.until(lambda: deployed(1))
        assert {pod["metadata"]["uid"]: state(pod) for pod in parts.store.list("pods")} == first

        def change(deployment: dict[str, Any]) -> None:
            env = [{"name": "V", "value": "2"}]
            deployment["spec"]["template"]["spec"]["containers"][0]["env"] = env

        parts.store.mutate("deployments", "default", "a", change)
        await parts.until(lambda: len(parts.store.list("pods")) == 3)
        await parts.crash()
        await parts.start()
        await parts.until(lambda: deployed(2))
        await parts.until(lambda: len(parts.store.list("pods")) == 2)
        assert not first.keys() & {pod["metadata"]["uid"] for pod in parts.store.list("pods")}
        async with Engine(parts.options.engine) as engine:
            found = await engine.containers(f"{LABEL}={parts.options.project}")
        held = {entry["Labels"].get("io.kubernetes.pod.uid") for entry in found} - {None}
        assert held == {pod["metadata"]["uid"] for pod in parts.store.list("pods")}
    finally:
        await parts.crash()
        await clean_engine(parts.options)


async def test_image_that_changed_just_before_a_kill_is_started_after_it(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    await parts.start()
    try:
        parts.create("pods", "one", pod_spec())
        before = (await parts.pod("one", is_ready))["status"]["containerStatuses"][0]

        def change(pod: dict[str, Any]) -> None:
            pod["spec"]["containers"][0]["image"] = f"docker.io/library/{IMAGE}"

        parts.store.mutate("pods", "default", "one", change)  # the node has not had its turn yet
        await parts.crash()
        await parts.start()
        pod = await parts.pod("one", lambda p: p["status"]["containerStatuses"][0]["restartCount"] == 1)
        status = pod["status"]["containerStatuses"][0]
        assert status["image"] == f"docker.io/library/{IMAGE}"
        assert status["lastState"]["terminated"]["containerID"] == before["containerID"]
    finally:
        await parts.crash()
        await clean_engine(parts.options)


async def test_cleanup_leaves_nothing_behind_even_after_a_kill(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    await parts.start()
    parts.create("pods", "one", pod_spec())
    service = parts.create("services", "s", {"selector": {"a": "b"}, "ports": [{"port": 80}]})
    await parts.pod("one", is_ready)
    address = service["spec"]["clusterIP"]
    here = ["ip", "-o", "addr", "show", "dev", "lo", "to", address]
    await parts.until(lambda: subprocess.run(here, capture_output=True, check=True).stdout)
    await parts.crash()
    await clean_engine(parts.options)
    assert not subprocess.run(here, capture_output=True, check=True).stdout
    async with Engine(parts.options.engine) as engine:
        assert await engine.containers(f"{LABEL}={parts.options.project}") == []
        networks = await engine.call("GET", "/networks")
    assert f"devloop-sandbox-{parts.options.project}" not in {one["Name"] for one in networks}
    assert not (tmp_path / "pods").exists()


async def test_stopped_while_it_makes_holders_the_network_can_be_removed(tmp_path: Path) -> None:
    """An engine whose start of a container is cut off counts an endpoint that is not there."""
    parts = Parts(tmp_path)
    await parts.start()
    async with Engine(parts.options.engine) as engine:
        while not await engine.containers(f"{LABEL}={parts.options.project}"):
            pass
        await parts.crash()
        await clean_engine(parts.options)
        assert await engine.containers(f"{LABEL}={parts.options.project}") == []
