"""The todo backend: tasks over HTTP on port 8001 (`uvicorn src.main:app`)."""

# No `from __future__ import annotations`: FastAPI reads these annotations when the module loads.
import logging
import os
import socket
from datetime import datetime
from typing import Any, Literal, Optional

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, Field

from src import tasks
from src.greeting import GREETING

Priority = Literal["low", "medium", "high"]


class NewTask(BaseModel):
    title: str = Field(min_length=1, max_length=200)
    description: Optional[str] = None
    completed: bool = False
    priority: Priority = "medium"


class TaskChange(BaseModel):
    """Fields left out (or null) stay as they are."""

    title: Optional[str] = Field(default=None, min_length=1, max_length=200)
    description: Optional[str] = None
    completed: Optional[bool] = None
    priority: Optional[Priority] = None


class Task(NewTask):
    id: int
    user_id: str
    created_at: datetime
    updated_at: datetime


# Probes and scripts ask these all the time; the log is for people.
QUIET = (" /health ", " /api/version ")
logging.getLogger("uvicorn.access").addFilter(lambda record: not any(path in record.getMessage() for path in QUIET))

tasks.prepare()
app = FastAPI(title="todo-backend")


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/")
@app.get("/api/version")
async def version() -> dict[str, Any]:
    return {
        "service": "todo-backend",
        "greeting": GREETING,
        "pod": os.environ.get("HOSTNAME", socket.gethostname()),
        "llm_provider": os.environ.get("LLM_PROVIDER"),
    }


@app.get("/api/tasks", response_model=list[Task])
def list_tasks(user_id: str = "demo") -> Any:
    return tasks.all_of(user_id)


@app.post("/api/tasks", response_model=Task, status_code=201)
def add_task(new: NewTask, user_id: str = "demo") -> Any:
    return tasks.add(user_id, {field: getattr(new, field) for field in tasks.FIELDS})


@app.get("/api/tasks/{task_id}", response_model=Task)
def get_task(task_id: int, user_id: str = "demo") -> Any:
    return found(tasks.one(user_id, task_id))


@app.patch("/api/tasks/{task_id}", response_model=Task)
def change_task(task_id: int, change: TaskChange, user_id: str = "demo") -> Any:
    values = {field: getattr(change, field) for field in tasks.FIELDS}
    given = {field: value for field, value in values.items() if value is not None}
    return found(tasks.change(user_id, task_id, given))


@app.delete("/api/tasks/{task_id}", status_code=204, response_model=None)
def delete_task(task_id: int, user_id: str = "demo") -> None:
    found(tasks.remove(user_id, task_id) or None)


def found(task: Any) -> Any:
    if task is None:
        raise HTTPException(status_code=404, detail="no such task")
    return task
