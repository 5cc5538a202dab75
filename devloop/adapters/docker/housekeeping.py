"""Looking over an engine's images and clearing up: lists, tags and removals, by the docker package.

No save waits for these calls. The package is blocking: each call has a thread of its own, which nobody waits
for once the caller is cancelled, and which gives up after `CHANGE_SECONDS` without a byte.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from devloop.adapters.docker.connection import ANSWER_SECONDS, CHANGE_SECONDS, EngineRefusedError
from devloop.adapters.docker.endpoint import Endpoint
from devloop.errors import PlatformError

if TYPE_CHECKING:
    from docker import APIClient

Result = TypeVar("Result")
Work = Callable[["APIClient"], Result]


class EngineSilentError(PlatformError):
    """The docker package reached no engine; what it met is the cause."""


class Housekeeping:
    """One client of the docker package, kept while the engine's address is the same. Blocking."""

    def __init__(self) -> None:
        self._opened: tuple[Endpoint, APIClient] | None = None
        self._opening = threading.Lock()

    def run(self, endpoint: Endpoint, work: Work[Result]) -> Result:
        """Raises EngineRefusedError (refused), EngineSilentError, PlatformError (no certificates), and
        what an answer of the wrong shape makes."""
        import requests
        from docker import errors

        client: APIClient | None = None
        try:
            client = self._client(endpoint)
            return work(client)
        except errors.APIError as error:
            raise EngineRefusedError(str(error.explanation or error), int(error.status_code or 0)) from error
        except requests.exceptions.InvalidJSONError:
            raise
        except (errors.DockerException, requests.RequestException, OSError) as error:
            raise EngineSilentError(str(error)) from _innermost(error)
        finally:
            if client is not None:
                client.close()  # idle connections only, one for each answer that nobody read; it stays usable

    def close(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            opened[1].close()

    def _client(self, endpoint: Endpoint) -> APIClient:
        with self._opening:
            if self._opened is None or self._opened[0] != endpoint:
                self.close()
                self._opened = endpoint, open_client(endpoint)
            return self._opened[1]


def open_client(endpoint: Endpoint) -> APIClient:
    """The docker package's client of an engine. Blocking; raises PlatformError, DockerException, OSError.

    It asks the engine for its API version while it is made, and would go through a proxy of the environment
    for that: so a first one is made that asks nothing and uses no proxy.
    """
    from docker import APIClient
    from docker.tls import TLSConfig

    tls: TLSConfig | bool = False
    if endpoint.certs is not None:
        endpoint.tls()  # raises PlatformError where they cannot be read
        ca, *pair = (str(endpoint.certs / name) for name in ("ca.pem", "cert.pem", "key.pem"))
        tls = TLSConfig(client_cert=(pair[0], pair[1]), ca_cert=ca, verify=endpoint.verify)
    address = endpoint.host if endpoint.socket is not None else endpoint.url

    def client(version: str) -> APIClient:
        made = APIClient(address, version, timeout=int(CHANGE_SECONDS), tls=tls)
        made.trust_env = False
        return made

    asking = client("1.24")
    try:
        asking.timeout = int(ANSWER_SECONDS)
        return client(str(asking.version(api_version=False)["ApiVersion"]))
    finally:
        asking.close()


def _innermost(error: BaseException) -> BaseException:
    """What went wrong at the socket: requests and urllib3 pack it into errors of their own."""
    inside = (*error.args, error.__cause__, error.__context__)
    nested = [one for one in inside if isinstance(one, BaseException)]
    return _innermost(nested[0]) if nested else error
