"""Commands in a running container, over the websocket that `kubectl exec` speaks."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator

import pytest
import websocket

from tests.contract.cluster import Namespace, is_true
from tests.contract.objects import container, pod


@pytest.fixture(scope="module")
def running(namespaces: Callable[[], Namespace]) -> Iterator[Namespace]:
    """A pod `one` with the containers `main` and `side`, and a pod `single`."""
    ns = namespaces()
    ns.create(pod(container(), container("echo side > /tmp/who; sleep 3600", name="side")))
    ns.create(pod(name="single"))
    for name in ("one", "single"):
        ns.wait("Pod", name, lambda p: is_true(p, "Ready"))
    yield ns
    ns.cluster.call("DELETE", f"/api/v1/namespaces/{ns.name}")


def refusal_of(ns: Namespace, pod_name: str, **params: str) -> int:
    """The status code with which the handshake was refused."""
    with pytest.raises(websocket.WebSocketBadStatusException) as caught:
        ns.execute(pod_name, "true", **params)
    return int(caught.value.status_code)


def test_output(running: Namespace) -> None:
    """https://kubernetes.io/docs/tasks/debug/debug-application/get-shell-running-container/"""
    ran = running.execute("single", "echo", "hello world")
    assert ran.stdout == b"hello world\n"
    assert ran.stderr == b""
    assert ran.code == 0


def test_errors_come_apart_from_output(running: Namespace) -> None:
    """https://kubernetes.io/docs/tasks/debug/debug-application/get-shell-running-container/"""
    ran = running.execute("single", "sh", "-c", "echo out; echo err >&2")
    assert (ran.stdout, ran.stderr) == (b"out\n", b"err\n")


def test_exit_code(running: Namespace) -> None:
    """https://kubernetes.io/docs/reference/kubectl/generated/kubectl_exec/"""
    ran = running.execute("single", "sh", "-c", "exit 7")
    assert ran.code == 7
    assert ran.status["status"] == "Failure"
    assert ran.status["reason"] == "NonZeroExitCode"


def test_arguments_are_not_interpreted(running: Namespace) -> None:
    """https://kubernetes.io/docs/reference/kubectl/generated/kubectl_exec/"""
    ran = running.execute("single", "printf", "%s|", "a b", "$HOME", "*", "")
    assert ran.stdout == b"a b|$HOME|*||"


def test_input_until_it_is_closed(running: Namespace) -> None:
    """https://kubernetes.io/blog/2024/08/20/websockets-transition/"""
    assert running.execute("single", "cat", stdin=b"hello").stdout == b"hello"
    assert running.execute("single", "cat", stdin=b"").stdout == b""


def test_a_mebibyte_passes_unchanged(running: Namespace) -> None:
    """https://kubernetes.io/blog/2024/08/20/websockets-transition/"""
    data = os.urandom(1 << 20)
    ran = running.execute("single", "sha256sum", stdin=data)
    assert ran.stdout.split()[0].decode() == hashlib.sha256(data).hexdigest()
    many = running.execute("single", "head", "-c", "1048576", "/dev/zero")
    assert many.stdout == bytes(1 << 20)


def test_files_go_in_as_an_archive(running: Namespace) -> None:
    """https://kubernetes.io/docs/reference/kubectl/generated/kubectl_cp/"""
    script = "mkdir -p /tmp/in && cat > /tmp/in/file && cat /tmp/in/file"
    assert running.execute("single", "sh", "-c", script, stdin=b"content").stdout == b"content"


def test_container_is_chosen_by_name(running: Namespace) -> None:
    """https://kubernetes.io/docs/tasks/debug/debug-application/get-shell-running-container/#opening-a-shell-when-a-pod-has-more-than-one-container"""
    assert running.execute("one", "cat", "/tmp/who", container="side").stdout == b"side\n"
    assert running.execute("one", "test", "-e", "/tmp/who", container="main").code == 1


def test_missing_pod_or_container_is_refused(running: Namespace) -> None:
    """https://kubernetes.io/docs/reference/kubectl/generated/kubectl_exec/"""
    assert refusal_of(running, "nowhere") == 404
    assert refusal_of(running, "single", container="nowhere") == 400


def test_command_that_does_not_exist_is_an_error(running: Namespace) -> None:
    """https://kubernetes.io/docs/reference/kubectl/generated/kubectl_exec/"""
    ran = running.execute("single", "/no/such/command")
    assert ran.status["status"] == "Failure"


def test_terminal(running: Namespace) -> None:
    """https://kubernetes.io/docs/reference/kubectl/generated/kubectl_exec/"""
    ran = running.execute("single", "sh", "-c", "test -t 1 && echo terminal", tty=True)
    assert ran.stdout == b"terminal\r\n"
