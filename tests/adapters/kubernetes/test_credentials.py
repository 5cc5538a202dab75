"""What a user of a kubeconfig logs in with: as client-go decides it."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shlex
import signal
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from devloop import scratch
from devloop.adapters.kubernetes.api import exec_plugin
from devloop.adapters.kubernetes.api.access import Access, open_access
from devloop.clock import Clock
from devloop.errors import ConfigError, DevloopError, PlatformError
from tests.support.faulty_proxy import make_cert
from tests.support.kubeconfigs import config, in_data, plugin_that_says, write

VERSION = "client.authentication.k8s.io/v1"


@pytest.mark.parametrize("where, left", [("memory", []), ("disk", [scratch.LOCK])])
async def test_client_certificates_are_used_and_their_key_is_not_left_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, left: list[str]
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr(scratch, "_own", scratch._Own())  # a folder of its own, in that TMPDIR
    if where == "disk":
        monkeypatch.delattr(os, "memfd_create")
    crt, key = make_cert(tmp_path)
    path = write(tmp_path / "a", config(**in_data(crt, key)))
    access = await open_access([path], "minikube", allow_remote=False)
    assert await presented(access, crt, key)
    assert [path.name for path in (tmp_path / "tmp").rglob("*") if path.is_file()] == left


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


async def presented(access: Access, crt: Path, key: Path) -> bool:
    """Whether a server that asks for a client certificate gets one."""
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(crt, key)
    server_side.load_verify_locations(crt)
    server_side.verify_mode = ssl.CERT_OPTIONAL
    seen: list[bool] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        seen.append(bool(writer.get_extra_info("ssl_object").getpeercert()))
        writer.close()

    assert access.tls is not None
    access.tls.load_verify_locations(crt)
    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_side) as server:
        port = server.sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=access.tls)
        writer.close()
        await writer.wait_closed()
        while not seen:
            await asyncio.sleep(0.005)
    return seen[0]


# --- which of several credentials counts ---------------------------------------------------------


@pytest.mark.parametrize("text, header", [("fresh\n", "fresh"), ("", "old"), (None, "old")])
async def test_a_token_file_wins_over_a_token_as_long_as_it_holds_one(
    tmp_path: Path, text: str | None, header: str
) -> None:
    if text is not None:
        (tmp_path / "token").write_text(text)
    path = write(tmp_path / "a", config(token="old", tokenFile="token"))
    access = await open_access([path], "minikube", allow_remote=False)
    assert access.headers["Authorization"] == f"Bearer {header}"


async def test_a_token_file_is_read_again_without_a_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A projected token changes long before the server refuses the old one; a gap in it costs nothing."""
    now = 1_000_000.0
    monkeypatch.setattr(Clock, "now", lambda self: now)
    path = write(tmp_path / "a", config(tokenFile="token"))
    (tmp_path / "token").write_text("one")
    first = await open_access([path], "minikube", allow_remote=False)
    assert not first.expired
    now += 61
    assert first.expired
    (tmp_path / "token").unlink()
    kept = await open_access([path], "minikube", allow_remote=False, last=first)
    assert kept.headers["Authorization"] == "Bearer one"
    assert not kept.expired
    (tmp_path / "token").write_text("two")
    second = await open_access([path], "minikube", allow_remote=False, last=kept)
    assert second.headers["Authorization"] == "Bearer two"


@pytest.mark.parametrize("text", [None, " \n"])
async def test_a_token_file_without_a_token_says_whose_it_is(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "token").write_text(text)
    path = write(tmp_path / "a", config(tokenFile="token"))
    with pytest.raises(ConfigError, match="user 'minikube'") as caught:
        await open_access([path], "minikube", allow_remote=False)
    assert f"tokenFile {tmp_path}/token" in caught.value.message
    assert "Errno" not in caught.value.message
    assert "log in again" in (caught.value.hint or "")
    assert str(path) in (caught.value.hint or "")


async def test_a_missing_certificate_file_says_whose_it_is(tmp_path: Path) -> None:
    path = write(tmp_path / "a", config(**{"client-certificate": "me.crt", "client-key": "me.key"}))
    with pytest.raises(ConfigError, match="user 'minikube'") as caught:
        await open_access([path], "minikube", allow_remote=False)
    assert f"client-certificate {tmp_path}/me.crt: No such file" in caught.value.message


