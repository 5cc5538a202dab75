"""`devloop wait`: what the cluster makes of the tree as it is now, by the running watch or judged once."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import anyio
import click

from devloop.commands.frame import Project, run
from devloop.commands.output import dumped
from devloop.control.client import RunningWatch, watches_of
from devloop.control.protocol import Json
from devloop.errors import PlatformError

ELSEWHERE, TIMED_OUT = 1, 4  # exit codes, beside 0 and 3
Show = Callable[[Json], None]


def wait(project: Project, names: Sequence[str], *, goal: str, seconds: float, output: str) -> int:
    """Return when it is decided, at the latest in so many seconds; the exit code."""

    def show(decision: Json) -> None:
        if not output:
            _print(decision)

    answer = run(partial(ask, project, names, goal, seconds, show))
    if answer is None:
        from devloop.commands.wait_once import judged

        answer = judged(project, names, goal, show)
    if output:
        click.echo(dumped(answer, output))
    for about, problem in {} if output else answer["problems"].items():
        click.echo(f"{about}: {problem}", file=sys.stderr)
    return 0 if answer["reached"] else TIMED_OUT if answer["timed_out"] else ELSEWHERE


async def ask(project: Project, names: Sequence[str], goal: str, seconds: float, show: Show) -> Json | None:
    """The answer of the running watches, None without one; each decision goes to `show` too."""
    try:
        shares = await watches_of(project.config, names)
    except PlatformError as error:
        if error.reason == "NoWatch":
            return None
        raise
    return _together(await _answers(shares, goal, seconds, show), goal)


async def _answers(
    shares: Mapping[RunningWatch, tuple[str, ...]], goal: str, seconds: float, show: Show
) -> list[Json]:
    """Of each watch, side by side."""
    answers: list[Json] = []

    async def one(watch: RunningWatch, names: tuple[str, ...]) -> None:
        answers.append(await watch.ask("wait", show, services=list(names), timeout=seconds, **{"for": goal}))

    try:
        async with anyio.create_task_group() as group:
            for watch, names in shares.items():
                group.start_soon(one, watch, names)
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return answers


def _together(answers: Sequence[Json], goal: str) -> Json:
    """One answer of those of several watches."""
    services: dict[str, Any] = {}
    problems: dict[str, str] = {}
    for answer in answers:
        services |= answer["services"]
        problems |= answer["problems"]
    reached = all(answer["reached"] for answer in answers)
    elsewhere = any(not (answer["reached"] or answer["timed_out"]) for answer in answers)
    return {
        "for": goal,
        "reached": reached,
        "timed_out": not (reached or elsewhere),
        "services": services,
        "problems": problems,
    }


def _print(decision: Json) -> None:
    """One service: a line, and below it why it failed."""
    name, state, stage = decision["service"], decision["state"], decision["stage"]
    took = f" in {decision['seconds']:.2f} s" if decision["seconds"] is not None else ""
    files = ", ".join(decision["paths"][:3])
    about = [text for text in (decision["image"], files, decision["url"]) if text]
    if state == "undecided":
        click.echo(f"{name}: not decided in time, {decision['now']}")
    elif stage:
        click.echo(f"{name}: {state} in {stage}: {decision['cause']}")
        for line in decision["log"]:
            click.echo(f"{name} | {line}")
        if decision["hint"]:
            click.echo(f"{name} -> {decision['hint']}")
    else:
        click.echo("  ".join((f"{name}: {state}{took}", *about)))
