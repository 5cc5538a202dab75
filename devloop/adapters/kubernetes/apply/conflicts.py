"""What the refusal of an apply means: fields of somebody else, a webhook that hangs, a missing namespace."""

from __future__ import annotations

from devloop.adapters.kubernetes.api.answers import ApiRefusedError
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


def only_ours(error: ApiRefusedError) -> bool:
    managers = [manager for manager, _ in _conflicts(error)]
    return bool(managers) and all(manager in OURS for manager in managers)


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
