"""Two services on one workload, an app and its own sidecar, each with a container of its own (S26)."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import new_namespace
from tests.support.sample_project import Sandbox
from tests.support.small_project import DOCKERFILE, Small

pytestmark = [pytest.mark.engine, pytest.mark.sandbox, pytest.mark.timeout(240)]

Make = Callable[..., Small]
CRASHES = 'CMD ["/nowhere"]\n'  # never ready, not even for a moment


@pytest.fixture
def make(sandbox: Sandbox, tmp_path: Path) -> Iterator[Make]:
    made: list[Small] = []

    def small(**fields: object) -> Small:
        folder = tmp_path / str(len(made))
        folder.mkdir()
        given = {"containers": {"pod": ("app", "side")}, **fields}
        made.append(Small(folder, sandbox, new_namespace(sandbox), **given).make())  # type: ignore[arg-type]
        return made[-1]

    yield small
    for one in made:
        one.remove()


def outcomes(small: Small, *words: str) -> dict[str, str]:
    return {name: service["outcome"] for name, service in small.once(*words).items()}


def dockerfile(small: Small, name: str, more: str) -> None:
    (small.root / name / "Dockerfile").write_text(DOCKERFILE + more)


@pytest.mark.parametrize(
    ("kind", "init"), [("Deployment", ()), ("StatefulSet", ()), ("Deployment", ("side",))]
)
def test_s26_app_and_sidecar_come_and_change_alone_and_together(
    make: Make, kind: str, init: tuple[str, ...]
) -> None:
    small = make(kind=kind, init=init)
    assert outcomes(small) == {"app": "live", "side": "live"}
    assert outcomes(small) == {"app": "unchanged", "side": "unchanged"}
    with small.watch("--no-logs") as watch:
        watch.wait("both live", lambda: watch.live("app", "side"))
        for number, names in enumerate((("app",), ("side",), ("app", "side"), ("side", "app"))):
            trips = {name: len(watch.trips(name)) for name in names}
            for name in names:
                small.write(name, f"{name} {number}")
            watch.wait(
                "their trips",
                lambda: all(len(watch.trips(name)) > trips[name] for name in trips),  # noqa: B023
            )
            watch.wait("both live", lambda: watch.live("app", "side"))
            for name in names:
                assert watch.trips(name)[-1]["outcome"] in ("live", "unchanged")
                if name not in init:
                    assert small.served(name) == f"{name} {number}"
        seen = {trip["outcome"] for name in ("app", "side") for trip in watch.trips(name)}
        assert seen <= {"live", "unchanged", "superseded"}, watch.text()
        assert "changed the template" not in watch.text()
    assert outcomes(small) == {"app": "unchanged", "side": "unchanged"}


def test_s26_a_service_brings_along_what_shares_its_pods(make: Make) -> None:
    """From nothing, and where the workload was applied by hand with names that no node has."""
    small = make()
    assert outcomes(small, "app") == {"app": "live", "side": "live"}
    other = make()
    other.config.write_text(other.text().replace("manifests: [k8s/*.yaml]\n", ""))
    other.sandbox.kubectl("apply", "-n", other.namespace, "-f", str(other.manifest("pod")))
    assert outcomes(other, "side") == {"app": "live", "side": "live"}


def test_s26_in_a_release_as_in_manifests(make: Make) -> None:
    small = make()
    charted(small)
    assert outcomes(small, "app") == {"app": "live", "side": "live"}
    with small.watch("--no-logs") as watch:
        watch.wait("both live", lambda: watch.live("app", "side"))
        for name in ("app", "side"):
            small.write(name, f"new {name}")
        watch.wait(
            "both served", lambda: all(small.served(name) == f"new {name}" for name in ("app", "side"))
        )
        watch.wait("both live", lambda: watch.live("app", "side"))
        assert "failed" not in [trip["outcome"] for name in ("app", "side") for trip in watch.trips(name)]
    assert outcomes(small) == {"app": "unchanged", "side": "unchanged"}


def charted(small: Small) -> None:
    """The same workload from a chart."""
    folder = small.root / "chart" / "templates"
    folder.mkdir(parents=True)
    (folder.parent / "Chart.yaml").write_text("apiVersion: v2\nname: pod\nversion: 0.1.0\n")
    values = "".join(f"{name}: {{repository: {small.image(name)}, tag: none}}\n" for name in small.services)
    (folder.parent / "values.yaml").write_text(values)
    text = small.manifest("pod").read_text()
    for name in small.services:
        text = text.replace(
            f"image: {small.image(name)}}}",
            f'image: "{{{{ .Values.{name}.repository }}}}:{{{{ .Values.{name}.tag }}}}"}}',
        )
    (folder / "pod.yaml").write_text(text)
    small.manifest("pod").unlink()
    release = "releases:\n  pod: {chart: chart, images: {app: app, side: side}}\n"
    small.config.write_text(small.text().replace("manifests: [k8s/*.yaml]\n", release))


def test_s26_a_sidecar_that_cannot_be_built_is_named_by_the_app_that_waits_for_it(make: Make) -> None:
    small = make()
    dockerfile(small, "side", "RUN false\n")
    results = small.once()
    assert {name: one["outcome"] for name, one in results.items()} == {"app": "failed", "side": "failed"}
    assert results["side"]["error"]["stage"] == "build"
    assert "side, which failed in build" in results["app"]["error"]["message"]
    dockerfile(small, "side", "")
    assert outcomes(small) == {"app": "live", "side": "live"}


def test_s26_the_sidecars_old_image_does_not_fail_the_app_while_its_new_one_is_built(make: Make) -> None:
    """A sidecar that does not start, and its fix, which takes longer to build than the app takes to fail."""
    small = make()
    dockerfile(small, "side", CRASHES)
    results = small.once()
    assert {one["outcome"] for one in results.values()} == {"failed"}
    assert "container of side, which failed in rollout" in results["app"]["error"]["message"]
    with small.watch("--no-logs") as watch:
        watch.wait("both failed", lambda: {watch.state("app"), watch.state("side")} == {"failed"})
        trips = len(watch.trips("app"))
        dockerfile(small, "side", "RUN sleep 15\n")
        small.write("app", "v2")
        watch.wait("both live", lambda: watch.live("app", "side"))
        later = [trip["outcome"] for trip in watch.trips("app")[trips:]]
        assert "failed" not in later, watch.text()
        assert small.served("app") == "v2"


def test_s26_a_broken_app_is_reported_though_its_sidecar_is_still_built(make: Make) -> None:
    small = make()
    assert outcomes(small) == {"app": "live", "side": "live"}
    with small.watch("--no-logs") as watch:
        watch.wait("both live", lambda: watch.live("app", "side"))
        dockerfile(small, "side", "RUN sleep 400\n")
        dockerfile(small, "app", CRASHES)
        watch.wait("app failed", lambda: watch.state("app") == "failed")
        assert watch.state("side") == "working"


def test_s26_another_project_is_refused_on_any_container_of_the_workload(make: Make) -> None:
    small = make()
    rival = small.root / "rival.yaml"
    text = small.text(app="").replace(f":{small.metrics_port}", ":0")
    rival.write_text(text)
    with small.watch("--no-logs", "app") as watch:
        watch.wait("both live", lambda: watch.live("app", "side"))
        for command in ("watch", "once"):
            done = subprocess.run(
                small.command("-c", str(rival), command), capture_output=True, text=True, check=False,
                timeout=60, cwd=small.root, env=small.sandbox.environ,
            )  # fmt: skip
            assert done.returncode == 3, done.stdout + done.stderr
            assert f"pid {watch.process.pid}" in done.stderr
