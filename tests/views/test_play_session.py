"""Commands of `charlm play`, and the files that it writes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from charlm.config import TokenizerConfig
from charlm.errors import CharlmError
from charlm.generation.composition import Composition
from charlm.generation.processors import generation_settings
from charlm.text.tokenization import learn
from charlm.views.play_session import COMMANDS, Session

LETTERS = learn(TokenizerConfig(kind="char"), ["abcdefghij\n"])


class Flat:
    """A network that finds every token equally probable; its state is the last token."""

    def initial_state(self, batch: int) -> np.ndarray:
        return np.zeros((1, 1, batch, 1))

    def step(self, ids: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros((len(ids), len(LETTERS))), np.broadcast_to(ids.astype(float), state.shape)

    def prefill(self, ids: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.step(ids[:, -1], state)

    def select(self, state: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return state[:, :, rows]

    def join(self, states: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate(states, 2)


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    monkeypatch.chdir(tmp_path)
    return Session(Composition(Flat(), LETTERS, temperature=0.8), 40)


def refused(session: Session, line: str) -> str:
    """The error of a command, which changes nothing."""
    before = session.composition.text, session.composition.values, session.length
    with pytest.raises(CharlmError) as error:
        session.execute(line)
    assert (session.composition.text, session.composition.values, session.length) == before
    return str(error.value)


def test_a_logits_processor_is_a_command(session: Session) -> None:
    assert session.execute("temperature") == f"temperature 0.8: {generation_settings()['temperature'].help}"
    assert session.execute("temperature 0.5 1.2") == "temperature 0.5 1.2"
    assert session.execute("ban a 'b c' e") == "ban a 'b c' e"
    assert session.execute("logit_bias e:-2") == "logit_bias e:-2"
    assert session.execute("top_k 7") == "top_k 7"
    assert session.composition.values == {
        "logit_bias": (("e", -2.0),), "ban": ("a", "b c", "e"), "temperature": (0.5, 1.2), "top_k": 7
    }  # fmt: skip
    assert session.execute("reset ban logit_bias") == "ban none, logit_bias none"
    assert session.execute("reset") == "all values are those of the beginning"
    assert session.composition.values == {"temperature": (0.8,)}
    assert "`top_k` must be at least 0" in refused(session, "top_k -1")
    assert "`top_k` must be a whole number, not ['1', '2']" in refused(session, "top_k 1 2")
    assert "did you mean 'top_k'" in refused(session, "topk 3")
    assert "did you mean 'top_k'" in refused(session, "reset topk")
    assert "dry_base` changes nothing without" in refused(session, "dry_base 2")
    assert "quotation mark" in refused(session, "ban 'a")


def test_bookmarks_are_mixed_by_commands(session: Session) -> None:
    session.type("ab")
    assert session.execute("bookmark x") == "bookmark x is set; `mix` and `go_to` use it"
    session.type("cd")
    assert session.execute("go_to x") == "the text of x"
    assert session.composition.text == "ab"
    assert "no bookmark 'y'" in refused(session, "go_to y")
    session.type("d")
    session.execute("bookmark y")
    assert session.execute("mix x y 0.25") == "the state is now 0.75 of x and 0.25 of y"
    a = LETTERS.encode("bd")
    assert session.composition.reading.state.tolist() == [[[[0.75 * a[0] + 0.25 * a[1]]]]]
    assert session.execute("mix x y") == "the state is now 0.5 of x and 0.5 of y"
    assert "no bookmark 'z'; the bookmarks are x, y" in refused(session, "mix x z")
    assert refused(session, "mix x") == "write: mix A B [SHARE]"
    assert "`weight` must be a number, not 'z'" in refused(session, "mix x x z")
    assert "must be at most 1" in refused(session, "mix x x 2")


def test_length_is_a_command(session: Session) -> None:
    assert session.execute("length 5") == "the model writes 5 tokens at a time"
    assert session.length == 5
    assert "must be at least 1" in refused(session, "length 0")
    assert refused(session, "length") == "write: length N"


def test_commands_and_processors_have_different_names() -> None:
    assert not COMMANDS.keys() & generation_settings().keys()


def test_a_file_that_exists_is_replaced_only_on_request(session: Session, tmp_path: Path) -> None:
    session.type("abXé")
    assert session.lacking == "not in the vocabulary: 'X', 'é'; the model reads its unknown token instead"
    assert session.unsaved == "abXé"
    assert session.execute("save my.txt") == "saved 4 characters to my.txt"
    assert (tmp_path / "my.txt").read_bytes() == "abXé".encode()
    assert session.unsaved == ""
    session.type("\n")
    assert session.unsaved == "abXé\n"
    session.execute("save my.txt")  # it is its own file
    (tmp_path / "other.txt").write_text("precious")
    assert refused(session, "save other.txt") == "other.txt exists; to replace it, write: save! other.txt"
    assert (tmp_path / "other.txt").read_text() == "precious"
    session.execute("save! other.txt")
    assert (tmp_path / "other.txt").read_text() == "abXé\n"
    assert sorted(os.listdir()) == ["my.txt", "other.txt"]


def test_a_file_that_cannot_be_written_loses_nothing(session: Session, tmp_path: Path) -> None:
    session.type("ab")
    assert "No such file" in refused(session, "save missing/my.txt")
    assert "a directory" in refused(session, f"save! {tmp_path}")
    assert "File name too long" in refused(session, f"save {'x' * 300}")
    assert session.unsaved == "ab"
    assert os.listdir() == []


def test_a_text_is_rescued_under_a_new_name(session: Session, tmp_path: Path) -> None:
    session.rescue()
    assert os.listdir() == []
    session.type("ab")
    session.rescue()
    session.type("c")
    session.path = None
    session.rescue()
    assert (tmp_path / "charlm-play.txt").read_text() == "ab"
    assert (tmp_path / "charlm-play-2.txt").read_text() == "abc"
    assert session.unsaved == ""
