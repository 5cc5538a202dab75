# ruff: noqa: E501 - tables of words and objects
"""kubeconfigs, and what their credential plugins print: access to a server, or an error that names the file."""

from __future__ import annotations

import base64
import json
import tempfile
from pathlib import Path
from typing import Any

import anyio
import yaml
from hypothesis import given
from hypothesis import strategies as st

from devloop.adapters.kubernetes.api.access import open_access
from tests.fuzz.words import NASTY, broken_bytes, cases, changed, damaged, json_texts, well

PEM = base64.b64encode(b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n").decode()
SOUND: dict[str, Any] = {
    "apiVersion": "v1", "kind": "Config", "current-context": "x", "preferences": {},
    "contexts": [{"name": "x", "context": {"cluster": "kind-x", "user": "u", "namespace": "n"}}],
    "clusters": [{"name": "kind-x", "cluster": {"server": "https://127.0.0.1:1", "certificate-authority-data": PEM, "certificate-authority": "ca.pem", "insecure-skip-tls-verify": False, "proxy-url": "", "tls-server-name": "x", "extensions": [{"name": "cluster_info", "extension": {"provider": "minikube.sigs.k8s.io"}}]}}],
    "users": [{"name": "u", "user": {"token": "t", "tokenFile": "t", "client-certificate-data": PEM, "client-key-data": PEM, "client-certificate": "a", "client-key": "b", "username": "a", "password": "b"}}],
}  # fmt: skip
PLAIN: dict[str, Any] = {
    "contexts": [{"name": "x", "context": {"cluster": "kind-x", "user": "u"}}],
    "clusters": [{"name": "kind-x", "cluster": {"server": "http://127.0.0.1:1", "proxy-url": "http://127.0.0.1:2"}}],
    "users": [{"name": "u", "user": {"username": "a", "password": "b"}}],
}  # fmt: skip
CREDENTIAL = {
    "apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
    "status": {"token": "t", "expirationTimestamp": "2030-01-01T00:00:00Z", "clientCertificateData": "x", "clientKeyData": "y"},
}  # fmt: skip
WORDS = (
    "https://",
    "http://[",
    "unix:///x",
    ":99999",
    ":-1",
    "\x00",
    "\n",
    ": ",
    "- ",
    "{",
    "[",
    "&a ",
    "*a",
    "~",
    "!!binary x",
    "é",
    "%",
    "@",
    "?",
    "#",
    "//",
    "x" * 300,
)


def _opened(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as made:
        file = Path(made, "kubeconfig")
        file.write_bytes(content)

        async def access() -> None:
            found = await open_access([file], "x", allow_remote=True)
            assert isinstance(found.server, str)
            assert all(isinstance(one, str) for pair in found.headers.items() for one in pair)
            assert not any(set(one) & set("\r\n\0") for pair in found.headers.items() for one in pair)
            await open_access([file], "x", allow_remote=True, last=found)

        well(lambda: anyio.run(access), "context", "kubeconfig")


@cases(10)
@given(st.sampled_from((SOUND, PLAIN)).flatmap(changed))
def test_damaged_values(value: Any) -> None:
    _opened(yaml.dump(value, Dumper=yaml.SafeDumper, allow_unicode=True).encode("utf-8", "surrogatepass"))


@cases(10)
@given(damaged((yaml.safe_dump(SOUND), yaml.safe_dump(PLAIN)), WORDS).map(str.encode) | broken_bytes(yaml.safe_dump(PLAIN).encode()) | st.sampled_from(NASTY))  # fmt: skip
def test_damaged_texts(content: bytes) -> None:
    _opened(content)


@cases(10)
@given(json_texts(CREDENTIAL))
def test_what_a_plugin_prints(printed: bytes) -> None:
    with tempfile.TemporaryDirectory() as made:
        output = Path(made, "output")
        output.write_bytes(printed)
        plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": "cat", "args": [str(output)]}
        config = {**PLAIN, "users": [{"name": "u", "user": {"exec": {**plugin, "interactiveMode": "Never"}}}]}
        _opened(json.dumps(config).encode())
