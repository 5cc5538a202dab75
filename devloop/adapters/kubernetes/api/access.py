"""From a kubeconfig context to what a request needs: address, TLS, headers. The guard runs first."""

from __future__ import annotations

import base64
import binascii
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from anyio import to_thread

from devloop import scratch
from devloop.adapters.kubernetes.api.guard import Platform, admit
from devloop.adapters.kubernetes.api.kubeconfig import Context, read_context
from devloop.borders import KUBECONFIG
from devloop.clock import Clock
from devloop.errors import ConfigError, PlatformError
from devloop.files import read_text

_PLUGINS = {"exec", "auth-provider"}
CLOCK = Clock()  # credentials end by the wall clock


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach one API server. `expires_at`: when a plugin's credentials end, epoch seconds."""

    platform: Platform
    context: Context
    tls: ssl.SSLContext | None = field(repr=False, compare=False)
    headers: Mapping[str, str] = field(repr=False)
    proxy: str | None = None
    server_name: str | None = None
    expires_at: float | None = None

    @property
    def server(self) -> str:
        return self.context.server

    @property
    def expired(self) -> bool:
        return self.expires_at is not None and CLOCK.now() > self.expires_at - 10


async def open_access(
    files: Sequence[Path], context_name: str, *, allow_remote: bool, last: Access | None = None
) -> Access:
    """Read the kubeconfig anew, let the guard decide, then make credentials ready.

    `last` is returned again if its credentials came from a plugin and are still good: a plugin may take
    a second, or ask somebody to log in. Certificate files are read again, for a cluster made anew keeps
    their paths.
    Raises ConfigError (no such context, not local, unreadable certificate), PlatformError (a plugin failed).
    """
    where = f"context {context_name!r} of {', '.join(map(str, files))}"
    with KUBECONFIG(where):
        context = await to_thread.run_sync(read_context, files, context_name)
        platform = admit(context, allow_remote=allow_remote)
    if last is not None and last.context == context and context.user.keys() & _PLUGINS and not last.expired:
        return last
    with KUBECONFIG(where):
        headers, certificate, expires_at = await _credentials(context)
        tls = await to_thread.run_sync(_tls, context, certificate)
        return Access(
            platform=platform,
            context=context,
            tls=tls,
            headers=headers,
            proxy=_text(context, "proxy-url"),
            server_name=_text(context, "tls-server-name"),
            expires_at=expires_at,
        )


def _text(context: Context, key: str) -> str | None:
    value = context.cluster.get(key)
    if not isinstance(value, str | None):
        raise ConfigError(f"context {context.name!r}: {key} is no text", reason="InvalidKubeconfig")
    return value or None


async def _credentials(
    context: Context,
) -> tuple[dict[str, str], tuple[str, str] | None, float | None]:
    """(headers, client certificate and key as PEM, expiry) of the context's user."""
    user = context.user
    if "exec" in user:
        return await _ask_plugin(context)
    if "auth-provider" in user:
        return {"Authorization": await _ask_provider(context)}, None, CLOCK.now() + 300
    token = user.get("token") or await to_thread.run_sync(_read_token, user.get("tokenFile"))
    if token:
        return {"Authorization": f"Bearer {token}"}, None, None
    if user.get("username") and user.get("password"):
        pair = base64.b64encode(f"{user['username']}:{user['password']}".encode()).decode()
        return {"Authorization": f"Basic {pair}"}, None, None
    return {}, None, None


def _read_token(path: str | None) -> str:
    if not path:
        return ""
    try:
        return read_text(Path(path)).strip()
    except OSError as error:
        raise ConfigError(f"tokenFile of the kubeconfig: {error}", reason="InvalidKubeconfig") from error


