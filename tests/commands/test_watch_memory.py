"""Memory is given back when many trips are over, and not after each small one."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from devloop.commands import watch_memory
from devloop.commands.watch_memory import WORTH, MemoryReturn, give_back, resident_bytes
from devloop.model import BuildSpec, Service, Superseded, Timing


def service_named(name: str) -> Service:
    return Service(name, name, BuildSpec(Path(name), Path(name, "Dockerfile")), ())


OUTCOME = Superseded("build", Timing(0.0, 1.0, ()))


class Process:
    """How much it holds, and how often it was to give something back."""

    def __init__(self) -> None:
        self.held, self.trims = 100 << 20, 0
        self.trimmed = anyio.Event()

    def resident(self) -> int:
        return self.held

    def trim(self) -> None:
        self.held, self.trims = 110 << 20, self.trims + 1
        anyio.from_thread.run_sync(self.trimmed.set)


@pytest.fixture(autouse=True)
def no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_memory, "REST", 0.0)


async def test_what_many_trips_took_is_given_back_when_the_last_one_is_over() -> None:
    process = Process()
    memory = MemoryReturn(process.resident, process.trim)
    first, second = service_named("a"), service_named("b")
    async with anyio.create_task_group() as group:
        group.start_soon(memory.run)
        memory.begun(first)
        memory.begun(second)
        process.held += 5 * WORTH
        memory.ended(first, OUTCOME)
        await anyio.wait_all_tasks_blocked()
        await anyio.sleep(0.01)
        assert process.trims == 0  # the other one runs
        memory.ended(second, OUTCOME)
        await process.trimmed.wait()
        group.cancel_scope.cancel()
    assert process.trims == 1


async def test_a_trip_that_took_little_is_no_reason() -> None:
    process = Process()
    memory = MemoryReturn(process.resident, process.trim)
    async with anyio.create_task_group() as group:
        group.start_soon(memory.run)
        for held in (WORTH // 2, 2 * WORTH):
            memory.begun(service_named("a"))
            process.held += held
            memory.ended(service_named("a"), OUTCOME)
            await anyio.wait_all_tasks_blocked()
            await anyio.sleep(0.01)
            if held < WORTH:
                assert process.trims == 0
        await process.trimmed.wait()
        group.cancel_scope.cancel()
    assert process.trims == 1


def test_the_c_library_gives_back_what_was_freed() -> None:
    blocks = [bytearray(100_000) for _ in range(1000)]  # too small for pages of their own
    kept = blocks[::100]
    full = resident_bytes()
    del blocks
    give_back()
    assert kept
    assert resident_bytes() < full - (50 << 20)
