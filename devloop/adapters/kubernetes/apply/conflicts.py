"""What the refusal of an apply means: fields of somebody else, a webhook that hangs, a missing namespace."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from devloop.adapters.kubernetes.api.answers import ApiRefusedError, Json
from devloop.adapters.kubernetes.manifests import Manifest
from devloop.adapters.kubernetes.patch import MANAGER
from devloop.errors import PatchError, PlatformError

# Managers whose fields the user's own file may take back: the same file, applied by hand, and our PATCH.
OURS = frozenset({MANAGER, "kubectl-client-side-apply", "kubectl", "before-first-apply"})


def hangs(manifest: Manifest, error: PlatformError) -> PlatformError:
    """The API server answers, but not for this object."""
    return PlatformError(
        f"{manifest.where}: {manifest.name} could not be applied: {error.message}",
        reason=error.reason,
        hint="the API server answers otherwise: does an admission webhook hang or fail?"
        " kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations",
    )


def only_ours(error: ApiRefusedError, item: Json, refs: Collection[str]) -> bool:
    """Whether each field in conflict is devloop's to write: its own, or an image of `refs`, which anybody may
    have set by hand (`kubectl set image`) and which the next PATCH would take back all the same (S20)."""
    images = tuple(_image_fields(item, refs))
    conflicts = _conflicts(error)
    return bool(conflicts) and all(manager in OURS or field.endswith(images) for manager, field in conflicts)


def _image_fields(value: object, refs: Collection[str]) -> Iterator[str]:
    """The ends of the fields, as a Status writes them, that hold one of these references."""
    if isinstance(value, list):
        for one in value:
            yield from _image_fields(one, refs)
    elif isinstance(value, dict):
        for kind in ("containers", "initContainers"):
            listed = value.get(kind)
            for container in listed if isinstance(listed, list) else ():
                if isinstance(container, dict) and container.get("image") in refs:
                    yield f'.{kind}[name="{container.get("name")}"].image'
        for one in value.values():
            yield from _image_fields(one, refs)


def _conflicts(error: ApiRefusedError) -> list[tuple[str, str]]:
    """(manager, field) of each conflict. The Status says: conflict with "helm" using apps/v1."""
    found = []
    for cause in error.details.get("causes") or ():
        if cause.get("reason") == "FieldManagerConflict":
            quoted = str(cause.get("message", "")).split('"')
            found.append((quoted[1] if len(quoted) > 1 else "?", str(cause.get("field", "?"))))
    return found


def refusal_of(manifest: Manifest, error: ApiRefusedError) -> PatchError:
    conflicts = _conflicts(error)
    if error.status == 409 and conflicts:
        managers = sorted({manager for manager, _ in conflicts if manager not in OURS})
        fields = ", ".join(f"{field} ({manager})" for manager, field in conflicts if manager not in OURS)
        return PatchError(
            f"{manifest.where}: {manifest.name} has fields that belong to {', '.join(managers)}: {fields}",
            reason="Conflict",
            hint=f"leave these fields out of the file, or let {managers[0]} manage the object alone",
        )
    hint = None
    if error.status == 404 and "namespace" in error.message:
        hint = "the namespace does not exist: add it to the manifests, or create it"
    elif manifest.item["kind"] == "Job" and "field is immutable" in error.message:
        name = manifest.item["metadata"]["name"]
        hint = f"a Job runs once and keeps its template: kubectl delete job {name}, then save the file again"
    return PatchError(
        f"{manifest.where}: {manifest.name} was refused: {error.message}", reason=error.reason, hint=hint
    )
