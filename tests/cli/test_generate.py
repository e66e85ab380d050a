"""charlm generate as a person types it."""

from __future__ import annotations

import io
import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from charlm.errors import CharlmError
from charlm.run import Run
from conftest import Charlm


def test_generate_prints_the_prompt_and_the_text(
    charlm: Charlm, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = charlm("generate", tiny_run, "--prompt", "The ", "--length", "50", "--seed", "3")
    expected = Run(tiny_run).generate("The ", length=50, seed=3)
    assert (done.status, done.out, done.err) == (0, f"The {expected}\n", "")
    (tmp_path / "prompt.txt").write_text("The ")
    same = charlm("generate", tiny_run, "--prompt_file", "prompt.txt", "--length", "50", "--seed", "3")
    assert same.out == done.out
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"The ")))
    same = charlm("generate", tiny_run, "--prompt_file", "-", "--length", "50", "--seed", "3")
    assert same.out == done.out
    monkeypatch.setattr(sys, "stdin", None)
    assert "standard input is closed; name a file" in charlm("generate", tiny_run, "--prompt_file", "-").mistake
    stopped = charlm(
        "generate", tiny_run, "--prompt", "The ", "--length", "50", "--seed", "3", "--stop", expected[9:12]
    )
    assert stopped.out == f"The {expected[: expected.index(expected[9:12])]}\n"


def test_a_seed_that_was_not_named_is_told(charlm: Charlm, tiny_run: Path) -> None:
    done = charlm("generate", tiny_run, "--length", "40")
    told = re.fullmatch(r"charlm: --seed (\d+) generates this text again\n", done.err)
    assert told
    assert charlm("generate", tiny_run, "--length", "40", "--seed", told[1]).out == done.out
    assert charlm("generate", tiny_run, "--length", "40").err != done.err  # another one of 2^32


def test_several_texts(charlm: Charlm, tiny_run: Path) -> None:
    options = [tiny_run, "--samples", "3", "--length", "20", "--seed", "5"]
    plain = charlm("generate", *options).out
    rows = [json.loads(line) for line in charlm("generate", *options, "--json").out.splitlines()]
    assert [(row["sample"], row["seed"], row["prompt"], row["end"]) for row in rows] == [
        (number, number + 4, "", "length") for number in (1, 2, 3)
    ]
    assert plain == "".join(f"--- {row['sample']}\n{row['text']}\n" for row in rows)
    for row in rows:
        assert row["text"] == "".join(row["tokens"]) == Run(tiny_run).generate(length=20, seed=row["seed"])
        assert len(row["log_probabilities"]) == 20
        scores = Run(tiny_run).score(row["text"])
        assert row["log_probabilities"] == pytest.approx(-scores.nats[1:], abs=1e-4)


def test_a_file_of_prompts(charlm: Charlm, tiny_run: Path, tmp_path: Path) -> None:
    prompts = ["The ", "", "the old house by the sea"]
    (tmp_path / "prompts.txt").write_text("\n".join(prompts) + "\n")
    options = [tiny_run, "--length", "20", "--seed", "5", "--samples", "2"]
    rows = [
        json.loads(line) for line in charlm("generate", *options, "--prompts", "prompts.txt", "--json").out.splitlines()
    ]
    assert [row["prompt"] for row in rows] == [prompt for prompt in prompts for _ in range(2)]
    assert [row["seed"] for row in rows] == list(range(5, 11))
    for row in rows:
        assert row["text"] == Run(tiny_run).generate(row["prompt"], length=20, seed=row["seed"])
    objects = [
        json.dumps(prompt) if number else json.dumps({"prompt": prompt}) for number, prompt in enumerate(prompts)
    ]
    (tmp_path / "prompts.jsonl").write_text("\n".join(objects))
    again = charlm("generate", *options, "--prompts", "prompts.jsonl", "--json").out.splitlines()
    assert [json.loads(line) for line in again] == rows
    (tmp_path / "wrong.jsonl").write_text('{"text": "The "}\n')
    mistake = charlm("generate", *options, "--prompts", "wrong.jsonl").mistake
    assert "a line of --prompts is no text in JSON and no object with the key prompt: '{" in mistake
    (tmp_path / "empty.txt").write_text("")
    assert "empty.txt has no prompt" in charlm("generate", *options, "--prompts", "empty.txt").mistake


