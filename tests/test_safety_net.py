"""The last net: whatever is raised, a report file has it, one line reports it, the rest runs on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path

import anyio
import pytest

from devloop import safety_net
from devloop.errors import InternalError, PlatformError, RolloutError
from devloop.events import Event, LiveChanged, Notice, TripEnded
from devloop.fault_reports import KEPT_REPORTS, Reports
from devloop.model import Change, Failed, Live, Unchanged
from devloop.safety_net import SafetyNet
from devloop.signals import END_SECONDS
from devloop.sinks.fan import Fan
from devloop.trip import waits
from devloop.trip.reconciler import next_step
from devloop.trip.sharing import Sharing
from devloop.trip.worker import Worker
from devloop.trip.worker_pool import WorkerPool
from tests.support.fakes import SERVICE, FakeWorld, fingerprint


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safety_net, "PAUSES", (0.01, 0.02))
    monkeypatch.setitem(waits.PAUSES, "internal", safety_net.PAUSES)


def net_of(folder: Path, events: list[Event], secret: str = "hunter22") -> SafetyNet:
    return SafetyNet(Reports(folder, lambda text: text.replace(secret, "***")), events.append)


async def until(true: object) -> None:
    assert callable(true)
    with anyio.fail_after(20):
        while not true():
            await anyio.sleep(0.005)


# --- reports ------------------------------------------------------------------------------------------


def test_s30_report_has_the_traceback_and_no_secret(tmp_path: Path) -> None:
    reports = Reports(tmp_path / "reports", lambda text: text.replace("hunter22", "***"))
    try:
        raise TypeError("no hunter22 here")
    except TypeError as cause:
        error = reports.error("a test", cause)
    (file,) = (tmp_path / "reports").iterdir()
    assert error.message == f"internal error in a test: TypeError: no *** here; report: {file}"
    assert "\n" not in error.message
    text = file.read_text()
    assert "test_s30_report_has_the_traceback" in text
    assert "hunter22" not in text
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


def test_one_report_per_fault_and_only_the_newest_are_kept(tmp_path: Path) -> None:
    reports = Reports(tmp_path, str)
    same = ValueError("same")
    assert reports.write("a", same) == reports.write("a", same)
    for number in range(KEPT_REPORTS + 5):
        reports.write("a", ValueError(str(number)))
    assert len(list(tmp_path.iterdir())) == KEPT_REPORTS


def test_a_report_that_cannot_be_written_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    error = Reports(tmp_path / "file" / "below", str).error("a test", ValueError("x"))
    assert error.message == "internal error in a test: ValueError: x; report: not written (Not a directory)"


def test_s30_where_secrets_cannot_be_recognised_nothing_of_the_fault_is_shown(tmp_path: Path) -> None:
    def conceal(text: str) -> str:
        raise RuntimeError(text)

    error = Reports(tmp_path, conceal).error("a test", ValueError("hunter22"))
    (file,) = tmp_path.iterdir()
    assert "hunter22" not in error.message + file.read_text()


def test_an_expected_error_in_a_task_groups_wrapping_is_given_back(tmp_path: Path) -> None:
    expected = RolloutError("known")
    group = ExceptionGroup("a", [ExceptionGroup("b", [expected])])
    assert Reports(tmp_path, str).error("a test", group) is expected


# --- background tasks ---------------------------------------------------------------------------------


async def test_a_task_that_raises_is_reported_and_started_again(tmp_path: Path) -> None:
    events: list[Event] = []
    runs: list[int] = []

    async def task() -> None:
        runs.append(len(runs))
        if len(runs) < 4:
            raise [TypeError("odd"), PlatformError("gone", hint="start it"), KeyError("x")][len(runs) - 1]

    await net_of(tmp_path, events).keep("the task", task)
    assert len(runs) == 4
    messages = [event.message for event in events if isinstance(event, Notice)]
    assert messages[0].startswith("internal error in the task: TypeError: odd; report: ")
    assert messages[1] == "the task: gone"  # an expected error in its own words
    assert messages[2].startswith("internal error in the task: KeyError: 'x'")


async def test_cancelling_ends_what_is_kept_also_between_two_tries(tmp_path: Path) -> None:
    events: list[Event] = []

    async def task() -> None:
        raise TypeError("odd")

    async with anyio.create_task_group() as group:
        net_of(tmp_path, events).keeper(group)("the task", task)
        await until(lambda: len(events) > 3)
        group.cancel_scope.cancel()


async def test_a_task_that_tells_that_it_stands_may_fall_before(tmp_path: Path) -> None:
    events: list[Event] = []
    tries: list[int] = []

    async def task(*, task_status: anyio.abc.TaskStatus[None]) -> None:
        tries.append(1)
        if len(tries) == 1:
            raise OSError("not yet")
        task_status.started()
        if len(tries) == 2:
            raise OSError("and again")
        await anyio.sleep_forever()

    async def kept(*, task_status: anyio.abc.TaskStatus[None]) -> None:
        await net_of(tmp_path, events).keep("the task", task, task_status=task_status)

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            await group.start(kept)
            await until(lambda: len(tries) == 3)
            group.cancel_scope.cancel()


def test_a_sink_that_raises_holds_up_no_other(tmp_path: Path) -> None:
    fan = Fan()
    heard: list[Event] = []

    def broken(event: Event) -> None:
        raise ZeroDivisionError("in the sink")

    fan.sinks += [broken, heard.append]
    fan.fell = SafetyNet(Reports(tmp_path, str), fan).sink_fell
    fan(Notice("", "info", "hello"))
    messages = [event.message for event in heard if isinstance(event, Notice)]
    assert messages[-1] == "hello"
    assert "ZeroDivisionError: in the sink" in messages[0]


# --- a service ----------------------------------------------------------------------------------------


async def test_an_internal_error_in_a_trip_is_a_failed_trip_that_is_tried_again(tmp_path: Path) -> None:
    fake = FakeWorld("v1")
    take = fake.take
    tries: list[Change] = []

    async def odd(service: object, change: Change) -> object:
        tries.append(change)
        if len(tries) < 3:
            raise ZeroDivisionError("odd")
        return await take(SERVICE, change)

    fake.take = odd  # type: ignore[method-assign, assignment]
    worker = Worker(SERVICE, fake.world(), Sharing(), ())
    async with anyio.create_task_group() as group:
        group.start_soon(worker.run)
        now = fake.clock.now()
        worker.inbox.put(Change(frozenset(), now, now))
        await until(lambda: isinstance(worker.outcome, Live))
        group.cancel_scope.cancel()
    outcomes = [event.outcome for event in fake.events if isinstance(event, TripEnded)]
    assert [type(one) for one in outcomes] == [Failed, Failed, Live]
    assert isinstance(outcomes[0], Failed)
    assert isinstance(outcomes[0].error, InternalError)
    states = [event.state for event in fake.events if isinstance(event, LiveChanged)]
    assert states == ["working", "failed", "live"]  # a look that nobody asked for is not reported


@asynccontextmanager
async def pool_of(fake: FakeWorld, net: SafetyNet, *companions: object) -> AsyncIterator[WorkerPool]:
    pool = WorkerPool(fake.world(), lambda _: nullcontext(), net, Sharing(), (), companions)  # type: ignore[arg-type]
    async with anyio.create_task_group() as group:
        group.start_soon(pool.run, [SERVICE])
        await until(lambda: pool.names)
        yield pool
        group.cancel_scope.cancel()


async def test_a_worker_that_falls_is_shown_failed_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault between two trips: the service is not live any more until a trip says so."""
    fake = FakeWorld("v1")
    net = SafetyNet(Reports(tmp_path, str), fake.events.append)
    fell: list[int] = []

    def states() -> list[str]:
        return [event.state for event in fake.events if isinstance(event, LiveChanged)]

    async def falls(worker: Worker) -> None:
        await worker.feeds()
        await until(lambda: isinstance(worker.outcome, Live | Unchanged))
        fell.append(1)
        if len(fell) == 1:
            raise IndexError("beside the trips")

    def review(*known: object) -> object:
        if len(reviews) == 0:
            reviews.append(1)
            raise KeyError("review")
        return next_step(*known)  # type: ignore[arg-type]

    reviews: list[int] = []
    monkeypatch.setattr("devloop.trip.reconciler.next_step", review)
    async with pool_of(fake, net, falls) as pool:
        await until(lambda: states()[-3:] == ["failed", "working", "live"] and len(fell) >= 2)
        fake.tree = "v2"
        now = fake.clock.now()
        pool.deliver(SERVICE.name, Change(frozenset({Path("/src/a.py")}), now, now))
        await until(lambda: fake.patched[-1:] == [SERVICE.ref(fingerprint("v2"))])  # saves reach it
    messages = [event.message for event in fake.events if isinstance(event, Notice)]
    assert any("internal error in service backend: KeyError: 'review'" in one for one in messages), messages


