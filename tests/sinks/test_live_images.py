from __future__ import annotations

from pathlib import Path

from devloop.events import LiveChanged, TripEnded
from devloop.model import Timing, Unchanged
from devloop.sinks.live_images import History
from tests.support.fakes import fingerprint


def lived(service: str, ref: str) -> TripEnded:
    return TripEnded(service, 1, 0.0, Unchanged(fingerprint(ref), ref, Timing(0.0, 0.0, ())))


def test_s25_the_newest_that_were_live_are_kept_per_service_and_survive_a_restart(tmp_path: Path) -> None:
    history = History(tmp_path / "state" / "lived.json")
    for ref in ("a:1", "a:2", "a:3", "a:1"):
        history(lived("a", ref))
    history(lived("b", "b:1"))
    assert history.newest(2) == {"a:1", "a:3", "b:1"}
    again = History(tmp_path / "state" / "lived.json")
    assert again.newest(2) == {"a:1", "a:3", "b:1"}
    again.forget(frozenset({"a:3"}))
    assert again.all() == {"a:1", "a:2", "b:1"}


def test_s19_a_rollout_that_became_ready_after_all_was_live(tmp_path: Path) -> None:
    history = History(tmp_path / "lived.json")
    history(LiveChanged("a", False, "a:1", "failed"))
    history(LiveChanged("a", True, "", "live"))
    assert history.of("a") == ()
    history(LiveChanged("a", True, "a:1", "live"))
    history(LiveChanged("a", True, "a:2", "live"))
    assert history.of("a") == ("a:2", "a:1")
    assert history.of("b") == ()


def test_a_broken_file_is_an_empty_history(tmp_path: Path) -> None:
    file = tmp_path / "lived.json"
    file.write_text('{"a": 3')
    assert History(file).all() == frozenset()


def test_s25_the_history_is_bounded(tmp_path: Path) -> None:
    history = History(tmp_path / "lived.json", most=lambda: 10)
    for number in range(1000):
        history(lived("a", f"a:{number}"))
    for number in range(500):
        history(lived(f"s{number}", "b:1"))
    history(lived("a", "a:x"))
    again = History(tmp_path / "lived.json", most=lambda: 10)
    assert len(again.all()) < 200
    for number in range(1000, 1010):
        again(lived("a", f"a:{number}"))
    assert again.newest(10) >= {f"a:{number}" for number in range(1000, 1010)}
    assert (tmp_path / "lived.json").stat().st_size < 10_000


def test_s28_a_reload_changes_how_many_are_remembered(tmp_path: Path) -> None:
    most = [2]
    history = History(tmp_path / "lived.json", most=lambda: most[0])
    most[0] = 4
    for number in range(10):
        history(lived("a", f"a:{number}"))
    assert history.of("a") == ("a:9", "a:8", "a:7", "a:6")


def test_s25_what_a_node_calls_by_its_full_name_is_forgotten_too(tmp_path: Path) -> None:
    history = History(tmp_path / "lived.json")
    history(lived("a", "a:1"))
    history.forget(frozenset({"docker.io/library/a:1"}))
    assert history.all() == frozenset()
