"""What the benchmarks measure with: build contexts, Deployments, and the moment a version is served."""

from __future__ import annotations

import base64
import hashlib
import http.client
import io
import json
import os
import socket
import ssl
import subprocess
import tarfile
import tempfile
import threading
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.support.sample_project import BASE, Sandbox

SERVER = """
import signal, socket, sys
{handler}
from version import VERSION
with socket.create_server(("", 8000)) as server:
    while True:
        peer, _ = server.accept()
        with peer:
            peer.recv(1024)
            body = VERSION.encode()
            peer.sendall(b"HTTP/1.0 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body) + body)
"""
DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: 1
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: app
        image: {image}
        imagePullPolicy: Never
        readinessProbe: {{tcpSocket: {{port: 8000}}, periodSeconds: 1}}
"""
COPY_LAST = (
    f'ARG BASE={BASE}\nFROM ${{BASE}}\nWORKDIR /app\nCMD ["python3", "-u", "server.py"]\nCOPY . /app\n'
)
RUN_LAST = COPY_LAST + "RUN python3 -m compileall -q server.py version.py\n"


@dataclass(frozen=True)
class Scenario:
    """A build context: how many files besides the program, of how many bytes, below which Dockerfile."""

    files: int
    size: int
    dockerfile: str


SCENARIOS = {
    "small": Scenario(3, 1_000, COPY_LAST),
    "large": Scenario(5_000, 20_000, COPY_LAST),
    "run-after-copy": Scenario(5_000, 2_000, RUN_LAST),
}


class OwnSandbox(Sandbox):
    """A sandbox of the benchmark's own: its nodes share the engine, so every image is there."""

    namespace = "default"

    def take(self, image: str) -> None:
        """Nothing to do."""