# --- how a process ends -------------------------------------------------------------------------------

# The command line and a command that is nothing but the fault. `decorator`: `on_project`, for one that has
# read config.yaml, and with it what is secret.
FAULTY = """
import sys, threading, time
from devloop import cli
from devloop.commands.options import on_project
from devloop.signals import until_interrupted
import anyio

@cli.main.command("faulty")
{decorator}
def fault(*_, **__):
    {fault}

sys.argv[0] = "devloop"
cli.main()
"""


def small_project(folder: Path) -> None:
    (folder / "app").mkdir()
    (folder / "app" / "Dockerfile").write_text("FROM scratch\n")
    (folder / "config.yaml").write_text(
        'version: 1\nservices: {a: {image: a, build: {context: app, args: {API_TOKEN: "hunter22"}}}}\n'
    )


def start(folder: Path, fault: str, decorator: str = "") -> subprocess.Popen[str]:
    small_project(folder)
    return subprocess.Popen(
        (sys.executable, "-c", FAULTY.format(fault=fault, decorator=decorator), "faulty"),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder,
        env={**os.environ, "XDG_STATE_HOME": str(folder / "state")},
    )  # fmt: skip


def test_a_command_that_falls_prints_one_line_and_exits_with_its_own_code(tmp_path: Path) -> None:
    process = start(tmp_path, "raise ZeroDivisionError('odd hunter22')", "@on_project")
    _, errors_shown = process.communicate(timeout=60)
    assert process.returncode == 70, errors_shown
    assert "Traceback" not in errors_shown
    assert "hunter22" not in errors_shown
    (report,) = (tmp_path / "state").rglob("internal-error-*.txt")
    assert str(report) in errors_shown
    assert "ZeroDivisionError" in report.read_text()
    assert "hunter22" not in report.read_text()


