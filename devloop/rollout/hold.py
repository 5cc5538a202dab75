"""The annotation `dev.devloop/hold` of a workload: which services are held back, at which tree (S24). Pure.

A fingerprint; where several services set containers of the workload, `NAME=fingerprint` for each that is
held, with spaces between, so that one is held and released without the other.
"""

from __future__ import annotations

from collections.abc import Collection


def hold_of(text: str, service: str) -> str:
    """The fingerprint of the tree at which the service is held back, "" where it is not."""
    named, everybodys = _read(text)
    return named.get(service, everybodys)


def fingerprints(text: str) -> Collection[str]:
    """All that are named, whoever's."""
    named, everybodys = _read(text)
    return {*named.values(), *filter(None, (everybodys,))}


def held(text: str, service: str, fingerprint: str, others: Collection[str]) -> str:
    """The annotation with a hold of the service; `others` are the names that share the workload."""
    if not others:
        return fingerprint
    kept, everybodys = _read(text)
    named = {name: kept[name] for name in kept if name in others} | {service: fingerprint}
    return " ".join([everybodys] * bool(everybodys) + [f"{name}={one}" for name, one in named.items()])


def released(text: str, service: str, others: Collection[str]) -> str | None:
    """The annotation without a hold of the service, None for none at all. One that names no service goes."""
    kept, _ = _read(text)
    return " ".join(f"{name}={kept[name]}" for name in kept if name in others and name != service) or None


def _read(text: str) -> tuple[dict[str, str], str]:
    """(service -> fingerprint, the one that names no service or "")"""
    parts = [part.rpartition("=") for part in text.split()]
    named = {name: fingerprint for name, _, fingerprint in parts if name}
    return named, next((fingerprint for name, _, fingerprint in parts if not name), "")
