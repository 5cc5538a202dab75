"""The addresses that Services get: a cluster IP of this sandbox's own block, and node ports."""

from __future__ import annotations

import hashlib
import random
import socket

from devloop_sandbox.objects import errors
from devloop_sandbox.objects.errors import FieldError
from devloop_sandbox.objects.resources import Obj, Resource
from devloop_sandbox.options import Options
from devloop_sandbox.store.store import Store


class Addressing:
    """Two sandboxes on one machine share its loopback, so each takes cluster IPs of another block."""

    def __init__(self, options: Options) -> None:
        digest = hashlib.sha256(str(options.state_dir).encode()).digest()
        self._block = f"10.{96 + digest[0] % 16}.{digest[1]}"
        self._ports = range(options.node_port_range[0], options.node_port_range[1] + 1)

    def assign(self, store: Store, kind: Resource, obj: Obj, old: Obj | None) -> None:
        """Keep what the service has, give what it lacks; 422 for an address that it cannot have."""
        spec, known = obj["spec"], (old or {}).get("spec", {})
        if spec.get("type") == "ExternalName":
            return
        if not spec.get("clusterIP"):
            spec["clusterIP"] = known.get("clusterIP") or self._cluster_ip(store)
        spec["clusterIPs"] = [spec["clusterIP"]]
        if spec.get("type") in ("NodePort", "LoadBalancer"):
            self._node_ports(store, kind, obj, known)
        elif known.get("type") in ("NodePort", "LoadBalancer"):
            for port in spec.get("ports") or []:  # the type went back: so do the ports it had
                if port.get("nodePort") in [before.get("nodePort") for before in known["ports"]]:
                    del port["nodePort"]

    def _cluster_ip(self, store: Store) -> str:
        taken = {service["spec"].get("clusterIP") for service in store.list("services")}
        free = [n for n in range(1, 255) if f"{self._block}.{n}" not in taken]
        if not free:
            raise errors.ApiError(500, "InternalError", "failed to allocate IP: range is full")
        return f"{self._block}.{random.choice(free)}"

    def _node_ports(self, store: Store, kind: Resource, obj: Obj, known: Obj) -> None:
        meta = obj["metadata"]
        taken = {
            port.get("nodePort")
            for service in store.list("services")
            if (service["metadata"]["namespace"], service["metadata"]["name"])
            != (meta["namespace"], meta.get("name"))
            for port in service["spec"].get("ports") or []
        }
        before = {(p["port"], p.get("protocol")): p.get("nodePort") for p in known.get("ports") or []}
        for at, port in enumerate(obj["spec"].get("ports") or []):
            wanted = port.get("nodePort") or before.get((port.get("port"), port.get("protocol")))
            why = ""
            if wanted and wanted in taken:
                why = "provided port is already allocated"
            elif wanted and wanted not in self._ports and wanted not in before.values():
                first, last = self._ports[0], self._ports[-1]
                why = f"provided port is not in the valid range. The range of valid ports is {first}-{last}"
            if why:
                error = FieldError(
                    f"spec.ports[{at}].nodePort", "FieldValueInvalid", f"Invalid value: {wanted}: {why}"
                )
                raise errors.invalid(kind, meta.get("name", ""), [error])
            port["nodePort"] = wanted or self._free_port(taken)
            taken.add(port["nodePort"])

    def _free_port(self, taken: set[int | None]) -> int:
        """One that no Service has and nobody else on this machine listens on."""
        for port in random.sample(self._ports, len(self._ports)):
            if port not in taken and _is_free(port):
                return port
        raise errors.ApiError(500, "InternalError", "failed to allocate a nodePort: range is full")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
