"""The clocks of the simulation: devloop's own, and the cluster's, both read from the loop's time."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, tzinfo

from devloop.clock import Clock

START = 1_800_000_000.0  # seconds since the epoch at loop time 0


class SimulatedClock(Clock):
    """`jump` moves the wall clock, as ntpd or somebody's hand does; ticks go on."""

    def __init__(self) -> None:
        self.jumped = 0.0

    def now(self) -> float:
        return START + asyncio.get_running_loop().time() + self.jumped

    def ticks(self) -> float:
        return asyncio.get_running_loop().time()


class SimulatedDatetime(datetime):
    """The cluster's clock: it never jumps."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> SimulatedDatetime:
        moment = cls.fromtimestamp(START, tz or UTC)
        return moment + timedelta(seconds=asyncio.get_running_loop().time())


class Monotonic:
    """In the place of the module `time` where the cluster's code asks it."""

    @staticmethod
    def monotonic() -> float:
        return asyncio.get_running_loop().time()

    @staticmethod
    def time() -> float:
        return START + asyncio.get_running_loop().time()

    @staticmethod
    def time_ns() -> int:
        return int((START + asyncio.get_running_loop().time()) * 1e9)
