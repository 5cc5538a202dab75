"""Kubeconfigs of one user, and credential plugins that answer what a test wants."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import yaml


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
