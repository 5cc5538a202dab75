"""What must hold of a fingerprint while a context goes through a case's edits.

devloop counts no more than what is sent, and all that is copied; a fingerprint that is kept current by the
paths of events is that of a fresh look in any order; where what is copied differs, so do the fingerprints;
where all that is sent is the same, so are they; times alone never matter.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from unittest.mock import patch

from devloop.dockerfile.plan import Plan, Read, has_wildcard
from devloop.errors import DevloopError
from devloop.inputs.archive import tar_context
from devloop.model import Fingerprint
from tests.differential.contexts import EVERYTHING, LONG_AGO, Built, Context, events, listing
from tests.differential.edits import Edit
from tests.differential.oracle import Oracle
from tests.differential.texts import Found, Theirs


def compare_sent(fingerprint: Fingerprint, plan: Plan, now: Built, found: Found) -> None:
    """No file counts that is not sent. What is sent beyond what is copied does not have to."""
    mine = {path: entry.kind for path, entry in fingerprint.inputs.files.items()}
    found.counts["inputs"] += len(mine)
    doubted = {path for path in mine if fingerprint.rules.disputed(path)}
    doubted |= {path[:at] for path in doubted for at, char in enumerate(path) if char == "/"}
    more = [path for path, kind in mine.items() if now.sent.get(path) != kind and path not in doubted]
    if more and is_exact(plan):
        found.differences.append(f"an input, and not sent: {sorted(more)}")
    if all(read.pattern == "" for read in plan.reads):
        missing = [path for path, kind in now.sent.items() if mine.get(path) != kind]
        if missing:
            found.differences.append(f"the whole context is copied, and no input: {sorted(missing)}")


def is_exact(plan: Plan) -> bool:
    """Does devloop count no more than what is sent? A class like `[^a]` may match a slash to some, so all
    that lies there counts. Of a source that begins with "!", has a backslash or a class like `[?a]`, or goes
    through a link below a wildcard, the command sends less than is written there."""
    return not plan.whole and not any(_is_odd(read) for read in plan.reads)


def _is_odd(read: Read) -> bool:
    above, _, _ = read.pattern.rpartition("/")
    odd = re.search(r"\[\^|\\|\[[^]]*[?*]", read.pattern) is not None or read.pattern.startswith("!")
    return read.parents or odd or has_wildcard(above)


def compare_archive(context: Context, fingerprint: Fingerprint, now: Built, found: Found) -> None:
    """The context as the API gets it holds every input that is sent."""
    with patch("devloop.inputs.archive._member", lambda path, entry, check: (entry.path.encode(),)):
        names = [*tar_context(context.layout.context, fingerprint.inputs, fingerprint.rules)][:-1]
    wanted = {path for path, entry in fingerprint.inputs.files.items() if now.sent.get(path) == entry.kind}
    if lost := wanted - {name.decode() for name in names}:
        found.differences.append(f"sent, and not in the archive: {sorted(lost)}")


def _check(
    context: Context,
    kept: Fingerprint,
    fresh: Fingerprint,
    plan: Plan,
    now: Built,
    found: Found,
    when: str = "",
) -> None:
    """At one moment: kept current as a fresh look has it, and both as the command sends it."""
    if kept.digest != fresh.digest:
        a, b = (_plain(one) for one in (kept, fresh))
        differ = sorted(path for path in {*a, *b} if a.get(path) != b.get(path))
        found.differences.append(f"kept current it is not what a fresh look gives, by {differ}{when}")
    if not now.mirrored:
        compare_sent(fresh, plan, now, found)
        compare_archive(context, fresh, now, found)


def _plain(fingerprint: Fingerprint) -> dict[str, tuple[object, ...]]:
    return {path: (one.kind, one.mode, one.digest) for path, one in fingerprint.inputs.files.items()}


def _compare_steps(
    plan: Plan, prints: tuple[Fingerprint, Fingerprint], was: Built, now: Built, found: Found
) -> None:
    """Two moments: where what is copied differs, so do the fingerprints; where all that is sent is the same,
    so are they."""
    same = prints[0].digest == prints[1].digest
    pairs = [pair for pair in zip(was.taken, now.taken, strict=True) if pair[0] != pair[1]]
    if pairs:
        found.counts["steps that change what is copied"] += 1
        if same and all(_missing(one) == _missing(other) for one, other in pairs):
            lines = sorted(set(pairs[0][0]) ^ set(pairs[0][1]))
            found.differences.append(f"the same fingerprint, and what is copied differs: {lines[:6]}")
        return
    if was.content == now.content and not same and is_exact(plan) and not prints[1].rules._versions_differ:
        found.differences.append("another fingerprint, and what is sent is the same")


def _missing(lines: Sequence[str]) -> bool:
    """A COPY that finds nothing fails or does nothing, by what happens to be sent beside it."""
    return lines == ["error: not found"]


async def touched(context: Context, found: Found, before: Fingerprint) -> None:
    """Times alone."""
    for path in context.layout.context.rglob("*"):
        when = LONG_AGO + context.chance.randrange(10**9)
        os.utime(path, ns=(when, when), follow_symlinks=False)
    if (await context.fresh()).digest != before.digest:
        found.differences.append("times alone change the fingerprint")


async def damaged(
    context: Context,
    theirs: Theirs,
    oracle: Oracle | None,
    now: Built,
    plan: Plan,
    found: Found,
    before: Fingerprint,
) -> None:
    """Every file that is not sent gets another content; then one that is."""
    layout, rules = context.layout, before.rules
    keep = {layout.dockerfile, layout.ignore_file}
    shared = {(layout.context / path).stat().st_ino for path, kind in now.sent.items() if kind == "file"}
    away = [path for path, node in now.tree.items() if node[0] == "file" and path not in now.sent]
    away = [path for path in away if layout.context / path not in keep and not rules.disputed(path)]
    away = [path for path in away if (layout.context / path).stat().st_ino not in shared]
    for path in away:
        (layout.context / path).write_text("another")
    found.counts["files that are not sent"] += len(away)
    if is_exact(plan) and (await context.fresh()).digest != before.digest:
        found.differences.append(f"one of these changes the fingerprint, and is not sent: {away}")
    files = [path for path, kind in now.sent.items() if kind == "file" and layout.context / path not in keep]
    if files:
        one = layout.context / context.chance.choice(files)
        one.write_bytes(one.read_bytes() + b"!")
        after = await context.fresh()
        differs = context.built(oracle, theirs).taken != now.taken
        if differs and after.digest == before.digest:
            found.differences.append(f"{one.name} is copied, and does not change the fingerprint")


async def through(
    context: Context,
    plan: Plan,
    theirs: Theirs,
    steps: Sequence[Sequence[Edit]],
    oracle: Oracle | None,
    found: Found,
) -> None:
    """From the first look over each step to the ends. Raises DevloopError: what devloop says of the first
    look; OracleError."""
    kept, fresh = await context.live.take(context.service, EVERYTHING), await context.fresh()
    last = context.built(oracle, theirs)
    _check(context, kept, fresh, plan, last, found)
    for step in steps:
        for edit in step:
            edit.apply(context.layout.context)
        context.write_recipe()
        before, what = kept, "; ".join(map(str, step))
        paths = events(last.tree, listing(context.layout.context), context.chance)
        try:
            fresh = await context.fresh()
            kept = await context.kept_current(before, paths)
        except DevloopError as problem:
            found.counts[f"refused after an edit: {type(problem).__name__}"] += 1
            return
        now = context.built(oracle, theirs)
        found.counts["steps"] += 1
        _check(context, kept, fresh, plan, now, found, f" after {what} (events: {paths})")
        if (await context.restarted()).digest != fresh.digest:
            found.differences.append(f"a restarted devloop does not see {what}")
        _compare_steps(plan, (before, kept), last, now, found)
        last = now
    await damaged(context, theirs, oracle, last, plan, found, kept)
    await touched(context, found, await context.fresh())
