"""The surprise page: a single HTML file in which each token of a text is coloured by its bits.

The bits of a token (-log2 of its probability) say how much the token surprises a run. The page has
the text in blocks of some thousand characters, and a script colours only the blocks in view. The
numbers of all tokens follow the text, compressed with zlib. A browser can therefore show the page
of a text of a megabyte without delay.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlm.views.pages import page_environment
from charlm.views.scores import Scored
from charlm.views.text import visible

BLOCK = 2_000
"""Characters from which a block of the text ends at the next line end; at twice as many it ends anywhere."""

PASSAGES, PASSAGE = 20, 48
"""How many of the most surprising passages are listed, and the least characters of each."""

SPARSE = 50
"""If fewer than one token in this many starts a word, the text counts as one without spaces."""

LEVELS = 8
"""Steps of the colour scale."""

MOST_BITS, MOST_DIFFERENCE = 12.0, 6.0
"""Bits, and bits of difference between two runs, from which the colour is the strongest."""

PER_BIT = 10
"""Bits are stored in tenths, up to 25.5."""

BARS, WIDEST = 17, 8
"""Bars of the histogram of bits, and bars on each side of 0 in the histogram of differences."""


@dataclass(frozen=True)
class _Groups:
    """The tokens of a text in groups, each of which spells at least one whole character.

    A group is usually one token. Several tokens form a group if each spells only some bytes of a
    character.

    Attributes:
        texts: What each group spells, with control characters made visible.
        first: (groups,) index of the first token of each group among the predicted tokens.
        bits: For each run, (groups,) bits of each group.
    """

    texts: list[str]
    first: NDArray[np.int64]
    bits: list[NDArray[np.float64]]

    @property
    def colour(self) -> NDArray[np.float64]:
        """The values that the colours show: (groups,) bits, or their difference for two runs."""
        return self.bits[0] if len(self.bits) == 1 else self.bits[0] - self.bits[1]


def html(found: Sequence[Scored], names: Sequence[str]) -> str:
    """Return the surprise page of some texts.

    Args:
        found: The scored texts, including the most probable tokens at each position.
        names: The name of the run, or of the two runs that are compared.
    """
    groups = [_groups(scored) for scored in found]
    texts: list[dict[str, Any]] = []
    data, shift = [], 0
    for scored, one in zip(found, groups, strict=True):
        texts.append({"name": scored.name, "blocks": list(_blocks(one, shift)), "rows": _rows(scored, names)})
        data.append(_numbers(scored, one))
        shift += len(one.texts)
    colour = np.concatenate([one.colour for one in groups])
    joined = _Groups([text for one in groups for text in one.texts], np.empty(0, np.int64), [colour])
    first = found[0].scores[0]
    return (
        page_environment()
        .get_template("surprise.html")
        .render(
            names=names,
            two=len(names) == 2,
            texts=texts,
            heads=["run", "tokens", "bits", "bits per character", "bits per byte", "perplexity per token"],
            protocol=first.protocol.describe(first.stream.starts is not None),
            passages=list(_passages(joined, [block for text in texts for block in text["blocks"]])),
            histogram=_histogram(colour, two=len(names) == 2),
            legend=_legend(two=len(names) == 2),
            levels=LEVELS,
            facts={
                "names": list(names),
                "levels": LEVELS,
                "preferred": first.preferred.shape[1],
                "most": MOST_BITS if len(names) == 1 else MOST_DIFFERENCE,
                "per_bit": PER_BIT,
                "groups": shift,
                "wide": len(found[0].tokenizer) > 1 << 16,
            },
            vocabulary=[visible(token) for token in found[0].tokenizer.tokens],
            data=_packed(data),
        )
    )


def _groups(scored: Scored) -> _Groups:
    decoder, texts, starts = scored.tokenizer.decoder(), [], []
    begin, ids = 0, scored.ids
    for number, (id, token) in enumerate(zip(ids, scored.tokens, strict=True)):
        if text := token if id == scored.tokenizer.unknown else decoder.push(id):
            texts.append(visible(text))
            starts.append(begin)
            begin = number + 1
    if begin < len(ids):
        texts.append(visible(decoder.flush()) or "�")
        starts.append(begin)
    index = np.array(starts, np.int64)
    bits = [np.add.reduceat(values, index) for values in scored.bits]
    return _Groups(texts, index, bits)


def _blocks(groups: _Groups, shift: int) -> Iterator[dict[str, Any]]:
    """Yield the blocks of a text: what each spells, and the index of its first group of tokens.

    The index counts the groups of all texts of the page; `shift` is how many groups come before
    this text.
    """
    begin = size = 0
    for number, text in enumerate(groups.texts):
        size += len(text)
        if (size >= BLOCK and text.endswith("\n")) or size >= 2 * BLOCK:
            yield {"first": shift + begin, "text": "".join(groups.texts[begin : number + 1])}
            begin, size = number + 1, 0
    if size:
        yield {"first": shift + begin, "text": "".join(groups.texts[begin:])}


def _rows(scored: Scored, names: Sequence[str]) -> list[list[str]]:
    rows = []
    for name, score in zip(names, scored.scores, strict=True):
        result = score.evaluation
        rows.append(
            [
                name, f"{result.predicted.tokens:,}", f"{score.bits.sum():,.1f}", f"{result.bits_per_character:.4f}",
                f"{result.bits_per_byte:.4f}", f"{result.perplexity:.4g}",
            ]
        )  # fmt: skip
    return rows


def _numbers(scored: Scored, groups: _Groups) -> dict[str, NDArray[Any]]:
    """Return the numbers that the page stores for each group of tokens: an array for each quantity.

    The rank and the most probable tokens of a group are those at its first token.
    """
    first = scored.scores[0]
    positions = first.predicted[groups.first]
    wide = len(scored.tokenizer) > 1 << 16
    return {
        "length": np.array([len(text.encode("utf-16-le")) // 2 for text in groups.texts], "<u2"),
        "tokens": np.minimum(np.diff(groups.first, append=len(first.predicted)), 255).astype("u1"),
        **{
            f"bits{number}": np.minimum(np.rint(bits * PER_BIT), 255).astype("u1")
            for number, bits in enumerate(groups.bits)
        },
        "rank": np.minimum(first.ranks[positions] + 1, 65535).astype("<u2"),
        # A square root keeps small probabilities apart in one byte.
        "share": np.rint(255 * np.sqrt(np.exp(-first.preferred_nats[positions]))).astype("u1"),
        "preferred": first.preferred[positions].astype("<u4" if wide else "<u2"),
    }


def _packed(data: Sequence[dict[str, NDArray[Any]]]) -> list[dict[str, str]]:
    """Return the numbers of all texts for the page, compressed and in base64.

    Args:
        data: For each text, its arrays by the name of the quantity. The arrays of all texts for one
            quantity are joined before they are compressed.
    """
    return [
        {
            "name": name,
            "bytes": base64.b64encode(zlib.compress(b"".join(one[name].tobytes() for one in data), 9)).decode(),
        }
        for name in data[0]
    ]


def _passages(groups: _Groups, blocks: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield up to `PASSAGES` passages that surprise the run most; they do not overlap.

    These have the most bits per character or, if there are two runs, the largest difference in
    either direction.
    """
    lengths = np.array([len(text) for text in groups.texts])
    ends = np.cumsum(lengths)
    total = np.concatenate([[0.0], np.cumsum(groups.colour)])
    # For each group, the group after the passage that starts there.
    stop = np.searchsorted(ends, ends - lengths + PASSAGE) + 1
    whole = np.flatnonzero((stop <= len(lengths)) & _starts(groups.texts))
    if not len(whole):
        whole, stop = np.array([0]), np.minimum(stop, len(lengths))
    mean = np.abs(total[stop[whole]] - total[whole]) / (ends[stop[whole] - 1] - ends[whole] + lengths[whole])
    firsts = np.array([block["first"] for block in blocks])
    taken: list[tuple[int, int]] = []
    for candidate in np.argsort(-mean, kind="stable").tolist():
        begin = int(whole[candidate])
        end = int(stop[begin])
        if all(end <= other or begin >= other_end for other, other_end in taken):
            taken.append((begin, end))
            yield {
                "group": begin,
                "block": int(np.searchsorted(firsts, begin, "right")) - 1,
                "text": " ".join("".join(groups.texts[begin:end]).split()),
                "bits": f"{(total[end] - total[begin]) / (ends[end - 1] - ends[begin] + lengths[begin]):+.1f}".lstrip(
                    "+" if len(groups.bits) == 1 and groups.colour.min() >= 0 else ""
                ),
            }
        if len(taken) == PASSAGES:
            return


