"""TokenStream.token_counts."""

from __future__ import annotations

import pytest

from charlm.config import TokenizerConfig
from charlm.text import stream
from charlm.text.items import Unit
from charlm.text.stream import encode_text
from charlm.text.tokenization import learn


@pytest.mark.parametrize("unit", ["stream", "line"])
@pytest.mark.parametrize("at_once", [1, 4, 1 << 20])
def test_every_token_is_counted(unit: Unit, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "COUNTED_AT_ONCE", at_once)
    text = "abba\ncab\n"
    tokenizer = learn(TokenizerConfig(), [text], unit=unit)
    encoded = encode_text(tokenizer, text, unit)
    counts = dict(zip(tokenizer.tokens, encoded.token_counts(len(tokenizer)).tolist(), strict=True))
    line_ends = 2 if unit == "stream" else 3  # items have a boundary at both ends
    assert counts == {tokenizer.unknown_token: 0, "\n": line_ends, "a": 3, "b": 3, "c": 1}
