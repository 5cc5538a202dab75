"""The small grammars: selectors, quantities, protobuf bodies, tables' ages, host paths."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from devloop_sandbox.admission import effects, security
from devloop_sandbox.api import protobuf, tables
from devloop_sandbox.objects import selectors
from devloop_sandbox.objects.errors import ApiError
from devloop_sandbox.objects.quantity import canonical
from devloop_sandbox.objects.resources import BY_PLURAL, Obj
from devloop_sandbox.options import Options


@pytest.mark.parametrize(
    ("text", "matching"),
    [
        ("a=1", True),
        ("a==1,b!=2", True),
        ("a in (1, 2)", True),
        ("a in (2,3)", False),
        ("a notin (2),c notin (x)", True),
        ("a,!c", True),
        ("c", False),
        ("a!=1", False),
    ],
)
def test_label_selectors(text: str, matching: bool) -> None:
    chosen = selectors.label_selector(text)
    assert chosen is not None
    assert chosen({"metadata": {"labels": {"a": "1", "b": "1"}}}) is matching


@pytest.mark.parametrize("text", ["a in 1", "=b", "a=(1"])
def test_malformed_label_selector_is_a_bad_request(text: str) -> None:
    with pytest.raises(ApiError) as refusal:
        selectors.label_selector(text)
    assert refusal.value.status == 400


def test_field_selectors_know_the_indexed_fields() -> None:
    chosen = selectors.field_selector(BY_PLURAL["pods"], "status.phase=Running,spec.nodeName!=x")
    assert chosen is not None
    assert chosen({"metadata": {}, "spec": {"nodeName": "y"}, "status": {"phase": "Running"}})
    with pytest.raises(ApiError, match=r"field label not supported: spec\.foo"):
        selectors.field_selector(BY_PLURAL["pods"], "spec.foo=1")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("0.5", "500m"),
        ("1000m", "1"),
        (1, "1"),
        ("1024Mi", "1Gi"),
        ("1500Mi", "1500Mi"),
        ("1e3", "1k"),
        ("0", "0"),
    ],
)
def test_quantities_have_one_spelling(given: str | int, kept: str) -> None:
    assert canonical(given) == kept


def message(number: int, body: bytes) -> bytes:
    return bytes([number << 3 | 2, len(body)]) + body


def envelope(kind: str, raw: bytes) -> bytes:
    meta = message(1, b"v1") + message(2, kind.encode())
    return b"k8s\x00" + message(1, meta) + message(2, raw) + message(3, b"") + message(4, b"")


def test_secret_as_protobuf_is_read() -> None:
    meta = (
        message(1, b"name")
        + message(3, b"ns")
        + message(8, b"")
        + message(11, message(1, b"k") + message(2, b"v"))
    )
    raw = (
        message(1, meta)
        + message(2, message(1, b"key") + message(2, b"\x00\xff"))
        + message(3, b"helm.sh/release.v1")
    )
    assert protobuf.decode(envelope("Secret", raw)) == {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "name", "namespace": "ns", "labels": {"k": "v"}},
        "data": {"key": base64.b64encode(b"\x00\xff").decode()},
        "type": "helm.sh/release.v1",
    }


@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        ("Widget", b""),
        ("ServiceAccount", message(2, message(3, b"token"))),
        ("Secret", b"\x0a\x7f"),
        ("Secret", message(1, message(1, b"\xff"))),
    ],
)
def test_protobuf_that_would_lose_something_is_refused(kind: str, raw: bytes) -> None:
    with pytest.raises(ValueError):
        protobuf.decode(envelope(kind, raw))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (5, "5s"),
        (119, "119s"),
        (180, "3m"),
        (200, "3m20s"),
        (3600, "60m"),
        (4 * 3600, "4h"),
        (3 * 86400, "3d"),
    ],
)
def test_ages_are_written_as_kubectl_does(seconds: int, text: str) -> None:
    then = datetime.now(UTC) - timedelta(seconds=seconds, milliseconds=100)
    assert tables.age(then.strftime("%Y-%m-%dT%H:%M:%S.%fZ")) == text


def options(root: Path) -> Options:
    return Options(
        "x", root / "state", engine=f"unix://{root}/engine.sock", allow_host_paths=(root / "open",)
    )


@pytest.mark.parametrize("path", ["open", "open/below", "open/not/there/yet"])
def test_s31_host_path_below_an_allowed_folder_passes(tmp_path: Path, path: str) -> None:
    assert security.host_path_refusal(str(tmp_path / path), options(tmp_path)) == ""


@pytest.mark.parametrize(
    "path",
    ["/", "/etc", "/var/run/docker.sock", "{}/engine.sock", "{}/openly", "{}/open/../state", "{}/open/link"],
)
def test_s31_host_path_elsewhere_or_to_a_secret_is_refused(tmp_path: Path, path: str) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open" / "link").symlink_to("/")
    assert security.host_path_refusal(path.format(tmp_path), options(tmp_path)) != ""


def test_s31_a_folder_that_holds_the_engines_socket_is_refused(tmp_path: Path) -> None:
    wide = Options("x", tmp_path / "s", engine=f"unix://{tmp_path}/open/e.sock", allow_host_paths=(tmp_path,))
    assert "e.sock" in security.host_path_refusal(str(tmp_path / "open"), wide)


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        ({"hostNetwork": True}, "host namespaces (hostNetwork=true)"),
        ({"hostPID": True, "hostIPC": True}, "host namespaces (hostPID=true, hostIPC=true)"),
        ({"containers": [{"name": "c", "securityContext": {"privileged": True}}]}, "privileged"),
        ({"initContainers": [{"name": "c", "securityContext": {"privileged": True}}]}, "privileged"),
        (
            {"containers": [{"name": "c", "securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}}]},
            'must not include "SYS_ADMIN"',
        ),
    ],
)
def test_s31_what_reaches_for_the_host_is_a_violation(tmp_path: Path, spec: Obj, word: str) -> None:
    assert word in ", ".join(security.violations(spec, options(tmp_path)))


def test_fields_without_effect_are_named() -> None:
    container = {"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}]}
    pod = {"containers": [container], "priorityClassName": "high"}
    assert effects.warnings({"kind": "Deployment", "spec": {"template": {"spec": pod}}}) == [
        "spec.template.spec.priorityClassName: has no effect in the devloop sandbox",
        "spec.template.spec.containers[0].ports[0].hostPort: has no effect in the devloop sandbox",
    ]
    plain = {
        "name": "c",
        "image": "i",
        "volumeMounts": [{"name": "v", "mountPath": "/v", "subPathExpr": "$(A)"}],
    }
    probed = {**plain, "readinessProbe": {"grpc": {"port": 1}}, "livenessProbe": {"tcpSocket": {"port": 1}}}
    spec = {
        "activeDeadlineSeconds": 5,
        "dnsPolicy": "None",
        "dnsConfig": {"nameservers": ["1.1.1.1"]},
        "initContainers": [{"name": "side", "image": "i", "restartPolicy": "Always"}],
        "containers": [probed],
        "volumes": [{"name": "v", "nfs": {"server": "s", "path": "/"}}],
    }
    warnings = effects.warnings({"kind": "Pod", "spec": spec})
    assert {text.removesuffix(": has no effect in the devloop sandbox") for text in warnings} == {
        "spec.activeDeadlineSeconds",
        "spec.dnsConfig",
        "spec.dnsPolicy",
        "spec.initContainers[0].restartPolicy",
        "spec.containers[0].readinessProbe.grpc",
        "spec.containers[0].volumeMounts[0].subPathExpr",
        "spec.volumes[0].nfs",
    }
    sticky = {"kind": "Service", "spec": {"sessionAffinity": "ClientIP", "externalIPs": ["1.2.3.4"]}}
    assert {text.split(":")[0] for text in effects.warnings(sticky)} == {
        "spec.externalIPs",
        "spec.sessionAffinity",
    }
    assert effects.warnings({"kind": "Service", "spec": {"ports": [{"port": 53, "protocol": "UDP"}]}}) == [
        "spec.ports[0].protocol: has no effect in the devloop sandbox"
    ]
    assert (
        effects.warnings(
            {"kind": "Pod", "spec": {"containers": [{"name": "c"}], "dnsPolicy": "ClusterFirst"}}
        )
        == []
    )
