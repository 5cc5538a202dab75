"""Hooks of config.yaml: the user's own commands, run to their end or to their time limit."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import anyio

from devloop.adapters.process import Running
from devloop.causes.find import excerpt, find_cause
from devloop.errors import HookError, PlatformError
from devloop.model import Hook

MOST_LINES = 2000  # of the output, kept for the error


class HookCommands:
    """Runs them in the environment of devloop itself."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)

    async def run(
        self, name: str, hook: Hook, variables: Mapping[str, str], on_line: Callable[[str], None]
    ) -> None:
        """To its end; `on_line` gets each line that it prints. Its children end with it.

        Raises HookError: there is no such command, it ended with another code than 0, or took too long.
        """
        printed: list[str] = []

        def take(line: str) -> None:
            printed.append(line)
            del printed[:-MOST_LINES]
            on_line(line)

        environment = {**self._environment, **variables}
        code: int | None = None
        try:
            with anyio.move_on_after(hook.timeout):
                running = await Running.start(hook.command, environment, cwd=str(hook.folder))
                code = (await running.finish(on_line=take, on_out=take, alone=True)).code
        except PlatformError as error:
            raise HookError(f"{name}: {error.message}", reason="NoSuchCommand", hint=error.hint) from error
        if code is None:
            what = f"{name}: it took longer than {hook.timeout:g} s, and was ended"
            hint = f"hooks.{name}.timeout in config.yaml is its limit"
            raise HookError(what, reason="HookTimeout", evidence=tuple(printed[-20:]), hint=hint)
        if code != 0:
            cause = find_cause(printed)
            raise HookError(
                f"{name}: {_how(code)}: {_shown(hook.command)}",
                reason="HookFailed",
                evidence=excerpt(printed, cause),
                cause=str(cause) if cause else "",
            )


def _how(code: int) -> str:
    return f"exit code {code}" if code > 0 else f"ended by signal {-code}"


def _shown(command: tuple[str, ...]) -> str:
    text = " ".join(command[2:] if command[:2] == ("/bin/sh", "-c") else command)
    return text.partition("\n")[0]
