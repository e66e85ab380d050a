"""Scores of tokens and lines against the model read token by token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from charlm.config import TokenizerConfig
from charlm.errors import CharlmError
from charlm.evaluation.attribution import Attribution, check_comparable, check_same_vocabulary, nats_of_unknown
from charlm.run import Run
from charlm.text.items import Unit
from charlm.text.separate import encode_lines, encode_whole, lines_of, read_files
from charlm.text.tokenization import Tokenizer, learn, tokenizer_kinds
from charlm.training.trainer import train
from conftest import small_settings, small_text


def by_hand(run: Run, ids: list[int]) -> list[np.ndarray]:
    """The log-probabilities (vocab_size,) of the token after each of `ids` but the last."""
    model = run.load_model()
    with torch.no_grad():
        return [torch.log_softmax(model(torch.tensor([ids[:end]]))[0][0, -1], -1).numpy() for end in range(1, len(ids))]


@pytest.fixture(scope="module", params=["stream", "line"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("scores")
    (folder / "text.txt").write_text(small_text(3000), encoding="utf-8")
    settings = small_settings(folder / "text.txt", data={"unit": request.param}, trainer={"max_steps": 20})
    return train(settings, folder / "run")


def test_every_token_of_a_text_is_scored_the_first_one_too(run: Run) -> None:
    text = small_text(90)
    scores = run.score(text, preferred=3)
    ids = scores.stream.ids.tolist()
    starts = [0] if scores.stream.starts is None else scores.stream.starts.tolist()
    expected: dict[int, np.ndarray] = {}
    for begin, end in zip(starts, [*starts[1:], len(ids) - 1], strict=True):
        for place, found in enumerate(by_hand(run, ids[begin : end + 1]), begin + 1):
            expected[place] = found
    assert scores.predicted.tolist() == sorted(expected)
    assert run.tokenizer.decode([ids[place] for place in sorted(expected)]).strip() == text.strip()
    for place, found in expected.items():
        assert scores.nats[place] == pytest.approx(-found[ids[place]], abs=1e-4)
        assert scores.ranks[place] == (found > found[ids[place]]).sum()
        assert scores.preferred[place].tolist() == np.argsort(-found)[:3].tolist()
        assert scores.preferred_nats[place] == pytest.approx(np.sort(-found)[:3], abs=1e-4)
    assert scores.evaluation.nats == pytest.approx(scores.nats.sum())
    assert scores.evaluation.predicted.characters == len(text.rstrip("\n")) + (
        scores.stream.starts is not None or text.endswith("\n")
    )


def test_a_line_is_scored_as_if_it_stood_alone(run: Run) -> None:
    lines = ["the first", "", "a longer second line", "b"]
    together = run.score(lines)
    assert len(together.item_nats) == len(lines)
    for line, nats in zip(lines, together.item_nats, strict=True):
        (alone,) = run.score([line]).item_nats
        assert nats == pytest.approx(alone, rel=1e-5)
        ids = encode_lines(run.tokenizer, [line], run.config.data.unit).ids.tolist()
        expected = -sum(found[id] for found, id in zip(by_hand(run, ids), ids[1:], strict=True))
        assert nats == pytest.approx(expected, rel=1e-4)
    assert run.log_likelihoods(lines, by_line=True) == pytest.approx(-together.item_nats)
    assert together.evaluation.predicted.characters == sum(len(line) + 1 for line in lines)
    assert together.evaluation.predicted.bytes == sum(len(line) + 1 for line in lines)


def test_the_likelihood_of_a_text_is_the_sum_of_its_tokens(run: Run) -> None:
    texts = [small_text(50), small_text(70)[20:]]
    expected = [-run.score(text).nats.sum() for text in texts]
    assert run.log_likelihoods(texts) == pytest.approx(expected)


def test_a_text_of_which_nothing_is_known_is_named(run: Run) -> None:
    with pytest.raises(CharlmError, match=r"the text has nothing that the vocabulary of .* knows"):
        run.score("家家家")
    assert run.score("家a").evaluation.unknown == 1


@pytest.mark.parametrize("kind", sorted(tokenizer_kinds))
@pytest.mark.parametrize("unit", ["stream", "line", "document"])
def test_whole_texts_and_lines_spell_what_was_given(kind: str, unit: Unit) -> None:
    text = "one two, three\nfour\n"
    tokenizer = learn(TokenizerConfig(kind=kind, min_frequency=1), [text * 3], unit=unit)
    whole = encode_whole(tokenizer, text, unit)
    assert whole.predicted.tokens == len(whole) - 1
    assert whole.predicted.bytes == (len(text) if unit != "document" else len(text.rstrip("\n")) + 2)
    lines = encode_lines(tokenizer, ["one two, three", "four"], unit)
    begin, end = lines.ranges
    spelled = [tokenizer.decode(lines.ids[first + 1 : last + 1]) for first, last in zip(begin, end, strict=True)]
    assert [one.strip() for one in spelled] == ["one two, three", "four"]
    assert lines.ids[begin].tolist() == [tokenizer.start()] * 2
    assert lines.predicted.tokens == len(lines) - 2


def test_unknown_tokens_spell_the_pieces_that_they_stand_for() -> None:
    for kind in ("char", "word"):
        tokenizer = learn(TokenizerConfig(kind=kind, min_frequency=1), ["a b a b\n"])
        text = "a x b, y\na z"
        assert "".join(tokenizer.spelled(tokenizer.encode(text).tolist(), text)) == text
        assert tokenizer.spelled([tokenizer.unknown], "")[0] == tokenizer.tokens[tokenizer.unknown]  # type: ignore[list-item,index]


def test_files_are_read_one_by_one(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("first\r\n", encoding="utf-8", newline="")
    (tmp_path / "b.csv").write_text('text,n\n"two\nlines",1\nthree,2\n', encoding="utf-8")
    assert list(read_files([str(tmp_path / "a.txt")])) == [(str(tmp_path / "a.txt"), "first\n")]
    assert [text for _, text in read_files([str(tmp_path)])] == ["first\n"]
    ((_, rows),) = read_files([str(tmp_path / "b.csv")], column="text")
    assert lines_of(rows) == ["two lines", "three"]
    assert lines_of("a\n\nb") == ["a", "", "b"]


def tokenizer_of(text: str, **options: Any) -> Tokenizer:
    return learn(TokenizerConfig(min_frequency=1, **options), [text])


def test_what_cannot_be_compared_is_named() -> None:
    ab, abc = tokenizer_of("ab"), tokenizer_of("abc")
    check_same_vocabulary({"x": ab, "y": tokenizer_of("ba")})
    with pytest.raises(CharlmError, match=r"y has another vocabulary \(char, 4 tokens\) than x \(char, 3 tokens\)"):
        check_same_vocabulary({"x": ab, "y": abc})
    check_comparable({"x": ab, "y": abc})
    for other in (tokenizer_of("a b", kind="word"), tokenizer_of("ab", lowercase=True)):
        with pytest.raises(CharlmError, match=r"z has another tokenizer .* likelihoods of a text cannot be compared"):
            check_comparable({"x": ab, "y": abc, "z": other})


def test_an_unknown_token_is_shared_by_what_it_may_stand_for() -> None:
    first, second = nats_of_unknown([tokenizer_of("ab"), tokenizer_of("bcdef")])
    assert first == pytest.approx(np.log(4 + 1))  # c, d, e, f, and one that both lack
    assert second == pytest.approx(np.log(1 + 1))


def test_the_best_model_and_its_probability() -> None:
    found = Attribution(["x", "y"], np.array([[1.0, 2.0], [500.0, 3.0]]), ["x", "x"])
    assert found.best.tolist() == [0, 1]
    assert found.probabilities[0] == pytest.approx([1 / (1 + np.exp(-1)), 1 / (1 + np.exp(1))])
    assert found.probabilities[1] == pytest.approx([0, 1])
    assert found.accuracy == 0.5
    assert found.confusion == {"x": {"x": 1, "y": 1}}
    with pytest.raises(CharlmError, match="label 2 is 'z', and no run has this name; the runs are x, y"):
        Attribution(["x", "y"], np.zeros((2, 2)), ["x", "z"])
    with pytest.raises(CharlmError, match="there is 1 label for 2 texts; name one for each"):
        Attribution(["x", "y"], np.zeros((2, 2)), ["x"])
