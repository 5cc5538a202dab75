from __future__ import annotations

import pytest

from devloop.commands.rollback import Earlier, earlier_images

NOW, TREE = "a:dl-5555555555555555", "a:dl-9999999999999999"
V1, V2, V3, V4 = (f"a:dl-{str(n) * 16}" for n in (1, 2, 3, 4))
OURS_BEFORE = "a:1.0.0"


@pytest.mark.parametrize(
    ("ran", "lived", "tree", "expected"),
    [
        # v2 crashed: it is in the ReplicaSets, and never was live
        ([[V3, V2, V1]], [V3, V1], V3, [V1]),
        # the present one crashed
        ([[V3, V2, V1]], [V2, V1], V3, [V2, V1]),
        # held at v2 while the tree is v3: farther back, not forth to the tree
        ([[V2, V3, V1]], [V3, V2, V1], V3, [V1]),
        # at the earliest
        ([[V1, V2]], [V2, V1], V2, []),
        # the ReplicaSets are pruned; devloop remembers
        ([[V3]], [V3, V2], V3, [V2]),
        # an image of before devloop's time: nobody knows, so it comes last
        ([[V3, V2, OURS_BEFORE]], [V3, V1], V3, [V1, f"?{OURS_BEFORE}"]),
        ([[V3, V2, OURS_BEFORE]], [V3], V3, [f"?{OURS_BEFORE}"]),
        # no records at all: the state directory was deleted, or another machine made them
        ([[V3, V2, V1]], [], V3, [f"?{V2}", f"?{V1}"]),
        # two targets go back together
        ([[V3, V2, V1], [V3, V1]], [], V3, [f"?{V1}"]),
        ([[V3, V2], []], [V3, V2], V3, []),
        ([], [V3, V2], V3, []),
        # another repository, from before the service's image was renamed
        ([[V3]], [V3, "b:dl-1111111111111111"], V3, []),
    ],
)
def test_s24_a_rollback_leads_to_what_was_live(
    ran: list[list[str]], lived: list[str], tree: str, expected: list[str]
) -> None:
    wanted = tuple(Earlier(ref.removeprefix("?"), not ref.startswith("?")) for ref in expected)
    assert earlier_images("a", ran, lived, tree) == wanted