def test_a_file_for_each_text(charlm: Charlm, tiny_run: Path, tmp_path: Path) -> None:
    options = ["generate", tiny_run, "--length", "20", "--seed", "5", "--samples", "10", "--prompt", "The "]
    rows = [json.loads(line) for line in charlm(*options, "--json").out.splitlines()]
    done = charlm(*options, "--output", "texts")
    assert (done.out, done.err) == ("", f"charlm: wrote 10 files to {tmp_path / 'texts'}\n")
    files = sorted((tmp_path / "texts").iterdir())
    assert [file.name for file in files] == [f"{number:02}.txt" for number in range(1, 11)]
    assert [file.read_text() for file in files] == [f"The {row['text']}\n" for row in rows]
    assert "texts exists and is not an empty folder; name a new one" in charlm(*options, "--output", "texts").mistake
    charlm(*options, "--output", "json", "--json")
    assert [json.loads(file.read_text()) for file in sorted((tmp_path / "json").iterdir())] == rows


def test_alternatives_are_listed_token_by_token(charlm: Charlm, tiny_run: Path) -> None:
    options = ["generate", tiny_run, "--length", "5", "--seed", "5", "--alternatives", "3"]
    row = json.loads(charlm(*options, "--json").out)
    first, *lines = charlm(*options).out.splitlines()
    assert first == row["text"]
    assert len(lines) == 5
    for line, token, log_p, others in zip(
        lines, row["tokens"], row["log_probabilities"], row["alternatives"], strict=True
    ):
        pairs = [(token, log_p), *others]
        assert line == "\t".join(f"{json.dumps(one)} {math.exp(value):.1%}" for one, value in pairs)
        assert [value for _, value in others] == sorted((value for _, value in others), reverse=True)


def test_texts_of_the_training_text_are_left_out(charlm: Charlm, tmp_path: Path) -> None:
    names = [f"{first}{second}" for first in ("an", "be", "ca", "do") for second in ("na", "ra", "ta")]
    (tmp_path / "names.txt").write_text("\n".join(names * 20))
    charlm(
        "train", "names.txt", "--data.unit", "line", "--run", "names", "--model.hidden", 16, "--trainer.max_steps", 200
    )
    options = ["generate", "names", "--samples", "30", "--seed", "1", "--temperature", "1"]
    plain = charlm(*options).out.splitlines()
    assert set(plain) & set(names)
    new = charlm(*options, "--dedupe")
    assert new.err == ""
    assert len(set(new.out.splitlines())) == 30
    assert not set(new.out.splitlines()) & set(names)
    few = charlm(*options, "--dedupe", "--allow", "na", "--length", "1")
    assert re.fullmatch(r"charlm: only \d+ of 30 texts are new; try a higher temperature\n", few.err)


def test_spans_of_the_training_text_are_not_written(charlm: Charlm, tiny_run: Path, tmp_path: Path) -> None:
    text = Run(tiny_run).tokenizer.decode(Run(tiny_run).directory.stream("train").ids)
    options = ["generate", tiny_run, "--length", "80", "--seed", "5", "--temperature", "0.5"]
    assert any(part in text for part in _spans(charlm(*options).out, 5))
    done = charlm(*options, "--no_copy", "5", "--prompt", "The ")
    assert done.err == ""
    assert done.out == f"The {Run(tiny_run).generate('The ', length=80, seed=5, temperature=0.5, no_copy=5)}\n"
    assert not any(part in text for part in _spans(done.out.rstrip("\n"), 5))
    rows = [
        json.loads(line) for line in charlm(*options, "--no_copy", "5", "--samples", "3", "--json").out.splitlines()
    ]
    assert not any(part in text for row in rows for part in _spans(row["text"], 5))
    moved = shutil.copytree(tiny_run, tmp_path / "moved")
    again = charlm(*["generate", moved, *options[2:]], "--no_copy", "5", "--prompt", "The ")
    assert (again.out, again.err) == (done.out, "")


def _spans(text: str, length: int) -> list[str]:
    return [text[start : start + length] for start in range(len(text) - length + 1)]


