"""Rules on image references: what a container says it runs."""

from __future__ import annotations

import re
from collections.abc import Iterator

from devloop.checks.rule import Found, Rule, View
from devloop.image_refs import split

SEMVER = re.compile(
    r"^v?(?:0|[1-9]\d*)\.(?:0|[1-9]\d*)\.(?:0|[1-9]\d*)(?:-[0-9A-Za-z.-]+)?(?:_[0-9A-Za-z.-]+)?$"
)
CONTENT = re.compile(r"^dl-[0-9a-f]{16}$")


def no_latest(view: View) -> Iterator[Found]:
    for one in view.containers():
        if "@" not in one.image and split(one.image)[1] in ("", "latest"):
            text = f"{one} runs {one.image or 'no image'}: name a tag that does not move"
            yield Found(one.subject, (*one.place, "image"), text)


def tag_form(view: View) -> Iterator[Found]:
    for one in view.containers():
        tag = split(one.image)[1]
        if "@" in one.image or tag in ("", "latest"):  # the other rule's
            continue
        if not SEMVER.match(tag) and not CONTENT.match(tag):
            text = f"{one}: tag {tag} is neither a semantic version (1.2.3) nor devloop's dl-…"
            yield Found(one.subject, (*one.place, "image"), text)


def pull_policy(view: View) -> Iterator[Found]:
    for one in view.containers():
        if view.service_of(one) is None:
            continue
        policy = one.item.get("imagePullPolicy")
        if policy == "Always" or (policy is None and split(one.image)[1] in ("", "latest")):
            effective = policy or "Always (the default without a tag)"
            text = f"{one}: imagePullPolicy {effective} asks a registry for an image that is only on the node"
            yield Found(one.subject, (*one.place, "imagePullPolicy"), text)


def image_on_node(view: View) -> Iterator[Found]:
    for one in view.containers():
        nodes = view.facts.lacking.get(one.image, ())
        if nodes and view.service_of(one) is None and one.item.get("imagePullPolicy") == "Never":
            text = f"{one}: {one.image} is not on {', '.join(nodes)}, and imagePullPolicy Never pulls nothing"
            yield Found(one.subject, (*one.place, "image"), text)


RULES = (
    Rule(
        "no-latest",
        None,
        "error",
        "No image without a tag, or with the tag `latest`, is deployed.",
        no_latest,
    ),
    Rule("tag-form", None, "error", "A tag is a semantic version or devloop's `dl-…`.", tag_form),
    Rule(
        "pull-policy",
        "error",
        "error",
        "An image that devloop loads has imagePullPolicy Never or IfNotPresent.",
        pull_policy,
    ),
    Rule(
        "image-on-node",
        "error",
        "error",
        "An image with imagePullPolicy Never is on every node, or devloop brings it.",
        image_on_node,
        "cluster",
    ),
)
