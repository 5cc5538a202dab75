"""Looking over an engine's images and clearing up: lists, tags and removals, by the docker package.

No save waits for these calls. The package is blocking: each call has a thread of its own, which nobody waits
for once the caller is cancelled, and which gives up after `CHANGE_SECONDS` without a byte.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING, TypeVar

from devloop.adapters.docker.connection import EngineRefusedError
from devloop.adapters.docker.endpoint import Endpoint
from devloop.errors import PlatformError

if TYPE_CHECKING:
    from docker import APIClient

Result = TypeVar("Result")
Work = Callable[["APIClient"], Result]


class EngineSilentError(PlatformError):
    """The docker package reached no engine; what it met is the cause."""


def run(endpoint: Endpoint, work: Work[Result]) -> Result:
    """What `work` returns, given a client of its own. Blocking.

    A client per call costs 1 ms: no thread closes another's, and an engine that was replaced at the same
    address by a newer or an older one is asked for its API version again.

    Raises EngineRefusedError (refused), EngineSilentError, PlatformError (no certificates, no Docker engine),
    and what an answer of the wrong shape makes.
    """
    import requests
    from docker import errors

    try:
        with closing(open_client(endpoint)) as client:  # which has a connection open for each unread answer
            return work(client)
    except errors.APIError as error:
        raise EngineRefusedError(str(error.explanation or error), int(error.status_code or 0)) from error
    except requests.exceptions.InvalidJSONError:
        raise
    except (errors.DockerException, requests.RequestException, OSError) as error:
        raise EngineSilentError(str(error)) from _innermost(error)


def open_client(endpoint: Endpoint) -> APIClient:
    """The docker package's client of an engine; raises as `PackageClient` does. Blocking."""
    from devloop.adapters.docker.package_client import PackageClient

    return PackageClient(endpoint)


def _innermost(error: BaseException) -> BaseException:
    """What went wrong at the socket: requests and urllib3 pack it into errors of their own."""
    inside = (*error.args, error.__cause__, error.__context__)
    nested = [one for one in inside if isinstance(one, BaseException)]
    return _innermost(nested[0]) if nested else error
