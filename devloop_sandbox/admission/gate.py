"""What every write passes, from a client or a controller: defaults, security, validation."""

from __future__ import annotations

from devloop_sandbox.admission import defaults, effects, security, validation
from devloop_sandbox.admission.addressing import Addressing
from devloop_sandbox.objects import errors
from devloop_sandbox.objects.resources import Obj, Resource
from devloop_sandbox.options import Options
from devloop_sandbox.patching import ownership
from devloop_sandbox.store.store import Store

_UNOWNED = ("events", "endpoints", "endpointslices", "namespaces", "serviceaccounts")


class Gate:
    """The store's Admission."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._addressing = Addressing(options)

    def admit(self, store: Store, resource: Resource, obj: Obj, old: Obj | None, subresource: str) -> None:
        if old is None and resource.has_status and resource.plural != "nodes":
            obj.pop("status", None)
        if subresource != "status":
            self._check(store, resource, obj, old)

    def _check(self, store: Store, resource: Resource, obj: Obj, old: Obj | None) -> None:
        defaults.fill(resource, obj)
        if resource.plural == "namespaces" and old is None:
            obj["spec"] = {"finalizers": ["kubernetes"]}
        if resource.plural == "services":
            self._addressing.assign(store, resource, obj, old)
        validation.check(resource, obj, old)
        if resource.plural == "pods" and old is None:
            found = security.violations(obj["spec"], self._options)
            if found:
                why = 'violates PodSecurity "devloop-sandbox:latest": ' + ", ".join(found)
                raise errors.forbidden(resource, obj["metadata"]["name"], why)

    def own(self, resource: Resource, obj: Obj, old: Obj | None, subresource: str) -> None:
        """What a controller or the node writes is theirs."""
        if resource.plural not in _UNOWNED:
            writer = "kubelet" if resource.plural in ("pods", "nodes") and old else "kube-controller-manager"
            ownership.note_update(resource, obj, old, writer, subresource)

    def warnings(self, obj: Obj) -> list[str]:
        """What a writer should know of an object that is stored all the same."""
        found = effects.warnings(obj)
        spec = obj.get("spec") or {}
        template = (spec.get("jobTemplate", {}).get("spec") or {} if obj["kind"] == "CronJob" else spec).get(
            "template"
        )
        if isinstance(template, dict):
            refused = security.violations(template.get("spec") or {}, self._options)
            if refused:
                found.append('would violate PodSecurity "devloop-sandbox:latest": ' + ", ".join(refused))
        return found
