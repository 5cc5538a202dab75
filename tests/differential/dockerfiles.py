"""Random Dockerfiles that BuildKit takes, most of them with a COPY of the context near their end."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase

from tests.differential.words import CHOWNS, DESTINATIONS, MODES, MOUNTS, READERS, RUNS, SETTINGS, WILDCARDS

Tree = Mapping[str, str | None]


def dockerfile(
    chance: random.Random, base: str, tree: Tree, features: frozenset[str], *, runs: bool
) -> tuple[str, list[str]]:
    """The text, and the context paths at which its lines meet, so that edits there tell most.
    `runs`: a RUN that reads what was copied may follow."""
    writer = _Writer(chance, base, tree, features, runs)
    return writer.text(), writer.meets


class _Writer:
    def __init__(
        self, chance: random.Random, base: str, tree: Tree, features: frozenset[str], runs: bool
    ) -> None:
        self._chance, self._base, self._tree, self._features, self._runs = chance, base, tree, features, runs
        self.meets: list[str] = []
        self._early: list[str] = []  # what has to stand before the first COPY
        # Few places a case, so that its lines meet each other.
        self._places = ["/app/", chance.choice(("/app", "/app/", "/")), *chance.choices(DESTINATIONS, k=3)]
        self._stage = ""  # the name of a builder stage, if there is one
        self._makers: dict[Callable[[], str], int] = {
            self.copy: 10,
            self.add: 2,
            self.remote: 2,
            self.workdir: 3,
            self.user: 2,
            self.setting: 4,
            self.run: 1,
            self.take: 2,
            self.inline: 3 if "heredoc" in features else 0,
        }

    def maybe(self, probability: float) -> bool:
        return self._chance.random() < probability

    def text(self) -> str:
        lines = ["# escape=\\"] if self.maybe(0.05) else []
        lines += ["ARG TO=/var/global", "ARG NAME"] if self.maybe(0.15) else []
        if self.maybe(0.3):
            self._stage = "made"
            lines += [
                f"FROM {self._base} AS made",
                "RUN mkdir -p /o/sub && echo x > /o/main.py && echo y > /o/sub/y",
            ]
            lines += ["ONBUILD COPY src/main.py /onbuild/"] if self.maybe(0.1) else []
            lines += [self.copy()] if self.maybe(0.2) else []
        bottom = self._stage if self._stage and self.maybe(0.3) else self._base
        lines += [f"FROM {bottom}" if self.maybe(0.8) else f"from {bottom} as Last.one"]
        meeting = self.meeting() if self.maybe(0.5) else []
        lines += [*self._early, *(self.run() for _ in range(self._chance.choice((0, 0, 1, 2))))]
        makers = self._chance.choices([*self._makers], [*self._makers.values()], k=self._chance.randint(1, 6))
        if "rootfs/etc/passwd" in self._tree and self.maybe(0.15):
            lines.append("COPY rootfs/ /")
            self.meets += ["rootfs/etc/passwd", "rootfs/etc/group"]
        lines += [self.copy(), *(maker() for maker in makers)]
        lines += meeting
        lines += [f"RUN {self._chance.choice(READERS)}"] if self._runs and self.maybe(0.8) else []
        lines += [self.setting() for _ in range(self._chance.choice((0, 1)))]
        return "\n".join(self.broken(line) for line in lines) + "\n"

    def broken(self, line: str) -> str:
        """Some lines are continued, with a comment in between."""
        if "\n" in line or " " not in line or '"' in line or line.startswith("#") or not self.maybe(0.1):
            return line
        head, _, rest = line.partition(" ")
        return f"{head} \\\n  # in between\n\n  {rest}"

    # --- instructions

    def sources(self) -> list[str]:
        chance = self._chance
        directories = sorted({path.rpartition("/")[0] for path in self._tree if "/" in path})
        plain = [
            path for path in self._tree if " " not in path and (not path.endswith("link") or self.maybe(0.1))
        ]
        kind = chance.random()
        if kind < 0.4:
            every = ["src", "src", "src/", ".", "./src", "conf", "rootfs", "rootfs/."]
            return [chance.choice([one for one in every if self._has(one.strip("./") or ".")])]
        if kind < 0.55:
            return [chance.choice([one for one in directories if " " not in one])]
        if kind < 0.75:
            return [chance.choice(plain)]
        if kind < 0.88:
            wildcard = chance.choice(WILDCARDS)
            self.meets += [path for path in self._tree if fnmatchcase(path, wildcard)]
            return [wildcard]
        if kind < 0.95:
            return [chance.choice(plain), chance.choice(["src", "prod.conf", "src/main.py"])]
        return [chance.choice(["src/${NAME:-pkg}", "${NONE:-src}", "src/$NAME"])]

    def destination(self, sources: list[str]) -> str:
        destination = self._chance.choice(self._places)
        if len(sources) > 1 and not destination.endswith(("/", '"')):
            destination += "/"
        return destination

    def flags(self, *, context: bool = True) -> str:
        found: list[str] = []
        if self.maybe(0.2):
            found.append(f"--chown={self._chance.choice(CHOWNS)}")
        if self.maybe(0.08):
            found.append(f"--chmod={self._chance.choice(MODES)}")
        if "link" in self._features and self.maybe(0.1):
            found.append(
                self._chance.choice(("--link", "--link=true", "--link=TRUE", "--link=False", "--link=false"))
            )
        if context and "parents" in self._features and self.maybe(0.05):
            found.append(self._chance.choice(("--parents", "--parents=True", "--parents=FALSE")))
        if context and "exclude" in self._features and self.maybe(0.05):
            found.append("--exclude=*.py")
        self._chance.shuffle(found)
        return "".join(f"{flag} " for flag in found)

    def copy(self) -> str:
        sources = self.sources()
        destination = self.destination(sources)
        word = self._chance.choice(("COPY", "COPY", "COPY", "copy", "Copy"))
        if self.maybe(0.06) and "$" not in destination and '"' not in destination:
            words = ", ".join(f'"{one}"' for one in [*sources, destination])
            return f"{word} {self.flags()}[{words}]"
        return f"{word} {self.flags()}{' '.join(sources)} {destination}"

    def meeting(self) -> list[str]:
        """Lines that write to one place, most often a directory of the context and a later line in it."""
        chance = self._chance
        kind = chance.random()
        if kind < 0.12:
            return self.wildcard_meeting()
        if kind < 0.2:
            self.meets += ["src/main.py", "src/run.sh"] * 2
            return [f"COPY --chmod={chance.choice(MODES)} src /app/"]
        name = chance.choice(
            ("config", ".env", "x.txt", "main.py", "pkg", "sub", "data", "tree", "a-b", "link")
        )
        place = f"/app/{name}{chance.choice(('', '', '/', '/in'))}"
        later = [
            f"COPY {self.flags()}{chance.choice(('prod.conf', 'req.txt', 'conf', 'src/pkg'))} {place}",
            f"ADD {{server}}/{name} {place}",
            f"ADD {{server}}/{name} /app/",
            f"WORKDIR {place}",
            f"COPY --from=made /o/main.py {place}" if self._stage else f"COPY conf {place}",
        ]
        if "heredoc" in self._features:
            later.append(f"COPY <<EOF {place}\ninline\nEOF")
        source = chance.choice([one for one in (".", "src", "src/", "conf") if self._has(one)])
        self.meets += [f"{source}/{name}".removeprefix("./").replace("//", "/")] * 3
        if self.maybe(0.2):
            self._early = [f"RUN mkdir -p /app && echo base > /app/{name}"]
            return [f"COPY {self.flags()}{source} /app/"]
        return [f"COPY {self.flags()}{source} /app/", chance.choice(later)]

    def wildcard_meeting(self) -> list[str]:
        """Files of one name in several directories, copied to one place: the last of the walk stays."""
        wildcard = self._chance.choice(("*/x.txt", "src/*/x.txt", "a*/x.txt", "src/a*/x.txt"))
        self.meets += [path for path in self._tree if fnmatchcase(path, wildcard)] * 3
        return [f"COPY {self.flags()}{wildcard} {self._chance.choice(('/app/', '/dest/', '/srv/'))}"]

    def _has(self, source: str) -> bool:
        return source == "." or any(path.startswith(source.rstrip("/") + "/") for path in self._tree)

    def add(self) -> str:
        return (
            self.copy().replace("COPY", "ADD", 1)
            if self.maybe(0.7)
            else f"ADD {self.flags()}src/pkg /app/pkg/"
        )

    def remote(self) -> str:
        name = self._chance.choice(("settings.ini", "main.py", "x.txt", "config", ".env"))
        destination = self._chance.choice(
            (f"/app/{name}", "/app/", "/app/config", f"/app/pkg/{name}", "sub/")
        )
        more = "src " if self.maybe(0.15) and self._has("src") else ""
        return (
            f"ADD {self.flags(context=False)}{more}{{server}}/{name} {destination if not more else '/app/'}"
        )

    def take(self) -> str:
        if not self._stage:
            return self.setting()
        source = self._chance.choice(("/o", "/o/main.py", "/o/sub", "/o/"))
        return f"COPY --from=made {self.flags(context=False)}{source} {self._chance.choice(self._places)}"

    def inline(self) -> str:
        chance, flags = self._chance, self.flags(context=False)
        name = chance.choice(("EOF", "main.py", "config", "x.txt"))
        quoted = chance.choice((name, f'"{name}"', f"'{name}'"))
        destination = chance.choice(
            ("/app/settings.ini", "/app/", "/app/config", "/app/main.py", "/app/pkg/", "/etc/passwd")
        )
        if self.maybe(0.2):
            return f"COPY {flags}<<{quoted} <<-two /app/\nfirst $TO\n{name}\n\tsecond\n\ttwo"
        if self.maybe(0.15):
            return f"COPY {flags}src/main.py <<{quoted} /app/\ninline\n{name}"
        return f"COPY {flags}<<{quoted} {destination}\ninline $NAME\n# no comment\n{name}"

    def workdir(self) -> str:
        return "WORKDIR " + self._chance.choice(
            (
                "/app",
                "/app/pkg",
                "/app/sub",
                "/elsewhere/deep",
                "in",
                "/",
                "/data",
                "/lnk/w",
                "$TO",
                "/app/config",
                "/app/a/x",
            )
        )

    def user(self) -> str:
        return "USER " + self._chance.choice(("app", "svc", "7", "7:8", "root", "svc:svc", "nobody:5", "0"))

    def setting(self) -> str:
        return self._chance.choice(SETTINGS)

    def run(self) -> str:
        mount = f"--mount={self._chance.choice(MOUNTS)} " if self.maybe(0.2) else ""
        if "heredoc" in self._features and self.maybe(0.2):
            return f"RUN {mount}<<E\n{self._chance.choice(RUNS)}\necho more\nE"
        if self.maybe(0.05):
            mount = "--mount=type=bind,source=src,target=/m "
        return f"RUN {mount}{self._chance.choice(RUNS if self.maybe(0.8) else READERS)}"
