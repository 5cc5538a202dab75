"""The todo chatbot's backend (`uvicorn main:app --host 0.0.0.0 --port 8000`)."""

import logging
import os
import socket
from typing import Any

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from routes import chat, tasks

GREETING = "Hello from the backend behind nginx"

# The probes ask every second; the log is for people.
logging.getLogger("uvicorn.access").addFilter(lambda record: " /health " not in record.getMessage())

origins = [os.environ.get("FRONTEND_ORIGIN", ""), *os.environ.get("CORS_ORIGINS", "").split(",")]
app = FastAPI(title="todo-backend")
app.add_middleware(CORSMiddleware, allow_origins=[o for o in origins if o], allow_methods=["*"])
app.include_router(tasks.router)
app.include_router(chat.router)


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/api/version")
async def version() -> dict[str, Any]:
    return {
        "service": "todo-backend",
        "greeting": GREETING,
        "pod": os.environ.get("HOSTNAME", socket.gethostname()),
        "llm_provider": provider(),
    }


def provider() -> str:
    """LLM_PROVIDER, or the first one that has a key."""
    keys = {"groq": "GROQ_API_KEY", "openai": "OPENAI_API_KEY"}
    return os.environ.get("LLM_PROVIDER") or next((name for name, key in keys.items() if os.environ.get(key)), "none")
