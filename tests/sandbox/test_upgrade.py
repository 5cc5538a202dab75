"""What an older version of the sandbox left in the state folder: read or dropped, never fatal."""

from __future__ import annotations

import json
from pathlib import Path

from devloop_sandbox.options import Options
from devloop_sandbox.store.disk import Disk
from devloop_sandbox.store.store import Store


def test_options_that_are_no_more_are_ignored(tmp_path: Path) -> None:
    options = Options("x", tmp_path, backoff_scale=0.5)
    older = json.loads(options.dump()) | {"memory_mib": 0, "cpus": 0}
    assert Options.load(json.dumps(older)) == options


def test_objects_of_a_kind_that_is_no_more_served_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    for version, (plural, kind) in enumerate(
        [("resourcequotas", "ResourceQuota"), ("configmaps", "ConfigMap")]
    ):
        obj = {"kind": kind, "metadata": {"name": "a", "namespace": "default", "uid": kind}}
        disk = Disk(path)
        disk.write(plural, ("default", "a"), json.dumps(obj).encode(), version + 2)
        disk.close()
    store = Store(path)
    assert store.get("configmaps", "default", "a")["metadata"]["uid"] == "ConfigMap"
    assert store.resource_version == 3
    store.close()
    left = Disk(path)
    assert [resource for resource, *_ in left.objects()] == ["configmaps"]
    left.close()
