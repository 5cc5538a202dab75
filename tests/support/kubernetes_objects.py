"""Objects as tests write them, and a client for that which shares nothing with devloop's own."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from devloop.adapters.kubernetes.cluster import KubernetesCluster
from devloop.model import BuildSpec, Fingerprint, Image, Inputs, LoadedImage, Service, Target
from tests.support.faulty_proxy import upstream_of

TARGET = Target("deployment", "web", "default")
SERVICE = Service("web", "todo", BuildSpec(Path("/src"), Path("/src/Dockerfile")), (TARGET,))
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
STATEFULSETS = "/apis/apps/v1/namespaces/default/statefulsets"
REPLICASETS = "/apis/apps/v1/namespaces/default/replicasets"
PODS = "/api/v1/namespaces/default/pods"
EVENTS = "/api/v1/namespaces/default/events"


def ref(digit: str) -> str:
    return f"todo:dl-{digit:0>16}"


def loaded(digit: str, image_id: str = "sha256:aa") -> LoadedImage:
    """The image todo:dl-0…<digit>, loaded."""
    fingerprint = Fingerprint(f"{digit:0>16}", Inputs({}, (), "linux/amd64", "", ""))
    return LoadedImage(Image("web", fingerprint, ref(digit), image_id, "cli"), ("node",), "shared")


def deployment(
    image: str = "todo:1", *, name: str = "web", pull: str = "IfNotPresent", **spec: Any
) -> dict[str, Any]:
    container = {"name": "web", "image": image, "imagePullPolicy": pull}
    pod_spec = spec.pop("pod_spec", {"containers": [container]})
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, **spec.pop("metadata", {})},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": pod_spec},
            **spec,
        },
    }


async def applied(
    cluster: KubernetesCluster, paths: Sequence[Path], refs: Sequence[str], withheld: Sequence[str] = ()
) -> tuple[str, ...]:
    """What applying changed; the first trouble is raised."""
    done = await cluster.apply(paths, refs, withheld)
    for trouble in done.troubles:
        raise trouble.error
    return done.changed


def statefulset(image: str = "todo:1", **spec: Any) -> dict[str, Any]:
    item = deployment(image, **spec)
    item["kind"] = "StatefulSet"
    item["spec"]["serviceName"] = "web"
    return item


def owner_of(item: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": item["apiVersion"],
        "kind": item["kind"],
        "name": item["metadata"]["name"],
        "uid": item["metadata"]["uid"],
        "controller": True,
    }


def replicaset(parent: dict[str, Any], suffix: str, revision: str, image: str) -> dict[str, Any]:
    """The ReplicaSet that the Deployment controller would make."""
    labels = {"app": "web", "pod-template-hash": suffix}
    template = copy.deepcopy(parent["spec"]["template"])
    template["metadata"]["labels"] = labels
    template["spec"]["containers"][0]["image"] = image
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"{parent['metadata']['name']}-{suffix}",
            "labels": labels,
            "annotations": {"deployment.kubernetes.io/revision": revision},
            "ownerReferences": [owner_of(parent)],
        },
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": template,
        },
    }


def pod(parent: dict[str, Any], name: str, image: str, labels: dict[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels, "ownerReferences": [owner_of(parent)]},
        "spec": {"containers": [{"name": "web", "image": image}]},
    }


def event(about: dict[str, Any], name: str, reason: str, message: str) -> dict[str, Any]:
    meta = about["metadata"]
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name},
        "type": "Warning",
        "reason": reason,
        "message": message,
        "involvedObject": {
            "kind": about["kind"],
            "name": meta["name"],
            "namespace": "default",
            "uid": meta["uid"],
        },
    }


@dataclass
class Api:
    """Writes to the API server, as another client would."""

    kubeconfig: Path
    server: str
    session: aiohttp.ClientSession

    @classmethod
    @asynccontextmanager
    async def open(cls, kubeconfig: Path) -> AsyncIterator[Api]:
        server, tls = upstream_of(kubeconfig)
        user = yaml.safe_load(kubeconfig.read_text())["users"][0]["user"]
        async with aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {user['token']}"}, connector=aiohttp.TCPConnector(ssl=tls)
        ) as session:
            yield cls(kubeconfig, server, session)

    async def call(
        self, method: str, path: str, body: Any = None, content_type: str = "application/json"
    ) -> dict[str, Any]:
        async with self.session.request(
            method, self.server + path, json=body, headers={"Content-Type": content_type}
        ) as response:
            answer: dict[str, Any] = await response.json()
            assert response.status < 400, answer
            return answer

    async def get(self, path: str) -> dict[str, Any]:
        return await self.call("GET", path)

    async def create(self, path: str, item: dict[str, Any]) -> dict[str, Any]:
        return await self.call("POST", path, item)

    async def delete(self, path: str) -> None:
        await self.call("DELETE", path, {"gracePeriodSeconds": 0})

    async def merge(self, path: str, body: dict[str, Any], manager: str = "kubectl-edit") -> dict[str, Any]:
        return await self.call(
            "PATCH", f"{path}?fieldManager={manager}", body, "application/merge-patch+json"
        )

    async def status(self, path: str, status: dict[str, Any]) -> dict[str, Any]:
        return await self.merge(f"{path}/status", {"status": status}, "controller")
