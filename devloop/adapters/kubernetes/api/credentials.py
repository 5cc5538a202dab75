"""What a user logs in with: the kubernetes package makes TLS and a header of it, and asks auth-providers.

It is loaded here and in exec_plugin.py, after the guard (S29) has decided. What is ours beside it: which of
several credentials counts is decided as client-go does; files are read by the rules of files.py (a FIFO is an
error); private keys lie in no file that outlives devloop; why a plugin failed is raised, where the package's
loader only logs it.
"""

from __future__ import annotations

import asyncio
import base64
import importlib
import ssl
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
from anyio import to_thread

from devloop import collector
from devloop.adapters.kubernetes.api.exec_plugin import PLUGIN_SECONDS, ask_plugin
from devloop.adapters.kubernetes.api.gcloud import GcloudAnswer, ask_gcloud
from devloop.adapters.kubernetes.api.kubeconfig import Context, Entry
from devloop.adapters.kubernetes.api.private_files import private_files
from devloop.clock import Clock
from devloop.errors import ConfigError, PlatformError
from devloop.files import read_text

CLOCK = Clock()  # credentials end by the wall clock
PROVIDERS = frozenset({"gcp", "oidc"})  # the legacy auth-providers that the kubernetes package knows
PROVIDER_SECONDS = 300.0  # how long the answer of one is taken for good
TOKEN_FILE_SECONDS = 60.0  # as client-go: a projected token is replaced long before it ends
CLUSTER_FILES = ("certificate-authority",)
USER_FILES = ("client-certificate", "client-key")
PACKAGE = "kubernetes.aio.config.kube_config"


class TokenFileError(ConfigError):
    """There is no token in a token file."""

    default_reason = "InvalidKubeconfig"


@dataclass(frozen=True, slots=True)
class Login:
    """What requests carry. `tls` None = plain HTTP; `expires_at`: epoch seconds, when to ask again."""

    headers: Mapping[str, str] = field(repr=False)
    tls: ssl.SSLContext | None = field(repr=False, compare=False)
    expires_at: float | None = None


async def log_in(context: Context) -> Login:
    """Make the credentials of the context's user ready. Over plain HTTP there are none, as in kubectl.

    Raises ConfigError (certificates, token files, what kubectl refuses), PlatformError (a plugin failed).
    """
    if not context.server.startswith("https"):
        return Login({}, None)
    await _load_package()
    user, expires_at = await _answered(context)
    try:
        authorization, tls = await to_thread.run_sync(_load, context, user)
    except (OSError, ValueError) as error:  # of ssl and base64 too
        raise ConfigError(
            f"context {context.name!r}: user {context.user_name!r}: its certificates cannot be used: {error}",
            reason="InvalidKubeconfig",
            hint="kubectl config view --raw shows them; recreating the cluster's kubeconfig usually helps",
        ) from error
    return Login({"Authorization": authorization} if authorization else {}, tls, expires_at)


async def _load_package() -> None:
    """0.25 s of a core, beside what else starts."""
    if PACKAGE in sys.modules:
        return
    collector.pause()
    try:
        await to_thread.run_sync(importlib.import_module, PACKAGE)
    finally:
        collector.resume()


async def _answered(context: Context) -> tuple[Entry, float | None]:
    """The user's entry, with what a plugin or a token file holds in its place, and when to ask again.

    A plugin is for a user without other credentials, an auth-provider for one without other tokens.
    """
    user = {key: value for key, value in context.user.items() if value}
    _check(context, user)
    plugin, provider = user.pop("exec", None), user.pop("auth-provider", None)
    if "tokenFile" in user:
        token = await to_thread.run_sync(_token_of, context, user)
        return {**user, "token": token}, CLOCK.now() + TOKEN_FILE_SECONDS
    named = user.keys() & {"token", "username", "password"}
    if plugin and not named and not _has_certificate(user):
        return await ask_plugin(context, plugin)
    if provider and not named:
        return {**user, "token": await _ask_provider(context)}, CLOCK.now() + PROVIDER_SECONDS
    return user, None


def _check(context: Context, user: Entry) -> None:
    """Raises ConfigError for what kubectl refuses, where one of the two would be dropped in silence."""
    if {"exec", "auth-provider"} <= user.keys():
        both = "exec and auth-provider"
    elif user.keys() & {"token", "tokenFile"} and user.keys() & {"username", "password"}:
        both = "a token and a user name"
    elif _has_certificate(user) and not user.keys() & {"client-key", "client-key-data"}:
        both = "client-certificate without client-key"
    else:
        return
    raise ConfigError(
        f"context {context.name!r}: user {context.user_name!r} has {both}",
        reason="InvalidKubeconfig",
        hint=f"kubectl refuses that too; mend the user in {', '.join(map(str, context.files))}",
    )


def _has_certificate(user: Entry) -> bool:
    return bool(user.keys() & {"client-certificate", "client-certificate-data"})


