"""`devloop status` beside a running `devloop watch`: what it says is true of that watch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from devloop.commands.running_watch import Watch
from devloop.commands.status import beside_watch
from devloop.rollout.service_status import Standing
from devloop.sinks.standing import as_table

STALE = Standing("stale", message="the cluster runs other content than the tree", hint="devloop once")
MISSING = Standing("missing", message="deployment/web is not in namespace dev", hint="devloop once")
STUCK = Standing("stuck", message="paused", hint="kubectl rollout resume deployment/web")


def watch(**card: Any) -> Watch:
    return Watch("kind-dev", "dev", {"web": {"state": "working", "stage": None, "trips": [], **card}}, {})


def failed(stage: str = "build") -> dict[str, Any]:
    error = {"stage": stage, "reason": "Failed", "message": "no such file: x\nmore", "hint": "mend it"}
    return {"state": "failed", "trips": [{"outcome": "failed", "error": error}]}


def test_a_watch_that_is_at_work_needs_no_once() -> None:
    found = beside_watch(STALE, watch(stage="build").card("web"))
    assert found.hint == "the running devloop watch will redeploy: in build now"
    found = beside_watch(STALE, watch().card("web"))
    assert found.hint == "the running devloop watch will redeploy"


def test_a_watch_that_failed_says_why_and_what_to_do() -> None:
    found = beside_watch(STALE, watch(**failed()).card("web"))
    assert found.message == f"{STALE.message}; the running devloop watch failed in build: no such file: x"
    assert found.hint == "mend it"


def test_a_watch_waits_for_a_target_itself() -> None:
    error = {
        "stage": "patch",
        "reason": "TargetMissing",
        "message": "deployment/web is not there",
        "hint": "apply",
    }
    card = {"state": "waiting", "trips": [{"outcome": "failed", "error": error}]}
    assert beside_watch(MISSING, watch(**card).card("web")).hint == "apply"
    assert beside_watch(MISSING, watch(state="waiting").card("web")).hint == (
        "the running devloop watch waits for it"
    )


def test_a_watch_that_gave_up_needs_a_save() -> None:
    found = beside_watch(STALE, watch(state="contested").card("web"))
    assert (
        found.hint == "the running devloop watch is contested: see what it shows; a save starts the next try"
    )


def test_without_a_watch_of_the_service_the_hint_names_once() -> None:
    hint = beside_watch(STALE, watch(state="pending").card("web")).hint
    assert hint == "the running devloop watch waits for its trigger: devloop trigger"
    assert beside_watch(STALE, watch().card("other")) == STALE
    assert beside_watch(STALE, None) == STALE


def test_other_hints_stay() -> None:
    assert beside_watch(STUCK, watch(**failed()).card("web")) == STUCK


def test_s28_a_watch_that_still_works_elsewhere_is_reported_and_its_stages_are_not() -> None:
    """config.yaml's cluster: was changed, which a running watch refuses."""
    one = watch(state="live")
    assert one.elsewhere("kind-dev", "dev") == ""
    assert one.elsewhere("kind-dev", "new") == (
        "a devloop watch of this config.yaml runs on context kind-dev, namespace dev; "
        "for this one end it and start it again"
    )


def test_a_watch_that_is_paused_needs_a_resume() -> None:
    found = beside_watch(STALE, watch(state="paused").card("web"))
    assert found.hint == "the running devloop watch is paused: devloop resume lifts that"


def test_the_ports_that_a_watch_forwards_are_shown_whatever_the_state() -> None:
    forwards = [{"url": "http://localhost:8080", "port": 3000}]
    for standing in (STALE, STUCK, Standing("live")):
        found = beside_watch(standing, watch(forwards=forwards).card("web"))
        assert found.forwards == ("http://localhost:8080",)
    assert beside_watch(Standing("live"), None).forwards == ()
    assert "http://localhost:8080  http://x" in as_table({"web": replace(found, url="http://x")}, {})
