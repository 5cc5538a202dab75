"""Progress of a trip: noted anywhere below it, and what happens where none shows (S21)."""

from __future__ import annotations

import random
import sys
import threading

import anyio
import pytest

from devloop import activity
from devloop.activity import Activity, bounded, recorded
from devloop.adapters.process import run
from devloop.concurrency import Check, in_thread
from devloop.errors import BuildError, LoadError

LIMIT = 0.3


def late(seen: Activity) -> BuildError:
    return BuildError("silent", evidence=seen.lines)


async def lasts(seconds: float, step: float, note: bool) -> str:
    end = anyio.current_time() + seconds
    while anyio.current_time() < end:
        await anyio.sleep(step)
        if note:
            activity.note("still here")
    return "done"


async def test_s21_work_that_shows_progress_may_last() -> None:
    assert await bounded(lambda: lasts(3 * LIMIT, LIMIT / 10, note=True), LIMIT, late) == "done"


async def test_s21_work_without_progress_is_cancelled_and_its_last_output_reported() -> None:
    cancelled = anyio.Event()

    async def work() -> None:
        activity.note("the last word")
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.set()

    with recorded(), pytest.raises(BuildError) as caught:
        await bounded(work, LIMIT, late)
    assert caught.value.evidence == ("the last word",)
    assert cancelled.is_set()


async def test_errors_of_the_work_pass_as_they_are() -> None:
    async def refused() -> None:
        await anyio.lowlevel.checkpoint()
        raise LoadError("no")

    async def bug() -> None:
        await anyio.lowlevel.checkpoint()
        raise ZeroDivisionError

    with pytest.raises(LoadError):
        await bounded(refused, LIMIT, late)
    with pytest.raises(ZeroDivisionError):
        await bounded(bug, LIMIT, late)


async def test_cancelling_passes_through_and_is_no_silence() -> None:
    with anyio.move_on_after(0.05) as scope:
        await bounded(anyio.sleep_forever, LIMIT, late)
    assert scope.cancelled_caught


async def test_an_inner_limit_ends_before_an_outer_one() -> None:
    async def inner() -> None:
        await bounded(anyio.sleep_forever, LIMIT / 3, lambda _: LoadError("the inner one"))

    with pytest.raises(LoadError, match="the inner one"):
        await bounded(inner, 10 * LIMIT, late)


async def test_s21_a_thread_that_reads_files_and_a_command_that_prints_show_progress() -> None:
    ended = threading.Event()

    def read(check: Check) -> str:
        for _ in range(30):
            check()
            ended.wait(LIMIT / 10)
        return "read"

    assert await bounded(lambda: in_thread(read), LIMIT, late) == "read"
    prints = "import sys, time\nfor _ in range(20): print('x', file=sys.stderr, flush=True); time.sleep(0.1)"
    finished = await bounded(lambda: run([sys.executable, "-c", prints], {}), 1.5, late)
    assert finished.code == 0
    with pytest.raises(BuildError):
        await bounded(lambda: run([sys.executable, "-c", "import time; time.sleep(60)"], {}), 1.5, late)


async def test_two_trips_side_by_side_have_each_its_own() -> None:
    async def busy() -> None:
        with recorded():
            await bounded(lambda: lasts(3 * LIMIT, LIMIT / 10, note=True), LIMIT, late)

    async def silent() -> None:
        with recorded(), pytest.raises(BuildError):
            await bounded(anyio.sleep_forever, LIMIT, late)

    async with anyio.create_task_group() as group:
        group.start_soon(busy)
        group.start_soon(silent)


async def test_s21_a_wait_ends_however_a_clock_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left may be less than the clock can show: a sleep of so long would end at once, for ever."""
    now, sleeps = [0.0], [0]

    class Rounding:
        def ticks(self) -> float:
            return now[0]

    async def sleep(seconds: float) -> None:
        sleeps[0] += 1
        assert sleeps[0] < 1000
        now[0] += seconds

    monkeypatch.setattr(activity, "CLOCK", Rounding())
    monkeypatch.setattr(activity.anyio, "sleep", sleep)
    chance = random.Random(1)
    for _ in range(1000):
        sleeps[0], now[0] = 0, chance.uniform(0, 1000)
        waiting = Activity()
        now[0] += chance.uniform(0, 50)
        await waiting.stalled(60.0)
        assert waiting.idle >= 60.0
