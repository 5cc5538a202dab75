"""What an API server's answers and failures mean: an object, ApiRefusedError, or ApiUnreachableError."""

from __future__ import annotations

import json
from types import TracebackType
from typing import Any

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from devloop.adapters.kubernetes.api.access import Access
from devloop.adapters.kubernetes.api.shapes import wrong_shape
from devloop.borders import cause_of
from devloop.errors import PatchError, PlatformError
from devloop.events import API_SERVER

Json = dict[str, Any]
UNAUTHORIZED = "Unauthorized"
NO_API = "does a Kubernetes API server answer there? kubectl version"


class ApiRefusedError(PatchError):
    """The API server refused (4xx). `status` is the HTTP code, `details` those of the Status object."""

    def __init__(
        self, message: str, *, status: int, reason: str, details: Json, hint: str | None = None
    ) -> None:
        super().__init__(message, reason=reason, hint=hint)
        self.status = status
        self.details = details


GATEWAY = (502, 503, 504)  # statuses of a server that is not there, or not yet


class ApiUnreachableError(PlatformError):
    """No usable answer: not reached, cut off, timed out, or 5xx. `sent` False = it surely had no effect.

    `gone` False: it may be this call alone that it has no answer to.
    """

    def __init__(
        self,
        message: str,
        *,
        sent: bool,
        reason: str = "Unreachable",
        hint: str | None = None,
        gone: bool = True,
    ) -> None:
        super().__init__(message, reason=reason, hint=hint, outage=API_SERVER if gone else "")
        self.sent = sent


def problem_of(
    access: Access, method: str, path: str, status: int, text: bytes
) -> ApiRefusedError | ApiUnreachableError:
    """An answer of 300 and above as one of ours, with the server's own sentence."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        body = {}
    if not isinstance(body, dict):
        body = {}
    explanation = str(body.get("message") or text.decode(errors="replace").strip()[:500] or f"HTTP {status}")
    reason = str(body.get("reason") or f"Http{status}")
    context = access.context.name
    if status == 401:
        return ApiUnreachableError(
            f"{access.server} does not accept the credentials of context {context}: {explanation}",
            sent=False,
            reason=UNAUTHORIZED,
            hint=f"kubectl --context {context} get nodes shows the same; recreate the kubeconfig",
        )
    if status < 400:
        return ApiUnreachableError(
            f"{method} {path} at {access.server}: {status}, which sends devloop elsewhere",
            sent=True,
            reason="Redirected",
            gone=False,
            hint=f"no redirect is followed (S29): is the server of context {context} a Kubernetes API?",
        )
    if status >= 500 or status == 429:
        return ApiUnreachableError(
            f"{method} {path} at {access.server}: {status} {explanation}",
            sent=status != 429,
            reason=reason,
            gone=status in GATEWAY,
        )
    details = body.get("details")
    return ApiRefusedError(
        explanation, status=status, reason=reason, details=details if isinstance(details, dict) else {}
    )


class Translated:
    """`with`: aiohttp's errors as ApiUnreachableError; a connection never made counts as not sent."""

    def __init__(self, call: str, where: str) -> None:
        self._what, self._where = f"{call} at {where}", where

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        hint = "is the cluster running? minikube status, devloop sandbox status"
        if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
            raise ApiUnreachableError(
                f"no API server answers at {self._where}: {cause_of(error)}", sent=False, hint=hint
            ) from error
        if isinstance(error, TimeoutError):
            raise ApiUnreachableError(
                f"{self._what}: no answer in time", sent=True, reason="Timeout", hint=hint
            ) from error
        if isinstance(error, aiohttp.ClientError | HttpProcessingError | OSError | ValueError):
            raise ApiUnreachableError(f"{self._what}: {cause_of(error)}", sent=True, hint=hint) from error


def decoded(text: bytes, method: str, path: str) -> Json:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ApiUnreachableError(
            f"{method} {path}: a broken answer: {error}", sent=True, reason="BrokenAnswer", hint=NO_API
        ) from error
    wrong = wrong_shape(data, path, may_be_status=method != "GET")
    if wrong:
        raise ApiUnreachableError(f"{method} {path}: {wrong}", sent=True, reason="BrokenAnswer", hint=NO_API)
    assert isinstance(data, dict)
    return data
