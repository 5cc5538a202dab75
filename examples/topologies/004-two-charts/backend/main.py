"""The todo backend below /api/, on $PORT (8000). Its tasks live as long as its pod."""

# No `from __future__ import annotations`: FastAPI reads these annotations when the module loads.
import logging
import os
import socket
from typing import Any

import uvicorn
from fastapi import APIRouter, FastAPI
from fastapi.middleware.cors import CORSMiddleware
from pydantic import BaseModel, Field

GREETING = "Hello from the backend of the second chart"
TASKS: list[dict[str, Any]] = [
    {"id": 1, "title": "Edit backend/main.py", "completed": False},
    {"id": 2, "title": "Edit frontend/src/page.js", "completed": False},
]
SECRETS = ("DATABASE_URL", "BETTER_AUTH_SECRET", "COHERE_API_KEY")


class NewTask(BaseModel):
    title: str = Field(min_length=1, max_length=200)


# The probes ask every second; the log is for people.
logging.getLogger("uvicorn.access").addFilter(lambda record: " /health " not in record.getMessage())

app = FastAPI(title="todo-backend")
app.add_middleware(
    CORSMiddleware,
    allow_origins=[origin for origin in os.environ.get("CORS_ORIGINS", "").split(",") if origin],
    allow_methods=["*"],
)
api = APIRouter(prefix="/api")


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@api.get("/version")
async def version() -> dict[str, Any]:
    return {
        "service": "todo-backend",
        "greeting": GREETING,
        "pod": os.environ.get("HOSTNAME", socket.gethostname()),
        "configured": [name for name in SECRETS if os.environ.get(name)],
    }


@api.get("/tasks")
async def list_tasks() -> list[dict[str, Any]]:
    return TASKS


@api.post("/tasks", status_code=201)
async def add_task(new: NewTask) -> dict[str, Any]:
    TASKS.append({"id": len(TASKS) + 1, "title": new.title, "completed": False})
    return TASKS[-1]


app.include_router(api)

if __name__ == "__main__":
    level = os.environ.get("LOG_LEVEL", "INFO").lower()
    uvicorn.run(app, host="0.0.0.0", port=int(os.environ.get("PORT", "8000")), log_level=level)
