"""The output bias of a new run starts at the log frequencies of its training text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from torch import Tensor

from charlm.config import Config
from charlm.evaluation.ngram import NGramCounts, NGramModel
from charlm.reporter import Reporter
from charlm.run_directory import RunDirectory
from charlm.text.stream import TokenStream
from charlm.training.module import LanguageModule
from charlm.training.preparation import prepare
from charlm.training.pretrained import inherit
from charlm.training.trainer import fit
from conftest import small_settings, small_text


class FirstBias(lightning.Callback):
    """Keeps the output bias that training starts with."""

    bias: Tensor

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        assert isinstance(pl_module, LanguageModule)
        self.bias = pl_module.model.output["bias"].detach().clone()


def started(config: Config, path: Path) -> tuple[RunDirectory, Tensor]:
    """A run, and the output bias that it started with."""
    directory, first = prepare(config, path, Reporter()), FirstBias()
    fit(directory, Reporter(), callbacks=[first])
    return directory, first.bias


def log_frequencies(stream: TokenStream, vocab_size: int) -> Tensor:
    smoothed = np.bincount(np.asarray(stream.ids), minlength=vocab_size) + 0.5
    return torch.from_numpy(np.log(smoothed / smoothed.sum())).float()


@pytest.mark.parametrize("tie", [False, True])
@pytest.mark.parametrize(
    ("kind", "unit"),
    [("char", "stream"), ("char", "line"), ("word", "document"), ("byte", "stream"), ("bpe", "stream")],
)
def test_the_bias_starts_at_the_log_frequencies(
    kind: str, unit: str, tie: bool, text_file: Path, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"data": {"unit": unit}, "tokenizer": {"kind": kind}, "model": {"tie": tie}}
    settings["data"] |= {"text": [str(text_file)], "batch_size": 2, "seq_length": 16}
    config = small_settings(text_file, **settings, trainer={"max_steps": 1})
    directory, bias = started(config, tmp_path / "run")
    torch.testing.assert_close(bias, log_frequencies(directory.stream("train"), directory.vocab_size))
    unknown = directory.tokenizer.unknown
    if unknown is not None:  # the training text never has it
        assert bias[unknown] == bias.min()


def test_text_without_a_prompt_is_not_noise_before_training(tmp_path: Path) -> None:
    # One line of 1,000 characters, the most frequent of them 700 times as frequent as the rarest.
    random = np.random.default_rng(1)
    weights = 1 / np.arange(1, 701)
    ids = random.choice(700, 20_000, p=weights / weights.sum())
    text = tmp_path / "text.txt"
    text.write_text("".join(chr(0x4E00 + int(id)) for id in ids), encoding="utf-8")
    model = NGramModel(NGramCounts(ids, 1, 701))
    config = small_settings(text, samples={"length": 1000, "temperature": 1.0}, trainer={"max_steps": 1})
    sample = fit(prepare(config, tmp_path / "run", Reporter()), Reporter()).samples[0]
    assert sample.step == 0
    drawn = [min(ord(character) - 0x4E00, 700) for character in sample.text]
    assert abs(model.cross_entropy(drawn) - model.cross_entropy(ids)) < 0.2  # it was 1 nat worse


def test_with_weights_of_another_run_only_new_tokens_start_at_their_frequency(tiny_run: Path, tmp_path: Path) -> None:
    text = tmp_path / "other.txt"
    text.write_text("ö" + small_text(2000, seed=5).replace("w", "ß"), encoding="utf-8")
    values = small_settings(text).to_dict() | {"model": {}, "init_from": str(tiny_run)}
    directory, bias = started(Config.from_dict(inherit(values)), tmp_path / "run")
    frequencies = log_frequencies(directory.stream("train"), directory.vocab_size)
    source = RunDirectory(tiny_run)
    trained, known = source.read_weights("best")["output.bias"], source.tokenizer.tokens
    expected = [
        float(trained[known.index(token)]) if token in known else float(frequencies[id])
        for id, token in enumerate(directory.tokenizer.tokens)
    ]
    assert set(directory.tokenizer.tokens) - set(known) == {"ö", "ß"}
    torch.testing.assert_close(bias, torch.tensor(expected))
