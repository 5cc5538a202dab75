"""docs/architecture.md: its picture and its tables are the code's own. DEVLOOP_WRITE_DOCS=1 writes them."""

from __future__ import annotations

import ast
import os
import re
from collections import defaultdict
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "architecture.md"
PACKAGES = {".".join(file.parent.relative_to(ROOT).parts) for file in (ROOT / "devloop").rglob("__init__.py")}
TOP = ("devloop.cli", "devloop.wiring")  # modules that stand for themselves in the picture
GROUND = "ground"  # the other modules beside the packages
# Everything imports these, so that arrows to them show nothing.
BELOW = {GROUND, "devloop.adapters", "devloop.model", "devloop.kubernetes_yaml"}
Edges = dict[str, set[str]]


def node_of(module: str) -> str:
    """Its package, or in adapters the package below that; `ground` for a module that lies beside them."""
    if module in TOP:
        return module
    parts = module.split(".")
    deepest = 3 if parts[1:2] == ["adapters"] else 2
    for size in range(min(deepest, len(parts)), 1, -1):
        if ".".join(parts[:size]) in PACKAGES:
            return ".".join(parts[:size])
    return GROUND


def edges() -> Edges:
    graph = grimp.build_graph("devloop", cache_dir=None)
    found: Edges = defaultdict(set)
    for module in graph.modules:
        for imported in graph.find_modules_directly_imported_by(module):
            here, there = node_of(module), node_of(imported)
            if here != there:
                found[here].add(there)
    return found


def reduced(found: Edges) -> Edges:
    """Without arrows that a longer path says already."""

    def reach(start: str) -> set[str]:
        beyond: set[str] = set()
        waiting = list(found.get(start, ()))
        while waiting:
            one = waiting.pop()
            if one not in beyond:
                beyond.add(one)
                waiting += found.get(one, ())
        return beyond

    return {
        here: {there for there in below if not any(there in reach(other) for other in below - {there})}
        for here, below in found.items()
    }


def short(node: str) -> str:
    return node.removeprefix("devloop.")


def key(node: str) -> str:
    return short(node).replace(".", "_")


def picture() -> str:
    arrows = reduced(
        {here: below - BELOW for here, below in edges().items() if here not in BELOW and below - BELOW}
    )
    names = sorted({*arrows, *(there for below in arrows.values() for there in below)})
    lines = ["```mermaid", "flowchart TD"]
    lines += [f"  {short(name)}" for name in names if not name.startswith("devloop.adapters.")]
    lines += ["  subgraph adapters"]
    lines += [
        f"    {key(name)}[{name.split('.')[-1]}]" for name in names if name.startswith("devloop.adapters.")
    ]
    lines += ["  end"]
    for here in sorted(arrows):
        lines += [f"  {key(here)} --> {key(there)}" for there in sorted(arrows[here])]
    return "\n".join([*lines, "```"])


def sentence(package: str) -> str:
    """The first one of its docstring."""
    text = ast.get_docstring(ast.parse((ROOT / Path(*package.split(".")) / "__init__.py").read_text())) or ""
    return re.split(r"\.(?= Imported| Anyone|$)", text.partition("\n\n")[0].replace("\n", " "))[0] + "."


def table() -> str:
    found = edges()
    lines = ["| package | what goes in, what comes out | imported by |", "|---|---|---|"]
    for package in sorted(PACKAGES - {"devloop"}):
        if node_of(package) != package:
            continue
        by = sorted(short(here) for here, below in found.items() if package in below)
        path = package.replace(".", "/")
        shown = "everybody" if len(by) > 12 else ", ".join(by)
        lines.append(f"| [`{short(package)}`](../{path}/) | {sentence(package)} | {shown} |")
    return "\n".join(lines)


def ground() -> str:
    lines = ["| module | what it holds |", "|---|---|"]
    for file in sorted((ROOT / "devloop").glob("*.py")):
        if file.name != "__init__.py":
            text = (ast.get_docstring(ast.parse(file.read_text())) or "").split("\n\n")[0].replace("\n", " ")
            lines.append(f"| [`{file.stem}`](../devloop/{file.name}) | {text} |")
    return "\n".join(lines)


def test_the_picture_and_the_tables_are_those_of_the_code() -> None:
    page = PAGE.read_text()
    wanted = page
    for name, text in (("picture", picture()), ("packages", table()), ("modules", ground())):
        begin, end = f"<!-- {name}: generated -->", f"<!-- end of {name} -->"
        assert page.count(begin) == page.count(end) == 1
        before, _, rest = wanted.partition(begin)
        wanted = f"{before}{begin}\n{text}\n{end}{rest.partition(end)[2]}"
    if os.environ.get("DEVLOOP_WRITE_DOCS"):
        PAGE.write_text(wanted)
    assert PAGE.read_text() == wanted, "DEVLOOP_WRITE_DOCS=1 pytest tests/test_architecture.py writes it"


def test_every_path_in_the_page_is_there() -> None:
    for name in ("docs/architecture.md", "CONTRIBUTING.md"):
        for path in re.findall(
            r"`((?:devloop|devloop_sandbox|tests|docs|bench|scripts)/[\w./-]*)`", (ROOT / name).read_text()
        ):
            assert (ROOT / path).exists(), f"{name}: {path}"