STRAYS = """
    class Odd:
        def __del__(self):
            raise ValueError("destroyed")
    Odd()
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()
    async def left():
        import asyncio
        async def agen():
            try:
                yield 1
            finally:
                raise RuntimeError("generator")
        one = agen()
        await anext(one)
        del one
        asyncio.get_running_loop().create_task(agen().__anext__().__aiter__() if False else falls())
        await anyio.sleep(0.1)
        import gc
        gc.collect()
        await anyio.sleep(0.1)
    async def falls():
        raise LookupError("task")
    anyio.run(until_interrupted, left)
    import logging
    logging.getLogger("aiohttp").error("unclosed", exc_info=ValueError("logged"))
    print("well")
"""


def test_what_python_would_print_goes_to_a_report(tmp_path: Path) -> None:
    process = start(tmp_path, STRAYS.strip())
    shown, errors_shown = process.communicate(timeout=60)
    assert (process.returncode, shown, errors_shown) == (0, "well\n", "")
    reports = "".join(one.read_text() for one in (tmp_path / "state").rglob("internal-error-*.txt"))
    for what in ("destroyed", "ZeroDivisionError", "generator", "task", "logged"):
        assert what in reports


HUNG_THREAD = """
    async def work():
        print("stands", file=sys.stderr, flush=True)
        await anyio.to_thread.run_sync(time.sleep, 600)
    anyio.run(until_interrupted, work)
"""
FULL_PIPE = """
    async def work():
        print("stands", file=sys.stderr, flush=True)
        await anyio.sleep(0.2)
        for _ in range(100000):
            print("x" * 1000)
        await anyio.sleep(600)
    anyio.run(until_interrupted, work)
"""
FULL_AFTER = """
    async def work():
        print("stands", file=sys.stderr, flush=True)
        await anyio.sleep_forever()
    anyio.run(until_interrupted, work)
    for _ in range(100000):
        print("x" * 1000)
"""
BUSY = """
    async def work():
        print("stands", file=sys.stderr, flush=True)
        while True:
            time.sleep(0.01)
    anyio.run(until_interrupted, work)
"""
CHILD = """
    import os
    from devloop.adapters.process import Running
    async def work():
        child = await Running.start(["sleep", "613"], os.environ)
        print("stands", child._process.pid, file=sys.stderr, flush=True)
        await anyio.to_thread.run_sync(time.sleep, 600)
    anyio.run(until_interrupted, work)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("fault", [HUNG_THREAD, FULL_PIPE, FULL_AFTER, BUSY, CHILD])
def test_a_signal_ends_it_within_two_seconds(tmp_path: Path, fault: str, number: signal.Signals) -> None:
    process = start(tmp_path, fault.strip())
    assert process.stderr is not None
    line = process.stderr.readline()
    assert line.startswith("stands")
    time.sleep(0.5)  # the pipe fills
    began = time.monotonic()
    process.send_signal(number)
    assert process.wait(timeout=10) in (130, 70)  # 70: it printed into a pipe that nobody reads
    assert END_SECONDS < 2
    assert time.monotonic() - began < 8  # of a machine that has other things to do; without it, never
    assert "Traceback" not in process.stderr.read()
    if fault is CHILD:
        assert (
            not Path(f"/proc/{line.split()[1]}").exists()
            or "Z" in Path(f"/proc/{line.split()[1]}/stat").read_text()
        )


READER_LEAVES_TOO = """
    from devloop.signals import end_without_reader
    async def work():
        print("stands", file=sys.stderr, flush=True)
        try:
            await anyio.sleep_forever()
        finally:
            end_without_reader()
            time.sleep(0.2)
            print("cleaned up", file=sys.stderr, flush=True)
    anyio.run(until_interrupted, work)
    end_without_reader()
    sys.exit(130)
"""


def test_a_reader_that_the_same_ctrl_c_ended_does_not_end_the_cleaning_up(tmp_path: Path) -> None:
    """`devloop watch | tee log`: the terminal sends SIGINT to both, and the next line meets EPIPE."""
    process = start(tmp_path, READER_LEAVES_TOO.strip())
    assert process.stderr is not None
    assert process.stderr.readline() == "stands\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130
    assert process.stderr.read() == "cleaned up\n"


@pytest.mark.parametrize("stream", [">/dev/full", ">&-", "2>&-", "2>/dev/full", "<&-", ">&- 2>&- <&-"])
def test_a_stream_that_is_full_or_closed_prints_no_traceback(tmp_path: Path, stream: str) -> None:
    (tmp_path / "fault.py").write_text(FAULTY.format(fault='print("well"); sys.exit(0)', decorator=""))
    small_project(tmp_path)
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} fault.py faulty {stream}"],
        capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path,
        env={**os.environ, "XDG_STATE_HOME": str(tmp_path / "state"), "PYTHONPATH": str(Path.cwd())},
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr
    if stream == ">/dev/full":
        assert done.stderr == "devloop: standard output: No space left on device\n"
        assert done.returncode == 74
    else:
        assert done.returncode == 0, done.stderr
