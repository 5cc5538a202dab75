"""A copy of the sample as a user's project: edited on disk, run by the real command, read back over HTTP."""

from __future__ import annotations

import base64
import functools
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from devloop.config.load import project_id

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "examples" / "todo"
BASE = os.environ.get("DEVLOOP_TEST_BASE", "devloop-base:bookworm-1")
TINY = "devloop-tiny:1"  # a static busybox, for what only has to run
DEVLOOP = (sys.executable, "-m", "devloop.cli")
PATIENCE = 120.0  # seconds that a condition may take before the test says what it saw instead


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(what: str, look: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """The first true answer of `look`; AssertionError with the last thing seen after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        began = time.monotonic()
        found = look()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {seconds:.0f} s; last seen: {found!r}")
        # A dear look is taken less often: what waits must not compute.
        time.sleep(min(max(0.05, 3 * (time.monotonic() - began)), 1.0))


@functools.cache
def _access(kubeconfig: str) -> tuple[str, str, ssl.SSLContext]:
    """(server, token, TLS) of a kubeconfig's text; a sandbox that starts again may write another."""
    document = yaml.safe_load(kubeconfig)
    cluster, user = document["clusters"][0]["cluster"], document["users"][0]["user"]
    authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
    return str(cluster["server"]), str(user["token"]), ssl.create_default_context(cadata=authority)


@dataclass
class Sandbox:
    """A sandbox cluster of the test's own, driven by the command line alone."""

    name: str
    state: Path
    options: tuple[str, ...] = ()
    variables: dict[str, str] = field(default_factory=dict)  # DOCKER_HOST for an engine of the test's own

    @property
    def environ(self) -> dict[str, str]:
        return {**os.environ, "XDG_STATE_HOME": str(self.state), "NO_COLOR": "1", **self.variables}

    @property
    def kubeconfig(self) -> Path:
        return self.state / "devloop" / "sandbox" / self.name / "kubeconfig"

    @property
    def context(self) -> str:
        return "devloop-sandbox" if self.name == "default" else f"devloop-sandbox-{self.name}"

    def up(self) -> None:
        self._run("up", "--allow-host-path", str(self.state), *self.options)

    def down(self) -> None:
        self._run("down")

    def kill(self) -> int:
        """kill -9 of the process; its pid."""
        pid = self.pid()
        os.kill(pid, signal.SIGKILL)
        return pid

    def pid(self) -> int:
        return int(json.loads(self._run("status", "--json"))["pid"])

    def docker(self, *words: str, check: bool = True) -> str:
        """The docker command on the sandbox's engine."""
        done = subprocess.run(
            ("docker", *words), capture_output=True, text=True, check=False, timeout=60, env=self.environ
        )
        if check and done.returncode:
            raise AssertionError(f"docker {' '.join(words)}: {done.stderr}")
        return done.stdout

    def kubectl(self, *words: str, check: bool = True) -> str:
        done = subprocess.run(
            ("kubectl", "--kubeconfig", str(self.kubeconfig), "--context", self.context, *words),
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        if check and done.returncode:
            raise AssertionError(f"kubectl {' '.join(words)}: {done.stderr}")
        return done.stdout

    def get(self, path: str) -> dict[str, Any] | None:
        """An object or a list as the API gives it, None where there is none. For what is asked again and
        again: a kubectl costs a tenth of a second of a core each time."""
        return self.ask("GET", path)

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any] | None:
        """The API's answer, None for a 404. Raises AssertionError for every other refusal."""
        server, token, tls = _access(self.kubeconfig.read_text())
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(server + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=20, context=tls) as answer:
                found: dict[str, Any] = json.loads(answer.read())
                return found
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise AssertionError(f"{method} {path}: {error.read().decode(errors='replace')}") from error
        except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
            raise AssertionError(f"{method} {path}: {error}") from error

    def new_namespace(self, name: str) -> None:
        self.ask(
            "POST",
            "/api/v1/namespaces",
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}},
        )

    def remove_namespace(self, name: str) -> None:
        """And wait until it is gone; not for the 30 s of grace of pods that do not handle SIGTERM."""
        self.ask("DELETE", f"/api/v1/namespaces/{name}")
        pods = self.get(f"/api/v1/namespaces/{name}/pods")
        for pod in pods["items"] if pods else ():
            path = f"/api/v1/namespaces/{name}/pods/{pod['metadata']['name']}"
            self.ask("DELETE", path, {"gracePeriodSeconds": 1})
        until(f"namespace {name} is gone", lambda: not self.get(f"/api/v1/namespaces/{name}"), 60)

    def pods(self, namespace: str, label: str) -> list[dict[str, Any]]:
        """Of these labels ("app=web")."""
        found = self.get(f"/api/v1/namespaces/{namespace}/pods?labelSelector={urllib.parse.quote(label)}")
        return list(found["items"]) if found else []

    def _run(self, *words: str) -> str:
        done = subprocess.run(
            (*DEVLOOP, "sandbox", words[0], "--name", self.name, *words[1:]),
            capture_output=True, text=True, check=False, timeout=120, env=self.environ, cwd=self.state,
        )  # fmt: skip
        assert done.returncode == 0, f"devloop sandbox {' '.join(words)}: {done.stdout}\n{done.stderr}"
        return done.stdout


