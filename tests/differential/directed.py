"""For each planted bug, one case in which it shows: the Dockerfile, the tree and the edit."""

from __future__ import annotations

from tests.differential.case import SERVER, Case
from tests.differential.edits import Edit
from tests.differential.test_found import FOUND, case

_TREE: dict[str, str | None] = {
    "src/main.py": "main\n",
    "src/pkg/a.py": "a\n",
    "src/pkg/b.py": "b\n",
    "src/link": "-> main.py",
    "src/run.sh": "! 755 echo run\n",
}
_OWNED = case("COPY --chown=5:6 src /app", _TREE, Edit("write", "src/pkg/a.py"))
_DELETED = case("COPY src /app", _TREE, Edit("delete", "src/pkg/a.py"))


def _found(name: str) -> Case:
    return FOUND[name][0]


DIRECTED: dict[str, Case] = {
    "no parent directories": _OWNED,
    "parent directories as new ones": _OWNED,
    "wrong whiteout": _DELETED,
    "whiteout in the wrong directory": _DELETED,
    "deletions forgotten": _DELETED,
    "lost mode": _found("a directory turns up that the base has too"),
    "mode-only change not seen": case("COPY src /app", _TREE, Edit("chmod", "src/run.sh", "700")),
    "wrong owner": _OWNED,
    "owner of the model alone": case("COPY --chown=5:6 src /app", _TREE, Edit("create", "src/new.py")),
    "lost time": _found("an edit beside the passwd, and a name after it"),
    "lost link": case("COPY src /app", _TREE, Edit("link", "src/link", "pkg")),
    "chmod ignored": case("COPY --chmod=640 src /app", _TREE, Edit("create", "src/new.py")),
    "destination's link not followed": case("COPY src /lnk", _TREE, Edit("write", "src/main.py")),
    "first COPY wins": _found("the first of a wildcard's files is covered"),
    "what lies beneath ignored": case(
        "RUN mkdir -p /app && echo base > /app/main.py\nCOPY src /app", _TREE, Edit("delete", "src/main.py")
    ),
    "RUN after the COPY ignored": case(
        "COPY src /app\nRUN cp -a /app /again", _TREE, Edit("write", "src/main.py")
    ),
    "directory becomes a plain file without a type": _found("a directory turns up that the base has too"),
    "what a later line writes is taken for the context's": _found(
        "a later ADD of a URL goes into the directory"
    ),
    "names of users are taken for settled": _found("--chown=NAME and a passwd that was copied"),
    "destinations are taken for settled": _found("a file's destination becomes a link"),
    "wildcards in the order of their text": _found("the last of a wildcard's files is that of a walk"),
    "--chmod of setuid files as written": _found("--chmod and a setuid file"),
    "several kinds of sources ignored": case(
        f"ADD src {SERVER}/set.ini /app/", {"src/a": "a\n"}, Edit("create", "src/set.ini")
    ),
}
