"""Full builds by a docker command that has BuildKit: the default, because it sends only what changed (S9)."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread

from devloop import scratch
from devloop.adapters.build.transcript import Transcript, text_of
from devloop.adapters.docker.endpoint import Endpoint
from devloop.adapters.process import Finished, run
from devloop.borders import disk
from devloop.errors import BuildError, PlatformError
from devloop.events import Emit
from devloop.model import Service
from devloop.secrets.sources import secret_arguments

_USUAL = (
    "/usr/bin",
    "/usr/local/bin",
    "/opt/homebrew/bin",
    "/Applications/Docker.app/Contents/Resources/bin",
)
ANSWER_SECONDS = 10.0  # in which a docker command must have printed its version
_VERSION = re.compile(r"(\d+)\.(\d+)")
_LINE = re.compile(r"^#(?P<key>\d+) (?P<text>.*)$")
_TIMED = re.compile(r"^\d+\.\d+ ?(?P<text>.*)$")
_CONTEXT = "[internal] load build context"  # the vertex that reads it; the Dockerfile is read before
# What the docker command, its plugins and its credential helpers read themselves.
_RESERVED = re.compile(
    r"^(PATH|HOME|TMPDIR|(DOCKER|BUILDX|BUILDKIT|SSH|LD|XDG|SSL|OTEL|AWS|AZURE|GOOGLE)_.*|(?i:.*_PROXY))$"
)
_ENGINE_VARIABLES = frozenset(
    ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "BUILDX_BUILDER")
)


@dataclass(frozen=True, slots=True)
class DockerCommand:
    """A docker command that has BuildKit: built in (18.09 to 22) or as the buildx plugin."""

    path: str
    buildx: bool


async def find_command(environment: Mapping[str, str]) -> DockerCommand | None:
    """The first docker command with BuildKit, on PATH and in the usual places; None if there is none.

    A newer client without the buildx plugin silently falls back to the legacy builder: it is passed over.
    """
    for path in await anyio.to_thread.run_sync(_candidates, environment):
        with anyio.move_on_after(ANSWER_SECONDS), suppress(PlatformError):
            found = await _examined(path, environment)
            if found is not None:
                return found
    return None


async def _examined(path: str, environment: Mapping[str, str]) -> DockerCommand | None:
    """What this docker command builds with, None for the legacy builder. Raises PlatformError."""
    if (await run([path, "buildx", "version"], environment)).code == 0:
        return DockerCommand(path, buildx=True)
    version = _VERSION.search((await run([path, "--version"], environment)).out.decode(errors="replace"))
    if version and (18, 9) <= (int(version[1]), int(version[2])) < (23, 0):
        return DockerCommand(path, buildx=False)
    return None


def _candidates(environment: Mapping[str, str]) -> list[str]:
    folders = [*environment.get("PATH", "").split(os.pathsep), *_USUAL]
    if environment.get("HOME"):
        folders.append(f"{environment['HOME']}/.docker/bin")
    found: dict[str, str] = {}
    for folder in folders:
        path = Path(folder or ".") / "docker"
        if path.is_file() and os.access(path, os.X_OK):
            found.setdefault(str(path.resolve()), str(path))
    return list(found.values())


async def emulates(
    command: DockerCommand, environment: Mapping[str, str], endpoint: Endpoint, platform: str
) -> bool:
    """Whether buildx's builder on an engine lists a platform."""
    finished = await run([command.path, "buildx", "inspect", "default"], _pointed(environment, endpoint))
    listed = re.findall(r"[a-z0-9]+/[a-z0-9_]+", finished.out.decode(errors="replace"))
    return "/".join(platform.split("/")[:2]) in listed


def _pointed(environment: Mapping[str, str], endpoint: Endpoint) -> dict[str, str]:
    """The environment in which a docker command sees this engine, whatever else names one."""
    kept = {name: value for name, value in environment.items() if name not in _ENGINE_VARIABLES}
    return {**kept, **endpoint.environment(), "DOCKER_CLI_HINTS": "false"}


def reserved_args(service: Service) -> list[str]:
    """Build args that a docker command cannot be given: secret, so not for its command line, and read by
    itself, so not for its environment."""
    from_outside = {secret.env for secret in service.build.secrets}
    return [name for name in secret_arguments(service) if _RESERVED.match(name) or name in from_outside]


