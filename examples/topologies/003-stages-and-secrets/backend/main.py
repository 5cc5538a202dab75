"""The todo backend on port 8000 (`uvicorn main:app`). Its tasks live as long as its pod."""

# No `from __future__ import annotations`: FastAPI reads these annotations when the module loads.
import logging
import os
import socket
from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from pydantic import BaseModel, Field

GREETING = "Hello from the backend with a Secret made by hand"
TASKS: list[dict[str, Any]] = [
    {"id": 1, "title": "Edit backend/main.py", "completed": False},
    {"id": 2, "title": "Edit frontend/src/page.js", "completed": False},
]


class NewTask(BaseModel):
    title: str = Field(min_length=1, max_length=200)


# The probes ask every second; the log is for people.
logging.getLogger("uvicorn.access").addFilter(lambda record: " /health " not in record.getMessage())

app = FastAPI(title="todo-backend", debug=os.environ.get("DEBUG", "").lower() == "true")
app.add_middleware(
    CORSMiddleware,
    allow_origins=[origin for origin in os.environ.get("CORS_ORIGINS", "").split(",") if origin],
    allow_methods=["*"],
)


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/api/version")
async def version() -> dict[str, Any]:
    # The host alone: what the Secret holds beside it is nobody's business.
    database = urlsplit(os.environ.get("DATABASE_URL", "")).hostname
    pod = os.environ.get("HOSTNAME", socket.gethostname())
    return {"service": "todo-backend", "greeting": GREETING, "pod": pod, "database": database}


@app.get("/api/tasks")
async def list_tasks() -> list[dict[str, Any]]:
    return TASKS


@app.post("/api/tasks", status_code=201)
async def add_task(new: NewTask) -> dict[str, Any]:
    TASKS.append({"id": len(TASKS) + 1, "title": new.title, "completed": False})
    return TASKS[-1]
