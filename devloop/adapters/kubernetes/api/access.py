"""From a kubeconfig context to what a request needs: address, TLS, headers. The guard runs first."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from anyio import to_thread

from devloop.adapters.kubernetes.api.credentials import CLOCK, TOKEN_FILE_SECONDS, TokenFileError, log_in
from devloop.adapters.kubernetes.api.guard import Platform, admit
from devloop.adapters.kubernetes.api.impersonation import Headers, impersonation
from devloop.adapters.kubernetes.api.kubeconfig import Context, read_context
from devloop.borders import KUBECONFIG
from devloop.errors import ConfigError

MARGIN = 10.0  # seconds before the end
_PLUGINS = {"exec", "auth-provider"}


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach one API server. `expires_at`: when its credentials are to be renewed, epoch seconds."""

    platform: Platform
    context: Context
    tls: ssl.SSLContext | None = field(repr=False, compare=False)
    headers: Mapping[str, str] = field(repr=False)
    proxy: str | None = None
    server_name: str | None = None
    acts_as: Headers = ()
    expires_at: float | None = field(default=None, compare=False)  # that alone is no other access

    @property
    def server(self) -> str:
        return self.context.server

    @property
    def expired(self) -> bool:
        return self.expires_at is not None and CLOCK.now() > self.expires_at - MARGIN


async def open_access(
    files: Sequence[Path], context_name: str, *, allow_remote: bool, last: Access | None = None
) -> Access:
    """Read the kubeconfig again, let the guard decide, then make credentials ready.

    `last` is returned again if its credentials came from a plugin and are still good: a plugin may take
    a second, or ask somebody to log in. Certificate files are read again, for a recreated cluster keeps
    their paths. A token file that is being written keeps its last token for a while.
    Raises ConfigError (no such context, not local, unreadable certificate), PlatformError (a plugin failed).
    """
    where = f"context {context_name!r} of {', '.join(map(str, files))}"
    with KUBECONFIG(where):
        context = await to_thread.run_sync(read_context, files, context_name)
        platform = admit(context, allow_remote=allow_remote)
    if last is not None and last.context == context and context.user.keys() & _PLUGINS and not last.expired:
        return last
    with KUBECONFIG(where):
        proxy, server_name = _text(context, "proxy-url"), _text(context, "tls-server-name")
        acts_as = impersonation(context)
        try:
            login = await log_in(context)
        except TokenFileError:
            if last is None or last.context != context:
                raise
            return replace(last, expires_at=CLOCK.now() + TOKEN_FILE_SECONDS)
        return Access(
            platform, context, login.tls, login.headers, proxy, server_name, acts_as, login.expires_at
        )


def _text(context: Context, key: str) -> str | None:
    value = context.cluster.get(key)
    if not isinstance(value, str | None):
        raise ConfigError(f"context {context.name!r}: {key} is not a string", reason="InvalidKubeconfig")
    return value or None
