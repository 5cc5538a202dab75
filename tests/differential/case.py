"""Random cases: a Dockerfile, build arguments, ignore rules, a tree, edits of it, all from one seed.

The same seed and the same features give the same case on every machine. What a case asks of the engine beyond
Docker 20.10 is a feature: "heredoc", "link", "parents", "exclude". "wide" is all that the newest BuildKit
knows, on trees with odd names: those cases are for `engineless`.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.differential import trees
from tests.differential.dockerfiles import dockerfile
from tests.differential.edits import Edit, edits
from tests.differential.wide import WideWriter

SERVER = "{server}"  # in a Dockerfile: where the runner serves the files of an `ADD http://…`

# "! 755 text" sets a mode, "-> target" is a link, "=> name" a hard link, None an empty directory.
_TREE: tuple[tuple[str, str | None], ...] = (
    ("src/main.py", "print('main')\n"),
    ("src/x.txt", "x of src\n"),
    ("src/run.sh", "! 755 echo run\n"),
    ("src/pkg/a.py", "a\n"),
    ("src/pkg/x.txt", "x of pkg\n"),
    ("src/pkg/deep/er/c.py", "c\n"),
    ("src/a/x.txt", "from a\n"),
    ("src/a-b/x.txt", "from a-b\n"),
    ("src/a.b/x.txt", "from a.b\n"),
    ("src/a b/x y.txt", "spaces\n"),
    ("src/.env", "dev\n"),
    ("src/link", "-> main.py"),
    ("src/dirlink", "-> pkg"),
    ("src/empty", None),
    ("src/data", "to become a directory\n"),
    ("src/tree/x", "to become a file\n"),
    ("a/x.txt", "top a\n"),
    ("a-b/x.txt", "top a-b\n"),
    ("a.b/x.txt", "top a.b\n"),
    ("conf/app.conf", "! 600 secret\n"),
    ("conf/main.py", "of conf\n"),
    ("conf/pkg/a.py", "of conf/pkg\n"),
    ("conf/-dash", "dash\n"),
    ("rootfs/etc/passwd", "root:x:0:0::/:/bin/sh\nsvc:x:500:500::/:/bin/sh\napp:x:501:502::/:/bin/sh\n"),
    ("rootfs/etc/group", "root:x:0:\nsvc:x:500:\napp:x:502:\n"),
    ("rootfs/opt/tool", "! 755 tool\n"),
    ("prod.conf", "prod\n"),
    ("req.txt", "one==1\n"),
    ("docs/read.me", "read\n"),
)

_IGNORED = (
    *[""] * 12,
    "docs\n",
    "**/*.py\n!src/main.py\n",
    "*.txt\n",
    "src/a*\n",
    "**/x.txt\n!**/a/x.txt\n",
    "# comment\n\n  conf  \n",
    "*\n!src\n!conf\n!rootfs\n!prod.conf\n!req.txt\n!a*\n",
)

_ARGS: tuple[Mapping[str, str], ...] = ({}, {}, {"TO": "/var/to"}, {"NAME": "pkg"}, {"OWNER": "6:7"})


@dataclass(frozen=True)
class Case:
    """`tree`: path -> what `plant` makes of it. `steps`: batches of edits, each a save of its own."""

    seed: int
    dockerfile: str
    tree: Mapping[str, str | None]
    steps: tuple[tuple[Edit, ...], ...]
    args: Mapping[str, str] = field(default_factory=dict)
    ignored: str = ""

    def __str__(self) -> str:
        lines = [f"seed {self.seed}", self.dockerfile.rstrip(), f"args {dict(self.args)}"]
        lines += [f"ignored {self.ignored!r}", "tree:"]
        lines += [f"  {path}: {content!r}" for path, content in self.tree.items()]
        lines += [f"step: {'; '.join(map(str, step))}" for step in self.steps]
        return "\n".join(lines)


def make(seed: int, base: str, features: frozenset[str] = frozenset(), *, runs: bool = False) -> Case:
    """The case of this seed. `base`: the image to build FROM. `runs`: RUNs may follow the COPYs, as
    continued builds want them."""
    chance = random.Random(f"{seed} {sorted(features)} {runs}")
    if "wide" in features:
        return _wide(seed, chance, base)
    tree = {path: content for path, content in _TREE if chance.random() < 0.8}
    tree |= {"src/main.py": "print('main')\n", "prod.conf": "prod\n"}  # there is always something
    if chance.random() < 0.1:
        tree["src/hard"] = "=> src/main.py"
    text, meets = dockerfile(chance, base, tree, features, runs=runs)
    steps = tuple(edits(chance, tree, text, meets) for _ in range(chance.choice((1, 1, 2))))
    return Case(seed, text, tree, steps, chance.choice(_ARGS), chance.choice(_IGNORED))


def _wide(seed: int, chance: random.Random, base: str) -> Case:
    tree = trees.tree(chance)
    text = WideWriter(chance, (base, *trees.BASES), tree).text()
    steps = tuple(trees.edits(chance, tree) for _ in range(chance.choice((1, 2, 3))))
    args = {
        name: chance.choice(("src", "", "a b", "x")) for name in ("A", "B", "DIR") if chance.random() < 0.15
    }
    return Case(seed, text, tree, steps, args, trees.rules(chance, sorted(tree)))
