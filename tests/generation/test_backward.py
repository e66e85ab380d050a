"""Text that a backward network writes from its end to its start."""

from typing import Any

import numpy as np
import pytest
from fakes import Successor

from charlm.config import TokenizerConfig
from charlm.config.generation import GenerationConfig
from charlm.errors import CharlmError
from charlm.generation.draw_text import draw_text
from charlm.generation.generated_text import BackwardRow, GeneratedText
from charlm.generation.streaming import Generation, generate_texts
from charlm.text.tokenization import Tokenizer, learn


def characters(text: str) -> Tokenizer:
    return learn(TokenizerConfig(), [text])


LETTERS = characters("abcdefghij\n")


class Written(Successor):
    """Predicts the given ids one after the other once it has read a prompt."""

    def __init__(self, ids: list[int], vocabulary: int) -> None:
        super().__init__(vocabulary)
        self.left = [*ids, 0]

    def _after(self, ids: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return super()._after(np.array([[self.left.pop(0) - 1]]), state)


def written(text: str, prompt: str = "", **settings: Any) -> GeneratedText:
    """Return what a network generates whose tokens spell `text` from its end."""
    tokenizer = characters(text + prompt + "\n")
    stepper = Written(tokenizer.encode(text)[::-1].tolist(), len(tokenizer))
    config = GenerationConfig(**{"length": len(text), **settings})
    generation = Generation(stepper, tokenizer, [prompt], config, direction="backward", record=True, temperature=0.1)
    return generation.finish()[0]


def test_the_text_comes_before_its_prompt() -> None:
    stepper = Successor(len(LETTERS))
    generation = Generation(
        stepper, LETTERS, ["cba"], GenerationConfig(length=3), direction="backward", temperature=0.1
    )
    pieces = list(generation)
    assert stepper.calls[0] == f"read {[LETTERS.encode('abc').tolist()]}"
    assert pieces == [["fed"]]  # as one piece: nothing is known of a text before its start is
    [text] = generation.texts
    assert (text.text, text.whole) == ("fed", "fedcba")


def test_tokens_are_recorded_in_the_order_of_the_text() -> None:
    text = written("one two", alternatives=2)
    tokenizer = characters("one two\n")
    assert text.text == "one two"
    assert tokenizer.decode(text.ids) == "one two"
    assert [others[0][0] for others in text.alternatives] == text.ids
    assert len(text.log_probabilities) == len(text.character_bits) == 7


@pytest.mark.parametrize(
    ("settings", "text", "end"),
    [
        ({"stop": ("B. ",)}, "C d e. F", "stop"),
        ({"stop": ("zz", "d e", ". ")}, "F", "stop"),
        ({"stop": ("zz",)}, "A b.\nB. C d e. F", "length"),
        ({"lines": 1}, "B. C d e. F", "lines"),
        ({"sentences": 1}, "F", "sentences"),
        ({"sentences": 2}, "C d e. F", "sentences"),
        ({"sentences": 4}, "A b.\nB. C d e. F", "length"),
        ({"lines": 1, "sentences": 2}, "C d e. F", "sentences"),
    ],
)
def test_a_limit_is_met_from_the_end(settings: dict[str, Any], text: str, end: str) -> None:
    found = written("A b.\nB. C d e. F", prompt="", **settings)
    assert (found.text.lstrip(), found.end) == (text, end)
    assert len(found.character_bits) == len(found.text)


def test_a_sentence_that_the_prompt_begins_with_is_not_counted() -> None:
    assert written("A b. C d. ", prompt="E", sentences=1).text == "C d. "


def test_a_sentence_of_chinese_starts_after_a_full_stop() -> None:
    assert written("一。「二。」三。四", sentences=2).text == "三。四"


def test_a_space_that_a_prompt_lacks_is_added() -> None:
    row = BackwardRow(LETTERS, text := GeneratedText("b", 1, "backward"), GenerationConfig(), " ")
    assert row.push(int(LETTERS.encode("a")[0])) == ""
    assert row.flush() == "a "
    assert text.whole == "a b"


@pytest.mark.parametrize("name", ["ban", "allow"])
def test_rules_that_read_the_spelling_of_a_text_from_its_start_are_refused(name: str) -> None:
    values: dict[str, Any] = {name: ("a",)}
    with pytest.raises(CharlmError, match=f"`{name}` reads what tokens spell from the start"):
        Generation(Successor(12), LETTERS, [""], GenerationConfig(), direction="backward", **values)


def test_many_texts_come_in_the_order_of_their_prompts() -> None:
    config = GenerationConfig(length=2, samples=2, seed=3)
    texts = list(
        generate_texts(Successor(len(LETTERS)), LETTERS, ["a", "c"], config, direction="backward", temperature=0.1)
    )
    assert [(text.whole, text.seed) for text in texts] == [("cba", 3), ("cba", 4), ("edc", 5), ("edc", 6)]


def test_a_drawn_text_has_its_normal_order() -> None:
    text = draw_text(Successor(len(LETTERS)), LETTERS, 300, "backward")
    assert "jihgfedcba" in text


def test_drawn_items_end_where_they_end() -> None:
    tokenizer = learn(TokenizerConfig(), ["abc\n"], unit="line")
    boundary = tokenizer.boundary
    assert boundary is not None
    a, b, c = tokenizer.encode("abc").tolist()
    following = {boundary: c, c: b, b: a, a: boundary}
    stepper = Successor(len(tokenizer))

    def step(ids: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return 100.0 * np.eye(len(tokenizer))[np.array([following[id] for id in ids.tolist()])], state

    stepper.step = step  # type: ignore[method-assign]
    stepper.initial_state = lambda batch: np.zeros((1, 1, batch, 1))  # type: ignore[method-assign]
    assert draw_text(stepper, tokenizer, 60, "backward") == "abc\n" * 15
