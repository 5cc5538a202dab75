"""A Service's EndpointSlices, as kubectl reads them, from the subsets of its Endpoints. Pure."""

from __future__ import annotations

import hashlib
import json

from devloop_sandbox.controllers.owners import reference_to
from devloop_sandbox.objects.resources import Obj

SERVICE = "kubernetes.io/service-name"  # the label by which a slice is found
_MANAGER = "endpointslice.kubernetes.io/managed-by"


def slices(service: Obj, subsets: list[Obj]) -> list[Obj]:
    """One slice for each subset, named after its ports."""
    meta = service["metadata"]
    labels = {SERVICE: meta["name"], _MANAGER: "endpointslice-controller.k8s.io"}
    found = []
    for subset in subsets:
        ports = [{"name": "", **port} for port in subset.get("ports") or []]
        suffix = hashlib.sha256(json.dumps(ports).encode()).hexdigest()[:5]
        own = {"name": f"{meta['name']}-{suffix}", "namespace": meta["namespace"], "labels": labels}
        own["ownerReferences"] = [reference_to(service)]
        endpoints = [_endpoint(entry, ready=True) for entry in subset.get("addresses") or []]
        endpoints += [_endpoint(entry, ready=False) for entry in subset.get("notReadyAddresses") or []]
        found.append({"metadata": own, "addressType": "IPv4", "ports": ports, "endpoints": endpoints})
    return found


def _endpoint(entry: Obj, *, ready: bool) -> Obj:
    conditions = {"ready": ready, "serving": ready, "terminating": False}
    endpoint = {"addresses": [entry["ip"]], "conditions": conditions, "targetRef": entry["targetRef"]}
    return endpoint | {name: entry[name] for name in ("nodeName", "hostname") if entry.get(name)}
