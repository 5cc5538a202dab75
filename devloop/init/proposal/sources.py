"""Which of the manifests, kustomizations and charts count: each workload is brought by one of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from devloop.init.found import Chart, Deployed, Found, Kustomization, Note, Workload
from devloop.init.paths import last, parent
from devloop.init.proposal.plain import Plain, entries_of, plain_sources
from devloop.init.proposal.values import Entry, Question
from devloop.init.words import nearness

_BASE, _UNDECIDED = 150, 160  # between neutral (100) and another place's (200)
_GLOB = re.compile(r"[*?\[]")
Identity = tuple[str, str]  # kind, name


@dataclass(frozen=True, slots=True)
class Sources:
    workloads: tuple[Workload, ...]
    entries: tuple[Entry, ...]
    charts: tuple[Chart, ...]
    left_out: tuple[Note, ...]
    questions: tuple[Question, ...]


@dataclass(frozen=True, slots=True)
class _Source:
    """One candidate; `rank`: the lower comes first, then the lower `order`."""

    label: str
    rank: int
    order: int
    workloads: tuple[Workload, ...]
    item: Kustomization | Plain | Chart
    why: str = ""

    @property
    def identities(self) -> set[Identity]:
        return {(one.kind, one.name) for one in self.workloads}


def choose(found: Found, answers: Mapping[str, str]) -> Sources:
    kustomizations, questions = _kustomizations(found, answers)
    candidates = [one for one in kustomizations if not _GLOB.search(one.label)]
    candidates += [
        _Source(one.folder, 2, nearness(one.folder), one.workloads, one) for one in plain_sources(found)
    ]
    candidates += [_Source(one.folder, 3, 0, one.workloads, one, one.why) for one in found.charts]
    candidates, notes = _as_deployed(candidates, found.deployed)
    notes += [
        Note(one.label, "config.yaml reads such a name as a glob")
        for one in kustomizations
        if _GLOB.search(one.label)
    ]
    taken: list[_Source] = []
    for one in sorted(candidates, key=lambda source: (source.rank, source.order, source.label)):
        why = next(filter(None, (_why_not(one, other) for other in taken)), "")
        if why:
            notes.append(Note(one.label, why))
        elif _names_it(one, taken):
            continue  # the one that was taken renders it
        else:
            taken.append(one)
    plain = [one.item for one in taken if isinstance(one.item, Plain)]
    entries = [Entry(one.item.folder, one.why) for one in taken if isinstance(one.item, Kustomization)]
    return Sources(
        tuple(workload for one in taken for workload in one.workloads),
        (*entries, *entries_of(plain, found)),
        tuple(one.item for one in taken if isinstance(one.item, Chart)),
        tuple(notes),
        () if found.deployed else tuple(questions),
    )


def _as_deployed(candidates: list[_Source], deployed: Deployed | None) -> tuple[list[_Source], list[Note]]:
    """Only what skaffold.yaml deploys, where there is one. Plain manifests it has chosen already."""
    if deployed is None:
        return candidates, []
    meant = {*deployed.kustomizations, *(one.folder for one in deployed.releases)}
    kept = [one for one in candidates if isinstance(one.item, Plain) or one.label in meant]
    return kept, [
        Note(one.label, f"{deployed.where} does not deploy it")
        for one in candidates
        if one not in kept and not (isinstance(one.item, Kustomization) and one.order == _BASE)
    ]


def _why_not(one: _Source, taken: _Source) -> str:
    """Why a candidate cannot come beside one that was taken, "" where it can."""
    if isinstance(one.item, Kustomization) and isinstance(taken.item, Kustomization):
        if _are_rivals(one.item, taken.item) or taken.item.folder in one.item.folders:
            return f"{taken.label} is taken, of the same base"
        if one.item.folder in taken.item.folders:
            return ""
    both = sorted(taken.identities & one.identities)
    return f"{taken.label} brings {' '.join(both[0])} already" if both else ""


def _are_rivals(one: Kustomization, other: Kustomization) -> bool:
    """Overlays of one base, side by side: one of them is meant at a time."""
    return (
        one is not other
        and parent(one.folder) == parent(other.folder)
        and bool({*one.folders} & {*other.folders})
    )


def _names_it(one: _Source, taken: Sequence[_Source]) -> bool:
    folders = {
        folder for other in taken if isinstance(other.item, Kustomization) for folder in other.item.folders
    }
    return isinstance(one.item, Kustomization) and one.item.folder in folders


def _kustomizations(found: Found, answers: Mapping[str, str]) -> tuple[list[_Source], list[Question]]:
    """The roots, an overlay for this machine first; a base that only overlays use comes after them."""
    usable = [one for one in found.kustomizations if not one.component]
    named = {folder for one in usable for folder in one.folders}
    roots = [one for one in usable if one.folder not in named]
    sources: list[_Source] = []
    questions: list[Question] = []
    for one in usable:
        if one.folder in named:
            if one.workloads:
                sources.append(
                    _Source(one.folder, 1, _BASE, one.workloads, one, "the base: no overlay looks local")
                )
            continue
        rivals = [other for other in roots if _are_rivals(one, other)]
        order, why = _order(one, rivals)
        if answer := answers.get(_key([one, *rivals])):
            order, why = (-1, "as you answered") if answer == one.folder else (201, why)
        elif order == _UNDECIDED and not any(nearness(last(other.folder)) < 100 for other in rivals):
            questions.append(_question([one, *rivals]))
        sources.append(_Source(one.folder, 1, order, one.workloads, one, why))
    return sources, list({question.key: question for question in questions}.values())


def _order(one: Kustomization, rivals: Sequence[Kustomization]) -> tuple[int, str]:
    order = nearness(last(one.folder))
    if not rivals:
        return min(order, 100), "a kustomization"
    others = ", ".join(sorted(last(rival.folder) for rival in rivals))
    named = f"the others are {others}" if len(rivals) > 1 else f"the other is {others}"
    if order == 100:
        return _UNDECIDED, f"an overlay, as {others} are"
    return order, f"the overlay for this machine; {named}"


def _key(rivals: Sequence[Kustomization]) -> str:
    return "overlay:" + " ".join(sorted(one.folder for one in rivals))


def _question(rivals: Sequence[Kustomization]) -> Question:
    folders = sorted(one.folder for one in rivals)
    bases = sorted({folder for one in rivals for folder in one.folders})
    options = tuple((folder, folder) for folder in folders) + tuple((b, f"{b} (the base)") for b in bases[:1])
    return Question(
        _key(rivals), "Which overlay is for your machine?", options, bases[0] if bases else folders[0]
    )
