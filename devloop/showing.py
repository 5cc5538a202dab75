"""What people see of a command: the sink for this kind of output, and what none may show (S30)."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextlib import ExitStack
from typing import Any, TextIO, cast

from devloop.config import Config
from devloop.sinks.concealing import Conceal, Concealer, concealer, known_release_values, known_values
from devloop.stopwatch import Clock
from devloop.wiring import Fan, chosen

TEXTS_LOST = "... {} lines were not shown: nobody read them\n"
Companion = Callable[[], Coroutine[Any, Any, None]]


def names_of(config: Config, names: Sequence[str]) -> tuple[str, ...]:
    """Of the services that the command line chose, all without one."""
    return tuple(service.name for service in chosen(config, names))


def concealer_of(config: Config, names: Sequence[str]) -> Concealer:
    """What hides the values of build arguments, secrets and releases (S30)."""
    return concealer(known(config, names))


def known(config: Config, names: Sequence[str]) -> dict[str, str]:
    """What no sink may show (S30)."""
    released = known_release_values(config.releases(), os.environ)
    return {**released, **known_values(chosen(config, names), os.environ)}


def show(
    stack: ExitStack,
    fan: Fan,
    config: Config,
    names: Sequence[str],
    clock: Clock,
    conceal: Conceal,
    *,
    log_format: str,
    machine: bool,
    logs: bool,
) -> list[Companion]:
    """The sink that people read: living lines on a terminal, else plain or JSON lines."""
    from devloop.sinks.line_writer import LineWriter

    lost = '{{"event": "lines_dropped", "count": {}}}\n' if log_format == "json" else TEXTS_LOST
    stream = cast("TextIO", writer := LineWriter(sys.stderr if machine else sys.stdout, lost))
    stack.callback(writer.drain)
    if log_format == "json":
        from devloop.sinks.plain import JsonLines

        fan.sinks.append(JsonLines(stream, clock, conceal, logs=logs))
        return []
    if stream.isatty():
        from devloop.sinks.console import Terminal

        terminal = Terminal(names_of(config, names), config.root, clock, conceal, logs=logs, stream=stream)
        stack.enter_context(terminal)
        fan.sinks.append(terminal)
        return [terminal.run]
    from devloop.sinks.plain import Plain

    fan.sinks.append(Plain(stream, config.root, conceal, logs=logs))
    return []
