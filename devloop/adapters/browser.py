"""The user's browser, where there is one."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from subprocess import DEVNULL

import anyio

OPEN_SECONDS = 10.0


async def open_url(url: str, environment: Mapping[str, str]) -> bool:
    """Open a URL as the desktop does; False where there is no desktop (over ssh), or it says no.

    Never in a browser that would take the terminal.
    """
    command = _command(environment)
    if command is None:
        return False
    try:
        with anyio.fail_after(OPEN_SECONDS):
            done = await anyio.run_process(
                [command, url],
                stdin=DEVNULL,
                stdout=DEVNULL,
                stderr=DEVNULL,
                check=False,
                start_new_session=True,
            )
    except OSError:
        return False
    except TimeoutError:
        return True  # some commands stay for as long as the browser is open
    return done.returncode == 0


def _command(environment: Mapping[str, str]) -> str | None:
    path = environment.get("PATH")
    if sys.platform == "darwin":
        return shutil.which("open", path=path)
    for name in ("wslview",) if "WSL_DISTRO_NAME" in environment else ():
        if found := shutil.which(name, path=path):
            return found
    if "DISPLAY" in environment or "WAYLAND_DISPLAY" in environment:
        return shutil.which("xdg-open", path=path)
    return None
