"""What a user logs in with: the kubernetes package runs plugins, and makes TLS and a header of the rest.

It is loaded here and nowhere else, after the guard (S29) has decided. What is ours beside it: files are read
by the rules of files.py (a FIFO is an error), private keys lie in a folder that a later start removes (after
kill -9 too), and why a plugin failed is raised, where the package's loader only logs it.
"""

from __future__ import annotations

import asyncio
import base64
import importlib
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from anyio import to_thread

from devloop import scratch
from devloop.adapters.kubernetes.api.kubeconfig import Context, Entry
from devloop.clock import Clock
from devloop.errors import ConfigError, PlatformError
from devloop.files import read_text

CLOCK = Clock()  # credentials end by the wall clock
PROVIDERS = frozenset({"gcp", "oidc"})  # the legacy auth-providers that the kubernetes package knows
PROVIDER_SECONDS = 300.0  # how long the answer of one is taken for good
PACKAGE = "kubernetes.aio.config.kube_config"


@dataclass(frozen=True, slots=True)
class Login:
    """What requests carry. `tls` None = plain HTTP; `expires_at`: epoch seconds, of a plugin's answer."""

    headers: Mapping[str, str] = field(repr=False)
    tls: ssl.SSLContext | None = field(repr=False, compare=False)
    expires_at: float | None = None


async def log_in(context: Context) -> Login:
    """Make the credentials of the context's user ready.

    Raises ConfigError (certificates, token files), PlatformError (a plugin failed).
    """
    await to_thread.run_sync(importlib.import_module, PACKAGE)  # 0.25 s, beside what else starts
    user, expires_at = await _answered(context)
    try:
        authorization, tls = await to_thread.run_sync(_load, context, user)
    except (OSError, ValueError) as error:  # of ssl and base64 too
        raise ConfigError(
            f"context {context.name!r}: its certificates cannot be used: {error}",
            reason="InvalidKubeconfig",
            hint="kubectl config view --raw shows them; recreating the cluster's kubeconfig usually helps",
        ) from error
    return Login({"Authorization": authorization} if authorization else {}, tls, expires_at)


async def _answered(context: Context) -> tuple[Entry, float | None]:
    """The user's entry, with a plugin's answer in the plugin's place, and when that answer ends."""
    user = {key: value for key, value in context.user.items() if value}
    if "exec" in user:
        return await _run_plugin(context, user["exec"])
    if "auth-provider" in user:
        return {"token": await _ask_provider(context)}, CLOCK.now() + PROVIDER_SECONDS
    return user, None


async def _run_plugin(context: Context, plugin: Entry) -> tuple[Entry, float | None]:
    from kubernetes.aio.config.config_exception import ConfigException
    from kubernetes.aio.config.exec_provider import ExecProvider
    from kubernetes.aio.config.kube_config import ConfigNode

    try:
        status: Entry = await ExecProvider(ConfigNode("exec", dict(plugin))).run()
    except (ConfigException, OSError) as error:
        raise PlatformError(
            f"context {context.name!r}: the credential plugin {plugin.get('command', '')} failed: {error}",
            reason="CredentialPlugin",
            hint="run it by hand, log in again if it asks for that",
        ) from error
    expiry = status.get("expirationTimestamp")
    expires_at = datetime.fromisoformat(expiry.replace("Z", "+00:00")).timestamp() if expiry else None
    user: Entry = {"token": status["token"]} if status.get("token") else {}
    certificate, key = status.get("clientCertificateData"), status.get("clientKeyData")  # PEM
    if certificate and key:
        user["client-certificate-data"] = base64.b64encode(certificate.encode()).decode()
        user["client-key-data"] = base64.b64encode(key.encode()).decode()
    return user, expires_at


async def _ask_provider(context: Context) -> str:
    """The token of a legacy auth-provider."""
    from kubernetes.aio.client.configuration import Configuration
    from kubernetes.aio.config.config_exception import ConfigException
    from kubernetes.aio.config.kube_config import load_kube_config_from_dict

    name = context.user["auth-provider"].get("name")
    if name not in PROVIDERS:
        raise ConfigError(
            f"context {context.name!r}: auth-provider {name!r} is not supported",
            reason="InvalidKubeconfig",
            hint="use the cluster's exec plugin instead",
        )
    answer = Configuration()
    try:
        await load_kube_config_from_dict(
            _document({}, dict(context.user)), context="it", client_configuration=answer
        )
    except (ConfigException, OSError, ValueError) as error:
        raise PlatformError(f"context {context.name!r}: {error}", reason="CredentialPlugin") from error
    return str(answer.api_key["BearerToken"]).removeprefix("Bearer ")


def _load(context: Context, user: Entry) -> tuple[str, ssl.SSLContext | None]:
    """(Authorization header, TLS context) of an entry without plugins. Blocking.

    Raises OSError, ValueError: a file or certificate that cannot be used.
    """
    from kubernetes.aio.client.configuration import Configuration
    from kubernetes.aio.client.rest import RESTClientObject
    from kubernetes.aio.config.kube_config import load_kube_config_from_dict

    result = Configuration()
    # kubectl is not this strict, and the CAs that local products make do not always pass.
    result.disable_strict_ssl_verification = True
    with scratch.folder() as folder:
        document = _document(_on_disk(context.cluster, folder), _on_disk(user, folder))
        asyncio.run(load_kube_config_from_dict(document, context="it", client_configuration=result))
        encrypted = context.server.startswith("https")
        tls: ssl.SSLContext | None = RESTClientObject(result).ssl_context if encrypted else None
    return str(result.api_key.get("BearerToken") or ""), tls


def _on_disk(entry: Mapping[str, Any], folder: Path) -> Entry:
    """The entry with its PEM texts as files of the folder, and its token read.

    The package would keep the names of the files that it writes itself, and miss them at the next load.
    """
    kept = {key: value for key, value in entry.items() if value}
    for key in ("certificate-authority", "client-certificate", "client-key"):
        if (text := _pem(kept, key)) is not None:
            (folder / key).write_text(text)
            kept[key] = str(folder / key)
        kept.pop(f"{key}-data", None)
    if not ("client-certificate" in kept and "client-key" in kept):
        kept.pop("client-certificate", None)  # one is of no use without the other
    if "tokenFile" in kept:
        kept.setdefault("token", read_text(Path(kept["tokenFile"])).strip())
    return kept


def _pem(entry: Mapping[str, Any], key: str) -> str | None:
    """The PEM text behind `<key>-data` (base64) or the file that `<key>` names; data wins, as in kubectl."""
    data, path = entry.get(f"{key}-data"), entry.get(key)
    if data:
        return base64.b64decode("".join(str(data).split()), validate=True).decode()
    return read_text(Path(path)) if path else None


def _document(cluster: Entry, user: Entry) -> Entry:
    """A kubeconfig with this one context, named `it`."""
    return {
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        "clusters": [{"name": "it", "cluster": cluster or {"server": ""}}],
        "users": [{"name": "it", "user": user or {"token": ""}}],
    }
