"""S31 from outside: as a page in a browser, as another user of the machine, as a pod that wants too much."""

from __future__ import annotations

import http.client
import json
import ssl
import stat
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.sandbox.conftest import Sandbox

pytestmark = [pytest.mark.sandbox, pytest.mark.engine, pytest.mark.timeout(120)]


def config(sandbox: Sandbox) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(sandbox.kubeconfig.read_text())
    return found


def server(sandbox: Sandbox) -> str:
    return urlsplit(config(sandbox)["clusters"][0]["cluster"]["server"]).netloc


def token(sandbox: Sandbox) -> str:
    found: str = config(sandbox)["users"][0]["user"]["token"]
    return found


def ask(sandbox: Sandbox, path: str, **headers: str) -> tuple[int, bytes]:
    """One GET over verified TLS with exactly these headers."""
    context = ssl.create_default_context(cafile=sandbox.state / "ca.crt")
    line = http.client.HTTPSConnection(server(sandbox), context=context, timeout=20)
    try:
        line.request("GET", path, headers=headers)
        answer = line.getresponse()
        return answer.status, answer.read()
    finally:
        line.close()


def bearer(sandbox: Sandbox) -> str:
    return f"Bearer {token(sandbox)}"


@pytest.mark.parametrize("path", ["/api", "/version", "/openapi/v2", "/api/v1/secrets", "/metrics", "/"])
@pytest.mark.parametrize("authorization", [None, "Bearer wrong", "Basic YTpi", "Bearer ", "Bearer \u00e4"])
def test_s31_a_stranger_is_unauthorized(sandbox: Sandbox, path: str, authorization: str | None) -> None:
    status, body = ask(sandbox, path, **({"Authorization": authorization} if authorization else {}))
    assert status == 401
    assert json.loads(body)["reason"] == "Unauthorized"


def test_s31_only_health_is_open(sandbox: Sandbox) -> None:
    assert ask(sandbox, "/livez") == (200, b"ok")
    assert ask(sandbox, "/api", Authorization=bearer(sandbox))[0] == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.nip.io", "localhost", "127.0.0.1:1", "sandbox:443"]
)
def test_s31_a_rebound_name_is_refused_even_with_the_token(sandbox: Sandbox, host: str) -> None:
    assert ask(sandbox, "/api", Authorization=bearer(sandbox), Host=host)[0] == 403


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:3000"])
def test_s31_a_page_of_another_origin_is_refused(sandbox: Sandbox, origin: str) -> None:
    status, body = ask(sandbox, "/api", Authorization=bearer(sandbox), Origin=origin)
    assert status == 403
    assert b"Access-Control-Allow-Origin" not in body


def test_s31_plain_http_and_a_foreign_ca_get_nothing(sandbox: Sandbox) -> None:
    plain = http.client.HTTPConnection(server(sandbox), timeout=20)
    with pytest.raises((http.client.HTTPException, OSError)):
        plain.request("GET", "/livez") or plain.getresponse()
    strange = http.client.HTTPSConnection(server(sandbox), context=ssl.create_default_context(), timeout=20)
    with pytest.raises(ssl.SSLCertVerificationError):
        strange.request("GET", "/livez")
    plain.close()
    strange.close()


def test_s31_another_user_can_read_no_secret_file(sandbox: Sandbox) -> None:
    assert stat.S_IMODE(sandbox.state.stat().st_mode) == 0o700
    for name in ("kubeconfig", "token", "ca.key", "server.key", "store.db", "log"):
        assert stat.S_IMODE((sandbox.state / name).stat().st_mode) == 0o600, name


def test_s31_the_token_is_in_no_argument_environment_or_log(sandbox: Sandbox) -> None:
    pid = json.loads((sandbox.state / "pid").read_text())["pid"]
    secret = token(sandbox).encode()
    assert len(secret) >= 32
    for place in (Path(f"/proc/{pid}/cmdline"), Path(f"/proc/{pid}/environ"), sandbox.state / "log"):
        assert secret not in place.read_bytes(), place


