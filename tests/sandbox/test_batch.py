"""Schedules of CronJobs, what is made of them at a given time, and the counts of Jobs."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from devloop_sandbox.admission.gate import Gate
from devloop_sandbox.controllers.batch.cronjobs import CronJobs
from devloop_sandbox.controllers.batch.jobs import Jobs
from devloop_sandbox.controllers.batch.judgement import finished, ranges
from devloop_sandbox.objects.cron import schedule_of
from devloop_sandbox.options import Options
from devloop_sandbox.store.store import Store

NOON = datetime(2026, 3, 4, 12, 0, 30, tzinfo=UTC)  # a Wednesday


@pytest.mark.parametrize(
    ("text", "following", "before"),
    [
        ("* * * * *", "2026-03-04 12:01", "2026-03-04 12:00"),
        ("*/20 * * * *", "2026-03-04 12:20", "2026-03-04 12:00"),
        ("5,10-12 9-17/4 * * *", "2026-03-04 13:05", "2026-03-04 09:12"),
        ("@hourly", "2026-03-04 13:00", "2026-03-04 12:00"),
        ("0 0 * * *", "2026-03-05 00:00", "2026-03-04 00:00"),
        ("0 6 * * mon-fri", "2026-03-05 06:00", "2026-03-04 06:00"),
        ("0 6 * * 0", "2026-03-08 06:00", "2026-03-01 06:00"),
        ("0 0 13 * 5", "2026-03-06 00:00", "2026-02-27 00:00"),  # either day
        ("0 0 1 jan ?", "2027-01-01 00:00", "2026-01-01 00:00"),
        ("0 0 29 2 *", "2028-02-29 00:00", "2024-02-29 00:00"),
    ],
)
def test_the_next_time_and_the_last(text: str, following: str, before: str) -> None:
    schedule = schedule_of(text)
    found = schedule.next(NOON), schedule.last(NOON)
    assert [f"{one:%Y-%m-%d %H:%M}" for one in found if one] == [following, before]


BEGUN = datetime(2026, 3, 4, 11, 59, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "following", "before"),
    [
        ("@every 30s", "12:01:00", "12:00:30"),
        ("@every 40s", "12:01:00", "12:00:20"),
        ("@every 1h30m", "13:29:00", None),
        ("@every 1.5m", "12:02:00", "12:00:30"),
        ("@every 10ms", "12:00:31", "12:00:30"),
    ],
)
def test_every_so_often_since_the_last_time(text: str, following: str, before: str | None) -> None:
    schedule = schedule_of(text)
    found = schedule.next(NOON, BEGUN), schedule.last(NOON, BEGUN)
    assert [one and f"{one:%H:%M:%S}" for one in found] == [following, before]


@pytest.mark.parametrize("text", ["@every x", "@every ", "@every 5", "@every 1h 5m", "@every -5m"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match=r"failed to parse duration|expected exactly 5"):
        schedule_of(text)


def test_a_time_zone_has_its_own_noon_and_skips_what_summer_time_skips() -> None:
    berlin = schedule_of("30 2 * * *", "Europe/Berlin")
    found = berlin.next(datetime(2026, 3, 27, 12, tzinfo=UTC))
    assert found == datetime(2026, 3, 28, 1, 30, tzinfo=UTC)
    assert berlin.next(found) == datetime(2026, 3, 30, 0, 30, tzinfo=UTC)  # there is no 2:30 on the 29th


def test_a_day_that_never_comes() -> None:
    assert schedule_of("0 0 31 2 *").next(NOON) is None


@pytest.mark.parametrize(
    "text", ["", "* * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "*/0 * * * *", "9-5 * * * *", "@often"]
)
def test_what_is_no_schedule(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected exactly 5|is not within|failed to parse"):
        schedule_of(text)


def test_an_unknown_time_zone() -> None:
    with pytest.raises(ValueError, match="unknown time zone Mars"):
        schedule_of("@daily", "Mars")


class Crons:
    """The controller alone, at times of the test's own."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        options = Options("test", folder)
        self.store = Store(folder / "store.db", Gate(options))
        self.store.create("namespaces", {"metadata": {"name": "default"}})
        self.controller = CronJobs(self.store, options)
        self._patch = monkeypatch
        self.ended = 0

    def create(self, **spec: Any) -> None:
        pod = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "a:1"}]}
        template = {"metadata": {"labels": {"mine": "yes"}}, "spec": {"template": {"spec": pod}}}
        spec = {"schedule": "* * * * *", "jobTemplate": template, **spec}
        self.store.create("cronjobs", {"metadata": {"name": "t", "namespace": "default"}, "spec": spec})

    def at(self, minutes: float) -> float | None:
        """One step, so many minutes after the CronJob was made."""
        made = datetime.fromisoformat(
            self.store.get("cronjobs", "default", "t")["metadata"]["creationTimestamp"]
        )
        start = made.replace(second=0).timestamp()
        moment = datetime.fromtimestamp(start + minutes * 60, UTC)
        self._patch.setattr(CronJobs, "now", lambda self: moment)
        return self.controller.sync(("default", "t"))

    @property
    def jobs(self) -> list[str]:
        return sorted(job["metadata"]["name"] for job in self.store.list("jobs", "default"))

    def finish(self, name: str, kind: str = "Complete") -> None:
        def change(job: dict[str, Any]) -> None:
            self.ended += 1
            ended = {"type": kind, "status": "True", "lastTransitionTime": f"2030-01-01T00:0{self.ended}:00Z"}
            job["status"] = {"conditions": [ended], "completionTime": ended["lastTransitionTime"]}

        self.store.mutate("jobs", "default", name, change, subresource="status")

    @property
    def status(self) -> dict[str, Any]:
        return dict(self.store.get("cronjobs", "default", "t")["status"])


