"""docs/dependencies.md and pyproject.toml name the same packages, and the modules it names import them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Where the name of a distribution is not that of what is imported.
IMPORTED = {
    "pyyaml": "yaml",
    "dnspython": "dns",
    "protobuf": "google.protobuf",
    "helm-python-sdk": "helm_python",
    "prometheus-client": "prometheus_client",
    "kubernetes-validate": "kubernetes_validate",
}


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=!~\[; ]", one)[0] for one in requirements}


def table(heading: str) -> dict[str, list[str]]:
    """The rows below a heading: first cell -> the others."""
    page = (ROOT / "docs" / "dependencies.md").read_text()
    section = page.split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if "|" in line
    ]
    return {first: rest for first, *rest in rows[2:]}


def test_the_page_lists_what_the_package_brings() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert table("What `pip install devloop` brings").keys() == names(project["dependencies"])
    extras = {
        (one, extra) for extra, listed in project["optional-dependencies"].items() for one in names(listed)
    }
    assert {(name, row[0]) for name, row in table("What an extra adds").items()} == extras


def test_the_modules_that_it_names_import_the_package() -> None:
    rows = table("What `pip install devloop` brings") | table("What an extra adds")
    for name, row in rows.items():
        modules = re.findall(r"`(devloop\w*/[\w/]+\.py)`", " ".join(row))
        assert modules, f"{name}: no module"
        for module in modules:
            wanted = rf"^\s*(from|import) {re.escape(IMPORTED.get(name, name))}\b"
            assert re.search(wanted, (ROOT / module).read_text(), re.MULTILINE), f"{module} imports no {name}"