async def _ask_plugin(
    context: Context,
) -> tuple[dict[str, str], tuple[str, str] | None, float | None]:
    """Run the user's exec plugin. Only here, and for auth-providers, is the kubernetes package loaded:
    it costs 0.2 s and 18 MB, which no local product needs (docs/adr)."""
    from kubernetes.aio.config.config_exception import ConfigException
    from kubernetes.aio.config.exec_provider import ExecProvider
    from kubernetes.aio.config.kube_config import ConfigNode

    command = str(context.user["exec"].get("command", ""))
    try:
        status: dict[str, Any] = await ExecProvider(ConfigNode("exec", dict(context.user["exec"]))).run()
    except (ConfigException, OSError) as error:
        raise PlatformError(
            f"context {context.name!r}: the credential plugin {command} failed: {error}",
            reason="CredentialPlugin",
            hint="run it by hand, log in again if it asks for that",
        ) from error
    expiry = status.get("expirationTimestamp")
    expires_at = datetime.fromisoformat(expiry.replace("Z", "+00:00")).timestamp() if expiry else None
    headers = {"Authorization": f"Bearer {status['token']}"} if status.get("token") else {}
    certificate, key = status.get("clientCertificateData"), status.get("clientKeyData")
    return headers, (certificate, key) if certificate and key else None, expires_at


async def _ask_provider(context: Context) -> str:
    """The Authorization header of a legacy auth-provider (gcp, oidc)."""
    from kubernetes.aio.config.config_exception import ConfigException
    from kubernetes.aio.config.kube_config import KubeConfigLoader

    document = {
        "current-context": context.name,
        "contexts": [{"name": context.name, "context": {"cluster": "it", "user": "it"}}],
        "clusters": [{"name": "it", "cluster": {"server": context.server}}],
        "users": [{"name": "it", "user": dict(context.user)}],
    }
    loader = KubeConfigLoader(document, active_context=context.name)
    try:
        if loader.provider == "gcp":
            return str(await loader.load_gcp_token())
        if loader.provider == "oidc":
            return str(await loader._load_oid_token())
    except (ConfigException, OSError, ValueError) as error:
        raise PlatformError(f"context {context.name!r}: {error}", reason="CredentialPlugin") from error
    raise ConfigError(
        f"context {context.name!r}: auth-provider {loader.provider!r} is not supported",
        reason="InvalidKubeconfig",
        hint="use the cluster's exec plugin instead",
    )


def _tls(context: Context, certificate: tuple[str, str] | None) -> ssl.SSLContext | None:
    """The TLS context; keys given as data lie in a file only while OpenSSL reads them."""
    if not context.server.startswith("https"):
        return None
    try:
        tls = ssl.create_default_context(cadata=_pem(context.cluster, "certificate-authority"))
        # kubectl is not this strict, and the CAs that local products make do not always pass.
        tls.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
        if context.cluster.get("insecure-skip-tls-verify"):
            tls.check_hostname = False
            tls.verify_mode = ssl.CERT_NONE
        if certificate is None:
            public, private = _pem(context.user, "client-certificate"), _pem(context.user, "client-key")
            certificate = (public, private) if public and private else None
        if certificate is not None:
            with scratch.folder() as folder:
                public_file, private_file = Path(folder, "crt"), Path(folder, "key")
                public_file.write_text(certificate[0])
                private_file.write_text(certificate[1])
                tls.load_cert_chain(public_file, private_file)
    except (OSError, ValueError, binascii.Error) as error:
        raise ConfigError(
            f"context {context.name!r}: its certificates cannot be used: {error}",
            reason="InvalidKubeconfig",
            hint="kubectl config view --raw shows them; making the cluster's kubeconfig anew mends most",
        ) from error
    return tls


def _pem(entry: Mapping[str, Any], key: str) -> str | None:
    """The PEM text behind `<key>-data` (base64) or the file that `<key>` names; data wins, as in kubectl."""
    data, path = entry.get(f"{key}-data"), entry.get(key)
    if data:
        return base64.b64decode("".join(str(data).split()), validate=True).decode()
    return read_text(Path(path)) if path else None
