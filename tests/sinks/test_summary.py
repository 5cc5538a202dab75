"""`once`: the table and the JSON object, in exactly the shape of the issue."""

from __future__ import annotations

from devloop.clock import Clock
from devloop.errors import ConfigError, PlatformError
from devloop.events import Event
from devloop.model import Held, Superseded, Timing, Unchanged
from devloop.sinks import summary
from tests.support.trips import FINGERPRINT, REF, URL, failed_trip, live_trip

KEYS = ["outcome", "fingerprint", "image", "built", "loaded", "update", "seconds", "url", "error"]
SECONDS = [
    "detect",
    "before_build",
    "fingerprint",
    "sync",
    "build",
    "load",
    "depends_on",
    "patch",
    "rollout",
    "trip",
]
NOTHING = Timing(0.0, 0.25, ())


def drop(event: Event) -> None:
    pass


def test_the_json_has_the_shape_of_the_issue() -> None:
    clock = Clock()
    live = live_trip(drop, clock)
    outcomes = {
        "backend": live,
        "web": failed_trip(drop, clock),
        "same": Unchanged(FINGERPRINT, REF, NOTHING, URL),
        "gone": Superseded("build", NOTHING),
        "kept": Held(FINGERPRINT, NOTHING),
    }
    parsed = summary.as_object(outcomes, {"manifests": "no"})
    assert list(parsed) == ["services", "problems"]
    assert parsed["problems"] == {"manifests": "no"}
    services = parsed["services"]
    assert [service["outcome"] for service in services.values()] == [
        "live", "failed", "unchanged", "superseded", "held",
    ]  # fmt: skip
    for service in services.values():
        assert list(service) == KEYS
        assert list(service["seconds"]) == SECONDS
    assert services["backend"] | {"seconds": None} == {
        "outcome": "live", "fingerprint": "0123456789abcdef", "image": REF, "built": "cli",
        "loaded": "shared", "update": None, "seconds": None, "url": URL, "error": None,
    }  # fmt: skip
    assert services["backend"]["seconds"] == {
        "before_build": None,
        "sync": None,
        "depends_on": None,
        **live.timing.seconds(),
    }
    assert list(services["web"]["error"]) == ["stage", "reason", "cause", "message", "evidence", "hint"]
    assert services["web"]["seconds"]["rollout"] is None


def test_an_error_before_any_trip_has_the_same_shape() -> None:
    error = PlatformError("no engine at /var/run/docker.sock", hint="start it: systemctl start docker")
    parsed = summary.error_as_object(error, {"backend": None, "web": None})
    for service in parsed["services"].values():
        assert list(service) == KEYS
        assert service["error"]["reason"] == "Unreachable"
    assert summary.error_as_object(ConfigError("x"), {}) == {"services": {}, "problems": {}}


def test_the_table_has_a_row_per_service() -> None:
    clock = Clock()
    table = summary.as_table({"backend": live_trip(drop, clock), "web": failed_trip(drop, clock)})
    head, *rows = table.splitlines()
    assert head.split() == ["SERVICE", "OUTCOME", "TRIP", "LONGEST", "IMAGE", "URL"]
    assert rows[0].startswith("backend  live ")
    assert rows[0].endswith(URL)
    assert rows[1].startswith("web      failed ")
    assert "build: InstructionFailed" in rows[1]
