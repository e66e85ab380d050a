"""Text metrics: written-out cases of each, and what must hold of all of them, whatever the script."""

from __future__ import annotations

import json
import math
import random
import statistics
import unicodedata
import zlib
from pydoc_data.topics import topics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charlm.evaluation import text_metrics as module
from charlm.evaluation.ngram import NGramCounts, NGramModel
from charlm.evaluation.text_metrics import BASELINE, COMPARED, REFERENCE, WEAK_BASELINE, Metric, TextMetrics, metrics
from charlm.evaluation.text_statistics import TextStatistics

PARAGRAPHS = "\n".join(topics.values()).split("\n\n")  # what every Python carries
random.Random(0).shuffle(PARAGRAPHS)  # so that any part of it is like any other
ENGLISH = "\n\n".join(PARAGRAPHS)
SIZE = 10_000
TRAINING, HELD_OUT, OTHER = ENGLISH[:250_000], ENGLISH[250_000:350_000], ENGLISH[350_000:430_000]
POEM = (
    "床前明月光疑是地上霜举头望明月低头思故乡白日依山尽黄河入海流"
    "欲穷千里目更上一层楼春眠不觉晓处处闻啼鸟夜来风雨声花落知多少"
)


def phrases(signs: str, characters: int, seed: int, between: str = "") -> str:
    """A text of phrases drawn from the same list, some of them often."""
    words = [signs[start : start + length] for start in range(len(signs) - 4) for length in (1, 2, 3, 4)]
    draw = random.Random(seed)
    weights = [1 / rank for rank in range(1, len(words) + 1)]
    random.Random(7).shuffle(weights)
    return between.join(draw.choices(words, weights, k=characters))[:characters]


def names(lines: int, seed: int) -> str:
    draw = random.Random(seed)
    syllables = ["an", "na", "li", "ma", "ro", "sa", "be", "el", "ka", "to", "mi", "ri"]
    return "".join("".join(draw.choices(syllables, k=draw.randint(2, 4))) + "\n" for _ in range(lines))


@pytest.fixture(scope="module")
def english() -> TextMetrics:
    return TextMetrics(TRAINING, HELD_OUT, size=SIZE)


@pytest.fixture(scope="module")
def others(english: TextMetrics) -> list[dict[str, float]]:
    """The scores of real texts, taken from as many places as that which is held out."""
    excerpts = [module._set_aside(OTHER[start : start + 2 * SIZE], SIZE)[0] for start in range(0, 80_000, 2 * SIZE)]
    return [english.score(excerpt) for excerpt in excerpts]


@pytest.fixture(scope="module")
def shuffled(english: TextMetrics) -> dict[str, float]:
    """The scores of letters as frequent as in the training text, in any order."""
    return english.score("".join(random.Random(3).choices(TRAINING, k=SIZE)))


@pytest.fixture(scope="module")
def chinese() -> TextMetrics:
    signs = POEM + "".join(map(chr, range(0x4E00, 0x4E80)))
    return TextMetrics(phrases(signs, 20_000, 1), phrases(signs, 5_000, 2), size=1000)


@pytest.fixture(scope="module")
def lines() -> TextMetrics:
    return TextMetrics(names(3000, 1), names(600, 2), unit="line", size=1000)


@pytest.fixture(scope="module")
def small() -> TextMetrics:
    """A corpus small enough to know by heart."""
    return TextMetrics("the cat sat on the mat. " * 30, "the dog ran to the sea. " * 30, size=100)


def value(name: str, text: str, corpus: TextMetrics) -> float | None:
    """A metric of a text, even one that is left out for the corpus."""
    return metrics[name](TextStatistics(text, corpus.alphabet), corpus)


# What must hold of every metric, also of those still to be written.


@pytest.mark.parametrize("metric", metrics.values(), ids=lambda metric: metric.name)
def test_a_metric_says_what_it_is(metric: Metric) -> None:
    assert metric.name == metric.name.lower()
    assert metric.name.isidentifier()
    assert 0 < len(metric.label) <= 60
    assert metric.better in ("higher", "lower", "near the held-out text")
    assert metric.unit in ("fraction", "bits", "characters", "")
    assert len(metric.description) > 20
    assert "{}" not in metric.label + metric.description
    assert metrics[metric.name] is metric


