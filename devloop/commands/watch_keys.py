"""The keys of `devloop watch`: what each does, with the terminal and with what the watch works for."""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import anyio
from anyio.abc import TaskGroup
from rich.text import Text

from devloop.adapters.browser import open_url
from devloop.adapters.keyboard import Keyboard, is_keyboard
from devloop.control.actions import Actions, Result
from devloop.control.prompt import Answer, Prompt
from devloop.errors import DevloopError
from devloop.sinks.console import Terminal
from devloop.sinks.wording import Line

# Key, what stands in the bottom line, and what `?` says of it.
HELP = (
    ("r", "rebuild", "build the image of a service, or of all, anew and in full"),
    ("R", "restart", "replace the pods of a service, or of all"),
    ("p", "pause", "collect saves of a service, or of all, without acting; again: take them up"),
    ("l", "logs", "show the logs of one service, of all, or of none (-)"),
    ("f", "filter", "show only lines of logs that have a text"),
    ("o", "open", "open the URL of a service"),
    ("d", "details", "show the last failure whole, with its evidence"),
    ("c", "clear", "clear the screen"),
    ("?", "help", "this list"),
    ("q", "quit", "end devloop watch, as Ctrl-C does"),
)
LEFT_OUT = ("c", "o", "f", "d", "R")  # of the bottom line, one after the other, where it is too long
NONE = "-"


@dataclass(frozen=True, slots=True)
class _Question:
    prompt: Prompt
    then: Callable[[str], Awaitable[None]]


class Keys:
    """A commander of `serve`: it reads keys until it is cancelled. `quit` ends the watch."""

    def __init__(self, screen: Terminal, keyboard: Keyboard, quit_: Callable[[], None]) -> None:
        self._screen, self._keyboard, self._quit = screen, keyboard, quit_
        self._question: _Question | None = None
        self._logs, self._filter = "all", ""

    async def run(self, actions: Actions) -> None:
        self._draw()
        async with anyio.create_task_group() as group:
            group.start_soon(self._keyboard.follow_suspension)
            try:
                async for key in self._keyboard.keys():
                    await self._typed(key, actions, group)
                    self._draw()
            finally:  # at once, whatever takes its time to end
                self._keyboard.restore()

    # --- a key ----------------------------------------------------------------------------------

    async def _typed(self, key: str, actions: Actions, group: TaskGroup) -> None:
        if self._question is not None:
            await self._answered(self._question, key)
            return
        act = {
            "r": lambda: self._ask_service("rebuild", "all", self._on_all(actions.rebuild, group)),
            "R": lambda: self._ask_service("restart", "all", self._on_all(actions.restart, group)),
            "p": lambda: self._ask_service("pause or resume", "all", self._pausing(actions, group)),
            "l": lambda: self._ask_service("logs of", "all", self._choose_logs, (NONE,)),
            "f": self._ask_filter,
            "o": self._ask_url,
            "d": self._details,
            "c": self._clear,
            "?": self._help,
            "q": self._end,
        }.get(key)
        if act is not None:
            await act()

    async def _answered(self, question: _Question, key: str) -> None:
        match question.prompt.typed(key):
            case Answer(text=text):
                self._question = None
                await question.then(text)
            case Prompt() as prompt:
                self._question = _Question(prompt, question.then)
            case None:
                self._question = None

    async def _ask_service(
        self, question: str, empty: str, then: Callable[[str], Awaitable[None]], more: Sequence[str] = ()
    ) -> None:
        """One service needs no question."""
        services = self._screen.services
        if len(services) < 2 and not more:
            await then("")
        else:
            self._question = _Question(Prompt(question, empty, (*services, *more)), then)

    # --- what the watch works for ---------------------------------------------------------------

    def _on_all(
        self, act: Callable[[Sequence[str]], Awaitable[tuple[Result, ...]]], group: TaskGroup
    ) -> Callable[[str], Awaitable[None]]:
        async def then(service: str) -> None:
            group.start_soon(self._do, act, (service,) if service else ())

        return then

    def _pausing(self, actions: Actions, group: TaskGroup) -> Callable[[str], Awaitable[None]]:
        """A service that is paused is resumed; of all, if each is."""

        async def then(service: str) -> None:
            chosen = (service,) if service else self._screen.services
            paused = all(name in self._screen.paused for name in chosen)
            await self._on_all(actions.resume if paused else actions.pause, group)(service)

        return then

    async def _do(
        self, act: Callable[[Sequence[str]], Awaitable[tuple[Result, ...]]], names: Sequence[str]
    ) -> None:
        try:
            results = await act(names)
        except DevloopError as error:
            hint = [Line("", f"-> {error.hint}", "bad")] if error.hint else []
            self._screen.tell([Line("", error.message, "bad"), *hint])
            return
        self._screen.tell(lines_of(results))

    # --- the screen alone -----------------------------------------------------------------------

    async def _choose_logs(self, service: str) -> None:
        self._logs = service or "all"
        self._screen.show_logs(frozenset({service} - {NONE}) if service else None)

    async def _ask_filter(self) -> None:
        self._question = _Question(Prompt("filter", "no filter"), self._set_filter)

    async def _set_filter(self, text: str) -> None:
        self._filter = text
        self._screen.filter(text)

    async def _ask_url(self) -> None:
        urls = self._screen.urls
        if not urls:
            self._screen.tell([Line("", "no service has a URL yet", "warn")])
        elif len(urls) == 1:
            await self._open(next(iter(urls)))
        else:
            self._question = _Question(Prompt("open", next(iter(urls)), tuple(urls)), self._open)

    async def _open(self, service: str) -> None:
        urls = self._screen.urls
        name = service or next(iter(urls))
        opened = await open_url(urls[name], dict(os.environ))
        text = f"opening {urls[name]}" if opened else f"no browser here: {urls[name]}"
        self._screen.tell([Line(name, text)])

    async def _details(self) -> None:
        if not self._screen.details():
            self._screen.tell([Line("", "nothing has failed", "good")])

    async def _clear(self) -> None:
        self._screen.clear()

    async def _help(self) -> None:
        self._screen.tell([Line("", f"{key}  {text}") for key, _, text in HELP])

    async def _end(self) -> None:
        self._quit()

    # --- the bottom line ------------------------------------------------------------------------

    def _draw(self) -> None:
        if self._question is not None:
            typed, hint = self._question.prompt.shown()
            asked = Text.assemble((typed, "bold"), ("▏", "bold"), (f"  {hint}", "dim"))
            self._screen.bottom(lambda _: asked)
        else:
            self._screen.bottom(partial(bottom_line, logs=self._logs, filtered=self._filter))