def test_spans_that_cannot_be_avoided_are_told(charlm: Charlm, tiny_run: Path) -> None:
    options = ["generate", tiny_run, "--length", "20", "--seed", "5", "--allow", "th e", "--no_copy", "1"]
    assert charlm(*options).err == "charlm: --no_copy: 20 spans of the training text could not be avoided\n"
    several = charlm(*options, "--samples", "2")
    assert several.err == "charlm: --no_copy: 40 spans of the training text could not be avoided\n"


def test_spans_need_the_training_text(charlm: Charlm, tiny_run: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(tiny_run, tmp_path / "moved")
    shutil.rmtree(moved / "tokens")
    assert charlm("generate", moved, "--length", "5").status == 0
    mistake = charlm("generate", moved, "--no_copy", "9").mistake
    assert "--no_copy needs the training text, and" in mistake
    assert "has no tokens/train.ids; copy it from the original run, or leave --no_copy out" in mistake


@pytest.mark.parametrize("colour", [True, False])
def test_a_terminal_shows_how_surprising_each_character_is(
    charlm: Charlm, tiny_run: Path, monkeypatch: pytest.MonkeyPatch, colour: bool
) -> None:
    options = ["generate", tiny_run, "--length", "60", "--seed", "5", "--prompt", "The ", "--show", "probability"]
    piped = charlm(*options)
    assert piped.out == f"The {Run(tiny_run).generate('The ', length=60, seed=5)}\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    if not colour:
        monkeypatch.setenv("NO_COLOR", "1")
    for extra in ([], ["--samples", "2"]):
        shown = charlm(*options, *extra)
        plain = re.sub(r"\x1b\[[0-9;]*m", "", shown.out)
        assert plain.endswith(piped.out) if not extra else piped.out in plain
        assert ("\x1b[38;5;16;48;5;230m" in shown.out) == colour
        assert shown.out.replace("\x1b[0m", "").count("\x1b") == 0 or colour


def test_what_is_written_can_be_controlled(charlm: Charlm, tiny_run: Path) -> None:
    def text(*options: str) -> str:
        done = charlm("generate", tiny_run, "--length", "200", "--seed", "4", *options)
        assert (done.status, done.err) == (0, "")
        return done.out.removesuffix("\n")

    plain = text()
    assert "e" in plain
    assert "t" in plain
    assert not set("et") & set(text("--ban", "e", "t"))
    assert "e" not in text("--logit_bias", "e:-1e30")
    assert set(text("--allow", "abc", " ")) <= set("abc ")
    assert text("--lines", "2").count("\n") == 1
    assert text("--temperature", "0.2", "1.8") != text("--temperature", "0.2") != plain
    assert len(set(text("--no_repeat_ngram", "1")[:20])) == 20
    every = [
        "--repetition_penalty",
        "1.1",
        "--presence_penalty",
        "0.1",
        "--frequency_penalty",
        "0.1",
        "--penalty_window",
    ]
    every += ["9", "--dry_multiplier", "0.5", "--dry_base", "1.5", "--dry_allowed_length", "3"]
    every += ["--dry_sequence_breakers", ".", "--top_n_sigma", "3", "--typical_p", "0.95", "--epsilon_cutoff", "1e-4"]
    every += ["--xtc_probability", "0.3", "--xtc_threshold", "0.2", "--surprise", "2", "--ban", "the"]
    together = text(*every)
    assert "the" not in together
    assert together == text(*every) != plain
    several = [json.loads(line) for line in text(*every, "--samples", "3", "--json").splitlines()]
    assert several[0]["text"] == together, "a sample does not depend on the number of samples"


def test_python_takes_the_same_settings(tiny_run: Path) -> None:
    run = Run(tiny_run)
    assert "e" not in run.generate(length=100, ban="e")
    assert run.generate(length=50, temperature=[0.5]) == run.generate(length=50, temperature=0.5)
    assert run.generate(length=80, lines=1).count("\n") == 0
    with pytest.raises(CharlmError, match="no argument and no logits processor 'bann'; did you mean 'ban'"):
        run.generate(bann="e")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prompt", "Ünder"], "the prompt has 'Ü', which the vocabulary of the model lacks; leave"),
        (["--stop", ""], "a stop string must not be empty"),
        (["--temperature", "-1"], "--temperature must be at least 0, not -1"),
        (["--temperature", "warm"], "--temperature must be a number, not 'warm'"),
        (["--top_p", "1.5"], "--top_p must be at most 1, not 1.5"),
        (["--top_k", "0.5"], "--top_k must be a whole number, not '0.5'"),
        (["--min_p", "nan"], "--min_p must be a number, not 'nan'"),
        (["--ban"], "--ban needs a value"),
        (["--allow", "☃"], "--allow: no token of the vocabulary consists of '☃'"),
        (["--ban", "e", "--allow", "e"], "--ban and --allow leave no token that could follow"),
        (["--logit_bias", "e"], "--logit_bias needs a text and a number, such as e:-2"),
        (["--logit_bias", "e:much"], "--logit_bias must be a number, not 'much'"),
        (["--penalty_window", "8"], "--penalty_window changes nothing without --repetition_penalty"),
        (["--surprise", "-1"], "--surprise must be at least 0, not -1"),
        (["--lines", "-1"], "--lines must be at least 0, not -1"),
        (["--length", "0"], "--length must be at least 1, not 0"),
        (["--temperature", "1e400"], "--temperature must be a finite number, not '1e400'"),
        (["--logit_bias", "e:1e400"], "--logit_bias must be a finite number, not '1e400'"),
        (["--samples", "100001"], "--samples must be at most 100000, not 100001"),
        (["--samples", "0"], "--samples must be at least 1, not 0"),
        (["--seed", "-1"], "--seed must be at least 0, not -1"),
        (["--prompt", "The", "--prompt_file", "x"], "--prompt and --prompt_file exclude each other"),
        (["--prompt_file", "x"], "there is no file x; check the path"),
        (["--checkpoint", "newest"], "--checkpoint must be one of best, last, not 'newest'"),
        (["--device", "abacus"], "there is no device 'abacus' here"),
        (["--temprature", "1"], "there is no option --temprature; did you mean --temperature?"),
        (["--primetext", "The"], "there is no option --primetext; did you mean --prompt?"),
    ],
)
def test_what_cannot_be_generated(charlm: Charlm, tiny_run: Path, arguments: list[str], message: str) -> None:
    assert message in charlm("generate", tiny_run, *arguments).mistake


