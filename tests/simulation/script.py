"""What users and the world do in one run: a list of steps, drawn by a seed, or written down by hand."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

SERVICES = ("api", "web", "worker")
STATEFUL_FROM = 10_000  # seeds from here on have one service as a StatefulSet,
IN_PLACE_FROM = 20_000  # and from here on update the others in place
WAITS_FROM = 30_000  # from here on `devloop wait` follows each step, and every second seed is in place
SYNC_FROM = 40_000  # from here on services are synced,
ALL_MODES_FROM = 50_000  # and from here on one of them is updated in place
ORDERS_FROM = 60_000  # from here on services are paused, resumed, rebuilt and restarted
MINUTES = 15
STEPS = 110


Draw = Callable[[random.Random, float], Sequence["Step"]]


@dataclass(frozen=True, slots=True)
class Step:
    """`what` is the name of a method of `actions.Actions`, `words` are its arguments."""

    at: float  # loop time in seconds
    what: str
    words: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " ".join((f"{self.at:.2f}", self.what, *self.words))

    @classmethod
    def parse(cls, line: str) -> Step:
        at, what, *words = line.split()
        return cls(float(at), what, tuple(words))


def kinds_of(seed: int) -> dict[str, str]:
    """What runs each service."""
    kinds = dict.fromkeys(SERVICES, "Deployment")
    return kinds | {"worker": "StatefulSet"} if seed >= STATEFUL_FROM else kinds


def updates_of(seed: int) -> dict[str, str]:
    """How a new image gets into each service's pods."""
    if seed >= SYNC_FROM:
        return dict.fromkeys(SERVICES, "sync") | ({"web": "in-place"} if seed >= ALL_MODES_FROM else {})
    in_place = seed >= IN_PLACE_FROM and (seed < WAITS_FROM or seed % 2)
    return dict.fromkeys(SERVICES, "in-place" if in_place else "roll")


def resource_of(kind: str) -> str:
    return f"{kind.lower()}s"


def random_script(seed: int) -> list[Step]:
    """At least STEPS steps over MINUTES, of which at least five are troubles of the world."""
    rng = random.Random(seed)
    steps: list[Step] = []
    moment = 5.0
    pause = 60.0 * MINUTES / STEPS
    kinds: tuple[Draw, ...] = (_user, _project, _other_writer, _trouble, _life)
    weights: tuple[int, ...] = (60, 8, 10, 20, 2)
    if seed >= IN_PLACE_FROM:
        kinds, weights = (*kinds, _life_at_a_write), (*weights, 6)
    if seed >= SYNC_FROM:
        kinds, weights = (*kinds, _container), (*weights, 12)
    if seed >= ORDERS_FROM:
        kinds, weights = (*kinds, _order), (*weights, 10)
    while len(steps) < STEPS or moment < 60 * MINUTES:
        kind = rng.choices(kinds, weights)[0]
        steps += kind(rng, moment)
        moment += rng.expovariate(1 / pause) if rng.random() < 0.8 else rng.random() * 0.3
    return sorted(steps, key=lambda step: step.at)


def _user(rng: random.Random, at: float) -> list[Step]:
    service = rng.choice(SERVICES)
    what = rng.choices(
        ("save", "burst", "revert", "touch", "ignored", "delete", "rename"), (50, 15, 15, 5, 5, 6, 4)
    )[0]
    if what == "burst":
        return [
            Step(at + 0.02 * index, "save", (service, rng.choice("abc"), str(rng.randrange(10**6))))
            for index in range(rng.randrange(2, 12))
        ]
    if what == "save":
        return [Step(at, what, (service, rng.choice("abc"), str(rng.randrange(10**6)), *_mood(rng)))]
    return [Step(at, what, (service, rng.choice("abc")))]


def _mood(rng: random.Random) -> tuple[str, ...]:
    """Mostly the code works."""
    return (rng.choice(("crash", "slow", "never", "deaf", "broken")),) if rng.random() < 0.2 else ()


def _project(rng: random.Random, at: float) -> list[Step]:
    service = rng.choice(SERVICES)
    what = rng.choice(
        (
            "leave",
            "leave",
            "spoil_config",
            "move_cluster",
            "env",
            "env",
            "spoil_manifest",
            "lose_dockerfile",
            "move_folder",
        )
    )
    back = at + rng.choice((0.05, 1.0, 10.0, 40.0))
    mend = {
        "leave": "mend_config", "spoil_config": "mend_config", "move_cluster": "mend_config",
        "spoil_manifest": "mend_manifest", "lose_dockerfile": "mend_dockerfile", "move_folder": "move_back",
    }.get(what)  # fmt: skip
    mood = _mood(rng) if what == "env" else ()
    steps = [Step(at, what, (service, str(rng.randrange(10**6)), *mood))]
    return [*steps, Step(back, mend, (service,))] if mend else steps


def _other_writer(rng: random.Random, at: float) -> list[Step]:
    what = rng.choice(("set_image", "scale", "scale", "delete_target", "restart", "delete_pod", "annotate"))
    return [Step(at, what, (rng.choice(SERVICES), str(rng.choice((0, 1, 2, 3)))))]


TROUBLES = (
    "api_away", "api_slow", "watch_silent", "watch_late", "events_late", "events_lost", "engine_away",
    "build_slow", "build_hangs", "load_hangs", "node_slow", "rough", "forget_images", "prune_node", "evict",
    "no_base", "jump_clock",
)  # fmt: skip


def _trouble(rng: random.Random, at: float) -> list[Step]:
    seconds = rng.choice((0.3, 2.0, 8.0, 30.0))
    return [Step(at, rng.choice(TROUBLES), (rng.choice(SERVICES), str(seconds)))]


def _life(rng: random.Random, at: float) -> list[Step]:
    return [Step(at, "kill", (str(rng.choice((0.1, 1.0, 10.0))),))]


def _container(rng: random.Random, at: float) -> list[Step]:
    """A container that is killed, or a devloop that is ended as a user does it."""
    if rng.random() < 0.3:
        return [Step(at, "stop", (str(rng.choice((0.1, 1.0, 10.0))),))]
    return [Step(at, "kill_container", (rng.choice(SERVICES), "0"))]


def _order(rng: random.Random, at: float) -> list[Step]:
    """What people have a running watch do. A pause ends at some time."""
    service, what = rng.choice(SERVICES), rng.choice(("pause", "pause", "resume", "rebuild", "restart"))
    steps = [Step(at, "order", (service, what))]
    if what == "pause":
        steps.append(Step(at + rng.choice((0.05, 5.0, 40.0)), "order", (service, "resume")))
    return steps


def _life_at_a_write(rng: random.Random, at: float) -> list[Step]:
    """kill -9 right after one of the next writes to the cluster."""
    return [Step(at, "kill_at_write", (str(rng.randrange(1, 7)), str(rng.choice((0.1, 1.0, 10.0)))))]
