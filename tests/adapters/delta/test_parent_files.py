"""The records of parents are bounded, on disk and in memory (S27)."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from devloop.adapters.delta.parent_files import FORGOTTEN_SECONDS, KEEP, ParentFiles
from devloop.delta.delta import Parent
from devloop.delta.layer_index import Layer, LayerNode, Layers


def parent(number: int, base: str = "b" * 64) -> Parent:
    layers = (
        Layer({"base": LayerNode("dir", 0o755, 0, 0)}),
        Layer({f"f{number}": LayerNode("file", 0o644, 0, 0)}),
    )
    diff_ids = f"sha256:{base}", f"sha256:{number:064x}"
    config = json.dumps({"rootfs": {"diff_ids": diff_ids}}).encode()
    return Parent("r", config, diff_ids, Layers(layers), 2)


def write(files: ParentFiles, service: str, number: int) -> None:
    """As a full build is learned: layers first, then the record."""
    made = parent(number)
    for diff_id, layer in zip(made.diff_ids, made.layers.stack, strict=True):
        files.write_layer(diff_id, layer)
    files.write(service, f"{number:016x}", made)


def age(folder: Path, seconds: float) -> None:
    for path in (*folder.rglob("*"), folder):
        os.utime(path, (time.time() - seconds,) * 2)


def test_s27_layers_that_no_record_names_are_forgotten(tmp_path: Path) -> None:
    files = ParentFiles(tmp_path)
    for number in range(50):
        write(files, "web", number)
        age(tmp_path / "layers", 7200)
    write(files, "web", 50)
    assert len(files._layers) == KEEP + 1  # each has its own, and all the base's
    assert len(list((tmp_path / "layers").iterdir())) == KEEP + 1
    assert ParentFiles(tmp_path).read("web", f"{50:016x}") == parent(50)
    assert ParentFiles(tmp_path).read("web", f"{0:016x}") is None


def test_s27_what_is_being_learned_stays(tmp_path: Path) -> None:
    files = ParentFiles(tmp_path)
    files.write_layer(f"sha256:{'c' * 64}", Layer({}))
    write(files, "other", 1)
    assert files.layer(f"sha256:{'c' * 64}") is not None


def test_s27_the_records_of_a_service_that_is_gone_go_after_a_month(tmp_path: Path) -> None:
    files = ParentFiles(tmp_path)
    write(files, "old", 1)
    write(files, "resting", 2)
    age(tmp_path / "of-old", FORGOTTEN_SECONDS + 60)
    age(tmp_path / "of-resting", FORGOTTEN_SECONDS - 3600)
    write(files, "web", 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["layers", "of-resting", "of-web"]
