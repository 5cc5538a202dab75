"""The edit of scripts/demo: changes the greeting, waits until the cluster serves it, prints the timings.

usage: show_edit.py GREETING_FILE VERSION_URL DEVLOOP_URL
"""

from __future__ import annotations

import datetime
import json
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

PATIENCE_S = 60
EXCERPT = re.compile(
    r'^devloop_(stage_duration_seconds_sum|trip_duration_seconds_(sum|count)|builds_total|live)\{.*service="backend"'
)


def fetch(url: str) -> str:
    """The body, or "" while nothing answers."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return str(answer.read().decode())
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return ""


def live_trips(metrics: str) -> float:
    found = re.findall(r"^devloop_trips_total\{([^}]*)\} (\S+)$", metrics, re.MULTILINE)
    return sum(
        float(value)
        for labels, value in found
        if 'service="backend"' in labels and 'outcome="live"' in labels
    )


def settled(metrics: str) -> bool:
    """Whether every service was found to run the tree, so that the edit's trip is the only one."""
    states = re.findall(r"^devloop_live\{[^}]*\} (\S+)$", metrics, re.MULTILINE)
    return bool(states) and all(float(state) == 1 for state in states)


def wait(what: str, began: float, done: Callable[[], bool]) -> float:
    """Seconds from `began` until `done()` is true."""
    while not done():
        if time.monotonic() - began > PATIENCE_S:
            sys.exit(f"error: {what}: not within {PATIENCE_S} s")
        time.sleep(0.02)
    return time.monotonic() - began


def main(file: Path, version_url: str, devloop_url: str) -> None:
    wait("the services' start", time.monotonic(), lambda: settled(fetch(f"{devloop_url}/metrics")))
    before = json.loads(fetch(version_url) or "{}").get("greeting")
    trips = live_trips(fetch(f"{devloop_url}/metrics"))
    greeting = f"Hello, edited at {datetime.datetime.now().astimezone():%H:%M:%S.%f}"[:-3]
    text = re.sub(r'GREETING = ".*"', f'GREETING = "{greeting}"', file.read_text())

    began = time.monotonic()
    file.write_text(text)
    serving = wait(
        "the new greeting", began, lambda: json.loads(fetch(version_url) or "{}").get("greeting") == greeting
    )
    complete = wait("the trip's end", began, lambda: live_trips(fetch(f"{devloop_url}/metrics")) > trips)

    say(f"  before   {before}")
    say(f"  now      {greeting}")
    say(f"  {serving:.2f} s from the save to the new code over HTTP")
    say(f"  {complete:.2f} s to the end of the rollout")
    say("  from /metrics:")
    for line in fetch(f"{devloop_url}/metrics").splitlines():
        if EXCERPT.match(line):
            say(f"    {line}")


def say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