@pytest.mark.parametrize("name", metrics)
def test_real_text_scores_like_the_reference(name: str, english: TextMetrics, others: list[dict[str, float]]) -> None:
    """As close as real texts are to one another, and closer than the text of a model of order 1."""
    if name in english.left_out:
        assert name in ("lines_in_training_text", "distinct_lines")
        return
    reference, baseline = (english.references[text][name] for text in (REFERENCE, WEAK_BASELINE))
    values = [other[name] for other in others]
    middle = statistics.mean(values)
    near = max(6 * statistics.stdev(values), 0.25 * middle)
    assert reference == pytest.approx(middle, abs=near)
    if abs(baseline - middle) > near:
        assert abs(reference - middle) < abs(baseline - middle)


@pytest.mark.parametrize("name", metrics)
def test_random_characters_score_like_the_weak_baseline(
    name: str, english: TextMetrics, shuffled: dict[str, float]
) -> None:
    """Because that is the text of a model of order 1."""
    if name in english.left_out:
        return
    spread = {"fraction": 0.03, "bits": 0.1, "": 0.1, "characters": 3}[metrics[name].unit]
    if name == "closed_brackets":
        spread = 0.3  # of a few dozen
    assert shuffled[name] == pytest.approx(english.references[WEAK_BASELINE][name], abs=spread)


CORPORA = {
    "english": (TRAINING[:20_000], HELD_OUT[:5_000], "stream"),
    "documents": (TRAINING[:20_000], HELD_OUT[:5_000], "document"),
    "chinese": (phrases(POEM, 5_000, 1), phrases(POEM, 2_000, 2), "stream"),
    "names": (names(500, 1), names(200, 2), "line"),
    "long lines": ("\n".join(TRAINING[:9000].split("\n\n")), "\n".join(HELD_OUT[:3000].split("\n\n")), "line"),
    "right to left": (phrases("שלום עולם מה נשמע היום ", 3_000, 1), phrases("שלום עולם ", 1_000, 2), "stream"),
    "marks": (*(unicodedata.normalize("NFD", phrases("Größe déjà vu ", 2_000, n)) for n in (1, 2)), "stream"),
    "emoji": (phrases("😀👩‍👩‍👧👍🏽❤️ ok ", 3_000, 1), phrases("😀👩‍👩‍👧👍🏽❤️ ok ", 900, 2), "stream"),
    "one character": ("a" * 3_000, "a" * 1_000, "stream"),
    "nothing held out": (TRAINING[:3_000], "", "stream"),
    "hardly anything": ("a", "b", "line"),
    "blanks": (" \n" * 500, " \n" * 500, "line"),
}


@pytest.mark.parametrize("corpus", CORPORA)
def test_every_score_is_a_finite_number(corpus: str) -> None:
    training, held_out, unit = CORPORA[corpus]
    quality = TextMetrics(training, held_out, unit=unit, size=500)  # type: ignore[arg-type]
    hard = [
        "",
        "a",
        " ",
        "\n\n\n",
        "a" * 600,
        "ab" * 300,
        "\0",
        "\ud800",
        "((((" * 200,
        '"' * 600,
        "的" * 600,
        "\u0301" * 9,
    ]
    scores = [quality.score(text) for text in [*hard, training, held_out, "<b>😀</b>" * 40]]
    for score in [*scores, *quality.references.values()]:
        assert json.loads(json.dumps(score, allow_nan=False)) == score  # plain, finite
        assert score.keys() <= metrics.keys() - quality.left_out
        for name in score:
            assert metrics[name].unit != "fraction" or 0 <= score[name] <= 1
            assert score[name] >= -1e-9
    assert quality.score("") == {}
    assert set(quality.references) == set(COMPARED)
    assert quality.left_out.keys() <= set(metrics)


