"""Refusals in the API server's own words, each a metav1.Status with the code clients test for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from devloop_sandbox.objects.resources import Resource


class ApiError(Exception):
    """A refused request; `details` is that of the Status object (name, kind, causes)."""

    def __init__(self, status: int, reason: str, message: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.details: dict[str, Any] = details or {}

    def status_object(self) -> dict[str, Any]:
        """The metav1.Status that is the answer's body."""
        answer: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.status,
        }
        if self.details or self.status == 404:  # kubectl looks into those of a 404 without a check
            answer["details"] = self.details
        return answer


@dataclass(frozen=True, slots=True)
class FieldError:
    """One refused field, as in details.causes; `text` is what follows the path in the message."""

    field: str
    reason: str  # FieldValueInvalid, FieldValueRequired, FieldValueDuplicate, FieldValueNotSupported …
    text: str


def _details(resource: Resource, name: str) -> dict[str, Any]:
    details: dict[str, Any] = {"kind": resource.plural}
    if name:
        details["name"] = name
    if resource.group:
        details["group"] = resource.group
    return details


def not_found(resource: Resource, name: str) -> ApiError:
    text = f'{resource.qualified} "{name}" not found'
    return ApiError(404, "NotFound", text, _details(resource, name))


def no_such_path() -> ApiError:
    """What a client gets for an unknown kind, group or verb."""
    return ApiError(404, "NotFound", "the server could not find the requested resource")


def method_not_allowed() -> ApiError:
    text = "the server does not allow this method on the requested resource"
    return ApiError(405, "MethodNotAllowed", text)


def already_exists(resource: Resource, name: str) -> ApiError:
    text = f'{resource.qualified} "{name}" already exists'
    return ApiError(409, "AlreadyExists", text, _details(resource, name))


def conflict(resource: Resource, name: str, why: str = "") -> ApiError:
    why = why or (
        "the object has been modified; please apply your changes to the latest version and try again"
    )
    text = f'Operation cannot be fulfilled on {resource.qualified} "{name}": {why}'
    return ApiError(409, "Conflict", text, _details(resource, name))


def forbidden(resource: Resource, name: str, why: str) -> ApiError:
    text = f'{resource.qualified} "{name}" is forbidden: {why}'
    return ApiError(403, "Forbidden", text, _details(resource, name))


def invalid(resource: Resource, name: str, errors: list[FieldError]) -> ApiError:
    """422 with every refused field, one or a bracketed list, as the real server words it."""
    lines = list(dict.fromkeys(f"{error.field}: {error.text}" for error in errors))
    text = lines[0] if len(lines) == 1 else f"[{', '.join(lines)}]"
    details = _details(resource, name) | {"kind": resource.kind}
    details["causes"] = [
        {"reason": error.reason, "message": error.text, "field": error.field} for error in errors
    ]
    return ApiError(422, "Invalid", f'{resource.qualified_kind} "{name}" is invalid: {text}', details)


def invalid_options(kind: str, error: FieldError) -> ApiError:
    """422 for a query parameter: CreateOptions, PatchOptions, UpdateOptions or DeleteOptions."""
    row = {"reason": error.reason, "message": error.text, "field": error.field}
    details = {"group": "meta.k8s.io", "kind": kind, "causes": [row]}
    text = f'{kind}.meta.k8s.io "" is invalid: {error.field}: {error.text}'
    return ApiError(422, "Invalid", text, details)


def bad_request(text: str) -> ApiError:
    return ApiError(400, "BadRequest", text)


def unauthorized() -> ApiError:
    return ApiError(401, "Unauthorized", "Unauthorized")


def expired(asked: int, oldest: int) -> ApiError:
    return ApiError(410, "Expired", f"too old resource version: {asked} ({oldest})")


def unsupported_media_type(got: str, supported: str) -> ApiError:
    text = f"the body of the request was in an unknown format - accepted media types include: {supported}"
    return ApiError(415, "UnsupportedMediaType", text + (f" (got {got})" if got else ""))
