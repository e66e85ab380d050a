"""charlm evaluate as a person types it."""

from __future__ import annotations

import json
import math
import zlib
from pathlib import Path

import pytest
import torch

from charlm.evaluation.ngram import NGramCounts, NGramModel
from charlm.run import Run
from charlm.training.trainer import train
from conftest import Charlm, small_settings


def test_evaluate_of_a_file_reads_it_to_its_last_token(charlm: Charlm, tiny_run: Path, text: Path) -> None:
    row = json.loads(charlm("evaluate", tiny_run, text, "--json").out)
    content = text.read_text()
    assert (row["tokens"], row["characters"], row["bytes"]) == (len(content) - 1,) * 3
    assert row["words"] == len(content[1:].split()) + content.count("\n")
    assert row["unknown_tokens"] == 0
    nats = row["nats_per_token"]
    for unit in ("token", "character", "byte"):
        assert row[f"bits_per_{unit}"] == pytest.approx(nats / math.log(2), rel=1e-12)
    assert row["perplexity_per_token"] == pytest.approx(math.exp(nats))
    assert row["perplexity_per_word"] == pytest.approx(math.exp(nats * row["tokens"] / row["words"]))
    shown = charlm("evaluate", tiny_run, text).out
    assert f"{nats:.4f}" in shown
    assert "the state is carried from the first token to the last" in shown
    model, ids = Run(tiny_run).load_model(), torch.from_numpy(Run(tiny_run).tokenizer.encode(content)).long()
    logits, _ = model(ids[None, :-1])
    expected = torch.nn.functional.cross_entropy(logits[0], ids[1:]).item()
    assert nats == pytest.approx(expected, rel=1e-5)


def test_evaluate_of_a_split_and_in_lanes(charlm: Charlm, tiny_run: Path) -> None:
    row = json.loads(charlm("evaluate", tiny_run, "--json").out)
    assert row["tokens"] == 299
    several = json.loads(charlm("evaluate", tiny_run, "--json", "--lanes", "3").out)
    assert several["tokens"] == 299
    assert several["nats_per_token"] == pytest.approx(row["nats_per_token"], rel=1e-5)


def test_evaluate_counts_what_the_vocabulary_lacks(charlm: Charlm, tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "new.txt").write_text("the ß at é\n", encoding="utf-8")
    row = json.loads(charlm("evaluate", tiny_run, "new.txt", "--json").out)
    assert (row["unknown_tokens"], row["bytes"], row["characters"]) == (2, 12, 10)


@pytest.mark.parametrize("kind", ["char", "word", "byte", "bpe"])
def test_baselines_of_every_tokenizer_kind_in_the_same_units(
    charlm: Charlm, tiny_run: Path, tmp_path: Path, kind: str
) -> None:
    run, text = tiny_run, tiny_run.parent / "text.txt"
    if kind != "char":
        settings = small_settings(text, tokenizer={"kind": kind, "size": 300}, trainer={"max_steps": 2})
        run = train(settings, tmp_path / kind).path
    row = json.loads(charlm("evaluate", run, "--baselines", "--json").out)
    baselines, val = row["baselines"], Run(run).directory.stream("val")
    vocab_size = Run(run).directory.vocab_size
    for smoothing, title in (("kneser_ney", "Kneser-Ney"), ("witten_bell", "Witten-Bell")):
        for order in (1, 3, 8):
            train_stream = Run(run).directory.stream("train")
            model = NGramModel(NGramCounts(train_stream.ids, order, vocab_size), None, smoothing)  # type: ignore[arg-type]
            nats = -model.log_probabilities(val.ids)[1:].sum()
            found = baselines[f"{order}-gram, {title}"]
            assert found["nats_per_token"] == pytest.approx(nats / val.predicted.tokens)
            assert found["bits_per_byte"] == pytest.approx(nats / math.log(2) / val.predicted.bytes)
            assert found["bits_per_character"] == pytest.approx(nats / math.log(2) / val.predicted.characters)
            assert found["perplexity_per_word"] == pytest.approx(math.exp(nats / val.predicted.words))
    (tuned,) = (name for name in baselines if name.endswith("(tuned)"))
    ngrams = {name: one["nats_per_token"] for name, one in baselines.items() if "gram" in name}
    assert ngrams[tuned] == min(ngrams.values())
    streams = [Run(run).directory.stream(split) for split in ("train", "val")]
    read, split = (Run(run).tokenizer.decode(stream.ids).encode() for stream in streams)
    if kind != "word":  # which has unknown tokens
        assert read + split == text.read_bytes()
    added = len(zlib.compress(read + split, 9)) - len(zlib.compress(read, 9))
    found = baselines["zlib, window of 32 KiB"]
    assert found["bits_per_byte"] == pytest.approx(8 * added / val.counts.bytes)
    assert found["bits_per_character"] == pytest.approx(8 * added / val.counts.characters)

    shown = charlm("evaluate", run, "--baselines").out
    assert "the baselines have read the training split" in shown
    lines = {line[: line.index("  ")]: line for line in shown.splitlines() if "  " in line}
    best = min(baselines, key=lambda name: baselines[name]["bits_per_character"])
    assert [name for name, line in lines.items() if line.endswith("best baseline")] == [best]
    for name, values in {"this run": row, **baselines}.items():
        assert f"{values['bits_per_character']:.4f}" in lines[name]


def test_baselines_of_another_text_and_without_a_validation_split(
    charlm: Charlm, tiny_run: Path, text: Path, tmp_path: Path
) -> None:
    (tmp_path / "new.txt").write_text("the cat at q\n" * 9, encoding="utf-8")
    row = json.loads(charlm("evaluate", tiny_run, "new.txt", "--baselines", "--json").out)
    assert row["unknown_tokens"] == 9  # no q
    assert all(one["tokens"] in (116, 117) for one in row["baselines"].values())
    settings = small_settings(text, data={"val_fraction": 0.0, "unit": "line"}, trainer={"max_steps": 2})
    run = train(settings, tmp_path / "lines")
    assert run.directory.quality["ngram"] is None
    found = json.loads(charlm("evaluate", run.path, "new.txt", "--baselines", "--json").out)["baselines"]
    assert not any("tuned" in name for name in found)
    assert "name another --split" in charlm("evaluate", run.path, "--split", "train", "--baselines").mistake


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (None, ["--split", "test"], "has no test split"),
        (None, ["--split", "trian"], "--split must be one of train, val, test, not 'trian'; did you mean 'train'?"),
        (None, ["nowhere.txt"], "there is no file nowhere.txt"),
        ("", [], "the text is empty"),
        ("a", [], "too short to evaluate: it needs at least two tokens"),
        ("caf\xe9", [], "offset 3 cannot be decoded; set --encoding to its encoding"),
        (None, ["--lanes", "0"], "--lanes must be at least 1"),
    ],
)
def test_what_cannot_be_evaluated(
    charlm: Charlm, tiny_run: Path, tmp_path: Path, content: str | None, options: list[str], message: str
) -> None:
    if content is not None:
        (tmp_path / "mine.txt").write_bytes(content.encode("latin-1"))
        options = ["mine.txt"]
    assert message in charlm("evaluate", tiny_run, *options).mistake
