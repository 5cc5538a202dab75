"""The rules of the suite itself: it knows nothing of devloop, and every test names its page."""

from __future__ import annotations

import ast
from pathlib import Path

FOLDER = Path(__file__).parent
PAGES = (
    "https://kubernetes.io/",
    "https://helm.sh/docs/",
    "https://github.com/kubernetes/community/",
)


def modules() -> dict[str, ast.Module]:
    found = sorted(FOLDER.glob("*.py"))
    return {path.name: ast.parse(path.read_text()) for path in found if path != Path(__file__)}


def test_suite_never_imports_devloop() -> None:
    for name, tree in modules().items():
        for node in ast.walk(tree):
            imported = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            assert not [m for m in imported if m.split(".")[0] == "devloop"], name


def test_every_test_names_the_page_that_it_is_written_from() -> None:
    count = 0
    for name, tree in modules().items():
        if not name.startswith("test_"):
            continue
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                page = ast.get_docstring(node) or ""
                assert page.startswith(PAGES), f"{name}::{node.name}: {page!r}"
                count += 1
    assert count >= 120
