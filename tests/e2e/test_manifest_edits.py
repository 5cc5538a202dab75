"""Manifests edited under `watch`: rollouts are followed, what is refused is its service's failure."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import new_namespace
from tests.support.sample_project import Sandbox, Watch
from tests.support.small_project import Small

pytestmark = [pytest.mark.engine, pytest.mark.sandbox, pytest.mark.timeout(240)]

IMAGE = "image: "
CRASHES = (
    "command: [/bin/sh, -c, 'echo no such table >&2; exit 3'], "
    "readinessProbe: {exec: {command: [cat, /tmp/ready]}}, image: "  # without one it is ready for a moment
)


@pytest.fixture
def small(sandbox: Sandbox, tmp_path: Path) -> Iterator[Small]:
    made = Small(tmp_path, sandbox, new_namespace(sandbox)).make()
    yield made
    made.remove()


def edit(small: Small, old: str, new: str) -> None:
    manifest = small.manifest("web")
    text = manifest.read_text()
    assert old in text
    manifest.write_text(text.replace(old, new, 1))


def failed(watch: Watch) -> dict[str, Any]:
    """The error of the newest trip, {} if it ended well."""
    trips = watch.trips("web")
    error = trips[-1]["error"] if trips else None
    return dict(error) if error and watch.state("web") == "failed" else {}


def beside(small: Small) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """`devloop once --json` while the watch runs."""
    done = small.devloop("once", "--json", seconds=90)
    return done, json.loads(done.stdout)


def test_s20_a_manifest_that_crashes_the_pods_is_a_failure_with_its_evidence_until_it_is_mended(
    small: Small,
) -> None:
    with small.watch("--no-logs") as watch:
        watch.wait("live", lambda: watch.live("web"))
        edit(small, IMAGE, CRASHES)
        error = watch.wait("failed", lambda: failed(watch))
        assert error["stage"] == "rollout"
        assert "no such table" in json.dumps(error)
        done, answer = beside(small)
        assert done.returncode == 1, done.stdout
        assert answer["services"]["web"]["outcome"] == "failed"
        edit(small, CRASHES, IMAGE)
        done, answer = beside(small)
        assert done.returncode == 0, done.stdout + done.stderr
        assert watch.live("web"), "no sooner than the watch says it"


def test_s20_once_beside_a_watch_waits_for_the_rollout_of_a_manifest(small: Small) -> None:
    with small.watch("--no-logs") as watch:
        watch.wait("live", lambda: watch.live("web"))
        trips = len(watch.trips("web"))
        edit(small, IMAGE, "env: [{name: A, value: b}], image: ")
        done, answer = beside(small)
        assert (done.returncode, answer["problems"]) == (0, {}), done.stdout + done.stderr
        assert len(watch.trips("web")) > trips
        (pod,) = [
            one
            for one in small.sandbox.pods(small.namespace, "app=web")
            if "deletionTimestamp" not in one["metadata"]
        ]
        assert pod["spec"]["containers"][0]["env"] == [{"name": "A", "value": "b"}]


def test_s19_a_refused_manifest_of_a_service_fails_its_trip_and_its_mending_makes_it_live(
    small: Small,
) -> None:
    with small.watch("--no-logs") as watch:
        watch.wait("live", lambda: watch.live("web"))
        edit(small, "terminationGracePeriodSeconds: 1", "restartPolicy: Sometimes")
        error = watch.wait("failed", lambda: failed(watch))
        assert "restartPolicy" in error["message"]
        assert beside(small)[0].returncode == 1
        edit(small, "restartPolicy: Sometimes", "terminationGracePeriodSeconds: 1")
        watch.wait("live again", lambda: watch.live("web"))
        assert beside(small)[0].returncode == 0


def test_s19_what_is_wrong_with_manifests_of_no_service_is_in_once_and_status(small: Small) -> None:
    other = small.root / "k8s" / "other.yaml"
    with small.watch("--no-logs") as watch:
        watch.wait("live", lambda: watch.live("web"))
        other.write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: other\n")
        done, answer = beside(small)
        assert done.returncode == 1
        assert "other.yaml" in answer["problems"]["manifests"]
        status = small.devloop("status")
        assert status.returncode == 1
        assert "other.yaml" in status.stderr
        other.write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: other}\n")
        assert beside(small)[0].returncode == 0
        assert small.devloop("status").returncode == 0
