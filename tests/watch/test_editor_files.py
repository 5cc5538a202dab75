"""Temporary files of editors, by name."""

from __future__ import annotations

from devloop.watch.editor_files import is_editor_temporary

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
