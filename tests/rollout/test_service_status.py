"""What `status` says of one service, from the cluster's snapshots."""

from __future__ import annotations

from dataclasses import replace

from devloop.model import Service
from devloop.rollout.judge import Expectation
from devloop.rollout.service_status import _judged, standings
from tests.rollout.test_states import RUNNING
from tests.support.fakes import SERVICE, FakeWorld, fingerprint

REF = "web:dl-00000000000000aa"
EXPECTED = Expectation("web", REF, "")
NONE = replace(RUNNING, images={"app": REF}, replicas=0, current=0, updated=0, available=0, pods=())


def test_s18_no_replicas_are_live_with_no_pods_and_status_says_so() -> None:
    assert _judged("web", EXPECTED, "00000000000000aa", [NONE], 0.0) == (
        "live",
        "replicas 0: no pod runs",
        None,
    )


def test_s24_a_held_service_names_the_line_that_releases_it() -> None:
    held = replace(NONE, images={"app": "web:1"}, hold="00000000000000aa")
    state, _, hint = _judged("web", EXPECTED, "00000000000000aa", [held], 0.0)
    assert (state, hint) == ("held", "devloop resume web")


async def test_s27_what_is_stuck_has_the_cause_that_its_log_gives_without_a_watch() -> None:
    ref = SERVICE.ref(fingerprint("v1"))
    fake = FakeWorld("v1", running=ref)
    (pod,) = fake.feed_.latest.pods
    (container,) = pod.containers
    died = replace(
        container, ready=False, running=False, waiting="CrashLoopBackOff", exit_code=1, exit_reason="Error",
        restarts=4,
    )  # fmt: skip
    fake.feed_.show(pods=(replace(pod, ready=False, containers=(died,)),), available=0)
    fake.last_lines = ('  File "/app/greeting.py", line 1', "    GREETING =", "SyntaxError: invalid syntax")
    found = (await standings([SERVICE], fake.world(), no_release))["backend"]
    assert (found.state, found.cause) == ("stuck", "SyntaxError: invalid syntax (greeting.py, line 1)")
    assert found.message.startswith("CrashLoopBackOff: ")


async def no_release(_: Service) -> str:
    return ""
