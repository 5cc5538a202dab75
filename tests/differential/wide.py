"""Dockerfiles with everything that BuildKit's newest frontend knows: for cases that no engine builds.

Most of what comes out is right; some of it is refused by BuildKit, and then devloop may refuse it too.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

Tree = Mapping[str, str | None]

NAMES = ("A", "B", "DIR", "NAME", "TARGETARCH", "PATH", "NONE", "é")
VALUES = ("src", "a.b", "x/y", "", "a b", "*.py", "/abs/deep", "src/pkg", "1", "q'q")
_FORMS = (
    "${_}", "$_", "${_:-src}", "${_-src}", "${_:+src}", "${_+src}", "${_:-${B:-src}}", "${_#s*}", "${_##*/}",
    "${_%/*}", "${_%%c*}", "${_/s/S}", "${_//a/b}", "${_:-$B}", "${_/\\//-}", "${_:-'a b'}", "${_%\\*}",
)  # fmt: skip
_DESTINATIONS = (
    "/app", "/app/", ".", "./", "..", "../up/", "sub", "sub/", "/", "//odd//", "/a/../b/./", "",
    "'/quo ted/'",
    '"/app"', "$DIR", "${DIR:-/d}/", "/app/.", "/é/",
)  # fmt: skip
_OWNERS = ("5", "5:6", "app", "app:app", ":7", "root:0", "${A:-7}", "app:7", "0", "$B:$B")
_MODES = ("644", "0755", "4711", "u=rwx,go=rx", "a+r", "${A:-640}", "u+X", "1777")
_KEYWORDS = (str, str, str, str.lower, str.title, str.swapcase)
_SETTINGS = (
    "ENV {name}={value}", "ENV {name} {plain} two", 'ENV {name}="{plain}" B={value}', "ENV {name}={word}",
    "ARG {name}", "ARG {name}={value}", "ARG {name}={word} B={word}", 'LABEL a.b="{word}" c=d', "LABEL a b c",
    "EXPOSE 80 90/udp ${{NONE:-70}}", 'VOLUME ["/v", "/w x"]', "VOLUME /v ${{DIR:-/d}}", "USER app",
    "USER {word}",
    "USER 5:6", "STOPSIGNAL SIGTERM", "STOPSIGNAL 9", 'SHELL ["/bin/sh", "-c"]', "MAINTAINER me <a@b>",
    "HEALTHCHECK NONE", "HEALTHCHECK --interval=5s --timeout=3s --retries=2 --start-period=1s CMD curl x",
    'HEALTHCHECK CMD ["a", "b"]', 'CMD ["a", "$b"]', "CMD a $b", 'ENTRYPOINT ["e"]', "ENTRYPOINT exec e $x",
    "CMD", "ENTRYPOINT []", 'CMD ["a" "b"]', "CMD [a, b]", "ENV {name}=a\\ b B='c d'", "ENV {name}=",
    "CMD ['single']", "ENV A=$A$B", "ARG PATH", "ENV PATH=$PATH:/x",
)  # fmt: skip
_MOUNTS = (
    "type=bind,source={source},target=/m", "type=bind,target=/m", "type=bind,src={source},dst=/m,rw",
    "target=/m,source={source},readonly=false", "type=bind,from={stage},source=/o,target=/m",
    "type=bind,from=tools:1,target=/t", "type=cache,target=/c",
    "type=cache,target=/c,id=x,sharing=locked,uid=5",
    "type=cache,target=/c,from={stage},source=/o", "type=tmpfs,target=/t,size=1000000",
    "type=secret,id=token",
    "type=secret,id=token,target=/s,mode=0400,required=true", "type=ssh", "type=secret,id=token,env=TOKEN",
    "type=bind,source={word},target=/m", 'type=bind,"source={source}",target=/m', "type=${{A}},target=/m",
    "type=bind,from=context,source={source},target=/m",
)  # fmt: skip
_RUNS = (
    "make",
    'echo "a  b" && ls',
    '["a", "b c"]',
    "[ -e x ] && y",
    "cat <<EOF",
    "echo $A \\$B",
    "a <<< b",
    "x | y",
)
_REMOTES = (
    "https://example.org/x.tgz", "http://example.org/a/", "https://github.com/o/r.git#v1",
    "git@github.com:o/r.git",
    "https://github.com/o/r.git?ref=v1&subdir=d", "git://h/o/r",
)  # fmt: skip


class WideWriter:
    """`text` writes one Dockerfile. `bases`: references that a FROM may name."""

    def __init__(self, chance: random.Random, bases: tuple[str, ...], tree: Tree) -> None:
        self.chance, self._bases, self._tree = chance, bases, tree
        self._stages: list[str] = []
        self._escape = "`" if self.maybe(0.08) else "\\"
        self._makers: dict[Callable[[], str], int] = {
            self.copy: 50, self.add: 12, self.run: 16, self.workdir: 8, self.setting: 36, self.inline: 8,
            self.onbuild: 4, self.odd: 1,
        }  # fmt: skip

    def maybe(self, probability: float) -> bool:
        return self.chance.random() < probability

    def pick(self, words: tuple[str, ...] | list[str]) -> str:
        return self.chance.choice(words)

    def text(self) -> str:
        lines = self.directives()
        if self.maybe(0.3):
            lines += [f"ARG BASE={self.pick(self._bases)}", f"ARG A={self.pick(VALUES[:4])}", "ARG DIR"]
        for _ in range(self.chance.choice((1, 1, 1, 2, 2, 3, 4))):
            lines.append(self.begin("ARG BASE" in "\n".join(lines)))
            makers = self.chance.choices(
                [*self._makers], [*self._makers.values()], k=self.chance.randint(1, 7)
            )
            lines += [maker() for maker in makers]
        lines.append(self.copy())
        text = "\n".join(self.laid_out(line) for line in lines) + self.pick(("\n", "\n", "", "\n\n"))
        return text.replace("\n", "\r\n") if self.maybe(0.05) else text

    def directives(self) -> list[str]:
        found = ["# escape=`"] if self._escape == "`" else []
        if self.maybe(0.1):
            found.append(self.pick(("# syntax=docker/dockerfile:1", "#syntax = docker/dockerfile:1-labs")))
        if self.maybe(0.05):
            found.append(self.pick(("# check=skip=all", "# escape=\\" if not found else "# a comment")))
        self.chance.shuffle(found)
        if self.maybe(0.1):
            found.append("# a comment")
        return found

    def begin(self, with_argument: bool) -> str:
        named = [one for one in self._stages if not one.isdigit()]
        base = self.pick([*self._bases, *self._bases, "scratch", *named, *named])
        if with_argument and self.maybe(0.4):
            base = self.pick(("$BASE", "${BASE}", "${BASE:-base:1}"))
        platform = (
            self.pick(("--platform=linux/amd64 ", "--platform=$BUILDPLATFORM ")) if self.maybe(0.1) else ""
        )
        name = ""
        if self.maybe(0.6):
            word = self.pick(("one", "two", "Three", "a.b-c_d"))
            name = f" {self.pick(('AS', 'as', 'As'))} {word}"
            self._stages.append(word)
        else:
            self._stages.append(str(len(self._stages)))
        return f"{self.pick(('FROM', 'FROM', 'from'))} {platform}{base}{name}"

    def laid_out(self, line: str) -> str:
        """Continued over lines, indented, with a comment or an empty line in between."""
        if "\n" in line or " " not in line or line.startswith("#"):
            return line
        if self.maybe(0.05):
            line = self.pick(("  ", "\t")) + line
        if self.maybe(0.05):
            line += self.pick((" ", "\t", "  "))
        if not self.maybe(0.15):
            return line
        at = self.chance.choice([index for index, char in enumerate(line) if char == " "])
        between = self.pick(("", "", "  # in between\n", "\n", "#x\n\n", "\t"))
        after = self.pick(("", " ", "\t"))
        return f"{line[:at]} {self._escape}{after}\n{between}{line[at + 1 :]}"

    def keyword(self, word: str) -> str:
        shape: Callable[[str], str] = self.chance.choice(_KEYWORDS)
        return shape(word)

    # --- words

    def variable(self) -> str:
        return self.pick(_FORMS).replace("_", self.pick(NAMES), 1)

    def word(self) -> str:
        """A word of any kind, quotes, escapes and variables in it."""
        parts = []
        for _ in range(self.chance.choice((1, 1, 2, 3))):
            part = self.pick((self.variable(), self.pick(("src", "a.b", "x", "é", "/", ".", "-"))))
            if self.maybe(0.1):
                part = self.pick((f'"{part}"', f"'{part}'", f"{self._escape}{part}", f'"{part} b"'))
            parts.append(part)
        return "".join(parts)

    def paths(self) -> list[str]:
        """Files and directories of the tree."""
        found = set(self._tree)
        for path in self._tree:
            while "/" in path:
                path = path.rpartition("/")[0]
                found.add(path)
        return sorted(found)

    def source(self) -> str:
        path, kind = self.pick(self.paths()), self.chance.random()
        if kind < 0.15:
            return self.pick((".", "./", "", "/", "..", "./.", "/./"))
        if kind < 0.3:
            return self.wildcard(path)
        if kind < 0.35:
            return self.word()
        if kind < 0.4:
            return path + "/none"
        before = self.pick(("", "", "", "./", "/", "../", "x/../", "//"))
        return before + path + self.pick(("", "", "", "/", "/.", "//"))

    def wildcard(self, path: str) -> str:
        """A pattern that this path matches, most likely."""
        parts = path.split("/")
        at = self.chance.randrange(len(parts))
        part = parts[at]
        parts[at] = self.pick(
            ("*", "?" * len(part), part[:1] + "*", "*" + part[-1:], f"[{part[0]}a-c]*", "[^x]*", "*.*",
            part + "*",
             "\\" + part, "**")
        )  # fmt: skip
        return "/".join(parts)

    def flags(self, *, context: bool, add: bool = False) -> str:
        found: list[str] = []
        if self.maybe(0.2):
            found.append(f"--chown={self.pick(_OWNERS)}")
        if self.maybe(0.12):
            found.append(f"--chmod={self.pick(_MODES)}")
        if self.maybe(0.15):
            found.append(self.pick(("--link", "--link=true", "--link=TRUE", "--link=False", "--link=false")))
        if not add and self.maybe(0.08):
            found.append(self.pick(("--parents", "--parents=True", "--parents=false")))
        if self.maybe(0.1):
            found += [f"--exclude={self.pick(('*.py', '**/x.txt', 'src', '!a', 'a*/**'))}"]
            found += ["--exclude=docs"] if self.maybe(0.3) else []
        if not context and self._stages[:-1]:
            found.append(f"--from={self.pick([*self._stages[:-1], 'tools:1'])}")
        self.chance.shuffle(found)
        return "".join(f"{flag} " for flag in found)

    # --- instructions

    def copy(self, word: str = "COPY") -> str:
        context = self.maybe(0.8) or not self._stages[:-1] or word == "ADD"
        flags = self.flags(context=context, add=word == "ADD")
        sources = [self.source() for _ in range(self.chance.choice((1, 1, 1, 2, 3)))]
        destination = self.pick(_DESTINATIONS)
        odd = any(not one or set(one) & set(" '\"$`[#\\<\t") for one in (*sources, destination))
        words = any(not one or " " in one for one in (*sources, destination))
        if (words and self.maybe(0.97)) or (odd and self.maybe(0.6)) or self.maybe(0.05):
            listed = ", ".join(
                '"' + one.replace("\\", "\\\\").replace('"', '\\"') + '"' for one in [*sources, destination]
            )
            return f"{self.keyword(word)} {flags}[{listed}]"
        return f"{self.keyword(word)} {flags}{' '.join(sources)} {destination}"

    def add(self) -> str:
        if self.maybe(0.4):
            more = self.pick(
                ("", "", "--checksum=sha256:" + "0" * 64 + " ", "--keep-git-dir=true ", "--unpack=true ")
            )
            return f"{self.keyword('ADD')} {more}{self.pick(_REMOTES)} {self.pick(('/r', '/r/', './'))}"
        return self.copy("ADD")

    def mount(self) -> str:
        stage = self.pick([*self._stages[:-1], "tools:1"])
        return "--mount=" + self.pick(_MOUNTS).format(
            source=self.pick(self.paths()), stage=stage, word=self.variable()
        )

    def run(self) -> str:
        flags = [self.mount() for _ in range(self.chance.choice((0, 1, 1, 2)))]
        flags += ["--network=none"] if self.maybe(0.1) else []
        before = self.keyword("RUN") + " " + "".join(f"{flag} " for flag in flags)
        if self.maybe(0.25):
            name = self.pick(("EOF", "E", "end.1"))
            given = self.pick(
                (f"<<{name}", f'<<"{name}"', f"<<-{name}", f"<<'{name}' python3", f"<<{name} cat")
            )
            return f"{before}{given}\n\techo $A\n# no comment\nFROM x\n{name}"
        run = self.pick(_RUNS)
        return f"{before}{run}\nx\nEOF" if "<<EOF" in run else before + run

    def inline(self) -> str:
        flags, name = self.flags(context=True), self.pick(("EOF", "x.txt", "a"))
        text = f"line $A\n\t{name}x\n\ttabbed\n"
        quoted = self.pick((name, f'"{name}"', f"'{name}'"))
        kind = self.chance.random()
        if kind < 0.2:
            return f"COPY {flags}<<{quoted} <<-two /app/\n{text}{name}\nsecond\n\ttwo"
        if kind < 0.3:
            word = self.pick(("COPY", "ADD"))
            return f"{word} {flags}{self.paths()[0]} <<{quoted} /app/\n{text}{name}"
        if kind < 0.35:
            return f"COPY {flags}<<-{quoted} /app\n{text}\t\t{name}"
        return f"COPY {flags}<<{quoted} {self.pick(('/x', '/app/', 'rel'))}\n{text}{name}"

    def workdir(self) -> str:
        path = self.pick(("/app", "sub", "/", "../x", "/a/../b", "$DIR", "a b", self.word()))
        return f"{self.keyword('WORKDIR')} {path}"

    def setting(self) -> str:
        form = self.pick(_SETTINGS)
        values = {
            "name": self.pick(NAMES[:4]),
            "value": self.pick(VALUES[:4]),
            "plain": self.pick(VALUES[:4]),
        }
        line = form.format(**values, word=self.word())
        head, _, rest = line.partition(" ")
        return f"{self.keyword(head)} {rest}".rstrip() if rest else head

    def onbuild(self) -> str:
        inner = self.pick((self.copy(), self.workdir(), "RUN make", self.setting()))
        return f"{self.keyword('ONBUILD')} {inner}"

    def odd(self) -> str:
        """Lines that may be wrong."""
        return self.pick(
            ("COPY src", "COPY --from=nobody:1 /a /b", "COPY --unknown src /a", "NOSUCH thing", "RUN",
            "ENV X",
             "COPY ${ /a", "WORKDIR", "COPY --chmod=9 src /a", "ONBUILD FROM x", "ONBUILD ONBUILD RUN x",
             "# just a comment",
             "COPY --link=maybe src /a", "ARG", "LABEL x", "COPY <<E /a\nno end",
             "VOLUME []",
             "HEALTHCHECK CMD", "STOPSIGNAL NO", "COPY --chown src /a", "ENV =x", "ARG =x", "FROM", "USER")
        )  # fmt: skip
