"""Output, as text or JSON, that says how probable runs find tokens, lines or whole texts.

The bits of a token are -log2 of its probability.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from charlm.errors import count
from charlm.evaluation.attribution import Attribution
from charlm.text.tokenization import Tokenizer
from charlm.views.terminal import cautions, print_evaluation
from charlm.views.text import json_line, shown

if TYPE_CHECKING:
    from charlm.evaluation.scores import TokenScores


@dataclass(frozen=True)
class Scored:
    """A text with the scores of its tokens by one run, or by two runs that are compared.

    A token of the text is called predicted if the runs give it a probability. The first token of
    the text, or of an item, usually has none (see `TokenScores.predicted`).

    Attributes:
        name: Name of the file.
        tokenizer: The tokenizer of the runs.
        scores: The scores by the first run and, if there are two, by the second.
        lines: The lines of the text, if each was scored as a separate item; otherwise empty.
        text: The original text, which shows how unknown tokens are spelled.
    """

    name: str
    tokenizer: Tokenizer
    scores: Sequence[TokenScores]
    lines: Sequence[str] = field(default_factory=list)
    text: str = ""

    @cached_property
    def ids(self) -> list[int]:
        """The ids of those tokens of the text that are predicted, in the order of the text."""
        first = self.scores[0]
        found: list[int] = np.asarray(first.stream.ids)[first.predicted].tolist()
        return found

    @cached_property
    def tokens(self) -> list[str]:
        """The spelling of each of the tokens in `ids`, for an unknown token as it stands in `text`."""
        return self.tokenizer.spelled(self.ids, self.text)

    @property
    def bits(self) -> list[NDArray[np.float64]]:
        """For each run, the bits of each predicted token: (predicted,)."""
        return [score.bits[score.predicted] for score in self.scores]

    @cached_property
    def line_bits(self) -> list[NDArray[np.float64]]:
        """For each run, the bits of each line: (lines,)."""
        return [score.item_nats / np.log(2) for score in self.scores]

    @cached_property
    def line_characters(self) -> NDArray[np.int64]:
        """The number of characters of each line, including the line end: (lines,)."""
        return np.array([len(line) + 1 for line in self.lines])


def _order(values: NDArray[np.float64], sort: bool) -> list[int]:
    """Return the order in which rows are printed, as indices of their values.

    If `sort` is true, the row with the largest value comes first; otherwise the order is that of
    the text.
    """
    return np.argsort(-values, kind="stable").tolist() if sort else list(range(len(values)))


def _figures(bits: Iterable[float]) -> list[float]:
    """Return the bits by each run as a list; for two runs, the difference is appended."""
    values = [float(value) for value in bits]
    return [*values, values[0] - values[1]] if len(values) == 2 else values


NAMES = ("bits", "bits_against", "difference")
NAMES_PER_CHARACTER = ("bits_per_character", "bits_per_character_against", "difference_per_character")


def print_lines(scored: Scored, *, sort: bool) -> None:
    """Print a row for each line of the text on standard output, with values separated by tabs.

    A row has the bits per character, the bits, and the line. If two runs are compared, it has the
    bits per character by each run, their difference, and the line. If `sort` is true, the line with
    the most bits per character (or the largest difference) comes first.
    """
    per_character = [bits / scored.line_characters for bits in scored.line_bits]
    for row in _order(_key(per_character), sort):
        figures = _figures(values[row] for values in per_character)
        if len(figures) == 1:
            figures.append(float(scored.line_bits[0][row]))
        print("\t".join([f"{value:.4f}" for value in figures] + [shown(scored.lines[row])]))


def print_tokens(found: Sequence[Scored], *, sort: bool) -> None:
    """Print a row for each token of some texts on standard output, with values separated by tabs.

    A row has the index of the token among the predicted ones, from 0; its bits; its rank by the
    first run among all tokens of the vocabulary (1: the most probable); and the token in quotes. If
    two runs are compared, it has the bits by each run and their difference. If `sort` is true, the
    token with the most bits (or the largest difference) of a text comes first.
    """
    for scored in found:
        first, bits = scored.scores[0], scored.bits
        ranks = first.ranks[first.predicted]
        for row in _order(_key(bits), sort):
            figures = [f"{value:.4f}" for value in _figures(values[row] for values in bits)]
            token = json.dumps(scored.tokens[row], ensure_ascii=False)
            print("\t".join([str(row), *figures, str(ranks[row] + 1), shown(token)]))


def _sorted(found: Sequence[Scored], sort: bool) -> list[Scored]:
    """Return the texts in the order in which they are printed.

    If `sort` is true, the text with the most bits per character comes first; if two runs are
    compared, that with the largest difference. Otherwise the order is unchanged.
    """
    per_character = np.array([[score.evaluation.bits_per_character for score in one.scores] for one in found])
    return [found[number] for number in _order(_key(per_character.T), sort)]


def _key(values: Sequence[NDArray[np.float64]] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the values by which rows are sorted: those of one run, or the difference of two."""
    return values[0] if len(values) == 1 else values[0] - values[1]


