"""The surprise page: its text, its numbers, and that nothing in a text is markup."""

from __future__ import annotations

import base64
import itertools
import json
import re
import zlib
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from charlm.run import Run
from charlm.training.trainer import train
from charlm.views import surprise
from charlm.views.scores import Scored
from conftest import small_settings, small_text


class Page(HTMLParser):
    """The texts of a page by the id of their element."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.texts: dict[str, str] = {}
        self.tags: set[str] = set()
        self._id = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self._id = dict(attrs).get("id") or ""

    def handle_endtag(self, tag: str) -> None:
        self._id = ""

    def handle_data(self, data: str) -> None:
        self.texts[self._id] = self.texts.get(self._id, "") + data

    def numbers(self, name: str, dtype: str) -> np.ndarray:
        return np.frombuffer(zlib.decompress(base64.b64decode(self.texts[f"data-{name}"])), dtype)

    @property
    def blocks(self) -> list[str]:
        return [text for id, text in self.texts.items() if re.fullmatch(r"b\d+", id)]


@pytest.fixture(scope="module", params=["char", "byte", "word"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("surprise")
    (folder / "text.txt").write_text(small_text(4000), encoding="utf-8")
    settings = small_settings(folder / "text.txt", tokenizer={"kind": request.param}, trainer={"max_steps": 10})
    return train(settings, folder / "run")


TEXT = "The <script>alert(1)</script> of Größe 🙂 & \x1b[31m\n" + small_text(500)


def page_of(run: Run, text: str = TEXT, runs: int = 1) -> tuple[Page, Scored]:
    scored = Scored("a & b.txt", run.tokenizer, [run.score(text, preferred=5)] * runs, text=text)
    return Page(surprise.html([scored], ["one", "two"][:runs])), scored


@pytest.mark.parametrize("runs", [1, 2])
def test_the_page_has_the_text_and_the_numbers_of_each_token(run: Run, runs: int) -> None:
    page, scored = page_of(run, runs=runs)
    shown = "".join(page.blocks)
    assert shown == TEXT.replace("\x1b", "␛")
    lengths = page.numbers("length", "<u2")
    assert lengths.sum() == len(shown.encode("utf-16-le")) // 2
    assert page.numbers("tokens", "u1").sum() == len(scored.ids)
    exact = scored.scores[0].bits.sum()
    assert page.numbers("bits0", "u1").sum() / surprise.PER_BIT == pytest.approx(exact, abs=0.05 * len(lengths))
    assert ("data-bits1" in page.texts) == (runs == 2)
    preferred = page.numbers("preferred", "<u2").reshape(-1, 5)
    vocabulary = json.loads(page.texts["vocabulary"])
    first = scored.scores[0]
    assert preferred[0].tolist() == first.preferred[first.predicted[0]].tolist()
    assert len(vocabulary) == len(run.tokenizer)
    share = (page.numbers("share", "u1").reshape(-1, 5)[0] / 255) ** 2
    assert share == pytest.approx(np.exp(-first.preferred_nats[first.predicted[0]]), abs=0.005)
    assert page.numbers("rank", "<u2")[0] == first.ranks[first.predicted[0]] + 1


def test_the_most_surprising_passage_is_listed_first(run: Run) -> None:
    if run.tokenizer.kind != "char":
        pytest.skip("the places are characters")
    text = small_text(1500) + " zqxj kvzq jxqz vkqj zxqk jvqz xqkj zqvx qqqq xxxx zzzz " + small_text(3000)[1500:]
    scored = Scored("text", run.tokenizer, [run.score(text, preferred=5)], text=text)
    groups = surprise._groups(scored)
    passages = list(surprise._passages(groups, [{"first": 0}]))
    assert 1 < len(passages) <= surprise.PASSAGES
    begin = passages[0]["group"]
    assert set(text[begin : begin + 20]) & set("zqxj")
    places = sorted(passage["group"] for passage in passages)
    assert all(after - before >= surprise.PASSAGE // 2 for before, after in itertools.pairwise(places))
    bits = [float(passage["bits"]) for passage in passages]
    assert bits == sorted(bits, reverse=True)


def test_a_long_text_is_cut_into_blocks_at_line_ends(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surprise, "BLOCK", 100)
    text = "a line of words\n" * 40 + "x" * 450
    page, _ = page_of(run, text)
    assert "".join(page.blocks) == text
    assert len(page.blocks) > 5
    assert all(block.endswith("\n") for block in page.blocks[:5])


def test_the_histogram_counts_every_token() -> None:
    values = np.array([0.0, 0.9, 1.0, 3.5, 16.2, 40.0])
    bars = surprise._histogram(values, two=False)
    assert [bar["tokens"] for bar in bars if bar["tokens"] != "0"] == ["2", "1", "1", "2"]
    assert bars[-1]["label"] == "16 and more"
    both = surprise._histogram(np.array([-20.0, -0.5, 0.5, 7.5]), two=True)
    assert [(bar["label"], bar["tokens"]) for bar in both if bar["tokens"] != "0"] == [
        ("-7 and less", "1"), ("-1 to 0", "1"), ("0 to 1", "1"), ("7 and more", "1"),
    ]  # fmt: skip


def test_nothing_is_fetched(run: Run, tmp_path: Path) -> None:
    scored = Scored("x", run.tokenizer, [run.score(TEXT, preferred=5)], text=TEXT)
    page = surprise.html([scored], ["<b>run</b>"])
    assert "default-src 'none'" in page
    assert not re.search(r'(?:src|href)="(?!#|data:)', page)
    assert "alert(1)</script>" not in page.replace("&lt;", "<").split("<main>")[0]
    assert "<b>run" not in page
