"""Output without a terminal: whole lines, or JSON."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from devloop.clock import Clock
from devloop.errors import BuildError, RolloutError
from devloop.events import (
    Applied,
    ConfigReloaded,
    Event,
    Notice,
    Output,
    PodExited,
    PodLog,
    Progress,
    StageEnded,
    StateChanged,
    TripEnded,
    TripStarted,
    Updated,
    UpdateFallback,
    WatchOverflow,
)
from devloop.model import Change, Failed, Held, Live, Superseded, Timing, Unchanged
from devloop.sinks import wording
from devloop.sinks.plain import JsonLines, Plain
from tests.support.trips import FINGERPRINT, REF, ROOT, URL, failed_trip, live_trip

NOTHING = Timing(0.0, 0.25, ())


def shown(*events: Event, logs: bool = True) -> list[str]:
    stream = io.StringIO()
    sink = Plain(stream, ROOT, logs=logs)
    for event in events:
        sink(event)
    return stream.getvalue().splitlines()


def test_a_live_trip_is_two_lines() -> None:
    stream = io.StringIO()
    live_trip(Plain(stream, ROOT), Clock())
    saved, live = stream.getvalue().splitlines()
    assert saved == "backend | saved: backend/main.py"
    assert re.match(r"backend \| live in \d+ ms ", live), "however busy the machine is"
    assert REF in live
    assert re.search(r"\(detect \d+ ms, fingerprint ", live)
    assert live.endswith(URL)


def test_a_failure_is_a_block_with_evidence_files_and_hint() -> None:
    stream = io.StringIO()
    failed_trip(Plain(stream, ROOT), Clock())
    block = stream.getvalue().splitlines()[1:]
    assert block[0].startswith("backend | FAILED in build after ")
    assert block[0].endswith(": InstructionFailed")
    assert block[1:] == [
        "backend |   RUN pip install nothing: exit code 1",
        "backend |   | ERROR: no such package",
        "backend |   | Dockerfile:4: RUN pip install nothing",
        "backend |   changed: backend/Dockerfile",
        "backend |   -> mend line 4 of the Dockerfile",
    ]


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (TripStarted("a", 1, 0, Change(frozenset(), 0, 0, "start")), "a | looking at the tree"),
        (TripStarted("a", 1, 0, Change(frozenset(), 0, 0, "helm changed it")), "a | helm changed it"),
        (
            TripEnded("a", 1, 0, Unchanged(FINGERPRINT, REF, NOTHING)),
            "a | unchanged: the cluster runs the tree",
        ),
        (
            TripEnded("a", 1, 0, Unchanged(FINGERPRINT, REF, NOTHING, idle=True)),
            "a | unchanged: the cluster runs the tree; replicas 0, so no pod runs",
        ),
        (
            TripEnded("a", 1, 0, Superseded("build", NOTHING)),
            "a | superseded in build after 0.25 s by a newer",
        ),
        (
            TripEnded("a", 1, 0, Held(FINGERPRINT, NOTHING)),
            "a | held back after a rollback; another edit, or",
        ),
        (Output("a", "build", "#5 RUN make"), "a | build | #5 RUN make"),
        (PodLog("a", "todo-7d9f-abcde", "app", "hello"), "a/abcde | hello"),
        (Notice("", "warning", "mind the gap"), "mind the gap"),
        (WatchOverflow("queue full"), "file events were lost: queue full; looking at everything"),
        (ConfigReloaded(("a", "b")), "config.yaml reloaded: a, b"),
        (ConfigReloaded(("a",), ("b",)), "config.yaml reloaded: a, b is gone"),
        (Applied("manifests", ("deployment/x created",)), "manifests: deployment/x created"),
        (StateChanged("a", "Running", "Degraded"), "a | degraded: not all of its pods are ready"),
    ],
)
def test_each_event_has_its_words(event: Event, line: str) -> None:
    assert len(shown(event)) == 1
    assert shown(event)[0].startswith(line)


def test_a_container_that_exits_is_shown_with_its_log() -> None:
    event = PodExited("a", "pod-1", "app", 137, "OOMKilled", ("last", "words"))
    assert shown(event) == [
        "a | container app of the new pod pod-1 ended with exit code 137 (OOMKilled)",
        "a |   | last",
        "a |   | words",
    ]


LOG = ("Traceback (most recent call last):", '  File "/app/a.py", line 3, in f', "KeyError: 'PORT'")
CAUSE = "KeyError: 'PORT' (a.py, line 3)"
CRASH = RolloutError(
    "todo-1/app: app exited with code 1 (Error), 3 times",
    reason="CrashLoopBackOff",
    evidence=("BackOff: Back-off restarting", *LOG),
    hint="the next working save restarts it",
    cause=CAUSE,
)
SAVED = TripStarted("a", 1, 0, Change(frozenset({ROOT / "a.py"}), 0, 0))
FAILURE = TripEnded("a", 1, 0, Failed("rollout", CRASH, NOTHING))
EXIT = PodExited("a", "todo-7d9f-abcde", "app", 1, "Error", LOG, CAUSE)


def test_a_failure_begins_with_its_cause_and_shows_the_log_once() -> None:
    lines = shown(SAVED, EXIT, EXIT, FAILURE)
    assert lines == [
        "a | saved: a.py",
        f"a | container app of the new pod todo-7d9f-abcde ended with exit code 1: {CAUSE}",
        *(f"a |   | {line}" for line in LOG),
        f"a | container app of the new pod todo-7d9f-abcde ended with exit code 1: {CAUSE}",
        "a |   | (its log is above)",
        f"a | FAILED in rollout after 0.25 s: {CAUSE}",
        "a |   CrashLoopBackOff: todo-1/app: app exited with code 1 (Error), 3 times",
        "a |   | BackOff: Back-off restarting",
        "a |   | (its log is above)",
        "a |   -> the next working save restarts it",
    ]


def test_a_log_that_was_streamed_is_above_and_what_a_restart_repeats_is_not_shown() -> None:
    streamed = [PodLog("a", "todo-7d9f-abcde", "app", line) for line in LOG]
    again = [PodLog("a", "todo-7d9f-abcde", "app", line) for line in (*LOG, "something else")]
    lines = shown(SAVED, *streamed, EXIT, *again, EXIT, FAILURE)
    assert sum("KeyError" in line and "a/abcde" in line for line in lines) == 1
    assert lines[4:7] == [
        f"a | container app of the new pod todo-7d9f-abcde ended with exit code 1: {CAUSE}",
        "a |   | (its log is above)",
        "a/abcde | something else",
    ]


def test_a_warning_that_is_the_cause_is_shown_once() -> None:
    probe = "Readiness probe failed: HTTP 404"
    error = RolloutError("it timed out", reason="Deadline", evidence=(f"Unhealthy: {probe}",), cause=probe)
    assert shown(TripEnded("a", 1, 0, Failed("rollout", error, NOTHING))) == [
        f"a | FAILED in rollout after 0.25 s: {probe}",
        "a |   Deadline: it timed out",
    ]


def test_a_log_that_is_not_above_is_in_the_failure() -> None:
    lines = shown(SAVED, FAILURE)
    assert [line for line in lines if line.startswith("a |   | ")] == [
        "a |   | BackOff: Back-off restarting",
        *(f"a |   | {line}" for line in LOG),
    ]
    assert "above" not in "\n".join(lines)


def test_after_a_revert_what_still_crashes_repeats_nothing_and_what_is_new_is_shown() -> None:
    """The pods of the tree before restart until those of the reverted one are ready."""
    line = PodLog("a", "todo-7d9f-abcde", "app", LOG[-1])
    other = replace(line, pod="todo-7d9f-fghij")
    assert not any("a/abcde" in one for one in shown(SAVED, EXIT, SAVED, line))
    assert shown(SAVED, EXIT, SAVED, other)[-1] == f"a/fghij | {LOG[-1]}"
    live = TripEnded("a", 1, 0, Unchanged(FINGERPRINT, REF, NOTHING))
    for between in (live, Updated("a", "in-place")):
        assert shown(SAVED, EXIT, between, line)[-1] == f"a/abcde | {LOG[-1]}"


def test_a_workload_that_degrades_says_which_container_and_why() -> None:
    ending = "todo-1, container app: exit code 1"
    assert shown(StateChanged("a", "Running", "Degraded", LOG, ending, CAUSE)) == [
        f"a | degraded: not all of its pods are ready: {CAUSE}",
        f"a |   {ending}",
        *(f"a |   | {line}" for line in LOG),
    ]


def test_output_of_a_build_is_shown_once() -> None:
    printed = ("[2/2] RUN make", "make: *** [all] Error 1")
    error = BuildError(
        'docker build of a: process "/bin/sh -c make" did not complete successfully: exit code: 2',
        reason="BuildFailed",
        evidence=(*printed, "Dockerfile:2 | RUN make"),
        cause="make: *** [all] Error 1 (Dockerfile, line 2)",
    )
    lines = shown(
        SAVED,
        *(Output("a", "build", line) for line in printed),
        TripEnded("a", 1, 0, Failed("build", error, NOTHING)),
    )
    assert lines[3:] == [
        "a | FAILED in build after 0.25 s: make: *** [all] Error 1 (Dockerfile, line 2)",
        'a |   docker build of a: process "/bin/sh -c make" did not complete successfully: exit code: 2',
        "a |   | Dockerfile:2 | RUN make",
        "a |   | (its output is above)",
    ]


def test_a_cause_of_any_length_is_one_line_that_keeps_its_place() -> None:
    error = RolloutError("no", cause="ValueError: " + "x" * 5000 + " (a.py, line 3)")
    (line, *_) = shown(TripEnded("a", 1, 0, Failed("rollout", error, NOTHING)))
    assert line.endswith("x (a.py, line 3)")
    assert len(line) < 300


def test_the_stage_that_dominates_has_its_reason() -> None:
    why = "rollout 11.2 s: readinessProbe.initialDelaySeconds 10"
    lines = shown(TripEnded("a", 1, 0, Unchanged(FINGERPRINT, REF, NOTHING), why))
    assert lines[-1] == f"a | {why}"


def test_progress_is_printed_at_every_tenth_and_starts_over() -> None:
    events: list[Event] = [Progress("a", "load", done, 1000, "bytes") for done in range(0, 1001, 10)]
    lines = shown(*events)
    assert 9 <= len(lines) <= 11
    assert lines[0] == "a | load 10 %, 100 B of 1.0 KB"
    ended = StageEnded("a", "load", 0.0, 1.0, "ok")
    assert len(shown(*events, ended, *events)) == 2 * len(lines)
    assert shown(Progress("a", "build", 60_000_000, 0, "bytes", "python:3.12")) == [
        "a | build 60 MB, python:3.12"
    ]
    assert shown(Progress("a", "build", 3, 4, "steps")) == [], "each step is a line of its own"


def test_a_notice_may_have_several_lines_and_a_hint() -> None:
    lines = shown(Notice("a", "error", "config.yaml:3:1: x\nthe old one stays", "mend it"))
    assert lines == ["a | config.yaml:3:1: x", "a | the old one stays", "a | -> mend it"]


def test_without_logs_pods_are_silent() -> None:
    assert shown(PodLog("a", "pod", "app", "hello"), logs=False) == []


def test_what_would_move_the_cursor_is_taken_out() -> None:
    line = "\x1b[31mred\x1b[0m \x1b[2J\x1b]0;title\x07gone\r\x08!"
    assert shown(PodLog("a", "p-x", "app", line)) == ["a/x | red gone!"]
    assert wording.harmless(line, colours=True) == "\x1b[31mred\x1b[0m gone!"


def test_many_files_are_counted() -> None:
    paths = frozenset(ROOT / f"{number}.py" for number in range(7))
    assert wording.files(paths, ROOT) == "0.py, 1.py, 2.py and 4 more"
    assert wording.files(frozenset({Path("/elsewhere/x")}), ROOT) == "/elsewhere/x"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0004, "0 ms"),
        (0.0123, "12 ms"),
        (0.214, "0.21 s"),
        (1.3, "1.3 s"),
        (75, "75.0 s"),
        (200.4, "3:20 min"),
    ],
)
def test_times_are_short(value: float, text: str) -> None:
    assert wording.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 KB"), (119e6, "119 MB"), (1.24e9, "1.2 GB")]
)
def test_sizes_are_short(value: float, text: str) -> None:
    assert wording.size(value) == text


def test_json_is_one_object_per_event() -> None:
    stream = io.StringIO()
    sink = JsonLines(stream, Clock())
    live_trip(sink, Clock())
    sink(Output("backend", "build", "text"))
    records = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["event"] for line in records[:2]] == ["trip_started", "stage_ended"]
    assert records[-1] == {
        "time": records[-1]["time"],
        "event": "output",
        "service": "backend",
        "stage": "build",
        "line": "text",
    }
    ended = next(line for line in records if line["event"] == "trip_ended")
    assert ended["phases"] == {"serving": 0.68}
    assert ended["spans"][0]["stage"] == "detect"


class Closed(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_a_closed_pipe_ends_the_output_and_not_the_work() -> None:
    live_trip(Plain(Closed(), ROOT), Clock())
    live_trip(JsonLines(Closed(), Clock()), Clock())


def test_a_repeated_error_of_a_background_retry_is_not_printed_again() -> None:
    stream = io.StringIO()
    plain = Plain(stream, ROOT)
    error = Failed("build", BuildError("no such base"), NOTHING)
    change = Change(frozenset(), 0.0, 0.0, "trying again")
    plain(TripStarted("a", 2, 0.0, change, quiet=True))
    plain(Output("a", "build", "the same line"))
    plain(TripEnded("a", 2, 0.0, error, repeated=True))
    assert stream.getvalue() == ""
    plain(TripEnded("a", 3, 0.0, Unchanged(FINGERPRINT, REF, NOTHING)))
    plain(TripStarted("a", 4, 0.0, change))
    plain(Output("a", "build", "a line"))
    plain(TripEnded("a", 4, 0.0, error))
    shown = stream.getvalue().splitlines()
    assert shown[0].startswith("a | unchanged")
    assert shown[1:] == [
        "a | trying again",
        "a | build | a line",
        "a | FAILED in build after 0.25 s",
        "a |   no such base",
    ]


def test_s17_a_service_without_a_deploy_shows_no_replicas() -> None:
    events: list[Event] = []
    live_trip(events.append, Clock())
    ended = next(event for event in events if isinstance(event, TripEnded))
    assert isinstance(ended.outcome, Live)
    built = replace(ended.outcome, rollout=replace(ended.outcome.rollout, revisions=(), pods=()), url=None)
    (line, *_) = shown(replace(ended, outcome=built))
    assert line.startswith("backend | built and loaded in ")
    assert REF in line
    assert "replicas" not in line


def test_s36_what_could_not_be_synced_is_a_line_once() -> None:
    why = UpdateFallback("web", "deleted", "/app/a was deleted", wanted="sync")
    assert shown(why, replace(why, first=False)) == ["web | not synced: /app/a was deleted"]
    rolled = UpdateFallback("web", "paused", "it is paused")
    assert shown(rolled) == ["web | rolled, not updated in place: it is paused"]
