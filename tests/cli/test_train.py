"""charlm train as a person types it: what it prints where, and the one line that a mistake earns."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from charlm.network.cells import cells
from charlm.run import Run
from conftest import SMALL, Charlm


def mistaken_training(charlm: Charlm, *arguments: object) -> str:
    """The line of a mistake, after which the directory holds what it held before."""
    before = sorted(Path.cwd().rglob("*"))
    mistake = charlm("train", *arguments, "--run", "made").mistake
    assert sorted(Path.cwd().rglob("*")) == before
    return mistake


def test_a_missing_file(charlm: Charlm, text: Path) -> None:
    assert mistaken_training(charlm, "text.tx") == "there is no file text.tx; did you mean 'text.txt'?"
    assert "no file matches 'a*.txt'" in mistaken_training(charlm, "a*.txt")
    assert "there is no file other.txt" in mistaken_training(charlm, text, "--data.val", "other.txt")


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_an_unreadable_file(charlm: Charlm, text: Path) -> None:
    text.chmod(0)
    assert "cannot read" in mistaken_training(charlm, text)


def test_a_folder_without_text(charlm: Charlm, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    assert (
        mistaken_training(charlm, "folder")
        == "the folder folder has no file *.txt; it has no files; name another folder"
    )


def test_a_file_that_is_not_utf8(charlm: Charlm, tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9 " * 100)
    assert mistaken_training(charlm, "latin.txt") == (
        "latin.txt is not utf-8: the byte at offset 3 cannot be decoded; "
        "it is probably cp1252: set --data.encoding to cp1252"
    )
    assert "no encoding 'latin-x'" in mistaken_training(charlm, "latin.txt", "--data.encoding", "latin-x")
    assert charlm("train", "latin.txt", "--data.encoding", "latin-1", *SMALL, "--run", "run").status == 0
    assert "é" in Run("run").tokenizer.tokens


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("", [], "the text is empty"),
        ("a", [], "too short to be split: nothing is left to train on"),
        ("aaaaaaaaaaaaaaaaaaaaaaaaa", [], "fewer than two different tokens; give a longer text"),
        ("ab", ["--data.val_fraction", "0.5"], "fewer than two different tokens"),
        ("ab" * 10, ["--data.val_fraction", "0.05"], "the validation text has 1 tokens.*--data.val_fraction"),
        ("ab" * 10, ["--data.test_fraction", "0.05"], "the test text has 1 tokens.*--data.test_fraction"),
        ("ab" * 10, ["--data.val_fraction", "0.99"], "nothing is left to train on|too short|fewer than two"),
    ],
)
def test_a_text_that_is_too_short(
    charlm: Charlm, tmp_path: Path, content: str, options: list[str], message: str
) -> None:
    (tmp_path / "short.txt").write_text(content, encoding="utf-8")
    assert re.search(message, mistaken_training(charlm, "short.txt", *options))


def test_windows_are_lowered_to_a_short_text(charlm: Charlm, tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("abcdefgh" * 5, encoding="utf-8")
    done = charlm("train", "short.txt", "--run", "run", "--trainer.max_steps", "2", "--samples.length", "5")
    assert done.status == 0
    assert re.search(
        r"chosen: data\.batch_size \d+ \(lowered from \d+: the training text has only 36 tokens\)", done.err
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--modle.hidden 5", "there is no option --modle.hidden; did you mean --model.hidden?"),
        ("--hidden 5", "there is no option --hidden; did you mean --model.hidden?"),
        ("--hid 5", "there is no option --hid; did you mean --model.hidden?"),
        ("--model.cell mogrifier --model.hidden 8 --model.embedding 4", "set --model.embedding to 8 (it is 4)"),
        ("--model.hidden 1000000000", "parameters needs "),
        ("--model.layers 1000000000", "parameters needs "),
        ("--rnn_size 5", "there is no option --rnn_size; did you mean --model.hidden?"),
        ("--rnn-size=5", "there is no option --rnn-size; did you mean --model.hidden?"),
        ("--learning_rate 5", "there is no option --learning_rate; did you mean --optimizer.lr?"),
        ("--model.cell lsmt", "there is no cell 'lsmt'; choose from "),
        ("--tokenizer.kind chr", "did you mean 'char'?"),
        ("--optimizer.name adamm", "did you mean 'adam'?"),
        ("--optimizer.schedule cosin", "did you mean 'cosine'?"),
        ("--data.unit lines", "did you mean 'line'?"),
        ("--model.hidden 0", "--model.hidden must be at least 1, not 0"),
        ("--model.hidden many", "--model.hidden must be a whole number, not 'many'"),
        ("--model.hidden", "--model.hidden needs a value; see charlm train --help"),
        ("--model.dropout 1", "--model.dropout must be below 1, not 1"),
        ("--model.tie maybe", "--model.tie must be true or false, not 'maybe'"),
        ("--model.tie=maybe", "--model.tie must be true or false, not 'maybe'"),
        ("--seed -1", "--seed must be at least 0, not -1"),
        ("--seed 1e30", "--seed must be a"),
        ("--optimizer.lr inf", "--optimizer.lr must be a finite number, not"),
        ("--trainer.max_time soon", "--trainer.max_time is not a time: 'soon'; write 90s"),
        ("--trainer.devices 3", "--data.batch_size 4 cannot be shared by 3 devices; take a multiple of 3"),
        ("--trainer.devices none", "this machine cannot train with these settings: "),
        ("--trainer.strategy dp2", "this machine cannot train with these settings: "),
        ("--trainer.accelerator abacus", "this machine cannot train with these settings: "),
        ("--trainer.precision 17", "--trainer.precision must be one of auto, 32, 32-true, "),
        ("--samples.prompts 日本", "--samples.prompts has '日', '本', which the training text never has"),
        ("--init_from nowhere", "there is no run at nowhere"),
        ("--config nowhere.yaml", "there is no file nowhere.yaml; check the path"),
        ("--config chr", "there is no preset 'chr' and no such file; choose from char, "),
        ("--model 3", "--model is a group of options; name one of its settings, such as --model.cell"),
        ("--trainer.val_check_interval 0", "--trainer.val_check_interval must be a number >=1 or >0, <=1, not '0'"),
        ("--trainer.max_epochs 0", "--trainer.max_epochs must be at least 1 (or -1: no limit), not 0"),
    ],
)
def test_a_setting_that_cannot_be(charlm: Charlm, text: Path, arguments: str, message: str) -> None:
    devices = [] if "devices" not in arguments else ["--trainer.strategy", "ddp"]
    assert message in mistaken_training(charlm, text, *SMALL, *devices, *arguments.split())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("model: {hiden: 5}", "there is no setting 'model.hiden'; did you mean 'model.hidden'?"),
        ("modle: {hidden: 5}", "there is no setting 'modle'; did you mean 'model'?"),
        ("model: {hidden: 0}", "--model.hidden must be at least 1, not 0"),
        ("model: {hidden: [1]}", "--model.hidden must be a whole number, not [1]"),
        ("model: {hidden: 2020-12-12}", "--model.hidden must be a whole number, not datetime.date"),
        ("model: 5", "`model` must be a group of settings, not 5"),
        ("- 5", "must hold settings such as model: {hidden: 256}"),
        ("model: {hidden: 5", "is not valid YAML"),
        ("!!python/object/apply:os.mkdir [made]", "is not valid YAML"),
        ("seed: 2020-13-13", "is not valid YAML: month must be in 1..12"),
        ("a: \x00", "is not valid YAML"),
        (b"\xff", "is not UTF-8 (byte 0); save it as UTF-8"),
    ],
)
def test_a_config_by_hand_with_a_mistake(
    charlm: Charlm, text: Path, tmp_path: Path, content: str | bytes, message: str
) -> None:
    data = content if isinstance(content, bytes) else content.encode()
    (tmp_path / "mine.yaml").write_bytes(data)
    mistake = mistaken_training(charlm, text, "--config", "mine.yaml")
    assert mistake.startswith("mine.yaml")
    assert message in mistake


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("CHARLM_MODEL__HIDEN", "5", "CHARLM_MODEL__HIDEN is not a setting; did you mean 'CHARLM_MODEL__HIDDEN'?"),
        ("CHARLM_SED", "5", "CHARLM_SED is not a setting; did you mean 'CHARLM_SEED'?"),
        ("CHARLM_MODEL__HIDDEN", "0", "CHARLM_MODEL__HIDDEN: --model.hidden must be at least 1, not 0"),
    ],
)
def test_a_mistake_in_the_environment(
    charlm: Charlm, text: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str
) -> None:
    monkeypatch.setenv(variable, value)
    assert message in mistaken_training(charlm, text)


def test_a_prompt_that_swallowed_the_text(charlm: Charlm, text: Path) -> None:
    assert mistaken_training(charlm, "--samples.prompts", "The", text) == (
        f"--samples.prompts took {text} for a prompt; name the text before the options"
    )


def test_a_run_that_exists_is_never_overwritten(charlm: Charlm, text: Path, run: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    mistake = charlm("train", text, "--run", run).mistake
    assert mistake == f"{run} exists already; choose another --run, or go on with charlm train --resume {run}"
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_a_place_where_no_run_can_be(charlm: Charlm, text: Path) -> None:
    assert "cannot use" in charlm("train", text, *SMALL, "--run", text / "run").mistake


def test_resume_brings_its_own_settings(charlm: Charlm, run: Path, text: Path) -> None:
    for extra in (["--run", "other"], ["--config", "a.yaml"], [text]):
        assert charlm("train", "--resume", run, *extra).mistake.startswith("--resume continues in the run's own")
    other_network = charlm("train", "--resume", run, "--model.hidden", "5")
    assert "--model.hidden cannot change when a run is resumed; train a new run" in other_network.mistake
    assert "loading torch" not in other_network.err
    assert (
        f"start a new one with --init_from {run}" in charlm("train", "--resume", run, "--model.dropout", "0.5").mistake
    )
    assert "--samples.prompts has 'ß'" in charlm("train", "--resume", run, "--samples.prompts", "ß").mistake


def test_a_change_that_cannot_be_is_not_kept(charlm: Charlm, run: Path) -> None:
    before = (run / "config.yaml").read_bytes()
    assert charlm("train", "--resume", run, "--trainer.max_epochs", "3", "--trainer.strategy", "dp2").mistake
    assert (run / "config.yaml").read_bytes() == before


def test_a_run_stopped_before_its_first_checkpoint_starts_anew(charlm: Charlm, run: Path, tiny_run: Path) -> None:
    shutil.rmtree(run / "checkpoints")
    assert "there is no checkpoint" in charlm("train", "--resume", run).mistake
    (run / "checkpoints").mkdir()
    for name in ("metrics.csv", "model.safetensors"):
        (run / name).unlink()
    done = charlm("train", "--resume", run)
    assert "it starts from the beginning" in done.err
    assert Run(run).samples == Run(tiny_run).samples
    assert (run / "model.safetensors").read_bytes() == (tiny_run / "model.safetensors").read_bytes()


def test_the_order_of_precedence(charlm: Charlm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.yaml").write_text("model: {hidden: 10, layers: 10, embedding: 10, dropout: 0.1}\nseed: 10\n")
    (tmp_path / "b.yaml").write_text("model: {layers: 20, embedding: 20, dropout: 0.2}")
    monkeypatch.setenv("CHARLM_MODEL__EMBEDDING", "30")
    monkeypatch.setenv("CHARLM_MODEL__DROPOUT", "0.3")
    options = ["--model.dropout", "0.4"]
    for arguments in (
        [*options, "--config", "a.yaml", "--config", "b.yaml"],
        ["--config", "a.yaml", *options, "--config", "b.yaml"],
        ["--config", "a.yaml", "--config", "b.yaml", *options],
    ):
        config = yaml.safe_load(charlm("train", *arguments, "--print_config").out)
        model = config["model"]
        assert (model["hidden"], model["layers"], model["embedding"], model["dropout"]) == (10, 20, 30, 0.4)
        assert (config["seed"], config["optimizer"]["name"]) == (10, "adamw")


def test_a_printed_config_is_a_config(charlm: Charlm, tmp_path: Path) -> None:
    texts = ["a.txt", "--data.encoding", "latin-1", "--samples.prompts", "yes", "5", "[x", "é\n", "--model.tie"]
    printed = charlm("train", *texts, "--print_config").out
    (tmp_path / "printed.yaml").write_text(printed, encoding="utf-8")
    assert charlm("train", "--config", "printed.yaml", "--print_config").out == printed
    assert yaml.safe_load(printed)["samples"]["prompts"] == ["yes", "5", "[x", "é\n"]


def test_the_config_of_a_run_repeats_it(charlm: Charlm, tiny_run: Path) -> None:
    assert charlm("train", "--config", tiny_run / "config.yaml", "--run", "again").out == "again\n"
    assert Run("again").config == Run(tiny_run).config
    assert Path("again/last.safetensors").read_bytes() == (tiny_run / "last.safetensors").read_bytes()


def test_switches_may_stand_before_other_words(charlm: Charlm, tiny_run: Path) -> None:
    for spelled in (["--json", tiny_run], [tiny_run, "--json", "true"], ["--json=true", tiny_run]):
        lines = charlm("samples", *spelled).out.splitlines()
        assert json.loads(lines[0])["step"] == 0
    assert "initialisation" in charlm("samples", "--json", "false", tiny_run).out


def test_train_prints_the_path_of_the_run_and_no_more(charlm: Charlm, text: Path) -> None:
    done = charlm("train", text, *SMALL)
    assert (done.status, done.out) == (0, "runs/text\n")
    assert "done; generate with: charlm generate runs/text" in done.err
    assert charlm("train", text, *SMALL).out == "runs/text-2\n"
    assert sorted(path.name for path in Path("runs").iterdir()) == ["text", "text-2"]


def test_standard_input_is_a_text(charlm: Charlm, text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.read_bytes())))
    assert charlm("train", "-", *SMALL, "--run", "piped").out == "piped\n"
    assert charlm("train", text, *SMALL, "--run", "named").status == 0
    assert Path("piped/last.safetensors").read_bytes() == Path("named/last.safetensors").read_bytes()


@pytest.mark.parametrize("cell", cells)
def test_every_cell_trains_with_every_option_and_writes(charlm: Charlm, text: Path, cell: str) -> None:
    options = "--model.residual --model.layer_norm --model.layers 2 --model.zoneout 0.1 --model.recurrent_dropout 0.1"
    starts = "--model.chrono 20 --model.gate_scale 0.5 --model.recurrent_init normal --model.recurrent_scale 0.5"
    more = f"--model.weight_drop 0.1 {starts} --run r"
    width = [] if cells[cell].gates else ["--model.embedding", "8"]
    done = charlm("train", str(text), *SMALL, "--model.cell", cell, *options.split(), *more.split(), *width)
    assert done.status == 0, done.err
    parallel = bool(cells[cell].context)  # nothing is recurrent
    how = "all tokens of a window at once" if parallel else "the cell's own step, once per token"
    assert f"cell: {cell}, {how}" in done.err
    idle = parallel or cell in ("rnn", "rnn_relu", "min_gru", "min_lstm", "rglru")  # no gates or recurrent product
    assert ("warning: nothing is changed by `model." in done.err) == idle
    plain = charlm("train", str(text), *SMALL, "--model.cell", cell, *width)
    assert plain.status == 0, plain.err
    for run in ("r", plain.out.strip()):
        written = charlm("generate", run, "--length", "20", "--seed", "1")
        assert written.status == 0
        assert len(written.out) == 21


@pytest.mark.parametrize(
    ("name", "data", "options", "message"),
    [
        ("a.txt", "Привет, это обычный русский текст. ".encode("cp1251") * 9, (), "set --data.encoding to cp1251"),
        ("a.txt", b"abc", ("--data.encoding", "utf9"), "there is no encoding 'utf9'"),
        ("a.csv", b"id,body\n1,x\n", ("--data.column", "text"), "has no column 'text'; set --data.column"),
        ("a.md", b"abc", (), "it has 1 .md; set --data.pattern to '*.md', for example"),
    ],
)
def test_mistakes_about_the_text_are_found_before_torch_is_loaded(
    charlm: Charlm, tmp_path: Path, name: str, data: bytes, options: tuple[str, ...], message: str
) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / name).write_bytes(data)
    done = charlm("train", folder if name == "a.md" else folder / name, *options)
    assert message in done.mistake
    assert "loading torch" not in done.err