def print_texts(found: Sequence[Scored], runs: Sequence[str], *, sort: bool) -> None:
    """Print the totals of each text on standard output: tokens, bits and perplexities.

    Several texts or two runs are printed as one table. `runs` has the names of the runs. If `sort`
    is true, the text with the most bits per character (or the largest difference) comes first.
    """
    if len(found) == len(runs) == 1:
        scores = found[0].scores[0]
        print_evaluation(scores.evaluation, len(found[0].tokenizer), items=scores.stream.starts is not None)
        print(f"{'bits in all':22} {scores.bits.sum():,.2f}")
        return
    heads = ["tokens", "characters", "bits", "bits per character", "bits per byte", "perplexity per token", "per word"]
    rows = []
    for scored in _sorted(found, sort):
        for run, score in zip(runs, scored.scores, strict=True):
            result = score.evaluation
            values = [
                f"{result.predicted.tokens:,}", f"{result.predicted.characters:,}", f"{score.bits.sum():,.2f}",
                f"{result.bits_per_character:.4f}", f"{result.bits_per_byte:.4f}", f"{result.perplexity:.4g}",
                f"{result.word_perplexity:.4g}",
            ]  # fmt: skip
            rows.append([f"{scored.name}, {run}" if len(runs) > 1 else scored.name, *values])
        if len(runs) == 2:
            first, second = (score.evaluation for score in scored.scores)
            bits = scored.scores[0].bits.sum() - scored.scores[1].bits.sum()
            differences = [
                f"{first.bits_per_character - second.bits_per_character:+.4f}",
                f"{first.bits_per_byte - second.bits_per_byte:+.4f}",
            ]
            rows.append([f"{scored.name}, difference", "", "", f"{bits:+,.2f}", *differences, "", ""])
    widths = [max(len(row[column]) for row in [["", *heads], *rows]) for column in range(len(heads) + 1)]
    for row in [["", *heads], *rows]:
        cells = [row[0].ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        print(shown("  ".join(cells).rstrip()))
    score = found[0].scores[0]
    print(score.protocol.describe(score.stream.starts is not None))
    for scored in found:
        for run, one in zip(runs, scored.scores, strict=True):
            for sentence in cautions(one.evaluation, len(scored.tokenizer)):
                print(shown(f"{scored.name}, {run}: {sentence}" if len(runs) > 1 else f"{scored.name}: {sentence}"))


def as_json(found: Sequence[Scored], by: str, *, sort: bool) -> Iterator[str]:
    """Yield a line of JSON for each text, each line or each token.

    Args:
        found: The scored texts.
        by: What a line of JSON is about: "text", "line" or "token".
        sort: Whether the most surprising texts, lines or tokens come first; if two runs are
            compared, those with the largest difference.
    """
    for scored in _sorted(found, sort):
        if by == "text":
            yield json_line(_text_values(scored))
        elif by == "line":
            per_character = [bits / scored.line_characters for bits in scored.line_bits]
            for row in _order(_key(per_character), sort):
                values = dict(zip(NAMES, _figures(bits[row] for bits in scored.line_bits), strict=False))
                relative = zip(NAMES_PER_CHARACTER, _figures(bits[row] for bits in per_character), strict=False)
                yield json_line({"line": row + 1, "text": scored.lines[row], **values, **dict(relative)})
        else:
            yield from _token_values(scored, sort)


def _text_values(scored: Scored) -> dict[str, Any]:
    totals = dict(zip(NAMES, _figures(score.bits.sum() for score in scored.scores), strict=False))
    values = {"text": scored.name, **totals, **scored.scores[0].evaluation.to_dict()}
    if len(scored.scores) == 2:
        values["against"] = scored.scores[1].evaluation.to_dict()
    return values


def _token_values(scored: Scored, sort: bool) -> Iterator[str]:
    first, bits, names = scored.scores[0], scored.bits, scored.tokenizer.tokens
    for row in _order(_key(bits), sort):
        position = int(first.predicted[row])
        preferred = zip(first.preferred[position].tolist(), first.preferred_nats[position].tolist(), strict=True)
        yield json_line(
            {
                "position": row,
                "token": scored.tokens[row],
                "id": int(first.stream.ids[position]),
                "nats": float(first.nats[position]),
                **dict(zip(NAMES, _figures(values[row] for values in bits), strict=False)),
                "rank": int(first.ranks[position]) + 1,
                "preferred": [[names[id], round(float(np.exp(-nats)), 6)] for id, nats in preferred],
            }
        )


def print_attribution(found: Attribution, rows: Sequence[str]) -> None:
    """Print on standard output which model finds each text most probable.

    A row has the name of this model, the probability that the text is by this model, and the text,
    separated by tabs.

    Args:
        found: The likelihoods of the texts under each model.
        rows: The texts, or their names.
    """
    for row, best, probabilities in zip(rows, found.best.tolist(), found.probabilities, strict=True):
        print(f"{found.models[best]}\t{probabilities[best]:.4f}\t{shown(row)}")


def print_confusion(found: Attribution) -> None:
    """Print the confusion matrix and the accuracy for labelled texts on standard output.

    Each text is attributed to the model that finds it most probable. A row is a label, a column a
    model. A cell has the number of texts with this label that are attributed to this model.
    """
    table = found.confusion
    width = max(map(len, [*found.models, "label"]))
    print("  ".join(["label".ljust(width), *(name.rjust(len(name)) for name in found.models), "accuracy"]))
    for label, row in table.items():
        cells = [str(row[name]).rjust(len(name)) for name in found.models]
        print("  ".join([label.ljust(width), *cells, f"{row[label] / row.total():.1%}".rjust(len("accuracy"))]))
    print(f"accuracy {found.accuracy:.4f} of {count(len(found.nats), 'text')}; each row is a label, each column a run")


def attribution_as_json(found: Attribution, rows: Sequence[str]) -> Iterator[str]:
    """Yield lines of JSON that say which model finds each text most probable.

    Texts without labels give a line each, with this model, and with the bits of the text and the
    probability for every model. Texts with labels give a single line together, with the accuracy
    and the confusion matrix.

    Args:
        found: The likelihoods of the texts under each model.
        rows: The texts, or their names.
    """
    if found.labels is not None:
        confusion = {label: dict(row) for label, row in found.confusion.items()}
        yield json_line({"accuracy": found.accuracy, "texts": len(found.nats), "confusion": confusion})
        return
    for row, best, probabilities, nats in zip(rows, found.best.tolist(), found.probabilities, found.nats, strict=True):
        yield json_line(
            {
                "text": row,
                "run": found.models[best],
                "probabilities": dict(zip(found.models, probabilities.round(6).tolist(), strict=True)),
                "bits": dict(zip(found.models, (nats / np.log(2)).tolist(), strict=True)),
            }
        )
