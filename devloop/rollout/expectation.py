"""What a target is expected to run, and which of its pods and containers that is about (S1, S14). Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from devloop.image_refs import digest, is_another_build, same, same_repository
from devloop.model import ContainerView, PodView, Revision, Snapshot, Stuck
from devloop.rollout.hold import fingerprints
from devloop.rollout.symptoms import MISSING_IMAGE, exits


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a target is to run: `ref` of repository `image`, under the id verified at load ("" = any).

    `generation` and `uid` are those that the PATCH answered; 0 and "" = any. `patched_at` and `changed`
    tell a stale progress deadline from ours; `context` only makes the command lines in hints complete.
    `loaded_at`: when an image that a node had lost was loaded again (S13), which gives its pods new time.
    `replaced_at`: when a broken pod that blocked the target was deleted last.
    `restarts`: what `restarts_of` gave when the rollout began, for exits from before are not its own; None:
    nobody looked, and then only a rollout that a PATCH began has its pods from their first start.
    `since`: when the rollout last got any further, 0 = nobody waits for it, so it has no deadline; `timeout`:
    the service's `rollout_timeout`.
    """

    image: str
    ref: str
    image_id: str = ""
    generation: int = 0
    uid: str = ""
    patched_at: float = 0.0
    changed: bool = False
    context: str = ""
    loaded_at: float = 0.0
    replaced_at: float = 0.0
    restarts: Mapping[tuple[str, str], int] | None = None
    since: float = 0.0
    timeout: float | None = None

    @classmethod
    def of(cls, image: str, revision: Revision, image_id: str, context: str = "") -> Expectation:
        """What the PATCH that gave `revision` is to lead to."""
        return cls(
            image,
            revision.ref,
            image_id,
            revision.generation,
            revision.uid,
            revision.patched_at,
            revision.changed,
            context,
        )


def carries(snapshot: Snapshot, image: str, ref: str) -> bool:
    """The pod template says `ref` in every container that is this service's (S1, S4)."""
    mine = own_images(snapshot, image).values()
    return bool(mine) and all(same(text, ref) for text in mine)


def own_images(snapshot: Snapshot, image: str) -> dict[str, str]:
    """What the pod template says in the containers that are this service's: name -> reference."""
    return {name: text for name, text in snapshot.images.items() if is_ours(snapshot, image, name, text)}


def drift(snapshot: Snapshot, image: str, ref: str) -> str | None:
    """A sentence about a template that is neither the tree's nor held (S20, S24), None if all is well."""
    if not snapshot.exists or carries(snapshot, image, ref):
        return None
    if digest(ref) in fingerprints(snapshot.hold):
        return None
    mine = own_images(snapshot, image).values()
    writer = f", written by {snapshot.writer}" if snapshot.writer else ""
    carried = ", ".join(sorted(set(mine))) or "no image of ours"
    return f"{snapshot.target} carries {carried}{writer}; the tree is {ref}"


def own_pods(snapshot: Snapshot, image: str, ref: str) -> tuple[PodView, ...]:
    """The pods of the template's revision that run `ref` and are not on their way out, or over (S1)."""
    return tuple(
        pod
        for pod in snapshot.pods
        if not (pod.terminating or pod.over)
        and (not snapshot.revision or pod.revision == snapshot.revision)
        and _runs(snapshot, pod, image, ref)
    )


def serves(snapshot: Snapshot, expected: Expectation) -> bool:
    """Whether the pods that are ready now run exactly what is expected (S1), even amid a rollout: there is
    one, where any is wanted, and none of another image."""
    ready = [pod for pod in snapshot.pods if pod.ready and not (pod.terminating or pod.over)]
    if not ready:
        return snapshot.exists and snapshot.replicas == 0
    return all(
        _runs(snapshot, pod, expected.image, expected.ref) and wrong_content(snapshot, pod, expected) is None
        for pod in ready
    )


def strays(snapshot: Snapshot, expected: Expectation) -> Iterator[tuple[PodView, ContainerView]]:
    """Pods of the template's own revision that have another image of this service: an update in place was cut
    off, or the ReplicaSet made them from a template that it had read before (S33, S35).

    None while the snapshot shows the template from before the PATCH: its pods serve until the new ones do.
    """
    if not carries(snapshot, expected.image, expected.ref):
        return
    for pod in snapshot.pods:
        if pod.terminating or pod.over or not snapshot.revision or pod.revision != snapshot.revision:
            continue
        for container in our_containers(snapshot, pod, expected.image):
            if is_stray(snapshot, container, expected):
                yield pod, container


