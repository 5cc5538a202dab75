"""What the sandbox costs: time from a PATCH until the new process serves, processor time, memory.

    python bench/sandbox.py [--rounds 10] [--image IMAGE] [--json]

Runs on a sandbox of its own. In each round, one after the other, so that noise hits both alike:

    bare     `create` + `start` of the image on the engine, in the network of a holder that runs already
    rollout  PATCH of a Deployment's image -> the new process listens in a new pod, and -> Ready

What the sandbox adds is the difference of the medians. Then PATCHes back to back, the processor while
four probed pods run and nothing happens, and the memory of many objects and watches.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import os
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import yaml

ROOT = Path(__file__).resolve().parents[1]
ENGINE = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://")
PORT = 8000
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
OBJECTS, WATCHES = 1000, 50
PROBED, PROBED_FOR = 4, 20.0  # pods; seconds


class UnixConnection(http.client.HTTPConnection):
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(ENGINE)


class Api:
    """One kept connection to an API that speaks JSON."""

    def __init__(self, line: http.client.HTTPConnection, headers: dict[str, str]) -> None:
        self._line, self._headers = line, headers

    def __call__(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> Any:
        self._line.request(method, path, body and json.dumps(body), {**self._headers, "Content-Type": kind})
        answer = self._line.getresponse()
        text = answer.read()
        if answer.status >= 400:
            raise RuntimeError(f"{method} {path}: {answer.status} {text.decode()}")
        return json.loads(text) if text else None


class Sandbox:
    """`devloop sandbox` with a state folder of its own."""

    def __init__(self, home: Path) -> None:
        self.name = f"bench-{os.getpid()}"
        self._environment = {**os.environ, "XDG_STATE_HOME": str(home), "PYTHONPATH": str(ROOT)}
        self._state = home / "devloop" / "sandbox" / self.name

    def run(self, verb: str) -> None:
        command = (sys.executable, "-m", "devloop_sandbox.cli", verb, "--name", self.name)
        subprocess.run(command, env=self._environment, check=True, stdout=subprocess.DEVNULL)

    @property
    def process(self) -> psutil.Process:
        return psutil.Process(json.loads((self._state / "pid").read_text())["pid"])

    def api(self) -> Api:
        config = yaml.safe_load((self._state / "kubeconfig").read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        trust = base64.b64decode(cluster["certificate-authority-data"]).decode()
        host = cluster["server"].removeprefix("https://")
        line = http.client.HTTPSConnection(host, context=ssl.create_default_context(cadata=trust))
        return Api(line, {"Authorization": f"Bearer {user['token']}"})

    def cpu(self) -> float:
        """Seconds of processor time so far."""
        times = self.process.cpu_times()
        return float(times.user + times.system)


class Pods:
    """The pods as a watch shows them."""

    def __init__(self, api: Api) -> None:
        self._api, self._pods, self._changed = api, dict[str, Any](), threading.Condition()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        line, headers = self._api._line, self._api._headers
        line.request("GET", "/api/v1/namespaces/default/pods?watch=true", headers=headers)
        with suppress(OSError, http.client.HTTPException):
            for text in line.getresponse():
                event = json.loads(text)
                with self._changed:
                    self._pods[event["object"]["metadata"]["uid"]] = event["object"]
                    if event["type"] == "DELETED":
                        del self._pods[event["object"]["metadata"]["uid"]]
                    self._changed.notify_all()

    def wait(self, test: Callable[[list[Any]], Any], seconds: float = 120) -> Any:
        """The first true value of `test` over all pods."""
        end = time.monotonic() + seconds
        with self._changed:
            while not (found := test(list(self._pods.values()))):
                if not self._changed.wait(end - time.monotonic()):
                    raise TimeoutError(
                        "pods: " + json.dumps([pod.get("status") for pod in self._pods.values()])
                    )
            return found


def is_ready(pod: Any) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def wait_for_listener(address: str, seconds: float = 60) -> float:
    """time.monotonic() of the first connection that is taken."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            with socket.create_connection((address, PORT), timeout=1):
                return time.monotonic()
        except OSError:
            time.sleep(0.002)
    raise TimeoutError(f"nobody listens on {address}:{PORT}")


