"""The credential plugin of a kubeconfig (`exec`): run without a terminal, for one minute at most."""

from __future__ import annotations

import base64
import json
import shlex
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import anyio

from devloop.adapters.kubernetes.api.kubeconfig import Context, Entry
from devloop.adapters.process import run
from devloop.errors import PlatformError
from devloop.files import read_text

PLUGIN_SECONDS = 60.0  # a plugin may open a browser and wait for somebody to log in
MOST_OUTPUT = 1 << 20  # bytes; an answer has a few thousand
EXEC_EXTENSION = "client.authentication.k8s.io/exec"  # of the cluster's entry: what its plugin gets
SHOWN_LINES, SHOWN_WIDTH = 10, 300


async def ask_plugin(context: Context, plugin: Entry) -> tuple[Entry, float | None]:
    """The user's entry that the plugin answers with, and when that ends in epoch seconds.

    Raises PlatformError: not installed, failed, no answer in time, or not an answer.
    """
    answer = await _run(context, plugin)
    try:
        return _entry_of(_status_of(answer, str(plugin.get("apiVersion"))))
    except ValueError as error:
        raise _failure(context, plugin, f"{error} in its answer") from error


async def _run(context: Context, plugin: Entry) -> bytes:
    from kubernetes.aio.config.config_exception import ConfigException
    from kubernetes.aio.config.exec_provider import ExecProvider
    from kubernetes.aio.config.kube_config import ConfigNode

    try:
        prepared = ExecProvider(ConfigNode("exec", dict(plugin)))
    except ConfigException as error:
        raise _failure(context, plugin, str(error)) from error
    spec = {"interactive": False, **_cluster_info(context, plugin)}
    wish = {"apiVersion": prepared.api_version, "kind": "ExecCredential", "spec": spec}
    environment = {**prepared.env, "KUBERNETES_EXEC_INFO": json.dumps(wish)}
    stderr: list[str] = []

    def keep(line: str) -> None:
        stderr.append(line[:SHOWN_WIDTH])
        del stderr[:-SHOWN_LINES]

    try:
        with anyio.fail_after(PLUGIN_SECONDS):
            finished = await run(prepared.args, environment, on_line=keep, most=MOST_OUTPUT)
    except TimeoutError as error:
        seconds = f"{PLUGIN_SECONDS:.0f} s"
        raise _failure(context, plugin, f"no answer in {seconds}, and it was ended", stderr) from error
    except PlatformError as error:
        raise _failure(
            context, plugin, error.message, stderr, missing=error.reason == "NoSuchCommand"
        ) from error
    if finished.code != 0:
        last = f": {stderr[-1]}" if stderr else ""
        raise _failure(context, plugin, f"exit code {finished.code}{last}", stderr)
    return finished.out


def _cluster_info(context: Context, plugin: Entry) -> Entry:
    """The cluster as the plugin may want it (`provideClusterInfo`), in the words of its API."""
    if plugin.get("provideClusterInfo") is not True:
        return {}
    cluster = context.cluster
    data = cluster.get("certificate-authority-data")
    if not data and cluster.get("certificate-authority"):
        try:
            text = read_text(Path(str(cluster["certificate-authority"])))
        except OSError as error:
            path = cluster["certificate-authority"]
            raise _failure(context, plugin, f"its CA {path}: {error.strerror or error}") from error
        data = base64.b64encode(text.encode()).decode()
    info = {
        "server": cluster.get("server"),
        "tls-server-name": cluster.get("tls-server-name"),
        "insecure-skip-tls-verify": cluster.get("insecure-skip-tls-verify"),
        "certificate-authority-data": data,
        "proxy-url": cluster.get("proxy-url"),
        "disable-compression": cluster.get("disable-compression"),
        "config": context.extension(EXEC_EXTENSION) or None,
    }
    return {"cluster": {key: value for key, value in info.items() if value}}


def _failure(
    context: Context, plugin: Entry, why: str, stderr: list[str] | None = None, *, missing: bool = False
) -> PlatformError:
    line = shlex.quote(str(plugin.get("command", "")))  # without arguments: any may be a secret (S30)
    installing = str(plugin.get("installHint") or "") if missing else ""
    return PlatformError(
        f"context {context.name!r}: the credential plugin {line[:SHOWN_WIDTH]}: {why}",
        reason="CredentialPlugin",
        evidence=tuple(stderr or ()),
        hint=installing
        or "run it by hand, and log in there if it asks for that: it has no terminal when devloop runs it",
    )


def _status_of(answer: bytes, version: str) -> Mapping[str, Any]:
    """Raises ValueError for what is no answer in the API version that was asked for."""
    try:
        credential = json.loads(answer)
    except ValueError as error:
        raise ValueError("no JSON") from error
    status = credential.get("status") if isinstance(credential, dict) else None
    if not isinstance(status, dict) or credential.get("kind") != "ExecCredential":
        raise ValueError("no ExecCredential with a status")
    if credential.get("apiVersion") != version:
        raise ValueError(f"apiVersion {credential.get('apiVersion')!r}, not {version!r},")
    return status


def _entry_of(status: Mapping[str, Any]) -> tuple[Entry, float | None]:
    """Raises ValueError for a status without credentials."""
    token, certificate, key, expiry = (
        str(status.get(name) or "")
        for name in ("token", "clientCertificateData", "clientKeyData", "expirationTimestamp")
    )
    if bool(certificate) != bool(key):
        raise ValueError("only one of clientCertificateData and clientKeyData")
    if not token and not certificate:
        raise ValueError("neither a token nor a certificate")
    user: Entry = {"token": token} if token else {}
    if certificate:  # PEM
        user["client-certificate-data"] = base64.b64encode(certificate.encode()).decode()
        user["client-key-data"] = base64.b64encode(key.encode()).decode()
    try:
        return user, datetime.fromisoformat(expiry.replace("Z", "+00:00")).timestamp() if expiry else None
    except ValueError as error:
        raise ValueError(f"no time as expirationTimestamp ({expiry!r})") from error
