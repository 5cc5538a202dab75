"""Hooks as real commands: their lines, how they end, and what is left of them."""

from __future__ import annotations

import os
from pathlib import Path

import anyio
import pytest

from devloop.adapters.hooks import HookCommands
from devloop.errors import HookError
from devloop.model import Hook

pytestmark = pytest.mark.anyio
PATH = {"PATH": os.environ["PATH"]}


def shell(text: str, folder: Path, *, timeout: float = 60.0) -> Hook:
    return Hook(("/bin/sh", "-c", text), timeout, folder)


async def ended(hook: Hook, **variables: str) -> list[str]:
    lines: list[str] = []
    with anyio.fail_after(20):
        await HookCommands(PATH).run("before_build", hook, variables, lines.append)
    return lines


def lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


async def until_gone(file: Path) -> None:
    with anyio.fail_after(20):
        while lives(int(file.read_text())):
            await anyio.sleep(0.01)


async def test_it_runs_in_the_folder_of_config_yaml_and_every_line_is_shown(tmp_path: Path) -> None:
    hook = shell("pwd; echo $DEVLOOP_SERVICE; echo wrong >&2", tmp_path)
    assert sorted(await ended(hook, DEVLOOP_SERVICE="web")) == sorted([str(tmp_path), "web", "wrong"])


async def test_a_list_is_a_program_with_its_arguments_and_no_shell(tmp_path: Path) -> None:
    assert await ended(Hook(("echo", "$HOME", "a b"), 60.0, tmp_path)) == ["$HOME a b"]


async def test_a_failure_has_its_code_its_last_lines_and_its_cause(tmp_path: Path) -> None:
    (tmp_path / "generate.py").write_text("def broken(:\n")
    with pytest.raises(HookError) as caught:
        await ended(shell("echo begins; python3 generate.py", tmp_path))
    error = caught.value
    assert (error.reason, error.exit_code) == ("HookFailed", 1)
    assert error.message == "before_build: exit code 1: echo begins; python3 generate.py"
    assert error.cause.startswith("SyntaxError: ")
    assert "generate.py, line 1" in error.cause
    assert "begins" in error.evidence


async def test_a_command_that_is_not_there_is_the_hooks_failure_and_no_outage(tmp_path: Path) -> None:
    with pytest.raises(HookError, match="before_build: no-such-generator") as caught:
        await ended(Hook(("no-such-generator",), 60.0, tmp_path))
    assert caught.value.reason == "NoSuchCommand"


async def test_at_its_time_limit_it_ends_with_its_children(tmp_path: Path) -> None:
    hook = shell("sleep 1000 & echo $! > child; echo waiting; wait", tmp_path, timeout=0.5)
    with pytest.raises(HookError, match=r"it took longer than 0\.5 s") as caught:
        await ended(hook)
    assert caught.value.reason == "HookTimeout"
    assert caught.value.evidence == ("waiting",)
    await until_gone(tmp_path / "child")


async def test_when_it_is_cancelled_it_ends_with_its_children(tmp_path: Path) -> None:
    hook = shell("sleep 1000 & echo $! > child; echo waiting; wait", tmp_path)
    waits = anyio.Event()

    async def run() -> None:
        await HookCommands(PATH).run("after_live", hook, {}, lambda _: waits.set())

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(run)
            await waits.wait()
            group.cancel_scope.cancel()
    await until_gone(tmp_path / "child")


async def test_what_it_left_behind_is_not_waited_for_and_ends_with_it(tmp_path: Path) -> None:
    """A child that holds its output open."""
    assert await ended(shell("sleep 1000 & echo $! > child; echo done", tmp_path)) == ["done"]
    await until_gone(tmp_path / "child")