def container(image: str) -> dict[str, Any]:
    program = f"import socket as s; l = s.create_server(('', {PORT}))\nwhile True: l.accept()[0].close()"
    probe = {"tcpSocket": {"port": PORT}, "periodSeconds": 1}
    command = ["python3", "-S", "-c", program]
    pull = {"imagePullPolicy": "Never", "readinessProbe": probe, "livenessProbe": probe}
    return {
        "name": "app",
        "image": image,
        "command": command,
        "resources": {"requests": {"cpu": "100m"}},
        **pull,
    }


def deployment(name: str, image: str, replicas: int = 1) -> dict[str, Any]:
    labels = {"app": name}
    pod = {"terminationGracePeriodSeconds": 0, "containers": [container(image)]}
    template = {"metadata": {"labels": labels}, "spec": pod}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    return {"metadata": {"name": name}, "spec": spec}


def patch_image(api: Api, name: str, image: str) -> None:
    change = {"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": image}
    api("PATCH", f"{DEPLOYMENTS}/{name}", [change], "application/json-patch+json")


def measure_bare(engine: Api, sandbox: str, image: str) -> float:
    """Create, start, until it listens: what the engine alone takes for the same container."""
    want = json.dumps({"label": [f"dev.devloop.sandbox={sandbox}", "dev.devloop.sandbox.type=podsandbox"]})
    holders = engine("GET", "/containers/json?filters=" + want.replace(" ", "").replace('"', "%22"))
    holder = next(one for one in holders if "_warm_" in one["Names"][0])
    (network,) = holder["NetworkSettings"]["Networks"].values()
    body = {
        "Image": image,
        "Cmd": container(image)["command"],
        "HostConfig": {"NetworkMode": f"container:{holder['Id']}", "CpuShares": 102},  # as 100m
    }
    begun = time.monotonic()
    made = engine("POST", "/containers/create", body)["Id"]
    engine("POST", f"/containers/{made}/start")
    took = wait_for_listener(network["IPAddress"]) - begun
    engine("DELETE", f"/containers/{made}?force=1")
    return took


def measure_rollout(api: Api, pods: Pods, sandbox: Sandbox, image: str) -> dict[str, float]:
    def fresh(known: list[Any]) -> Any:
        return next(
            (
                p
                for p in known
                if p["spec"]["containers"][0]["image"] == image
                and "deletionTimestamp" not in p["metadata"]
                and p.get("status", {}).get("podIP")
            ),
            None,
        )

    cpu, begun = sandbox.cpu(), time.monotonic()
    patch_image(api, "app", image)
    answered = time.monotonic() - begun
    pod = pods.wait(fresh)
    addressed = time.monotonic() - begun
    listens = wait_for_listener(pod["status"]["podIP"]) - begun
    pods.wait(lambda known: (found := fresh(known)) and is_ready(found))
    ready = time.monotonic() - begun
    pods.wait(lambda known: len(known) == 1)
    return {
        "answer": answered,
        "address": addressed,
        "listens": listens,
        "ready": ready,
        "cpu": sandbox.cpu() - cpu,
    }


def measure_rollouts(sandbox: Sandbox, images: list[str], rounds: int) -> dict[str, float]:
    api, engine = sandbox.api(), Api(UnixConnection("engine"), {})
    pods = Pods(sandbox.api())
    api("POST", DEPLOYMENTS, deployment("app", images[0]))
    pods.wait(lambda known: any(map(is_ready, known)))
    bare: list[float] = []
    rolled: list[dict[str, float]] = []
    for number in range(1, rounds + 1):
        time.sleep(2.5)  # the pool of holders is filled again: nobody saves twice a second
        bare.append(measure_bare(engine, sandbox.name, images[0]))
        rolled.append(measure_rollout(api, pods, sandbox, images[number % len(images)]))
    api("DELETE", f"{DEPLOYMENTS}/app")
    pods.wait(lambda known: not known)
    medians = {f"rollout_{key}": statistics.median(one[key] for one in rolled) for key in rolled[0]}
    return {"bare": statistics.median(bare), **medians}


