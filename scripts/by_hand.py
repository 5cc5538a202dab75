"""What scripts/demo does by hand: `docker build`, `docker save | docker load`, a new image in it."""

from __future__ import annotations

import json
import os
import re
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

PATIENCE_S = 120.0
POLL_S = 0.02
GREETING = re.compile(r'GREETING = ".*"')
BY_HAND = "todo-by-hand"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
SERVICES = "/api/v1/namespaces/default/services"
PODS = "/api/v1/namespaces/default/pods?labelSelector=app.kubernetes.io%2Fname%3Dby-hand"


def fetch(url: str) -> Any:
    """The JSON of a page, or None while nothing answers."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return json.loads(answer.read())
    except (urllib.error.URLError, ConnectionError, TimeoutError, ValueError):
        return None


def wait(what: str, done: Callable[[], Any], began: float | None = None) -> float:
    """Seconds from `began` (now, if None) until `done()` is true."""
    begin = time.monotonic() if began is None else began
    while not done():
        if time.monotonic() - begin > PATIENCE_S:
            sys.exit(f"error: {what}: not within {PATIENCE_S:.0f} s")
        time.sleep(POLL_S)
    return time.monotonic() - begin


class Cluster:
    """The few calls of the Kubernetes API that take an image by hand into a Deployment."""

    def __init__(self, kubeconfig: Path) -> None:
        config = json.loads(kubeconfig.read_text())
        cluster = config["clusters"][0]["cluster"]
        self._server = cluster["server"]
        authority = b64decode(cluster["certificate-authority-data"]).decode()
        self._trust = ssl.create_default_context(cadata=authority)
        self._token = config["users"][0]["user"]["token"]

    def call(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> Any:
        request = urllib.request.Request(
            self._server + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self._token}", "Content-Type": kind},
        )
        with urllib.request.urlopen(request, timeout=30, context=self._trust) as answer:
            return json.loads(answer.read())

    def apply(self, item: Any) -> None:
        place = DEPLOYMENTS if item["kind"] == "Deployment" else SERVICES
        path = f"{place}/{item['metadata']['name']}?fieldManager=demo&force=true"
        self.call("PATCH", path, item, "application/apply-patch+yaml")

    def address(self, service: str) -> str:
        spec = self.call("GET", f"{SERVICES}/{service}")["spec"]
        return f"http://{spec['clusterIP']}:{spec['ports'][0]['port']}/api/version"


@dataclass
class Hand:
    """The sample rolled without devloop: its own copy of the sources, Deployment and Service."""

    cluster: Cluster
    folder: Path
    base: str
    address: str = ""

    def start(self, manifest: Path, text: str) -> float:
        """The first image and its Deployment; the time counts for nothing."""
        began = save(self.folder, text)
        self.build(0)
        for item in yaml.safe_load_all(manifest.read_text()):
            if item["kind"] in ("Deployment", "Service"):
                self.cluster.apply(renamed(item))
        self.address = self.cluster.address(BY_HAND)
        return wait("the first version by hand", lambda: self.serves(text), began)

    def edit(self, number: int, text: str) -> dict[str, float]:
        """Seconds of each step, and of all of them from the save on."""
        began = save(self.folder, text)
        self.build(number)
        built = time.monotonic()
        self.load(number)
        loaded = time.monotonic()
        self.roll(number)
        total = wait("the edit by hand", lambda: self.serves(text), began)
        build, load = built - began, loaded - built
        return {"build": build, "load": load, "roll": total - build - load, "total": total}

    def build(self, number: int) -> None:
        args = ("--build-arg", f"BASE={self.base}") if self.base else ()
        command = ("docker", "build", "-q", "-t", f"{BY_HAND}:{number}", *args, str(self.folder))
        try:
            run(*command, DOCKER_BUILDKIT="1")
        except subprocess.CalledProcessError:  # a docker command without BuildKit's plugin
            run(*command)

    def load(self, number: int) -> None:
        """As an image gets to a node with an image store of its own; here into the same engine."""
        with subprocess.Popen(("docker", "save", f"{BY_HAND}:{number}"), stdout=subprocess.PIPE) as sent:
            subprocess.run(("docker", "load", "-q"), stdin=sent.stdout, check=True, stdout=subprocess.DEVNULL)

    def roll(self, number: int) -> None:
        """What `kubectl set image` sends."""
        containers = [{"name": "backend", "image": f"{BY_HAND}:{number}"}]
        patch = {"spec": {"template": {"spec": {"containers": containers}}}}
        self.cluster.call(
            "PATCH", f"{DEPLOYMENTS}/{BY_HAND}", patch, "application/strategic-merge-patch+json"
        )

    def serves(self, text: str) -> bool:
        return bool((fetch(self.address) or {}).get("greeting") == text)

    def end(self) -> None:
        """Its objects and images go."""
        for place in (DEPLOYMENTS, SERVICES):
            try:
                self.cluster.call("DELETE", f"{place}/{BY_HAND}?propagationPolicy=Foreground")
            except urllib.error.HTTPError as error:
                if error.code != 404:
                    raise
        wait("the end of the Deployment by hand", lambda: not self.cluster.call("GET", PODS)["items"])
        images = run("docker", "images", "-q", BY_HAND).split()
        if images:
            run("docker", "rmi", "-f", *sorted(set(images)))


def run(*command: str, **environ: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **environ})
    return done.stdout


def renamed(item: Any) -> Any:
    """The sample's Deployment or Service under another name, beside the one that devloop rolls."""
    label = '"app.kubernetes.io/name": "{}"'
    text = json.dumps(item).replace(label.format("backend"), label.format("by-hand"))
    copy = json.loads(text)
    copy["metadata"]["name"] = BY_HAND
    if copy["kind"] == "Deployment":
        copy["spec"]["template"]["spec"]["containers"][0]["image"] = f"{BY_HAND}:0"
    return copy


def save(folder: Path, text: str) -> float:
    """Save as an editor does, and when (time.monotonic)."""
    file = folder / "src" / "greeting.py"
    content = GREETING.sub(f'GREETING = "{text}"', file.read_text())
    began = time.monotonic()
    file.write_text(content)
    return began