@pytest.fixture
def crons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Crons:
    return Crons(tmp_path, monkeypatch)


def test_one_job_for_each_time_and_none_before(crons: Crons) -> None:
    crons.create()
    assert crons.at(0.99) is not None
    assert crons.jobs == []
    assert crons.at(1.5) == pytest.approx(30, abs=1)
    assert crons.at(1.9) == pytest.approx(6, abs=1)
    assert len(crons.jobs) == 1
    crons.at(2.1)
    assert len(crons.jobs) == 2
    assert [one["name"] for one in crons.status["active"]] == crons.jobs
    job = crons.store.get("jobs", "default", crons.jobs[0])
    assert job["metadata"]["labels"] == {"mine": "yes"}


def test_a_job_every_so_often(crons: Crons) -> None:
    crons.create(schedule="@every 5m")
    for minute in (1, 4):
        assert crons.at(minute) is not None
    assert crons.jobs == []
    assert crons.at(6.5) == pytest.approx(210, abs=61)
    assert len(crons.jobs) == 1
    crons.at(8)
    assert len(crons.jobs) == 1
    crons.at(11.5)
    assert len(crons.jobs) == 2


def test_of_many_missed_times_the_last_alone_counts(crons: Crons) -> None:
    crons.create()
    crons.at(500.5)
    assert len(crons.jobs) == 1


def test_a_time_that_is_too_long_ago_is_missed(crons: Crons) -> None:
    crons.create(schedule="0 * * * *", startingDeadlineSeconds=10)
    crons.at(60 * 24 + 59.9)
    assert crons.jobs == []


@pytest.mark.parametrize(("policy", "left"), [("Allow", 2), ("Forbid", 1), ("Replace", 1)])
def test_what_becomes_of_a_job_that_still_runs(crons: Crons, policy: str, left: int) -> None:
    crons.create(concurrencyPolicy=policy)
    crons.at(1.1)
    (first,) = crons.jobs
    crons.at(2.1)
    assert len(crons.jobs) == left
    assert (first in crons.jobs) == (policy != "Replace")
    if policy == "Forbid":
        crons.finish(first)
        crons.at(3.1)
        assert len(crons.jobs) == 2


def test_a_suspended_one_makes_none(crons: Crons) -> None:
    crons.create(suspend=True)
    assert crons.at(5) is None
    assert crons.jobs == []


def test_old_jobs_go_as_the_limits_say(crons: Crons) -> None:
    crons.create(successfulJobsHistoryLimit=1, failedJobsHistoryLimit=0)
    for minute in (1, 2, 3):
        crons.at(minute + 0.1)
        crons.finish(crons.jobs[-1], "Failed" if minute == 2 else "Complete")
    newest = crons.jobs[-1]
    crons.at(3.5)
    assert crons.jobs == [newest]
    assert crons.status["lastSuccessfulTime"].startswith("2030")


def test_a_job_counts_each_of_its_pods_also_those_that_were_deleted(tmp_path: Path) -> None:
    """Of three that have to succeed each was deleted before the next ended: it went on for ever."""
    options = Options("test", tmp_path)
    store = Store(tmp_path / "store.db", Gate(options))
    store.create("namespaces", {"metadata": {"name": "default"}})
    pod = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "a:1"}]}
    spec = {"completions": 3, "parallelism": 1, "template": {"spec": pod}}
    store.create("jobs", {"metadata": {"name": "j", "namespace": "default"}, "spec": spec})

    def end(copy: dict[str, Any]) -> None:
        copy["status"] = {"phase": "Succeeded"}

    controller, counted = Jobs(store, options), []
    for number in range(3):
        if number == 2:
            controller = Jobs(store, options)  # after a restart, too
        controller.sync(("default", "j"))
        (made,) = store.list("pods", "default")
        name = made["metadata"]["name"]
        store.mutate("pods", "default", name, end, subresource="status")
        controller.sync(("default", "j"))
        counted.append(store.get("jobs", "default", "j")["status"]["succeeded"])
        for one in store.list("pods", "default"):
            if one["metadata"]["name"] == name:
                store.delete("pods", "default", name, grace=0)
    assert counted == [1, 2, 3]
    assert finished(store.get("jobs", "default", "j"))


@pytest.mark.parametrize(
    ("indexes", "text"), [((), ""), ((0,), "0"), ((0, 1), "0,1"), ((0, 1, 2, 4, 6, 7, 8), "0-2,4,6-8")]
)
def test_completed_indexes_as_kubernetes_writes_them(indexes: tuple[int, ...], text: str) -> None:
    assert ranges(frozenset(indexes)) == text
