"""What a later heredoc puts into the image stays (Docker 23 and later), seen from the layers alone.

The layers are as BuildKit 0.13 makes them; tests/differential runs the same on an engine that has heredocs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from devloop.delta.delta import Delta, NotProven
from devloop.delta.layer_index import LayerNode
from tests.delta.test_delta import DIR, FILE, Yard

MADE = {"app": DIR, "app/d": DIR, "app/a": FILE, "app/b": FILE, "app/d/c": FILE}


def yard(home: Path, later: str) -> Yard:
    return Yard(home, f"FROM scratch\nCOPY src /app\n{later}\n")


@pytest.mark.parametrize(
    ("later", "layer", "edited", "reason"),
    [
        ("COPY <<E /app/new\nx\nE", {"app": DIR, "app/new": FILE}, "new", "WrittenAgain"),
        ("COPY <<E /app/a\nx\nE", {"app": DIR, "app/a": FILE}, "a", "WrittenAgain"),
        ("COPY <<new <<two /app/\nx\nnew\ny\ntwo", {"app": DIR, "app/new": FILE}, "new", "WrittenAgain"),
        (
            "COPY <<'E' /app/d/new\nx\nE",
            {"app": DIR, "app/d": DIR, "app/d/new": FILE},
            "d/new",
            "WrittenAgain",
        ),
        ("COPY --chown=5:6 <<-E /app/new\n\tx\n\tE", {"app": DIR, "app/new": FILE}, "new", "WrittenAgain"),
    ],
)
def test_s9_a_file_that_a_later_heredoc_writes_is_not_covered(
    later: str, layer: Mapping[str, LayerNode], edited: str, reason: str, tmp_path: Path
) -> None:
    here = yard(tmp_path, later)
    (here.context / "src" / edited).write_text("from the tree")
    made = here.delta(here.with_layers(MADE, layer))
    assert isinstance(made, NotProven)
    assert made.reason == reason
    assert made.line == 3


def test_s9_a_directory_that_a_later_heredoc_only_goes_through_may_change(tmp_path: Path) -> None:
    here = yard(tmp_path, "COPY <<E /app/d/new\nx\nE")
    (here.context / "src/d/c").write_text("edited")
    made = here.delta(here.with_layers(MADE, {"app": DIR, "app/d": DIR, "app/d/new": FILE}))
    assert isinstance(made, Delta)
    assert made.changed == ("app/d/c",)


def test_s9_a_heredoc_among_the_sources_of_the_context_is_built_in_full(tmp_path: Path) -> None:
    here = Yard(tmp_path, "FROM scratch\nCOPY src/a <<b /app/\nx\nb\n")
    (here.context / "src/a").write_text("edited")
    made = here.delta(here.with_layers({"app": DIR, "app/a": FILE, "app/b": FILE}))
    assert isinstance(made, NotProven)
    assert made.reason == "Mixed"
