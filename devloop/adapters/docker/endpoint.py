"""Which Docker engine is meant: from an address, DOCKER_HOST, the docker CLI's context, or docker-env."""

from __future__ import annotations

import hashlib
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from devloop.errors import PlatformError
from devloop.files import exists, read_bytes

DEFAULT = "unix:///var/run/docker.sock"
_SPOKEN = ("unix", "tcp", "http", "https")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One engine's address. `certs`: a folder with ca.pem, cert.pem, key.pem; `origin`: who named it.

    As for the docker command, an engine that asks for no client certificate needs neither cert.pem nor
    key.pem, and one that is not verified no ca.pem.
    """

    host: str
    certs: Path | None = None
    verify: bool = True
    origin: str = "the default socket"

    @property
    def socket(self) -> str | None:
        """The path of a unix socket, None for TCP."""
        return urlsplit(self.host).path if self.host.startswith("unix://") else None

    @property
    def encrypted(self) -> bool:
        return self.socket is None and (self.certs is not None or self.host.startswith("https://"))

    @property
    def url(self) -> str:
        """What HTTP requests start with."""
        if self.socket is not None:
            return "http://docker"
        scheme = "https" if self.encrypted else "http"
        parts = urlsplit(self.host)
        port = "" if parts.port else ":2376" if self.encrypted else ":2375"  # as the docker command
        return f"{scheme}://{parts.netloc.rstrip(':')}{port}"

    @property
    def authority(self) -> Path | None:
        """The file with the certificates that the engine's is checked against, None for the system's."""
        return self.certs / "ca.pem" if self.certs is not None and self.verify else None

    @property
    def pair(self) -> tuple[Path, Path] | None:
        """The files of the client certificate and its key, None where there is neither."""
        if self.certs is None:
            return None
        pair = self.certs / "cert.pem", self.certs / "key.pem"
        return pair if any(map(exists, pair)) else None

    def environment(self) -> dict[str, str]:
        """The variables that point a docker command at this engine and at no other."""
        if self.certs is None:
            return {"DOCKER_HOST": self.host}
        # Any value of DOCKER_TLS_VERIFY means "verify" to the docker CLI, even "0".
        tls = "DOCKER_TLS_VERIFY" if self.verify else "DOCKER_TLS"
        return {"DOCKER_HOST": self.host, "DOCKER_CERT_PATH": str(self.certs), tls: "1"}

    def tls(self) -> ssl.SSLContext | None:
        """The TLS client context. Raises PlatformError if a certificate cannot be read."""
        if not self.encrypted:
            return None
        try:
            context = ssl.create_default_context(cafile=self.authority)
            if self.pair is not None:
                context.load_cert_chain(*self.pair)
        except (OSError, ssl.SSLError) as error:
            raise PlatformError(
                f"engine {self.host} (from {self.origin}): no certificates in {self.certs}: {error}",
                reason="BadCertificates",
                hint="is the cluster running? for Minikube: minikube status, then minikube docker-env",
            ) from error
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def checked(endpoint: Endpoint) -> Endpoint:
    """The endpoint if devloop can speak to it; PlatformError for ssh://, npipe:// and what is no address."""
    scheme = _scheme(endpoint)
    if scheme in _SPOKEN:
        return endpoint
    hint = "point DOCKER_HOST, or cluster.engine in config.yaml, at a unix:// or tcp:// address"
    if scheme == "ssh":
        target = endpoint.host.removeprefix("ssh://")
        hint = (
            f"forward its socket: ssh -nNT -L /tmp/engine.sock:/var/run/docker.sock {target} & "
            "then DOCKER_HOST=unix:///tmp/engine.sock devloop ..."
        )
    raise PlatformError(
        f"engine {endpoint.host} (from {endpoint.origin}): "
        + (f"devloop does not support {scheme}://" if scheme else "no address of an engine"),
        reason="UnsupportedEngine",
        hint=hint,
    )


def _scheme(endpoint: Endpoint) -> str:
    """Raises PlatformError for what is no address at all."""
    try:
        parts = urlsplit(endpoint.host)
        named = parts.path if parts.scheme == "unix" else parts.hostname
        if not named and parts.scheme in _SPOKEN:
            raise ValueError("it names no host")
        if parts.port == 0:  # reading it raises ValueError for what is no port
            raise ValueError("port 0")
    except ValueError as error:
        raise PlatformError(
            f"engine {endpoint.host!r} (from {endpoint.origin}): no address: {error}",
            reason="UnsupportedEngine",
            hint="write unix:///var/run/docker.sock or tcp://HOST:PORT",
        ) from error
    return parts.scheme


def at(address: str, origin: str) -> Endpoint:
    """The endpoint of a plain address, such as cluster.engine or a Node annotation."""
    return checked(Endpoint(f"unix://{address}" if address.startswith("/") else address, origin=origin))


def from_variables(variables: Mapping[str, str], origin: str) -> Endpoint | None:
    """The endpoint that DOCKER_HOST and its companions name, None without DOCKER_HOST."""
    host = variables.get("DOCKER_HOST", "")
    if not host:
        return None
    certs = variables.get("DOCKER_CERT_PATH", "")
    wants_tls = bool(variables.get("DOCKER_TLS_VERIFY") or variables.get("DOCKER_TLS"))
    if not wants_tls or not host.startswith(("tcp://", "https://")):
        return checked(Endpoint(host, origin=origin))
    folder = Path(certs) if certs else _config_folder(variables)
    return checked(Endpoint(host, folder, bool(variables.get("DOCKER_TLS_VERIFY")), origin))


def current(environment: Mapping[str, str]) -> Endpoint:
    """The builder's engine: DOCKER_HOST, else the docker CLI's context, else the default socket.

    Reads the CLI's own files, because the docker package takes them from this process's environment only.
    Raises PlatformError if the context is missing or devloop does not support its address.
    """
    named = from_variables(environment, "DOCKER_HOST")
    if named is not None:
        return named
    folder = _config_folder(environment)
    name = (
        environment.get("DOCKER_CONTEXT") or _read(folder / "config.json").get("currentContext") or "default"
    )
    if name == "default":
        return Endpoint(DEFAULT)
    key = hashlib.sha256(str(name).encode()).hexdigest()
    docker = _docker_endpoint(_read(folder / "contexts" / "meta" / key / "meta.json"))
    if docker is None:
        raise PlatformError(
            f"docker context {name}: no such context in {folder}",
            reason="NoSuchContext",
            hint="docker context ls shows them, docker context use NAME chooses one",
        )
    certs = folder / "contexts" / "tls" / key / "docker"
    return checked(
        Endpoint(
            str(docker["Host"]),
            certs if certs.is_dir() else None,
            not docker.get("SkipTLSVerify", False),
            f"docker context {name}",
        )
    )


def _docker_endpoint(meta: Mapping[str, object]) -> Mapping[str, object] | None:
    endpoints = meta.get("Endpoints")
    docker = endpoints.get("docker") if isinstance(endpoints, dict) else None
    return docker if isinstance(docker, dict) and docker.get("Host") else None


def _config_folder(environment: Mapping[str, str]) -> Path:
    named = environment.get("DOCKER_CONFIG")
    return Path(named) if named else Path(environment.get("HOME") or Path.home()) / ".docker"


def _read(path: Path) -> dict[str, object]:
    try:
        value = json.loads(read_bytes(path))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
