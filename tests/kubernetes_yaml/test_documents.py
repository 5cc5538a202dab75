# ruff: noqa: E501 - tables of texts
"""One YAML loader for manifests, values and kubeconfigs: what kubectl would send, value for value."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devloop.errors import ConfigError, DevloopError
from devloop.kubernetes_yaml.documents import document, documents
from devloop.kubernetes_yaml.nodes import DEEPEST
from tests.support.kubectl_yaml import HEAD, sent, values

needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is the judge")

SCALARS = """
12:30|22:22|1:2:3.5|190:20:30|2024-05-01|2024-02-30|2024-5-1|2024-05-01T10:00:00Z|2001-12-14 21:59:43.10 -5
0777|0o777|0O17|08|09.5|0x1F|0X1f|-0x1f|+0x1F|0b101|-0b11|0B1|0b2|0x|0b|0o|0o8|00|007|-010|+12|-12
1_000|1__0|1_|0_7|_1|-_1|1_000.5|0x_1F|1e3|1E3|1e+3|1e-3|1.e3|1.|.5|-.5|+.5|.5e1|.5_0|._5|.|..|.e1|+|--1|+-1
1.0|1.50|-0|-0.0|0.0|1e21|1e20|123456789012345678901234567890|9223372036854775807|9223372036854775808
18446744073709551615|18446744073709551616|-9223372036854775808|-9223372036854775809|1e400|-1e400|1e-400
y|Y|yes|Yes|YES|yEs|n|N|no|NO|on|On|ON|off|Off|oFF|true|True|TRUE|tRUE|false|False|null|Null|NULL|nULL|~|~x
"12:30"|'yes'|"0777"|"1e3"|""|''|!!str 5|!!str yes|!!int 5|!!int "5"|!!float 5|!!float "1.5"|!!bool yes|!!bool "true"
!!null ""|!!null ~|!!binary aGk=|!!binary /+8=|!!binary 4oLigg==|!foo x|!foo 5|! 5|! yes|!!timestamp 2024-05-01
1.2.3|v1|1a|0xg|inf|nan|.Infinity|Infinity|1 2|=|<<|1,5|1e|e3|0e0|00e1|1d|0x1p4|0x1.8p1|1_e3|1e_3
!!set {a, b}|!!omap [a: 1]|!!seq [1]|!!map {a: 1}|{a: , b: ~}|{1: a}|{1.5: a}|{1e6: a}|{1e5: a}|{0.1: a}
{1e20: a}|{1234567.5: a}|{1e-5: a}|{1e300: a}|{.inf: a}|{yes: a}|{off: b}|{0x10: a}|{0o17: b}|{010: c}|{2024-01-01: a}|{1_0: a}
{12:30: a}|{"1": a, "b": 2}|{9223372036854775807: a}|{a: 1, a: 2}|{-0.0: a}|{+.inf: a}|{-.inf: a}|{.nan: a}
{a: &x {b: 1}, c: *x}|{a: &x {b: 1, c: 2}, d: {<<: *x, b: 3}}|{a: &x {b: 1}, d: {b: 3, <<: *x}}|{a: &x 5, *x : b}
{a: &x {p: 1}, b: &y {p: 2, q: 2}, d: {<<: [*x, *y]}}|{d: {<<: {a: 1}, b: 2}}|{d: {"<<": 5}}|{d: {<<: {a: 1}, <<: {a: 2}}}
{a: &x [1], b: &x [2], c: *x}|&x 5|[&x yes, *x]
""".replace("\n", "|")
ACCEPTED = [one for one in SCALARS.split("|") if one]
BLOCKS = (
    "|\n  a\n   b\n", ">-\n  a\n  b\n\n  c\n", "|+\n  a\n\n", "|2-\n    a\n", ">\n  a\n  # no comment\n",
    "\n- a\n-\n- - b\n  - c\n", "\n  ? a\n  : b\n  ? c\n", "\n  a: b # comment\n  c: d#none\n", "a\n  b\n   c\n",
    '"a\\\n  b\\x41\\u00e9\\n\\ttab"', "'it''s'", '"\\0"', "\n  - !!binary |\n    aGVsbG8g\n    d29ybGQ=\n",
)  # fmt: skip
REFUSED = (
    ".nan", ".inf", "[ , ]", "[a, , b]", "-.INF", "{null: a}", "{~: a}", "{[a]: b}", "{{a: b}: c}", "{18446744073709551615: a}",
    "!!int abc", '!!int ""', '!!float ""', "!!bool 5", "!!null x", "!!binary ***", "!!timestamp x", "*none",
    "{<<: 5}", "{<<: [a]}", "&x [*x]", "{a: &x {b: *x}}", "[a", "{a", '"a', "a: b: c", "- a", "@a", "`a", "\ta: b",
    "!!float 18446744073709551615", '!!int "2024-01-01"',
)  # fmt: skip


def ours(text: str) -> Any:
    """What we make of a text as the value of `v`."""
    (found,) = documents(f"{HEAD}v: {text}\n", "x.yaml")
    return found.value.get("v")


def same(one: Any, other: Any) -> bool:
    """Equal as JSON: true is not 1, 1.0 is 1."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def differences(texts: Iterable[str], theirs: Iterable[Any]) -> list[tuple[str, Any, Any]]:
    return [
        (text, ours(text), one) for text, one in zip(texts, theirs, strict=True) if not same(ours(text), one)
    ]