class Given:
    """The cluster of a kubeconfig's current context; the benchmark makes a namespace of its own there.

    `load`: a shell command that brings `{image}` from the engine to the nodes, "" where they share it.
    """

    def __init__(self, kubeconfig: Path, load: str, state: Path) -> None:
        self.kubeconfig, self.state, self._load = kubeconfig, state, load
        self.context = str(yaml.safe_load(kubeconfig.read_text())["current-context"])
        self.namespace = f"devloop-bench-{os.getpid()}"
        self.environ = {**os.environ, "XDG_STATE_HOME": str(state), "NO_COLOR": "1"}

    def up(self) -> None:
        self.kubectl("create", "namespace", self.namespace)

    def down(self) -> None:
        self.kubectl("delete", "namespace", self.namespace)

    def take(self, image: str) -> None:
        if self._load:
            subprocess.run(self._load.format(image=image), shell=True, check=True, capture_output=True)

    def kubectl(self, *words: str) -> str:
        done = subprocess.run(
            ("kubectl", "--kubeconfig", str(self.kubeconfig), "-n", self.namespace, *words),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise OSError(f"kubectl {' '.join(words)}: {done.stderr}")
        return done.stdout


Cluster = OwnSandbox | Given


class Pods:
    """Pod addresses by label as the API's watch tells them, and the moment a version is served.

    The addresses must be reachable from here.
    """

    def __init__(self, kubeconfig: Path, namespace: str = "default") -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        named = {
            kind: {one["name"]: one for one in config[kind]} for kind in ("contexts", "clusters", "users")
        }
        context = named["contexts"][config["current-context"]]["context"]
        cluster, user = named["clusters"][context["cluster"]], named["users"][context["user"]]
        self._server, self._namespace = cluster["cluster"]["server"], namespace
        self._tls, self._token = _access(cluster["cluster"], user["user"])
        self._addresses: dict[str, dict[str, str]] = {}
        threading.Thread(target=self._watch, daemon=True).start()

    def patch_image(self, deployment: str, image: str) -> None:
        """The smallest PATCH that rolls: what the cluster's own floor is measured from."""
        body = json.dumps(
            [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": image}]
        )
        path = f"/apis/apps/v1/namespaces/{self._namespace}/deployments/{deployment}"
        with self._open(path, body.encode(), "PATCH") as answer:
            answer.read()

    def addresses(self, app: str) -> list[str]:
        """Of the app's pods that are not on their way out."""
        return list(self._addresses.get(app, {}).values())

    def serving(self, app: str, version: str, seconds: float = 120) -> float:
        """time.monotonic() of the first answer of `version` from a pod of `app`."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for address in reversed(self.addresses(app)):
                try:
                    with urllib.request.urlopen(f"http://{address}:8000", timeout=1) as answer:
                        if answer.read().decode() == version:
                            return time.monotonic()
                except OSError:
                    pass
            time.sleep(0.004)
        raise TimeoutError(f"{app} does not serve {version}")

    def _open(self, path: str, body: bytes | None = None, method: str = "GET"):  # type: ignore[no-untyped-def]
        request = urllib.request.Request(self._server + path, body, method=method)
        if self._token:
            request.add_header("Authorization", f"Bearer {self._token}")
        if body:
            request.add_header("Content-Type", "application/json-patch+json")
        return urllib.request.urlopen(request, context=self._tls)

    def _watch(self) -> None:
        with self._open(f"/api/v1/namespaces/{self._namespace}/pods?watch=true") as stream:
            for line in stream:
                event = json.loads(line)
                pod = event["object"]
                app, uid = pod["metadata"].get("labels", {}).get("app"), pod["metadata"]["uid"]
                addresses = self._addresses.setdefault(app, {})
                if event["type"] == "DELETED" or pod["metadata"].get("deletionTimestamp"):
                    addresses.pop(uid, None)
                elif pod.get("status", {}).get("podIP"):
                    addresses[uid] = pod["status"]["podIP"]


def _access(cluster: dict[str, str], user: dict[str, str]) -> tuple[ssl.SSLContext, str]:
    """By which TLS and token a kubeconfig's cluster is spoken to."""

    def content(entry: dict[str, str], key: str) -> str:
        if f"{key}-data" in entry:
            return base64.b64decode(entry[f"{key}-data"]).decode()
        return Path(entry[key]).read_text() if key in entry else ""

    tls = ssl.create_default_context(cadata=content(cluster, "certificate-authority"))
    if certificate := content(user, "client-certificate"):
        with tempfile.NamedTemporaryFile("w") as file:  # the ssl module takes none from memory
            file.write(f"{certificate}\n{content(user, 'client-key')}")
            file.flush()
            tls.load_cert_chain(file.name)
    return tls, user.get("token", "")


def write_context(folder: Path, scenario: Scenario) -> None:
    folder.mkdir(parents=True)
    (folder / "server.py").write_text(SERVER.format(handler=""))
    (folder / "version.py").write_text('VERSION = "start"\n')
    (folder / "Dockerfile").write_text(scenario.dockerfile)
    for number in range(scenario.files):
        file = folder / "data" / f"{number // 100:03}" / f"{number:05}.bin"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(os.urandom(scenario.size))


def edit(context: Path, version: str) -> float:
    """Save as an editor does, and when (time.monotonic)."""
    begun = time.monotonic()
    (context / "version.py").write_text(f'VERSION = "{version}"\n')
    return begun


def docker(*words: str) -> str:
    buildkit = "/usr/bin/docker" if Path("/usr/bin/docker").exists() else "docker"
    done = subprocess.run(
        (buildkit, *words),
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "DOCKER_BUILDKIT": "1"},
    )
    return done.stdout


def remove_images(reference: str) -> None:
    """Those whose repositories match, "bench-*"."""
    found = docker("images", "--format", "{{.Repository}}:{{.Tag}}", "--filter", f"reference={reference}")
    for image in found.split():
        subprocess.run(("docker", "rmi", "-f", image), capture_output=True, check=False)


def apply(cluster: Cluster, name: str, image: str) -> None:
    file = cluster.state / f"{name}.yaml"
    file.write_text(DEPLOYMENT.format(name=name, image=image))
    cluster.kubectl("apply", "-f", str(file))


class ThinLoad:
    """The engine's own part of a delta: POST /images/load of one changed file on an image that it has.

    Nothing of devloop: a Docker archive without the known layers, as small as it can be.
    """

    def __init__(self, parent: str) -> None:
        self._socket = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://")
        self._layers: list[str] = json.loads(self._call("GET", f"/images/{parent}/json"))["RootFS"]["Layers"]

    def measure(self, number: int) -> float:
        """Seconds from the first byte to the engine's answer. The image is removed again."""
        layer = _tar({"app/version.py": f'VERSION = "{os.urandom(8).hex()}"\n'.encode()})
        added = "sha256:" + hashlib.sha256(layer).hexdigest()
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [*self._layers, added]},
        }
        tag = f"bench-thin:{number}"
        names = [*("known" for _ in self._layers), "layer.tar"]
        manifest = [{"Config": "config.json", "RepoTags": [tag], "Layers": names}]
        archive = _tar(
            {
                "config.json": json.dumps(config).encode(),
                "layer.tar": layer,
                "manifest.json": json.dumps(manifest).encode(),
            }
        )
        begun = time.monotonic()
        reply = self._call("POST", "/images/load?quiet=1", archive)
        took = time.monotonic() - begun
        if b"error" in reply:
            raise OSError(reply.decode())
        self._call("DELETE", f"/images/{tag}")
        return took

    def _call(self, method: str, path: str, body: bytes | None = None) -> bytes:
        line = http.client.HTTPConnection("engine")
        line.sock = socket.socket(socket.AF_UNIX)
        line.sock.connect(self._socket)
        try:
            line.request(method, path, body, {"Content-Type": "application/x-tar"} if body else {})
            answer = line.getresponse()
            reply = answer.read()
            if answer.status >= 400:
                raise OSError(f"{method} {path}: {reply.decode()}")
            return reply
        finally:
            line.close()


def _tar(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