def test_generate_writes_as_it_goes(tiny_run: Path) -> None:
    """The reader of a pipe may leave; that is not an accident."""
    command = [sys.executable, "-m", "charlm", "generate", str(tiny_run), "--length", "1000000000", "--seed", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert len(process.stdout.read(1000)) == 1000
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_what_became_of_a_prompt_is_told(charlm: Charlm, tiny_run: Path) -> None:
    done = charlm("generate", tiny_run, "--prompt", "Thé cat😀", "--prompt_unknown", "nearest", "--seed", 1)
    assert done.status == 0
    assert done.out.startswith("The cat")
    assert done.err == "charlm: the vocabulary lacks parts of the prompt: 'é' became 'e', '😀' was left out\n"
    assert "--prompt_unknown" in charlm("generate", tiny_run, "--prompt", "Thé cat").mistake


def test_the_help_has_headings(charlm: Charlm) -> None:
    help = charlm("generate", "--help").out
    headings = ["Prompts", "Texts", "Model and output", "How a token is drawn"]
    places = [help.index(f"   {heading} ") for heading in headings]
    assert places == sorted(places)
    for option, heading in (("prompts", 0), ("length", 1), ("seed", 1), ("json", 2), ("top_k", 3)):
        assert places[heading] < help.index(f"--{option} ")
        assert heading == 3 or help.index(f"--{option} ") < places[heading + 1]


def test_the_exact_engine_gives_the_same_text_alone_and_beside_others(charlm: Charlm, tiny_run: Path) -> None:
    command = ("generate", tiny_run, "--engine", "exact", "--length", 60)
    texts = [
        json.loads(line)["text"] for line in charlm(*command, "--samples", 3, "--seed", 1, "--json").out.splitlines()
    ]
    for number, text in enumerate(texts, 1):
        assert charlm(*command, "--seed", number).out == f"{text}\n"
    assert Run(tiny_run).generate(engine="exact", length=60, seed=2) == texts[1]
    assert charlm(*command, "--device", "auto", "--seed", 1).out == f"{texts[0]}\n"
    assert charlm(*command, "--device", "cuda").mistake == "--engine exact computes on a CPU; leave --device out"
