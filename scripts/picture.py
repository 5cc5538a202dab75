"""Draws docs/terminal.svg: `devloop watch` in a real terminal (tmux), while one file is edited twice.

usage: scripts/demo, then .venv/bin/python scripts/picture.py

Takes the cluster and the copy of the sample that scripts/demo has made, in the place of the demo's own watch;
scripts/demo starts that again.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / ".demo"
PICTURE = ROOT / "docs" / "terminal.svg"
WIDTH, HEIGHT = 152, 19
TMUX = ("tmux", "-L", f"devloop-picture-{os.getpid()}")
PATIENCE_S = 180.0


def wait(what: str, done: Callable[[], Any]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not done():
        if time.monotonic() > end:
            sys.exit(f"error: {what}: not within {PATIENCE_S:.0f} s")
        time.sleep(0.1)


def services(port: str) -> dict[str, Any]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/status", timeout=2) as answer:
            found: dict[str, Any] = json.loads(answer.read())["services"]
            return found
    except (urllib.error.URLError, ConnectionError, TimeoutError, ValueError):
        return {}


def trips(port: str, service: str) -> int:
    return len((services(port).get(service) or {}).get("trips") or ())


def edit(port: str, service: str, file: Path, pattern: str, text: str) -> None:
    """Save, and wait until another image is live."""

    def image() -> str:
        now = services(port).get(service) or {}
        return str(now["image"]) if now.get("live") else ""

    before = image()
    file.write_text(re.sub(pattern, text, file.read_text()))
    wait(f"the edit of {file.name}", lambda: image() not in ("", before))


def finished() -> bool:
    """The screen shows the end of the last save."""
    after = tmux("capture-pane", "-p").rpartition("saved:")[2]
    return "live in" in after.partition("●")[0]


def tmux(*words: str) -> str:
    return subprocess.run((*TMUX, *words), check=True, capture_output=True, text=True).stdout


def end_watch() -> None:
    """The demo's own, in the background: a project has one watch."""
    file = DEMO / "watch.pid"
    if not file.exists():
        return
    pid = int(file.read_text())
    command = Path(f"/proc/{pid}/cmdline")
    if command.exists() and b"watch" in command.read_bytes():
        os.kill(pid, signal.SIGINT)
        wait("the end of the demo's watch", lambda: not command.exists() or not command.read_bytes())
    file.unlink()


def drawn(screen: str) -> str:
    console = Console(record=True, width=WIDTH, file=StringIO(), force_terminal=True)
    for line in screen.rstrip().splitlines():
        console.print(Text.from_ansi(line), no_wrap=True, crop=True)
    picture = console.export_svg(title="devloop watch", unique_id="devloop")
    return re.sub(
        r"\s*@font-face \{.*?\}", "", picture, flags=re.S
    )  # a font of some server: the reader's will do


def main() -> None:
    if not (DEMO / "config.yaml").exists():
        sys.exit("error: no demo is here; run scripts/demo first")
    port = (DEMO / ".metrics-port").read_text().strip()
    end_watch()
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    os.environ["KUBECONFIG"] = str(state / "devloop" / "sandbox" / "demo" / "kubeconfig")
    command = f"{ROOT}/.venv/bin/devloop -c {DEMO}/config.yaml watch"
    tmux("-f", "/dev/null", "new-session", "-d", "-x", str(WIDTH), "-y", str(HEIGHT), command)
    try:
        wait("both services", lambda: trips(port, "backend") and trips(port, "frontend"))
        file, stamp = DEMO / "backend/src/greeting.py", time.strftime("%H:%M:%S")
        for number in (1, 2):
            edit(port, "backend", file, 'GREETING = ".*"', f'GREETING = "Edit {number}, {stamp}"')
        wait("the line of the last edit", finished)
        PICTURE.write_text(drawn(tmux("capture-pane", "-e", "-p")))
        tmux("send-keys", "C-c")
        wait(
            "the end of watch", lambda: subprocess.run((*TMUX, "has-session"), capture_output=True).returncode
        )
    finally:
        subprocess.run((*TMUX, "kill-server"), check=False, capture_output=True)


if __name__ == "__main__":
    main()