def is_stray(snapshot: Snapshot, container: ContainerView, expected: Expectation) -> bool:
    """An image that devloop built for this service, and not the one that the template names; or files of
    another, or of unknown, content."""
    if snapshot.target.kind != "deployment":
        return False
    if container.synced is not None and not container.stale:
        return not holds(container, expected.ref)
    return is_another_build(container.image, expected.ref)


def restarts_of(snapshot: Snapshot) -> Mapping[tuple[str, str], int]:
    """The restart count of every container now, by pod uid and name: where a rollout begins to count."""
    return {(pod.uid, one.name): one.restarts for pod in snapshot.pods for one in pod.containers}


def watched(snapshot: Snapshot, expected: Expectation) -> tuple[PodView, ...]:
    """`own_pods`, their containers without what they did before the rollout began."""
    return tuple(
        replace(pod, containers=tuple(_since(pod, container, expected) for container in pod.containers))
        for pod in own_pods(snapshot, expected.image, expected.ref)
    )


def _since(pod: PodView, container: ContainerView, expected: Expectation) -> ContainerView:
    """The container, with the instances that ended before the rollout began counted out."""
    if expected.restarts is not None:
        begun = expected.restarts.get((pod.uid, container.name), 0)
    else:
        begun = 0 if expected.changed else container.restarts
    return replace(container, first=max(container.first, begun))


def failed_containers(snapshot: Snapshot, expected: Expectation) -> Iterator[tuple[PodView, ContainerView]]:
    """Containers of new pods that ended with a non-zero code: shown at once, no outcome yet (S19)."""
    for pod in watched(snapshot, expected):
        for container in pod.containers:
            if container.exit_code and exits(container) and container.name not in snapshot.awaited:
                yield pod, container


def lost_image(snapshot: Snapshot, expected: Expectation) -> bool:
    """A node does not have (any more) the image that it had: load again (S13)."""
    return any(
        container.waiting in MISSING_IMAGE and same(container.image, expected.ref)
        for pod in own_pods(snapshot, expected.image, expected.ref)
        for container in pod.containers
    )


def settled(snapshot: Snapshot) -> bool:
    """The controller has seen the template as it is now: its numbers speak of it."""
    return snapshot.observed_generation >= snapshot.generation > 0


def is_ours(snapshot: Snapshot, image: str, container: str, text: str) -> bool:
    if snapshot.target.container is not None:
        return container == snapshot.target.container
    return same_repository(text, image)


def _runs(snapshot: Snapshot, pod: PodView, image: str, ref: str) -> bool:
    """Every container of the pod that is ours has the reference in its spec, and an instance of it if any; or
    that content was synced into it (S37)."""
    mine = our_containers(snapshot, pod, image)
    return bool(mine) and all(holds(container, ref) and not container.stale for container in mine)


def holds(container: ContainerView, ref: str) -> bool:
    """What it runs, or is about to, is that image's content: by its image, or by a sync (S37)."""
    if container.synced is not None and not container.stale:
        return container.synced == digest(ref)
    return same(container.image, ref)


def our_containers(snapshot: Snapshot, pod: PodView, image: str) -> list[ContainerView]:
    """The pod's containers that are ours, by the template too: the pod's own image may be another."""
    names = {name for name, text in snapshot.images.items() if is_ours(snapshot, image, name, text)}
    return [c for c in pod.containers if c.name in names or is_ours(snapshot, image, c.name, c.image)]


def wrong_content(snapshot: Snapshot, pod: PodView, expected: Expectation) -> Stuck | None:
    """A ready container that has our tag with another content (S1). A repository digest, as a node
    reports it after a pull, is that of the manifest and cannot be compared."""
    for container in our_containers(snapshot, pod, expected.image) if expected.image_id else ():
        if container.synced is not None:
            continue  # its image is an older one, and what it runs is known (S37)
        if container.image_id and "@" not in container.image_id and container.image_id != expected.image_id:
            return Stuck(
                "WrongImage",
                f"{pod.name} runs {container.image_id[:19]} under {container.image}, not the"
                f" {expected.image_id[:19]} that was loaded",
                hint=f"node {pod.node} holds other content under this tag: remove it there with docker rmi, "
                "then save again",
                pod=pod.name,
                container=container.name,
            )
    return None