async def test_a_client_certificate_is_used_beside_an_auth_provider(tmp_path: Path) -> None:
    crt, key = make_cert(tmp_path)
    claims = base64.b64encode(json.dumps({"exp": 2208988800}).encode()).decode().rstrip("=")
    provider = {"name": "oidc", "config": {"id-token": f"e30.{claims}.x"}}
    path = write(tmp_path / "a", config(**{"auth-provider": provider}, **in_data(crt, key)))
    access = await open_access([path], "minikube", allow_remote=False)
    assert access.headers["Authorization"] == f"Bearer e30.{claims}.x"
    assert await presented(access, crt, key)


@pytest.mark.parametrize("beside", ["certificate", "token", "tokenFile", "username"])
async def test_a_plugin_does_not_run_beside_other_credentials(tmp_path: Path, beside: str) -> None:
    crt, key = make_cert(tmp_path)
    (tmp_path / "token").write_text("abc")
    others: dict[str, dict[str, object]] = {
        "certificate": in_data(crt, key),
        "token": {"token": "abc"},
        "tokenFile": {"tokenFile": "token"},
        "username": {"username": "me", "password": "x"},
    }
    plugin = {"apiVersion": VERSION, "command": "touch", "args": [str(tmp_path / "ran")]}
    path = write(tmp_path / "a", config(exec=plugin, **others[beside]))
    access = await open_access([path], "minikube", allow_remote=False)
    assert not (tmp_path / "ran").exists()
    assert ("Authorization" in access.headers) == (beside != "certificate")
    assert await presented(access, crt, key) == (beside == "certificate")


@pytest.mark.parametrize(
    "user, expected",
    [
        ({"exec": {"command": "x"}, "auth-provider": {"name": "oidc"}}, "exec and auth-provider"),
        ({"token": "a", "username": "b"}, "a token and a user name"),
        ({"client-certificate": "me.crt"}, "client-certificate without client-key"),
    ],
)
async def test_what_kubectl_refuses_is_refused(
    tmp_path: Path, user: dict[str, object], expected: str
) -> None:
    with pytest.raises(ConfigError, match=f"user 'minikube' has {expected}"):
        await open_access([write(tmp_path / "a", config(**user))], "minikube", allow_remote=False)


async def test_nothing_is_read_for_a_server_without_tls_and_nothing_sent(tmp_path: Path) -> None:
    """As kubectl: a token in plain text is everybody's."""
    document = config(
        "kind-x",
        "http://127.0.0.1:1",
        tokenFile="missing",
        **{"client-certificate": "missing.crt", "client-key": "missing.key"},
    )
    plugin = config("kind-y", "http://127.0.0.1:1", exec={"command": "touch", "args": [f"{tmp_path}/ran"]})
    files = [write(tmp_path / "a", document), write(tmp_path / "b", plugin)]
    for name in ("kind-x", "kind-y"):
        access = await open_access(files, name, allow_remote=False)
        assert access.tls is None
        assert access.headers == {}
    assert not (tmp_path / "ran").exists()


# --- the command of gcp, and what a plugin gets ------------------------------------------------


def gcp(folder: Path, script: str) -> Path:
    command = {"cmd-path": "sh", "cmd-args": f"-c {shlex.quote(script)}"}
    return write(folder / "a", config(**{"auth-provider": {"name": "gcp", "config": command}}))


async def test_the_command_of_gcp_gives_the_token(tmp_path: Path) -> None:
    credential = {"access_token": "from-gcloud", "token_expiry": "2040-01-01T00:00:00Z"}
    (tmp_path / "answer").write_text(json.dumps({"credential": credential}))
    access = await open_access([gcp(tmp_path, f"cat {tmp_path}/answer")], "minikube", allow_remote=False)
    assert access.headers["Authorization"] == "Bearer from-gcloud"


@pytest.mark.parametrize("script", ["exit 3", "echo {}", "echo no JSON"])
async def test_a_command_of_gcp_that_fails_says_so(tmp_path: Path, script: str) -> None:
    with pytest.raises(PlatformError, match=r"auth-provider gcp: .*sh"):
        await open_access([gcp(tmp_path, script)], "minikube", allow_remote=False)


