"""Each kind of tokenizer: what its tokens are, on texts small enough to write them down."""

import pytest

from charlm.config import TokenizerConfig
from charlm.text.tokenization import UNKNOWN, Tokenizer, learn
from charlm.text.tokenizers.bytes import BYTES


def made(kind: str, text: str, **limits: object) -> Tokenizer:
    return learn(TokenizerConfig(kind=kind, **limits), [text])  # type: ignore[arg-type]


def tokens(tokenizer: Tokenizer, text: str) -> list[str]:
    return [tokenizer.tokens[id] for id in tokenizer.encode(text)]


def test_char_is_sorted_code_points_after_the_unknown_one() -> None:
    tokenizer = made("char", "ba\u0301\r\n中")
    assert tokenizer.tokens == [UNKNOWN, "\n", "\r", "a", "b", "\u0301", "中"]
    assert tokenizer.encode("ab?\U0001f600").tolist() == [3, 4, 0, 0]
    assert tokenizer.decode([3, 0]) == "a\ufffd"
    assert tokenizer.unknowns("ab??") == {"?": 2}


def test_char_keeps_the_most_frequent() -> None:
    assert made("char", "aaabbcd", min_frequency=2).tokens == [UNKNOWN, "a", "b"]
    assert made("char", "daaabbc", size=4).tokens == [UNKNOWN, "a", "b", "c"]


def test_char_looks_up_ascii_and_other_text_alike() -> None:
    tokenizer = made("char", "".join(map(chr, range(1, 600))))
    text = "plain ascii\n" * 6000 + "then é and 中 \ufffd"
    expected = [tokenizer.tokens.index(c) if c in tokenizer.tokens else 0 for c in text[-20:]]
    ids = tokenizer.encode(text)
    assert ids[-20:].tolist() == expected
    assert tokenizer.decode(ids) == text.replace("中", UNKNOWN)


def test_grapheme_keeps_marks_and_joined_emoji_together() -> None:
    family = "\U0001f468\u200d\U0001f469"
    tokenizer = made("grapheme", f"e\u0301e\r\n{family}e\u0301")
    assert tokens(tokenizer, f"e\u0301{family}\r\ne") == ["e\u0301", family, "\r\n", "e"]
    assert tokenizer.unknowns("e\u0302e") == {"e\u0302": 1}


def test_word_includes_the_blank_before_it() -> None:
    text = "it's the_end, don’t  stop\n1.5 (naïve)\n"
    parts = ["it's", " the", "_", "end", ",", " don’t", " ", " stop", "\n"]
    parts += ["1", ".", "5", " (", "naïve", ")", "\n"]
    assert tokens(made("word", text, min_frequency=1), text) == parts


def test_word_has_most_frequent_words_first_and_drops_rare_ones() -> None:
    tokenizer = made("word", "b a a b a c a\n\n")
    assert tokenizer.tokens == [UNKNOWN, " a", "\n", " b"][: len(tokenizer)]
    assert tokenizer.decode(tokenizer.encode("b a c")) == "\ufffd a\ufffd"
    assert tokenizer.unknowns("b a c c") == {"b": 1, " c": 2}
    assert len(made("word", "a b c d e f", min_frequency=1, size=4)) == 4


def test_classic_is_words_and_line_ends() -> None:
    text = " the cat <unk>\n\n the end \n"
    tokenizer = made("classic", text)
    assert tokenizer.tokens[:2] == ["<unk>", "\n"]
    assert set(tokenizer.tokens[2:]) == {"the", "cat", "end"}
    assert tokens(tokenizer, text) == ["the", "cat", "<unk>", "\n", "\n", "the", "end", "\n"]
    assert tokenizer.decode(tokenizer.encode(text)) == "the cat <unk>\n\nthe end\n"
    # The literal <unk> of the text is known; a word that is not becomes the same token.
    assert tokenizer.unknowns("the dog <unk>\n") == {"dog": 1}
    assert tokenizer.encode("dog").tolist() == tokenizer.encode("<unk>").tolist() == [0]


def test_byte_ids_are_the_bytes() -> None:
    tokenizer = made("byte", "x")
    text = "".join(map(chr, range(0x250))) + "中\U0001f600"
    assert tokenizer.encode(text).tolist() == list(text.encode())
    assert len(tokenizer) == 256
    assert tokenizer.tokens[ord("a")] == "a"
    assert tokenizer.tokens[0xE4] == "\\xe4"


def test_the_byte_alphabet_is_that_of_the_library() -> None:
    from tokenizers import pre_tokenizers

    assert set(BYTES) == set(pre_tokenizers.ByteLevel.alphabet())
    assert sorted(BYTES.values()) == list(range(256))


def test_bytes_wait_for_their_character_and_broken_ones_show() -> None:
    decoder = made("byte", "x").decoder()
    assert [decoder.push(byte) for byte in "é中".encode()] == ["", "é", "", "", "中"]
    assert [decoder.push(byte) for byte in b"\xe4a\xff"] == ["", UNKNOWN + "a", UNKNOWN]
    decoder.push(0xE4)
    assert decoder.flush() == UNKNOWN
    assert decoder.flush() == ""


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_frequent_strings_become_tokens(kind: str) -> None:
    tokenizer = made(kind, "the theatre then\n" * 50, size=270)
    assert 256 < len(tokenizer) <= 270
    assert len(tokenizer.encode("the theatre")) < len("the theatre")
    assert tokenizer.decode(tokenizer.encode("中 <unk>\x00")) == "中 <unk>\x00"
    assert tokenizer.unknown is None


def test_bpe_joins_the_most_frequent_pair_first() -> None:
    assert made("bpe", "ab ab cd\n" * 9, size=257).tokens[-1] == "ab"
    # A pair that occurs once is no pattern.
    assert len(made("bpe", "one two six", size=300)) == 256


def test_a_word_prompt_leaves_its_blanks_where_the_vocabulary_has_them() -> None:
    tokenizer = learn(TokenizerConfig(kind="word", min_frequency=1), ["Once the cat sat"])
    assert tokenizer.prompt("Once the ") == "Once the"
    assert tokenizer.prompt("cat") == " cat"
    assert tokenizer.prompt("Once") == "Once"
    assert tokenizer.prompt("dog ") == "dog"
    assert learn(TokenizerConfig(kind="char"), ["Once the cat "]).prompt("the ") == "the "
