"""The suite's own client: raw Kubernetes API over HTTP, so that a test sees what the server answered.

No client library stands between: status codes, content types and Status objects are what is tested.
"""

from __future__ import annotations

import base64
import json
import os
import re
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

import httpx
import pytest
import websocket
import yaml

Object = dict[str, Any]
T = TypeVar("T")

JSON = "application/json"
JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"

# A deadline is for "never", not for "slow": a healthy cluster needs a fraction of it.
PATIENCE_S = 60.0
POLL_S = 0.1

RESOURCES: dict[str, tuple[str, str]] = {
    "ConfigMap": ("v1", "configmaps"),
    "CronJob": ("batch/v1", "cronjobs"),
    "Deployment": ("apps/v1", "deployments"),
    "Endpoints": ("v1", "endpoints"),
    "EndpointSlice": ("discovery.k8s.io/v1", "endpointslices"),
    "Event": ("v1", "events"),
    "Job": ("batch/v1", "jobs"),
    "Namespace": ("v1", "namespaces"),
    "Node": ("v1", "nodes"),
    "Pod": ("v1", "pods"),
    "ReplicaSet": ("apps/v1", "replicasets"),
    "Secret": ("v1", "secrets"),
    "Service": ("v1", "services"),
    "StatefulSet": ("apps/v1", "statefulsets"),
}
CLUSTER_WIDE = ("Namespace", "Node")


class Refused(Exception):
    """The server answered with an error; `status` is its Status object ({} if it sent none)."""

    def __init__(self, response: httpx.Response) -> None:
        self.code = response.status_code
        try:
            self.status: Object = response.json()
        except ValueError:
            self.status = {}
        self.reason: str = self.status.get("reason", "")
        self.message: str = self.status.get("message", response.text)
        self.details: Object = self.status.get("details") or {}
        request = response.request
        super().__init__(f"{request.method} {request.url.path}: {self.code} {self.message}")

    @property
    def causes(self) -> dict[str, str]:
        """Field -> reason of each cause."""
        return {c.get("field", ""): c.get("reason", "") for c in self.details.get("causes", [])}


class Refusal:
    """What `refused` caught; filled when its block ends."""

    error: Refused

    @property
    def causes(self) -> dict[str, str]:
        return self.error.causes

    @property
    def message(self) -> str:
        return self.error.message


@contextmanager
def refused(code: int, reason: str | None = None) -> Iterator[Refusal]:
    """The block must be answered with this code and, if given, this Status reason."""
    caught = Refusal()
    with pytest.raises(Refused) as info:
        yield caught
    caught.error = error = info.value
    assert error.code == code, str(error)
    if reason is not None:
        assert error.reason == reason, str(error)
        assert error.status["kind"] == "Status"
        assert error.status["apiVersion"] == "v1"
        assert error.status["status"] == "Failure"
        assert error.status["code"] == code
        assert error.message


def path_of(kind: str, namespace: str | None, name: str | None = None, sub: str = "") -> str:
    version, plural = RESOURCES[kind]
    root = f"/api/{version}" if "/" not in version else f"/apis/{version}"
    scope = f"/namespaces/{namespace}" if namespace and kind not in CLUSTER_WIDE else ""
    tail = "".join(f"/{part}" for part in (name, sub) if part)
    return f"{root}{scope}/{plural}{tail}"


def _material(entry: Mapping[str, str], key: str) -> bytes | None:
    """`<key>-data` (base64) or the file named by `<key>`."""
    if data := entry.get(f"{key}-data"):
        return base64.b64decode(data)
    if file := entry.get(key):
        return Path(file).read_bytes()
    return None