def test_a_new_metric_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_entries", dict(metrics.items()))

    @module.metric("letters e", "near the held-out text", "fraction", sizes=(1, 2))
    def letters(text: TextStatistics, corpus: TextMetrics, size: int) -> float | None:
        """Fraction of {} letters e in a row."""
        return text.text.count("e" * size) / len(text.text) if text.text else None

    quality = TextMetrics(TRAINING[:5_000], HELD_OUT[:3_000], size=500)
    assert metrics["letters_2"].description == "Fraction of 2 letters e in a row."
    assert quality.score("eel!") == {**quality.score("eel!"), "letters_1": 0.5, "letters_2": 0.25}
    assert all("letters_1" in scores for scores in quality.references.values())


# Each metric, on cases that can be counted by hand.


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("words_in_training_text", "the dog sat on a mat", 4 / 6),
        ("words_in_training_text", "The", 0),  # a capital makes another word
        ("words_in_training_text", "?!", None),
        ("words_in_held_out_text", "the dog sat on a mat", 2 / 6),
        ("word_ngrams_in_held_out_text_2", "the dog ran, the cat ran to", 3 / 6),
        ("word_ngrams_in_held_out_text_3", "the dog ran, the cat ran to", 1 / 5),
        ("word_ngrams_in_held_out_text_4", "the dog ran to the cat", 2 / 3),
        ("word_ngrams_in_held_out_text_4", "the dog ran", None),
        ("lines_in_training_text", "the cat\nthe dog\n\n", 0),
        ("distinct_lines", "a\nb\n\na\na\n", 2 / 4),
        ("distinct_ngrams_1", "the dog and the cat", 4 / 5),
        ("distinct_ngrams_2", "a b a b a", 2 / 4),
        ("distinct_ngrams_2", "a", None),
        ("repeated_ngrams_4", "a b c d a b c d a b", 1 - 4 / 7),
        ("repeated_ngrams_4", "a b c d e f g", 0),
        ("novel_substrings_10", " on the mat. the", 0),
        ("novel_substrings_10", "the cat sat.", 1 / 3),
        ("novel_substrings_10", "the cat sat on it", 2 / 8),
        ("novel_substrings_10", "the cat", None),
        ("novel_substrings_20", "sat on the mat. the cat", 0),
        ("longest_copy", "xx the cat xx", len(" the cat ")),
        ("longest_copy", "qqq", 0),
        ("copied_characters", "q" * 40 + "the cat sat on the mat. " * 2 + "the", 51 / 91),
        ("copied_characters", "q" * 40 + "the cat sat on the mat. " * 2, 0),
        ("compression_ratio", "abc" * 30, 90 / len(zlib.compress(b"abc" * 30, 9))),
        ("compression_ratio", "é" * 30, 60 / len(zlib.compress("é".encode() * 30, 9))),
        ("heaps_exponent", " ".join(map(str, range(64))), 1),
        ("heaps_exponent", "a " * 64, 0),
        ("heaps_exponent", "a b c", None),
        ("zipf_exponent", "".join(f"w{rank} " * (60 // rank) for rank in (1, 2, 3, 4, 5, 6)), 1),
        ("zipf_exponent", "a b c d", 0),
        ("zipf_exponent", "a a", None),
    ],
)
def test_cases_written_out(name: str, text: str, expected: float | None, small: TextMetrics) -> None:
    assert value(name, text, small) == (None if expected is None else pytest.approx(expected, abs=1e-6))


def test_lines_of_the_training_text(lines: TextMetrics) -> None:
    first, second = names(3000, 1).split("\n")[:2]
    assert value("lines_in_training_text", f"{first}\nqqqq\n{second}\n{first[:3]}qq", lines) == 2 / 4


def test_divergence_written_out() -> None:
    corpus = TextMetrics("ab" * 200, "ab" * 200)
    assert corpus.held_out.text.count("a") == corpus.held_out.text.count("b") == 100
    half = (math.log2(2 / 1.5) + 0.5 * math.log2(1 / 1.5) + 0.5) / 2  # only a, beside as many a as b
    for text, expected in (("ba", 0), ("a", half), ("aaa", half), ("c", 1), ("xyz", 1), ("", None)):
        assert value("character_divergence_1", text, corpus) == (
            None if expected is None else pytest.approx(expected, abs=1e-9)
        )
    assert value("character_divergence_2", "aa", corpus) == pytest.approx(1)
    assert value("character_divergence_4", "aba", corpus) is None


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        ("(a) ", 1), ("(a ", 0), ("(a] ", 0), ("([a]) ", 1), ("([a) ", 0.5), ("(a)) ", 1), ("[) ", 0),
        ("“a” ", 1), ("„a“ ", 1), ("「a『b』」 ", 1), ("「a『b」 ", 0.5), ("（a） ", 1),
        ('"a" ', 1), ('"a," b ', 1), (' " a " ', 1), ('a "b ', 0), ('a" b ', None), ('("a") ', 1), ('f("a, b") ', 1),
        ('5" (a) ', 1), ("it's ", None), ("(" + "a" * 499 + ")", 1), ("(" + "a" * 500 + ")", 0), ("a ", None),
    ],
)  # fmt: skip
def test_closed_brackets_written_out(unit: str, expected: float | None, small: TextMetrics) -> None:
    found = value("closed_brackets", unit * 30, small)
    assert found == (None if expected is None else pytest.approx(expected, abs=1e-9))


