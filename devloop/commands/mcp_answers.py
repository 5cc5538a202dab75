"""What the tools of `devloop mcp` answer: the schemas that an agent reads."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Decision(BaseModel):
    service: str
    state: str = Field(
        description="live, failed, held, paused, pending, contested, gone (from config.yaml) or undecided"
    )
    now: str = Field(description="what the watch shows of it: where it is undecided, what it waits for")
    outcome: str | None
    fingerprint: str | None = Field(description="of the files that were judged")
    image: str | None
    url: str | None
    why: str | None = Field(description="why the trip began that decided it")
    seconds: float | None = Field(description="from the save to the decision")
    stage: str | None = Field(description="fingerprint, build, load, patch or rollout: where it failed")
    cause: str | None = Field(description="the one line that says why it failed, with file and line if known")
    reason: str | None = Field(description="one word for the failure, such as CrashLoopBackOff")
    message: str | None
    hint: str | None = Field(description="what to do about it")
    paths: list[str] = Field(description="the files whose change led there, at most 20")
    count: int = Field(description="how many files those are")
    log: list[str] = Field(description="the last lines of the build or of the container that failed")


class Waited(BaseModel):
    model_config = ConfigDict(serialize_by_alias=True)

    goal: str = Field(alias="for")
    reached: bool = Field(description="every service got to what the wait was for")
    timed_out: bool = Field(description="the time was up before all were decided: call wait again")
    services: dict[str, Decision]
    problems: dict[str, str] = Field(description="what is wrong with config.yaml or manifests")


class Result(BaseModel):
    done: bool = Field(description="false: it was refused, and message says why")
    message: str
    hint: str | None


class Results(BaseModel):
    services: dict[str, Result]


class Held(BaseModel):
    image: str = Field(description="what the service runs now")
    notes: list[str]


class Status(BaseModel):
    services: dict[str, dict[str, Any]] = Field(description="of each what `devloop status -o json` prints")
    problems: dict[str, str] = Field(description="what is wrong with config.yaml or manifests")
    watch_elsewhere: str = Field(description='where the watch of this project works, if not here; else ""')


class Line(BaseModel):
    service: str
    pod: str
    container: str
    line: str


class Logs(BaseModel):
    lines: list[Line] = Field(description="in the order of time, the newest last")
    containers: int = Field(description="how many were read: 0 where none of the services has a pod")


class Trips(BaseModel):
    trips: list[dict[str, Any]] = Field(description="the newest last; what `devloop history -o json` prints")


class Explained(BaseModel):
    services: dict[str, dict[str, Any]] = Field(description="of each what `devloop explain -o json` prints")
