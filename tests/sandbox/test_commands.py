"""`up`, `down`, `status`, kill -9, and the machine's kubectl, on a real engine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.sandbox.conftest import Sandbox

pytestmark = [pytest.mark.sandbox, pytest.mark.engine, pytest.mark.timeout(480)]

WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: devloop-base:bookworm
        command: [python3, -u, -m, http.server, "8000"]
        env: [{name: WORD, value: first}]
        ports: [{containerPort: 8000}]
        readinessProbe: {tcpSocket: {port: 8000}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8000}]}
"""


def eventually(holds: Callable[[], bool], what: str, seconds: float = 90) -> None:
    ends = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < ends, what
        time.sleep(0.05)


def pid_of(sandbox: Sandbox) -> int:
    found: int = json.loads((sandbox.state / "pid").read_text())["pid"]
    return found


def test_up_says_that_it_is_up(sandbox: Sandbox) -> None:
    again = sandbox.run("up")
    assert again.returncode == 0
    assert "was up already" in again.stdout
    assert f"export KUBECONFIG={sandbox.kubeconfig}" in again.stdout
    status = json.loads(sandbox.run("status", "--json").stdout)
    assert status["running"] is True
    assert status["context"] == f"devloop-sandbox-{sandbox.name}"
    assert status["pid"] == pid_of(sandbox)


def test_s29_kubeconfig_names_the_product(sandbox: Sandbox) -> None:
    cluster = json.loads(sandbox.kubeconfig.read_text())["clusters"][0]
    assert cluster["name"] == f"devloop-sandbox-{sandbox.name}"
    assert cluster["cluster"]["extensions"] == [
        {"name": "devloop.sandbox", "extension": {"provider": "sandbox.devloop.dev"}}
    ]


def test_up_without_an_engine_is_exit_3_with_a_hint(tmp_path: Path) -> None:
    none = Sandbox("none", tmp_path)
    done = none.run("up", "--engine", f"unix://{tmp_path}/no.sock")
    assert done.returncode == 3
    assert f"no engine answers at unix://{tmp_path}/no.sock" in done.stderr
    assert "hint:" in done.stderr


