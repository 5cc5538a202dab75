"""A real registry (Debian's docker-registry) of the tests' own, on loopback: engines take it without TLS."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType

USER, PASSWORD = "ali", "open-sesame"
_HASHED = "$2y$05$kipUtBw1/CStJYHQpCk8PuBVEIWFxAoInhjs6tZnKNLasF6FQbdOi"
READY_SECONDS = 20


def registry_command(cache: Path) -> str:
    """The registry's program, taken out of its package where it is not installed."""
    found = shutil.which("docker-registry")
    if found:
        return found
    program = cache / "usr" / "bin" / "docker-registry"
    if not program.exists():
        cache.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "download", "docker-registry"], cwd=cache, check=True, capture_output=True)
        (package,) = cache.glob("docker-registry_*.deb")
        subprocess.run(["dpkg", "-x", str(package), str(cache)], check=True)
    return str(program)


class Registry:
    """One registry on a free port. `auth`: it asks for USER and PASSWORD; `tokens`: lines of its config
    that make it ask for a token."""

    def __init__(self, folder: Path, program: str, *, auth: bool = False, tokens: str = "") -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.host = f"127.0.0.1:{free.getsockname()[1]}"
        self._program = program
        self._auth = auth
        self._tokens = tokens
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Registry:
        lines = [
            "version: 0.1",
            "log: {level: info}",
            f"storage: {{filesystem: {{rootdirectory: {self.folder / 'data'}}}, delete: {{enabled: true}}}}",
            f"http: {{addr: '{self.host}'}}",
        ]
        if self._tokens:
            lines.append(self._tokens)
        if self._auth:
            (self.folder / "htpasswd").write_text(f"{USER}:{_HASHED}\n")
            lines.append(f"auth: {{htpasswd: {{realm: test, path: {self.folder / 'htpasswd'}}}}}")
        (self.folder / "config.yml").write_text("\n".join(lines) + "\n")
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [self._program, "serve", str(self.folder / "config.yml")], stdout=log, stderr=log
            )
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            assert self._process.poll() is None, self.log()[-2000:]
            try:
                urllib.request.urlopen(f"http://{self.host}/v2/", timeout=1).close()
                return self
            except urllib.error.HTTPError as error:
                error.close()
                return self  # 401: it is up and wants a login
            except OSError:
                time.sleep(0.05)
        raise AssertionError("the registry did not come up")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)

    def log(self) -> str:
        return (self.folder / "log").read_text()
