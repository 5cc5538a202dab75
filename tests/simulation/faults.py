"""What may go wrong, and when: windows of trouble that the script opens, and a seeded dice for the rest."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field


@dataclass
class Faults:
    """`until` maps the name of a trouble to the loop time at which it ends."""

    rng: random.Random
    until: dict[str, float] = field(default_factory=dict)
    rough: float = (
        0.0  # how likely a single answer of the API server or the engine is a bad one, while "rough"
    )

    def rough_for(self, chance: float, seconds: float) -> None:
        self.rough = chance
        self.begin("rough", seconds)

    def begin(self, name: str, seconds: float) -> None:
        self.until[name] = asyncio.get_running_loop().time() + seconds

    def on(self, name: str) -> bool:
        return self.until.get(name, 0.0) > asyncio.get_running_loop().time()

    def heal(self) -> None:
        """From now on nothing goes wrong that the tree does not ask for."""
        self.until.clear()

    def hits(self) -> bool:
        return self.on("rough") and self.rng.random() < self.rough

    def delay(self, shortest: float, longest: float) -> float:
        """Seconds; mostly near the shortest."""
        return shortest + (longest - shortest) * self.rng.random() ** 3
