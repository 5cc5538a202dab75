"""Which attempt's log is meant, while a container starts, runs, or waits to be tried again."""

from __future__ import annotations

import pytest

from devloop_sandbox.node.access import _chosen

WAITING, RUNNING = {"waiting": {"reason": "CrashLoopBackOff"}}, {"running": {}}


@pytest.mark.parametrize(
    ("attempts", "state", "previous", "newest"),
    [
        ((), {}, False, None),
        (("created",), {}, False, None),  # its log is empty and ends at once: it is waiting to start
        (("running",), RUNNING, False, 0),
        (("running",), RUNNING, True, None),
        (("exited",), WAITING, False, 0),
        (("exited", "created"), WAITING, False, 0),
        (("exited", "running"), RUNNING, True, 0),
        (("exited", "exited"), WAITING, True, 1),
    ],
)
def test_the_log_is_that_of_the_newest_attempt_that_has_one(
    attempts: tuple[str, ...], state: dict[str, object], previous: bool, newest: int | None
) -> None:
    listed = [{"State": one, "Id": number} for number, one in enumerate(attempts)]
    found = _chosen(listed, state, previous)
    assert (found[-1]["Id"] if found else None) == newest