def test_s31_it_listens_on_loopback_alone(sandbox: Sandbox) -> None:
    port = int(server(sandbox).rpartition(":")[2])
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listening = [row[1].split(":") for row in rows if row[3] == "0A"]
    assert [address for address, number in listening if int(number, 16) == port] == ["0100007F"]


POD: dict[str, Any] = {"containers": [{"name": "main", "image": "a:1"}]}


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        ({**POD, "hostNetwork": True}, "host namespaces (hostNetwork=true)"),
        ({**POD, "hostPID": True}, "host namespaces (hostPID=true)"),
        ({**POD, "hostIPC": True}, "host namespaces (hostIPC=true)"),
        (
            {"containers": [{"name": "m", "image": "a:1", "securityContext": {"privileged": True}}]},
            "privileged",
        ),
        ({**POD, "volumes": [{"name": "v", "hostPath": {"path": "/var/run/docker.sock"}}]}, "hostPath"),
        ({**POD, "volumes": [{"name": "v", "hostPath": {"path": "/run"}}]}, "hostPath"),
        ({**POD, "volumes": [{"name": "v", "hostPath": {"path": "/etc"}}]}, "hostPath"),
    ],
)
def test_s31_a_pod_that_reaches_for_the_host_is_forbidden(
    sandbox: Sandbox, namespace: str, spec: dict[str, Any], word: str
) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec}
    done = sandbox.kubectl("create", "-n", namespace, "-f", "-", stdin=json.dumps(pod), check=False)
    assert done.returncode != 0
    assert 'pods "p" is forbidden: violates PodSecurity' in done.stderr
    assert word in done.stderr


@pytest.mark.parametrize(
    ("volume", "mount", "field"),
    [
        ({"emptyDir": {}}, {"subPath": "/etc"}, "volumeMounts[0].subPath"),
        ({"emptyDir": {}}, {"subPath": "a/../../b"}, "volumeMounts[0].subPath"),
        ({"persistentVolumeClaim": {"claimName": "../../x"}}, {}, "persistentVolumeClaim.claimName"),
        (
            {"configMap": {"name": "c", "items": [{"key": "k", "path": "../x"}]}},
            {},
            "configMap.items[0].path",
        ),
        ({"secret": {"secretName": "c", "items": [{"key": "k", "path": "/x"}]}}, {}, "secret.items[0].path"),
    ],
)
def test_s31_paths_that_climb_out_of_a_volume_are_invalid(
    sandbox: Sandbox, namespace: str, volume: dict[str, Any], mount: dict[str, Any], field: str
) -> None:
    container = {"name": "m", "image": "a:1", "volumeMounts": [{"name": "v", "mountPath": "/v", **mount}]}
    spec = {"containers": [container], "volumes": [{"name": "v", **volume}]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec}
    done = sandbox.kubectl("create", "-n", namespace, "-f", "-", stdin=json.dumps(pod), check=False)
    assert done.returncode != 0
    assert field in done.stderr


def test_s31_a_link_made_in_a_volume_leads_nowhere_else(sandbox: Sandbox, namespace: str) -> None:
    """An init container plants a link in an emptyDir; the next one asks for it as a subPath."""
    shared = {"name": "v", "mountPath": "/v"}
    image = {"image": "devloop-base:bookworm", "imagePullPolicy": "Never"}
    plant = {"name": "plant", **image, "command": ["ln", "-s", "/etc", "/v/out"], "volumeMounts": [shared]}
    main = {
        "name": "main",
        **image,
        "command": ["sleep", "60"],
        "volumeMounts": [{**shared, "subPath": "out"}],
    }
    spec = {"initContainers": [plant], "containers": [main], "volumes": [{"name": "v", "emptyDir": {}}]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec}
    sandbox.kubectl("create", "-n", namespace, "-f", "-", stdin=json.dumps(pod))
    path = "{.status.containerStatuses[0].state.waiting.reason}"
    waits = ["wait", "-n", namespace, "pod/p", f"--for=jsonpath={path}=CreateContainerConfigError"]
    sandbox.kubectl(*waits, "--timeout=80s")
