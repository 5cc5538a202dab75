"""The background process from outside: start it, wait until it serves, end it and what it left."""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from devloop_sandbox import pki
from devloop_sandbox.options import Options

_START = 60.0  # seconds until the node must have registered
_CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_NET_BIND_SERVICE": 10}
_STOP = 20.0  # seconds until a process that ignores SIGTERM is killed


class DaemonError(Exception):
    """What was tried and what came back; `hint` says what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Status:
    running: bool
    pid: int | None
    server: str
    context: str
    kubeconfig: str

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def status(state: Path) -> Status:
    process = _process(state)
    port = _read(state / "port")
    return Status(
        running=process is not None,
        pid=process.pid if process else None,
        server=f"https://127.0.0.1:{port}" if port else "",
        context=pki.context_name(state.name),
        kubeconfig=str(state / "kubeconfig"),
    )


def start(options: Options) -> bool:
    """Bring the process up and wait until its node is there; False if it was up already."""
    state = options.state_dir
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    state.chmod(0o700)
    with _locked(state):
        if _process(state) is not None:
            return False
        _check_rights()
        _ping_engine(options.engine)
        pki.write_private(state / "options.json", options.dump().encode())
        with (state / "log").open("ab") as log:
            (state / "log").chmod(0o600)
            child = subprocess.Popen(
                [sys.executable, "-m", "devloop_sandbox.server", str(state)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
            )
        _wait_until_ready(child, state)
        return True


def stop(state: Path) -> list[str] | None:
    """End the process and remove its containers, networks and state: what the engine would not let go of.

    None if there was nothing."""
    if not state.exists():
        return None
    with _locked(state):
        process = _process(state)
        if process is not None:
            process.terminate()
            try:
                process.wait(_STOP)
            except psutil.TimeoutExpired:
                process.kill()
                process.wait(_STOP)
        text = _read(state / "options.json")
        left = _clean(Options.load(text)) if text else []
        shutil.rmtree(state)
        return left


def record_process(state: Path) -> None:
    """Called by the process itself: its pid with its start time, so that no other is ever ended."""
    me = psutil.Process()
    identity = {"pid": me.pid, "started": me.create_time()}
    pki.write_private(state / "pid", json.dumps(identity).encode())


def _process(state: Path) -> psutil.Process | None:
    try:
        known = json.loads(_read(state / "pid") or "{}")
        process = psutil.Process(known["pid"])
        alive = process.status() != psutil.STATUS_ZOMBIE
        return process if alive and abs(process.create_time() - known["started"]) < 0.1 else None
    except (KeyError, ValueError, psutil.NoSuchProcess):
        return None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


@contextmanager
def _locked(state: Path) -> Iterator[None]:
    """One `up` or `down` at a time."""
    handle = os.open(state, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _check_rights() -> None:
    """Addresses on `lo` and port 53 of the pods' bridge are root's; better reported now than in a log."""
    (mask,) = re.findall(r"^CapEff:\s*(\w+)", Path("/proc/self/status").read_text(), re.MULTILINE)
    missing = [name for name, bit in _CAPABILITIES.items() if not int(mask, 16) >> bit & 1]
    if missing:
        raise DaemonError(
            f"the sandbox puts Services on addresses of this machine, which needs {' and '.join(missing)}",
            "run `devloop sandbox up` as root (sudo -E); devloop itself needs no such rights",
        )


def _ping_engine(url: str) -> None:
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            line.settimeout(5)
            line.connect(urlsplit(url).path)
            line.sendall(b"GET /_ping HTTP/1.0\r\nHost: engine\r\n\r\n")
            answer = line.recv(64)
    except OSError as error:
        raise DaemonError(
            f"no engine answers at {url}: {error}",
            "is Docker running? `docker info` must work; or name another with --engine or DOCKER_HOST",
        ) from error
    if b" 200 " not in answer:
        raise DaemonError(f"{url} is no Docker engine: {answer[:40]!r}", "name the engine with --engine")


def _wait_until_ready(child: subprocess.Popen[bytes], state: Path) -> None:
    deadline = time.monotonic() + _START
    while not _answers(state):
        if child.poll() is not None:
            raise DaemonError(
                f"the sandbox ended at once, exit {child.returncode}:\n{_tail(state)}",
                f"the whole log is {state / 'log'}",
            )
        if time.monotonic() > deadline:
            os.killpg(child.pid, signal.SIGTERM)
            raise DaemonError(
                f"the sandbox was not ready within {_START:.0f} s:\n{_tail(state)}",
                f"the whole log is {state / 'log'}",
            )
        time.sleep(0.02)


def _tail(state: Path) -> str:
    """The error that ended the process, or the last lines of its log."""
    lines = _read(state / "log").splitlines()[-8:]
    named = [at for at, line in enumerate(lines) if " ERROR " in line]
    return "\n".join(lines[named[-1] :] if named else lines)


def _answers(state: Path) -> bool:
    """Whether the process that wrote the kubeconfig says on /readyz that it is ready."""
    if _process(state) is None or not _read(state / "port") or not (state / "ca.crt").exists():
        return False
    context = ssl.create_default_context(cafile=state / "ca.crt")
    line = http.client.HTTPSConnection("127.0.0.1", int(_read(state / "port")), context=context, timeout=5)
    try:
        line.request("GET", "/readyz")
        return line.getresponse().status == 200
    except OSError:
        return False
    finally:
        line.close()


def _clean(options: Options) -> list[str]:
    from devloop_sandbox import cleanup  # the engine's client takes a while to load
    from devloop_sandbox.engine.client import EngineError

    try:
        return cleanup.clean(options)
    except (OSError, EngineError) as error:
        raise DaemonError(
            f"what the sandbox left on {options.engine} could not be removed: {error}",
            "see to the engine and run `devloop sandbox down` again",
        ) from error
