"""Kubeconfig files merged as kubectl does, and the entries of the one context that devloop may use."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devloop.errors import ConfigError
from devloop.fault_reports import state_folder
from devloop.files import read_text
from devloop.kubernetes_yaml.documents import document

SHOWS = "kubectl config view shows the merged files"
Entry = dict[str, Any]
_SECTIONS = ("clusters", "contexts", "users")
_PATH_KEYS = ("certificate-authority", "client-certificate", "client-key", "tokenFile")


@dataclass(frozen=True, slots=True)
class Context:
    """What a kubeconfig says about one context; every path in `cluster` and `user` is absolute."""

    name: str
    cluster_name: str
    cluster: Mapping[str, Any]
    user: Mapping[str, Any]
    namespace: str
    files: tuple[Path, ...]
    user_name: str = ""

    @property
    def server(self) -> str:
        return str(self.cluster.get("server", "")).rstrip("/")

    def extension(self, name: str) -> Mapping[str, Any]:
        """The content of one extension of the cluster entry, {} if it has none of that name."""
        listed = self.cluster.get("extensions")
        for item in listed if isinstance(listed, list) else ():
            if isinstance(item, dict) and item.get("name") == name:
                content = item.get("extension")
                return content if isinstance(content, dict) else {}
        return {}


def find_files(explicit: str | None, environ: Mapping[str, str]) -> tuple[Path, ...]:
    """The files kubectl would read: --kubeconfig, else $KUBECONFIG (several), else ~/.kube/config."""
    if explicit:
        return (Path(explicit).expanduser(),)
    listed = tuple(
        Path(name).expanduser() for name in environ.get("KUBECONFIG", "").split(os.pathsep) if name
    )
    return listed or (Path("~/.kube/config").expanduser(),)


def read_context(files: Sequence[Path], name: str) -> Context:
    """The context `name` of the merged files; current-context is not looked at (S29).

    Raises ConfigError: unreadable file, no such context (lists those that exist), dangling entry.
    """
    found = [path for path in files if path.exists()]
    if not found:
        raise ConfigError(
            f"no kubeconfig for context {name!r}: {', '.join(map(str, files))} does not exist",
            reason="KubeconfigMissing",
            hint=_sandbox_of(name)
            or "start the cluster (minikube start, devloop sandbox up), or give --kubeconfig FILE",
        )
    sections = _merge(found)
    where = ", ".join(map(str, found))
    context = sections["contexts"].get(name)
    if context is None:
        known = ", ".join(sorted(sections["contexts"])) or "none"
        raise ConfigError(
            f"context {name!r} is not in {where}; contexts there: {known}",
            reason="ContextMissing",
            hint=_sandbox_of(name)
            or "set cluster.context in config.yaml, or give --context; is the cluster created?",
        )
    cluster_name = str(context.get("cluster", ""))
    cluster = sections["clusters"].get(cluster_name)
    if cluster is None or not cluster.get("server"):
        raise ConfigError(
            f"context {name!r} names cluster {cluster_name!r}, which {where} does not describe",
            reason="InvalidKubeconfig",
            hint=SHOWS,
        )
    if not re.match(r"https?://[^/]", str(cluster["server"])):
        raise ConfigError(
            f"context {name!r}: {cluster['server']!r}, the server of its cluster in {where}, is no address",
            reason="InvalidKubeconfig",
            hint=f"write https://HOST:PORT, or make the entry again; {SHOWS}",
        )
    user_name = str(context.get("user", ""))
    user = sections["users"].get(user_name, {})
    return Context(
        name=name,
        cluster_name=cluster_name,
        cluster=cluster,
        user=user,
        namespace=str(context.get("namespace") or "default"),
        files=tuple(found),
        user_name=user_name,
    )


def current_context(files: Sequence[Path]) -> str:
    """The context that kubectl would use, "" for none: for `init` alone, which writes its name down (S29).

    Raises ConfigError for a file that cannot be read.
    """
    named = (_read(path).get("current-context") for path in files if path.exists())
    return next((str(name) for name in named if name), "")


def _section(path: Path, document: Entry, section: str) -> list[Any]:
    listed = document.get(section) or []
    if not isinstance(listed, list):
        raise _invalid(f"kubeconfig {path}: {section} is not a list")
    return listed


def _merge(files: Sequence[Path]) -> dict[str, dict[str, Entry]]:
    """Section -> name -> entry; the first file that names an entry wins, as in kubectl."""
    sections: dict[str, dict[str, Entry]] = {section: {} for section in _SECTIONS}
    for path in files:
        document = _read(path)
        for section in _SECTIONS:
            for item in _section(path, document, section):
                if not isinstance(item, dict) or "name" not in item:
                    raise _invalid(f"kubeconfig {path}: every entry of {section} needs a name")
                entry = item.get(section[:-1]) or {}
                if not isinstance(entry, dict):
                    raise _invalid(
                        f"kubeconfig {path}: {section}: {item['name']}: {section[:-1]} is not a mapping"
                    )
                sections[section].setdefault(str(item["name"]), _absolute(entry, path.parent))
    return sections


def _read(path: Path) -> Entry:
    try:
        value = document(read_text(path), f"kubeconfig {path}", reason="InvalidKubeconfig")
    except OSError as error:
        raise ConfigError(
            f"kubeconfig {path} cannot be read: {error.strerror}",
            reason="KubeconfigUnreadable",
            hint=f"ls -l {path}; KUBECONFIG or --kubeconfig names another file",
        ) from error
    except ConfigError as error:
        raise _invalid(error.message) from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _invalid(f"kubeconfig {path}: not a mapping with clusters, contexts and users")
    return value


def _invalid(message: str) -> ConfigError:
    hint = "kubectl config view shows what kubectl reads of it; KUBECONFIG or --kubeconfig names another file"
    return ConfigError(message, reason="InvalidKubeconfig", hint=hint)


def _sandbox_of(context: str) -> str:
    """How to select the sandbox of devloop's own that has this context, "" where none has."""
    for path in sorted(state_folder().parent.glob("sandbox/*/kubeconfig")):
        with suppress(ConfigError):
            if current_context([path]) == context:
                return f"a sandbox of yours has it: export KUBECONFIG={path}"
    return ""


def _absolute(entry: Entry, folder: Path) -> Entry:
    """Paths in a kubeconfig are relative to the file that holds them."""
    resolved = dict(entry)
    for key in _PATH_KEYS:
        if resolved.get(key):
            resolved[key] = str(folder.absolute() / Path(str(resolved[key])).expanduser())
    plugin = resolved.get("exec")
    if isinstance(plugin, dict) and "/" in str(plugin.get("command", "")):
        resolved["exec"] = {**plugin, "command": str(folder.absolute() / str(plugin["command"]))}
    return resolved
