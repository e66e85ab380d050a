"""Text that is read backward: the order of tokens in streams, and decoders from the end of a text."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charlm.config import TokenizerConfig
from charlm.text.items import Unit
from charlm.text.separate import encode_lines, encode_whole
from charlm.text.stream import Counts, TokenStream, encode_text
from charlm.text.tokenization import Tokenizer, learn

KINDS = ["char", "grapheme", "word", "classic", "byte", "bpe"]
UNITS: list[Unit] = ["stream", "line", "document"]
TEXT = "ab cd\nef\n\ngh ij k\n"


def made(kind: str, text: str = TEXT, unit: Unit = "stream") -> Tokenizer:
    config = TokenizerConfig(kind=kind, min_frequency=1, size=300 if kind == "bpe" else 0)
    return learn(config, [text, "two words"], unit=unit)


def items(stream: TokenStream) -> list[list[int]]:
    begin, end = stream.ranges
    return [stream.ids[first : last + 1].tolist() for first, last in zip(begin, end, strict=True)]


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_tokens_of_a_text_are_reversed_and_so_are_its_items(kind: str, unit: Unit) -> None:
    tokenizer = made(kind, unit=unit)
    forward = encode_text(tokenizer, TEXT, unit)
    backward = forward.in_order("backward")
    assert backward.ids.tolist() == forward.ids.tolist()[::-1]
    assert items(backward) == [item[::-1] for item in items(forward)][::-1]
    assert (backward.counts, backward.direction) == (forward.counts, "backward")
    again = backward.in_order("forward")
    assert items(again) == items(forward)
    assert again.predicted == forward.predicted
    assert backward.text(tokenizer) == forward.text(tokenizer) == tokenizer.decode(forward.ids)
    assert backward.text(tokenizer, 3) == tokenizer.decode(forward.ids[-3:])


@pytest.mark.parametrize(
    ("kind", "text", "predicted"),
    [
        ("char", "ab cd\n", Counts(5, 5, 5, 2)),  # the line end, a word, is not predicted
        ("char", "ab c", Counts(3, 3, 3, 1)),
        ("char", "ab cd", Counts(4, 4, 4, 2)),
        ("word", "ab cd", Counts(1, 2, 2, 1)),
        ("classic", "ab cd  ", Counts(1, 3, 3, 1)),
        ("byte", "abä", Counts(3, 3, 3, 1)),  # one byte of a character
    ],
)
def test_backward_all_but_the_last_token_is_predicted(kind: str, text: str, predicted: Counts) -> None:
    assert encode_text(made(kind, text), text).in_order("backward").predicted == predicted


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(text=st.text(alphabet="ab1 \n\té\u0301中\U0001f600", max_size=40))
def test_a_backward_decoder_writes_the_reverse_of_the_text(kind: str, text: str) -> None:
    tokenizer = made(kind, text)
    ids = tokenizer.encode(text).tolist()
    decoder = tokenizer.backward_decoder()
    pieces = [decoder.push(id) for id in reversed(ids)] + [decoder.flush()]
    assert "".join(pieces)[::-1] == tokenizer.decode(ids)


@given(data=st.binary(max_size=12))
def test_a_backward_decoder_replaces_wrong_bytes_as_decode_does(data: bytes) -> None:
    decoder = made("byte").backward_decoder()
    text = "".join([*(decoder.push(byte) for byte in reversed(data)), decoder.flush()])[::-1]
    assert text == data.decode("utf-8", "replace")


def test_every_token_of_a_whole_text_is_predicted_backward() -> None:
    tokenizer = made("char")
    stream = encode_whole(tokenizer, "ab c", "stream", "backward")
    assert stream.ids.tolist() == [tokenizer.start(), *tokenizer.encode("c ba")]
    assert stream.predicted == stream.counts == Counts(4, 4, 4, 2)


@pytest.mark.parametrize("unit", UNITS)
def test_backward_a_line_ends_with_the_end_of_the_line_before(unit: Unit) -> None:
    tokenizer = made("char", unit=unit)
    stream = encode_lines(tokenizer, ["ab", "c"], unit, "backward")
    start = tokenizer.start()
    end = tokenizer.encode("\n").tolist() if unit == "stream" else [tokenizer.boundary]
    expected = [[start, *tokenizer.encode(line), *end] for line in ("c", "ba")]
    assert items(stream) == expected  # the last line is read first
    assert stream.counts == encode_lines(tokenizer, ["ab", "c"], unit).counts
    assert np.array_equal(stream.in_order("forward").in_order("backward").ids, stream.ids)
