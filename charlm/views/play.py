"""`charlm play` in the terminal: what the keys do, and how the session ends."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import signal
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from prompt_toolkit.application import Application
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.completion import WordCompleter
from prompt_toolkit.data_structures import Point
from prompt_toolkit.filters import Condition, has_focus
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.keys import Keys
from prompt_toolkit.layout import (
    BufferControl,
    CompletionsMenu,
    ConditionalContainer,
    Float,
    FloatContainer,
    FormattedTextControl,
    HSplit,
    Layout,
    Window,
)
from prompt_toolkit.layout.processors import BeforeInput

from charlm.errors import CharlmError
from charlm.generation.composition import Guess
from charlm.generation.processors import generation_settings
from charlm.views.play_rows import displayed
from charlm.views.play_screen import (
    GUESSES,
    HELP_HINTS,
    HINTS,
    TextControl,
    guess_rows,
    help_text,
    hints,
    shape,
    shortened,
    status,
    style,
    title,
)
from charlm.views.play_session import COMMANDS, Session

SLICE = 0.04  # most seconds that the model reads between two looks at the keyboard
REDRAW = 0.02  # least seconds between two redraws
PAGE = 10  # rows by which a key scrolls
ESCAPE = 0.3  # seconds that Esc waits for a digit
ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)  # signals that end the session
GONE = (errno.EIO, errno.EPIPE, errno.EBADF, errno.ENXIO)  # errors of a terminal that was closed


class Play:
    """An interactive session on the terminal.

    Args:
        session: The text, its model and its commands.
    """

    def __init__(self, session: Session) -> None:
        self.session, self.composition = session, session.composition
        self._message = "" if session.lacking else "F1 shows all keys"
        self._selected = 0  # the rank of the guess that Enter takes; 0: none
        self._unread = 0
        self._helping, self._scrolled = False, 0  # rows of the help that are above the screen
        self._writing: asyncio.Task[None] | None = None
        self._failure: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._signal = 0  # the one that ends the session
        self._command = Buffer(
            multiline=False,
            accept_handler=self._execute,
            history=InMemoryHistory(),
            completer=WordCompleter([*COMMANDS, *generation_settings()], sentence=True),
        )
        self._text = TextControl(self.composition, self._text_keys())
        self._help = FormattedTextControl(
            lambda: help_text(self._size()[0]),
            focusable=True,
            show_cursor=False,
            get_cursor_position=lambda: Point(0, self._scrolled),  # a window shows the row of its cursor
        )
        self._app: Application[int] = Application(
            layout=Layout(self._screen(), focused_element=self._text),
            key_bindings=self._other_keys(),
            style=style(),
            full_screen=True,
            before_render=self._read,
            min_redraw_interval=REDRAW,
        )
        self._app.timeoutlen = self._app.ttimeoutlen = ESCAPE

    def run(self) -> int:
        """Show the screen until the person leaves.

        Returns:
            The number of the signal that ended the session, or 0.
        """
        # These handlers stay until the text is safe: a signal may also come after the loop has ended.
        before = {number: signal.signal(number, self._signalled) for number in ENDING}
        try:
            ended = asyncio.run(self._main())
        except (EOFError, OSError) as error:
            ended, self._failure = 0, self._failure or error
        try:
            if _terminal_is_gone(self._failure):
                self.session.rescue()
                ended, self._failure = signal.SIGHUP, None
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if self._failure is not None:
            raise self._failure
        return ended

    async def _main(self) -> int:
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(lambda _, context: self._fail(context.get("exception")))
        return await self._app.run_async(self._begin, set_exception_handler=False, handle_sigint=False)

    def _begin(self) -> None:
        if self._signal:  # it came before the screen
            self._app.exit(result=self._signal)

    def _signalled(self, number: int, _: Any) -> None:
        self._signal = number
        with contextlib.suppress(RuntimeError):  # the loop has ended
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._leave, number)

    def _leave(self, number: int = 0) -> None:
        if number == signal.SIGHUP:
            self.session.rescue()
        if self._app.is_running and not self._app.is_done:
            self._app.exit(result=number)

    def _fail(self, failure: BaseException | None) -> None:
        """End the session because of a bug; the error is raised when the terminal is restored."""
        self._failure = self._failure or failure
        self._leave()

    # What is on the screen.

    def _size(self) -> tuple[int, int]:
        size = self._app.output.get_size()
        return size.columns, size.rows

    def _screen(self) -> FloatContainer:
        command = BufferControl(self._command, input_processors=[BeforeInput(": ")])
        typing = has_focus(self._command)
        helping = Condition(lambda: self._helping)

        def line(content: Callable[[], StyleAndTextTuples | str], name: str, height: Any = 1) -> Window:
            return Window(FormattedTextControl(content), height=height, style=f"class:{name}", always_hide_cursor=True)

        width = lambda: self._size()[0]  # noqa: E731
        writing = HSplit(
            [
                Window(self._text),
                line(lambda: title(self.composition, self._unread, width()), "title"),
                line(self._guess_rows, "guesses", lambda: shape(*self._size())[1]),
                line(lambda: "\n".join(self._status()), "status", lambda: len(self._status())),
                ConditionalContainer(Window(command, height=1), typing),
                ConditionalContainer(line(lambda: shortened(self._said(), width()), "message"), ~typing),
            ]
        )
        body = HSplit(
            [
                ConditionalContainer(writing, ~helping),
                ConditionalContainer(Window(self._help, get_vertical_scroll=lambda _: self._scrolled), helping),
                line(lambda: hints(HELP_HINTS if self._helping else HINTS, width()), "hints"),
            ]
        )
        return FloatContainer(body, [Float(CompletionsMenu(max_height=8), xcursor=True, ycursor=True)])

    def _status(self) -> list[str]:
        return status(self.session, self._size()[0])

    def _said(self) -> str:
        return displayed(" ".join((self._message or self.session.lacking).split()))

    def _guesses(self) -> list[Guess]:
        across, down = shape(*self._size())
        return self.composition.guesses(min(GUESSES, across * down))

    def _guess_rows(self) -> StyleAndTextTuples:
        if self._unread:
            return []
        one = self.composition
        actual = one.path[one.position].id if one.position < len(one.path) else None
        try:
            return guess_rows(self._guesses(), self._selected, actual, shape(*self._size())[0], self._size()[0])
        except CharlmError as error:  # every token is excluded
            return [("class:message", shortened(str(error), self._size()[0]))]

    def _read(self, _: Any) -> None:
        """Let the model read for a moment what was typed or pasted, before the screen is drawn."""
        until = time.monotonic() + SLICE
        while (unread := self.composition.read(8)) and time.monotonic() < until:
            pass
        self._unread = unread
        if unread:
            self._app.invalidate()

    # What the keys do.

    def _act(self, action: Callable[[], Any], *, types: bool = False) -> None:
        """Stop the model if it writes, and do something; what a user can fix becomes the message.

        Args:
            action: What is done.
            types: Whether it types a text, during which the message about the vocabulary stays.
        """
        self.session.lacking = self.session.lacking if types else ""
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None
        self._message, self._selected = "", 0
        try:
            action()
        except CharlmError as error:
            self._message = str(error)

    def _choose(self, rank: int) -> None:
        if self._unread:
            raise CharlmError("the model still reads; wait for the guesses")
        if rank > len(self._guesses()):
            raise CharlmError(f"there is no guess {rank}; take one that is shown")
        self.composition.choose(rank)

    def _enter(self) -> None:
        rank = self._selected
        self._act(lambda: self._choose(rank) if rank else self.session.type("\n"), types=not rank)

    def _select(self, step: int) -> None:
        selected = self._selected
        self._act(lambda: None)
        if not self._unread:
            self._selected = (selected + step) % (len(self._guesses()) + 1)

    def _write(self) -> None:
        self._writing = asyncio.get_running_loop().create_task(self._continue(self.session.length))
        self._writing.add_done_callback(self._written)

    def _written(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (failure := task.exception()):
            self._fail(failure)

    def _interrupt(self) -> None:
        """Stop the model if it writes, else close what is open, else leave."""
        writes = self._writing is not None and not self._writing.done()
        opened = self._helping or self._app.layout.has_focus(self._command)
        self._act(lambda: self._close() if opened else None if writes else self._leave())

    async def _continue(self, tokens: int) -> None:
        """Let the model write, and look at the keyboard in between."""
        try:
            while self.composition.read(8):
                await asyncio.sleep(0)
            for _ in self.composition.generate(tokens):
                self._app.invalidate()
                await asyncio.sleep(0)
        except CharlmError as error:
            self._message = str(error)
        self._app.invalidate()

    def _left(self) -> None:
        one = self.composition
        one.move_to(one.position if one.at_end and one.pending else one.position - 1)

    def _move(self, rows: int) -> None:
        text, one = self._text.rows, self.composition
        row = text.cursor(None if one.at_end else one.position)[0] + rows
        one.move_to(text.token_at(row) if row < len(text.rows) else None)

    def _done(self, done: bool, what: str) -> None:
        self._message = "" if done else f"there is nothing to {what}"

    def _save(self) -> None:
        if self.session.path is None:
            self._open("save ")
        else:
            self._message = self.session.save(str(self.session.path))

    def _open(self, start: str = "") -> None:
        self._command.text, self._command.cursor_position = start, len(start)
        self._app.layout.focus(self._command)

    def _execute(self, buffer: Buffer) -> bool:
        def execute() -> None:
            if line := buffer.text.strip():
                self._message = self.session.execute(line)

        self._act(execute)
        self._app.layout.focus(self._text)
        return False  # the line is emptied

    def _close(self) -> None:
        self._command.reset()
        self._helping = False
        self._app.layout.focus(self._text)

    def _scroll(self, rows: int) -> None:
        width, height = self._size()
        hidden = sum(part[1].count("\n") for part in help_text(width)) - (height - 1)
        self._scrolled = max(0, min(self._scrolled + rows, hidden))

    def _show_help(self) -> None:
        self._helping, self._scrolled = True, 0
        self._app.layout.focus(self._help)

    def _other_keys(self) -> KeyBindings:
        keys = KeyBindings()
        helping, typing = Condition(lambda: self._helping), has_focus(self._command)
        keys.add("c-c")(lambda _: self._interrupt())
        keys.add("c-d")(lambda _: self._act(self._leave))
        keys.add("f1", filter=~helping & ~typing)(lambda _: self._act(self._show_help))
        for name in ("escape", "c-p"):
            keys.add(name, filter=helping | typing)(lambda _: self._close())
        for name in ("f1", "q", "enter"):
            keys.add(name, filter=helping)(lambda _: self._close())
        for name, rows in (("up", -1), ("down", 1), ("pageup", -PAGE), ("pagedown", PAGE)):
            keys.add(name, filter=helping)(lambda _, rows=rows: self._scroll(rows))
        return keys

    def _text_keys(self) -> KeyBindings:
        keys, one = KeyBindings(), self.composition

        def bind(*names: str, action: Callable[[], Any]) -> None:
            keys.add(*names)(lambda _: self._act(action))

        bind("tab", action=self._write)
        bind("escape", action=lambda: None)
        bind("backspace", action=one.delete)
        bind("c-z", action=lambda: self._done(one.undo(), "undo"))
        bind("c-y", action=lambda: self._done(one.redo(), "redo"))
        bind("left", action=self._left)
        bind("right", action=lambda: one.move_to(None if one.at_end else one.position + 1))
        bind("home", action=lambda: one.move_to(0))
        bind("end", action=lambda: one.move_to(None))
        bind("pageup", action=lambda: self._move(-PAGE))
        bind("pagedown", action=lambda: self._move(PAGE))
        bind("c-p", action=self._open)
        bind("c-s", action=self._save)
        for name, start in (("c-t", "temperature "), ("c-b", "bookmark "), ("c-g", "go_to ")):
            bind(name, action=partial(self._open, start))
        for rank in range(1, GUESSES + 1):
            bind("escape", str(rank), action=partial(self._choose, rank))
        keys.add("c-j")(lambda _: self._act(lambda: self.session.type("\n"), types=True))
        keys.add("down")(lambda _: self._select(1))
        keys.add("up")(lambda _: self._select(-1))
        keys.add("enter")(lambda _: self._enter())

        @keys.add(Keys.BracketedPaste)
        def _(event: KeyPressEvent) -> None:
            text = event.data.replace("\r\n", "\n").replace("\r", "\n")
            self._act(lambda: self.session.type(text), types=True)

        @keys.add(Keys.Any)
        def _(event: KeyPressEvent) -> None:
            text = event.data
            if text.isprintable() or len(text) == 1 and ord(text) > 0x9F:  # no unused function key
                self._act(lambda: self.session.type(text), types=True)

        return keys


def _terminal_is_gone(error: BaseException | None) -> bool:
    """Whether an error says that the terminal was closed."""
    return isinstance(error, EOFError) or isinstance(error, OSError) and error.errno in GONE
