"""`trigger: manual`, hooks and `depends_on`, with a real watch, engine and cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import new_namespace
from tests.support.sample_project import Sandbox, Watch
from tests.support.small_project import Small

pytestmark = [pytest.mark.engine, pytest.mark.sandbox, pytest.mark.timeout(240)]
Make = Callable[..., Small]
GENERATE = "echo generating; tr a-z A-Z < web/main.txt > web/generated.txt"


@pytest.fixture
def make(sandbox: Sandbox, tmp_path: Path) -> Iterator[Make]:
    made: list[Small] = []

    def small(more: str = "", **fields: object) -> Small:
        """`more`: of the service web, in config.yaml."""
        one = Small(tmp_path, sandbox, new_namespace(sandbox), **fields).make()  # type: ignore[arg-type]
        made.append(one)
        if more:
            one.config.write_text(one.text(web=f"{one.service('web')[:-1]}, {more}}}"))
        return one

    yield small
    for one in made:
        one.remove()


def generated(small: Small) -> str:
    """What the pod of web has of it."""
    words = ("exec", "-n", small.namespace, "deploy/web", "--", "cat", "/app/generated.txt")
    return small.sandbox.kubectl(*words, check=False).strip()


def outcomes(watch: Watch) -> list[str]:
    return [trip["outcome"] for trip in watch.trips("web")]


def test_what_is_saved_of_a_manual_service_comes_with_its_trigger(make: Make) -> None:
    small = make("trigger: manual")
    with small.watch("--no-logs") as watch:
        watch.wait("its first start", lambda: watch.live("web") and small.served("web") == "v1")
        small.write("web", "v2")
        watch.wait("it is pending", lambda: watch.state("web") == "pending")
        assert watch.metrics()['devloop_pending{service="web"}'] == 1
        status = small.devloop("status", "web")
        assert "-> the running devloop watch waits for its trigger: devloop trigger" in status.stdout
        waited = small.devloop("wait", "web", "--for", "settled")
        assert (waited.returncode, "pending" in waited.stdout) == (0, True), waited.stdout
        beside = small.devloop("once", "web")
        assert (beside.returncode, "web waits for its trigger" in beside.stderr) == (3, True), beside.stderr
        assert small.served("web") == "v1"

        triggered = small.devloop("trigger", "web")
        assert (triggered.returncode, triggered.stdout) == (0, "web: triggered\n"), triggered.stderr
        live = small.devloop("wait", "web")
        assert live.returncode == 0, live.stderr
        watch.wait("v2 is served", lambda: small.served("web") == "v2")
        assert outcomes(watch) == ["live", "live"]
    assert watch.text().count("manual trigger pending") == 1


def test_what_before_build_generates_is_live_and_begins_no_endless_row_of_trips(make: Make) -> None:
    after = "echo $DEVLOOP_SERVICE $DEVLOOP_IMAGE > live.txt"
    small = make(f"hooks: {{before_build: '{GENERATE}', after_live: '{after}'}}")
    with small.watch("--no-logs") as watch:
        watch.wait("its first start", lambda: watch.live("web") and len(watch.trips("web")) >= 2)
        assert generated(small) == "V1"
        for number in (2, 3, 4):
            before = len(watch.trips("web"))
            small.write("web", f"v{number}")
            watch.wait(f"v{number} is generated", lambda n=number: generated(small) == f"V{n}")
            watch.wait("it is confirmed", lambda b=before: watch.trips("web")[b:] and _confirmed(watch))
        image = watch.status()["services"]["web"]["image"]
        watch.wait("after_live ran", lambda: (small.root / "live.txt").read_text() == f"web {image}\n")
        settled = len(watch.trips("web"))
        assert small.devloop("wait", "web").returncode == 0
        assert len(watch.trips("web")) <= settled + 1, "a late event at most"
        assert outcomes(watch).count("live") == 4
        assert "before_build | generating" in watch.text()


def test_a_before_build_that_fails_stops_the_trip_with_its_cause(make: Make) -> None:
    small = make("hooks: {before_build: {command: [sh, generate.sh], timeout: 20s}}")
    (small.root / "generate.sh").write_text("python3 -c 'import nowhere_to_be_found'\n")
    failed = small.once()["web"]
    assert (failed["outcome"], failed["error"]["stage"]) == ("failed", "before_build")
    assert failed["error"]["cause"].startswith("ModuleNotFoundError: No module named 'nowhere_to_be_found'")
    assert failed["built"] is None
    (small.root / "generate.sh").write_text(GENERATE)
    assert small.once()["web"]["outcome"] == "live"
    assert generated(small) == "V1"


def test_a_service_is_rolled_out_when_the_one_it_depends_on_is_live(make: Make) -> None:
    small = make("depends_on: [db]", containers={"web": ("web",), "db": ("db",)})
    (small.root / "db" / "main.txt").unlink()
    dockerfile = small.root / "db" / "Dockerfile"
    good = dockerfile.read_text()
    dockerfile.write_text(f"{good}COPY main.txt /app/needed.txt\n")
    failed = small.once()
    assert failed["web"]["error"]["stage"] == "depends_on"
    assert failed["web"]["error"]["message"] == "web waits for db, which failed in build"
    assert small.served("web") == ""
    with small.watch("--no-logs") as watch:
        watch.wait("web waits for db", lambda: watch.state("web") == "waiting")
        assert small.sandbox.pods(small.namespace, "app=web") == []
        small.write("db", "v1")
        watch.wait("both are live", lambda: watch.live("web", "db") and small.served("web") == "v1")
        ended = {name: watch.trips(name)[-1]["ended_at"] for name in ("web", "db")}
        assert ended["db"] < ended["web"]


def _confirmed(watch: Watch) -> bool:
    card = watch.status()["services"]["web"]
    return card["state"] == "live" and card["trips"][-1]["outcome"] == "unchanged"
