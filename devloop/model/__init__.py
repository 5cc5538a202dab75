"""The values that travel, each frozen: a stage of a trip takes one and returns the next. Imported by
everybody.

Change -> Fingerprint -> Image -> LoadedImage -> Rollout -> Timing. Times are seconds since the epoch on the
`Clock` of clock.py unless a name says otherwise. It imports nothing of devloop but errors
and the plan of a Dockerfile, which a fingerprint carries.
"""

from devloop.dockerfile.plan import Base
from devloop.model.application import Application, Trouble
from devloop.model.cluster import (
    ENGINE_ANNOTATION,
    ContainerView,
    EventView,
    Neighbour,
    NodeFacts,
    PodView,
    ReleaseView,
    Revision,
    Snapshot,
)
from devloop.model.image import Archive, How, Image, LiveImage, LoadedImage
from devloop.model.inputs import (
    NOTHING_REMOVED,
    Change,
    FileEntry,
    Fingerprint,
    Inputs,
    Removed,
)
from devloop.model.outcome import (
    STAGES,
    Failed,
    Held,
    Live,
    Outcome,
    Phase,
    Progressing,
    Ready,
    Rollout,
    Span,
    Stage,
    Stuck,
    Superseded,
    Timing,
    Unchanged,
    Verdict,
    outcome_word,
)
from devloop.model.project import BuildSpec, Forward, Release, Secret, Service, Target, Values, ValuesFile
from devloop.model.update import InPlacePlan, PodToUpdate, Refusal, UpdateMode

__all__ = [
    "ENGINE_ANNOTATION",
    "NOTHING_REMOVED",
    "STAGES",
    "Application",
    "Archive",
    "Base",
    "BuildSpec",
    "Change",
    "ContainerView",
    "EventView",
    "Failed",
    "FileEntry",
    "Fingerprint",
    "Forward",
    "Held",
    "How",
    "Image",
    "InPlacePlan",
    "Inputs",
    "Live",
    "LiveImage",
    "LoadedImage",
    "Neighbour",
    "NodeFacts",
    "Outcome",
    "Phase",
    "PodToUpdate",
    "PodView",
    "Progressing",
    "Ready",
    "Refusal",
    "Release",
    "ReleaseView",
    "Removed",
    "Revision",
    "Rollout",
    "Secret",
    "Service",
    "Snapshot",
    "Span",
    "Stage",
    "Stuck",
    "Superseded",
    "Target",
    "Timing",
    "Trouble",
    "Unchanged",
    "UpdateMode",
    "Values",
    "ValuesFile",
    "Verdict",
    "outcome_word",
]