class CliBuild:
    """One kind of build: `docker build` by the command, on the engine of an endpoint."""

    def __init__(self, command: DockerCommand, environment: Mapping[str, str], emit: Emit) -> None:
        self._command = command
        self._environment = environment
        self._emit = emit

    async def build(
        self,
        service: Service,
        ref: str,
        platform: str,
        labels: Mapping[str, str],
        endpoint: Endpoint,
        on_read: Callable[[], None] = lambda: None,
        ran: list[str] | None = None,
    ) -> str:
        """Build and tag; the id that the command wrote. Raises BuildError with the proof.

        `on_read` is called when the context has been read; not by a build that does not report it. `ran`
        is filled with the names of the steps that were not in the builder's cache.
        Cancelling ends the command's process group, and with its connection the build on the engine (S10).
        """
        await anyio.to_thread.run_sync(_check_secrets, service, self._environment)
        transcript = Transcript(service.name, self._emit)
        reader = PlainReader(transcript, on_read)
        with disk(f"docker build of {service.name}"), scratch.folder() as folder:
            written = Path(folder, "iid")
            argv = self.argv(service, ref, platform, labels, written)
            finished = await run(argv, self._child(service, endpoint), on_line=reader.take)
            if finished.code == 0:
                if ran is not None:
                    ran += reader.ran
                return await anyio.Path(written).read_text()
        dockerfile = await text_of(service.build.dockerfile)
        raise transcript.failure(f"docker build of {service.name}", _last_word(finished), dockerfile)

    def argv(
        self, service: Service, ref: str, platform: str, labels: Mapping[str, str], written: Path
    ) -> list[str]:
        """The command line. No secret is in it (S30): those go by environment, where the other build args
        would change what the docker command itself does (HTTPS_PROXY)."""
        spec, hidden = service.build, secret_arguments(service)
        # The builder "default" is the engine's own; a docker-container builder would not see local images.
        words = ["buildx", "build", "--builder", "default", "--load"] if self._command.buildx else ["build"]
        argv = [self._command.path, *words, "--progress=plain", "--iidfile", str(written)]
        argv += ["--tag", ref, "--file", str(spec.dockerfile)]
        argv += [word for key, value in labels.items() for word in ("--label", f"{key}={value}")]
        for name, value in spec.args.items():
            argv += ["--build-arg", name if name in hidden else f"{name}={value}"]
        for secret in spec.secrets:
            source = f"src={secret.file}" if secret.file is not None else f"env={secret.env}"
            argv += ["--secret", f"id={secret.id},{source}"]
        argv += ["--target", spec.target] if spec.target else []
        argv += ["--platform", platform] if platform else []
        return [*argv, str(spec.context)]

    def _child(self, service: Service, endpoint: Endpoint) -> dict[str, str]:
        return {
            **_pointed(self._environment, endpoint),
            **secret_arguments(service),
            "DOCKER_BUILDKIT": "1",
            "BUILDX_NO_DEFAULT_ATTESTATIONS": "1",  # an attestation would make an index of the image
        }


class PlainReader:
    """Reads `--progress=plain`, whose lines are `#KEY text`, and feeds a transcript.

    `on_read` is called when the vertex that reads the context is through: there is one, whatever needs it.
    `ran`: the vertices that were done anew, and not found in the builder's cache.
    """

    def __init__(self, transcript: Transcript, on_read: Callable[[], None] = lambda: None) -> None:
        self._transcript = transcript
        self.ran: list[str] = []
        self._named: dict[str, str] = {}
        self._reading: set[str] = set()  # keys of the vertex that reads the context
        self._on_read = on_read
        self._over = False

    def take(self, line: str) -> None:
        if line.startswith("------"):
            self._over = True  # what follows repeats what was there
        numbered = _LINE.match(line)
        if numbered is None or self._over:
            return
        key, text = numbered["key"], numbered["text"]
        if key not in self._named:
            self._named[key] = text
            self._transcript.begin(key, text)
            if text == _CONTEXT:
                self._reading.add(key)
        elif text.startswith("ERROR"):
            self._transcript.end(key, text.removeprefix("ERROR").lstrip(": "))
        elif text.startswith("DONE ") or text == "CACHED":
            self._transcript.end(key)
            if text != "CACHED":
                self.ran.append(self._named[key])
            if key in self._reading:
                self._on_read()
        else:
            timed = _TIMED.match(text)
            if timed:
                self._transcript.say(key, timed["text"])


def _last_word(finished: Finished) -> str:
    """The command's own error: the last line, without the words that every error has."""
    lines = [line for line in finished.tail(60) if not line.startswith(("#", "---", "View build details"))]
    named = [line for line in lines if line.startswith(("ERROR", "error:", "failed", "Dockerfile"))]
    last = (named or lines or [f"exit code {finished.code}"])[-1]
    for words in ("ERROR: ", "error: ", "failed to solve: ", "failed to solve with frontend dockerfile.v0: "):
        last = last.removeprefix(words)
    place = next((line for line in reversed(lines) if re.match(r"^\S*Dockerfile\S*:\d+$", line)), "")
    return f"{last} ({place})" if place else last


def _check_secrets(service: Service, environment: Mapping[str, str]) -> None:
    for secret in service.build.secrets:
        if secret.file is not None and not secret.file.is_file():
            missing = f"file {secret.file}"
        elif secret.env is not None and secret.env not in environment:
            missing = f"environment variable {secret.env}"
        else:
            continue
        raise BuildError(
            f"build secret {secret.id} of {service.name}: there is no {missing}",
            reason="SecretMissing",
            outside_tree=True,
            hint=f"provide it, or change services.{service.name}.build.secrets in config.yaml",
        )
