"""The request `wait`: what is in its answer, and when that is what was waited for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from devloop.clock import Clock
from devloop.control.answers import answer_of, describe_decision, wait_handler
from devloop.control.protocol import Json
from devloop.control.waiting import Decision, Waiting
from devloop.errors import BuildError, ConfigError
from devloop.events import Event
from devloop.model import Change
from devloop.secrets.redaction import Secrets
from devloop.secrets.sources import Sources
from devloop.trip.standing import Standing
from tests.support.fakes import FakeWorld
from tests.support.pools import is_live, save, until, working
from tests.support.trips import ROOT, failed_trip, live_trip

pytestmark = pytest.mark.anyio
CHANGE = Change(frozenset({ROOT / "a.py"}), 1.0, 1.0)


def nowhere(_: Event) -> None:
    """Nobody listens."""


def service(state: str) -> Json:
    return {"state": state}


@pytest.mark.parametrize(
    ("states", "goal", "reached", "timed_out"),
    [
        ("live live", "live", True, False),
        ("live failed", "live", False, False),
        ("live failed", "settled", True, False),
        ("held paused contested gone", "settled", True, False),
        ("failed", "failed", True, False),
        ("live", "failed", False, False),
        ("undecided", "live", False, True),
        ("undecided", "settled", False, True),
        ("undecided live", "live", False, True),
        ("undecided failed", "live", False, False),
    ],
)
def test_s39_every_service_has_to_get_there(states: str, goal: str, reached: bool, timed_out: bool) -> None:
    services = {str(number): service(state) for number, state in enumerate(states.split())}
    answer = answer_of(services, goal, {})
    assert (answer["reached"], answer["timed_out"]) == (reached, timed_out)


def test_s39_a_tree_whose_manifests_are_refused_is_not_live() -> None:
    wrong = {"manifests": "web.yaml: no such kind"}
    assert not answer_of({"web": service("live")}, "live", wrong)["reached"]
    assert answer_of({"web": service("live")}, "settled", wrong)["reached"]


def test_s39_a_failure_says_stage_cause_and_last_lines() -> None:
    error = BuildError(
        "RUN make: exit code 2\nthe whole of it", reason="InstructionFailed",
        evidence=tuple(f"line {number}" for number in range(30)), hint="mend it", cause="main.c:3: no such",
    )  # fmt: skip
    outcome = failed_trip(nowhere, Clock(), error=error)
    found = describe_decision(
        Decision("backend", "failed", Standing("failed", False, False, outcome, CHANGE)), Secrets()
    )
    assert (found["state"], found["outcome"], found["stage"]) == ("failed", "failed", "build")
    assert found["cause"] == "main.c:3: no such"
    assert found["fingerprint"] == "0123456789abcdef"
    assert (found["why"], found["paths"], found["count"]) == ("saved", ["/project/a.py"], 1)
    assert found["log"] == [f"line {number}" for number in range(10, 30)]
    assert found["seconds"] >= 0.25


def test_s30_no_secret_is_in_a_decision(tmp_path: Path) -> None:
    secrets = Secrets(Sources((), (), {"API_TOKEN": "hunter2hunter2"}, frozenset(), tmp_path))
    secrets = secrets if "hunter2hunter2" not in secrets("hunter2hunter2") else _knowing("hunter2hunter2")
    error = BuildError("curl hunter2hunter2", evidence=("hunter2hunter2",), hint="hunter2hunter2")
    outcome = failed_trip(nowhere, Clock(), error=error)
    standing = Standing("failed", False, False, outcome, CHANGE)
    assert "hunter2hunter2" not in str(describe_decision(Decision("backend", "failed", standing), secrets))


def _knowing(value: str) -> Secrets:
    class One(Secrets):
        def __call__(self, text: str) -> str:
            return text.replace(value, "[TOKEN]")

    return One()


@pytest.mark.parametrize("state", ["undecided", "paused", "gone"])
def test_s39_what_no_trip_decided_has_nothing_of_an_older_one(state: str) -> None:
    standing = Standing("working", False, True, live_trip(nowhere, Clock()), CHANGE)
    found = describe_decision(Decision("backend", state, standing), Secrets())
    assert (found["state"], found["now"]) == (state, "working")
    assert {found[key] for key in ("outcome", "fingerprint", "image", "stage", "seconds")} == {None}
    assert (found["paths"], found["log"]) == ([], [])


async def nothing_beside(_: object) -> bool:
    return False


async def test_s39_each_decision_is_an_item_and_all_of_them_are_the_answer() -> None:
    world, items = FakeWorld(), list[Json]()

    async def send(item: Json) -> None:
        items.append(item)

    async with working(world) as pool:
        await until(lambda: is_live(world))
        waiting = Waiting(pool, world, world.clock, lambda: None, nothing_beside)
        handle = wait_handler(waiting, lambda: pool.names, dict, Secrets())
        save(world, pool, "v2", "backend", "/src/a.py")
        answer = await handle({"for": "live", "timeout": 30}, send)
        assert items == list(answer["services"].values())
        (found,) = items
        assert (found["state"], found["paths"]) == ("live", ["/src/a.py"])
        assert answer["reached"]
        with pytest.raises(ConfigError, match="nobody"):
            await handle({"services": ["nobody"]}, send)
        bad: list[dict[str, Any]] = [
            {"for": "ever"}, {"timeout": -1}, {"timeout": "60s"}, {"timeout": 1e9}, {"timeout": True},
            {"timeout": float("nan")},
        ]  # fmt: skip
        for request in bad:
            with pytest.raises(ValueError, match=r"for|timeout"):
                await handle(request, send)