async def test_a_command_of_gcp_that_hangs_is_ended_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("devloop.adapters.kubernetes.api.credentials.PLUGIN_SECONDS", 1.0)
    path = gcp(tmp_path, f"echo $$ >{tmp_path}/pid; sleep 600 & wait")
    with pytest.raises(PlatformError, match="auth-provider gcp: no answer in 1 s"):
        await open_access([path], "minikube", allow_remote=False)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


@pytest.mark.parametrize("wanted", [True, False])
async def test_a_plugin_that_asks_for_the_cluster_is_told_of_it(tmp_path: Path, wanted: bool) -> None:
    answer = plugin_that_says({"token": "t"}, tmp_path)
    script = f'printf %s "$KUBERNETES_EXEC_INFO" >{tmp_path}/given; cat {tmp_path}/answer'
    plugin = answer | {"command": "sh", "args": ["-c", script], "provideClusterInfo": wanted}
    document: Any = config(exec=plugin)
    crt, _ = make_cert(tmp_path)
    cluster = document["clusters"][0]["cluster"]
    cluster["certificate-authority"] = str(crt)
    cluster["tls-server-name"] = "minikube"
    audience = {"name": "client.authentication.k8s.io/exec", "extension": {"audience": "me"}}
    cluster["extensions"].append(audience)
    await open_access([write(tmp_path / "a", document)], "minikube", allow_remote=False)
    spec = json.loads((tmp_path / "given").read_text())["spec"]
    assert spec["interactive"] is False
    expected = {
        "server": "https://192.168.49.2:8443",
        "tls-server-name": "minikube",
        "certificate-authority-data": base64.b64encode(crt.read_bytes()).decode(),
        "config": {"audience": "me"},
    }
    assert spec.get("cluster") == (expected if wanted else None)


# --- plugins that misbehave ------------------------------------------------------------------------


async def failing(folder: Path, script: str, **more: object) -> PlatformError:
    plugin = {"apiVersion": VERSION, "command": "sh", "args": ["-c", script], **more}
    path = write(folder / "a", config(exec=plugin))
    with pytest.raises(PlatformError, match="context 'minikube': the credential plugin sh: ") as caught:
        await open_access([path], "minikube", allow_remote=False)
    assert caught.value.reason == "CredentialPlugin"
    assert caught.value.hint
    return caught.value


async def test_a_plugin_that_hangs_is_ended_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exec_plugin, "PLUGIN_SECONDS", 1.0)
    error = await failing(tmp_path, f"echo $$ >{tmp_path}/pid; echo open the browser >&2; sleep 600 & wait")
    assert "no answer in 1 s" in error.message
    assert error.evidence == ("open the browser",)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


async def test_a_plugin_may_fill_its_standard_error(tmp_path: Path) -> None:
    """A pipe holds 64 KB; whoever reads it after the output waits for ever."""
    answer = plugin_that_says({"token": "t"}, tmp_path)
    loud = f"yes too loud | head -c 3000000 >&2; cat {tmp_path}/answer"
    path = write(tmp_path / "a", config(exec=answer | {"command": "sh", "args": ["-c", loud]}))
    access = await open_access([path], "minikube", allow_remote=False)
    assert access.headers["Authorization"] == "Bearer t"


async def test_what_is_shown_of_a_loud_plugin_is_short(tmp_path: Path) -> None:
    error = await failing(
        tmp_path, "head -c 3000000 /dev/zero | tr '\\0' x >&2; yes no | head -9999 >&2; exit 4"
    )
    assert "exit code 4: no" in error.message
    assert sum(map(len, (error.message, *error.evidence))) < 5000


async def test_an_endless_answer_ends_the_plugin(tmp_path: Path) -> None:
    error = await failing(tmp_path, "yes")
    assert "more than 1 MB" in error.message


