"""An image that deltas can stand on."""

from __future__ import annotations

from dataclasses import dataclass

from devloop.delta.layer_index import Layers
from devloop.delta.outputs import Outputs
from devloop.model import Inputs


@dataclass(frozen=True, slots=True)
class Carried:
    """An image that was built on a parent, and no delta: the next one stands on the same parent.

    `id`: of that image; `inputs` and `ref` are the parent's own.
    """

    id: str
    inputs: Inputs
    ref: str


@dataclass(frozen=True, slots=True)
class Parent:
    """An image that deltas can stand on, and all that a delta must know of it.

    `recipe`: what it was built from beside the files, see `recipe`. `config`: its config JSON. `layers`:
    one for each diff_id, lowest first. `full`: how many of them the last full build gave; those above are
    deltas. `outputs`: what its COPYs out of other stages brought, where deltas have changed that since.
    `carries`: what it is remembered for, where that is another image.
    """

    recipe: str
    config: bytes
    diff_ids: tuple[str, ...]
    layers: Layers
    full: int
    outputs: Outputs | None = None
    carries: Carried | None = None
