"""docs/coming-from.md shows what `devloop init` makes of its examples."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.init.support import init_yes

PAGE = (Path(__file__).parents[2] / "docs" / "coming-from.md").read_text()
DOCKERFILE = 'FROM python:3.12-slim\nCOPY . /app\nCMD ["python", "/app/main.py"]\n'
DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: backend}
spec:
  selector: {matchLabels: {app: backend}}
  template:
    metadata: {labels: {app: backend}}
    spec:
      containers: [{name: backend, image: shop-backend}]
"""


def block(kind: str, name: str) -> str:
    found = re.search(rf"<!-- {kind}: {re.escape(name)} -->\n```\w+\n(.*?)```", PAGE, re.S)
    assert found, f"{kind}: {name}"
    return found[1]


def project(root: Path, service: str) -> None:
    (root / service).mkdir(parents=True)
    (root / service / "Dockerfile").write_text(DOCKERFILE)
    (root / service / "main.py").write_text("")


def manifest(root: Path) -> None:
    (root / "k8s").mkdir()
    (root / "k8s" / "backend.yaml").write_text(DEPLOYMENT)


def made(root: Path) -> Any:
    return yaml.safe_load(init_yes(root).path.read_text())


def test_skaffold(tmp_path: Path) -> None:
    root = tmp_path / "shop"
    project(root, "backend")
    manifest(root)
    (root / "skaffold.yaml").write_text(block("example", "skaffold.yaml"))
    assert made(root) == yaml.safe_load(block("result", "skaffold.yaml"))


def test_tilt(tmp_path: Path) -> None:
    root = tmp_path / "shop"
    project(root, "backend")
    manifest(root)
    (root / "Tiltfile").write_text(block("example", "Tiltfile"))
    assert made(root) == yaml.safe_load(block("result", "Tiltfile"))


@pytest.mark.parametrize("manifests", ["web.yaml", "db.yaml"])
def test_compose(tmp_path: Path, manifests: str) -> None:
    root = tmp_path / "shop"
    project(root, "web")
    (root / "compose.yaml").write_text(block("example", "compose.yaml"))
    assert made(root) == yaml.safe_load(block("result", "compose.yaml"))
    assert (root / "k8s" / manifests).is_file()