@pytest.mark.parametrize(
    "answer, expected",
    [
        ("nothing", "no JSON"),
        ("[]", "no ExecCredential"),
        ('{"kind": "ExecCredential"}', "no ExecCredential"),
        ('{"kind": "ExecCredential", "apiVersion": "other", "status": {"token": "secret"}}', "apiVersion"),
        ('{"kind": "ExecCredential", "apiVersion": "V", "status": {}}', "neither a token nor a certificate"),
        (
            '{"kind":"ExecCredential","apiVersion":"V","status":{"token":"secret","expirationTimestamp":"soon"}}',
            "expirationTimestamp",
        ),
        (
            '{"kind": "ExecCredential", "apiVersion": "V", "status": {"clientCertificateData": "x"}}',
            "clientKeyData",
        ),
    ],
)
async def test_an_answer_that_is_none_is_the_plugins_fault(
    tmp_path: Path, answer: str, expected: str
) -> None:
    (tmp_path / "answer").write_text(answer.replace('"V"', f'"{VERSION}"'))
    error = await failing(tmp_path, f"cat {tmp_path}/answer")
    assert expected in error.message
    assert "secret" not in repr((error.message, error.evidence))


@pytest.mark.parametrize("args", [["false", "--oidc-client-secret=hunter2"], ["A=hunter2", "false"]])
async def test_s30_a_plugins_arguments_are_not_shown(tmp_path: Path, args: list[str]) -> None:
    """kubelogin takes a client secret there; a script may take one without a flag."""
    plugin = {"apiVersion": VERSION, "command": "env", "args": args}
    with pytest.raises(PlatformError, match="the credential plugin env: exit code 1") as caught:
        await open_access([write(tmp_path / "a", config(exec=plugin))], "minikube", allow_remote=False)
    assert "hunter2" not in repr((caught.value.message, caught.value.evidence, caught.value.hint))


async def test_a_plugin_that_is_not_installed_brings_its_own_hint(tmp_path: Path) -> None:
    plugin = {"apiVersion": VERSION, "command": "no-such-plugin", "installHint": "brew install it"}
    with pytest.raises(PlatformError, match="no-such-plugin") as caught:
        await open_access([write(tmp_path / "a", config(exec=plugin))], "minikube", allow_remote=False)
    assert caught.value.hint == "brew install it"


# --- private keys ----------------------------------------------------------------------------------

KILLED_WHILE_READING = """if True:
    import os, pathlib, ssl, sys, time, anyio
    if sys.argv[2] == "disk":
        del os.memfd_create
    from devloop.adapters.kubernetes.api.access import open_access
    def stopped(*args, **kwargs):
        print("reading", flush=True)
        time.sleep(600)
    ssl.SSLContext.load_cert_chain = stopped
    async def main():
        await open_access([pathlib.Path(sys.argv[1])], "minikube", allow_remote=False)
    anyio.run(main)
"""


@pytest.mark.parametrize("where", ["memory", "disk"])
def test_s30_no_private_key_is_left_after_kill_9(tmp_path: Path, where: str) -> None:
    """Killed while OpenSSL reads the key, which it only does from a file: in memory on Linux."""
    (tmp_path / "tmp").mkdir()
    path = write(tmp_path / "a", config(**in_data(*make_cert(tmp_path))))
    environ = {**os.environ, "TMPDIR": str(tmp_path / "tmp")}
    argv = [sys.executable, "-c", KILLED_WHILE_READING, str(path), where]
    with subprocess.Popen(argv, env=environ, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"reading\n"
        keys = list((tmp_path / "tmp").rglob("client-key"))
        assert [file.parent.stat().st_mode & 0o077 for file in keys] == ([0] if where == "disk" else [])
        child.send_signal(signal.SIGKILL)
    if where == "disk":
        later = "import time; from devloop import scratch; scratch.remove_leftovers(time.time() + 3600)"
        subprocess.run([sys.executable, "-c", later], env=environ, check=True)
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize("memory", [True, False])
async def test_a_folder_for_temporary_files_is_not_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: bool
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    monkeypatch.setattr(scratch, "_own", scratch._Own())
    path = write(tmp_path / "a", config(**in_data(*make_cert(tmp_path))))
    if memory:
        assert (await open_access([path], "minikube", allow_remote=False)).tls is not None
        return
    monkeypatch.delattr(os, "memfd_create")
    with pytest.raises(PlatformError, match=f"{tmp_path}/none") as caught:
        await open_access([path], "minikube", allow_remote=False)
    assert "can this user write there" in (caught.value.hint or "")
