"""One rendered object with the place it came from, and what rules ask of objects: pods, containers, labels.

Everything takes an object as it was written, mistakes of type and all: only the schema rule judges those.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
Place = tuple[str | int, ...]  # ("spec", "containers", 0)

IGNORE = "dev.devloop/ignore"  # annotation: rule ids, separated by commas
LONG_RUNNING = ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet")
POD_PLACES: Mapping[str, Place] = {
    **dict.fromkeys((*LONG_RUNNING, "Job", "ReplicationController"), ("spec", "template")),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
    "Pod": (),
}


def mapping(value: Any) -> Json:
    return value if isinstance(value, dict) else {}


def listing(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def dig(value: Any, *place: str | int) -> Any:
    """What stands at `place`, None where there is nothing."""
    for part in place:
        if isinstance(part, int):
            value = listing(value)[part] if part < len(listing(value)) else None
        else:
            value = mapping(value).get(part)
    return value


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """`lines`: place in the object -> line of `file`, as far as known; `namespace`: its own or its release's;
    `group`: the release, or "manifests"."""

    item: Json
    namespace: str = "default"
    group: str = ""
    file: str = ""
    lines: Mapping[Place, int] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.kind} {self.name}".strip()

    @property
    def kind(self) -> str:
        return str(self.item.get("kind") or "")

    @property
    def name(self) -> str:
        return str(dig(self.item, "metadata", "name") or "")

    @property
    def labels(self) -> Json:
        return mapping(dig(self.item, "metadata", "labels"))

    @property
    def ignored(self) -> frozenset[str]:
        """The rules that its annotation switches off."""
        text = str(dig(self.item, "metadata", "annotations", IGNORE) or "")
        return frozenset(filter(None, (word.strip() for word in text.split(","))))

    def at(self, *place: str | int) -> Any:
        return dig(self.item, *place)

    def line(self, place: Place = ()) -> int:
        """Line of the place, or of the nearest around it; 0 where none is known."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 0)

    @property
    def pod_place(self) -> Place | None:
        """Where the pod (its metadata and spec) stands; None for what makes no pods."""
        return POD_PLACES.get(self.kind)

    @property
    def pod_labels(self) -> Json:
        place = self.pod_place
        return {} if place is None else mapping(self.at(*place, "metadata", "labels"))

    @property
    def replicas(self) -> int:
        """Pods at the same time; 1 by default."""
        value = self.at("spec", "replicas")
        return value if isinstance(value, int) and self.kind in LONG_RUNNING else 1

    def containers(self) -> Iterator[Container]:
        """Its containers, init containers last."""
        if self.pod_place is None:
            return
        for key in ("containers", "initContainers"):
            place = (*self.pod_place, "spec", key)
            for number, item in enumerate(listing(self.at(*place))):
                yield Container(self, (*place, number), mapping(item), init=key != "containers")


@dataclass(frozen=True, slots=True, eq=False)
class Container:
    subject: Subject
    place: Place
    item: Json
    init: bool = False

    def __str__(self) -> str:
        return f"container {self.name}"

    @property
    def name(self) -> str:
        return str(self.item.get("name") or "")

    @property
    def image(self) -> str:
        return str(self.item.get("image") or "")

    def ports(self) -> Iterator[tuple[int, str, int, str]]:
        """(index, name, number, protocol) of each declared port."""
        for index, port in enumerate(listing(self.item.get("ports"))):
            number = mapping(port).get("containerPort")
            if isinstance(number, int):
                yield index, str(port.get("name") or ""), number, str(port.get("protocol") or "TCP")


def matches(selector: Json, labels: Json) -> bool:
    """A selector of equalities on labels; an empty one matches nothing here."""
    return bool(selector) and all(labels.get(key) == value for key, value in selector.items())
