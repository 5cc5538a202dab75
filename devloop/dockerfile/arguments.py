"""The rest of a line as its instruction takes it: flags, words, pairs, a JSON list, heredoc names."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

_FLAG_SPACE = "\t\n\v\f\r \x85\xa0"  # unicode.IsSpace of a byte
_SPACE = re.compile(r"[\t\v\f\r ]+")
_HEREDOC = re.compile(r"(\d*)<<(-?)\s*([^<]*)")
_LISTS = frozenset({"ADD", "COPY", "VOLUME", "RUN", "CMD", "ENTRYPOINT", "SHELL"})
_WORDS = frozenset({"ADD", "COPY", "VOLUME", "FROM", "EXPOSE"})


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def split_command(line: str, escape: str) -> tuple[str, tuple[str, ...], str]:
    """KEYWORD, its --flags, the rest."""
    head, *tail = _SPACE.split(line.strip(), maxsplit=1)
    if not tail:
        return head.upper(), (), ""
    # BuildKit takes each byte of a flag for a character: of `--exclude=é` it makes two.
    rest, flags = tail[0].encode("utf-8", "surrogateescape").decode("latin-1"), list[str]()
    while True:
        rest = rest.lstrip(_FLAG_SPACE)
        if not rest.startswith("--"):
            break
        word, rest = _flag_word(rest, escape)
        if word == "--":
            break
        flags.append(word)
    rest = rest.encode("latin-1").decode("utf-8", "surrogateescape")
    return head.upper(), tuple(flags), rest.strip()


def _flag_word(rest: str, escape: str) -> tuple[str, str]:
    """The first word without quotes and escapes, and what follows it."""
    out: list[str] = []
    quote, at = "", 0
    while at < len(rest):
        char = rest[at]
        at += 1
        if not quote and char in _FLAG_SPACE:
            return "".join(out), rest[at - 1 :]
        if char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote = char
        elif char == escape:
            out.append(rest[at : at + 1])
            at += 1
        else:
            out.append(char)
    return "".join(out), ""


def parse_arguments(keyword: str, rest: str, escape: str) -> tuple[tuple[str, ...], bool]:
    if keyword in _LISTS:
        listed = json_list(rest)
        if listed is not None:
            return listed, True
    if keyword in _WORDS:
        return tuple(_SPACE.split(rest)) if rest else (), False
    if keyword == "ARG":
        return tuple(_words(rest, escape)), False
    if keyword in ("ENV", "LABEL"):
        return _pairs(keyword, rest, escape), False
    return ((rest,) if rest else ()), False


def json_list(rest: str) -> tuple[str, ...] | None:
    """The strings of a JSON array, None if it is none. Raises ValueError for other elements."""
    if not rest.lstrip().startswith("["):
        return None
    try:
        listed = json.loads(rest.lstrip(), parse_constant=_no_number)
    except (ValueError, RecursionError):
        return None
    if not all(isinstance(item, str) for item in listed):
        raise ValueError("when using JSON array syntax, arrays must be comprised of strings only")
    return tuple(listed)


def _words(rest: str, escape: str) -> list[str]:
    """Words between spaces; quotes and escapes hold a word together and stay in it."""
    words: list[str] = []
    word: list[str] = []
    quote, at = "", 0
    while at < len(rest):
        char = rest[at]
        at += 1
        if not quote and char.isspace():
            if word:
                words.append("".join(word))
            word = []
            continue
        if char == escape and quote != "'":
            if at < len(rest):
                word.append(char + rest[at])
            at += 1
            continue
        if char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote = char
        word.append(char)
    return [*words, "".join(word)] if word else words


def _pairs(keyword: str, rest: str, escape: str) -> tuple[str, ...]:
    words = _words(rest, escape)
    if not words:
        return ()
    if "=" not in words[0]:
        name, *value = _SPACE.split(rest, maxsplit=1)
        if not value:
            raise ValueError(f"{keyword} must have two arguments")
        return name, value[0]
    flat: list[str] = []
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise ValueError(f"can't find = in {word!r}: must be of the form name=value")
        flat += [name, text]
    return tuple(flat)


def heredoc_name(word: str) -> str | None:
    """The name in a word `<<name` of a COPY, None if the word is none."""
    found = _HEREDOC.fullmatch(word)
    return re.sub(r"['\"\\]", "", found[3]) or None if found else None


def heredoc_words(line: str) -> Iterator[tuple[str, bool, bool]]:
    """(name, expand, chomp) of each `<<word`, `<<-word`, `<<"word"` that is no part of a quoted text."""
    for word in _words(re.sub(r"<<(-?)[ \t\r]+", r"<<\1", line), "\\"):
        found = _HEREDOC.fullmatch(word)
        if found and found[3]:
            name = re.sub(r"['\"\\]", "", found[3])
            yield name, not re.search(r"['\"]", found[3]), found[2] == "-"
