"""Commands that act on a running watch, and `devloop wait`: the real commands, a real cluster (S39)."""

from __future__ import annotations

import hashlib
import json
import os
import random
from typing import Any

import anyio
import pytest

from devloop.config.load import load
from devloop.control.client import watches_of
from tests.support.sample_project import Project, Watch

pytestmark = [pytest.mark.engine, pytest.mark.sandbox, pytest.mark.timeout(600)]
EDITS = 12


def both_live(watch: Watch) -> None:
    watch.wait("both live", lambda: watch.live("backend", "frontend"))


def digest_in_container(project: Project, file: str) -> str:
    words = ("exec", "-n", project.namespace, "deploy/todo-backend", "--", "sha256sum", f"/app/{file}")
    return project.sandbox.kubectl(*words).split()[0]


def waited(project: Project, *words: str) -> tuple[int, dict[str, Any]]:
    """Exit code and answer of the command."""
    done = project.devloop("wait", "-o", "json", "--timeout", "120s", *words)
    try:
        return done.returncode, json.loads(done.stdout)
    except json.JSONDecodeError as error:
        raise AssertionError(f"exit {done.returncode}: {done.stdout}\n{done.stderr}") from error


def test_s39_right_after_random_edits_live_is_the_tree_that_lies_there(project: Project) -> None:
    """Asked over the socket, with no start of a process in between; some edits make no file event."""
    rng, notes = random.Random(39), project.root / "backend" / "src" / "notes.py"
    notes.write_text("# none yet\n")
    project.once()
    other = project.root / "outside.py"

    async def ask() -> dict[str, Any]:
        ((watch, _),) = (await watches_of(load(project.config), ["backend"])).items()
        answer = await watch.ask("wait", services=["backend"], timeout=120, **{"for": "live"})
        return dict(answer["services"]["backend"])

    with project.watch("--no-logs") as watch:
        both_live(watch)
        for number in range(EDITS):
            kind = rng.choice(("save", "save", "two files", "broken", "unseen"))
            text = f"{number} {rng.random()}"
            if kind == "broken":
                project.greeting.write_text(f"raise SystemExit('{text}')\n")
                decision = anyio.run(ask)
                assert (decision["state"], decision["stage"]) == ("failed", "rollout"), decision
                assert text in json.dumps([decision["cause"], decision["log"]])
            elif kind == "unseen":
                other.unlink(missing_ok=True)
                os.link(notes, other)
                other.write_text(f"# {text}\n")
            elif kind == "two files":
                notes.write_text(f"# {text}\n")
            project.greet(text)
            decision = anyio.run(ask)
            assert decision["state"] == "live", (kind, decision, watch.text()[-3000:])
            for file in (project.greeting, notes):
                wanted = hashlib.sha256(file.read_bytes()).hexdigest()
                assert digest_in_container(project, f"src/{file.name}") == wanted, kind
            assert project.served_greeting() == text


def test_s39_the_command_and_its_exit_codes(project: Project) -> None:
    project.once()
    code, answer = waited(project, "backend")
    assert (code, answer["services"]["backend"]["state"]) == (0, "live"), "judged once, without a watch"
    project.greet("not yet")
    done = project.devloop("wait", "backend")
    assert done.returncode == 3
    assert "no devloop watch is running" in done.stderr
    with project.watch("--no-logs") as watch:
        both_live(watch)
        project.greet("asked for")
        code, answer = waited(project, "backend")
        assert code == 0
        found = answer["services"]["backend"]
        assert found["paths"] == [str(project.greeting)]
        assert project.served_greeting() == "asked for"
        project.greeting.write_text("raise SystemExit('broken')\n")
        code, answer = waited(project, "backend")
        assert (code, answer["services"]["backend"]["state"]) == (1, "failed")
        assert waited(project, "--for", "failed", "backend")[0] == 0
        assert project.devloop("wait", "--timeout", "0.1s", "backend", "--for", "live").returncode in (1, 4)


def test_pause_resume_restart_rebuild_and_history(project: Project) -> None:
    project.once()
    with project.watch("--no-logs") as watch:
        both_live(watch)
        assert project.devloop("pause", "backend").stdout == "backend: paused\n"
        assert waited(project, "--for", "settled", "backend")[1]["services"]["backend"]["state"] == "paused"
        trips = len(watch.trips("backend"))
        project.greet("collected")
        assert watch.state() == "paused"
        assert watch.metrics()['devloop_paused{service="backend"}'] == 1
        assert "backend" in project.devloop("status").stdout
        assert len(watch.trips("backend")) == trips
        assert project.devloop("resume", "backend").stdout == "backend: resumed\n"
        assert waited(project, "backend")[0] == 0
        assert project.served_greeting() == "collected"

        before = pods(project)
        assert project.devloop("restart", "backend").returncode == 0
        watch.wait(
            "restarted", lambda: watch.trips("backend")[-1]["why"] == "restart" and watch.live("backend")
        )
        assert not before & pods(project)
        assert watch.trips("backend")[-1]["outcome"] == "live"

        image = watch.trips("backend")[-1]["image"]
        assert project.devloop("rebuild", "backend").returncode == 0
        watch.wait(
            "rebuilt", lambda: watch.trips("backend")[-1]["why"] == "rebuild" and watch.live("backend")
        )
        last = watch.trips("backend")[-1]
        assert last["image"] != image
        assert last["built"] not in ("delta", "reused")
        code, answer = waited(project)
        assert (code, answer["reached"]) == (0, True)
    trips = json.loads(project.devloop("history", "backend", "-o", "json").stdout)["trips"]
    assert [trip["why"] for trip in trips][-2:] == ["restart", "rebuild"], trips
    assert "rebuild" in project.devloop("history").stdout


def began_by(watch: Watch, why: str) -> None:
    watch.wait(why, lambda: watch.trips("backend")[-1]["why"] == why and watch.live("backend"))


def pods(project: Project) -> set[str]:
    found = project.sandbox.pods(project.namespace, "app.kubernetes.io/name=backend")
    return {pod["metadata"]["uid"] for pod in found if "deletionTimestamp" not in pod["metadata"]}
