"""charlm generate with beams, and with the best of several texts, as a person types it."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from charlm.errors import CharlmError
from charlm.run import Run
from conftest import Charlm


def rows(charlm: Charlm, *arguments: Any) -> list[dict[str, Any]]:
    done = charlm("generate", *arguments, "--json")
    assert (done.status, done.err) == (0, "")
    return [json.loads(line) for line in done.out.splitlines()]


def test_beams_find_more_probable_texts_than_greedy_generation(charlm: Charlm, tiny_run: Path) -> None:
    options = [tiny_run, "--prompt", "The ", "--length", "30"]
    greedy = charlm("generate", *options, "--temperature", "0", "--seed", "1").out
    assert charlm("generate", *options, "--beams", "1").out == greedy
    found = rows(charlm, *options, "--beams", "6", "--samples", "6")
    log_p = [sum(row["log_probabilities"]) for row in found]
    assert log_p == sorted(log_p, reverse=True)
    assert len({row["text"] for row in found}) == 6
    assert log_p[0] > sum(rows(charlm, *options, "--beams", "1")[0]["log_probabilities"])
    best = Run(tiny_run).generate("The ", length=30, beams=6)
    assert best == found[0]["text"]
    for row in rows(charlm, tiny_run, "--length", "20", "--beams", "3", "--samples", "3"):
        scores = Run(tiny_run).score(row["text"])
        assert row["log_probabilities"] == pytest.approx(-scores.nats[1:], abs=1e-4)
    done = charlm("generate", *options, "--beams", "6")
    assert (done.out, done.err) == (f"The {best}\n", "")


def test_every_option_works_with_beams(charlm: Charlm, tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("The \nthe old house\n")
    every = [tiny_run, "--prompts", "prompts.txt", "--length", "40", "--beams", "6", "--samples", "3"]
    every += ["--beam_groups", "3", "--diversity_penalty", "0.5", "--length_penalty", "0.8", "--alternatives", "2"]
    every += [
        "--stop",
        "zz",
        "--lines",
        "3",
        "--sentences",
        "2",
        "--ban",
        "the",
        "--no_repeat_ngram",
        "6",
        "--top_k",
        "9",
    ]
    every += ["--xtc_probability", "0.3", "--xtc_threshold", "0.2", "--surprise", "2", "--dedupe", "--device", "cpu"]
    found = rows(charlm, *every)
    assert [row["prompt"] for row in found] == ["The "] * 3 + ["the old house"] * 3
    assert len({row["text"] for row in found}) == 6
    assert all("the" not in row["text"] for row in found)
    assert all(len(row["alternatives"]) == len(row["tokens"]) for row in found)
    assert rows(charlm, *every) == found
    done = charlm("generate", *every, "--output", "texts", "--json")
    assert done.status == 0
    files = sorted((tmp_path / "texts").iterdir())
    assert [json.loads(file.read_text()) for file in files] == found


def test_beams_show_the_probability_of_each_character(
    charlm: Charlm, tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["generate", tiny_run, "--length", "30", "--beams", "3", "--show", "probability"]
    piped = charlm(*options).out
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    shown = charlm(*options).out
    assert "\x1b[38;5;16;48;5;230m" in shown
    assert re.sub(r"\x1b\[[0-9;]*m", "", shown) == piped


def test_the_best_of_several_texts_has_its_own_seed(charlm: Charlm, tiny_run: Path) -> None:
    options = [tiny_run, "--length", "20", "--temperature", "1"]
    found = rows(charlm, *options, "--seed", "5", "--samples", "3", "--best_of", "4")
    for number, row in enumerate(found):
        drawn = rows(charlm, *options, "--seed", str(5 + 4 * number), "--samples", "4")
        best = max(drawn, key=lambda one: sum(one["log_probabilities"]) / len(one["tokens"]))
        assert (row["seed"], row["text"]) == (best["seed"], best["text"])
        assert rows(charlm, *options, "--seed", str(row["seed"]))[0]["text"] == row["text"]
    assert Run(tiny_run).generate(length=20, temperature=1, seed=5, best_of=4) == found[0]["text"]
    done = charlm("generate", *options, "--best_of", "3")
    assert re.fullmatch(r"charlm: --seed \d+ generates this text again\n", done.err)


def test_what_a_search_lacks_is_told(charlm: Charlm, tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = charlm("generate", tiny_run, "--beams", "3", "--samples", "3", "--temperature", "0", "--length", "5")
    assert done.err == "charlm: only 1 of 3 texts are possible; exclude fewer tokens\n"
    run = Run(tiny_run)
    only_e: dict[str, Any] = {"length": 1, "allow": "e", "dedupe": True, "beams": 2}
    assert run.generate(**only_e) == "e"
    monkeypatch.setattr(Run, "_training_items", lambda run: frozenset({"e"}))
    with pytest.raises(CharlmError, match="no text that was found is new"):
        run.generate(**only_e)
    done = charlm("generate", tiny_run, "--length", "1", "--allow", "e", "--dedupe", "--beams", "2")
    assert (done.out, done.err) == ("", "charlm: only 0 of 1 texts are new; try more beams\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--beams", "2", "--best_of", "2"], "--beams and --best_of exclude each other: a search draws no texts"),
        (["--beams", "2", "--samples", "3"], "--samples must be at most --beams (2), not 3"),
        (["--beams", "4", "--beam_groups", "3", "--diversity_penalty", "1"], "a multiple of --beam_groups (3), not 4"),
        (["--beams", "4", "--beam_groups", "2"], "--beam_groups and --diversity_penalty change nothing alone"),
        (["--length_penalty", "0.5"], "--length_penalty changes nothing without --beams or --best_of"),
        (["--beams", "5000"], "--beams must be at most 4096, not 5000"),
        (["--beams", "2", "--stop", ""], "a stop string must not be empty"),
        (["--beams", "2", "--prompt", "Ünder"], "the prompt has 'Ü'"),
    ],
)
def test_a_search_that_cannot_be(charlm: Charlm, tiny_run: Path, arguments: list[str], message: str) -> None:
    assert message in charlm("generate", tiny_run, *arguments).mistake
