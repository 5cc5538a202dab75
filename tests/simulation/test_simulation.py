"""The simulation itself: what it is made of can be trusted, earlier seeds are right, and so are others."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import pytest

from devloop.model.cluster import Snapshot
from devloop.rollout import judge
from devloop.rollout.expectation import Expectation
from devloop.trip.inbox import Inbox
from tests.simulation.planted import PLANTED, PLANTED_IN_PLACE, PLANTED_SYNC, PLANTED_WITH_WAITS
from tests.simulation.run import run
from tests.simulation.script import IN_PLACE_FROM, ORDERS_FROM, SYNC_FROM, WAITS_FROM, Step, random_script
from tests.simulation.shrink import shrink
from tests.simulation.virtual_loop import BusyLoopError, VirtualLoop

HERE = Path(__file__).parent
RUNS = 3
SECONDS = 600  # of CPU, for seeds that nobody has run before
SHORT = """
5 save api a 2
9 save web a 3 crash
14 api_away api 8
15 save worker a 4
40 kill 1
41 save api a 5
60 save web a 6
"""


def steps_of(text: str) -> list[Step]:
    return [Step.parse(line) for line in text.splitlines() if line.strip()]


def simulated(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.simulation", *words]
    return subprocess.run(command, cwd=HERE.parents[1], capture_output=True, text=True, check=False)


def test_a_short_day_ends_well_and_is_the_same_day_again(tmp_path: Path) -> None:
    """A crash, an outage, kill -9, and saves in all of them."""
    script = tmp_path / "script"
    script.write_text(SHORT.strip())
    first, again = (simulated("--seed", "7", "--script", str(script), "--trace") for _ in range(2))
    assert first.returncode == 0, first.stdout + first.stderr
    lines, same = (done.stdout.splitlines()[:-2] for done in (first, again))  # without the count of seconds
    assert lines == same
    shown = "\n".join(lines)
    for part in ("web is failed", "API server gone", "--> 40.00 kill 1", "api is live", "worker is live"):
        assert part in shown


def test_what_is_wrong_is_shown_and_a_script_shrinks_to_it() -> None:
    """A bug of the worker: between trips it does not look at the cluster."""
    with PLANTED["minding"]():
        steps = [*steps_of(SHORT)[:2], Step(20.0, "delete_target", ("api", "0")), *steps_of(SHORT)[4:5]]
        steps = [step for step in steps if step.what != "kill"]
        assert any("api" in line for line in run(3, steps).violations)
        shortest = shrink(steps, lambda fewer: bool(run(3, fewer).violations))
    assert [step.what for step in shortest] == ["delete_target"]
    assert not run(3, shortest).violations


TAKEN_BACK = """
5 save api a 2
60 kill_at_write 1 10
61 save api a 3
65 revert api a
"""


def test_s35_a_pod_that_was_patched_before_kill_9_does_not_keep_what_was_taken_back() -> None:
    """Deployment and tree agree when devloop starts again; only the pod has another image."""
    done = run(IN_PLACE_FROM, steps_of(TAKEN_BACK))
    assert not done.violations
    killed = [line for line in done.trace if line.startswith("killed after a write")]
    assert len(killed) == 1
    assert "/pods/api-" in killed[0]
    after = done.trace[done.trace.index(killed[0]) :]
    assert any("has an image that deployment/api does not name: deleting it" in line for line in after)
    assert not any("ended: Failed" in line for line in after), "it was found only when its time was over"


WAITED = """
5 save api a 2
30 events_late api 8
31 save api a 3
31.5 save api b 4
60 save api a 5 crash
90 save api a 6
"""


def test_s39_a_wait_is_answered_of_the_tree_as_it_is_though_its_events_are_late() -> None:
    done = run(WAITS_FROM, steps_of(WAITED))
    assert not done.violations
    assert done.answers == {"live": 5, "failed": 1}
    with PLANTED_WITH_WAITS["looking-anew"]():
        assert any("of an older tree" in line for line in run(WAITS_FROM, steps_of(WAITED)).violations)


KILLED = """
5 save api a 2
60 save api a 3
120 save api a 4
180 kill_container api 0
"""


def test_s37_a_container_that_is_killed_comes_back_with_what_was_synced() -> None:
    done = run(SYNC_FROM, steps_of(KILLED))
    assert not done.violations
    assert any("api updated: sync" in line for line in done.trace)
    killed = next(index for index, line in enumerate(done.trace) if "kill_container" in line)
    assert any("restarting its container" in line for line in done.trace[killed:])
    with PLANTED["container-id"]():
        assert any("runs another content" in line for line in run(SYNC_FROM, steps_of(KILLED)).violations)


def test_who_waits_without_any_time_passing_is_reported() -> None:
    """A timer of less than the clock can show is due at once, and again."""

    async def waits() -> None:
        await asyncio.sleep(1000.0)
        while True:
            await asyncio.sleep(1e-15)

    loop = VirtualLoop(1)
    try:
        with pytest.raises(BusyLoopError):
            loop.run_until_complete(waits())
    finally:
        loop.close()


def test_random_scripts_are_long_and_full_of_trouble() -> None:
    steps = random_script(5)
    assert len(steps) >= 100
    assert steps[-1].at >= 15 * 60 * 0.9
    assert steps == random_script(5) != random_script(6)
    assert [Step.parse(str(step)).what for step in steps] == [step.what for step in steps]


def earlier() -> list[str]:
    lines = (HERE / "seeds.txt").read_text().splitlines()
    return [line.split()[0] for line in lines if line and not line.startswith("#")]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", earlier())
def test_seeds_that_found_something_are_right_now(seed: str) -> None:
    done = simulated("--seed", seed)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [1000, IN_PLACE_FROM, WAITS_FROM, SYNC_FROM])
def test_random_days_end_well(seed: int) -> None:
    done = simulated("--seed", str(seed), "--runs", str(RUNS))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.exhaustive
@pytest.mark.timeout(1800)
def test_days_that_nobody_has_seen_end_well() -> None:
    done = simulated("--seed", time.strftime("%Y%m%d00"), "--seconds", str(SECONDS))
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.exhaustive
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("bug", sorted(PLANTED))
def test_a_planted_bug_is_found(bug: str) -> None:
    kinds = ((PLANTED_IN_PLACE, IN_PLACE_FROM), (PLANTED_WITH_WAITS, WAITS_FROM), (PLANTED_SYNC, SYNC_FROM))
    seed = next((seed for bugs, seed in kinds if bug in bugs), 1)
    done = simulated("--seed", str(seed), "--seconds", "600", "--without", bug)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "violations" in done.stdout


PAUSED = """
5 save api a 2
60 order api pause
70 save api a 3
130 order api resume
140 order api rebuild
170 order api restart
"""


def test_nothing_begins_while_it_is_paused(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what was saved meanwhile is live in the end. An inbox that knows no pause is seen."""
    done = run(ORDERS_FROM, steps_of(PAUSED))
    assert not done.violations
    assert [line.split()[-1] for line in done.trace if "was ordered to" in line][:3] == [
        "pause",
        "resume",
        "rebuild",
    ]
    monkeypatch.setattr(Inbox, "is_paused", property(lambda self: False))
    assert any("and it is paused" in line for line in run(ORDERS_FROM, steps_of(PAUSED)).violations)


def test_a_trip_that_ends_with_an_internal_error_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant of the judge lived on it: all that it broke was reported, and none of it was a violation."""

    def broken(snapshot: Snapshot, expected: Expectation) -> float | None:
        raise TypeError("planted")

    monkeypatch.setattr(judge, "_deadline", broken)
    assert any("internal error" in line for line in run(3, steps_of(SHORT)[:1]).violations)
