"""Temporary files of editors, by name."""

from __future__ import annotations

import pytest

from devloop.dockerfile.dockerignore import IgnoreRules
from devloop.watch.editor_files import ignore_pattern, is_editor_temporary

TEMPORARIES = """
x~ .x.swp .x.swo .main.py.swx 4913 5036 .#main.py #main.py# main.py.~1~ a.py___jb_tmp___ a.py___jb_old___
.a.kate-swp .goutputstream-4T8JX2 sedAb12Cd main.py.vsctmp .DS_Store .~lock.a.odt# .nfs0000000000001234
"""
ORDINARY = """
main.py sediments x.swift 4914 8080 a.tmp .env .gitignore sed .swiftlint.yml a.svelte data.sqlite
"""


def test_editors_temporaries_are_known() -> None:
    assert [name for name in TEMPORARIES.split() if not is_editor_temporary(name)] == []
    assert [name for name in ORDINARY.split() if is_editor_temporary(name)] == []


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("main.py~", "**/*~"),
        (".main.py.swp", "**/*.sw?"),
        (".#main.py", "**/.#*"),
        ("#main.py#", "**/#*#"),
        ("4913", "**/4913"),
        (".DS_Store", "**/.DS_Store"),
    ],
)
def test_the_line_that_is_recommended_leaves_the_file_out_wherever_it_lies(name: str, line: str) -> None:
    """`*.swp` in a .dockerignore is of the top folder alone; for `a.txt~` it was `*.txt~`."""
    assert is_editor_temporary(name)
    assert ignore_pattern(name) == line
    rules = IgnoreRules.parse(f"{line}\n", ".dockerignore")
    assert rules.leaves_out(name)
    assert rules.leaves_out(f"src/deep/{name}")
    assert not rules.leaves_out("src/main.py")
