"""What `status` says of one service, from the cluster's snapshots."""

from __future__ import annotations

from dataclasses import replace

from devloop.rollout.judge import Expectation
from devloop.rollout.service_status import _judged
from tests.rollout.test_states import RUNNING

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
