"""The cluster: its nodes, how images reach them, what it serves, and what manifests find missing there."""

from __future__ import annotations

from devloop.adapters.kubernetes.manifests import Manifest
from devloop.adapters.kubernetes.patch import PATHS
from devloop.adapters.kubernetes.prerequisites import missing_of, unmet
from devloop.adapters.kubernetes.views import OWNER
from devloop.adapters.lock import Owner
from devloop.checks.subject import Subject
from devloop.deploy.kubernetes_object import what_is_wrong
from devloop.deploy.needs import Need
from devloop.doctor.diagnosis import Connected, Diagnoses, Diagnosis, failure, ok, warning
from devloop.doctor.workloads import Workload, place_of
from devloop.errors import PrerequisiteError
from devloop.model import Target

NOTES_ANNOTATION = "dev.devloop/notes"  # what a cluster wants its users to know, on its Nodes


async def nodes(there: Connected) -> Diagnoses:
    platform = there.session.cluster.platform
    found = await there.session.cluster.nodes()
    listed = ", ".join(f"{node.name} ({node.os}/{node.architecture}, {node.runtime})" for node in found)
    notes = [
        ok(f"node {node.name}", node.annotations[NOTES_ANNOTATION])
        for node in found
        if NOTES_ANNOTATION in node.annotations
    ]
    return [ok("cluster", f"context {platform.context} ({platform.product}): {listed}"), *notes]


async def images(there: Connected) -> Diagnoses:
    route = await there.session.images.loader.route()
    return [ok("images", f"reach {', '.join(store.node for store in route.stores)} by {route.how}")]


async def kinds(there: Connected) -> Diagnoses:
    """Objects of kinds that the cluster does not serve, and no manifest defines."""
    sound = _sound(there)
    defined = {
        (one.at("spec", "group"), one.at("spec", "names", "kind"))
        for one in sound
        if one.kind == "CustomResourceDefinition"
    }
    found: list[Diagnosis] = []
    looked: set[tuple[str, str]] = set()
    for one in sound:
        version = str(one.item["apiVersion"])
        if (version.partition("/")[0], one.kind) in defined:
            continue
        looked.add((version, one.kind))
        try:
            await there.session.cluster.applier.path_of(Manifest(one.item, place_of(one)))
        except PrerequisiteError as error:
            found.append(failure("kinds", error.message, error.hint))
    if found or not looked:
        return found
    return [ok("kinds", f"the cluster serves all {len(looked)} that the manifests use")]


async def needs(there: Connected) -> Diagnoses:
    """Namespaces, Secrets and ConfigMaps that are to be there beforehand, and are not."""
    client, config = there.session.cluster.client, there.project.config
    items = [one.item for one in _placed(there)]
    made = {str(item["metadata"]["name"]) for item in items if item["kind"] == "Namespace"}
    made |= {one.namespace for one in config.releases() if one.create_namespace is not None}
    missing = await missing_of(client, items, items, config.cluster.namespace)
    wanted = {
        target.namespace: service.name for service in there.project.services for target in service.targets
    }
    spaces = [Need("Namespace", name, name, f"service {by}") for name, by in wanted.items()]
    spaces += [Need("Namespace", one.namespace, one.namespace, str(one)) for one in config.releases()]
    known = {need.name for need in missing if need.kind == "Namespace"} | made
    missing += await unmet(client, [need for need in spaces if need.name not in known])
    context = there.session.cluster.context
    found = [
        _lacking(need, context) for need in missing if not (need.kind == "Namespace" and need.name in made)
    ]
    return found or [
        ok("namespaces", ", ".join(sorted({need.name for need in spaces} | made)) or "none is named")
    ]


def _lacking(need: Need, context: str) -> Diagnosis:
    if need.kind == "Namespace":
        text = f"{need.name} does not exist in context {context}; {need.wanted_by} is to go there"
        return failure("namespaces", text, need.make(context))
    keys = f" (keys {', '.join(need.keys)})" if need.keys else ""
    text = f"{need.kind} {need.name}{keys} is not in namespace {need.namespace}; {need.wanted_by} asks for it"
    return failure("namespaces", text, need.make(context))


async def workloads(there: Connected) -> dict[Workload, Subject]:
    """The targets of all services as the cluster has them. Raises PlatformError."""
    found: dict[Workload, Subject] = {}
    for service in there.project.config.services():
        for target in service.targets:
            path = PATHS[target.kind].format(target.namespace, target.name)
            item = await there.session.cluster.client.find(path)
            if item is not None:
                kind = {"deployment": "Deployment", "statefulset": "StatefulSet"}[target.kind]
                found[target.workload] = Subject({**item, "kind": kind}, target.namespace)
    return found


async def writers(there: Connected) -> Diagnoses:
    """Targets that another devloop works for now (S26), or was the last to write to."""
    session = there.session
    own = session.setup.owner.path
    found: list[Diagnosis] = []
    for service in there.project.services:
        for target in service.targets:
            where = f"{target} in namespace {target.namespace}"
            holder = session.locks.holder(target)
            if holder is not None and holder.path != own:
                text = f"{where} is held by another devloop, pid {holder.pid} on {holder.host}: {holder.path}"
                end = f"end it (kill {holder.pid})" if holder.pid else "end it"
                found.append(failure(f"service {service.name}", text, _other_place(end)))
                continue
            last = await _last_writer(there, target)
            if holder is None and last is not None and last.path != own:
                text = f"another devloop project was the last to write to {where}: {last.path} on {last.host}"
                fix = _other_place("if that project is not in use any more, nothing")
                found.append(warning(f"service {service.name}", text, fix))
    return found


def _other_place(first: str) -> str:
    return f"{first}; else give this project a namespace of its own: cluster.namespace in config.yaml, or -n"


async def _last_writer(there: Connected, target: Target) -> Owner | None:
    path = PATHS[target.kind].format(target.namespace, target.name)
    item = await there.session.cluster.client.find(path)
    notes = (item or {}).get("metadata", {}).get("annotations") or {}
    return Owner.parse(str(notes.get(OWNER) or ""))


def _sound(there: Connected) -> list[Subject]:
    """Those that can be applied at all; `devloop check` says what is wrong with the others."""
    return [one for one in there.project.objects if not what_is_wrong(one.item)]


def _placed(there: Connected) -> list[Subject]:
    """As they are applied: a release's objects with its namespace."""
    return [
        one
        if one.group == "manifests"
        else Subject(
            {**one.item, "metadata": {**one.item["metadata"], "namespace": one.namespace}}, one.namespace
        )
        for one in _sound(there)
    ]
