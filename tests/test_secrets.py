"""Which values are secrets, and that they stand nowhere: shapes of secrets x places that tell (S30)."""

from __future__ import annotations

import base64
import io
import json
import os
import pty
import select
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest

from devloop.clock import Clock
from devloop.errors import BuildError, DevloopError
from devloop.events import (
    Applied,
    Checked,
    DeltaFallback,
    Event,
    Notice,
    Outage,
    Output,
    PodExited,
    PodLog,
    Progress,
    StateChanged,
    TripEnded,
    TripStarted,
)
from devloop.model import BuildSpec, Change, Failed, Release, Secret, Service, Target, Timing, ValuesFile
from devloop.secrets.redaction import Secrets
from devloop.secrets.sources import SECRET_PATH, Sources, names_a_secret, secret_arguments
from devloop.sinks import summary
from devloop.sinks.console import Terminal
from devloop.sinks.fan import Fan
from devloop.sinks.journal import FILE_NAME, Journal
from devloop.sinks.metrics import Metrics
from devloop.sinks.plain import JsonLines, Plain
from devloop.sinks.status import StatusBoard

PEM = (
    "-----BEGIN PRIVATE KEY-----\n"
    "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj\n"
    "MzEfYyjiWA4R4/M2bS1GB4t7NXp98C3SC6dVMvDuictGeurT8jNbvJZHtCSuYEvu\n"
    "-----END PRIVATE KEY-----\n"
)
BESIDE = "the fingers of a line"  # what stands beside a secret and has to stay


def service(tmp_path: Path, args: dict[str, str] | None = None, *secrets: Secret) -> Service:
    spec = BuildSpec(tmp_path / "web", tmp_path / "web" / "Dockerfile", args=args or {}, secrets=secrets)
    return Service("web", "team/web", spec, (Target("deployment", "web-app", "default"),))


def of(tmp_path: Path, value: str, name: str = "DEPLOY_KEY") -> Secrets:
    return Secrets(Sources((service(tmp_path, {name: value}),), root=tmp_path))


# --- shapes: (the secret, what somebody prints, what of it must not be seen) -------------------------

SHAPES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "plain": ("hunter22-x", "using hunter22-x now", ("hunter22",)),
    "several lines": (PEM, PEM, tuple(PEM.split("\n")[1:3])),
    "a line of several": (PEM, PEM.split("\n")[1], (PEM.split("\n")[1],)),
    "several lines in JSON": (PEM, json.dumps({"key": PEM}), tuple(PEM.split("\n")[1:3])),
    "characters of patterns": ("a.b*c(d)[e]\\$^", "it is a.b*c(d)[e]\\$^ here", ("a.b*c(d)",)),
    "with quotes, in JSON": ('pa"ss\\wörd', json.dumps({"p": 'pa"ss\\wörd'}), ('pa\\"ss', "f6rd", "örd")),
    "in a URL": ("p@ss/w:rd+1", f"postgres://u:{quote('p@ss/w:rd+1', safe='')}@db/x", ("%40ss", "w%3Ard")),
    "in base64": ("hunter22-x", base64.b64encode(b"hunter22-x").decode(), ("aHVudGVyMjIt",)),
    "short": ("90210", "PIN is 90210.", ("90210",)),
    "short, in JSON": ("90210", '{"pin":"90210","n":1}', ("90210",)),
    "broken over two lines": (
        "0123456789abcdefghij",
        "key 0123456789ab\ncdefghij end",
        ("0123456789", "ghij"),
    ),
    "cut": ("0123456789abcdefghij", "it was 0123456789abc", ("0123456789",)),
    "in colour": ("hunter22-x", "a \x1b[31mhunter\x1b[1m22-x\x1b[0m", ("22-x",)),
    "a common word": ("production", "in production mode", ("production",)),
    "with spaces around": ("  hunter22-x \n", "using hunter22-x now", ("hunter22",)),
    "between letters": ("hunter22-x", "xxhunter22-xyy", ("hunter22",)),
}


