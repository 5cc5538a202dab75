"""The garbage collector is off while a command is imported, and on again when it runs."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from devloop import collector
from devloop.commands.frame import run


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    gc.unfreeze()
    gc.enable()


def test_what_is_made_while_it_is_paused_is_looked_at_no_more() -> None:
    frozen = gc.get_freeze_count()
    collector.pause()
    assert not gc.isenabled()
    stays = [[] for _ in range(1000)]
    collector.resume()
    assert gc.isenabled()
    assert gc.get_freeze_count() >= frozen + len(stays)


def test_what_lies_about_when_nothing_was_paused_is_still_collected() -> None:
    frozen = gc.get_freeze_count()
    collector.resume()
    assert gc.isenabled()
    assert gc.get_freeze_count() == frozen


def test_a_command_that_runs_collects() -> None:
    async def work() -> bool:
        return gc.isenabled()

    collector.pause()
    assert run(work)
