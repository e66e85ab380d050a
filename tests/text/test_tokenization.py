"""What all kinds of tokenizer promise: the round trip, ids that do not depend on blocks, one file that holds it all."""

import json
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers as library
from hypothesis import given, settings
from hypothesis import strategies as st

from charlm.config import TokenizerConfig
from charlm.errors import CharlmError
from charlm.text.items import LONGEST_LINE, Unit, blocks, lines
from charlm.text.tokenization import UNKNOWN, Tokenizer, learn, tokenizer_kinds

KINDS = list(tokenizer_kinds)
REVERSIBLE = [kind for kind in KINDS if tokenizer_kinds[kind].reversible]
# What is awkward: line ends, controls, a literal unknown token, marks without a letter, joiners, capitals whose
# lower case is longer, other scripts, a byte-order mark, the replacement character itself.
AWKWARD = (
    "Hello  wörld, it's <unk> <eos> a_b\r\n\n\n\tx\x00\x0b\x85\u2028 \u00a0\u0301\u0301e\u0301 \ufeff\ufffd"
    "\U0001f468\u200d\U0001f469 ΟΔΟΣ İstanbul 中文。\r\r\n end"
)
TEXTS = st.text(
    st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from(AWKWARD + " \n\r\u0301\u200d<unk>"))
)


def made(kind: str, text: str, unit: Unit = "stream", **limits: object) -> Tokenizer:
    limits = {"min_frequency": 1} | ({"size": 300} if kind in ("bpe", "unigram") else {}) | limits
    config = TokenizerConfig(kind=kind, **limits)  # type: ignore[arg-type]
    return learn(config, blocks([text]), unit=unit)


def by_library(tokenizer: Tokenizer, text: str) -> list[int]:
    return [id for line in lines(text) for id in tokenizer.library.encode(line, add_special_tokens=False).ids]


def test_the_registry_has_every_kind() -> None:
    assert {"char", "grapheme", "word", "classic", "byte", "bpe", "unigram"} <= set(tokenizer_kinds)
    with pytest.raises(CharlmError, match=r"there is no tokenizer 'chars'; .* did you mean 'char'"):
        made("chars", "abc")


@pytest.mark.parametrize("kind", REVERSIBLE)
@settings(max_examples=150, deadline=None)
@given(text=TEXTS)
def test_any_text_comes_back(kind: str, text: str) -> None:
    size = 300 if kind == "bpe" else 0
    config = TokenizerConfig(kind=kind, min_frequency=1, size=size)
    tokenizer = learn(config, [text, "two words"])
    ids = tokenizer.encode(text)
    assert ids.dtype == np.int32
    assert tokenizer.decode(ids) == text
    assert ids.tolist() == by_library(tokenizer, text)
    assert sum(tokenizer.unknowns(text).values()) == 0


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=50, deadline=None)
@given(text=TEXTS)
def test_ids_and_text_are_those_of_the_library_for_text_never_seen(kind: str, text: str) -> None:
    tokenizer = AWKWARD_TOKENIZERS(kind)
    ids = tokenizer.encode(text)
    assert ids.tolist() == by_library(tokenizer, text)
    if kind != "classic":
        assert tokenizer.decode(ids) == tokenizer.library.decode(ids.tolist(), skip_special_tokens=False)
    unknown = tokenizer.unknowns(text)
    known_replacements = [piece for piece in ("\ufffd", "<unk>") if piece == tokenizer.unknown_token]
    assert not set(unknown) & {*tokenizer.tokens, *known_replacements}
    if tokenizer.unknown is not None:
        literal = (ids == tokenizer.unknown).sum() - sum(unknown.values())
        assert 0 <= literal <= text.count(tokenizer.unknown_token or "")


@pytest.mark.parametrize("lowercase", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=30, deadline=None)
@given(text=TEXTS)
def test_parts_are_the_text_and_their_ids_its_encoding(kind: str, lowercase: bool, text: str) -> None:
    tokenizer = made(kind, AWKWARD * 3, lowercase=True) if lowercase else AWKWARD_TOKENIZERS(kind)
    parts, rest = tokenizer.parts(text)
    assert "".join(part for _, part in parts) + rest == text
    assert [id for id, _ in parts] == tokenizer.encode(text).tolist()
    if kind != "classic":
        assert rest == ""


@pytest.mark.parametrize(
    ("kind", "text", "parts", "rest"),
    [
        ("byte", "é!", ["", "é", "!"], ""),
        ("word", "ab  ab.\n", ["ab", " ", " ab", ".", "\n"], ""),
        ("classic", " ab  ab \nab ", [" ab", "  ab", " \n", "ab"], " "),
        ("classic", "  ", [], "  "),
    ],
)
def test_a_part_is_what_its_token_encodes(kind: str, text: str, parts: list[str], rest: str) -> None:
    found, left = made(kind, "ab ab. \n").parts(text)
    assert [part for _, part in found] == parts
    assert left == rest


