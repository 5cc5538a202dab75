"""Temporary files of editors, by name: what the watcher does not report."""

from __future__ import annotations

import re

EDITOR_TEMPORARIES = re.compile(
    r"""
    .*~                             # vim and emacs backups, numbered ones too
    | \.[^/]*\.sw[a-z] | \.sw[a-z]  # vim and nano swap files
    | \.\#.* | \#.*\#               # emacs locks and auto-saves
    | .*___jb_(tmp|old|bak)___      # JetBrains' safe write
    | \.?[^/]*\.kate-swp
    | \.goutputstream-[A-Z0-9]{6}   # GNOME
    | .*\.vsctmp | \.vscode-.*tmp   # VS Code
    | (?=.*[A-Z0-9])sed[A-Za-z0-9]{6}  # sed -i
    | \.tmp[A-Za-z0-9]{6}           # Zed, and whatever uses Rust's tempfile
    | \.subl[a-z0-9]+\.tmp          # Sublime Text
    | \.~lock\..*\# | ~\$.*         # office programs
    | \.nfs[0-9a-f]{8,} | \.fuse_hidden[0-9a-f]+
    | \.DS_Store
    """,
    re.VERBOSE | re.DOTALL,
)


_PATTERNS = (  # of names of a kind, for an ignore file
    (re.compile(r".*~", re.DOTALL), "*~"),
    (re.compile(r"\.#.*", re.DOTALL), ".#*"),
    (re.compile(r"#.*#", re.DOTALL), "#*#"),
    (re.compile(r".*\.sw[a-z]", re.DOTALL), "*.sw?"),
)


def ignore_pattern(name: str) -> str:
    """The line of a .dockerignore that leaves out temporary files of this one's kind, in every folder."""
    found = (pattern for kind, pattern in _PATTERNS if kind.fullmatch(name))
    return f"**/{next(found, name)}"


def is_editor_temporary(name: str) -> bool:
    """Does a file of this base name come and go while an editor saves? For the watcher alone:
    whatever a COPY takes counts in the fingerprint, however it is called."""
    if name.isdecimal() and name.isascii():
        # vim probes whether a directory is writable with 4913, then 5036, 5159, ...
        return 4913 <= int(name) < 4913 + 123 * 20 and (int(name) - 4913) % 123 == 0
    return EDITOR_TEMPORARIES.fullmatch(name) is not None
