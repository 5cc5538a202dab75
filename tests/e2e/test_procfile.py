"""The Procfile as honcho runs it: `devloop watch`, and a Prometheus that reads it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.support.sample_project import ROOT, Project, free_port, until

pytestmark = [pytest.mark.engine, pytest.mark.sandbox, pytest.mark.slow]


def test_the_procfile_runs_devloop_and_a_prometheus_that_reads_it(project: Project) -> None:
    assert shutil.which("prometheus"), "apt-get install --no-install-recommends prometheus"
    port = free_port()
    place = _beside(project, port)
    with (project.root / "honcho.log").open("w") as log:
        honcho = subprocess.Popen(
            (sys.executable, "-m", "honcho", "start"),
            stdout=log, stderr=subprocess.STDOUT, cwd=place,
            env={**project.sandbox.environ, "KUBECONFIG": str(project.sandbox.kubeconfig)},
        )  # fmt: skip
    try:
        until("both are live for Prometheus", lambda: _value(port, "sum(devloop_live)") == 2)
        query = 'devloop_trip_duration_seconds_sum{service="backend",outcome="live"}'
        until("the trip has its value", lambda: _value(port, query) == _span(project))
    finally:
        honcho.send_signal(signal.SIGINT)
        honcho.wait(30)
    ended = (project.root / "honcho.log").read_text()
    assert "devloop.1" in ended
    assert "prometheus.1" in ended
    assert _value(port, "up") is None


def _beside(project: Project, port: int) -> Path:
    """A folder as the repository's root is: .venv, Procfile, docs, the project's config.yaml and ports."""
    project.root.joinpath(".venv").symlink_to(Path(sys.executable).parents[1])
    procfile = (ROOT / "Procfile").read_text()
    (project.root / "Procfile").write_text(procfile.replace("127.0.0.1:9095", f"127.0.0.1:{port}"))
    rules = (ROOT / "docs" / "prometheus.yml").read_text()
    (project.root / "docs").mkdir()
    (project.root / "docs" / "prometheus.yml").write_text(
        re.sub(r"127\.0\.0\.1:9100\b", f"127.0.0.1:{project.metrics_port}", rules)
    )
    assert os.access(project.root / ".venv" / "bin" / "devloop", os.X_OK)
    return project.root


def _value(port: int, query: str) -> float | None:
    url = f"http://127.0.0.1:{port}/api/v1/query?{urlencode({'query': query})}"
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return None
    return float(found[0]["value"][1]) if found else None


def _span(project: Project) -> float:
    """Seconds of the backend's live trips as /api/status tells them."""
    with urllib.request.urlopen(f"http://127.0.0.1:{project.metrics_port}/api/status", timeout=5) as answer:
        trips = json.load(answer)["services"]["backend"]["trips"]
    return float(sum(trip["seconds"]["trip"] for trip in trips if trip["outcome"] == "live"))
