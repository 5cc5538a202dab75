"""What many services cost: time to bring all of them to the cluster, and the memory that `watch` holds then.

    python bench/scale.py [--services 200] [--files 1000] [--edits 10]

Each service is a folder of small files and a Dockerfile of one COPY, without `deploy`: built and loaded. On a
sandbox of its own, in one run:

    builds alone   `docker build --no-cache` of each service, as many side by side as devloop starts
    cold           `devloop watch` with neither images nor state: from its start until all are loaded
    one edit       a file of one service, then of another: from the save to the verified image, median
    warm           the same again, with the images and the state of the first

`MB` is the resident memory of `watch` five seconds after that, `peak` the most that it ever held. Wanted:
<= 250 MB after either start, warm <= 10 s, cold <= 1.2 x the builds alone.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.support.sample_project import DEVLOOP, TINY, Sandbox, free_port, until

SETTLED = 5.0  # seconds after the last service is live: what is written late is written by then
IN_A_FOLDER = 50


def plant(home: Path, services: int, files: int, sandbox: Sandbox, port: int) -> list[Path]:
    """The folders of the services, and a config.yaml beside them."""
    lines = [
        "version: 1",
        f"cluster: {{context: {sandbox.context}}}",
        f'metrics: {{listen: "127.0.0.1:{port}", strict: true}}',
        "services:",
    ]
    folders = []
    for number in range(services):
        folder = home / f"s{number:03}"
        for file in range(files):
            path = folder / f"p{file // IN_A_FOLDER:03}" / f"module_{file:04}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"# {number} {file}\n" * 20)
        (folder / "Dockerfile").write_text(f"FROM {TINY}\nCOPY . /app\n")
        lines.append(
            f"  s{number:03}: {{image: devloop-scale-{number:03}, build: {{context: s{number:03}}}}}"
        )
        folders.append(folder)
    (home / "config.yaml").write_text("\n".join(lines) + "\n")
    return folders


def builds_alone(folders: list[Path]) -> float:
    """Seconds for all of them, as many side by side as devloop runs."""

    def build(folder: Path) -> None:
        command = ("docker", "build", "-q", "--no-cache", "-t", f"devloop-scale-alone:{folder.name}", ".")
        environ = {**os.environ, "DOCKER_BUILDKIT": "1"}
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, env=environ)

    began = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(max(1, (os.cpu_count() or 2) // 2)) as pool:
        list(pool.map(build, folders))
    return time.perf_counter() - began


def watch(home: Path, sandbox: Sandbox, port: int, what: str, edits: list[Path]) -> float:
    """Seconds until all services are live; prints the row."""
    environ = {**sandbox.environ, "KUBECONFIG": str(sandbox.kubeconfig)}
    with (home / f"{what}.log").open("w") as log:
        began = time.perf_counter()
        process = subprocess.Popen(
            (*DEVLOOP, "-c", str(home / "config.yaml"), "watch"), stdout=log, stderr=log, env=environ
        )
        try:
            until("all live", lambda: all_live(process, port), 3600)
            took = time.perf_counter() - began
            time.sleep(SETTLED)
            memory = psutil.Process(process.pid).memory_info().rss / 1e6
            print(
                f"{what:14} {took:8.1f} s   {memory:6.0f} MB   peak {peak(process.pid):6.0f} MB", flush=True
            )
            if edits:
                seconds = [edit(path, port) for path in edits]
                print(f"{'one edit':14} {statistics.median(seconds) * 1000:8.0f} ms", flush=True)
            return took
        finally:
            process.terminate()
            process.wait(60)


def services_of(port: int) -> dict[str, Any]:
    """services of /api/status, {} while it does not answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/status", timeout=10) as answer:
            body = answer.read()
            if not body.startswith(b"{"):
                print("BODY", body[:200], answer.status, answer.headers)
    except (urllib.error.URLError, OSError):
        return {}
    return dict(json.loads(body)["services"])


def all_live(process: subprocess.Popen[bytes], port: int) -> bool:
    if process.poll() is not None:
        raise RuntimeError(f"devloop watch ended with {process.returncode}")
    found = services_of(port)
    return bool(found) and all(one["state"] == "live" for one in found.values())


def edit(path: Path, port: int) -> float:
    """Seconds of the trip, as devloop reports them."""
    name = path.parents[1].name
    trips = len(services_of(port)[name]["trips"])
    path.write_text(f"# {time.time()}\n")
    ended = until(
        "the edit",
        lambda: (now := services_of(port)[name]["trips"])[trips:] and now[-1].get("outcome") and now[-1],
    )
    return float(ended["seconds"]["trip"])


def peak(pid: int) -> float:
    """MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1000
    return 0.0


def remove_images() -> None:
    for pattern in ("devloop-scale-alone", "devloop-scale-*"):
        found = subprocess.run(
            ("docker", "images", "-q", pattern), capture_output=True, text=True, check=True
        ).stdout.split()
        if found:
            subprocess.run(("docker", "rmi", "-f", *set(found)), stdout=subprocess.DEVNULL, check=False)


def run(services: int, files: int, edits: int) -> None:
    home = Path(tempfile.mkdtemp(prefix="devloop-scale-"))
    state = home / "state"
    state.mkdir()
    sandbox = Sandbox(f"scale-{os.getpid()}", state)
    sandbox.up()
    port = free_port()
    try:
        folders = plant(home, services, files, sandbox, port)
        print(f"{services} services of {files} files each   load {os.getloadavg()[0]:.1f}", flush=True)
        alone = builds_alone(folders)
        print(f"{'builds alone':14} {alone:8.1f} s", flush=True)
        edited = [folders[number % services] / "p000" / "module_0001.py" for number in range(edits)]
        cold = watch(home, sandbox, port, "cold", edited)
        print(f"{'':14} {cold / alone:8.2f} x the builds alone", flush=True)
        watch(home, sandbox, port, "warm", [])
    finally:
        sandbox.down()
        remove_images()
        shutil.rmtree(home, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--services", type=int, default=200)
    parser.add_argument("--files", type=int, default=1000, help="of each service")
    parser.add_argument("--edits", type=int, default=10)
    given = parser.parse_args()
    run(given.services, given.files, given.edits)


if __name__ == "__main__":
    main()
