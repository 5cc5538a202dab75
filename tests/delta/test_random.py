"""Any series of edits, delta upon delta: the image stays what a full build of the tree gives."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import docker
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devloop.delta.delta import Delta
from tests.delta.test_matrix import bench_for, check
from tests.inputs.test_walk import _edit
from tests.support.delta_bench import fix_times, make_base
from tests.support.delta_shapes import SHAPES

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(600)]

_SHAPES = [
    s for s in SHAPES if s.name in ("directory", "workdir-after", "twice-elsewhere", "chmod", "chown-names")
]
_NAME = st.sampled_from(["pkg", "a.py", "data", "tree", "x", "link", "new"])
_PATH = st.lists(_NAME, min_size=1, max_size=3).map("/".join)
_EDIT = st.tuples(st.sampled_from(["write", "mkdir", "delete", "chmod", "link", "move"]), _PATH, _PATH)


def chmods_directory(source: Path, edit: tuple[str, str, str]) -> bool:
    """BuildKit's context cache does not notice where only the mode of a directory changed (fsutil's
    DiskWriter): the full build would be wrong, and the delta right."""
    return edit[0] == "chmod" and (source / edit[1]).is_dir()


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    shape=st.sampled_from(_SHAPES),
    batches=st.lists(st.lists(_EDIT, min_size=1, max_size=4), min_size=1, max_size=3),
)
def test_random_edits_delta_upon_delta(shape, batches) -> None:  # type: ignore[no-untyped-def]
    client = docker.from_env().api
    make_base(client)
    client.close()
    home = Path(tempfile.mkdtemp())
    bench = bench_for(shape, home / "home")
    try:
        before = bench.inputs()
        parent = bench.parent(bench.build("before"), before)
        for batch in batches:
            for edit in batch:
                if not chmods_directory(bench.context / "src", edit):
                    _edit(bench.context / "src", edit)
            fix_times(bench.context)
            after = bench.inputs()
            made = bench.delta(parent, before, after, "random")
            assert isinstance(made, Delta), made
            check(bench, made, str(batches), keep=True)
            parent, before = made.parent, after
    finally:
        bench.close()
        shutil.rmtree(home)
