"""Trees and ignore files of every kind, for cases that no engine builds."""

from __future__ import annotations

import random
from collections.abc import Mapping

from tests.differential.edits import Edit

BASES = ("other:1", "tools:1")  # besides the one that is given
_PARTS = (
    "a", "b", "src", "pkg", "a.b", "a-b", "a b", "x.txt", "main.py", ".env", "-dash", "é", "[x]", "*", "?",
    "$A",
    "#no", "~", "a\\b", "Dockerfile", "docs", "UPPER", "upper", "..x", "a.", "x" * 60, "conf", "!n", "%41",
    "'q'",
)  # fmt: skip
_LINKS = (
    "a",
    "../a",
    ".",
    "..",
    "/src",
    "nowhere",
    "pkg/../a",
    "/",
    "../../../a",
    "b/",
    "self",
    "src/pkg",
    "/etc/passwd",
)
_RULES = (
    "{path}", "{path}", "/{path}", "{path}/", "**/{name}", "*/{name}", "!{path}", "!{path}", "!**/{name}",
    "*", "**",
    "{first}*", "!{first}*", "**/*{end}", "{directory}/*", "!{directory}/*", "{directory}/**", "# {path}",
    "  {path}  ",
    "[{first}a-c]*", "?{rest}", "./{path}", "{path}/../{name}", "**/{directory}", "!{directory}",
    "{directory}", "..",
    "*.*", "!*.*", "\\{path}", "{name}", "**/a*/**", "//{path}",
)  # fmt: skip


def tree(chance: random.Random) -> dict[str, str | None]:
    """path -> what `plant` makes of it: text ("! 755 text" with a mode), "-> target", "=> hard link",
    None."""
    found: dict[str, str | None] = {"src/main.py": "print()\n", "a/x.txt": "x\n"}
    for _ in range(chance.randint(3, 22)):
        path = "/".join(chance.choices(_PARTS, k=chance.choice((1, 1, 2, 2, 2, 3, 4))))
        if _fits(path, found):
            found[path] = _content(chance, found)
    return found


def _fits(path: str, found: Mapping[str, str | None]) -> bool:
    above = path
    while "/" in above:
        above = above.rpartition("/")[0]
        if above in found:
            return False
    return path not in found and not any(other.startswith(f"{path}/") for other in found)


def _content(chance: random.Random, found: Mapping[str, str | None]) -> str | None:
    kind = chance.random()
    files = [path for path, text in found.items() if text is not None and not text.startswith(("-> ", "=> "))]
    if kind < 0.12:
        return None
    if kind < 0.3:
        plain = [
            path for path in found if not set(path) & set("\\*?[!")
        ]  # what it leads to is read as a pattern
        return "-> " + chance.choice((*_LINKS, *plain, *(f"../{path}" for path in plain)))
    if kind < 0.34:
        return "=> " + chance.choice(files)
    if kind < 0.5:
        return f"! {chance.choice(('755', '600', '4755', '000', '666'))} mode\n"
    return f"text {chance.randrange(3)}\n"


def rules(chance: random.Random, paths: list[str]) -> str:
    """The text of an ignore file; often there is none."""
    if chance.random() < 0.3:
        return ""
    lines = [_rule(chance, chance.choice(paths)) for _ in range(chance.choice((1, 1, 2, 3, 5)))]
    if chance.random() < 0.15:
        lines.insert(0, "*")
    text = ("\r\n" if chance.random() < 0.05 else "\n").join(lines)
    return ("\ufeff" if chance.random() < 0.03 else "") + text + chance.choice(("", "\n"))


def _rule(chance: random.Random, path: str) -> str:
    if chance.random() < 0.3 and "/" in path:
        path = path.rpartition("/")[0]
    directory, _, name = path.rpartition("/")
    words = {"path": path, "name": name, "directory": directory or "src", "first": name[0], "rest": name[1:]}
    return chance.choice(_RULES).format(**words, end=name[-2:])


_OPERATIONS = {
    "write": 6, "same": 4, "mtime": 2, "create": 5, "delete": 5, "move": 5, "swap": 2, "chmod": 4,
    "mkdir": 2, "link": 5,
    "file": 4, "directory": 4, "hard": 2,
}  # fmt: skip


def edits(chance: random.Random, tree: Mapping[str, str | None]) -> tuple[Edit, ...]:
    """One step: few edits, or many at once as of a branch switch."""
    paths = sorted({*tree, *(path.rpartition("/")[0] for path in tree if "/" in path)})
    count = chance.choice((1, 1, 1, 2, 3, 12))
    return tuple(_edit(chance, paths) for _ in range(count))


def _edit(chance: random.Random, paths: list[str]) -> Edit:
    operation = chance.choices([*_OPERATIONS], [*_OPERATIONS.values()])[0]
    there = chance.choice(paths)
    fresh = chance.choice(
        ("", chance.choice(paths) + "/", chance.choice(paths).rpartition("/")[0] + "/")
    ).lstrip("/")
    fresh += chance.choice(_PARTS)
    other = {
        "move": fresh, "swap": chance.choice(paths), "hard": fresh, "chmod": chance.choice(("600", "755",
        "700", "4755")),
        "link": chance.choice(_LINKS), "mkdir": str(chance.randrange(2)), "write": str(chance.randrange(3)),
    }  # fmt: skip
    where = fresh if operation in ("create", "mkdir") or chance.random() < 0.2 else there
    return Edit(operation, where, other.get(operation, ""))