@dataclass
class Project:
    """The sample in a folder of its own, in a namespace of its own."""

    root: Path
    sandbox: Sandbox
    namespace: str
    node_port: int = field(default_factory=lambda: 0)
    metrics_port: int = field(default_factory=free_port)
    kubeconfig: Path | None = None  # another file for the sandbox

    def make(self) -> Project:
        shutil.copytree(
            SAMPLE, self.root, dirs_exist_ok=True, ignore=shutil.ignore_patterns("node_modules", ".next")
        )
        frontend = self.root / "k8s" / "frontend.yaml"
        frontend.write_text(re.sub(r"nodePort: \d+", f"nodePort: {self.node_port}", frontend.read_text()))
        self.config.write_text(f"""\
version: 1
cluster: {{context: {self.sandbox.context}, namespace: {self.namespace}}}
services:
  backend:
    image: todo-backend-{self.namespace}
    build: {{context: backend, args: {{BASE: "{BASE}"}}}}
    deploy: {{deployment: todo-backend}}
  frontend:
    image: todo-frontend-{self.namespace}
    build: {{context: frontend, args: {{BASE: "{BASE}", BUILD_BASE: "{BASE}"}}}}
    deploy: {{deployment: todo-frontend}}
manifests: [k8s/*.yaml]
metrics: {{listen: "127.0.0.1:{self.metrics_port}"}}
""")
        for file in (self.root / "k8s").glob("*.yaml"):
            text = file.read_text()
            for name in ("backend", "frontend"):
                text = text.replace(f"image: todo-{name}:", f"image: todo-{name}-{self.namespace}:")
            file.write_text(text)
        return self

    @property
    def config(self) -> Path:
        return self.root / "config.yaml"

    @property
    def greeting(self) -> Path:
        return self.root / "backend" / "src" / "greeting.py"

    def greet(self, text: str) -> None:
        """Edit the backend's source: what /api/version says."""
        self.greeting.write_text(f'GREETING = "{text}"\n')

    def sync_backend(self) -> None:
        """Its files are synced, for its server reloads itself now; the frontend is updated in place."""
        text = self.config.read_text()
        for name, update in (("backend", "{mode: sync, reload: none}"), ("frontend", "in-place")):
            before = f"    deploy: {{deployment: todo-{name}}}\n"
            assert before in text
            text = text.replace(before, f"{before}    update: {update}\n")
        self.config.write_text(text)
        dockerfile = self.greeting.parents[1] / "Dockerfile"
        command = '"--port", "8001"]'
        assert command in dockerfile.read_text()
        dockerfile.write_text(dockerfile.read_text().replace(command, '"--port", "8001", "--reload"]'))

    def command(self, *words: str) -> tuple[str, ...]:
        return (*DEVLOOP, *words, "--kubeconfig", str(self.kubeconfig or self.sandbox.kubeconfig))

    def devloop(self, *words: str, seconds: float = 240) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*words),
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
            cwd=self.root,
            env=self.sandbox.environ,
        )

    def once(self, *words: str) -> dict[str, Any]:
        """`devloop once --json`; its services, each with its outcome."""
        done = self.devloop("once", "--json", *words)
        try:
            services: dict[str, Any] = json.loads(done.stdout)["services"]
        except json.JSONDecodeError as error:
            raise AssertionError(
                f"once --json: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
            ) from error
        return services

    @contextmanager
    def watch(self, *words: str) -> Iterator[Watch]:
        """`devloop watch` in the background; ended by SIGINT."""
        process = subprocess.Popen(
            self.command("watch", *words),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.root,
            env=self.sandbox.environ,
        )
        watch = Watch(process, self.metrics_port)
        try:
            yield watch
        finally:
            watch.stop()

    def remove(self) -> None:
        """The namespace and the images that were built for it."""
        with suppress(AssertionError, OSError):  # the test has failed before, if the cluster does not answer
            self.sandbox.remove_namespace(self.namespace)
        self.remove_images()

    def remove_images(self) -> None:
        """What devloop built for this config.yaml; two projects may name the same image."""
        label = f"--filter=label=dev.devloop.project={project_id(self.config)}"
        listed = self.sandbox.docker("images", "--format", "{{.Repository}}:{{.Tag}}", label, check=False)
        if listed.split():
            self.sandbox.docker("rmi", "-f", *listed.split(), check=False)

    def http(self, path: str) -> str | None:
        """The body that the frontend's NodePort answers, None while it does not."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.node_port}{path}", timeout=5) as answer:
                return str(answer.read().decode())
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return None

    def served_greeting(self) -> str | None:
        body = self.http("/api/version")
        try:
            return str(json.loads(body)["greeting"]) if body else None
        except (json.JSONDecodeError, KeyError):
            return None

    def served_greeting_inside(self, deployment: str) -> str | None:
        """What the only ready pod of the Deployment answers; None while there is none, or several."""
        label = f"app.kubernetes.io/name={deployment.removeprefix('todo-')}"
        ready = [pod for pod in self.sandbox.pods(self.namespace, label) if _serves(pod)]
        return self.greeting_of(ready[0]) if len(ready) == 1 else None

    def greeting_of(self, pod: dict[str, Any]) -> str | None:
        """What this pod answers."""
        try:
            url = f"http://{pod['status']['podIP']}:8001/api/version"
            with urllib.request.urlopen(url, timeout=5) as answer:
                return str(json.loads(answer.read())["greeting"])
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return None


def _serves(pod: dict[str, Any]) -> bool:
    conditions = {c["type"]: c["status"] for c in pod["status"].get("conditions", [])}
    return conditions.get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]


@dataclass
class Watch:
    """A running `devloop watch` and what it printed."""

    process: subprocess.Popen[str]
    port: int
    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def status(self) -> dict[str, Any]:
        """/api/status, {} while it does not answer."""
        body = self._get("/api/status")
        return dict(json.loads(body)) if body else {}

    def metrics(self) -> dict[str, float]:
        """Every sample of /metrics by its line's left side."""
        samples = (
            line.rpartition(" ") for line in self._get("/metrics").splitlines() if not line.startswith("#")
        )
        return {name: float(value) for name, _, value in samples}

    def trips(self, service: str) -> list[dict[str, Any]]:
        return list(self.status().get("services", {}).get(service, {}).get("trips", []))

    def state(self, service: str = "backend") -> str:
        """What /api/status says of the service, "" while it does not answer."""
        return str(self.status().get("services", {}).get(service, {}).get("state", ""))

    def live(self, *services: str) -> bool:
        """Whether devloop says that each of these runs the tree."""
        return all(self.state(name) == "live" for name in services or ("backend", "frontend"))

    def wait(self, what: str, look: Callable[[], Any], seconds: float = PATIENCE) -> Any:
        """As `until`, and says what was printed where it fails or where devloop ended."""
        try:
            return until(what, lambda: self._alive() and look(), seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n--- output of devloop watch:\n{self.text()}") from error

    def text(self) -> str:
        return "".join(self.lines)

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        code = self.process.wait(30)
        self._reader.join(10)
        return code

    def _alive(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"devloop watch ended with {self.process.returncode}")
        return True

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(iter(self.process.stdout.readline, ""))

    def _get(self, path: str) -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return str(answer.read().decode())
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return ""
