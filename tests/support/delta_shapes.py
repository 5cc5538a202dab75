"""The Dockerfiles and the edits of the equality matrix."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.delta_bench import BASE

TREE: Mapping[str, str | None] = {
    "src/main.py": "print('main')\n",
    "src/run.sh": "! 755 echo run\n",
    "src/pkg/a.py": "a\n",
    "src/pkg/b.py": "b\n",
    "src/pkg/deep/er/c.py": "c\n",
    "src/data": "to become a directory\n",
    "src/tree/x": "to become a file\n",
    "src/link": "-> main.py",
    "src/empty": None,
    "conf/app.conf": "! 600 secret\n",
    "conf/other.conf": "other\n",
    "req.txt": "one==1\n",
    "two.txt": "two\n",
    "docs/read.me": "read\n",
}


def edit_content(at: Path) -> None:
    (at / "src/main.py").write_text("print('edited')\n")


def add_file(at: Path) -> None:
    (at / "src/pkg/new.py").write_text("new\n")


def delete_file(at: Path) -> None:
    (at / "src/pkg/a.py").unlink()


def rename(at: Path) -> None:
    (at / "src/pkg/b.py").rename(at / "src/pkg/renamed.py")


def mode_only(at: Path) -> None:
    (at / "src/run.sh").chmod(0o700)


def links(at: Path) -> None:
    (at / "src/link").unlink()
    (at / "src/link").symlink_to("run.sh")
    (at / "src/tree/new-link").symlink_to("/etc/passwd")


def file_to_directory(at: Path) -> None:
    (at / "src/data").unlink()
    (at / "src/data").mkdir(mode=0o750)
    (at / "src/data/inside").write_text("inside\n")


def directory_to_file(at: Path) -> None:
    shutil.rmtree(at / "src/tree")
    (at / "src/tree").write_text("a file now\n")


def directories(at: Path) -> None:
    """A new tree, an old one gone, a mode of a directory."""
    (at / "src/fresh/one/two").mkdir(parents=True)
    (at / "src/fresh/one/two/f").write_text("deep\n")
    shutil.rmtree(at / "src/pkg/deep")
    (at / "src/empty").chmod(0o711)


EDITS: tuple[Callable[[Path], None], ...] = (
    edit_content,
    add_file,
    delete_file,
    rename,
    mode_only,
    links,
    file_to_directory,
    directory_to_file,
    directories,
)
ALL = frozenset(edit.__name__ for edit in EDITS)


def share(number: int, of: int) -> tuple[Callable[[Path], None], ...]:
    """Every `of`-th edit, other ones for the next number: over some shapes in a row all of them come up."""
    return EDITS[number % of :: of]


@dataclass(frozen=True)
class Shape:
    """`proven`: the edits that must be deltas; the others must give one of `reasons`, or change nothing.
    `runs` False: the engine at hand may not know this Dockerfile; it must reach the fallback by itself."""

    name: str
    text: str
    proven: frozenset[str] = ALL
    reasons: frozenset[str] = frozenset()
    ignored: str = ""
    args: Mapping[str, str] = field(default_factory=dict)
    runs: bool = True

    def __str__(self) -> str:
        return self.name


def shape(name: str, lines: str, **more: object) -> Shape:
    text = lines if lines.startswith(("#", "ARG", "FROM")) else f"FROM {BASE}\n{lines}"
    return Shape(name, text + "\n", **more)  # type: ignore[arg-type]


def refused(name: str, lines: str, *reasons: str, **more: object) -> Shape:
    return shape(name, lines, proven=frozenset(), reasons=frozenset(reasons), **more)


def only(*edits: str) -> frozenset[str]:
    return frozenset(edits)


SHAPES = (
    # where it lands
    shape("directory", "COPY src /app"),
    shape("directory-slash", "COPY src/ /app/"),
    shape("directory-nested", "COPY src /opt/a/b/c"),
    shape("whole-context", "COPY . /app"),
    shape("whole-context-ignored", "COPY . /app", ignored="docs\n**/*.conf\n"),
    shape("root", "COPY src /"),
    shape("workdir", "WORKDIR /app\nCOPY src ."),
    shape("workdir-relative", "WORKDIR /app\nWORKDIR in\nCOPY src ./src"),
    shape("workdir-after", "COPY src /app\nWORKDIR /app"),
    shape("workdir-elsewhere-after", "COPY src /app\nWORKDIR /elsewhere/deep"),
    shape("onto-base-directory", "COPY src /srv"),
    shape("onto-odd-directory", "COPY src /odd"),
    shape("linked-destination", "COPY src /lnk"),
    shape("linked-destination-below", "COPY src /lnk/sub"),
    shape("absolute-link", "COPY src /abs/deep"),
    shape("single-file", "COPY src/main.py /app/main.py\nCOPY src /all"),
    shape("single-file-into", "COPY src/main.py src/run.sh /app/\nCOPY src /all/"),
    shape("glob", "COPY src/*.py src/run* /app/", proven=only("edit_content", "mode_only")),
    shape(
        "glob-directories",
        "COPY src/p* /app/",
        proven=only("add_file", "delete_file", "rename", "directories"),
    ),
    shape("json-form", 'COPY ["src", "/a b/c"]'),
    # who owns it
    shape("chown-numbers", "COPY --chown=5:6 src /app"),
    shape("chown-one-number", "COPY --chown=7 src /app"),
    shape("chown-names", "COPY --chown=app:app src /app"),
    shape("chown-one-name", "COPY --chown=app src /app"),
    shape("chmod", "COPY --chmod=640 src /app", proven=ALL),
    shape("chown-chmod", "COPY --chown=app --chmod=0755 src /app"),
    shape("user-does-not-own", "USER app\nWORKDIR /w\nCOPY src src"),
    # stages, variables, bases
    shape(
        "builder-untouched",
        f"FROM {BASE} AS b\nCOPY req.txt /r\nRUN cp /r /o\nFROM {BASE}\nCOPY --from=b /o /o\nCOPY src /app",
    ),
    shape(
        "stage-on-stage",
        f'FROM {BASE} AS b\nRUN mkdir -p /made\nFROM b AS c\nCOPY src /made/src\nFROM c\nENV A=1\nCMD ["x"]',
    ),
    shape(
        "variables",
        f"FROM {BASE}\nARG to=/app\nENV in=${{to}}/x\nCOPY ${{none:-src}} ${{in}}",
        args={"to": "/var"},
    ),
    shape("global-arg", f"ARG base={BASE}\nFROM ${{base}}\nCOPY src /app"),
    shape("run-before", "RUN mkdir -p /app/sub && chmod 700 /app && chown 3:4 /app\nCOPY src /app"),
    shape("scratch", "FROM scratch\nCOPY src /app"),
    shape(
        "settings-after",
        'COPY src /app\nENV A=b\nLABEL c=d\nEXPOSE 80\nVOLUME /v\nUSER app\nENTRYPOINT ["e"]\nCMD ["c"]\n'
        "STOPSIGNAL 9\nHEALTHCHECK NONE\n"
        'SHELL ["/bin/sh"]',
    ),
    shape("add-directory", "ADD src /app"),
    shape("continuation", "COPY \\\n  # inside\n  src \\\n  /app"),
    # several writers
    shape("twice-elsewhere", "COPY src /one\nCOPY src /two"),
    shape("twice-same-place", "COPY src /app\nCOPY src /app"),
    shape("overlaid", "COPY src/pkg /app/pkg\nCOPY src /app"),
    shape(
        "other-file-on-top",
        "COPY src /app\nCOPY req.txt /app/main.py",
        proven=ALL - {"edit_content"},
    ),
    shape("requirements-then-run", "COPY req.txt /r/\nRUN cp /r/req.txt /done\nCOPY src /app"),
    # partly
    shape(
        "copy-from-on-top",
        f"FROM {BASE} AS b\nRUN mkdir /o && echo x > /o/main.py\n"
        f"FROM {BASE}\nCOPY src /app\nCOPY --from=b /o /app",
        proven=ALL - {"edit_content"},
        reasons=frozenset({"ModelDiffers"}),
    ),
    shape(
        "uncovers-base",
        "RUN mkdir -p /app/pkg && echo base > /app/pkg/a.py\nCOPY src /app",
        proven=ALL - {"delete_file"},
        reasons=frozenset({"Uncovers"}),
    ),
    shape(
        "workdir-in-copied",
        "COPY src /app\nWORKDIR /app/tree",
        proven=ALL - {"directory_to_file"},
        reasons=frozenset({"DestinationMoved"}),
    ),
    # never
    refused("run-after", "COPY src /app\nRUN cp -a /app /again", "RunAfter"),
    refused(
        "built-in-a-stage",
        f"FROM {BASE} AS b\nCOPY src /app\nRUN cp -a /app /out\nFROM {BASE}\nCOPY --from=b /out /out",
        "OtherStage",
    ),
    refused(
        "taken-from-the-chain",
        f"FROM {BASE} AS b\nCOPY src /app\nFROM b\nCOPY --from=b /app /again",
        "TakenFrom",
    ),
    refused(
        "bind-mount", f"FROM {BASE}\nRUN --mount=type=bind,source=src,target=/m cp -a /m /app", "Mounted"
    ),
    refused("add-file", "ADD src/main.py /app/", "Add"),
    # newer than the engine at hand may be
    refused("heredoc-run", "COPY src /app\nRUN <<E\nls /app\nE", "RunAfter", runs=False),
    refused("link-flag", "COPY --link src /app", "Flag", runs=False),
    refused("link-flag-in-capitals", "COPY --link=TRUE src /app", "Flag", runs=False),
    refused("parents-flag-in-capitals", "COPY --parents=True src/./pkg /app", "Flag", runs=False),
    refused("unknown-flag", "COPY --newer=yes src /app", "Flag", runs=False),
    refused("heredoc-among-sources", "COPY src <<E /app/\nx\nE", "Mixed", runs=False),
    refused("parents-flag", "COPY --parents src/./pkg /app", "Flag", runs=False),
    refused("exclude-flag", "COPY --exclude=*.md src /app", "Flag", runs=False),
    refused("symbolic-chmod", "COPY --chmod=u=rwX src /app", "Flag", runs=False),
)
