"""Ids on disk: made once, shared by runs, rebuilt when damaged, in little memory."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from charlm.config import DataConfig, TokenizerConfig
from charlm.errors import CharlmError
from charlm.text import store
from charlm.text.corpus import Corpus, read_corpus
from charlm.text.items import Unit
from charlm.text.store import build, encode_files
from charlm.text.stream import TokenStream, encode_text
from charlm.text.tokenization import learn

TEXT = "the cat sat on the mat, naïve\n\nand the dog\nran\n" * 20


@pytest.fixture(autouse=True)
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CHARLM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def entries(cached: Path) -> Any:
    return lambda: sorted(cached.glob("tokens-*"))


def corpus_of(folder: Path, text: str = TEXT, unit: Unit = "stream", test: float = 0.1) -> Corpus:
    path = folder / "text.txt"
    path.write_bytes(text.encode())
    return read_corpus(DataConfig(text=(str(path),), unit=unit, test_fraction=test))


def same(stream: TokenStream, other: TokenStream) -> bool:
    assert stream.ids.dtype == other.ids.dtype
    assert stream.ids.tolist() == other.ids.tolist()
    assert (stream.starts is None) == (other.starts is None)
    if stream.starts is not None and other.starts is not None:
        assert stream.starts.tolist() == other.starts.tolist()
    for name in ("counts", "predicted", "unknown", "unknown_tokens"):
        assert getattr(stream, name) == getattr(other, name)
    return True


@pytest.mark.parametrize("unit", ["stream", "line", "document"])
@pytest.mark.parametrize("kind", ["char", "word", "classic", "byte", "bpe"])
def test_streams_on_disk_are_those_in_memory(kind: str, unit: Unit, tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, unit=unit)
    config = TokenizerConfig(kind=kind, size=300 if kind == "bpe" else 0)
    tokenizer, streams = build(corpus, config, tmp_path / "run" / "tokens")
    assert list(streams) == ["train", "val", "test"]
    assert tokenizer.definition() == learn(config, corpus.blocks("train"), unit=unit).definition()
    for split, stream in streams.items():
        assert isinstance(stream.ids, np.memmap)
        assert same(stream, encode_text(tokenizer, "".join(corpus.blocks(split)), unit))
        assert same(stream, TokenStream.load(tmp_path / "run" / "tokens", split))


def test_the_vocabulary_is_of_the_training_text_alone(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, "abab" * 20 + "xyz" * 3, test=0.0)
    tokenizer, streams = build(corpus, TokenizerConfig(), tmp_path / "tokens")
    assert set(tokenizer.tokens) == {"\ufffd", "a", "b"}
    assert streams["val"].unknown == {"x": 3, "y": 3, "z": 3}
    assert streams["val"].unknown_tokens == 9
    assert "test" not in streams


def test_a_second_run_uses_what_the_first_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entries: Any) -> None:
    corpus = corpus_of(tmp_path)
    first, streams = build(corpus, TokenizerConfig(), tmp_path / "one")
    monkeypatch.setattr(store, "_encode", None)
    again, others = build(corpus_of(tmp_path), TokenizerConfig(), tmp_path / "two")
    assert again.definition() == first.definition()
    assert all(same(streams[split], others[split]) for split in streams)
    assert os.path.samefile(tmp_path / "one" / "train.ids", tmp_path / "two" / "train.ids")  # noqa: PTH121
    assert len(entries()) == 1
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == [
        "streams.json",
        "test.ids",
        "train.ids",
        "val.ids",
    ]


def test_other_texts_and_tokenizers_have_their_own_entry(tmp_path: Path, entries: Any) -> None:
    for number, (text, config, unit) in enumerate(
        [
            (TEXT, TokenizerConfig(), "stream"),
            (TEXT + "x", TokenizerConfig(), "stream"),
            (TEXT, TokenizerConfig(lowercase=True), "stream"),
            (TEXT, TokenizerConfig(kind="byte"), "stream"),
            (TEXT, TokenizerConfig(), "line"),
        ]
    ):
        build(corpus_of(tmp_path, text, unit), config, tmp_path / str(number))  # type: ignore[arg-type]
        assert len(entries()) == number + 1


def test_a_vocabulary_can_be_given(tmp_path: Path, entries: Any) -> None:
    tokenizer = learn(TokenizerConfig(), ["the cat"])
    made, streams = build(corpus_of(tmp_path), TokenizerConfig(kind="word"), tmp_path / "run", tokenizer=tokenizer)
    assert made.definition() == tokenizer.definition()
    assert streams["train"].unknown_tokens > 0
    build(corpus_of(tmp_path), TokenizerConfig(), tmp_path / "other")
    assert len(entries()) == 2


def _flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.unlink()  # the run keeps the whole file under its own name
    path.write_bytes(data)


DAMAGE = {
    "flipped id": lambda entry: _flip(entry / "train.ids", -5),
    "flipped start": lambda entry: _flip(entry / "val.starts", -5),
    "cut short": lambda entry: os.truncate(entry / "val.ids", 40),
    "empty": lambda entry: os.truncate(entry / "test.ids", 0),
    "missing": lambda entry: (entry / "test.ids").unlink(),
    "no facts": lambda entry: (entry / "streams.json").unlink(),
    "half the facts": lambda entry: (entry / "streams.json").write_text('{"splits": {'),
    "nested facts": lambda entry: (entry / "streams.json").write_text("[" * 100_000),
    "no vocabulary": lambda entry: (entry / "tokenizer.json").unlink(),
    "nested vocabulary": lambda entry: (entry / "tokenizer.json").write_text("[" * 100_000),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_entry_is_made_anew(damage: str, tmp_path: Path, entries: Any) -> None:
    corpus = corpus_of(tmp_path, unit="line")
    tokenizer, streams = build(corpus, TokenizerConfig(), tmp_path / "one")
    whole = {split: encode_text(tokenizer, "".join(corpus.blocks(split)), "line") for split in streams}
    (entry,) = entries()
    DAMAGE[damage](entry)
    _, streams = build(corpus, TokenizerConfig(), tmp_path / "two")
    assert all(same(streams[split], whole[split]) for split in whole)
    assert entries() == [entry]
    assert store._is_complete(entry)


def test_nothing_is_left_of_a_build_that_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cached: Path) -> None:
    def interrupt(what: str, done: int, total: int) -> None:
        if what.startswith("encoding"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(corpus_of(tmp_path), TokenizerConfig(), tmp_path / "run", progress=interrupt)
    assert list(cached.iterdir()) == []
    assert list((tmp_path / "run").iterdir()) == []


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("CHARLM_CACHE", str(tmp_path / "file" / "cache"))
    corpus = corpus_of(tmp_path)
    tokenizer, streams = build(corpus, TokenizerConfig(), tmp_path / "run")
    assert same(streams["train"], encode_text(tokenizer, "".join(corpus.blocks("train"))))


def test_a_run_on_another_disk_gets_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entries: Any) -> None:
    def refuse(*paths: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    build(corpus_of(tmp_path), TokenizerConfig(), tmp_path / "run")
    (entry,) = entries()
    assert (tmp_path / "run" / "train.ids").read_bytes() == (entry / "train.ids").read_bytes()
    assert (tmp_path / "run" / "train.ids").stat().st_nlink == 1
    assert sorted(path.suffix for path in (tmp_path / "run").iterdir()) == [".ids", ".ids", ".ids", ".json"]


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(
        CharlmError, match=r"cannot write the tokens to .*tokens: .*; free some space or choose another run directory"
    ):
        build(corpus_of(tmp_path), TokenizerConfig(), tmp_path / "file" / "tokens")


def test_a_damaged_stream_of_a_run_is_named(tmp_path: Path) -> None:
    build(corpus_of(tmp_path), TokenizerConfig(), tmp_path / "run")
    os.truncate(tmp_path / "run" / "val.ids", 30)
    with pytest.raises(CharlmError, match=r"the tokens of the val text .* are missing or damaged"):
        TokenStream.load(tmp_path / "run", "val")


def test_ids_are_bare_little_endian_numbers(tmp_path: Path) -> None:
    config = TokenizerConfig(kind="bpe", size=300)
    _, streams = build(corpus_of(tmp_path, "the theatre\n" * 90, unit="line"), config, tmp_path / "run")
    ids = streams["train"].ids
    assert ids.max() > 255
    assert (tmp_path / "run" / "train.ids").read_bytes() == b"".join(int(id).to_bytes(2, "little") for id in ids)
    starts = streams["train"].starts
    assert starts is not None
    assert (tmp_path / "run" / "train.starts").read_bytes() == b"".join(int(s).to_bytes(8, "little") for s in starts)


def test_a_split_without_tokens_is_an_empty_stream(tmp_path: Path) -> None:
    (tmp_path / "val.txt").write_text("   ")  # which the kind classic drops
    (tmp_path / "text.txt").write_text(TEXT)
    corpus = read_corpus(DataConfig(text=(str(tmp_path / "text.txt"),), val=str(tmp_path / "val.txt")))
    for name in ("made", "cached"):
        _, streams = build(corpus, TokenizerConfig(kind="classic"), tmp_path / name)
        assert len(streams["val"]) == streams["val"].predicted.tokens == 0
        assert streams["val"].counts.characters == 3
        assert (tmp_path / name / "val.ids").read_bytes() == b""
        streams["val"].release()


def test_a_split_exists_once_it_is_built(tmp_path: Path) -> None:
    assert not TokenStream.exists(tmp_path / "run", "train")
    build(corpus_of(tmp_path, test=0.0), TokenizerConfig(), tmp_path / "run")
    assert [TokenStream.exists(tmp_path / "run", split) for split in ("train", "val", "test")] == [True, True, False]


@pytest.mark.parametrize("unit", ["stream", "line", "document"])
def test_other_files_are_encoded_with_an_existing_tokenizer(unit: Unit, tmp_path: Path) -> None:
    tokenizer = learn(TokenizerConfig(), [TEXT], unit=unit)
    (tmp_path / "a.txt").write_bytes("the dog\nçà ran\n\n".encode("latin-1"))
    (tmp_path / "b.txt").write_bytes(b"the mat\n")
    places = [str(tmp_path / "a.txt"), str(tmp_path / "b.txt")]
    stream = encode_files(tokenizer, places, encoding="latin-1", unit=unit)
    assert same(stream, encode_text(tokenizer, "the dog\nçà ran\n\nthe mat\n", unit))
    assert stream.unknown == {"ç": 1, "à": 1}
    with pytest.raises(CharlmError, match=r"a.txt is not utf-8: .*`data.encoding`"):
        encode_files(tokenizer, places, unit=unit)
    with pytest.raises(CharlmError, match=r"there is no file .*c.txt"):
        encode_files(tokenizer, [str(tmp_path / "c.txt")], unit=unit)


def test_progress_ends_at_its_total(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    corpus = corpus_of(tmp_path)
    build(corpus, TokenizerConfig(), tmp_path / "run", progress=lambda *step: told.append(step))
    last = {what: (done, total) for what, done, total in told}
    train = corpus.characters["train"]
    assert last["learning the vocabulary"] == last["encoding the train text"] == (train, train)
    assert all(0 <= done <= total for _, done, total in told)
    assert list(last) == ["learning the vocabulary"] + [f"encoding the {s} text" for s in ("train", "val", "test")]


def test_streams_json_is_plain(tmp_path: Path) -> None:
    build(corpus_of(tmp_path, unit="line"), TokenizerConfig(), tmp_path / "run")
    facts = json.loads((tmp_path / "run" / "streams.json").read_text(encoding="utf-8"))
    assert facts["unit"] == "line"
    assert set(facts["splits"]) == {"train", "val", "test"}
    assert set(facts["checksums"]) == {f"{s}.{e}" for s in facts["splits"] for e in ("ids", "starts")}


MEASURE = """
import re, sys
from pathlib import Path
from charlm.config import DataConfig, TokenizerConfig
from charlm.text.corpus import read_corpus
from charlm.text.store import build
folder = Path(sys.argv[1])
corpus = read_corpus(DataConfig(text=(str(folder / "text.txt"),)))
_, streams = build(corpus, TokenizerConfig(kind=sys.argv[2]), folder / "tokens")
total = 0
for start in range(0, len(streams["train"].ids), 1 << 24):
    total += int(streams["train"].ids[start : start + (1 << 24)].sum(dtype="int64"))
    streams["train"].release()
print(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("kind", ["char", "byte"])
def test_memory_does_not_grow_with_the_text(kind: str, tmp_path: Path) -> None:
    line = "some words and a naïve line of text\n".encode()
    peaks = []
    for megabytes in (20, 80):
        with (tmp_path / "text.txt").open("wb") as file:
            for _ in range(megabytes):
                file.write(line * (1_000_000 // len(line)))
        command = [sys.executable, "-c", MEASURE, str(tmp_path), kind]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks.append(int(result.stdout) // 1024)
    assert peaks[0] < 200
    assert peaks[1] - peaks[0] < 40  # the text grew by 60 MB, its ids by as many
