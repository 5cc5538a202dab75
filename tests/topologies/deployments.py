"""The five deployments as their folders say: what to build, what to install, what must be there before."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.support.buildkit import docker_cli
from tests.topologies import helm

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "topologies"
DUMMY_AUTH = "for-local-use-only-for-local-use-only"
POSTGRES = "postgresql://todo:local-only@postgres:5432/todo"

# The local stand-in for each public base: build argument -> option of scripts/base-image.
PYTHON = {"BASE": ""}
PYTHON_TWICE = {"BUILD_BASE": "", "BASE": ""}
NODE = {"BUILD_BASE": "", "BASE": "--node"}
NGINX = {"BUILD_BASE": "", "BASE": "--nginx"}


@dataclass(frozen=True, slots=True)
class Topology:
    """One deployment. `releases` has the shape of config.yaml's key; `before` are kubectl's words, each
    one object that a person makes by hand; `node_port` is the chart value that fixes the frontend's port."""

    name: str
    folder: Path
    namespace: str
    services: Mapping[str, Any]
    releases: Mapping[str, Any]
    bases: Mapping[str, Mapping[str, str]]
    environ: Mapping[str, str] = field(default_factory=dict)
    before: tuple[tuple[str, ...], ...] = ()
    node_port: str | None = None

    def values(self, release: str, images: Mapping[str, str] | None = None, **given: Any) -> dict[str, Any]:
        """What the release is installed with: its files, set_env from `environ`, the image references."""
        spec = self.releases[release]
        layers = []
        for named in spec.get("values", ()):
            file, optional = (named, False) if isinstance(named, str) else (named["file"], named["optional"])
            # Beside config.yaml, else in the chart.
            places = (self.folder / file, self.folder / spec["chart"] / file)
            found = next((place for place in places if place.is_file()), None)
            if found is None and not optional:
                raise FileNotFoundError(f"{self.name}: {file} of release {release}")
            layers.append(yaml.safe_load(found.read_text()) if found else {})
        for path, variable in spec.get("set_env", {}).items():
            given[path] = self.environ[variable]
        for service, path in spec.get("images", {}).items():
            if images is not None:
                repository, _, tag = images[service].rpartition(":")
                given[path] = {"repository": repository, "tag": tag, "pullPolicy": "Never"}
        return helm.merged(*layers, *(helm.nested(path, value) for path, value in given.items()))

    def chart(self, release: str) -> Path:
        return self.folder / str(self.releases[release]["chart"])

    def dockerfile(self, service: str, folder: Path | None = None) -> Path:
        """A bare name lies in the context, a path beside config.yaml."""
        spec = self.services[service]["build"]
        named = spec.get("dockerfile", "Dockerfile")
        place = folder or self.folder
        return Path(place / named if "/" in named else place / spec["context"] / named)

    def build(self, service: str, tag: str, folder: Path | None = None, **args: str) -> str:
        """`docker build` with BuildKit and the local bases; the tag. `folder`: a copy of the deployment's."""
        spec = self.services[service]["build"]
        where = (folder or self.folder) / spec["context"]
        dockerfile = self.dockerfile(service, folder)
        given = {**spec.get("args", {}), **{key: base(option) for key, option in self.bases[service].items()}}
        words = [
            word for key, value in {**given, **args}.items() for word in ("--build-arg", f"{key}={value}")
        ]
        done = subprocess.run(
            [docker_cli(), "build", "-q", "-t", tag, *words, "-f", dockerfile, where],
            env={**os.environ, "DOCKER_BUILDKIT": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{self.name} {service}: {done.stderr}"
        return tag


_made: dict[str, str] = {}


def base(option: str) -> str:
    """A local base image's name, made if it is not there."""
    if option not in _made:
        given = os.environ.get("DEVLOOP_TEST_BASE") if not option else None
        command = [str(ROOT / "scripts" / "base-image"), *([option] if option else [])]
        _made[option] = given or subprocess.check_output(command, text=True).strip()
    return _made[option]


def _read(name: str, bases: Mapping[str, Mapping[str, str]], **more: Any) -> Topology:
    folder = EXAMPLES / name
    config = yaml.safe_load((folder / "config.yaml").read_text())
    namespace = config["cluster"]["namespace"]
    return Topology(name, folder, namespace, config["services"], config["releases"], bases, **more)


# The project's own sample: two services below examples/todo, one chart.
UMBRELLA = Topology(
    name="000-umbrella",
    folder=ROOT,
    namespace="default",
    services={
        service: {"image": f"todo-{service}", "build": {"context": f"examples/todo/{service}"}}
        for service in ("backend", "frontend")
    },
    releases={
        "todo-chatbot": {
            "chart": "charts/todo-chatbot",
            "namespace": "default",
            "values": ["values-dev.yaml"],
            "images": {"backend": "backend.image", "frontend": "frontend.image"},
        }
    },
    bases={"backend": PYTHON, "frontend": NODE},
    node_port="frontend.service.nodePort",
)
ROOT_CONTEXT = _read(
    "001-root-context",
    {"backend": PYTHON, "frontend": PYTHON},
    environ={"DATABASE_URL": POSTGRES, "OPENAI_API_KEY": "sk-local-only"},
    node_port="service.frontend.nodePort",
)
SPLIT_CONTEXTS = _read(
    "002-split-contexts",
    {"backend": PYTHON_TWICE, "frontend": NGINX},
    node_port="frontend.service.nodePort",
)
STAGES = _read(
    "003-stages-and-secrets",
    {"backend": PYTHON_TWICE, "frontend": NODE},
    before=(
        ("create", "namespace", "todo-chatbot"),
        (
            *("create", "secret", "generic", "todo-secrets", "--type=Opaque", "-n", "todo-chatbot"),
            f"--from-literal=DATABASE_URL={POSTGRES}",
            f"--from-literal=BETTER_AUTH_SECRET={DUMMY_AUTH}",
            "--from-literal=OPENAI_API_KEY=sk-local-only",
            "--from-literal=GROQ_API_KEY=gsk_local-only",
        ),
    ),
    node_port="frontend.service.nodePort",
)
TWO_CHARTS = _read(
    "004-two-charts",
    {"backend": PYTHON, "frontend": NODE},
    before=(
        ("create", "namespace", "todo-chatbot"),
        (
            *("create", "secret", "generic", "todo-chatbot-secrets", "--type=Opaque", "-n", "todo-chatbot"),
            f"--from-literal=DATABASE_URL={POSTGRES}",
            f"--from-literal=BETTER_AUTH_SECRET={DUMMY_AUTH}",
            "--from-literal=COHERE_API_KEY=local-only",
        ),
        # No certificate is needed for a Secret of that type to exist, and nothing here ends TLS.
        (
            *("create", "secret", "generic", "todo-chatbot-tls", "-n", "todo-chatbot"),
            *("--type=kubernetes.io/tls", "--from-literal=tls.crt=none", "--from-literal=tls.key=none"),
        ),
    ),
)
ALL = (UMBRELLA, ROOT_CONTEXT, SPLIT_CONTEXTS, STAGES, TWO_CHARTS)
BY_NAME = {topology.name: topology for topology in ALL}
