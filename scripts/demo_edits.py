"""The measured part of scripts/demo.

usage: demo_edits.py wait   DEVLOOP_URL PARENTS_FOLDER PID
       demo_edits.py edits  DEVLOOP_URL KUBECONFIG FOLDER [BASE]

`wait` returns when both services are live and the next edit can be a delta. `edits` makes five edits, each
under `devloop watch` and by hand (`docker build`, `docker save | docker load`, a new image in the
Deployment), and prints the seconds from the save until the new text is served.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from by_hand import Cluster, Hand, fetch, save, wait

EDITS = 5
TERMINAL = sys.stderr.isatty()
CLEAR = "\r\x1b[K" if TERMINAL else ""


def say(line: str = "") -> None:
    sys.stderr.write(f"{CLEAR}{line}\n")
    sys.stderr.flush()


@contextmanager
def progress(what: str) -> Iterator[None]:
    """On a terminal a line with the elapsed time, until the work is done."""
    over, began = threading.Event(), time.monotonic()

    def show() -> None:
        while not over.wait(0.25):
            width = os.get_terminal_size(sys.stderr.fileno()).columns or 80
            line = f"  {what} {time.monotonic() - began:.0f} s"
            sys.stderr.write(CLEAR + line[: width - 1])  # a line that wraps could not be drawn over
            sys.stderr.flush()

    shower = threading.Thread(target=show, daemon=True)
    if TERMINAL:
        shower.start()
    try:
        yield
    finally:
        over.set()
        if TERMINAL:
            shower.join()
            sys.stderr.write(CLEAR)
            sys.stderr.flush()


def rounded(seconds: float) -> str:
    """As a person would say it: "0.31 s", "4.2 s"."""
    return f"{seconds:.2f} s" if seconds < 0.995 else f"{seconds:.1f} s"


@dataclass(frozen=True)
class Devloop:
    """The service `backend` under a running `devloop watch`."""

    url: str
    cluster: Cluster
    folder: Path

    def edit(self, text: str) -> tuple[float, dict[str, Any]]:
        """Seconds from the save until the text is served, and the trip's record."""
        address = self.cluster.address("todo-backend")
        trips = last_trip(self.url)["trip"]
        began = save(self.folder, text)
        serving = wait("the edit", lambda: (fetch(address) or {}).get("greeting") == text, began)
        wait("the end of the rollout", lambda: last_trip(self.url)["trip"] > trips, began)
        return serving, last_trip(self.url)


def last_trip(url: str) -> dict[str, Any]:
    services = (fetch(f"{url}/api/status") or {}).get("services") or {}
    trips: list[dict[str, Any]] = services.get("backend", {}).get("trips") or [{"trip": 0}]
    return trips[-1]


def ready(url: str, parents: Path, pid: int) -> bool:
    """Both services are live, and the layers of the backend's image are written down."""
    if not Path(f"/proc/{pid}").exists():
        sys.exit("error: devloop watch has ended")
    services = (fetch(f"{url}/api/status") or {}).get("services") or {}
    if failed := [name for name, one in services.items() if one["state"] == "failed"]:
        sys.exit(f"error: {', '.join(failed)} failed")
    live = len(services) == 2 and all(one["live"] for one in services.values())
    return live and any(parents.glob("of-backend/*.json"))


def edits(devloop: Devloop, hand: Hand, manifest: Path) -> None:
    stamp = time.strftime("%H:%M:%S")
    with progress("by hand: the first image and its Deployment"):
        hand.start(manifest, f"By hand, {stamp}")
    by_devloop: list[float] = []
    by_hand: list[dict[str, float]] = []
    say("  edit    devloop             by hand    build   load    roll")
    for number in range(1, EDITS + 1):
        text = f"Edit {number}, {stamp}"
        with progress(f"{number:<7} devloop ..."):
            serving, trip = devloop.edit(text)
        with progress(f"{number:<7} {rounded(serving):<7} by hand ..."):
            found = hand.edit(number, text)
        by_devloop.append(serving)
        by_hand.append(found)
        how = {"delta": "delta", "continued": "partial build"}.get(trip.get("built", ""), "full build")
        say(row(str(number), serving, how, found))
    medians = {key: statistics.median(one[key] for one in by_hand) for key in by_hand[0]}
    say(row("median", statistics.median(by_devloop), "", medians))
    say()
    explain(trip, medians, statistics.median(by_devloop))


def row(name: str, serving: float, how: str, hand: dict[str, float]) -> str:
    parts = "".join(f"{rounded(hand[key]):<8}" for key in ("build", "load", "roll"))
    return f"  {name:<7} {rounded(serving):<7} {how:<11} {rounded(hand['total']):<10} {parts}".rstrip()


def explain(trip: dict[str, Any], hand: dict[str, float], serving: float) -> None:
    """What the table's numbers are made of."""
    seconds = {stage: value or 0.0 for stage, value in trip["seconds"].items()}
    before = rounded(sum(seconds[stage] for stage in ("detect", "fingerprint", "build", "load", "patch")))
    alone = rounded(hand["build"] + hand["roll"])
    lines = [
        f"devloop was {hand['total'] / serving:.1f} times as fast.",
        (
            f"- devloop's own part of the last edit is {before}: until the Deployment names the new image."
            f" {rounded(seconds['load'])} of that is the engine, which takes in one small layer."
        ),
        (
            "- The load by hand is what Minikube and kind need, which have an image store of their own. This"
            f" sandbox runs pods on the engine that builds: without the load, by hand takes {alone}."
        ),
    ]
    started, ready = trip["phases"].get("started"), trip["phases"].get("serving")
    if started is not None and ready is not None:
        lines.append(
            f"- The rest is the rollout, in both columns: {rounded(started)} until the container runs, and"
            f" {rounded(ready - started)} until the process in it is ready (Python imports FastAPI)."
        )
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load > cores:
        lines.append(f"- This machine is busy (a load of {load:.0f} on {cores} cores); alone it is faster.")
    for line in lines:
        for part in textwrap.wrap(line, 78, initial_indent="  ", subsequent_indent="    "):
            say(part)


def main(words: list[str]) -> None:
    if words[0] == "wait":
        url, parents, pid = words[1:]
        wait("the first version of both services", lambda: ready(url, Path(parents), int(pid)))
        return
    url, kubeconfig, folder, *base = words[1:]
    cluster, place = Cluster(Path(kubeconfig)), Path(folder)
    hand = Hand(cluster, place / "by-hand", base[0] if base else "")
    try:
        edits(Devloop(url, cluster, place / "backend"), hand, place / "k8s" / "backend.yaml")
    except subprocess.CalledProcessError as error:
        sys.exit(f"error: {' '.join(error.cmd)}: {error.stderr.strip()}")
    finally:
        with progress("remove what was made by hand"):
            hand.end()


if __name__ == "__main__":
    main(sys.argv[1:])
