"""How many seconds the probes of a pod add to every save."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from devloop.checks.subject import Container, Subject, mapping

NOTICED = 2  # seconds: up to here nobody waits
PERIOD = 10  # Kubernetes' own, where none is written


@dataclass(frozen=True, slots=True)
class Wait:
    """`seconds`: how long a container that works may have to wait until it counts as ready; `settings`: by
    what."""

    container: str
    seconds: int
    settings: tuple[str, ...]

    @property
    def fix(self) -> str:
        probes = dict.fromkeys(one.partition(".")[0] for one in self.settings if "Probe." in one)
        texts = [f"{probe}: {{initialDelaySeconds: 0, periodSeconds: 1}}" for probe in probes]
        if any("initialDelaySeconds" in one for one in self.settings):
            texts.append("for a slow start, startupProbe: {periodSeconds: 1, failureThreshold: 120}")
        if any(one.startswith("minReadySeconds") for one in self.settings):
            texts.append("minReadySeconds: 0")
        return "; ".join(texts)


def waits(workload: Subject) -> list[Wait]:
    """The containers whose probes cost more than NOTICED seconds."""
    held = _whole(workload.at("spec", "minReadySeconds"), 0)
    found = [_wait(one, held) for one in workload.containers() if not one.init]
    return [one for one in found if one.seconds > NOTICED]


def _wait(container: Container, held: int) -> Wait:
    ready, startup = (mapping(container.item.get(kind)) for kind in ("readinessProbe", "startupProbe"))
    delay = max(_whole(probe.get("initialDelaySeconds"), 0) for probe in (ready, startup))
    # The first look after the process works: the probe that is asked first may just have been asked.
    asked = startup or ready
    period = _whole(asked.get("periodSeconds"), PERIOD) if asked else 0
    more = (
        (_whole(ready.get("successThreshold"), 1) - 1) * _whole(ready.get("periodSeconds"), PERIOD)
        if ready
        else 0
    )
    settings = [
        text
        for kind, probe in (("startupProbe", startup), ("readinessProbe", ready))
        for text in _settings(kind, probe, counts=probe is asked)
    ]
    settings += [f"minReadySeconds {held}"] if held else []
    return Wait(container.name, delay + period + more + held, tuple(settings))


def _settings(kind: str, probe: dict[str, Any], *, counts: bool) -> list[str]:
    """What of a probe makes pods wait, as people read it."""
    if not probe:
        return []
    delay, period = _whole(probe.get("initialDelaySeconds"), 0), probe.get("periodSeconds")
    found = [f"{kind}.initialDelaySeconds {delay}"] if delay else []
    if counts and _whole(period, PERIOD) > 1:
        found.append(f"{kind}.periodSeconds {_whole(period, PERIOD)}{'' if period else ' (the default)'}")
    threshold = _whole(probe.get("successThreshold"), 1)
    return [*found, *([f"{kind}.successThreshold {threshold}"] if threshold > 1 else [])]


def _whole(value: Any, default: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else default
