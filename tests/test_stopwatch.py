"""The one clock: spans are monotonic, what is shown is the wall clock, however that jumps."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

import devloop
from devloop.clock import Clock
from devloop.events import Event, StageEnded
from devloop.model import Change
from devloop.stopwatch import Stopwatch
from devloop.trip.pace import Pace
from devloop.watch.debounce import git_is_busy
from tests.watch.test_watcher import interest, watching

NIGHT = 8 * 3600.0


@dataclass
class System:
    """What the system's clocks show beside the real ones."""

    wall: float = 0.0
    monotonic: float = 0.0


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> System:
    shown = System()
    clocks = SimpleNamespace(
        time=lambda: time.time() + shown.wall, monotonic=lambda: time.monotonic() + shown.monotonic
    )
    monkeypatch.setattr("devloop.clock.time", clocks)
    return shown


def started(clock: Clock, events: list[Event]) -> Stopwatch:
    now = clock.now()
    return Stopwatch("app", Change(frozenset(), now - 0.1, now - 0.1), clock, events.append)


@pytest.mark.parametrize("jump", [NIGHT, -NIGHT, 30.0, -0.5])
def test_s32_a_wall_clock_that_jumps_is_in_no_span(system: System, jump: float) -> None:
    events: list[Event] = []
    clock = Clock()
    watch = started(clock, events)
    with watch.time("build"):
        system.wall += jump
    timing = watch.timing()
    assert timing.seconds()["build"] == pytest.approx(0.0, abs=0.2)
    assert timing.trip == pytest.approx(0.1, abs=0.2)
    ended = [event for event in events if isinstance(event, StageEnded)]
    assert [event.seconds for event in ended] == [span.seconds for span in timing.spans]
    assert ended[-1].at == pytest.approx(time.time() + jump, abs=0.5)


def test_s32_the_spans_of_a_trip_add_up(system: System) -> None:
    clock = Clock()
    watch = started(clock, [])
    with watch.time("fingerprint"):
        system.monotonic += 1.0
    system.wall -= 3.0
    with watch.time("build"):
        system.monotonic += 2.0
    timing = watch.timing()
    assert timing.trip == pytest.approx(sum(span.seconds for span in timing.spans), abs=0.1)
    assert timing.trip == pytest.approx(3.1, abs=0.2)


@pytest.mark.parametrize("jump", [NIGHT, -NIGHT])
def test_s32_a_phase_across_a_jump_is_coarse_and_no_longer_than_the_trip(system: System, jump: float) -> None:
    watch = started(Clock(), [])
    assert watch.phase("scheduled", 0.5)
    assert watch.noted("scheduled") == (0.5, False)
    system.wall += jump
    assert watch.phase("serving", 0.7 + jump)
    seconds, coarse = watch.noted("serving")
    assert coarse
    assert 0.0 <= seconds < 1.0
    assert watch.timing().coarse == {"serving"}


async def test_s32_after_a_night_of_sleep_detect_runs_from_the_save(tmp_path: Path, system: System) -> None:
    clock = Clock()
    async with watching(interest(tmp_path), clock=clock) as ears:
        system.monotonic -= NIGHT  # it stood still, the wall clock did not
        (tmp_path / "main.py").write_text("good morning")
        await ears.until(lambda: bool(ears.changes))
    change = ears.changes[0][1]
    assert change.seen_at == pytest.approx(time.time(), abs=5)
    assert change.saved_at in (pytest.approx((tmp_path / "main.py").stat().st_mtime), change.seen_at)
    assert clock.now() == pytest.approx(time.time(), abs=0.5)


async def test_a_wall_clock_set_back_delays_no_save(tmp_path: Path, system: System) -> None:
    async with watching(interest(tmp_path), clock=Clock()) as ears:
        (tmp_path / "main.py").write_text("one")
        await ears.until(lambda: bool(ears.changes))
        await ears.settled()
        ears.forget()
        system.wall -= NIGHT
        (tmp_path / "main.py").write_text("two")
        await ears.until(lambda: bool(ears.changes), 5)


def test_s21_patience_is_counted_in_ticks(system: System) -> None:
    clock = Clock()
    pace = Pace().begun(clock.ticks())
    system.wall += NIGHT
    assert not pace.must_pass(clock.ticks())
    system.monotonic += 11
    assert pace.must_pass(clock.ticks())


@pytest.mark.parametrize(("ahead", "busy"), [(0.0, True), (-10.0, False), (60.0, False)])
def test_a_lock_of_git_from_another_time_holds_up_nothing(tmp_path: Path, ahead: float, busy: bool) -> None:
    (tmp_path / "index.lock").touch()
    created = (tmp_path / "index.lock").lstat().st_ctime
    assert git_is_busy(tmp_path, created - ahead) is busy


def test_nobody_else_asks_the_system_for_the_time() -> None:
    asking = re.compile(r"\btime\.(time|monotonic|perf_counter)(_ns)?\b|datetime\.now|\butcnow\b")
    home = Path(devloop.__file__).parent
    found = {
        path.relative_to(home).as_posix()
        for path in home.rglob("*.py")
        if "sandbox" not in path.parts and asking.search(path.read_text())
    }
    assert found == {"clock.py", "inputs/stat_cache.py"}
