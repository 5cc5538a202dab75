"""config.yaml under `watch`: taken at once by the services it touches, whole or not at all (S28)."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import new_namespace
from tests.support.sample_project import Sandbox, Watch, until
from tests.support.small_project import Small

pytestmark = [pytest.mark.engine, pytest.mark.sandbox, pytest.mark.timeout(180)]

Make = Callable[..., Small]
CONFIG_SECONDS = 2.0  # from the save of config.yaml to its effect


@pytest.fixture
def make(sandbox: Sandbox, tmp_path: Path) -> Iterator[Make]:
    made: list[Small] = []

    def small(**fields: object) -> Small:
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(Small(folder, sandbox, new_namespace(sandbox), **fields).make())  # type: ignore[arg-type]
        return made[-1]

    yield small
    for one in made:
        one.remove()


def live(watch: Watch, *services: str) -> None:
    watch.wait(f"{services} live", lambda: watch.live(*services))


def test_s28_an_edited_service_goes_on_with_what_is_saved_after_it(make: Make) -> None:
    small = make(containers={"web": ("web",), "api": ("api",)})
    with small.watch("--no-logs") as watch:
        live(watch, "web", "api")
        untouched = len(watch.trips("api"))
        for number in range(1, 5):  # at ec3513f every odd one ended the service
            trips = len(watch.trips("web"))
            small.config.write_text(small.text(web=small.service("web", args=f"v{number}")))
            watch.wait("a trip with the new argument", lambda: len(watch.trips("web")) > trips)  # noqa: B023
            small.write("web", f"after config {number}")
            watch.wait("the save after it", lambda: small.served("web") == f"after config {number}")  # noqa: B023
            live(watch, "web")
        assert len(watch.trips("api")) == untouched
        assert watch.text().count("config.yaml reloaded: web") == 4
        assert "held by another devloop" not in watch.text()


def test_s28_what_is_saved_together_with_config_yaml_is_not_lost(make: Make) -> None:
    """In mid-build as well: the handover takes as long as the build takes to end."""
    small = make()
    with small.watch("--no-logs") as watch:
        live(watch, "web")
        for number in range(6):
            small.write("web", f"begun {number}")
            time.sleep(0.15 * number)  # at another point of the running trip each time
            small.config.write_text(small.text(web=small.service("web", args=f"v{number}")))
            small.write("web", f"together {number}")
            watch.wait("both", lambda: small.served("web") == f"together {number}")  # noqa: B023
        live(watch, "web")
        assert "held by another devloop" not in watch.text()


def test_s28_a_renamed_service_takes_over_its_workload(make: Make) -> None:
    small = make()
    with small.watch("--no-logs") as watch:
        live(watch, "web")
        renamed = small.service("web")
        small.config.write_text(small.text(web="", front=renamed))
        live(watch, "front")
        small.write("web", "of the front")
        watch.wait("its save", lambda: small.served("web") == "of the front")
        shown = watch.status()["services"]
        assert list(shown) == ["front"]
        assert not [name for name in watch.metrics() if 'service="web"' in name]
        assert "held by another devloop" not in watch.text()


def test_s28_a_service_that_was_named_and_renamed_leaves_the_watch_running(make: Make) -> None:
    small = make(containers={"web": ("web",), "api": ("api",)})
    with small.watch("--no-logs", "web") as watch:
        live(watch, "web")
        text = small.config.read_text()
        small.config.write_text(small.text(web="", front=small.service("web")))
        watch.wait("a word on it", lambda: "web is no longer in config.yaml" in watch.text())
        small.config.write_text(text)
        small.write("web", "back again")
        watch.wait("its save", lambda: small.served("web") == "back again")


def test_s28_a_service_that_left_is_gone_from_metrics_and_status(make: Make) -> None:
    small = make(containers={"web": ("web",), "api": ("api",)})
    with small.watch("--no-logs") as watch:
        live(watch, "web", "api")
        assert watch.metrics()['devloop_live{service="web"}'] == 1
        small.manifest("web").unlink()
        small.config.write_text(small.text(web=""))
        saved = time.monotonic()

        def gone() -> bool:
            return "web" not in watch.status()["services"] and not any(
                'service="web"' in name for name in watch.metrics()
            )

        watch.wait("web gone", gone)
        assert time.monotonic() - saved < CONFIG_SECONDS
        small.sandbox.kubectl("scale", "-n", small.namespace, "deploy/web", "--replicas=0")
        small.write("api", "v2")
        watch.wait("api", lambda: small.served("api") == "v2")
        live(watch, "api")
        assert gone(), "its pods' events bring nothing back"
    assert small.devloop("diff").stdout.count("deployment/web") == 1
    down = small.devloop("down", "--yes")
    assert "deployment/web" in down.stdout
    assert "deployment/api" in down.stdout
    assert small.sandbox.kubectl("get", "deploy", "-n", small.namespace, "-o", "name") == ""


def test_s28_a_changed_cluster_is_not_taken_at_all(make: Make) -> None:
    """Neither its namespace nor what else changed with it: another cluster may be meant for that."""
    small, other = make(), make()
    other.devloop("once")
    fields = "{.metadata.uid} {.metadata.generation} {..containers[0].image}"
    look = ("get", "deploy/web", "-n", other.namespace, "-o", f"jsonpath={fields}")
    before = other.sandbox.kubectl(*look)
    with small.watch("--no-logs") as watch:
        live(watch, "web")
        good = small.config.read_text()
        changed = small.text(web=small.service("web", args="theirs"))
        small.config.write_text(
            changed.replace(f"context: {small.sandbox.context}", "context: kind-prod").replace(
                f"namespace: {small.namespace}}}", f"namespace: {other.namespace}}}"
            )
        )
        watch.wait("a word on it", lambda: "cluster: has changed" in watch.text())
        small.write("web", "to the old cluster")
        watch.wait("the save", lambda: small.served("web") == "to the old cluster")
        live(watch, "web")
        assert "config.yaml reloaded" not in watch.text()
        assert before == other.sandbox.kubectl(*look)
        small.config.write_text(good + "gc: {keep: 3}\n")
        watch.wait("the next config", lambda: "config.yaml reloaded" in watch.text())


def listens(small: Small, _: Watch) -> bool:
    """config.yaml is read before the port is taken, and watched from much later on."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", small.metrics_port)) == 0


