"""One border per foreign thing: what comes from there and is not what was agreed is an error with a name.

`with ENGINE_ANSWER("GET /info at …"):` stands around the lines that take the answer apart, and around nothing
else: a fault of our own must not be called theirs. YAML: see kubernetes_yaml; files: files.py.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from devloop.errors import BuildError, ConfigError, DevloopError, LoadError, PlatformError, one_line

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True, slots=True)
class Border:
    """Called with what is being read, and where: gives the context manager."""

    error: type[DevloopError]
    reason: str
    hint: str

    def __call__(self, what: str) -> AbstractContextManager[None]:
        return self._crossing(what)

    @contextmanager
    def _crossing(self, what: str) -> Iterator[None]:
        try:
            yield
        except DevloopError:
            raise
        except Exception as cause:
            raise self.error(f"{what}: {_message(cause)}", reason=self.reason, hint=self.hint) from cause


ENGINE_ANSWER = Border(PlatformError, "BadAnswer", "does a Docker engine answer there? docker version")
API_ANSWER = Border(
    PlatformError, "BrokenAnswer", "does a Kubernetes API server answer there? kubectl version"
)
KUBECONFIG = Border(ConfigError, "InvalidKubeconfig", "kubectl config view shows the merged files")
COMMAND_OUTPUT = Border(PlatformError, "BadOutput", "run the command by hand: is it the intended one?")
LAYER = Border(LoadError, "BadLayer", "docker save of the image, and tar -t of the layer, show the same")
REGISTRY_ANSWER = Border(PlatformError, "BadAnswer", "does a registry answer there? curl -i URL/v2/")
LOGINS = Border(BuildError, "BadCredentials", "docker login rewrites the file")
OBJECTS = Border(
    ConfigError, "InvalidManifest", "kubectl apply --dry-run=server -f shows what is wrong with it"
)


@contextmanager
def disk(what: str, error: type[DevloopError] = BuildError) -> Iterator[None]:
    """Around writing files of our own: a disk that is full or broken ends the work under way, not devloop."""
    try:
        yield
    except OSError as cause:
        where = cause.filename or tempfile.gettempdir()
        full = cause.errno in FULL
        raise error(
            f"{what}: {cause.strerror or cause} ({where})",
            reason="DiskFull" if full else "DiskFailed",
            hint=f"df -h {where}; df -i {where}" if full else f"can this user write there? ls -ld {where}",
        ) from cause


def cause_of(error: BaseException) -> str:
    """Why a connection or a file failed, in the system's words: "Connection refused", without numbers.

    HTTP clients wrap the system's own error (`os_error`) into sentences of their own.
    """
    inner = getattr(error, "reason", None)  # of a URLError
    cause = getattr(error, "os_error", None) or (inner if isinstance(inner, OSError) else error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {cause.verify_message}"
    if isinstance(cause, ssl.SSLError):
        return f"no TLS connection: {(cause.reason or str(cause)).replace('_', ' ').lower()}"
    if isinstance(cause, socket.gaierror | socket.herror):  # of names: their numbers are no errno
        return cause.strerror or str(cause)
    if isinstance(cause, OSError) and (cause.errno or 0) > 0:
        named = f": {cause.filename}" if cause.filename is not None else ""
        return f"{os.strerror(cause.errno or 0)}{named}"
    if isinstance(cause, OSError) and str(cause).startswith("Multiple exceptions"):  # one per address
        return _of_several(str(cause))
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return "no answer in time" if isinstance(cause, TimeoutError) else str(cause) or type(cause).__name__


def _of_several(text: str) -> str:
    """What refuses is there: where one address refuses, that says more than how the others failed."""
    numbers = dict.fromkeys(map(int, re.findall(r"\[Errno (\d+)\]", text)))
    if errno.ECONNREFUSED in numbers:
        return os.strerror(errno.ECONNREFUSED)
    return ", ".join(map(os.strerror, numbers)) or "no connection"


def _message(cause: BaseException) -> str:
    """Faults of shape are reported as such: `KeyError: 'Id'` alone says nothing to whoever reads it."""
    if isinstance(cause, KeyError | TypeError | AttributeError | IndexError | RecursionError):
        return f"not what was expected ({one_line(cause, 120)})"
    return one_line(cause)
