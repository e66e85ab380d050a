"""Streams in memory: ids, starts, and numbers that are exact."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charlm.config import TokenizerConfig
from charlm.errors import CharlmError
from charlm.text import stream as module
from charlm.text.items import SEPARATORS, Unit, blocks, items
from charlm.text.stream import Counts, TokenStream, encode_text, id_type
from charlm.text.tokenization import Tokenizer, learn

KINDS = ["char", "grapheme", "word", "classic", "byte", "bpe"]


def made(kind: str, text: str, unit: Unit = "stream") -> Tokenizer:
    config = TokenizerConfig(kind=kind, min_frequency=1, size=300 if kind == "bpe" else 0)
    return learn(config, [text, "two words"], unit=unit)


def counted(text: str, tokens: int) -> Counts:
    return Counts(tokens, len(text), len(text.encode()), len(text.split()) + text.count("\n"))


def test_counts_add_and_subtract() -> None:
    assert Counts(4, 3, 2, 1) + Counts(1, 1, 1, 1) == Counts(5, 4, 3, 2)
    assert Counts(4, 3, 2, 1) - Counts(1, 1, 1, 1) == Counts(3, 2, 1, 0)


@pytest.mark.parametrize(
    ("vocabulary", "bits"), [(1, 8), (256, 8), (257, 16), (65_536, 16), (65_537, 32), (1_000_000, 32)]
)
def test_ids_take_the_smallest_type(vocabulary: int, bits: int) -> None:
    assert id_type(vocabulary) == np.dtype(f"uint{bits}")


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(text=st.text(alphabet="ab1 \n\r\té\u0301中\U0001f600\u3000", max_size=40))
def test_a_stream_counts_its_whole_text(kind: str, text: str) -> None:
    tokenizer = made(kind, text)
    stream = encode_text(tokenizer, text)
    assert stream.ids.tolist() == tokenizer.encode(text).tolist()
    assert stream.ids.dtype == id_type(len(tokenizer))
    assert stream.starts is None
    assert stream.counts == counted(text, len(stream.ids))
    if kind in ("char", "grapheme", "word") and text:  # a first byte may be part of a character
        assert stream.predicted == counted(tokenizer.decode(stream.ids[1:]), len(stream.ids) - 1)


@pytest.mark.parametrize(
    ("kind", "text", "predicted"),
    [
        ("char", "ab cd\n", Counts(5, 5, 5, 3)),
        ("char", "a b\n", Counts(3, 3, 3, 2)),
        ("word", "ab cd\n", Counts(2, 4, 4, 2)),
        ("classic", "ab cd\n", Counts(2, 4, 4, 2)),
        ("classic", "  ab cd\n", Counts(2, 4, 4, 2)),
        ("classic", " \nab\n", Counts(2, 3, 3, 2)),
        ("byte", "中b", Counts(3, 2, 3, 1)),
        ("grapheme", "e\u0301b", Counts(1, 1, 1, 1)),
        ("char", "", Counts()),
    ],
)
def test_the_first_token_is_not_predicted(kind: str, text: str, predicted: Counts) -> None:
    assert encode_text(made(kind, "ab cd\n中be\u0301"), text).predicted == predicted


def test_words_are_counted_as_penn_treebank_counts_them() -> None:
    text = " no it was n't black monday \n but while the new york stock exchange did n't fall apart \n"
    stream = encode_text(made("classic", text), text)
    assert stream.counts.words == stream.counts.tokens == 19


def test_a_word_across_chunks_is_one_word(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "one twö  three\nfour "
    for chunk in range(1, 8):
        monkeypatch.setattr(module, "CHUNK", chunk)
        assert encode_text(made("char", text), text).counts == counted(text, len(text))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("unit", ["line", "document"])
def test_items_share_the_boundary_between_them(kind: str, unit: Unit) -> None:
    text = "emma b\n\n\nolivia\nava x\n\nzoë"
    tokenizer = made(kind, text, unit)
    parts = list(items([text], unit))
    stream = encode_text(tokenizer, text, unit)
    expected = [tokenizer.boundary]
    starts = []
    for part in parts:
        starts.append(len(expected) - 1)
        expected += [*tokenizer.encode(part).tolist(), tokenizer.boundary]
    assert stream.ids.tolist() == expected
    assert stream.starts is not None
    assert stream.starts.tolist() == starts
    whole = "".join(part + SEPARATORS[unit] for part in parts)
    assert stream.predicted == counted(whole, len(expected) - 1)
    assert stream.counts == stream.predicted + counted(SEPARATORS[unit], 1)


def test_items_in_several_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "".join(f"name{i}\n" for i in range(300))
    tokenizer = made("char", text, "line")
    whole = encode_text(tokenizer, text, "line")
    monkeypatch.setattr(module, "GROUP", 100)
    parts = encode_text(tokenizer, text, "line")
    assert parts.ids.tolist() == whole.ids.tolist()
    assert parts.starts is not None
    assert whole.starts is not None
    assert parts.starts.tolist() == whole.starts.tolist()
    assert len(whole.starts) == 300


def test_what_the_vocabulary_lacks_is_counted_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = made("char", "abc \n")
    stream = encode_text(tokenizer, "abéca?é\ufffd\n" * 2)
    assert stream.unknown == {"é": 4, "?": 2}
    assert stream.unknown_tokens == 6
    many = "".join(map(chr, range(0x4E00, 0x4E00 + 100))) + "éé"
    assert next(iter(encode_text(tokenizer, many).unknown.items())) == ("é", 2)
    assert len(encode_text(tokenizer, many).unknown) == module.REPORTED
    monkeypatch.setattr(module, "COUNTED", 10)
    assert encode_text(tokenizer, many).unknown_tokens == 102
    assert encode_text(made("byte", "ab"), many).unknown_tokens == 0


def test_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(CharlmError, match="half of a surrogate pair"):
        encode_text(made("char", "ab"), "ab\ud800")


def test_missing_streams_are_named(tmp_path: Path) -> None:
    with pytest.raises(CharlmError, match=r"the tokens of the val text in .* are missing or damaged"):
        TokenStream.load(tmp_path, "val")


def test_a_stream_of_several_blocks_is_one_stream() -> None:
    text = "some words é\n" * 400_000
    assert len(list(blocks([text]))) == 2
    stream = encode_text(made("char", text), text)
    assert stream.counts == counted(text, len(text))
    assert math.isclose(stream.predicted.bytes / stream.predicted.characters, 14 / 13, rel_tol=1e-6)