def bottom_line(columns: int, logs: str = "all", filtered: str = "") -> Text:
    """The keys, as many as there is room for, and what is shown of the logs where that is not all."""
    named = {"l": f"logs: {logs}" if logs != "all" else "", "f": f"filter: {filtered}" if filtered else ""}
    words = {key: named.get(key) or word for key, word, _ in HELP}
    for key in LEFT_OUT:
        if sum(len(word) + 3 for word in words.values()) < columns:
            break
        if not named.get(key):
            del words[key]
    text = Text()
    for key, word in words.items():
        text.append(f"{' ' if text else ''}{key}", "bold")
        text.append(f" {word}", "dim")
    return text


def lines_of(results: Sequence[Result]) -> Iterator[Line]:
    """One line for all to which the same applies."""
    alike: dict[tuple[bool, str, str | None], list[str]] = defaultdict(list)
    for result in results:
        alike[result.done, result.message, result.hint if len(results) == 1 else None].append(result.service)
    for (done, message, hint), services in alike.items():
        more = f" and {len(services) - 3} more" if len(services) > 3 else ""
        yield Line("", f"{', '.join(services[:3])}{more}: {message}", "plain" if done else "warn")
        if hint:
            yield Line("", f"-> {hint}", "warn")


@contextmanager
def keys_of(screen: Terminal, quit_: Callable[[], None]) -> Iterator[Keys | None]:
    """The keys of standard input while the block runs; None where it is no terminal, or not ours to read."""
    if sys.stdin is None or sys.stdin.closed or not is_keyboard(sys.stdin.fileno()):
        yield None
        return
    with Keyboard(sys.stdin.fileno(), screen.leave, screen.come_back) as keyboard:
        yield Keys(screen, keyboard, quit_)
