"""`devloop down`: what it asks, and what it makes of an answer."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from devloop.commands.down import confirmed


@pytest.mark.parametrize(
    ("typed", "removes", "expected"),
    [("y\n", True, ""), ("n\n", False, ""), ("", False, "nobody answered; --yes does not ask")],
)
def test_down_without_an_answer_removes_nothing(typed: str, removes: bool, expected: str) -> None:
    """An input that ends (cron, </dev/null) ended in an internal error."""
    with CliRunner().isolation(input=typed) as (out, err, _):
        assert confirmed(["deployment/web"], sure=False) == removes
        assert b"deployment/web" in out.getvalue()
        assert expected in err.getvalue().decode()


def test_down_asks_nobody_who_is_sure() -> None:
    with CliRunner().isolation(input="n\n"):
        assert confirmed(["deployment/web"], sure=True)
