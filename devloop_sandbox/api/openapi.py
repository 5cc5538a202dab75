"""The OpenAPI v2 document that kubectl asks before `diff` and a dry run: which PATCH takes which option.

kubectl reads it as protobuf (gnostic's openapi.v2.Document). It holds no schemas: kubectl then leaves
validation to the server.
"""

from __future__ import annotations

from functools import cache

from devloop_sandbox.objects.resources import RESOURCES, Resource

MEDIA_TYPE = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
_OPTIONS = ("dryRun", "fieldManager", "fieldValidation", "force")


@cache
def document() -> bytes:
    """The whole document, encoded once."""
    info = _text(1, "Kubernetes") + _text(2, "v1")
    paths = b"".join(_bytes(2, _path(resource)) for resource in RESOURCES)  # Paths.path
    return _text(1, "2.0") + _bytes(2, info) + _bytes(8, paths)


def _path(resource: Resource) -> bytes:
    """A NamedPathItem whose only operation is PATCH."""
    root = f"/apis/{resource.group}/{resource.version}" if resource.group else f"/api/{resource.version}"
    scope = "/namespaces/{namespace}" if resource.namespaced else ""
    parameters = b"".join(_bytes(8, _query_parameter(name)) for name in _OPTIONS)
    operation = parameters + _bytes(13, _group_version_kind(resource))
    return _text(1, f"{root}{scope}/{resource.plural}/{{name}}") + _bytes(2, _bytes(8, operation))


def _query_parameter(name: str) -> bytes:
    """ParametersItem.parameter.non_body_parameter.query_parameter_sub_schema."""
    schema = _text(2, "query") + _text(4, name) + _text(6, "string")
    return _bytes(1, _bytes(2, _bytes(3, schema)))


def _group_version_kind(resource: Resource) -> bytes:
    """The vendor extension by which kubectl finds the operation of a kind; a NamedAny of YAML text."""
    text = f'group: "{resource.group}"\nkind: {resource.kind}\nversion: {resource.version}\n'
    return _text(1, "x-kubernetes-group-version-kind") + _bytes(2, _text(2, text))


def _text(field: int, value: str) -> bytes:
    return _bytes(field, value.encode())


def _bytes(field: int, value: bytes) -> bytes:
    """A length-delimited field."""
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*out, number))