def _once(make: Callable[[str], Tokenizer]) -> Callable[[str], Tokenizer]:
    kept: dict[str, Tokenizer] = {}

    def get(kind: str) -> Tokenizer:
        if kind not in kept:
            kept[kind] = make(kind)
        return kept[kind]

    return get


AWKWARD_TOKENIZERS = _once(lambda kind: made(kind, AWKWARD * 3))


@pytest.mark.parametrize("unit", ["stream", "line", "document"])
@pytest.mark.parametrize("lowercase", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_one_file_holds_everything(kind: str, lowercase: bool, unit: Unit, tmp_path: Path) -> None:
    tokenizer = made(kind, AWKWARD, unit, lowercase=lowercase)
    tokenizer.save(tmp_path / "tokenizer.json")
    loaded = Tokenizer.load(tmp_path / "tokenizer.json")
    assert type(loaded) is type(tokenizer)
    assert vars(loaded).keys() == vars(tokenizer).keys()
    for name in ("kind", "tokens", "boundary", "unknown", "lowercase", "reversible"):
        assert getattr(loaded, name) == getattr(tokenizer, name)
    assert loaded.lowercase is lowercase
    assert loaded.encode(AWKWARD).tolist() == tokenizer.encode(AWKWARD).tolist() == by_library(loaded, AWKWARD)
    assert (loaded.boundary is None) == (unit == "stream")
    # The library alone reads the same file and knows where an item begins and ends.
    other = library.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    ids = other.encode("ab").ids
    if unit != "stream":
        assert ids[0] == ids[-1] == loaded.boundary
        ids = ids[1:-1]
    assert ids == loaded.encode("ab").tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_the_boundary_is_a_line_end_or_a_token_no_text_becomes(kind: str) -> None:
    text = "ab  \n\n\n\ncd \n\n" * 20
    line = made(kind, text, "line")
    assert line.boundary is not None
    assert line.tokens[line.boundary] == "\n"
    assert line.start() == line.boundary
    document = made(kind, text, "document")
    assert document.boundary == len(document) - 1
    assert document.tokens[document.boundary] == "\n\n"
    assert document.boundary not in document.encode(text)


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_without_prompt_starts_after_a_line_end(kind: str) -> None:
    tokenizer = made(kind, "some words\nmore words\n" * 3)
    assert tokenizer.tokens[tokenizer.start()] == "\n"
    assert made("char", "abab").start() == 1


@pytest.mark.parametrize("kind", KINDS)
def test_ids_do_not_depend_on_blocks(kind: str) -> None:
    tokenizer = AWKWARD_TOKENIZERS(kind)
    text = (AWKWARD + "\n") * 3 + "w " * (LONGEST_LINE + 7) + "\n" + AWKWARD
    whole = tokenizer.encode(text).tolist()
    parts = [tokenizer.encode(block).tolist() for block in blocks([text], size=LONGEST_LINE)]
    assert len(parts) > 2
    assert [id for part in parts for id in part] == whole


@pytest.mark.parametrize("kind", KINDS)
def test_many_items_are_encoded_like_each_alone(kind: str) -> None:
    tokenizer = AWKWARD_TOKENIZERS(kind)
    items = ["Hello", "", "a\nb\n", AWKWARD, "zzz"]
    assert [ids.tolist() for ids in tokenizer.encode_items(items)] == [
        tokenizer.encode(item).tolist() for item in items
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_half_a_surrogate_pair_is_refused(kind: str) -> None:
    tokenizer = AWKWARD_TOKENIZERS(kind)
    with pytest.raises(CharlmError, match="half of a surrogate pair"):
        tokenizer.encode("ab\ud800")


@pytest.mark.parametrize("kind", KINDS)
def test_the_decoder_gives_the_text_piece_by_piece(kind: str) -> None:
    tokenizer = AWKWARD_TOKENIZERS(kind)
    ids = tokenizer.encode(AWKWARD).tolist()
    decoder = tokenizer.decoder()
    pieces = [decoder.push(id) for id in ids]
    assert "".join(pieces) + decoder.flush() == tokenizer.decode(ids)
    if kind != "classic":
        assert tokenizer.decode(ids) == AWKWARD
        assert all(AWKWARD.startswith("".join(pieces[:n])) for n in range(len(pieces)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_of_a_decoder_goes_on_on_its_own(kind: str) -> None:
    tokenizer = AWKWARD_TOKENIZERS(kind)
    ids = tokenizer.encode(AWKWARD).tolist()
    for cut in range(0, len(ids), 7):
        decoder = tokenizer.decoder()
        before = "".join(map(decoder.push, ids[:cut]))
        copy = decoder.copy()
        after = "".join(map(copy.push, ids[cut:])) + copy.flush()
        assert before + after == tokenizer.decode(ids)
        assert before + decoder.flush() == tokenizer.decode(ids[:cut])


def test_lower_case_is_that_of_the_library() -> None:
    tokenizer = made("char", "ΟΔΟΣ", lowercase=True)
    assert tokenizer.decode(tokenizer.encode("ΟΔΟΣ")) == "οδοσ"
    assert sorted(tokenizer.tokens) == sorted([UNKNOWN, *"οδσ"])
    assert tokenizer.unknowns("ΟZ") == {"z": 1}


@pytest.mark.parametrize(
    ("kind", "limits", "message"),
    [
        ("bpe", {"size": 100}, "`tokenizer.size` must be at least 257 for bpe, not 100"),
        ("word", {"size": 2_000_000}, "`tokenizer.size` must be at most 1,000,000, not 2,000,000"),
        ("word", {"min_frequency": 100}, "fewer than two different tokens; .*`tokenizer.min_frequency`"),
    ],
)
def test_a_vocabulary_out_of_reach(kind: str, limits: dict[str, Any], message: str) -> None:
    with pytest.raises(CharlmError, match=message):
        made(kind, "some words, some more words", "stream", **limits)


@pytest.mark.parametrize("unit", ["stream", "line", "document"])
def test_the_size_limits_the_whole_vocabulary(unit: Unit) -> None:
    for size in (257, 300):
        assert 257 <= len(made("bpe", "some words, some more words", unit, size=size)) <= size
    assert len(made("word", "a b c d e f\n" * 9, unit, size=4)) == 4


def test_a_limit_of_zero_is_the_default_of_the_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {name: (kind.default_size, kind.default_min_frequency) for name, kind in tokenizer_kinds.items()} == {
        "char": (None, 1),
        "grapheme": (None, 1),
        "word": (50_000, 2),
        "classic": (50_000, 1),
        "byte": (None, 1),
        "bpe": (4096, 2),
        "unigram": (4096, 2),
    }
    text = "one two two\nin two two\n"
    assert "one" not in "".join(learn(TokenizerConfig("word", size=0, min_frequency=0), [text]).tokens)
    assert "one" in "".join(learn(TokenizerConfig("word", min_frequency=1), [text]).tokens)
    monkeypatch.setattr(tokenizer_kinds["word"], "default_size", 3)
    assert len(learn(TokenizerConfig("word", min_frequency=1), [text])) == 3
    assert len(learn(TokenizerConfig("word", size=4, min_frequency=1), [text])) == 4


def test_one_letter_is_no_text() -> None:
    with pytest.raises(CharlmError, match="fewer than two different tokens"):
        made("char", "aaaa")


def test_an_endless_vocabulary_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("charlm.text.tokenization.MOST_TOKENS", 5)
    with pytest.raises(CharlmError, match=r"more than 5 different tokens \(char\); set `tokenizer.size`"):
        made("char", "abcdef")


@pytest.mark.parametrize(
    "content",
    ["", "{", "{}", "[]", "[" * 100_000, '{"model": {"type": "WordLevel", "vocab": {}}, "pre_tokenizer": null}'],
)
def test_a_damaged_file_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(CharlmError, match=r"tokenizer.json is damaged or was not written by charlm"):
        Tokenizer.load(path)
    path.unlink()
    with pytest.raises(CharlmError, match=r"cannot read the vocabulary .*tokenizer.json: No such file"):
        Tokenizer.load(path)


def test_ids_with_a_gap_are_damage(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    state = json.loads(made("char", "abc").definition())
    del state["model"]["vocab"]["b"]
    path.write_text(json.dumps(state))
    with pytest.raises(CharlmError, match="damaged"):
        Tokenizer.load(path)


def test_loading_is_quick(tmp_path: Path) -> None:
    made("char", "".join(map(chr, range(32, 97)))).save(tmp_path / "tokenizer.json")
    times = []
    for _ in range(5):
        start = time.perf_counter()
        Tokenizer.load(tmp_path / "tokenizer.json")
        times.append(time.perf_counter() - start)
    assert min(times) < 0.02


def test_importing_is_light() -> None:
    code = "import sys, charlm.text.tokenization as t; list(t.tokenizer_kinds); print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "lightning", "charlm.text.corpus", "charlm.text.batching"} & set(modules)


def test_decoding_an_array_needs_little_more_memory_than_its_text() -> None:
    tokenizer = learn(TokenizerConfig(kind="char"), ["abcdefgh\n"])
    ids = np.random.default_rng(0).integers(1, len(tokenizer), 1_000_000).astype(np.uint16)
    tracemalloc.start()
    text = tokenizer.decode(ids)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert text[-3:] == tokenizer.decode(ids[-3:].tolist())
    assert most < 6 * len(text)  # a list of numbers alone would be 8 bytes each
