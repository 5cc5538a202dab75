# ruff: noqa: E501 - tables of words and objects
"""config.yaml: a config that can be used, or an error of problems that each have a line, a column and words."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from devloop.config import load as configs
from devloop.config.load import Config
from devloop.errors import ConfigError
from devloop.secrets.sources import Sources
from tests.fuzz.words import NASTY, bounded, broken_bytes, cases, changed, damaged, named

SOUND: dict[str, Any] = {
    "version": 1,
    "cluster": {"context": "minikube", "namespace": "default", "allow_remote": False, "load": "auto", "registry": None},
    "services": {
        "web": {
            "image": "web", "max_image_size": "100Mi", "rollout_timeout": "5m",
            "build": {
                "context": "web", "dockerfile": "Dockerfile", "target": "x", "args": {"A": "1", "PASSWORD": "x"},
                "secrets": [{"id": "s", "file": "web/s"}, {"id": "t", "env": "T"}], "platform": "linux/amd64",
                "idle_timeout": "600s", "pull_idle_timeout": "2m",
            },
            "deploy": [{"deployment": "web", "container": "web", "namespace": "ns"}, {"statefulset": "db"}],
        },
        "api": {"image": "127.0.0.1:5000/api", "build": {"context": "web"}, "deploy": {"deployment": "api"}},
    },
    "manifests": ["k8s/*.yaml", "k8s/kustomized"],
    "releases": {
        "r": {
            "chart": "chart", "namespace": "ns", "create_namespace": {"labels": {"a": "b"}}, "values": [{"file": "v.yaml", "optional": True}],
            "set": {"a.b": 5}, "set_env": {"c": "C"}, "images": {"web": "web.image"},
        },
    },
    "metrics": {"enabled": True, "listen": "127.0.0.1:9100", "strict": False},
    "gc": {"keep": 5},
    "checks": {
        "profile": "strict", "ignore": ["latest"], "service_types": {"x": "NodePort"}, "secret_keys": {"a": ["b"]},
        "secret_shapes": {"A": {"pattern": "^x", "json": True, "min_bytes": 5}}, "credential_keys": ["x"],
        "credential_shapes": {"a": "x+"},
    },
    "secrets": ["TOKEN"],
}  # fmt: skip
TEXT = yaml.safe_dump(SOUND, sort_keys=False)
WORDS = (
    ": ", "- ", "\n", "\n  ", "\t", "&a ", "*a", "<<: ", "<<: *a\n", "{", "}", "[", "]", "|", ">", "!!", "!!python/name:os.system ", "!!binary x",
    "!!timestamp x", "!!set {a}", "---\n", "...\n", "%YAML 9.9\n", "? ", "'", '"', "#", ",", "~", "null", "yes", "0o17", "1_000", "1:30",
    ".inf", ".nan", "2024-01-01", "\x00", "\x85", "\u2028", "\ufeff", "\\ud800", "services:\n", "version: 1\n", "  web:\n", "build:", "args: {A=B: x}",
    "../" * 30, "/" * 3, "a" * 300, "**", "[[[", "${X}", "@", "`", "k8s/**/", "k8s/[", "{{ x }}",
)  # fmt: skip
PLACE = re.compile(r":\d+:\d+: ")


@contextmanager
def project(content: bytes) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as made:
        root = Path(made, "project")
        for folder in ("web", "k8s/kustomized", "chart/templates"):
            (root / folder).mkdir(parents=True)
        (root / "web" / "Dockerfile").write_text("FROM scratch AS x\n")
        (root / "web" / "s").write_text("secret")
        (root / "chart" / "Chart.yaml").write_text("name: c\nversion: 1.0.0\napiVersion: v2\n")
        (root / "k8s" / "kustomized" / "kustomization.yaml").write_text("resources: []\n")
        (root / "k8s" / "a.yaml").write_text("")
        (root / "config.yaml").write_bytes(content)
        yield root / "config.yaml"


def _used(config: Config) -> None:
    assert all(service.name for service in config.services())
    config.manifest_files()
    config.releases()
    configs.together(config, list(config.by_name)[:1])
    configs.override(config, namespace="other")
    assert all(
        isinstance(one, str)
        for pair in Sources(config.services(), config.releases(), {"T": "x"}).values()
        for one in pair
    )


def _loaded(content: bytes) -> None:
    with project(content) as path, bounded():
        try:
            config = configs.load(path)
        except ConfigError as error:
            named(error, str(path))
            if error.reason == "InvalidConfig":
                lines = error.message.splitlines()
                assert PLACE.search(lines[0]), lines[0]
            return
        _used(config)


def test_what_is_damaged_here_was_sound() -> None:
    with project(TEXT.encode()) as path:
        _used(configs.load(path))


@cases(10)
@given(changed(SOUND))
def test_damaged_values(value: Any) -> None:
    _loaded(yaml.dump(value, Dumper=yaml.SafeDumper, allow_unicode=True).encode("utf-8", "surrogatepass"))


@cases(10)
@given(damaged((TEXT, "version: 1\nservices: {a: {image: a, build: {context: web}}}\n"), WORDS))
@example("a: &a [*a]\n")
@example("version: 1\nservices: &a {web: *a}\n")
def test_damaged_texts(text: str) -> None:
    _loaded(text.encode("utf-8", "surrogatepass"))


@cases(4)
@given(broken_bytes(TEXT.encode()) | st.sampled_from(NASTY))
def test_damaged_bytes(content: bytes) -> None:
    _loaded(content)
