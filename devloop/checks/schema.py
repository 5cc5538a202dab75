"""Objects against Kubernetes' own schema, which the package kubernetes-validate brings.

Its validate() reads 2 MB of definitions for every object; here they are read once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from devloop.checks.facts import Schema
from devloop.checks.subject import Json, Place

UNEXPECTED = re.compile(r"Additional properties are not allowed \((.*) (?:was|were) unexpected\)")


def kubernetes_schema(version: str | None = None) -> Schema:
    """The `schema` of Facts for one Kubernetes version ("1.36"; the newest that is known where it is not).

    Raises ImportError where kubernetes-validate is not installed. Blocking: reads files.
    """
    from kubernetes_validate import utils

    known: list[str] = utils.all_versions()
    return _Schema(utils, version if version and version in known else known[-1])


class _Schema:
    """`package` is kubernetes_validate.utils, which knows where the files are."""

    def __init__(self, package: Any, version: str) -> None:
        from referencing import Registry, Resource

        self._package, self._version = package, version
        self._folder = f"kubernetes-json-schema/v{version}-local-strict"
        definitions = package.schema_contents(f"{self._folder}/_definitions.json", version)
        self._registry = (Resource.from_contents(definitions) @ Registry()).crawl()
        self._validators: dict[str, Any] = {}

    def __call__(self, item: Mapping[str, Any]) -> tuple[Place, str] | None:
        api, kind = item.get("apiVersion"), item.get("kind")
        if not isinstance(api, str) or not isinstance(kind, str):
            return (), "apiVersion or kind is missing"
        validator = self._validator(api, kind)
        if validator is None:
            group = api.rpartition("/")[0]
            if "." in group and not group.endswith(".k8s.io"):
                return None  # a custom kind: its schema is in the cluster
            return ("kind",), f"Kubernetes {self._version} has no {kind} in {api}"
        error = next(validator.iter_errors(item), None)
        return None if error is None else _problem(error)

    def _validator(self, api: str, kind: str) -> Any:
        """None for a kind that is not known. rbac.authorization.k8s.io/v1 is rbac-v1 in the files' names."""
        short = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", api)
        name = f"{kind.lower()}-{short}"
        if name not in self._validators:
            self._validators[name] = self._read(name)
        return self._validators[name]

    def _read(self, name: str) -> Any:
        from jsonschema.validators import Draft202012Validator
        from referencing import Resource

        if not re.fullmatch(r"[a-z0-9-]+", name):
            return None
        try:
            schema: Json = self._package.schema_contents(f"{self._folder}/{name}.json", self._version)
        except FileNotFoundError:
            return None
        registry = (Resource.from_contents(schema) @ self._registry).crawl()
        return Draft202012Validator(schema, registry=registry)


def _problem(error: Any) -> tuple[Place, str]:
    """Its place and why, without the value: it may be a secret (S30)."""
    place: Place = tuple(error.path)
    written = ".".join(map(str, place)) or "the object"
    match error.validator:
        case "type":
            kinds = error.validator_value
            message = f"not {' or '.join(map(str, kinds)) if isinstance(kinds, list) else kinds}"
        case "additionalProperties":
            message = UNEXPECTED.sub(r"no such field: \1", error.message)
        case "required":
            message = error.message
        case _:
            message = f"does not fit the schema ({error.validator})"
    return place, f"{written}: {message}"
