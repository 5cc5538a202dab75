from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from devloop import scratch
from devloop.adapters.kubernetes.api.access import open_access
from devloop.adapters.kubernetes.api.kubeconfig import find_files, read_context
from devloop.errors import ConfigError, DevloopError, PlatformError
from tests.support.faulty_proxy import make_cert


def config(
    name: str = "minikube", server: str = "https://192.168.49.2:8443", **user: object
) -> dict[str, object]:
    mark = {"name": "cluster_info", "extension": {"provider": "minikube.sigs.k8s.io"}}
    return {
        "clusters": [{"name": name, "cluster": {"server": server, "extensions": [mark]}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": "dev"}}],
        "users": [{"name": name, "user": user}],
        "current-context": "somewhere-else",
    }


def write(path: Path, *documents: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump_all(documents))
    return path


def test_files_are_those_of_the_option_the_environment_or_the_home() -> None:
    assert find_files("/a/config", {"KUBECONFIG": "/b"}) == (Path("/a/config"),)
    assert find_files(None, {"KUBECONFIG": "/b:/c:"}) == (Path("/b"), Path("/c"))
    assert find_files(None, {}) == (Path("~/.kube/config").expanduser(),)


def test_s29_the_named_context_is_read_and_current_context_is_not(tmp_path: Path) -> None:
    context = read_context([write(tmp_path / "a", config())], "minikube")
    assert (context.name, context.server, context.namespace) == (
        "minikube",
        "https://192.168.49.2:8443",
        "dev",
    )


def test_several_files_are_merged_and_the_first_entry_wins(tmp_path: Path) -> None:
    files = [
        write(tmp_path / "a", config("minikube", "https://10.0.0.1")),
        tmp_path / "missing",
        write(tmp_path / "b", config("minikube", "https://10.0.0.2")),
        write(tmp_path / "c", config("kind-x", "https://127.0.0.1:1")),
    ]
    assert read_context(files, "minikube").server == "https://10.0.0.1"
    assert read_context(files, "kind-x").server == "https://127.0.0.1:1"


def test_relative_paths_are_relative_to_their_file(tmp_path: Path) -> None:
    document = config(**{"client-certificate": "certs/me.crt", "client-key": "/abs/me.key"})
    context = read_context([write(tmp_path / "sub" / "a", document)], "minikube")
    assert context.user["client-certificate"] == str(tmp_path / "sub" / "certs" / "me.crt")
    assert context.user["client-key"] == "/abs/me.key"


def test_a_missing_context_lists_those_that_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read_context([write(tmp_path / "a", config("kind-x"))], "minikube")
    assert "contexts there: kind-x" in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    "text, expected",
    [
        ("a: [1", ":2: "),
        ("- 1", "a mapping is expected"),
        ("clusters: [{}]", "every entry of clusters needs a name"),
        ("contexts: [{name: minikube, context: {cluster: gone}}]", "names cluster 'gone'"),
        ("", "contexts there: none"),
        (None, "does not exist"),
    ],
)
def test_a_broken_kubeconfig_is_an_error_that_names_the_file(
    tmp_path: Path, text: str | None, expected: str
) -> None:
    path = tmp_path / "config"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_context([path], "minikube")
    assert expected in caught.value.message
    assert str(path) in caught.value.message


async def test_client_certificates_are_used_and_their_key_is_not_left_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr(scratch, "_own", scratch._Own())  # a folder of its own, in that TMPDIR
    crt, key = make_cert(tmp_path)
    document = config(
        **{
            "client-certificate-data": base64.b64encode(crt.read_bytes()).decode(),
            "client-key-data": base64.b64encode(key.read_bytes()).decode(),
        }
    )
    access = await open_access([write(tmp_path / "a", document)], "minikube", allow_remote=False)
    assert access.tls is not None
    assert [path.name for path in (tmp_path / "tmp").rglob("*") if path.is_file()] == [scratch.LOCK]


@pytest.mark.parametrize(
    "user, header",
    [
        ({"token": "abc"}, "Bearer abc"),
        ({"username": "me", "password": "x"}, "Basic " + base64.b64encode(b"me:x").decode()),
        ({}, None),
    ],
)
async def test_tokens_and_passwords_become_the_header(
    tmp_path: Path, user: dict[str, object], header: str | None
) -> None:
    access = await open_access([write(tmp_path / "a", config(**user))], "minikube", allow_remote=False)
    assert access.headers.get("Authorization") == header
    assert "abc" not in repr(access.headers) or header  # s30: the header is there, and only there


async def test_a_token_file_is_read_each_time(tmp_path: Path) -> None:
    path = write(tmp_path / "a", config(tokenFile="token"))
    for text in ("one", "two"):
        (tmp_path / "token").write_text(text + "\n")
        access = await open_access([path], "minikube", allow_remote=False)
        assert access.headers["Authorization"] == f"Bearer {text}"


async def test_an_exec_plugin_gives_the_token_and_its_expiry(tmp_path: Path) -> None:
    answer = (
        '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential",'
        '"status":{"token":"from-plugin","expirationTimestamp":"2040-01-01T00:00:00Z"}}'
    )
    plugin = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "sh",
        "args": ["-c", f"echo '{answer}'"],
    }
    path = write(tmp_path / "a", config(exec=plugin))
    access = await open_access([path], "minikube", allow_remote=False)
    assert access.headers["Authorization"] == "Bearer from-plugin"
    assert access.expires_at == 2208988800
    assert not access.expired


