"""Tasks of one user."""

from typing import Any, Optional

from fastapi import APIRouter
from pydantic import BaseModel, Field

import store
from models import Task

router = APIRouter(prefix="/api/tasks")


class NewTask(BaseModel):
    title: str = Field(min_length=1, max_length=200)
    description: Optional[str] = None
    priority: str = "medium"


@router.get("", response_model=list[Task])
async def list_tasks(user_id: str = "demo") -> Any:
    return [task for task in store.TASKS if task.user_id == user_id]


@router.post("", response_model=Task, status_code=201)
async def add_task(new: NewTask, user_id: str = "demo") -> Any:
    given = {"title": new.title, "description": new.description, "priority": new.priority}
    moment = store.now()
    store.TASKS.append(
        Task(id=len(store.TASKS) + 1, user_id=user_id, created_at=moment, updated_at=moment, **given)
    )
    return store.TASKS[-1]