@contextmanager
def sinks(tmp_path: Path, secrets: Secrets) -> Iterator[tuple[Fan, Callable[[], str]]]:
    """Every sink on one fan, as `watch` has them; and all that they wrote."""
    controller, terminal = pty.openpty()
    screen = io.TextIOWrapper(os.fdopen(terminal, "wb", buffering=0), "utf-8", write_through=True)
    plain, lines, clock = io.StringIO(), io.StringIO(), Clock()
    board = StatusBoard("1", tmp_path / "config.yaml", "p", ["web"], 0.0)
    metrics, fan = Metrics("1", ["web"]), Fan(secrets)
    fan.sinks += [Plain(plain, tmp_path), JsonLines(lines, clock), metrics, board]
    seen = ""

    def shown() -> str:
        nonlocal seen
        while select.select([controller], [], [], 0.05)[0]:
            seen += os.read(controller, 1 << 16).decode("utf-8", "replace")
        answer, journal = json.dumps(board.answer(), ensure_ascii=False), (tmp_path / FILE_NAME).read_text()
        parts = [plain.getvalue(), lines.getvalue(), metrics.render().decode(), answer, journal, seen]
        return "\n".join(parts)

    with (
        Journal(tmp_path, clock) as journal,
        Terminal(["web"], tmp_path, clock, stream=screen) as console,
    ):
        fan.sinks += [journal, console]
        yield fan, shown
    screen.close()
    os.close(controller)


def everything(text: str) -> list[Event]:
    """Every event that may quote somebody, with this text in each of its fields."""
    error = BuildError(f"{BESIDE}: {text}", evidence=(text, BESIDE), hint=text, cause=text)
    failed = Failed("build", error, Timing(0.0, 1.0, ()), None, frozenset())
    return [
        TripStarted("web", 1, 0.0, Change(frozenset(), 0.0, 0.0)),
        *(Output("web", "build", line) for line in text.splitlines()),
        Output("web", "build", BESIDE),
        Progress("web", "build", 1, 2, "steps", text),
        *(PodLog("web", "web-1", "app", line) for line in text.splitlines()),
        PodExited("web", "web-1", "app", 1, "Error", (text,), text),
        DeltaFallback("web", "RunAfter", text, 3, text),
        StateChanged("web", "Running", "Degraded", (text,), text, text),
        Outage("engine", False, text, text),
        Applied("manifests", ("deployment/web created",)),
        Checked((("error", text),), 0, 1, 0),
        Notice("web", "warning", text, text),
        TripEnded("web", 1, 1.0, failed, text),
    ]


@pytest.mark.parametrize("shape", SHAPES)
def test_s30_no_shape_of_a_secret_reaches_any_sink(tmp_path: Path, shape: str) -> None:
    value, printed, hidden = SHAPES[shape]
    with sinks(tmp_path, of(tmp_path, value)) as (fan, shown):
        for event in everything(printed):
            fan(event)
        found = shown()
    assert not [part for part in hidden if part in found]
    assert BESIDE in found  # and the rest is shown
    assert "[DEPLOY_KEY]" in found


@pytest.mark.parametrize("shape", SHAPES)
def test_s30_nor_the_json_of_once_nor_an_error(tmp_path: Path, shape: str) -> None:
    value, printed, hidden = SHAPES[shape]
    secrets = of(tmp_path, value)
    error = BuildError(printed, evidence=(printed,), hint=printed)
    outcome = secrets.outcome(Failed("build", error, Timing(0.0, 1.0, ()), None, frozenset()))
    shown = json.dumps(summary.as_object({"web": outcome}, {})) + summary.as_table({"web": outcome})
    assert error.message == printed  # who acts on the error has it as it was
    error.conceal(secrets)
    shown += "".join((error.message, str(error), *error.evidence, error.hint or ""))
    assert not [part for part in hidden if part in shown]


def test_s30_short_secrets_leave_words_and_devloops_own_text_alone(tmp_path: Path) -> None:
    with sinks(tmp_path, of(tmp_path, "live", "A_TOKEN")) as (fan, shown):
        fan(Notice("web", "info", "alive and delivered, live-reload in live/x and x.live; it is live"))
        found = shown()
    assert "alive and delivered, live-reload in live/x and x.live; it is [A_TOKEN]" in found
    assert '"level": "info"' in found