def is_connected(_: Small, watch: Watch) -> bool:
    return "metrics on" in watch.text()


@pytest.mark.parametrize("moment", [listens, is_connected])
def test_s28_config_yaml_saved_between_its_reading_and_its_watching_is_taken(
    make: Make, moment: Callable[[Small, Watch], bool]
) -> None:
    small = make()
    small.once()
    image = f"small-other-{small.namespace}"
    changed = small.text(web=small.service("web").replace(small.image("web"), image))
    with small.watch("--no-logs") as watch:
        until("the moment", lambda: moment(small, watch))
        small.config.write_text(changed)
        watch.wait("the new repository", lambda: image in watch.text())


def test_s26_no_variable_of_a_terminal_makes_a_second_writer(make: Make, tmp_path: Path) -> None:
    small = make()
    rival = small.root / "rival.yaml"
    rival.write_text(small.config.read_text().replace(f":{small.metrics_port}", ":0"))
    with small.watch("--no-logs") as watch:
        live(watch, "web")
        for variable in ("XDG_RUNTIME_DIR", "TMPDIR", "HOME"):
            for value in (str(tmp_path), None):
                environ = {**small.sandbox.environ, variable: value or ""}
                if value is None:
                    del environ[variable]
                second = subprocess.run(
                    small.command("-c", str(rival), "watch", "--no-logs"),
                    capture_output=True, text=True, check=False, timeout=60, cwd=small.root, env=environ,
                )  # fmt: skip
                assert second.returncode == 3, f"{variable}={value}: {second.stdout}{second.stderr}"
                assert f"pid {watch.process.pid}" in second.stderr


def test_s28_a_workload_that_another_devloop_holds_is_taken_when_it_is_free(make: Make) -> None:
    """A reload that points a service at another's workload leaves the service waiting, not deaf."""
    small, other = make(), make()
    with small.watch("--no-logs") as watch:
        live(watch, "web")
        with other.watch("--no-logs") as rival:
            live(rival, "web")
            theirs = small.service("web").replace(
                "deployment: web", f"deployment: web, namespace: {other.namespace}"
            )
            small.config.write_text(small.text(web=theirs.replace(small.image("web"), other.image("web"))))
            watch.wait("who holds it", lambda: f"pid {rival.process.pid}" in watch.text())
            assert not watch.live("web")
            assert watch.metrics()['devloop_live{service="web"}'] == 0
            small.write("web", "saved while it waits")
        watch.wait("its turn", lambda: other.served("web") == "saved while it waits")
