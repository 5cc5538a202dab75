"""Small Kubernetes objects for the tests: valid, cheap to run, ended at once by SIGTERM."""

from __future__ import annotations

import os
from typing import Any

Object = dict[str, Any]

# The only image that the suite needs: a shell and python3, on every node beforehand.
IMAGE = os.environ.get("DEVLOOP_TEST_IMAGE", "devloop-base:bookworm")
# Names under which every runtime knows that image too: another one is another image to Kubernetes.
NAMES = (
    IMAGE,
    *(f"{host}/{IMAGE}" for host in ("docker.io/library", "library", "docker.io", "index.docker.io")),
)
SLEEP = 'trap "exit 0" TERM; sleep 3600 & wait'


def config_map(name: str = "settings", data: Object | None = None, **metadata: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, **metadata},
        "data": {"a": "1"} if data is None else data,
    }


def secret(name: str = "keys", **fields: Any) -> Object:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, **fields}


def container(script: str | None = SLEEP, *, name: str = "main", **fields: Any) -> Object:
    """One container that runs a shell script."""
    command = {} if script is None else {"command": ["sh", "-c", script]}
    return {
        "name": name,
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        **command,
        **fields,
    }


def pod_spec(*containers: Object, **fields: Any) -> Object:
    return {
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": False,
        "containers": list(containers or (container(),)),
        **fields,
    }


def pod(*containers: Object, name: str = "one", labels: Object | None = None, **spec: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, **({"labels": labels} if labels else {})},
        "spec": pod_spec(*containers, **spec),
    }


def job(script: str, name: str = "one", **spec: Any) -> Object:
    """A pod that runs a script once."""
    return pod(container(script), name=name, **{"restartPolicy": "Never", **spec})


def deployment(
    *containers: Object,
    name: str = "web",
    replicas: int = 1,
    template: Object | None = None,
    **spec: Any,
) -> Object:
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {**pod_spec(*containers), **(template or {})},
            },
            **spec,
        },
    }


def replica_set(name: str = "herd", replicas: int = 1, **spec: Any) -> Object:
    made = deployment(name=name, replicas=replicas, **spec)
    return {**made, "kind": "ReplicaSet"}


def stateful_set(*containers: Object, name: str = "db", replicas: int = 1, **spec: Any) -> Object:
    made = deployment(*containers, name=name, replicas=replicas, **spec)
    made["spec"]["serviceName"] = name
    return {**made, "kind": "StatefulSet"}


def service(name: str = "web", port: int = 80, target: int | str = 8080, **spec: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {
            "selector": {"app": name},
            "ports": [{"port": port, "targetPort": target}],
            **spec,
        },
    }


def http_server(answer: str = "hello", port: int = 8080, **fields: Any) -> Object:
    """A container that answers every path of its folder: `/` and `/index.html`."""
    script = (
        f"mkdir -p /tmp/www && cd /tmp/www && echo {answer} > index.html"
        f" && exec python3 -m http.server {port}"
    )
    return container(script, ports=[{"name": "http", "containerPort": port}], **fields)


def fetch(url: str) -> list[str]:
    """A command that prints what a URL answers, and fails if it does not."""
    program = (
        "import sys,urllib.request as u;sys.stdout.write(u.urlopen(sys.argv[1],timeout=3).read().decode())"
    )
    return ["python3", "-c", program, url]
