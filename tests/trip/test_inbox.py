from __future__ import annotations

from pathlib import Path

import anyio

from devloop.model import Change
from devloop.trip.inbox import Inbox


def saved(*names: str, at: float, why: str = "saved") -> Change:
    return Change(frozenset(Path(name) for name in names), at, at, why)


async def test_latest_change_wins_paths_merge_and_the_first_times_stay() -> None:
    inbox = Inbox()
    inbox.put(saved("a", at=1.0))
    inbox.put(saved("b", at=2.0))
    change = await inbox.take()
    assert change.paths == {Path("a"), Path("b")}
    assert (change.seen_at, change.saved_at) == (1.0, 1.0)


async def test_a_change_without_paths_means_everything_and_swallows_paths() -> None:
    inbox = Inbox()
    inbox.put(saved("a", at=1.0))
    inbox.put(saved(at=2.0))
    assert (await inbox.take()).paths == frozenset()


async def test_what_is_put_back_keeps_the_newer_changes_times() -> None:
    inbox = Inbox()
    inbox.put(saved("new", at=5.0, why="saved"))
    inbox.put_back(saved("old", at=1.0, why="start"))
    change = await inbox.take()
    assert change.paths == {Path("old"), Path("new")}
    assert change.seen_at == 5.0
    assert change.why == "saved"


async def test_take_waits_and_filled_does_not_empty() -> None:
    inbox = Inbox()
    taken: list[Change] = []

    async def take() -> None:
        taken.append(await inbox.take())

    async with anyio.create_task_group() as group:
        group.start_soon(take)
        await anyio.wait_all_tasks_blocked()
        assert taken == []
        inbox.put(saved("a", at=1.0))
    assert len(taken) == 1
    inbox.put(saved("b", at=2.0))
    await inbox.filled()
    assert (await inbox.take()).paths == {Path("b")}


async def test_a_paused_inbox_collects_and_gives_nothing() -> None:
    inbox = Inbox()
    inbox.put(saved("a", at=1.0))
    taken: list[Change] = []

    async def take() -> None:
        await inbox.filled()
        taken.append(await inbox.take())

    async with anyio.create_task_group() as group:
        inbox.pause()
        group.start_soon(take)
        inbox.put(saved("b", at=2.0))
        await anyio.wait_all_tasks_blocked()
        assert (taken, inbox.is_filled, inbox.is_paused) == ([], True, True)
        inbox.resume(9.0)
    (change,) = taken
    assert change.paths == {Path("a"), Path("b")}
    assert (change.seen_at, change.saved_at) == (9.0, 9.0), "the pause is no part of the trip"
    inbox.put(saved("c", at=10.0))
    inbox.resume(99.0)
    assert (await inbox.take()).seen_at == 10.0, "it was not paused"


async def test_a_restart_is_asked_for_until_a_trip_has_done_it() -> None:
    inbox = Inbox()
    inbox.put(Change(frozenset(), 1.0, 1.0, "restart", restart=True))
    inbox.put(saved("a", at=2.0))
    merged = await inbox.take()
    assert merged.restart
    inbox.put(saved("b", at=3.0))
    inbox.put_back(merged)
    assert (await inbox.take()).restart


async def test_a_manual_inbox_keeps_what_is_saved_until_it_is_released() -> None:
    inbox = Inbox(manual=True)
    inbox.save(saved("a", at=1.0))
    inbox.save(saved("b", at=2.0))
    with anyio.move_on_after(0) as waited:
        await inbox.filled()
    assert waited.cancelled_caught
    assert (inbox.is_pending, inbox.is_filled) == (True, True)
    inbox.release(9.0)
    change = await inbox.take()
    assert change.paths == {Path("a"), Path("b")}
    assert (change.seen_at, change.saved_at) == (9.0, 9.0), (
        "the time until the trigger is no part of the trip"
    )
    assert (inbox.is_pending, inbox.is_filled) == (False, False)
    inbox.save(saved("c", at=10.0))
    assert inbox.is_pending, "one trigger is one trip"


async def test_what_a_manual_inbox_keeps_goes_with_a_trip_that_begins_for_another_reason() -> None:
    inbox = Inbox(manual=True)
    inbox.save(saved("a", at=1.0))
    inbox.put(saved("b", at=2.0, why="rebuild"))
    assert (await inbox.take()).paths == {Path("a"), Path("b")}


async def test_a_pause_outlasts_a_release_and_nothing_is_open_meanwhile() -> None:
    inbox = Inbox(manual=True)
    await inbox.opened()
    inbox.pause()
    inbox.save(saved("a", at=1.0))
    opened = anyio.Event()

    async def wait() -> None:
        await inbox.opened()
        opened.set()

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        inbox.resume(5.0)
        await anyio.wait_all_tasks_blocked()
        assert inbox.is_pending
        assert not opened.is_set()
        inbox.pause()
        inbox.release(6.0)
        await anyio.wait_all_tasks_blocked()
        assert not opened.is_set()
        inbox.resume(7.0)
        assert (await inbox.take()).seen_at == 7.0
    assert opened.is_set()
