"""What people see of a command: the sink for this kind of output, and what none may show (S30)."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO, cast

import yaml

from devloop.clock import Clock
from devloop.config.load import Config, together
from devloop.secrets.redaction import Secrets
from devloop.secrets.sources import Sources
from devloop.signals import READER_GONE, end_without_reader
from devloop.sinks.fan import Fan
from devloop.sinks.line_writer import LineWriter

if TYPE_CHECKING:
    from devloop.sinks.console import Terminal

TEXTS_LOST = "... {} lines were not shown: nobody read them\n"
Companion = Callable[[], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Shown:
    """What `show` set up: what is to run beside the work, and the terminal where there is one."""

    companions: Sequence[Companion] = ()
    terminal: Terminal | None = None


def names_of(config: Config, names: Sequence[str]) -> tuple[str, ...]:
    """Of the services that the command line chose and those that come with them."""
    return tuple(service.name for service in together(config, names))


def secrets_of(config: Config, names: Sequence[str]) -> Secrets:
    """What hides the values of secrets, whoever tells them (S30)."""
    return Secrets(sources_of(config, names))


def sources_of(config: Config, names: Sequence[str]) -> Sources:
    """Where the secrets of the services that run and of all releases come from."""
    services, listed = together(config, names), frozenset(config.secrets)
    return Sources(services, config.releases(), dict(os.environ), listed, config.root)


def show(
    stack: ExitStack,
    fan: Fan,
    config: Config,
    names: Sequence[str],
    clock: Clock,
    *,
    log_format: str,
    machine: bool,
    logs: bool,
    endless: bool = False,
    living: bool = True,
) -> Shown:
    """The sink that people read: living lines on a terminal (`living`), else plain or JSON lines.

    A command that is `endless` ends when nobody reads its pipe any more, as by SIGPIPE; others do their work.
    """
    lost = '{{"event": "lines_dropped", "count": {}}}\n' if log_format == "json" else TEXTS_LOST
    ends = end_without_reader if endless else _go_on
    writer = LineWriter(sys.stderr if machine else sys.stdout, lost, ends)
    stack.enter_context(_drained(writer, endless=endless))
    stream = cast("TextIO", writer)
    if log_format == "json":
        from devloop.sinks.plain import JsonLines

        fan.sinks.append(JsonLines(stream, clock, logs=logs))
        return Shown()
    if living and stream.isatty():
        from devloop.sinks.console import Terminal

        terminal = Terminal(names_of(config, names), config.root, clock, logs=logs, stream=stream)
        stack.enter_context(terminal)
        fan.sinks.append(terminal)
        return Shown([terminal.run], terminal)
    from devloop.sinks.plain import Plain

    fan.sinks.append(Plain(stream, config.root, logs=logs))
    return Shown()


def dumped(value: object, output: str) -> str:
    """One object as `-o` names it: json or yaml."""
    text = json.dumps(value, indent=2)
    if output == "json":
        return text
    return yaml.safe_dump(json.loads(text), sort_keys=False, allow_unicode=True).rstrip("\n")


def concealed(value: object, hide: Callable[[str], str]) -> object:
    """An object to be dumped, each of its texts through `hide`: dumped, some would look different (S30)."""
    if isinstance(value, str):
        return hide(value)
    if isinstance(value, Mapping):
        return {key: concealed(item, hide) for key, item in value.items()}
    return [concealed(item, hide) for item in value] if isinstance(value, list | tuple) else value


@contextmanager
def _drained(writer: LineWriter, *, endless: bool) -> Iterator[None]:
    try:
        yield
    except SystemExit as end:
        if endless and writer.reader_gone:
            raise SystemExit(READER_GONE) from end
        raise
    finally:
        writer.drain()


def _go_on() -> None:
    """Nothing depends on a reader."""