def _load_client_certificate(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    # ssl takes a key pair only from a file; the file lives as long as this call.
    with tempfile.NamedTemporaryFile(prefix="contract-") as pem:
        pem.write(certificate + b"\n" + key)
        pem.flush()
        context.load_cert_chain(pem.name)


class Cluster:
    """One API server, as the current context of a kubeconfig names it."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        config = yaml.safe_load(kubeconfig.read_text())
        context = _named(config["contexts"], config["current-context"])["context"]
        server = _named(config["clusters"], context["cluster"])["cluster"]
        user = _named(config["users"], context["user"])["user"]
        self.server: str = server["server"].rstrip("/")
        self.ssl = ssl.create_default_context()
        if authority := _material(server, "certificate-authority"):
            self.ssl.load_verify_locations(cadata=authority.decode())
        self.anonymous = self._client({}, self.ssl)
        with_identity = ssl.create_default_context()
        if authority:
            with_identity.load_verify_locations(cadata=authority.decode())
        certificate, key = _material(user, "client-certificate"), _material(user, "client-key")
        if certificate and key:
            _load_client_certificate(with_identity, certificate, key)
        self.identity_ssl = with_identity
        self.headers: dict[str, str] = {}
        token = user.get("token")
        if not token and (file := user.get("tokenFile")):
            token = Path(file).read_text().strip()
        if token:
            self.headers["Authorization"] = f"Bearer {token}"
        self.http = self._client(self.headers, with_identity)

    def _client(self, headers: Mapping[str, str], context: ssl.SSLContext) -> httpx.Client:
        return httpx.Client(
            base_url=self.server,
            verify=context,
            headers={"User-Agent": "contract/1.0", **headers},
            timeout=httpx.Timeout(30.0),
            trust_env=False,
        )

    def close(self) -> None:
        self.http.close()
        self.anonymous.close()

    def call(
        self,
        method: str,
        path: str,
        body: Object | list[Any] | str | bytes | None = None,
        *,
        content_type: str = JSON,
        accept: str = JSON,
        headers: Mapping[str, str] | None = None,
        **params: Any,
    ) -> httpx.Response:
        """One request; raises Refused for an answer of 400 and above."""
        content = body if body is None or isinstance(body, str | bytes) else json.dumps(body)
        sent = {"Accept": accept, **(headers or {})}
        if content is not None:
            sent["Content-Type"] = content_type
        query = {k: _text(v) for k, v in params.items() if v is not None}
        response = self.http.request(method, path, content=content, headers=sent, params=query)
        if response.status_code >= 400:
            raise Refused(response)
        return response

    def create(self, thing: Object, namespace: str | None = None, **params: Any) -> Object:
        path = path_of(thing["kind"], namespace)
        return _json(self.call("POST", path, thing, **params))

    def read(self, kind: str, name: str, namespace: str | None = None, **params: Any) -> Object:
        return _json(self.call("GET", path_of(kind, namespace, name), **params))

    def websocket(self, path: str, *, subprotocol: str, **params: Any) -> websocket.WebSocket:
        pairs = [
            (k, _text(v))
            for k, value in params.items()
            for v in (value if isinstance(value, list) else [value])
        ]
        url = self.server.replace("http", "ws", 1) + path + "?" + urlencode(pairs)
        header = [f"{k}: {v}" for k, v in self.headers.items()]
        return websocket.create_connection(
            url,
            subprotocols=[subprotocol],
            header=header,
            sslopt={"context": self.identity_ssl},
            timeout=30,
        )


class Namespace:
    """A namespace of one's own, and the verbs in it."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster = cluster
        self.name = name

    def path(self, kind: str, name: str | None = None, sub: str = "") -> str:
        return path_of(kind, self.name, name, sub)

    def create(self, thing: Object, **params: Any) -> Object:
        return self.cluster.create(thing, self.name, **params)

    def read(self, kind: str, name: str, **params: Any) -> Object:
        return self.cluster.read(kind, name, self.name, **params)

    def collection(self, kind: str, **params: Any) -> Object:
        return _json(self.cluster.call("GET", self.path(kind), **params))

    def items(self, kind: str, **params: Any) -> list[Object]:
        items: list[Object] = self.collection(kind, **params)["items"]
        return items

    def names(self, kind: str, **params: Any) -> set[str]:
        return {item["metadata"]["name"] for item in self.items(kind, **params)}

    def replace(self, thing: Object, *, sub: str = "", **params: Any) -> Object:
        path = self.path(thing["kind"], thing["metadata"]["name"], sub)
        return _json(self.cluster.call("PUT", path, thing, **params))

    def patch(
        self, content_type: str, kind: str, name: str, patch: Any, *, sub: str = "", **params: Any
    ) -> Object:
        path = self.path(kind, name, sub)
        return _json(self.cluster.call("PATCH", path, patch, content_type=content_type, **params))

    def merge(self, kind: str, name: str, patch: Any, **params: Any) -> Object:
        return self.patch(MERGE_PATCH, kind, name, patch, **params)

    def strategic(self, kind: str, name: str, patch: Any, **params: Any) -> Object:
        return self.patch(STRATEGIC_PATCH, kind, name, patch, **params)

    def json_patch(self, kind: str, name: str, operations: list[Object], **params: Any) -> Object:
        return self.patch(JSON_PATCH, kind, name, operations, **params)

    def apply(self, thing: Object, manager: str, **params: Any) -> Object:
        kind, name = thing["kind"], thing["metadata"]["name"]
        return self.patch(APPLY_PATCH, kind, name, yaml.safe_dump(thing), fieldManager=manager, **params)

    def delete(self, kind: str, name: str, options: Object | None = None, **params: Any) -> Object:
        path = self.path(kind, name)
        body = options and {"kind": "DeleteOptions", "apiVersion": "v1", **options}
        return _json(self.cluster.call("DELETE", path, body, **params))

    def exists(self, kind: str, name: str) -> bool:
        try:
            self.read(kind, name)
        except Refused as error:
            if error.code == 404:
                return False
            raise
        return True

    # -- waiting -----------------------------------------------------------------------------

    def wait(
        self,
        kind: str,
        name: str,
        until: Callable[[Object], Any],
        *,
        what: str = "",
        seconds: float = PATIENCE_S,
    ) -> Object:
        """The object as soon as `until(object)` is true."""
        seen: Object = {}

        def look() -> Object | None:
            nonlocal seen
            seen = self.read(kind, name)
            return seen if until(seen) else None

        def description() -> str:
            return f"{kind} {name} never came to {what or 'what was awaited'}; last seen:\n" + (
                yaml.safe_dump({"status": seen.get("status", seen)})
            )

        return eventually(look, description, seconds)

    def wait_gone(self, kind: str, name: str, *, seconds: float = PATIENCE_S) -> None:
        eventually(lambda: not self.exists(kind, name), f"{kind} {name} is still there", seconds)

    def wait_items(
        self,
        kind: str,
        until: Callable[[list[Object]], Any],
        *,
        what: str = "",
        seconds: float = PATIENCE_S,
        **params: Any,
    ) -> list[Object]:
        seen: list[Object] = []

        def look() -> list[Object] | None:
            nonlocal seen
            seen = self.items(kind, **params)
            return (seen or [{}]) if until(seen) else None

        def description() -> str:
            return f"{kind} list never came to {what or 'what was awaited'}; last seen:\n" + (
                yaml.safe_dump([{"m": i["metadata"], "s": i.get("status")} for i in seen])
            )

        return [item for item in eventually(look, description, seconds) if item]

    def wait_event(self, reason: str, kind: str, name: str, *, seconds: float = 90.0) -> Object:
        """The first event of that reason about that object."""

        def found() -> list[Object]:
            return self.items("Event", fieldSelector=f"involvedObject.name={name},reason={reason}")

        def description() -> str:
            about = self.items("Event", fieldSelector=f"involvedObject.name={name}")
            lines = [f"{e['type']} {e['reason']}: {e.get('message')}" for e in about]
            return f"no event {reason} about {kind} {name}, only: {lines}"

        events = eventually(found, description, seconds)
        return next(e for e in events if e["involvedObject"]["kind"] == kind)

    # -- pods --------------------------------------------------------------------------------

    def log(self, name: str, **params: Any) -> str:
        return self.cluster.call("GET", self.path("Pod", name, "log"), accept="*/*", **params).text

    def follow(self, name: str, **params: Any) -> Iterator[str]:
        """Log lines as they come, until the container ends."""
        query = {k: _text(v) for k, v in {"follow": True, **params}.items()}
        path = self.path("Pod", name, "log")
        with self.cluster.http.stream("GET", path, params=query, timeout=120) as response:
            if response.status_code >= 400:
                response.read()
                raise Refused(response)
            yield from response.iter_lines()

    def wait_log(self, name: str, text: str, **params: Any) -> str:
        """The log as soon as `text` is in it."""

        def look() -> str | None:
            try:
                seen = self.log(name, **params)
            except Refused as error:
                if error.code == 400:  # not started yet
                    return None
                raise
            return seen if text in seen else None

        return eventually(look, f"{text!r} never came to the log of {name}", PATIENCE_S)

    def execute(self, pod: str, *command: str, stdin: bytes | None = None, **params: Any) -> Ran:
        """Run a command in a container over the websocket, as `kubectl exec` does."""
        socket = self.cluster.websocket(
            self.path("Pod", pod, "exec"),
            subprotocol="v5.channel.k8s.io",
            command=list(command),
            stdout=True,
            **({} if params.get("tty") else {"stderr": True}),  # a terminal has one output
            **({"stdin": True} if stdin is not None else {}),
            **params,
        )
        ran = Ran()
        try:
            if stdin is not None:
                for start in range(0, len(stdin), 32768):
                    socket.send_binary(b"\x00" + stdin[start : start + 32768])
                socket.send_binary(b"\xff\x00")  # v5: close stdin
            ran.take(socket)
        finally:
            socket.close()
        return ran

    # -- watching ----------------------------------------------------------------------------

    def watch(self, kind: str, **params: Any) -> Watch:
        return Watch(self.cluster, self.path(kind), params)


class Ran:
    """What a command run by exec left: both outputs and the Status that closes the channel."""

    def __init__(self) -> None:
        self.stdout = b""
        self.stderr = b""
        self.status: Object = {}

    def take(self, socket: websocket.WebSocket) -> None:
        while not self.status:
            try:
                frame = socket.recv()
            except websocket.WebSocketConnectionClosedException:
                break
            data = frame.encode() if isinstance(frame, str) else frame
            if not data:
                if not socket.connected:
                    break
                continue
            if data[0] == 1:
                self.stdout += data[1:]
            elif data[0] == 2:
                self.stderr += data[1:]
            elif data[0] == 3 and len(data) > 1:  # an empty frame only opens the channel
                self.status = json.loads(data[1:])
        assert self.status, "the server closed the channel without a Status"

    @property
    def code(self) -> int:
        if self.status["status"] == "Success":
            return 0
        causes = self.status.get("details", {}).get("causes", [])
        exit_codes = [int(c["message"]) for c in causes if c.get("reason") == "ExitCode"]
        assert exit_codes, self.status
        return exit_codes[0]


class Watch:
    """An open watch; iterate for events, `until` collects up to one that is awaited."""

    def __init__(self, cluster: Cluster, path: str, params: Mapping[str, Any]) -> None:
        query = {k: _text(v) for k, v in {"watch": True, "timeoutSeconds": 60, **params}.items()}
        accept = query.pop("accept", JSON)
        self._stream = cluster.http.stream("GET", path, params=query, headers={"Accept": accept}, timeout=90)
        self.seen: list[tuple[str, Object]] = []

    def __enter__(self) -> Watch:
        self._response = self._stream.__enter__()
        if self._response.status_code >= 400:
            self._response.read()
            self._stream.__exit__(None, None, None)
            raise Refused(self._response)
        self._lines = self._response.iter_lines()
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.__exit__(None, None, None)

    def __iter__(self) -> Iterator[tuple[str, Object]]:
        for line in self._lines:
            if line.strip():
                event = json.loads(line)
                self.seen.append((event["type"], event["object"]))
                yield self.seen[-1]

    def next(self) -> tuple[str, Object]:
        for event in self:
            return event
        raise AssertionError(f"the watch ended; seen: {self.description()}")

    def until(self, done: Callable[[str, Object], Any]) -> list[tuple[str, Object]]:
        """All events seen so far, up to and with the first for which `done(type, object)`."""
        for kind, thing in self:
            if done(kind, thing):
                return self.seen
        raise AssertionError(f"the watch ended before what was awaited; seen: {self.description()}")

    def description(self) -> list[str]:
        return [f"{t} {o.get('metadata', {}).get('name', o)}" for t, o in self.seen]


def eventually(
    look: Callable[[], T | None], description: str | Callable[[], str], seconds: float = PATIENCE_S
) -> T:
    """What `look` gives as soon as it is true; AssertionError with `description` after the deadline."""
    deadline = time.monotonic() + seconds
    while True:
        if found := look():
            return found
        if time.monotonic() > deadline:
            raise AssertionError(
                f"{description if isinstance(description, str) else description()} (after {seconds} s)"
            )
        time.sleep(POLL_S)


def condition(thing: Object, kind: str) -> Object:
    """The condition of that type, {} if it is not there."""
    found = [c for c in thing.get("status", {}).get("conditions", []) if c["type"] == kind]
    return found[0] if found else {}


def is_true(thing: Object, kind: str) -> bool:
    return condition(thing, kind).get("status") == "True"


def container_status(pod: Object, name: str = "main", *, init: bool = False) -> Object:
    """The status of one container, {} as long as the kubelet has not written one."""
    key = "initContainerStatuses" if init else "containerStatuses"
    found = [s for s in pod.get("status", {}).get(key, []) if s["name"] == name]
    return found[0] if found else {}


def waiting_reason(pod: Object, name: str = "main", *, init: bool = False) -> str:
    status = container_status(pod, name, init=init)
    return str(status.get("state", {}).get("waiting", {}).get("reason", ""))


def terminated(pod: Object, name: str = "main", *, init: bool = False) -> Object:
    state = container_status(pod, name, init=init).get("state", {})
    found: Object = state.get("terminated", {})
    return found


def owners(thing: Object) -> list[str]:
    return [ref["uid"] for ref in thing["metadata"].get("ownerReferences", [])]


def uid(thing: Object) -> str:
    return str(thing["metadata"]["uid"])


def name_of(thing: Object) -> str:
    return str(thing["metadata"]["name"])


def version_of(thing: Object) -> str:
    return str(thing["metadata"]["resourceVersion"])


def after_restarts(count: int) -> float:
    """A deadline in seconds for so many restarts; back-off is 10 s, 20 s, 40 s, ... times a scale.

    https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#restart-policy
    """
    scale = float(os.environ.get("DEVLOOP_TEST_BACKOFF_SCALE", "1"))
    return PATIENCE_S + scale * sum(10 * 2**n for n in range(count))


def warnings_of(response: httpx.Response) -> list[str]:
    """The texts of the `Warning: 299 - "..."` headers."""
    joined = ", ".join(response.headers.get_list("warning"))
    return re.findall(r'299 \S+ "((?:[^"\\]|\\.)*)"', joined)


def _named(entries: list[Object], name: str) -> Object:
    return next(entry for entry in entries if entry["name"] == name)


def _json(response: httpx.Response) -> Object:
    thing: Object = response.json()
    return thing


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