def test_s30_own_words_stay_where_a_secret_is_equal_to_one(tmp_path: Path) -> None:
    """The states, names and kinds that machines read are devloop's own."""
    failed = Failed("build", BuildError("build failed"), Timing(0.0, 1.0, ()), None, frozenset())
    for word in ("failed", "build", "trip_ended", "warning"):
        stream = io.StringIO()
        fan = Fan(of(tmp_path, word))
        fan.sinks.append(JsonLines(stream, Clock()))
        fan(TripEnded("web", 1, 1.0, failed))
        fan(Notice("web", "warning", "x"))
        ended, notice = map(json.loads, stream.getvalue().splitlines())
        assert (ended["event"], ended["outcome"], ended["error"]["stage"]) == (
            "trip_ended",
            "failed",
            "build",
        )
        assert notice["level"] == "warning"


def test_s30_paths_are_never_changed(tmp_path: Path) -> None:
    (tmp_path / "web" / "production").mkdir(parents=True)
    path = tmp_path / "web" / "production" / "settings.js"
    path.write_text("")
    secrets = of(tmp_path, "production", "APP_KEY")
    with sinks(tmp_path, secrets) as (fan, shown):
        fan(TripStarted("web", 1, 0.0, Change(frozenset({path}), 0.0, 0.0)))
        fan(Notice("web", "error", f"{path} is gone; COPY production/settings.js /app: it is production"))
        found = shown()
    assert "web/production/settings.js" in found
    assert f"{path} is gone; COPY production/settings.js /app: it is [APP_KEY]" in found
    gone = tmp_path / "web" / "production" / "Dockerfile"
    assert secrets(f"no {gone}:3") == f"no {gone}:3"
    assert secrets("GET /hooks/production 200") == "GET /hooks/[APP_KEY] 200"  # a URL is no path


def test_s30_ordinary_build_arguments_are_shown(tmp_path: Path) -> None:
    args = {
        "NODE_ENV": "production",
        "BASE": "python:3.12-slim",
        "VERSION": "1.2.3",
        "TOKENIZER": "bert-base",
    }
    secrets = Secrets(Sources((service(tmp_path, args),)))
    line = "FROM python:3.12-slim AS production # 1.2.3 bert-base"
    assert secrets(line) == line
    assert secret_arguments(service(tmp_path, args)) == {}


def test_s30_the_longest_goes_first_and_overlaps_leave_nothing(tmp_path: Path) -> None:
    args = {"A_KEY": "abcdef", "B_KEY": "abcdefghij", "C_KEY": "hijklmn"}
    secrets = Secrets(Sources((service(tmp_path, args),)))
    assert secrets("abcdefghij!") == "[B_KEY]!"
    assert secrets("abcdef!") == "[A_KEY]!"
    hidden_text = secrets("x abcdefghijklmn y")
    assert not [part for part in ("abc", "klmn", "hij") if part in hidden_text]


@pytest.mark.parametrize(
    "name, secret",
    [
        *(
            (name, True)
            for name in ("TOKEN", "NPM_TOKEN", "npmToken", "GITHUB_TOKENS", "AUTHTOKEN", "apiKey")
        ),
        *((name, True) for name in ("KEY", "SSH_KEY", "APIKEY", "db-password", "DB_PASS", "APP_SECRET")),
        *((name, True) for name in ("AWS_ACCESS_KEY_ID", "CREDENTIALS", "SECRET1")),
        *(
            (name, False)
            for name in ("NODE_ENV", "MONKEY", "KEYBOARD", "KEYCLOAK_URL", "TOKENIZERS_PARALLELISM")
        ),
        *((name, False) for name in ("SECRETARY", "SSH_KEY_FILE", "PASSWORD_FILE", "BYPASS", "PWD", "", "_")),
    ],
)
def test_s30_which_names_say_that_a_value_is_secret(name: str, secret: bool) -> None:
    assert names_a_secret(name) is secret


def test_s30_a_name_may_be_listed(tmp_path: Path) -> None:
    made = service(tmp_path, {"LICENCE": "abc-def-ghi", "OTHER": "shown-value"})
    made = replace(made, build=replace(made.build, hidden=frozenset({"LICENCE"})))
    secrets = Secrets(Sources((made,), environ={"DSN": "from-outside"}, listed=frozenset({"LICENCE", "DSN"})))
    assert secrets("abc-def-ghi shown-value from-outside") == "[LICENCE] shown-value [DSN]"


def test_s30_environment_variables_by_name(tmp_path: Path) -> None:
    environ = {
        "GITHUB_TOKEN": "ghp_0123456789",
        "HOME": "/home/somebody",
        "SECRET_MODE": "true",
        "MY_KEY": str(tmp_path),
    }
    secrets = Secrets(Sources(environ=environ))
    line = f"ghp_0123456789 true /home/somebody {tmp_path}"
    assert secrets(line) == f"[GITHUB_TOKEN] true /home/somebody {tmp_path}"


