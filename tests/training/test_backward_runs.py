"""Runs that are trained on the text read backward."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from charlm.errors import CharlmError
from charlm.run import Run
from charlm.training.trainer import train
from charlm.views.scores import Scored
from conftest import Charlm, small_settings

PATTERN = "abcdefgh\n"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """Runs of both directions on a text that repeats a line, and a backward run whose items are lines."""
    folder = tmp_path_factory.mktemp("directions")
    text = folder / "text.txt"
    text.write_text(PATTERN * 400, encoding="utf-8")
    kinds: dict[str, dict[str, object]] = {
        "forward": {},
        "backward": {"direction": "backward"},
        "lines": {"direction": "backward", "unit": "line"},
    }
    samples = {"prompts": ["h\nab"], "scored": 200}
    found: dict[str, Run] = {}
    for name, data in kinds.items():
        settings = small_settings(text, data=data, trainer={"max_epochs": 5}, samples=samples)
        found[name] = Run(train(settings, folder / name).path)
    return found


def test_both_directions_have_the_same_vocabulary_and_files_of_tokens(runs: dict[str, Run]) -> None:
    forward, backward = runs["forward"], runs["backward"]
    assert forward.tokenizer.definition() == backward.tokenizer.definition()
    for name in ("train.ids", "val.ids"):
        assert (forward.path / "tokens" / name).read_bytes() == (backward.path / "tokens" / name).read_bytes()
    own = backward.directory.stream("train")
    assert np.array_equal(own.ids, forward.directory.stream("train").ids[::-1])


@pytest.mark.parametrize("name", ["backward", "lines"])
def test_a_pattern_is_learned_backward(runs: dict[str, Run], name: str) -> None:
    run = runs[name]
    assert run.evaluate().bits_per_character < 0.3
    assert run.evaluate(PATTERN * 20).bits_per_character < 0.3
    assert run.evaluate("hgfedcba\n" * 20).bits_per_character > 2  # read from its end, it is no pattern


def test_a_sample_is_text_in_its_normal_order(runs: dict[str, Run]) -> None:
    sample = runs["backward"].samples[-1]
    assert sample.direction == "backward"
    assert sample.whole.endswith("efgh\nab")
    assert not sample.text.endswith("ab")
    assert sample.scores["ngram_bits"] < 2  # under an n-gram model of the text in its normal order


def test_generated_text_comes_before_the_prompt(charlm: Charlm, runs: dict[str, Run]) -> None:
    run = runs["backward"]
    text = run.generate("fgh\n", length=5, temperature=0)
    assert text == "abcde"
    done = charlm("generate", run.path, "--prompt", "fgh", "--length", "5", "--temperature", "0")
    assert done.out == "abcdefgh\n"
    assert next(run.stream_text("fgh\n", length=5, temperature=0)) == ["abcde"]


def test_scores_are_in_the_order_of_the_text(runs: dict[str, Run]) -> None:
    run, text = runs["backward"], PATTERN * 3 + "abcdXfgh\n".replace("X", "a")
    scored = Scored("text", run.tokenizer, [run.score(text, preferred=1)])
    assert "".join(scored.tokens) == text
    # "a" before "f" surprises a model that has read "fgh" before it.
    assert int(scored.bits[0].argmax()) in (text.rindex("a") - 1, text.rindex("a"))
    scores = scored.scores[0]
    preferred = [run.tokenizer.tokens[id] for id in scores.preferred[scores.predicted][:, 0]]
    assert "".join(preferred[:18]) == PATTERN * 2


def test_lines_are_scored_in_the_order_of_the_text(runs: dict[str, Run]) -> None:
    for name in ("backward", "lines"):
        run, lines = runs[name], ["abcdefgh", "hhhhhhhh", "abcdefgh"]
        nats = run.score(lines).item_nats
        alone = [run.score([line]).item_nats[0] for line in lines]
        assert nats == pytest.approx(alone, rel=1e-4)
        assert nats.argmax() == 1
        assert -run.log_likelihoods(lines, by_line=True) == pytest.approx(nats)


def test_n_gram_models_read_in_the_direction_of_the_run(runs: dict[str, Run]) -> None:
    for run in runs.values():
        baselines = run.baselines()
        assert min(one.bits_per_character for one in baselines.values()) < 0.1
        assert all(math.isfinite(one.nats) for one in baselines.values())


def test_a_run_starts_only_from_weights_of_its_direction(runs: dict[str, Run], tmp_path: Path, charlm: Charlm) -> None:
    started = charlm(
        "train", *runs["forward"].config.data.text, "--init_from", runs["backward"].path, "--run", tmp_path / "run",
        "--trainer.max_steps", "2", "--samples.every", "0",
    )  # fmt: skip
    assert started.status == 0
    assert Run(tmp_path / "run").config.data.direction == "backward"
    source = runs["backward"].path
    theirs = runs["backward"].config
    wrong = replace(theirs, init_from=str(source), data=runs["forward"].config.data)
    with pytest.raises(CharlmError, match=r"`data.direction` forward does not fit .* is trained backward; leave"):
        train(wrong, tmp_path / "other")


def test_two_directions_are_not_compared_token_by_token(charlm: Charlm, runs: dict[str, Run]) -> None:
    refused = charlm("score", runs["forward"].path, "--against", runs["backward"].path)
    assert "so that they predict a token from different text; score each alone" in refused.mistake


def test_a_gap_is_filled(charlm: Charlm, runs: dict[str, Run]) -> None:
    forward, backward = runs["forward"], runs["backward"]
    best = forward.fill("abcdefgh\nab___gh\nabc", backward, gap="2-6")[0]
    assert (best.gap, best.text) == ("cdef", "abcdefgh\nabcdefgh\nabc")
    done = charlm("fill", forward.path, backward.path, "ab___gh\n", "--gap", "4", "--samples", "1")
    bits, own, other, text = done.out.rstrip("\n").split("\t")
    assert text == "abcdefgh\\n"
    assert float(bits) == pytest.approx(float(own) + float(other), abs=0.02)
    listed = charlm("fill", forward.path, backward.path, "ab?gh", "--mark", "?", "--json").out.splitlines()
    assert len(listed) == 5


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ("backward", "forward", "is trained backward; name the forward run first"),
        ("forward", "forward", "is trained forward; name the forward run first"),
        ("forward", "lines", "different `data.unit`"),
    ],
)
def test_runs_that_fill_no_gap_together(runs: dict[str, Run], first: str, second: str, message: str) -> None:
    with pytest.raises(CharlmError, match=message):
        runs[first].fill("ab___gh", runs[second])