def _starts(texts: Sequence[str]) -> NDArray[np.bool_]:
    """Return at which groups a passage may start: (groups,) booleans.

    A passage starts at the beginning of a word or, in a text with few spaces, anywhere.

    Args:
        texts: What each group spells.
    """
    spaces = np.array([text[-1:].isspace() for text in texts])
    after = np.append(True, spaces[:-1]) & ~np.array([text.isspace() for text in texts])
    after |= np.array([text[:1].isspace() and not text.isspace() for text in texts])
    return after if after.mean() > 1 / SPARSE else np.ones(len(texts), np.bool_)


def _histogram(values: NDArray[np.float64], *, two: bool) -> list[dict[str, Any]]:
    """Return the bars of a histogram of bits, or of differences in bits if `two` is true.

    A bar has a label, the number of its values, their share of all values, a height in per cent of
    the highest bar, a step of the colour scale, and the value at its left end.
    """
    low = -WIDEST if two else 0
    count = 2 * WIDEST if two else BARS
    bins = np.clip(np.floor(values).astype(int) - low, 0, count - 1)
    tokens = np.bincount(bins, minlength=count)
    bars = []
    for number, amount in enumerate(tokens.tolist()):
        left = low + number
        label = f"{left} to {left + 1}"
        if number == count - 1:
            label = f"{left} and more"
        elif two and number == 0:
            label = f"{left + 1} and less"
        bars.append(
            {
                "label": label, "tokens": f"{amount:,}", "height": round(100 * amount / max(1, tokens.max()), 2),
                "share": f"{amount / max(1, len(values)):.1%}", "level": _level(left + 0.5, two=two), "left": left,
            }
        )  # fmt: skip
    return bars


def _level(value: float, *, two: bool) -> int:
    """Return the step of the colour scale for a value: bits, or a difference if `two` is true.

    A negative difference, where the second run is surprised more, has a negative step.
    """
    most = MOST_DIFFERENCE if two else MOST_BITS
    step = min(LEVELS, round(abs(value) / most * LEVELS))
    return step if value >= 0 else -step


def _legend(*, two: bool) -> list[dict[str, Any]]:
    most = MOST_DIFFERENCE if two else MOST_BITS
    values = [-most, -most / 2, 0, most / 2, most] if two else [0, most / 4, most / 2, 3 * most / 4, most]
    return [
        {"level": _level(value, two=two), "label": f"{value:+g}" if two and value else f"{value:g}"} for value in values
    ]