def test_few_brackets_say_nothing(small: TextMetrics) -> None:
    assert value("closed_brackets", "(a) " * 19, small) is None
    assert value("closed_brackets", "(a) " * 15 + "(b " * 5, small) == 15 / 20


def test_bits_are_those_of_ngram_models(english: TextMetrics) -> None:
    size, text = len(english.alphabet), OTHER[:500]
    assert size == len(set(TRAINING + english.held_out.text)) + 1
    ids, training, held_out = (english.alphabet.encode(one) for one in (text, TRAINING, english.held_out.text[:50_000]))
    bits = NGramModel(NGramCounts(training, 6, size)).cross_entropy(ids) / math.log(2)
    assert value("ngram_bits", text, english) == pytest.approx(bits)
    reverse = NGramModel(NGramCounts(ids, 6, size)).cross_entropy(held_out) / math.log(2)
    assert value("reverse_ngram_bits", text, english) == pytest.approx(reverse)


# What the metrics are for.


def test_a_copy_is_caught(english: TextMetrics) -> None:
    for start in (0, 123_456, len(TRAINING) - SIZE):
        score = english.score(TRAINING[start : start + SIZE])
        assert score["longest_copy"] == SIZE
        assert score["copied_characters"] == 1
        assert score["novel_substrings_10"] == score["novel_substrings_20"] == 0
        assert score["words_in_training_text"] > 0.998  # the ends may be cut
        assert score["ngram_bits"] < english.references[REFERENCE]["ngram_bits"] - 0.3


def test_a_copied_line_is_caught(lines: TextMetrics) -> None:
    score = lines.score("\n".join(names(3000, 1).split("\n")[100:140]))
    assert score["lines_in_training_text"] == 1


def test_the_references_tell_a_plain_story(english: TextMetrics) -> None:
    real, one, five = (english.references[name] for name in (REFERENCE, WEAK_BASELINE, BASELINE))
    for name in english.references[REFERENCE]:
        if name.startswith("word"):
            assert one[name] <= five[name] < real[name]
    for size in (2, 3, 4):
        name = f"character_divergence_{size}"
        assert one[name] > five[name] > real[name]
    for name in ("novel_substrings_10", "ngram_bits", "distinct_ngrams_1"):
        assert one[name] > five[name] > real[name]


def test_dull_and_poor_texts_are_caught(english: TextMetrics) -> None:
    sentence = HELD_OUT[5_000:5_200]
    dull, real = english.score(sentence * 50), english.references[REFERENCE]
    assert dull["repeated_ngrams_4"] > 0.9
    assert dull["compression_ratio"] > 5 * real["compression_ratio"]
    assert dull["reverse_ngram_bits"] > real["reverse_ngram_bits"] + 1
    assert dull["distinct_ngrams_1"] < real["distinct_ngrams_1"] / 3
    assert dull["heaps_exponent"] < real["heaps_exponent"] / 2


def test_a_script_without_spaces(chinese: TextMetrics) -> None:
    for name in ("words_in_training_text", "words_in_held_out_text", "word_ngrams_in_held_out_text_3"):
        assert chinese.left_out[name] == "spaces do not separate words in this text"
    real = chinese.references[REFERENCE]
    assert {"ngram_bits", "character_divergence_2", "novel_substrings_10", "zipf_exponent"} <= real.keys()
    assert chinese.score("明月" * 500)["distinct_ngrams_1"] == 2 / 1000  # of characters


