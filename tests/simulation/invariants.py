"""What must hold after every step, and what at the end when nothing moves any more."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from devloop.control.waiting import Decision
from devloop.errors import DevloopError
from devloop.events import (
    ConfigReloaded,
    Event,
    LiveChanged,
    Notice,
    Outage,
    TripEnded,
    TripStarted,
    Updated,
    UpdateFallback,
)
from devloop.model import Live, Unchanged
from devloop_sandbox.store.store import Store
from tests.simulation.engine import Engine
from tests.simulation.node import Content, setting_of
from tests.simulation.script import SERVICES, resource_of
from tests.simulation.tree import Tree

DEBOUNCE = 0.5  # seconds in which an event may wait for others before a trip takes it up
NOTICED = 45.0  # seconds after which nobody may still be called live with what was there before an event
ENDED_IDLE = frozenset({"BuildIdle", "LoadIdle"})
BAD = frozenset({"crash", "never", "broken"})
APPS = "/apis/apps/v1/namespaces/default/"
PODS = "/api/v1/namespaces/default/pods"


@dataclass(slots=True)
class _Shown:
    state: str = "starting"
    live: bool = False
    ref: str = ""


class Watchman:
    """A sink. `violations` are what must never be, each with its time."""

    def __init__(self, kinds: Mapping[str, str], tree: Tree, engine: Engine, store: Store) -> None:
        self._resources = {name: resource_of(kind) for name, kind in kinds.items()}
        self._tree, self._engine, self._store = tree, engine, store
        self.violations: list[str] = []
        self.trace: list[str] = []
        self.trips = 0
        self.answers: Counter[str] = Counter()  # of waits: the state that was decided -> how many
        self._shown: dict[str, _Shown] = {}
        self._under_way: set[str] = set()
        self._paused: set[str] = set()
        self._reason: dict[str, str] = {}  # service -> why its last trip failed

    def begin(self) -> None:
        """A new life of devloop: nothing is shown yet, and nothing is paused."""
        self._paused = set()
        self._shown = {}
        self._under_way = set()

    def __call__(self, event: Event) -> None:
        match event:
            case TripStarted(service=service):
                self.trips += 1
                if service in self._under_way:
                    self._violated(f"two trips of {service} at once")
                if service in self._paused:
                    self._violated(f"a trip of {service} begins, and it is paused")
                self._under_way.add(service)
                self._note(f"{service} trip: {event.change.why} {sorted(p.name for p in event.change.paths)}")
            case TripEnded(service=service):
                self._under_way.discard(service)
                error = getattr(event.outcome, "error", "")
                self._reason[service] = error.reason if isinstance(error, DevloopError) else ""
                self._note(f"{service} ended: {type(event.outcome).__name__} {str(error)[:150]}")
                if "internal error" in str(error):
                    self._violated(f"{service}: {error}")
            case LiveChanged(service=service):
                self._shown[service] = _Shown(event.state, event.live, event.ref)
                self._note(f"{service} is {event.state} {event.ref}")
                if event.live:
                    self._check_claim(service, event.ref)
            case Updated(service=service):
                self._note(f"{service} updated: {event.mode}")
            case UpdateFallback(service=service):
                self._note(f"{service} not in place: {event.reason}")
            case ConfigReloaded():
                self._note(f"config: {event.services} gone {event.gone}")
                self._paused -= {*event.gone}
                for service in event.gone:
                    self._shown.pop(service, None)
                self._under_way -= {*event.gone, *event.services}  # handed over: it ends unseen
            case Notice():
                self._note(f"{event.service or '-'}: {event.message[:150]}")
                if "internal error" in event.message:
                    self._violated(event.message)
            case Outage():
                self._note(f"-: {event.what} {'is back' if event.over else 'gone: ' + event.message[:150]}")
            case _:
                pass

    def answered(self, service: str, asked: float, decision: Decision) -> None:
        """A `devloop wait` got its answer: live is a tree of the moment when it was asked, or a later one."""
        self.answers[decision.state] += 1
        self._note(f"{service} wait of {asked:.2f}: {decision.state}")
        outcome = decision.standing.outcome
        if decision.state == "live":
            assert isinstance(outcome, Live | Unchanged)
            ref = outcome.ref if isinstance(outcome, Unchanged) else outcome.image.ref
            content = self._content(ref)
            if content is not None and not _is_of(content, self._tree.since(service, asked)):
                self._violated(
                    f"{service}: the wait of {asked:.2f} is answered live, of an older tree: {ref}"
                )
            self._check_pods_run(service, ref)

    def ordered(self, service: str, what: str) -> None:
        """devloop did so: from a pause on no trip may begin."""
        self._note(f"{service} was ordered to {what}")
        if what == "pause":
            self._paused.add(service)
        elif what == "resume":
            self._paused.discard(service)

    def heard(self, service: str, moment: float) -> None:
        """a save was delivered to devloop; after a time nobody may be called live with what was before."""
        loop = asyncio.get_running_loop()
        loop.call_later(NOTICED, self._check_noticed, service, moment)

    def written(self, path: str) -> None:
        # Pods: one that blocks a StatefulSet's rollout, and those that are updated in place.
        own = [f"{folder}/{name}-" for folder in (PODS, APPS + "replicasets") for name in SERVICES]
        if not path.startswith((*(APPS + one for one in self._resources.values()), *own)):
            self._violated(f"wrote to {path}")

    # --- at any time ------------------------------------------------------------------------------

    def _check_claim(self, service: str, ref: str) -> None:
        """ "live" was shown just now: the reference holds each file as it was since the newest event.

        Each for itself: while events are late, a look at the one file whose event came reads what was saved
        after another one, whose event has yet to come.
        """
        moment = asyncio.get_running_loop().time()
        content = self._content(ref)
        heard = [at for at in self._tree.delivered.get(service, ()) if at[1] <= moment - DEBOUNCE]
        since = max((saved for saved, _ in heard), default=0.0)
        allowed = self._tree.since(service, since)
        if content is not None and not _is_of(content, allowed):
            self._violated(f"{service} is called live with {ref}, which is older than the newest event")
        self._check_pods_run(service, ref)

    def _check_pods_run(self, service: str, ref: str) -> None:
        content = self._content(ref)
        for pod in self._pods(service):
            running, synced = self._engine.node.runs(pod), self._engine.node.synced(pod)
            if synced is not None and not _is_over(pod) and content is not None and synced != content:
                self._violated(f"{service} is called live with {ref}, and other files are in a pod")
            if (
                not _is_over(pod)
                and pod["spec"]["containers"][0]["image"] == ref
                and running not in ("", ref)
            ):
                self._violated(f"{service} is called live with {ref}, and {running} still runs in a pod")

    def _check_noticed(self, service: str, moment: float) -> None:
        shown = self._shown.get(service)
        if shown is None or not shown.live:
            return
        content = self._content(shown.ref)
        if content is not None and content not in self._tree.since(service, moment):
            self._violated(f"{service} is still called live with {shown.ref} {NOTICED:.0f} s after an event")

    # --- at quiet ---------------------------------------------------------------------------------

    def check_quiet(self, board: dict[str, Any]) -> None:
        """Converged to the tree, or a failure that is shown and true; every output agrees."""
        for line in self._engine.wrong:
            self._violated(line)
        cards = board["services"]
        for service in SERVICES:
            shown, wanted = self._shown.get(service, _Shown()), self._tree.wanted(service)
            card = cards.get(service)
            if card is None or card["live"] != shown.live:
                self._violated(f"{service}: status has {card and card['live']}, the events {shown.live}")
            if shown.state == "contested":
                continue
            setting = BAD & set(self._tree.setting(service).split()) - {"broken"}  # that one is a build's
            bad = setting | (BAD & (wanted.words if wanted else frozenset()))
            if wanted is None or bad:
                words = "no Dockerfile" if wanted is None else ", ".join(sorted(bad))
                no_pod = wanted is not None and "broken" not in wanted.words and self._wants_no_pod(service)
                if (shown.live or shown.state not in ("failed", "degraded")) and not no_pod:
                    self._violated(f"{service} is called {shown.state}, and its tree is bad: {words}")
            elif self._reason.get(service) in ENDED_IDLE:
                continue  # it hung, was ended, and is reported: the next save tries it again
            elif not shown.live:
                self._violated(f"{service} is called {shown.state} at the end, and its tree is good")
            else:
                self._check_pods(service, wanted)

    def _wants_no_pod(self, service: str) -> bool:
        item = self._store.find(self._resources[service], "default", service)
        return item is not None and item["spec"].get("replicas") == 0

    def _check_pods(self, service: str, wanted: Content) -> None:
        item = self._store.find(self._resources[service], "default", service)
        if item is None:
            self._violated(f"{service} is called live, and there is no workload")
            return
        replicas = item["spec"].get("replicas", 1)
        pods = self._pods(service)
        self._check_names(service, item, pods)
        ready = [pod for pod in pods if _is_ready(pod)]
        if len(ready) != replicas:
            self._violated(f"{service} is called live with {len(ready)} of {replicas} pods ready")
        for pod in ready:
            if self._engine.node.content(pod) != wanted:
                self._violated(f"{service}: {pod['metadata']['name']} runs another content than the tree")
            if setting_of(pod) != self._tree.setting(service):
                self._violated(f"{service}: {pod['metadata']['name']} is not as its manifest says")

    def _pods(self, service: str) -> list[dict[str, Any]]:
        return self._store.list(
            "pods", "default", lambda pod: pod["metadata"]["labels"].get("app") == service
        )

    def _check_names(self, service: str, item: dict[str, Any], pods: Sequence[dict[str, Any]]) -> None:
        """Workload, ReplicaSet and pods name one image, and nobody's pause was left."""
        if item["spec"].get("paused"):
            self._violated(f"{service} is called live, and its Deployment is paused")
        sets = self._store.list(
            "replicasets", "default", lambda one: one["metadata"]["labels"].get("app") == service
        )
        specs = [one["spec"]["template"]["spec"] for one in (item, *sets) if one["spec"].get("replicas", 1)]
        named = [pod for pod in pods if not (_is_over(pod) or self._engine.node.synced(pod))]
        specs += [pod["spec"] for pod in named]  # a pod into which files were synced keeps its image (S37)
        images = {spec["containers"][0]["image"] for spec in specs}
        if len(images) > 1:
            self._violated(f"{service} is called live, and its objects name {sorted(images)}")

    def _content(self, ref: str) -> Content | None:
        image = self._engine.node.images.get(ref) or self._engine.built.get(ref)
        return self._engine.contents.get(image) if image else None

    def _violated(self, text: str) -> None:
        line = f"{asyncio.get_running_loop().time():.2f} {text}"
        self.violations.append(line)
        self.trace.append(f"!!! {line}")

    def _note(self, text: str) -> None:
        self.trace.append(f"{asyncio.get_running_loop().time():.2f} {text}")


def _is_of(content: Content, moments: Sequence[Content | None]) -> bool:
    """Whether each file of the image, or that there is none, is as at one of these moments."""
    trees = [moment.files for moment in moments if moment is not None]
    paths = {path for files in (content.files, *trees) for path in files}
    return all(any(files.get(path) == content.files.get(path) for files in trees) for path in paths)


def _is_over(pod: dict[str, Any]) -> bool:
    return "deletionTimestamp" in pod["metadata"] or pod.get("status", {}).get("phase") in (
        "Failed",
        "Succeeded",
    )


def _is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions") or ()
    ready = any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"] and pod["status"].get("phase") == "Running"