def _token_of(context: Context, user: Entry) -> str:
    """The token file's, else the one that stands in the kubeconfig. Raises TokenFileError."""
    path = Path(str(user["tokenFile"]))
    why = "it is empty"
    try:
        if text := read_text(path).strip():
            return text
    except OSError as error:
        why = error.strerror or str(error)
    if "token" in user:
        return str(user["token"])
    raise TokenFileError(
        f"context {context.name!r}: user {context.user_name!r}: tokenFile {path}: {why}",
        hint=f"log in again, such that the file is written, or mend users: {context.user_name}: in "
        + ", ".join(map(str, context.files)),
    )


async def _ask_provider(context: Context) -> str:
    """The token of a legacy auth-provider."""
    from kubernetes.aio.client.configuration import Configuration
    from kubernetes.aio.config.config_exception import ConfigException
    from kubernetes.aio.config.kube_config import KubeConfigLoader

    name = context.user["auth-provider"].get("name")
    if name not in PROVIDERS:
        raise ConfigError(
            f"context {context.name!r}: auth-provider {name!r} is not supported",
            reason="InvalidKubeconfig",
            hint="use the cluster's exec plugin instead",
        )
    answer = Configuration()
    document = _document({}, {"auth-provider": context.user["auth-provider"]})

    async def ask() -> GcloudAnswer:
        return await ask_gcloud(context.user["auth-provider"].get("config") or {})

    try:
        with anyio.fail_after(PLUGIN_SECONDS):
            await KubeConfigLoader(document, "it", get_google_credentials=ask).load_and_set(answer)
    except (ConfigException, PlatformError, OSError, ValueError) as error:
        why = f"no answer in {PLUGIN_SECONDS:.0f} s" if isinstance(error, TimeoutError) else str(error)
        raise PlatformError(
            f"context {context.name!r}: user {context.user_name!r}: auth-provider {name}: {why}",
            reason="CredentialPlugin",
            hint="log in again, or use the cluster's exec plugin instead",
        ) from error
    return str(answer.api_key["BearerToken"]).removeprefix("Bearer ")


def _load(context: Context, user: Entry) -> tuple[str, ssl.SSLContext]:
    """(Authorization header, TLS context) of an entry without plugins. Blocking.

    Raises OSError, ValueError: a file or certificate that cannot be used; PlatformError: no place for them.
    """
    from kubernetes.aio.client.configuration import Configuration
    from kubernetes.aio.client.rest import RESTClientObject
    from kubernetes.aio.config.kube_config import load_kube_config_from_dict

    result = Configuration()
    # kubectl is not this strict, and the CAs that local products make do not always pass.
    result.disable_strict_ssl_verification = True
    # The package would keep the names of the files that it writes itself, and miss them at the next load.
    with private_files(_pem_texts(context, user)) as files:
        document = _document(_with(context.cluster, files, CLUSTER_FILES), _with(user, files, USER_FILES))
        asyncio.run(load_kube_config_from_dict(document, context="it", client_configuration=result))
        tls: ssl.SSLContext = RESTClientObject(result).ssl_context
    return str(result.api_key.get("BearerToken") or ""), tls


def _pem_texts(context: Context, user: Entry) -> dict[str, str]:
    """The text of each certificate and key, by its name in the kubeconfig. Raises ConfigError, ValueError."""
    owned = [(f"cluster {context.cluster_name!r}", context.cluster, name) for name in CLUSTER_FILES]
    if _has_certificate(user):  # a key alone is of no use
        owned += [(f"user {context.user_name!r}", user, name) for name in USER_FILES]
    texts = {}
    for owner, entry, name in owned:
        try:
            text = _pem(entry, name)
        except OSError as error:
            raise ConfigError(
                f"context {context.name!r}: {owner}: {name} {entry.get(name)}: {error.strerror or error}",
                reason="InvalidKubeconfig",
                hint="is the cluster created? recreating its kubeconfig usually helps",
            ) from error
        if text is not None:
            texts[name] = text
    return texts


def _pem(entry: Mapping[str, Any], name: str) -> str | None:
    """The PEM text of `<name>-data` (base64), which wins as in kubectl, or of the file under `<name>`."""
    data, path = entry.get(f"{name}-data"), entry.get(name)
    if data:
        return base64.b64decode("".join(str(data).split()), validate=True).decode()
    return read_text(Path(path)) if path else None


def _with(entry: Mapping[str, Any], files: Mapping[str, str], names: Sequence[str]) -> Entry:
    """The entry, with `files` in place of those names."""
    kept = {key: value for key, value in entry.items() if value and key.removesuffix("-data") not in names}
    return kept | {name: files[name] for name in names if name in files}


def _document(cluster: Entry, user: Entry) -> Entry:
    """A kubeconfig with this one context, named `it`."""
    return {
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        "clusters": [{"name": "it", "cluster": cluster or {"server": ""}}],
        "users": [{"name": "it", "user": user or {"token": ""}}],
    }
