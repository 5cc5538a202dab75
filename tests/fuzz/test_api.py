# ruff: noqa: E501 - tables of objects
"""Answers of an API server: what devloop makes of them, or an error that says what was wrong; never an internal one.

The watches run on: an informer that meets a broken object says so, and lists again.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import anyio
from hypothesis import example, given
from hypothesis import strategies as st

from devloop.adapters.checks.surroundings import look_around
from devloop.adapters.helm import records
from devloop.adapters.kubernetes import informer as informers
from devloop.adapters.kubernetes.api.access import open_access
from devloop.adapters.kubernetes.api.answers import decoded
from devloop.adapters.kubernetes.api.client import Client
from devloop.adapters.kubernetes.api.guard import Platform
from devloop.adapters.kubernetes.evidence import read_last_words
from devloop.adapters.kubernetes.feed import PATHS, NamespaceView
from devloop.adapters.kubernetes.informer import Health
from devloop.adapters.kubernetes.inventory import find_ingress, find_url, read_images, read_nodes
from devloop.adapters.kubernetes.made import find_namespaces, find_noted
from devloop.adapters.kubernetes.patch import write_image
from devloop.clock import Clock
from devloop.errors import DevloopError
from devloop.model import Release, Snapshot, Target
from devloop.rollout.expectation import Expectation
from devloop.rollout.judge import judge
from devloop.rollout.states import deployment_state, pod_state
from tests.fuzz.words import bounded, broken_bytes, cases, changed, json_texts, named, well
from tests.support.hostile_answers import ANSWERS, answer, serving

PLATFORM = Platform("kind", "x", "x", "https://x", "x", "default", local=True)
TARGET = Target("deployment", "web", "default")
TEMPLATE = {
    "metadata": {"labels": {"app": "web"}, "annotations": {"a": "b"}},
    "spec": {
        "containers": [{"name": "web", "image": "web:dl-1", "readinessProbe": {"periodSeconds": 5}, "resources": {"limits": {"cpu": "500m", "memory": "1Gi"}}, "lifecycle": {"preStop": {}}}],
        "initContainers": [{"name": "i", "image": "i"}],
    },
}  # fmt: skip
META = {
    "name": "web", "namespace": "default", "uid": "u", "resourceVersion": "5", "generation": 2, "labels": {"app": "web", "pod-template-hash": "h"},
    "annotations": {"deployment.kubernetes.io/revision": "2", "dev.devloop/owner": "{}", "dev.devloop/hold": ""},
    "ownerReferences": [{"uid": "u", "controller": True}], "managedFields": [{"manager": "m", "time": "t", "fieldsV1": {"f:spec": {"f:template": {"f:spec": {"f:containers": {'k:{"name":"web"}': {"f:image": {}}}}}}}}],
}  # fmt: skip
WORKLOAD: dict[str, Any] = {
    "apiVersion": "apps/v1", "kind": "Deployment", "metadata": META,
    "spec": {"replicas": 1, "template": TEMPLATE, "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}, "progressDeadlineSeconds": 60, "minReadySeconds": 0, "selector": {"matchLabels": {"app": "web"}}},
    "status": {"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1, "conditions": [{"type": "Progressing", "status": "True", "reason": "X", "message": "m"}]},
}  # fmt: skip
POD: dict[str, Any] = {
    "apiVersion": "v1", "kind": "Pod", "metadata": {**META, "name": "web-1", "uid": "p", "deletionTimestamp": "2024-01-01T00:00:00Z", "deletionGracePeriodSeconds": 30},
    "spec": {**TEMPLATE["spec"], "nodeName": "n"},
    "status": {
        "phase": "Running", "reason": "r", "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2024-01-01T00:00:00Z"}, {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "m"}],
        "containerStatuses": [{"name": "web", "ready": True, "restartCount": 1, "imageID": "docker://sha256:1", "containerID": "c", "state": {"running": {"startedAt": "2024-01-01T00:00:00Z"}}, "lastState": {"terminated": {"exitCode": 1, "reason": "Error"}}}],
        "initContainerStatuses": [{"name": "i", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "m"}}}],
    },
}  # fmt: skip
EVENT = {"apiVersion": "v1", "kind": "Event", "metadata": {**META, "name": "e"}, "involvedObject": {"kind": "Pod", "name": "web-1", "uid": "p"}, "type": "Warning", "reason": "Unhealthy", "message": "Readiness probe failed", "count": 3, "series": {"count": 5}}  # fmt: skip
OBJECTS = {
    "deployments": WORKLOAD,
    "replicasets": {**WORKLOAD, "kind": "ReplicaSet"},
    "pods": POD,
    "events": EVENT,
}
SERVICE = {"kind": "Service", "metadata": META, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "nodePort": 30080}]}, "status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}}}  # fmt: skip
INGRESS = {"kind": "Ingress", "metadata": META, "spec": {"tls": [{"hosts": ["a.b"]}], "rules": [{"host": "a.b", "http": {"paths": [{"path": "/", "backend": {"service": {"name": "web"}}}]}}], "defaultBackend": {"service": {"name": "web"}}}, "status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}}}  # fmt: skip
NODE = {"kind": "Node", "metadata": META, "status": {"nodeInfo": {"architecture": "amd64"}, "addresses": [{"type": "InternalIP", "address": "1.2.3.4"}], "allocatable": {"cpu": "2", "memory": "1Gi"}}}  # fmt: skip
SECRET = {"kind": "Secret", "metadata": META, "data": {"release": records.encode({"info": {"description": "d", "status": "deployed"}})}}  # fmt: skip
GROUPS = {"kind": "APIGroupList", "groups": [{"name": "apps", "versions": [{"groupVersion": "apps/v1"}], "preferredVersion": {"groupVersion": "apps/v1"}}]}  # fmt: skip
RESOURCES = {"kind": "APIResourceList", "resources": [{"name": "pods", "kind": "Pod", "namespaced": True, "verbs": ["list", "delete"]}]}  # fmt: skip


def listed(item: dict[str, Any]) -> dict[str, Any]:
    bare = {key: value for key, value in item.items() if key not in ("kind", "apiVersion")}
    return {"kind": f"{item['kind']}List", "metadata": {"resourceVersion": "5"}, "items": [bare]}


class ScriptedClient:
    """As a Client: the answers to lists, then the lines of watches, each once."""

    access = None

    def __init__(self, lists: dict[str, Any], lines: list[bytes]) -> None:
        self._lists, self._lines, self.read = lists, lines, anyio.Event()

    async def get(self, path: str, params: object = None) -> dict[str, Any]:
        await anyio.lowlevel.checkpoint()
        resource = path.rpartition("/")[2]
        return decoded(json.dumps(self._lists[resource]).encode(), "GET", path)

    @asynccontextmanager
    async def lines(
        self, path: str, params: object, *, silence: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        async def each() -> AsyncIterator[bytes]:
            if path.endswith("/pods"):
                while self._lines:
                    yield self._lines.pop(0)
                self.read.set()
            await anyio.sleep_forever()

        yield each()

    async def renew(self, stale: object) -> None:
        self.read.set()


def _shown(snapshot: Snapshot) -> None:
    expected = Expectation("web", "web:dl-1", "sha256:1", 2, "u", 1.0, True, "x", since=1.0)
    for now in (0.0, 1e9, 4e9):
        judge(snapshot, expected, now)
    deployment_state(snapshot)
    for pod in snapshot.pods:
        pod_state(pod)


def _watched(lists: dict[str, Any], lines: list[bytes]) -> None:
    errors: list[DevloopError] = []

    async def watch() -> None:
        client = ScriptedClient(lists, lines)
        health = Health(lambda _: None)
        health.lost = errors.append  # type: ignore[assignment,method-assign]
        async with anyio.create_task_group() as group:
            view = NamespaceView("default", cast(Client, client), Clock(), health, group)
            try:
                async with view.watching("deployment"):
                    with anyio.move_on_after(20):
                        await client.read.wait()
                    for _ in range(20):
                        await anyio.lowlevel.checkpoint()
                    _shown(view.snapshot(TARGET))
                    errors.extend(one.failure for one in view._informers.values() if one.failure is not None)
            except DevloopError as error:
                errors.append(error)
            group.cancel_scope.cancel()

    before, informers.BACKOFF = informers.BACKOFF, (0.0,)  # type: ignore[misc]
    try:
        well(lambda: anyio.run(watch))
    finally:
        informers.BACKOFF = before  # type: ignore[misc]
    for error in errors:
        named(error)


LISTS = {resource: listed(item) for resource, item in OBJECTS.items()}


@st.composite
def damaged_lists(draw: st.DrawFn) -> dict[str, Any]:
    resource = draw(st.sampled_from(sorted(LISTS)))
    return {**LISTS, resource: draw(changed(LISTS[resource]))}


LINES = st.lists(json_texts({"type": "MODIFIED", "object": POD}) | json_texts({"type": "DELETED", "object": POD}) | json_texts({"type": "ERROR", "object": {"code": 500, "message": "m"}}) | json_texts({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "9"}}}), min_size=1, max_size=4)  # fmt: skip


@cases(20)
@given(damaged_lists())
@example({**LISTS, "pods": listed({**POD, "metadata": {**POD["metadata"], "deletionTimestamp": 5}})})
@example({**LISTS, "pods": listed({**POD, "spec": {"containers": [{}]}})})
@example({**LISTS, "deployments": listed({**WORKLOAD, "status": {"conditions": [5]}})})
@example({**LISTS, "deployments": {**listed({**WORKLOAD, "spec": {"replicas": []}}), "kind": 5}})
def test_damaged_lists(lists: dict[str, Any]) -> None:
    _watched(lists, [])


def line(kind: str, item: object) -> bytes:
    return json.dumps({"type": kind, "object": item}).encode()


@cases(20)
@given(LINES)
@example([line("MODIFIED", {**POD, "status": "x"})])
@example([line("MODIFIED", {**POD, "kind": "Status", "status": "x"})])
@example([line("ERROR", {"kind": "Status", "status": "Failure", "reason": "no such\n word", "message": "m"})])
def test_damaged_lines_of_watches(lines: list[bytes]) -> None:
    _watched(LISTS, list(lines))


Call = Callable[[Client], Awaitable[object]]
CALLS: dict[str, tuple[Any, Call]] = {
    "nodes": (listed(NODE), read_nodes),
    "url": (listed(SERVICE), lambda client: find_url(client, PLATFORM, "default", {"app": "web", "pod-template-hash": "h"}, "1.2.3.4", set())),
    "ingress": (listed(INGRESS), lambda client: find_ingress(client, "default", {"web"}, set())),
    "images": (listed(POD), lambda client: read_images(client, ["default"])),
    "around": (listed(NODE), lambda client: look_around(client, [])),
    "around services": (listed(SERVICE), lambda client: look_around(client, [])),
    "namespaces": (listed({"kind": "Namespace", "metadata": META}), lambda client: find_namespaces(client, "p", ["x"])),
    "groups": (GROUPS, lambda client: find_noted(client, "p", ["x"])),
    "kinds": (RESOURCES, lambda client: find_noted(client, "p", ["x"])),
    "helm": (listed(SECRET), lambda client: records.find(client, Release("web", Path("/c"), "default"))),
    "helm notes": (listed(SECRET), lambda client: records.noted(client, "p", ["x"])),
    "patch": (WORKLOAD, lambda client: write_image(client, Clock(), TARGET, "web", "web:dl-2", "me", lambda: None)),
    "logs": ({}, lambda client: read_last_words(client, "default", "web-1", "web", 5)),
}  # fmt: skip


def _asked(call: str, text: bytes) -> None:
    async def ask() -> None:
        with tempfile.TemporaryDirectory() as made:
            async with serving(text) as port:
                file = Path(made, "kubeconfig")
                cluster = {"name": "kind-x", "cluster": {"server": f"http://127.0.0.1:{port}"}}
                context = {"name": "x", "context": {"cluster": "kind-x", "user": "u"}}
                file.write_text(json.dumps({"contexts": [context], "clusters": [cluster]}))

                async def opened(last: Any) -> Any:
                    return await open_access([file], "x", allow_remote=False, last=last)

                async with Client(opened) as client:
                    with anyio.fail_after(60):
                        await CALLS[call][1](client)

    with bounded():
        well(lambda: anyio.run(ask))


@cases(20)
@given(
    st.data(),
    st.sampled_from(sorted(CALLS)),
    st.sampled_from((b"200 OK", b"404 No", b"409 Conflict", b"422 X", b"500 X")),
)
def test_damaged_answers(data: st.DataObject, call: str, status: bytes) -> None:
    body = data.draw(json_texts(CALLS[call][0]))
    _asked(call, answer(body, b"HTTP/1.1 " + status + b"\r\n"))


@cases(20)
@given(st.sampled_from(sorted(CALLS)), st.sampled_from(sorted(ANSWERS.values())) | broken_bytes(answer(json.dumps(listed(NODE)).encode())))  # fmt: skip
@example("around", answer(json.dumps({"items": [{"metadata": {"name": "web"}}]}).encode()))
def test_what_is_no_answer(call: str, text: bytes) -> None:
    _asked(call, text)


def test_what_is_damaged_here_was_sound() -> None:
    assert set(PATHS) >= set(LISTS)
    _watched(LISTS, [json.dumps({"type": "MODIFIED", "object": POD}).encode()])
    for call, (sound, _) in CALLS.items():
        _asked(call, answer(json.dumps(sound).encode()))
