"""An image that deltas can stand on."""

from __future__ import annotations

from dataclasses import dataclass

from devloop.delta.layer_index import Layers
from devloop.delta.outputs import Outputs


@dataclass(frozen=True, slots=True)
class Parent:
    """An image that deltas can stand on, and all that a delta must know of it.

    `recipe`: what it was built from beside the files, see `recipe`. `config`: its config JSON. `layers`:
    one for each diff_id, lowest first. `full`: how many of them the last full build gave; those above are
    deltas. `outputs`: what its COPYs out of other stages brought, where deltas have changed that since.
    """

    recipe: str
    config: bytes
    diff_ids: tuple[str, ...]
    layers: Layers
    full: int
    outputs: Outputs | None = None
