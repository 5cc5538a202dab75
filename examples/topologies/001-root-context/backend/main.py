"""The todo chatbot's backend on port 8000 (`uvicorn main:app`). Its tasks live as long as its pod."""

# No `from __future__ import annotations`: FastAPI reads these annotations when the module loads.
import logging
import os
import socket
from pathlib import Path
from typing import Any, Literal

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from pydantic import BaseModel, Field

from greeting import GREETING

logging.basicConfig(level=os.environ.get("LOG_LEVEL", "info").upper())
# The probes ask every second; the log is for people.
logging.getLogger("uvicorn.access").addFilter(lambda record: " /health " not in record.getMessage())


class NewTask(BaseModel):
    title: str = Field(min_length=1, max_length=200)
    priority: Literal["low", "medium", "high"] = "medium"


VERSION = (Path(__file__).parent / "version.txt").read_text().strip()
TASKS: list[dict[str, Any]] = [
    {"id": 1, "title": "Edit backend/greeting.py", "priority": "high"},
    {"id": 2, "title": "Edit frontend/src/page.js", "priority": "medium"},
    {"id": 3, "title": "Edit shared/version.txt: both images hold it", "priority": "low"},
]

app = FastAPI(title="todo-chatbot-backend")
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
    pod = os.environ.get("HOSTNAME", socket.gethostname())
    return {"service": "todo-chatbot-backend", "greeting": GREETING, "version": VERSION, "pod": pod}


@app.get("/api/tasks")
async def list_tasks() -> list[dict[str, Any]]:
    return TASKS


@app.post("/api/tasks", status_code=201)
async def add_task(new: NewTask) -> dict[str, Any]:
    TASKS.append({"id": len(TASKS) + 1, "title": new.title, "priority": new.priority})
    return TASKS[-1]