def test_up_without_the_right_to_add_addresses_is_exit_3_with_a_hint(tmp_path: Path) -> None:
    plain = Sandbox("plain", tmp_path)
    words = ["setpriv", "--bounding-set", "-net_admin", sys.executable, "-m", "devloop_sandbox.cli"]
    done = subprocess.run(
        [*words, "up", "--name", plain.name],
        env=plain.environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 3
    assert [line.split(": ")[0] for line in done.stderr.splitlines()] == ["error", "hint"]
    assert "CAP_NET_ADMIN" in done.stderr
    assert "CAP_NET_BIND_SERVICE" not in done.stderr
    assert plain.run("down").returncode == 0


def test_status_of_nothing_is_exit_1(tmp_path: Path) -> None:
    done = Sandbox("none", tmp_path).run("status", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["running"] is False


def test_a_foreign_process_is_never_ended(tmp_path: Path) -> None:
    stale = Sandbox("stale", tmp_path)
    stale.state.mkdir(parents=True)
    with subprocess.Popen(["sleep", "600"]) as bystander:
        (stale.state / "pid").write_text(json.dumps({"pid": bystander.pid, "started": 1.0}))
        done = stale.run("down")
        assert done.returncode == 0
        assert bystander.poll() is None
        bystander.kill()
    assert not stale.state.exists()


def test_kubectl_from_apply_to_delete(sandbox: Sandbox, namespace: str) -> None:
    def run(*words: str, stdin: str | None = None) -> str:
        return sandbox.kubectl("-n", namespace, *words, stdin=stdin).stdout

    assert run("apply", "-f", "-", stdin=WEB).splitlines() == [
        "deployment.apps/web created",
        "service/web created",
    ]
    assert run("diff", "-f", "-", stdin=WEB) == ""
    assert all("unchanged" in line for line in run("apply", "-f", "-", stdin=WEB).splitlines())
    assert "successfully rolled out" in run("rollout", "status", "deployment/web", "--timeout=80s")
    assert "1/1" in run("get", "pods", "-l", "app=web")
    assert "devloop-base:bookworm" in run("get", "deployment", "web", "-o", "wide")
    assert run("exec", "deployment/web", "--", "printenv", "WORD") == "first\n"
    echoed = sandbox.kubectl("-n", namespace, "exec", "-i", "deployment/web", "--", "cat", stdin="some input")
    assert echoed.stdout == "some input"
    failed = sandbox.kubectl(
        "-n", namespace, "exec", "deployment/web", "--", "sh", "-c", "exit 7", check=False
    )
    assert failed.returncode == 7
    assert "Serving HTTP" in run("logs", "deployment/web")
    run("set", "env", "deployment/web", "WORD=second")
    run("rollout", "status", "deployment/web", "--timeout=80s")
    assert "2" in run("rollout", "history", "deployment/web")
    run("rollout", "undo", "deployment/web")
    run("rollout", "status", "deployment/web", "--timeout=80s")
    assert run("exec", "deployment/web", "--", "printenv", "WORD") == "first\n"
    assert "ScalingReplicaSet" in run("describe", "deployment", "web")
    run("wait", "--for=condition=Available", "deployment/web", "--timeout=80s")
    run("delete", "deployment/web", "service/web", "--timeout=80s")
    eventually(lambda: run("get", "pods", "-o", "name") == "", "pods stay after their Deployment")


def test_exec_and_port_forward_carry_much_and_many(sandbox: Sandbox, namespace: str) -> None:
    sandbox.kubectl("-n", namespace, "apply", "-f", "-", stdin=WEB)
    sandbox.kubectl("-n", namespace, "rollout", "status", "deployment/web", "--timeout=80s")
    words = ["-n", namespace, "exec", "-i", "deployment/web", "--"]
    large = "x" * 300_000
    assert sandbox.kubectl(*words, "cat", stdin=large).stdout == large
    split = sandbox.kubectl(*words, "sh", "-c", "echo out; echo err >&2; exit 7", stdin="", check=False)
    assert (split.returncode, split.stdout) == (7, "out\n")
    assert split.stderr.startswith("err\n")
    command = ["kubectl", "--kubeconfig", str(sandbox.kubeconfig), "-n", namespace]
    with subprocess.Popen(
        [*command, "port-forward", "deployment/web", ":8000"], stdout=subprocess.PIPE, text=True
    ) as forward:
        assert forward.stdout is not None
        port = forward.stdout.readline().split("127.0.0.1:")[1].split()[0]
        get = f"print(u.urlopen('http://127.0.0.1:{port}/').status)"
        fetch = f"import urllib.request as u; [{get} for _ in '123']"
        done = subprocess.run(
            ["python3", "-c", fetch], capture_output=True, text=True, timeout=60, check=False
        )
        forward.kill()
    assert done.stdout == "200\n200\n200\n", done.stderr


def test_exec_and_port_forward_without_websocket_say_what_is_needed(
    sandbox: Sandbox, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a kubectl older than 1.31 asks: by SPDY on the bare connection."""
    monkeypatch.setenv("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "false")
    monkeypatch.setenv("KUBECTL_PORT_FORWARD_WEBSOCKETS", "false")
    sandbox.kubectl("-n", namespace, "apply", "-f", "-", stdin=WEB)
    sandbox.kubectl("-n", namespace, "rollout", "status", "deployment/web", "--timeout=80s")
    for words in (["exec", "deployment/web", "--", "true"], ["port-forward", "deployment/web", ":8000"]):
        done = sandbox.kubectl("-n", namespace, *words, check=False)
        assert "kubectl 1.31 or newer" in done.stdout + done.stderr


def test_kill_9_in_a_rollout_ends_where_it_would_have(tmp_path: Path) -> None:
    own = Sandbox(f"kill-{uuid.uuid4().hex[:8]}", tmp_path)
    up = own.run("up", "--backoff-scale", "0.1")
    try:
        assert up.returncode == 0, up.stderr
        own.kubectl("apply", "-f", "-", stdin=WEB)
        own.kubectl("rollout", "status", "deployment/web", "--timeout=180s")
        version = int(
            own.kubectl("get", "deployment", "web", "-o", "jsonpath={.metadata.resourceVersion}").stdout
        )
        own.kubectl("set", "env", "deployment/web", "WORD=second")
        os.kill(pid_of(own), signal.SIGKILL)
        eventually(lambda: own.run("status").returncode == 1, "a killed sandbox is not seen as dead")
        before = own.kubeconfig.read_text()
        assert own.run("up", "--backoff-scale", "0.1").returncode == 0
        assert own.kubeconfig.read_text() == before  # the same address, CA and token
        own.kubectl("rollout", "status", "deployment/web", "--timeout=180s")
        assert own.kubectl("exec", "deployment/web", "--", "printenv", "WORD").stdout == "second\n"
        later = int(
            own.kubectl("get", "deployment", "web", "-o", "jsonpath={.metadata.resourceVersion}").stdout
        )
        assert later > version
    finally:
        down = own.run("down")
    assert down.returncode == 0, down.stderr
    assert not own.state.exists()
    label = f"label=dev.devloop.sandbox={own.name}"
    for what in (["ps", "-aq"], ["network", "ls", "-q"]):
        left = subprocess.run(
            ["docker", *what, "--filter", label], capture_output=True, text=True, check=True
        )
        assert left.stdout == ""
