"""Runs the suites of scripts/test: what waits beside what computes, each output apart, the times at the end.

Two stages run beside each other; when one is over, the next that is ready begins: the first of the list
whose `after` are over, whether they passed or not. The long ones stand first, so that both places end at
about the same time. Each stage's output goes to a file; what is shown is a line of progress now and then,
and the output's end when the stage is over (all of it when it failed).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

ROOT = Path(__file__).resolve().parents[1]
UNIT, REAL = "(not engine and not sandbox)", "(engine or sandbox)"
USUAL = "{} and not exhaustive"
PERCENT = re.compile(r"\[ *(\d+)%\]")
EVERY = 20.0  # seconds between two lines of progress of a stage
LAST_LINES = 30  # of a stage that passed: its durations and its count
BESIDE = 2  # stages beside each other, each with two processes of its own on two cores: most of them wait


@dataclass(frozen=True)
class Stage:
    name: str
    command: tuple[str, ...]
    after: tuple[str, ...] = ()
    environ: dict[str, str] = field(default_factory=dict)


def pytest(*words: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "pytest", "-q", *words)


def python(*words: str) -> tuple[str, ...]:
    return (sys.executable, *words)


# Some lower limits of the kernel, which others beside them would feel.
ALONE = Stage("unit tests that run alone", pytest("-m", f"{UNIT} and alone", "tests/watch"))
CHECKS = Stage("checks", ("scripts/check",), after=(ALONE.name,))
BASES = Stage("base images", ("scripts/base-image",))
CONTRACT = Stage("contract suite", ("scripts/contract", "sandbox", "--durations", "10"), after=(ALONE.name,))
IMAGES = tuple(
    f"tests/{name}"
    for name in ("delta", "differential", "dockerfile", "inputs", "topologies", "test_sample.py")
)
END_TO_END = ("tests/e2e", "tests/test_readme.py")


def without(*paths: str) -> tuple[str, ...]:
    return tuple(word for path in paths for word in ("--ignore", path))


def units(which: str) -> Stage:
    words = ("-n", "2", "--dist", "worksteal", "-m", f"{which} and not alone", "--durations", "15")
    return Stage("unit tests", pytest(*words, *without("tests/contract")), after=(ALONE.name,))


def images(which: str) -> Stage:
    words = ("-n", "2", "--dist", "loadfile", "-m", which, "--durations", "15")
    return Stage("images and deltas", pytest(*words, *IMAGES), after=(ALONE.name, BASES.name))


def adapters(which: str) -> Stage:
    """And every other test on an engine or a cluster."""
    words = ("-n", "2", "--dist", "loadfile", "-m", which, "--durations", "15")
    others = without("tests/contract", *END_TO_END, *IMAGES)
    return Stage("adapters, sandbox", pytest(*words, *others), after=(ALONE.name, BASES.name))


def end_to_end(which: str, environ: dict[str, str]) -> Stage:
    words = ("-n", "2", "--dist", "worksteal", "-m", which, "--durations", "15")
    return Stage("end to end", pytest(*words, *END_TO_END), (ALONE.name, BASES.name), environ)


# Random cases without an end of their own: a number of them, others each day.
TODAY = ("--seed", time.strftime("%Y%m%d000"))
LONG_COMPUTING = (
    Stage("fuzzers", python("-m", "tests.fuzz", "--seconds", "60")),
    Stage("random deltas", python("-m", "tests.differential", "--cases", "500", *TODAY), (BASES.name,)),
    Stage(
        "random builds that go on",
        python("-m", "tests.differential.continued", "--cases", "200", *TODAY),
        (BASES.name,),
    ),
    Stage(
        "random outputs of stages",
        python("-m", "tests.differential.stages", "--cases", "200", *TODAY),
        (BASES.name,),
    ),
)
LONG_WAITING = (
    Stage("convergence", python("-m", "tests.e2e.test_convergence", "--edits", "200", *TODAY), (BASES.name,)),
    Stage("bad days", python("bench/bad_days.py", "--minutes", "10"), (BASES.name,)),
)


def fast() -> list[Stage]:
    return [ALONE, units(USUAL.format(UNIT))]


def usual() -> list[Stage]:
    real = USUAL.format(REAL)
    computing = [images(real), adapters(real), units(USUAL.format(UNIT)), CONTRACT, CHECKS]
    return [ALONE, BASES, end_to_end(real, {}), *computing]


def everything() -> list[Stage]:
    writing = {"DEVLOOP_TEST_WRITING": "60"}  # S21 at its full length
    long = [*LONG_WAITING, *LONG_COMPUTING]
    return [
        ALONE,
        BASES,
        end_to_end(REAL, writing),
        images(REAL),
        adapters(REAL),
        *long,
        units(UNIT),
        CONTRACT,
        CHECKS,
    ]


class Run:
    """Every stage; `failed` and `seconds` by the stages' names."""

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self.began = time.monotonic()
        self.failed: list[str] = []
        self.seconds: dict[str, float] = {}
        self._running: set[asyncio.subprocess.Process] = set()
        self._interrupted = False

    async def all(self, stages: Sequence[Stage], beside: int = BESIDE) -> None:
        """Raises ValueError where stages wait for each other, or for one that is not there."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._interrupt)
        left, tasks = list(stages), set[asyncio.Task[None]]()
        while (left and not self._interrupted) or tasks:
            while len(tasks) < beside and not self._interrupted and (stage := self._ready(left)):
                left.remove(stage)
                tasks.add(asyncio.create_task(self._stage(stage)))
            if not tasks:
                raise ValueError(f"never ready: {', '.join(stage.name for stage in left)}")
            over, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in over:
                task.result()

    def _ready(self, left: Sequence[Stage]) -> Stage | None:
        """The first whose `after` are over."""
        return next((stage for stage in left if self.seconds.keys() >= set(stage.after)), None)

    async def _stage(self, stage: Stage) -> None:
        began = time.monotonic()
        log = self.logs / f"{re.sub('[^a-z0-9]+', '-', stage.name)}.log"
        self.say(f"{stage.name} …")
        process = await asyncio.create_subprocess_exec(
            *stage.command, cwd=ROOT, env={**os.environ, **stage.environ}, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        self._running.add(process)
        try:
            with log.open("wb") as file:
                await self._read(stage, process, file)
            status = await process.wait()
        finally:
            self._running.discard(process)
        self.seconds[stage.name] = time.monotonic() - began
        lines = log.read_text(errors="replace").splitlines()
        self.say(f"{stage.name}: {'passed' if not status else 'FAILED'} in {self.seconds[stage.name]:.0f} s")
        if status:
            self.failed.append(stage.name)
        for line in lines if status else lines[-LAST_LINES:]:
            if not PERCENT.search(line):
                print(f"  | {line}", flush=True)

    async def _read(self, stage: Stage, process: asyncio.subprocess.Process, log: BinaryIO) -> None:
        assert process.stdout is not None
        shown = time.monotonic()
        while line := await process.stdout.readline():
            log.write(line)
            found = PERCENT.search(line.decode(errors="replace"))
            if found and time.monotonic() - shown > EVERY:
                shown = time.monotonic()
                self.say(f"{stage.name}: {found[1]} %")

    def _interrupt(self) -> None:
        """Ctrl-C: each suite cleans up after itself, and none begins any more."""
        self._interrupted = True
        for process in self._running:
            os.killpg(process.pid, signal.SIGINT)

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self.began:6.0f} s  {text}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("which", choices=("fast", "usual", "everything"))
    parser.add_argument("logs", type=Path)
    given = parser.parse_args()
    given.logs.mkdir(parents=True, exist_ok=True)
    run = Run(given.logs)
    stages = {"fast": fast, "usual": usual, "everything": everything}[given.which]()
    asyncio.run(run.all(stages))
    for name, seconds in run.seconds.items():
        print(f"  {seconds:6.0f} s  {name}{'  FAILED' if name in run.failed else ''}")
    print(f"  {time.monotonic() - run.began:6.0f} s  altogether; whole outputs: {given.logs}")
    return 1 if run.failed or len(run.seconds) < len(stages) else 0


if __name__ == "__main__":
    sys.exit(main())