def measure_patches(sandbox: Sandbox, images: list[str], count: int = 40) -> dict[str, float]:
    """PATCHes of an image without a pause, no pods behind it: the API and the controllers alone."""
    api, took = sandbox.api(), []
    api("POST", DEPLOYMENTS, deployment("patched", images[0], replicas=0))
    cpu = sandbox.cpu()
    for number in range(count):
        begun = time.monotonic()
        patch_image(api, "patched", f"patched:{number}")
        took.append(time.monotonic() - begun)
    time.sleep(1)  # what the controllers do after the answers is part of their cost
    api("DELETE", f"{DEPLOYMENTS}/patched")
    return {"patch": statistics.median(took), "patch_cpu": (sandbox.cpu() - cpu) / count}


def measure_idle(sandbox: Sandbox, image: str) -> dict[str, float]:
    """Of one core, while pods with a readiness and a liveness probe each second run."""
    api, pods = sandbox.api(), Pods(sandbox.api())
    api("POST", DEPLOYMENTS, deployment("idle", image, replicas=PROBED))
    pods.wait(lambda known: sum(map(is_ready, known)) == PROBED)
    time.sleep(5)
    cpu = sandbox.cpu()
    time.sleep(PROBED_FOR)
    share = (sandbox.cpu() - cpu) / PROBED_FOR
    api("DELETE", f"{DEPLOYMENTS}/idle")
    pods.wait(lambda known: not known)
    return {"idle": share}


def measure_memory(sandbox: Sandbox) -> dict[str, float]:
    """Bytes resident with many ConfigMaps of 1 KiB and watches that have received them all."""
    api, path = sandbox.api(), "/api/v1/namespaces/default/configmaps"
    for number in range(OBJECTS):
        api("POST", path, {"metadata": {"name": f"many-{number}"}, "data": {"text": "x" * 1024}})
    watches = [sandbox.api() for _ in range(WATCHES)]
    streams = []
    for watch in watches:
        watch._line.request("GET", path + "?watch=true", headers=watch._headers)
        stream = watch._line.getresponse()
        for _ in range(OBJECTS):
            stream.readline()
        streams.append(stream)
    found = sandbox.process.memory_info().rss
    for watch in watches:
        watch._line.close()
    return {"memory": found}


@contextmanager
def tagged(image: str, count: int) -> Iterator[list[str]]:
    """The same image under so many names: a PATCH from one to the next rolls."""
    names = [f"devloop-bench-sandbox:{number}" for number in range(count)]
    for name in names:
        subprocess.run(("docker", "tag", image, name), check=True)
    try:
        yield names
    finally:
        subprocess.run(("docker", "rmi", *names), check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--image", default="devloop-base:bookworm", help="has python3; must be there")
    parser.add_argument("--json", action="store_true", help="one JSON object, in seconds and bytes")
    given = parser.parse_args()
    found: dict[str, float] = {"load_average": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory(prefix="devloop-bench-") as home, tagged(given.image, 2) as images:
        sandbox = Sandbox(Path(home))
        sandbox.run("up")
        try:
            found |= measure_rollouts(sandbox, images, given.rounds)
            found |= measure_patches(sandbox, images)
            found |= measure_idle(sandbox, images[0])
            found |= measure_memory(sandbox)
        finally:
            sandbox.run("down")
    if given.json:
        print(json.dumps(found, indent=2))
        return
    print(f"load average                           {found['load_average']:8.1f}")
    for name, key in ROWS.items():
        print(f"{name:38} {found[key] * 1000:8.0f} ms")
    print(f"{'processor, 4 pods, 8 probes a second':38} {found['idle'] * 100:8.2f} % of a core")
    print(f"{'memory, 1,000 objects, 50 watches':38} {found['memory'] / 2**20:8.0f} MiB")


ROWS = {
    "bare create + start -> listens": "bare",
    "PATCH -> its answer": "rollout_answer",
    "PATCH -> the pod has its address": "rollout_address",
    "PATCH -> the new process listens": "rollout_listens",
    "PATCH -> Ready": "rollout_ready",
    "processor time of a whole rollout": "rollout_cpu",
    "PATCH back to back, answer": "patch",
    "PATCH back to back, processor time": "patch_cpu",
}

if __name__ == "__main__":
    main()
