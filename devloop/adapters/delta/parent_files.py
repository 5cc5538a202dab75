"""The records of parents: a folder with one file per parent, and one per layer, which parents share (S27)."""

from __future__ import annotations

import base64
import json
import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from devloop import state_file
from devloop.adapters.delta import inputs_record
from devloop.clock import Clock
from devloop.delta import outputs
from devloop.delta.delta import Parent
from devloop.delta.layer_index import Layer, Layers
from devloop.delta.parent import Carried

CLOCK = Clock()

KEEP = 5  # parents of one service
BEING_LEARNED_SECONDS = 3600.0  # the record that names a layer is written after it
FORGOTTEN_SECONDS = 30 * 86400.0  # after its last record a service's folder goes


class ParentFiles:
    """Blocking; what cannot be read or written is missing, which costs a full build."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._layers: dict[str, Layer] = {}  # those of full builds and bases

    def layer(self, diff_id: str) -> Layer | None:
        """A layer of a full build or a base: it stays in memory."""
        layer = self._layer(diff_id)
        if layer is not None:
            self._layers[diff_id] = layer
        return layer

    def write_layer(self, diff_id: str, layer: Layer) -> None:
        self._layers[diff_id] = layer
        _write(self._layer_file(diff_id), layer.dump())

    def read(self, service: str, fingerprint: str) -> Parent | None:
        return state_file.read(self._file(service, fingerprint), self._parent, None)

    def _parent(self, record: Any) -> Parent | None:
        """None where a layer is missing. Raises for what is no record of a parent."""
        diff_ids, config = _diff_ids(record), base64.b64decode(record["config"])
        if json.loads(config)["rootfs"]["diff_ids"] != diff_ids or not 0 <= record["full"] <= len(diff_ids):
            raise ValueError("not of one image")
        stack = [self._layer(diff_id) for diff_id in diff_ids]
        known = tuple(layer for layer in stack if layer is not None)
        if len(known) < len(stack):
            return None
        recipe, full = state_file.text(record["recipe"]), state_file.count(record["full"])
        brought = outputs.load(state_file.text(record.get("outputs", "")))
        carries = _carried(record.get("carries"))
        return Parent(recipe, config, tuple(diff_ids), Layers(known), full, brought, carries)

    def write(self, service: str, fingerprint: str, parent: Parent) -> None:
        for diff_id, layer in zip(parent.diff_ids, parent.layers.stack, strict=True):
            if not self._layer_file(diff_id).exists():
                _write(self._layer_file(diff_id), layer.dump())
        record: dict[str, Any] = {
            "recipe": parent.recipe,
            "config": base64.b64encode(parent.config).decode(),
            "diff_ids": parent.diff_ids,
            "full": parent.full,
            "outputs": outputs.dump(parent.outputs),
        }
        if (of := parent.carries) is not None:
            record["carries"] = [of.id, inputs_record.dump(of.inputs), of.ref]
        _write(self._file(service, fingerprint), json.dumps(record).encode())
        self._tidy(self._file(service, fingerprint).parent)

    def remove(self, service: str, fingerprint: str) -> None:
        self._file(service, fingerprint).unlink(missing_ok=True)

    def _layer(self, diff_id: str) -> Layer | None:
        if diff_id in self._layers:
            return self._layers[diff_id]
        try:
            return Layer.load(self._layer_file(diff_id).read_bytes())
        except (OSError, ValueError):
            return None

    def _tidy(self, folder: Path) -> None:
        """Old parents go, those of services that are gone, and the layers that no parent names."""
        for other in self._folder.glob("of-*"):
            if other != folder and CLOCK.now() - _newest(other) > FORGOTTEN_SECONDS:
                shutil.rmtree(other, ignore_errors=True)
        records = sorted(folder.glob("*.json"), key=_age, reverse=True)
        for old in records[KEEP:]:
            old.unlink(missing_ok=True)
        named: set[str] = set()
        for record in self._folder.glob("*/*.json"):
            named.update(state_file.read(record, _diff_ids, []))
        self._layers = {diff_id: layer for diff_id, layer in dict(self._layers).items() if diff_id in named}
        for file in (self._folder / "layers").glob("*.layer"):
            if f"sha256:{file.stem}" not in named and CLOCK.now() - _age(file) > BEING_LEARNED_SECONDS:
                file.unlink(missing_ok=True)

    def _file(self, service: str, fingerprint: str) -> Path:
        return self._folder / f"of-{re.sub(r'[^A-Za-z0-9_.-]', '_', service)}" / f"{fingerprint}.json"

    def _layer_file(self, diff_id: str) -> Path:
        return self._folder / "layers" / f"{diff_id.removeprefix('sha256:')}.layer"


def _carried(record: Any) -> Carried | None:
    """Raises for what is none: a parent that is remembered for another image is no parent of its own."""
    if record is None:
        return None
    image, dumped, ref = map(state_file.text, record)
    inputs = inputs_record.load(dumped)
    if inputs is None:
        raise ValueError("the inputs were too many")
    return Carried(image, inputs, ref)


def _diff_ids(record: Any) -> list[str]:
    return state_file.each(state_file.text)(record["diff_ids"])


def _write(file: Path, content: bytes) -> None:
    """Whole or not at all. Where the disk refuses, the record is missing: that costs a full build."""
    with suppress(OSError):
        state_file.write(file, content)


def _newest(folder: Path) -> float:
    return max(map(_age, folder.glob("*.json")), default=_age(folder))


def _age(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0