def test_lines_of_single_words(lines: TextMetrics) -> None:
    assert lines.left_out["words_in_training_text"] == "the lines of this text are single words"
    assert lines.left_out["longest_copy"] == "the lines of this text have fewer than 50 characters"
    assert lines.left_out["zipf_exponent"] == "this text has fewer than 100 different characters"
    assert {"lines_in_training_text", "distinct_lines", "ngram_bits"} <= lines.references[REFERENCE].keys()


def test_a_stream_has_no_lines(english: TextMetrics) -> None:
    assert english.left_out["distinct_lines"] == "the items of this text are not lines"


def test_nothing_held_out() -> None:
    quality = TextMetrics(TRAINING[:5_000], "too short", size=400)
    assert quality.references[REFERENCE] == {}
    assert quality.left_out["character_divergence_1"] == "the held-out text has fewer than 200 characters"
    assert quality.size == 400
    assert quality.score(HELD_OUT[:400])["novel_substrings_20"] > 0


def test_what_the_held_out_text_lacks_is_left_out() -> None:
    quality = TextMetrics(
        TRAINING[:20_000], HELD_OUT[:5_000].translate(dict.fromkeys(map(ord, "()[]{}\"'"))), size=1_000
    )
    assert quality.left_out["closed_brackets"] == "they do not apply to the held-out text"
    assert "closed_brackets" not in quality.references[WEAK_BASELINE]


def test_only_so_much_text_is_scored(english: TextMetrics) -> None:
    assert english.score(OTHER) == english.score(OTHER[:SIZE])
    assert english.size == SIZE
    short = TextMetrics(TRAINING[:5_000], HELD_OUT[:3_000], size=SIZE)
    assert short.size == 1_500  # the other half is compared with
    assert len(short.held_out.text) == 1_500


def test_only_so_much_text_is_compared_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_TRAINING", 2_000)
    monkeypatch.setattr(module, "MOST_HELD_OUT", 1_500)
    quality = TextMetrics(TRAINING, HELD_OUT, size=500)
    assert quality.training.text == TRAINING[:2_000]
    assert len(quality.held_out.text) == 1_000


@settings(max_examples=50, deadline=None)
@given(st.text(st.sampled_from("ab \n"), min_size=200, max_size=400), st.integers(1, 100))
def test_what_is_set_aside_is_not_compared_with(text: str, size: int) -> None:
    excerpt, rest = module._set_aside(text, size)
    assert len(excerpt) == size
    assert sorted(excerpt + rest) == sorted(text)


def test_held_out_text_is_not_scored_against_itself() -> None:
    numbers = [f"word{number}" for number in range(2_000)]  # no word twice
    quality = TextMetrics(" ".join(numbers[:1_000]), " ".join(numbers[1_000:]), size=1_000)
    assert quality.references[REFERENCE]["words_in_held_out_text"] < 0.1  # but for words that were cut
    assert quality.references[REFERENCE]["word_ngrams_in_held_out_text_2"] == 0


def test_lines_are_set_aside_from_everywhere() -> None:
    held_out = "".join(f"{letter * 9}\n" for letter in "abcdefghijklmnopqrstuvwxyz" for _ in range(20))
    quality = TextMetrics(names(200, 1), held_out, unit="line", size=1_000)
    letters = {line[0] for line in quality.held_out.lines}
    assert len(letters) == 26  # and not the second half of the alphabet
    assert quality.held_out.text == TextMetrics(names(200, 1), held_out, unit="line", size=1_000).held_out.text


def test_a_seed_fixes_everything() -> None:
    first, again, other = (TextMetrics(TRAINING[:5_000], HELD_OUT[:3_000], seed=seed, size=500) for seed in (1, 1, 2))
    assert first.references == again.references
    assert first.references[BASELINE] != other.references[BASELINE]


def test_nothing_to_measure() -> None:
    with pytest.raises(ValueError, match="training text"):
        TextMetrics("", HELD_OUT)