def test_s30_values_come_from_files_and_the_environment(tmp_path: Path) -> None:
    (tmp_path / "netrc").write_text("machine x login me password hunter22\n\n{\n")
    (tmp_path / "env").write_text("export A=first-value\nB='second-value'\n")
    made = service(
        tmp_path,
        None,
        Secret("a", tmp_path / "netrc"),
        Secret("b", None, "NAME"),
        Secret("c", None, "UNSET"),
        Secret("d", tmp_path / "missing"),
        Secret("e", tmp_path / "env"),
    )
    secrets = Secrets(Sources((made,), environ={"NAME": "from-environment"}))
    assert secrets("machine x login me password hunter22") == "[a]"
    assert secrets("it took hunter22 { from-environment") == "it took [a] { [b]"
    assert secrets("first-value second-value") == "[e] [e]"


def test_s30_a_fifo_as_a_secret_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert Secrets(Sources((service(tmp_path, None, Secret("a", tmp_path / "fifo")),)))("x") == "x"


def test_s30_a_secret_that_was_renewed_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first-token")
    secrets, seen = Secrets(Sources((service(tmp_path, None, Secret("t", file)),))), []
    fan = Fan(secrets)
    fan.sinks.append(seen.append)
    file.write_text("second-token!")
    fan(TripStarted("web", 1, 0.0, Change(frozenset(), 0.0, 0.0)))
    fan(Output("web", "build", "first-token second-token!"))
    assert seen[-1] == Output("web", "build", "[t] [t]")


def test_s30_names_of_things_are_no_secrets(tmp_path: Path) -> None:
    secrets = Secrets(Sources((service(tmp_path, {"A_KEY": "team/web", "B_KEY": "web-app"}),)))
    assert secrets("docker build of team/web for web-app") == "docker build of team/web for web-app"


def test_s30_values_learned_later_are_hidden_beside_those_before(tmp_path: Path) -> None:
    secrets = of(tmp_path, "first-value")
    secrets.learn(Sources((service(tmp_path, {"NEW_KEY": "second-value"}),)))
    assert secrets("first-value second-value") == "[DEPLOY_KEY] [NEW_KEY]"


def test_s30_an_error_of_any_kind_can_be_copied(tmp_path: Path) -> None:
    """Some classes want more to be made than a message."""

    class Odd(DevloopError):
        def __init__(self, message: str, *, status: int) -> None:
            super().__init__(message)
            self.status = status

    error = Odd("hunter22-x", status=404)
    failed = Failed("build", error, Timing(0.0, 1.0, ()), None, frozenset())
    shown = of(tmp_path, "hunter22-x").outcome(failed)
    assert isinstance(shown, Failed)
    assert isinstance(shown.error, Odd)
    assert (shown.error.status, shown.error.message, str(shown.error)) == (404, *["[DEPLOY_KEY]"] * 2)


@pytest.mark.parametrize(
    "path, secret",
    [
        ("secrets.databaseUrl", True),
        ("backend.secrets.openaiApiKey", True),
        ("global.betterAuthSecret", True),
        ("databaseUrl", True),
        ("db.password", True),
        ("existingSecret", False),
        ("ingress.tlsSecret", False),
        ("imagePullSecret", False),
        ("secret", False),
        ("secretName", False),
        ("secrets.name", False),
        ("secrets.existingSecret", False),
        ("backend.image.tag", False),
    ],
)
def test_s30_which_helm_values_are_secret(path: str, secret: bool) -> None:
    assert bool(SECRET_PATH.search(path)) is secret


def test_s30_values_of_a_release_are_known_from_the_environment_and_from_files(tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text("secrets: {apiKey: sk-in-a-file}\nexistingSecret: made-by-hand\n")
    release = Release(
        "r", tmp_path, "default", values=(ValuesFile(values),), set_env={"anything": "VARIABLE", "pin": "PIN"}
    )
    secrets = Secrets(Sources(releases=(release,), environ={"VARIABLE": "from-outside", "PIN": "4711"}))
    line = "sk-in-a-file made-by-hand from-outside 4711 47110"
    assert secrets(line) == "[secrets.apiKey] made-by-hand [anything] [pin] 47110"
