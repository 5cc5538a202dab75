"""Acting as somebody else (`as:` of a kubeconfig's user): the headers that ask the API server for it."""

from __future__ import annotations

from collections.abc import Iterator

from devloop.adapters.kubernetes.api.kubeconfig import Context
from devloop.errors import ConfigError

Headers = tuple[tuple[str, str], ...]  # (name, value): a name may come several times
# What RFC 9110 allows in a header's name; "%" marks what is escaped.
_PLAIN = frozenset("!#$&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


def impersonation(context: Context) -> Headers:
    """As client-go makes them. Raises ConfigError for what kubectl refuses, such as groups without a user."""
    user = _text(context, "as")
    uid = _text(context, "as-uid")
    groups = _texts(context, "as-groups", context.user.get("as-groups"))
    extra = list(_extra(context))
    if not user:
        if uid or groups or extra:
            raise _invalid(context, "has as-uid, as-groups or as-user-extra, and no as", "name the user")
        return ()
    return (
        ("Impersonate-User", user),
        *([("Impersonate-Uid", uid)] if uid else []),
        *(("Impersonate-Group", group) for group in groups),
        *extra,
    )


def _extra(context: Context) -> Iterator[tuple[str, str]]:
    given = context.user.get("as-user-extra") or {}
    if not isinstance(given, dict):
        raise _invalid(context, "as-user-extra is not a mapping", "write {KEY: [VALUE]}")
    for key, values in given.items():
        for value in _texts(context, f"as-user-extra: {key}", values):
            yield f"Impersonate-Extra-{_escaped(str(key))}", value


def _escaped(key: str) -> str:
    return "".join(chr(byte) if chr(byte) in _PLAIN else f"%{byte:02X}" for byte in key.encode())


def _text(context: Context, key: str) -> str:
    value = context.user.get(key)
    if value is not None and not isinstance(value, str):
        raise _invalid(context, f"{key} is not a string", "put it in quotes")
    return value or ""


def _texts(context: Context, key: str, values: object) -> list[str]:
    if values is None:
        return []
    if not isinstance(values, list) or not all(isinstance(one, str) for one in values):
        raise _invalid(context, f"{key} is not a list of strings", "write [VALUE]")
    return values


def _invalid(context: Context, what: str, how: str) -> ConfigError:
    return ConfigError(
        f"context {context.name!r}: user {context.user_name!r}: {what}",
        reason="InvalidKubeconfig",
        hint=f"{how} in {', '.join(map(str, context.files))}; kubectl refuses that too",
    )