async def test_an_exec_plugin_is_asked_again_only_when_its_answer_has_run_out(tmp_path: Path) -> None:
    script = (
        f"echo x >> {tmp_path}/ran; "
        'echo \'{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":'
        '{"token":"t","expirationTimestamp":"\'$(cat %s/until)\'"}}\'' % tmp_path
    )
    plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": "sh", "args": ["-c", script]}
    path = write(tmp_path / "a", config(exec=plugin))

    async def runs_after_asking_again() -> int:
        first = await open_access([path], "minikube", allow_remote=False)
        await open_access([path], "minikube", allow_remote=False, last=first)
        return len((tmp_path / "ran").read_text().split())

    (tmp_path / "until").write_text("2040-01-01T00:00:00Z")
    assert await runs_after_asking_again() == 1
    (tmp_path / "until").write_text("2020-01-01T00:00:00Z")
    assert await runs_after_asking_again() == 3


async def test_a_failing_exec_plugin_is_a_platform_error_with_its_output(tmp_path: Path) -> None:
    plugin = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "sh",
        "args": ["-c", "echo log in first >&2; exit 4"],
    }
    path = write(tmp_path / "a", config(exec=plugin))
    with pytest.raises(PlatformError, match="log in first"):
        await open_access([path], "minikube", allow_remote=False)


async def test_s29_the_guard_decides_before_a_plugin_runs(tmp_path: Path) -> None:
    plugin = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "touch",
        "args": [str(tmp_path / "ran")],
    }
    path = write(tmp_path / "a", config("prod", "https://93.184.216.34", exec=plugin))
    with pytest.raises(DevloopError):
        await open_access([path], "prod", allow_remote=False)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("data", ["bm90IGEgY2VydA==", "%%%"])
async def test_a_broken_certificate_is_a_config_error(tmp_path: Path, data: str) -> None:
    document = config(**{"client-certificate-data": data, "client-key-data": data})
    with pytest.raises(ConfigError, match="certificates cannot be used"):
        await open_access([write(tmp_path / "a", document)], "minikube", allow_remote=False)


def in_data(crt: Path, key: Path) -> dict[str, object]:
    return {
        "client-certificate-data": base64.b64encode(crt.read_bytes()).decode(),
        "client-key-data": base64.b64encode(key.read_bytes()).decode(),
    }


def plugin_that_says(status: dict[str, object], folder: Path) -> dict[str, object]:
    version = "client.authentication.k8s.io/v1"
    answer = {"apiVersion": version, "kind": "ExecCredential", "status": status}
    (folder / "answer").write_text(json.dumps(answer))
    return {"apiVersion": version, "command": "cat", "args": [str(folder / "answer")]}


async def test_the_same_certificates_are_ready_a_second_time(tmp_path: Path) -> None:
    path = write(tmp_path / "a", config(**in_data(*make_cert(tmp_path))))
    for _ in range(2):
        assert (await open_access([path], "minikube", allow_remote=False)).tls is not None


