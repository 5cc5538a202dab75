"""Which ReplicaSet is a Deployment's template, and the annotations that remember its history."""

from __future__ import annotations

import json

from devloop_sandbox.objects.resources import Obj, clone

HASH = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED = "deployment.kubernetes.io/desired-replicas"
MAXIMUM = "deployment.kubernetes.io/max-replicas"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_OWN = (LAST_APPLIED, REVISION, HISTORY, DESIRED, MAXIMUM)  # annotations that are not handed down
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


def template_hash(template: Obj, collisions: int = 0) -> str:
    """FNV-1a over the template, spelt in Kubernetes' safe alphabet. Equal templates, equal hashes."""
    text = json.dumps(template, sort_keys=True, separators=(",", ":")) + str(collisions or "")
    value = 0x811C9DC5
    for byte in text.encode():
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return "".join(_ALPHABET[int(digit) % len(_ALPHABET)] for digit in _digits(value))


def _digits(value: int) -> list[int]:
    return [ord(character) for character in str(value)]


def same_template(deployment: Obj, replica_set: Obj) -> bool:
    """Equal but for the hash that the controller itself put on."""
    theirs = clone(replica_set["spec"]["template"])
    labels = theirs.get("metadata", {}).get("labels") or {}
    labels.pop(HASH, None)
    return _tidy(theirs) == _tidy(deployment["spec"]["template"])


def _tidy(template: Obj) -> Obj:
    meta = {key: value for key, value in (template.get("metadata") or {}).items() if value is not None}
    return {"metadata": meta, "spec": template["spec"]}


def revision_of(obj: Obj) -> int:
    return int((obj["metadata"].get("annotations") or {}).get(REVISION, 0))


def new_replica_set(deployment: Obj, reference: Obj, replicas: int) -> Obj:
    """The ReplicaSet for the Deployment's template as it is now."""
    collisions = deployment.get("status", {}).get("collisionCount") or 0
    template = clone(deployment["spec"]["template"])
    digest = template_hash(template, collisions)
    template.setdefault("metadata", {}).setdefault("labels", {})[HASH] = digest
    selector = clone(deployment["spec"]["selector"])
    selector.setdefault("matchLabels", {})[HASH] = digest
    meta = deployment["metadata"]
    spec = {"replicas": replicas, "selector": selector, "template": template}
    if deployment["spec"].get("minReadySeconds"):
        spec["minReadySeconds"] = deployment["spec"]["minReadySeconds"]
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"{meta['name']}-{digest}",
            "namespace": meta["namespace"],
            "labels": clone(template["metadata"]["labels"]),
            "annotations": {},
            "ownerReferences": [reference],
        },
        "spec": spec,
    }


def annotate(replica_set: Obj, deployment: Obj, revision: int) -> None:
    """Hand the Deployment's annotations down and give the newer revision."""
    given = deployment["metadata"].get("annotations") or {}
    mine = replica_set["metadata"].setdefault("annotations", {})
    mine |= {key: value for key, value in given.items() if key not in _OWN}
    old = mine.get(REVISION)
    if old is None or int(old) < revision:
        mine[REVISION] = str(revision)
        if old is not None:
            mine[HISTORY] = ",".join(filter(None, (mine.get(HISTORY), old)))


def annotate_size(replica_set: Obj, desired: int, maximum: int) -> None:
    wanted = {DESIRED: str(desired), MAXIMUM: str(maximum)}
    replica_set["metadata"].setdefault("annotations", {}).update(wanted)