@needs_kubectl
def test_values_are_what_kubectl_sends() -> None:
    texts = [*ACCEPTED, *BLOCKS]
    assert differences(texts, values(texts)) == []


@needs_kubectl
@pytest.mark.parametrize("text", REFUSED)
def test_what_kubectl_refuses_is_refused_with_its_line(text: str) -> None:
    assert isinstance(sent(f"{HEAD}v: {text}\n"), str)
    with pytest.raises(ConfigError, match=r"^x\.yaml(:\d+)?: "):
        ours(text)


@needs_kubectl
def test_random_scalars_are_what_kubectl_sends() -> None:
    """Numbers, times, words and their neighbours, from the letters that make YAML's rules."""
    dice = random.Random(25)
    texts = []
    for _ in range(3000):
        letters = dice.choice(
            ("0123456789", "01_xXbBoOeE.+-", "0123456789_.:eE+-", "yYnNoOfFtTrueals~", ".infanINFAN")
        )
        text = "".join(dice.choice(letters) for _ in range(dice.randint(1, 7)))
        if not text.endswith(":") and not text.startswith(("- ", ": ")) and text not in ("-", "---"):
            texts.append(text)
    refused = [one for one in texts if _refused(one)]
    texts = [one for one in texts if one not in set(refused)]
    assert len(texts) > 2000
    assert differences(texts, values(texts)) == []


def _refused(text: str) -> bool:
    """Whether we refuse it: numbers that JSON does not have (kubectl does so too: REFUSED)."""
    try:
        ours(text)
    except ConfigError:
        return True
    return False


STREAMS = (
    "{0}v: 1\n---\n{0}v: 2\n", "---\n{0}v: 1\n---\n---\n# nothing\n---\n{0}v: 2\n---\n", "{0}v: 1\n--- # comment\n{0}v: 2\n",
    "{0}v: |\n  a\n  ---\n  b\n", "# only a comment\n---\n{0}", "{0}v: 1\n...\n---\n{0}v: 2\n", "\ufeff{0}v: 1\n",
    "{0}v: 1\r\n---\r\n{0}v: 2\r\n", '{{"apiVersion": "x/v1", "kind": "A", "metadata": {{"name": "a"}}, "v": [1.0, 1e3, "\\ud83d\\ude00", "a/b"]}}',
    '{{"apiVersion": "x/v1", "kind": "A", "metadata": {{"name": "a"}}}}\n{{"apiVersion": "x/v1", "kind": "A", "metadata": {{"name": "b"}}, "v": 12345678901234567890}}',
    "{0}v: 1\n---   \n{0}v: 2", "--- \n{0}", "{0}v: 1\n...\nv: 2\n", "null\n---\n{0}", "~\n---\n{0}",
)  # fmt: skip


@needs_kubectl
@pytest.mark.parametrize("text", [one.format(HEAD) for one in STREAMS])
def test_documents_of_a_text_are_what_kubectl_sees(text: str) -> None:
    theirs = sent(text)
    assert not isinstance(theirs, str), theirs
    assert same([one.value for one in documents(text, "x.yaml")], theirs)


def test_lines_are_those_of_the_file() -> None:
    text = "# comment\n---\na: 1\n---\nb:\n- c: 1\n  d: 2\n"
    first, second = documents(text, "x.yaml", places=True)
    assert (first.line, second.line) == (3, 5)
    assert second.lines == {(): 5, ("b",): 5, ("b", 0): 6, ("b", 0, "c"): 6, ("b", 0, "d"): 7}
    with pytest.raises(ConfigError, match=r"^x\.yaml:6: "):
        documents("a: 1\n---\nb: 2\nc: 3\nd: [\n", "x.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000, "{a: " * 5000, "- " * 5000, "a: " + "[" * (DEEPEST + 1) + "]" * (DEEPEST + 1), '{"a": ' + "[" * 90_000,
        "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
        "\x00", "a: \x07", "\ud800".encode("utf-8", "surrogatepass").decode("utf-8", "replace") + "\x01",
    ],
)  # fmt: skip
def test_texts_that_are_out_of_all_bounds_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^x\.yaml"):
        documents(text, "x.yaml")


def test_values_files_are_one_document_as_helm_reads_them() -> None:
    assert document("a: 12:30\n---\nb: 1\n", "v.yaml", reason="InvalidValues") == {"a": "12:30"}
    assert document("# nothing\n", "v.yaml", reason="InvalidValues") is None
    with pytest.raises(ConfigError) as caught:
        document("a: [", "v.yaml", reason="InvalidValues")
    assert caught.value.reason == "InvalidValues"


WORDS = st.sampled_from(
    ["a", "b", ":", ": ", "- ", "\n", "\n  ", "  ", "[", "]", "{", "}", ",", "&x ", "*x", "<<: ", "!!int ", "!!binary ",
     "? ", "|", ">", '"', "'", "#", "%", "---\n", "...", "12:30", "2024-02-30", "~", "\t", "\x00", "\ufeff", "\u2028", "é"]
)  # fmt: skip


@given(st.lists(WORDS, max_size=40).map("".join))
def test_any_text_is_values_or_an_error_with_a_name(text: str) -> None:
    try:
        found = documents(text, "x.yaml", places=True)
    except DevloopError as error:
        message: str | None = error.message
    else:
        message = None
        json.dumps([one.value for one in found], allow_nan=False)
    assert message is None or message.startswith("x.yaml")
