"""A regular expression of Go's as one of Python's that matches the same, for the rules of .dockerignore."""

from __future__ import annotations

import re
from collections.abc import Iterator

from devloop.dockerfile.regexp_tree import GoRegexp, Node

# Escapes that a pattern may hold by accident (`\d`) and that mean the same to Go and to Python.
_SHARED_ESCAPES = frozenset("dDwWsSbBAafnrtv")
_POSIX_CLASSES = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "digit": "0-9",
    "lower": "a-z",
    "upper": "A-Z",
    "space": r"\t\n\v\f\r ",
    "word": "0-9A-Za-z_",
    "xdigit": "0-9A-Fa-f",
    "punct": r"!-/:-@\[-`{-~",
}
_COUNT = re.compile(r"\{(0|[1-9]\d*)(?:(,)(0|[1-9]\d*)?)?\}")
_MOST = 1000  # repetitions that Go takes
_DEEPEST = 50  # groups in groups


class BadPatternError(ValueError):
    """A pattern that Docker refuses as well."""


class UnsureError(Exception):
    """What Go makes of it is not worked out here."""


def compile_go(expression: str) -> GoRegexp:
    """Raises BadPatternError where Go does, UnsureError in doubt."""
    translator = _Translator(expression)
    try:
        quick = re.compile("".join(translator.parts()), re.ASCII)
        return GoRegexp(quick, translator.tree())
    except re.error as problem:
        raise BadPatternError("syntax error in pattern") from problem
    except (RecursionError, OverflowError) as problem:
        raise UnsureError from problem


class _Translator:
    """One expression, part by part. `_last`: what a repetition would repeat."""

    def __init__(self, expression: str) -> None:
        self._text = expression
        self._at = 0
        self._last = "nothing"  # or: anchor, one, group, repetition
        self._depth = 0
        self._open = [Node(branches=[[]])]  # the groups that are open, the whole first

    def parts(self) -> Iterator[str]:
        while self._at < len(self._text):
            part = self._part()
            self._note(part)
            yield part
        if self._depth:
            raise BadPatternError("missing closing )")

    def tree(self) -> Node:
        """Of all parts."""
        return self._open[0]

    def _note(self, part: str) -> None:
        """Put the part that was read last into the tree."""
        branches = self._open[-1].branches
        if part == "(":
            if self._depth > _DEEPEST:
                raise UnsureError
            self._open.append(Node(branches=[[]]))
        elif part == ")":
            group = self._open.pop()
            self._open[-1].branches[-1].append(group)
        elif part == "|":
            branches.append([])
        elif self._last == "repetition":
            _repeat(branches[-1][-1], part)
        else:
            test = re.compile(part, re.ASCII)
            branches[-1].append(Node(test, int(self._last == "one")))

    def _part(self) -> str:
        char = self._text[self._at]
        if char == "[":
            self._last = "one"
            return self._class()
        count = _COUNT.match(self._text, self._at) if char == "{" else None
        if char in "*+?" or count:
            return self._repetition(count)
        self._at += 1
        if char == "\\":
            self._last = "one"
            return self._escape()
        if char in "()|":
            return self._group(char)
        self._last = "anchor" if char in "^$" else "one"
        if char == "$":
            return r"\Z"
        return "\\" + char if char in "{}" else char

    def _group(self, char: str) -> str:
        if char == ")":
            self._depth -= 1
            if self._depth < 0:
                raise BadPatternError("unexpected )")
            self._last = "group"
            return char
        self._depth += char == "("
        self._last = "nothing"
        return char

    def _repetition(self, count: re.Match[str] | None) -> str:
        """A `+` after one thing. What Python would read differently is refused by Go, or a doubt."""
        text = count[0] if count else self._text[self._at]
        if self._last in ("nothing", "repetition"):
            raise BadPatternError("missing argument to repetition operator, or two of them")
        if count:
            least, most = int(count[1]), int(count[3] or count[1])
            if max(least, most) > _MOST or least > most:
                raise BadPatternError("invalid repeat count")
        own = self._text.startswith("(.*/)?", self._at - 5) and self._at >= 5  # that of `**`
        if self._last == "anchor" or (self._last == "group" and not own):
            raise UnsureError
        self._at += len(text)
        self._last = "repetition"
        return text

    def _escape(self) -> str:
        following = self._text[self._at]
        self._at += 1
        if not following.isalnum():
            return re.escape(following)
        if following not in _SHARED_ESCAPES:
            raise BadPatternError(f"invalid escape \\{following}")
        if following in "bBA":
            self._last = "anchor"
        return "\\" + following

    def _class(self) -> str:
        """From a `[` to its `]`."""
        text, at = self._text, self._at + 1
        out = ["["]
        if text.startswith("^", at):
            out.append("^")
            at += 1
        first = at
        while at < len(text) and not (text[at] == "]" and at > first):
            char = text[at]
            named = re.compile(r"\[:(\w+):\]").match(text, at)
            if named and named[1] in _POSIX_CLASSES:
                out.append(_POSIX_CLASSES[named[1]])
                at = named.end()
            elif char == "\\":
                self._at = at + 1
                out.append(self._escape())
                at = self._at
            else:
                out.append("\\" + char if char in "[]&~|" else char)
                at += 1
        self._at = at + 1
        self._last = "one"
        if at >= len(text):
            raise BadPatternError("missing closing ]")
        return "".join((*out, "]"))


def _repeat(node: Node, times: str) -> None:
    """`times` as it is written behind what it repeats: `*`, `{2,5}`."""
    if count := _COUNT.match(times):
        node.least = int(count[1])
        node.most = int(count[3]) if count[3] else None if count[2] else node.least
    else:
        node.least, node.most = int(times == "+"), 1 if times == "?" else None
