"""Which image is built by which Dockerfile: scores with reasons, the best pair first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from devloop.image_refs import repository, same_repository, split
from devloop.init.found import Container, Note, Workload
from devloop.init.proposal.recipes import Recipe
from devloop.init.proposal.values import Question
from devloop.init.words import WELL_KNOWN, basename, contains, slug, words

LEAVE = "-"  # the answer to a question that leaves an image out
NAMED, SURE = 100, 90  # from this score on a build section names the image


@dataclass(frozen=True, slots=True)
class Use:
    """One image repository, as written first, and who runs it."""

    image: str
    places: tuple[tuple[Workload, Container], ...]

    @property
    def tags(self) -> set[str]:
        return {split(box.image)[1] for _, box in self.places}

    @property
    def runners(self) -> str:
        return ", ".join(dict.fromkeys(str(workload) for workload, _ in self.places))

    @property
    def context(self) -> str:
        """The context of the cluster that runs it, "" where a file here describes a workload that does."""
        found = [workload.context for workload, _ in self.places]
        return found[0] if all(found) else ""

    def is_sure(self, points: int) -> bool:
        """Whether a pair of so many points needs no question. That a workload of the cluster is called alike
        does not make it this project's: its mark does, or a build section with the image's whole name."""
        if not self.context or all(workload.own for workload, _ in self.places):
            return True
        return points == NAMED and "/" in self.image


@dataclass(frozen=True, slots=True)
class Match:
    use: Use
    recipe: Recipe
    why: str


@dataclass(frozen=True, slots=True)
class Matched:
    """`unbuilt`: workloads of the cluster whose images no build here makes."""

    matches: tuple[Match, ...]
    left_out: tuple[Note, ...]
    questions: tuple[Question, ...]
    unbuilt: tuple[Workload, ...]


def uses(workloads: Sequence[Workload]) -> list[Use]:
    """Every repository that the workloads run, in their order."""
    found: dict[str, Use] = {}
    for workload in workloads:
        for box in workload.containers:
            key = repository(box.image)
            known = found.get(key, Use(split(box.image)[0], ()))
            found[key] = replace(known, places=(*known.places, (workload, box)))
    return list(found.values())


def match(images: Sequence[Use], recipes: Sequence[Recipe], answers: Mapping[str, str]) -> Matched:
    """Pairs of an image and a build. A build makes one image; what is left over on both sides and is the only
    one is taken for a pair too."""
    work = _Matching(recipes, answers, list(images), list(recipes))
    work.take_answers()
    work.take_scores()
    work.take_rest()
    left = [Note(use.image, _unbuilt(use, recipes)) for use in work.images if not use.context]
    unbuilt = [workload for use in work.images if use.context for workload, _ in use.places]
    return Matched(tuple(work.matches), (*work.notes, *left), tuple(work.questions), tuple(unbuilt))


@dataclass(slots=True)
class _Matching:
    """`images` and `free` builds have no partner yet."""

    recipes: Sequence[Recipe]
    answers: Mapping[str, str]
    images: list[Use]
    free: list[Recipe]
    matches: list[Match] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)

    def take(self, use: Use, recipe: Recipe, why: str) -> None:
        self.matches.append(Match(use, recipe, why))
        self.images.remove(use)
        self.free.remove(recipe)

    def take_answers(self) -> None:
        for use in list(self.images):
            answer = self.answers.get(f"image:{use.image}")
            recipe = next((one for one in self.free if one.dockerfile == answer), None)
            if recipe is not None:
                self.take(use, recipe, "as you answered")
            elif answer is not None:
                self.images.remove(use)
                self.notes.append(Note(use.image, "left out, as you answered"))

    def take_scores(self) -> None:
        scored = {use.image: _scores(use, self.free) for use in self.images}
        while pairs := _best(self.images, self.free, scored):
            points, use, rivals = pairs
            recipe, why = rivals[0]
            if len(rivals) == 1:
                if use.is_sure(points):
                    self.take(use, recipe, why)
                else:
                    self.leave_guess(use, recipe, why)
                continue
            self.images.remove(use)
            self.questions.append(_question(use, [one for one, _ in rivals]))
            named = ", ".join(one.dockerfile for one, _ in rivals)
            self.notes.append(Note(use.image, f"may be built from {named}: write the one that is right"))

    def leave_guess(self, use: Use, recipe: Recipe, why: str) -> None:
        """Ask; a no, and nobody there to answer, leave the workload alone."""
        self.images.remove(use)
        self.questions.append(_guess(use, recipe))
        workload, _ = use.places[0]
        how = f"deploy: {{{workload.kind.lower()}: {workload.name}, namespace: {workload.namespace}}}"
        runs = f"{_where(use)} of the cluster runs it, and it may be another project's"
        yours = f"if it is this one's, built from {recipe.dockerfile}, write image: {use.image} and {how}"
        self.notes.append(Note(use.image, f"{why}; but {runs}: {yours}"))

    def take_rest(self) -> None:
        left = [use for use in self.images if not use.context and not is_foreign(use, self.recipes)]
        asked = [self.answers.get(_leftover_key(recipe)) for recipe in self.free]
        if len(left) == len(self.free) == 1 and not self.questions and asked == [None]:
            self.take(left[0], self.free[0], "the only image and the only Dockerfile that are left")
            return
        for recipe, answer in zip(list(self.free), asked, strict=True):
            use = next((one for one in left if one.image == answer), None)
            if use is not None:
                self.take(use, recipe, "as you answered")
                left.remove(use)
            elif answer is None and left:
                self.questions.append(_leftover(recipe, left))


def _scores(use: Use, recipes: Sequence[Recipe]) -> list[tuple[int, str, Recipe]]:
    """(points, why, build) of the builds that come into question."""
    scored = ((*score(use, recipe), recipe) for recipe in recipes)
    return [one for one in scored if one[0]]


def _best(
    images: Sequence[Use], free: Sequence[Recipe], scores: Mapping[str, list[tuple[int, str, Recipe]]]
) -> tuple[int, Use, list[tuple[Recipe, str]]] | None:
    """The highest score, its image, and every build that has it."""
    best: tuple[int, Use, list[tuple[Recipe, str]]] | None = None
    still = {id(recipe) for recipe in free}
    for use in images:
        scored = [one for one in scores[use.image] if id(one[2]) in still]
        top = max((points for points, _, _ in scored), default=0)
        if top and (best is None or top > best[0]):
            best = top, use, [(one, why) for points, why, one in scored if points == top]
    return best


def score(use: Use, recipe: Recipe) -> tuple[int, str]:
    """(0 for no pair up to 100, why)."""
    name = basename(use.image)
    if recipe.image and same_repository(use.image, recipe.image):
        return NAMED, "it names this image"
    if recipe.image and basename(recipe.image) == name:
        return SURE, f"it names {recipe.image}, the same but for the registry"
    if is_foreign(use, [recipe]):
        return 0, ""
    return _score_by_name(use, recipe)


def _score_by_name(use: Use, recipe: Recipe) -> tuple[int, str]:
    name = basename(use.image)
    near = min(9, sum(word in words(recipe.dockerfile) for word in set(words(use.image))))
    for index, called in enumerate(recipe.names):
        if slug(name) == called:
            return (
                70 + near - index,
                f'matched by name: "{called}" is the name of the image and of the Dockerfile',
            )
    for index, called in enumerate(recipe.names):
        if contains(words(name), words(called)):
            return 50 + near - index, f'matched by name: "{called}" is part of the image\'s name'
    for workload, box in use.places:
        for called in recipe.names:
            if called in (slug(workload.name), slug(box.name)) or contains(
                words(workload.name), words(called)
            ):
                return (
                    30 + near,
                    f'matched by name: "{called}" is in the name of {workload}, container {box.name}',
                )
    return 0, ""


def is_foreign(use: Use, recipes: Sequence[Recipe]) -> bool:
    """Whether it is an image that people pull: what a Dockerfile stands on, or a well-known one."""
    if any(
        same_repository(base, use.image) for recipe in recipes for base in recipe.bases if "$" not in base
    ):
        return True
    return basename(use.image) in WELL_KNOWN and not use.tags <= {"", "latest", "dev", "local"}


def _unbuilt(use: Use, recipes: Sequence[Recipe]) -> str:
    if is_foreign(use, recipes):
        return f"pulled, not built here ({use.runners})"
    return f"no Dockerfile here seems to build it; {use.runners} runs it as it is"


def _question(use: Use, rivals: Sequence[Recipe]) -> Question:
    options = tuple((one.dockerfile, one.dockerfile) for one in rivals)
    text = f"Which Dockerfile builds {use.image}, which {use.runners} runs?"
    return Question(f"image:{use.image}", text, (*options, (LEAVE, "none of these: leave it out")), LEAVE)


def _where(use: Use) -> str:
    return ", ".join(dict.fromkeys(f"{one} in namespace {one.namespace}" for one, _ in use.places))


def _guess(use: Use, recipe: Recipe) -> Question:
    asked = f"Is it this project's, built from {recipe.dockerfile}?"
    text = f"{_where(use)} of {use.context} runs {use.image}. {asked}"
    options = ((recipe.dockerfile, "yes"), (LEAVE, "no: leave it alone"))
    return Question(f"image:{use.image}", text, options, LEAVE)


def _leftover_key(recipe: Recipe) -> str:
    return f"build:{recipe.dockerfile}"


def _leftover(recipe: Recipe, images: Sequence[Use]) -> Question:
    options = tuple((one.image, f"{one.image}, which {one.runners} runs") for one in images)
    text = f"Which image is built from {recipe.dockerfile}?"
    return Question(
        f"build:{recipe.dockerfile}", text, (*options, (LEAVE, "none of these: leave it out")), LEAVE
    )