async def test_a_plugin_that_gives_a_certificate_is_asked_again_when_that_ends(tmp_path: Path) -> None:
    crt, key = make_cert(tmp_path)
    status: dict[str, object] = {
        "clientCertificateData": crt.read_text(),
        "clientKeyData": key.read_text(),
        "expirationTimestamp": "2020-01-01T00:00:00Z",
    }
    path = write(tmp_path / "a", config(exec=plugin_that_says(status, tmp_path)))
    access = await open_access([path], "minikube", allow_remote=False)
    assert access.tls is not None
    assert access.expired


@pytest.mark.parametrize(
    "provider, error, expected",
    [
        ({"name": "azure"}, ConfigError, "'azure' is not supported"),
        ({"name": "oidc", "config": {}}, PlatformError, "refresh-token"),
        ({"name": "oidc", "config": {"id-token": "secret"}}, PlatformError, "3 period-delimited parts"),
    ],
)
async def test_an_auth_provider_that_fails_says_why(
    tmp_path: Path, provider: dict[str, object], error: type[DevloopError], expected: str
) -> None:
    path = write(tmp_path / "a", config(**{"auth-provider": provider}))
    with pytest.raises(error, match=expected) as caught:
        await open_access([path], "minikube", allow_remote=False)
    assert "secret" not in str(caught.value)


async def test_an_oidc_token_that_is_still_good_is_used(tmp_path: Path) -> None:
    claims = base64.b64encode(json.dumps({"exp": 2208988800}).encode()).decode().rstrip("=")
    provider = {"name": "oidc", "config": {"id-token": f"e30.{claims}.x"}}
    path = write(tmp_path / "a", config(**{"auth-provider": provider}))
    access = await open_access([path], "minikube", allow_remote=False)
    assert access.headers["Authorization"] == f"Bearer e30.{claims}.x"


async def test_paths_are_relative_to_the_file_of_their_entry_not_of_the_cluster(tmp_path: Path) -> None:
    crt, key = make_cert(tmp_path)
    for file in (crt, key):
        (tmp_path / "mine").mkdir(exist_ok=True)
        file.rename(tmp_path / "mine" / file.name)
    document = config(**{"client-certificate": crt.name, "client-key": key.name})
    users = {"users": document.pop("users")}
    files = [write(tmp_path / "theirs" / "a", document), write(tmp_path / "mine" / "b", users)]
    access = await open_access(files, "minikube", allow_remote=False)
    assert access.tls is not None


async def test_s29_a_proxy_of_the_environment_moves_no_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://93.184.216.34:3128")
    access = await open_access([write(tmp_path / "a", config())], "minikube", allow_remote=False)
    assert access.proxy is None
    assert access.server == "https://192.168.49.2:8443"


def test_s30_no_private_key_is_left_after_kill_9(tmp_path: Path) -> None:
    """Killed while OpenSSL reads the key, which is the one moment when it lies in a file."""
    (tmp_path / "tmp").mkdir()
    path = write(tmp_path / "a", config(**in_data(*make_cert(tmp_path))))
    script = f"""if True:
        import pathlib, ssl, sys, time, anyio
        from devloop.adapters.kubernetes.api.access import open_access
        def stopped(*args, **kwargs):
            print("reading", flush=True)
            time.sleep(600)
        ssl.SSLContext.load_cert_chain = stopped
        async def main():
            await open_access([pathlib.Path({str(path)!r})], "minikube", allow_remote=False)
        anyio.run(main)
    """
    environ = {**os.environ, "TMPDIR": str(tmp_path / "tmp")}
    with subprocess.Popen([sys.executable, "-c", script], env=environ, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"reading\n"
        keys = list((tmp_path / "tmp").rglob("client-key"))
        assert [file.parent.stat().st_mode & 0o077 for file in keys] == [0]
        child.send_signal(signal.SIGKILL)
    later = "import time; from devloop import scratch; scratch.remove_leftovers(time.time() + 3600)"
    subprocess.run([sys.executable, "-c", later], env=environ, check=True)
    assert list((tmp_path / "tmp").iterdir()) == []
