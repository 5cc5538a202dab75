"""ResourceQuota: what a namespace uses, and the refusal of what would exceed it."""

from __future__ import annotations

from decimal import Decimal

from devloop_sandbox.objects import errors
from devloop_sandbox.objects.quantity import canonical, to_number
from devloop_sandbox.objects.resources import BY_PLURAL, Obj, Resource
from devloop_sandbox.store.store import Store

_PLAIN_COUNTS = ("pods", "services", "secrets", "configmaps", "resourcequotas")
_AMOUNTS = {
    "cpu": ("requests", "cpu"),
    "memory": ("requests", "memory"),
    "requests.cpu": ("requests", "cpu"),
    "requests.memory": ("requests", "memory"),
    "limits.cpu": ("limits", "cpu"),
    "limits.memory": ("limits", "memory"),
}


def check(store: Store, resource: Resource, obj: Obj) -> None:
    """403 when one more object of this kind exceeds a quota of its namespace."""
    for quota in store.list("resourcequotas", obj["metadata"].get("namespace", "-")):
        hard = quota.get("spec", {}).get("hard", {})
        asked = {name: _use(name, resource, obj) for name in hard}
        used = {name: used for name, used in usage(store, quota).items() if asked[name]}
        over = [name for name in used if used[name] + asked[name] > to_number(hard[name])]
        if over:
            parts = ("requested", asked), ("used", used), ("limited", hard)
            text = ", ".join(
                f"{word}: "
                + ",".join(f"{name}={spelled(name, to_number(values[name]))}" for name in sorted(over))
                for word, values in parts
            )
            why = f"exceeded quota: {quota['metadata']['name']}, {text}"
            raise errors.forbidden(resource, obj["metadata"]["name"], why)


def spelled(name: str, amount: Decimal) -> str:
    """The amount as status.used and refusals show it: memory in binary units."""
    binary = name.endswith("memory") and amount and amount % 1024 == 0
    return canonical(f"{amount / 1024}Ki" if binary else str(amount))


def usage(store: Store, quota: Obj) -> dict[str, Decimal]:
    """How much of each counted thing the quota's namespace has now."""
    home = quota["metadata"]["namespace"]
    return {
        name: sum(
            (_use(name, kind, obj) for kind in _counted(name) for obj in store.list(kind.plural, home)),
            Decimal(0),
        )
        for name in quota.get("spec", {}).get("hard", {})
    }


def _counted(name: str) -> list[Resource]:
    if name in _AMOUNTS:
        return [BY_PLURAL["pods"]]
    wanted = name.removeprefix("count/")
    return [kind for kind in BY_PLURAL.values() if wanted in (kind.qualified, kind.plural)]


def _use(name: str, resource: Resource, obj: Obj) -> Decimal:
    """What one object takes of `name`; pods that have ended take nothing."""
    ended = obj.get("status", {}).get("phase") in ("Succeeded", "Failed")
    if resource.plural == "pods" and ended and not name.startswith("count/"):
        return Decimal(0)
    if name in _AMOUNTS:
        if resource.plural != "pods":
            return Decimal(0)
        side, what = _AMOUNTS[name]
        return sum(
            (
                to_number(container.get("resources", {}).get(side, {}).get(what, 0))
                for container in obj["spec"].get("containers", [])
            ),
            Decimal(0),
        )
    plain = name in _PLAIN_COUNTS and name == resource.plural
    return Decimal(int(plain or name == f"count/{resource.qualified}"))
