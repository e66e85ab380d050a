"""Prompts: `adapt_prompt` fits a prompt to a vocabulary, `Prompts` has the network read several."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from charlm.config.fields import Direction
from charlm.config.generation import Unknown
from charlm.errors import CharlmError
from charlm.generation.stepper import Stepper

if TYPE_CHECKING:
    from charlm.text.tokenization import Tokenizer

PLAIN = str.maketrans(
    dict.fromkeys("‘’‚‛ʼ′‹›`´", "'")
    | dict.fromkeys("“”„‟«»″", '"')
    | dict.fromkeys("‐‑‒–—―−", "-")
    | {"ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "đ": "d", "Đ": "D", "ð": "d", "Ð": "D", "þ": "th", "Þ": "Th"}
    | {"æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "ı": "i", "ẞ": "ss"}
)


class Prompts:
    """Prompts as ids, each of which is one row of a batch.

    Args:
        tokenizer: The vocabulary.
        texts: The prompts; some may be the same.
        direction: The direction of the network, which reads a prompt backward from its end.

    Attributes:
        texts: The prompts.
        blanks: For each prompt, the space between prompt and text that only one of the prompt and
            the ids has, or an empty text. It is removed from the start of a text that continues the
            prompt, and added to the end of a text that comes before it.
        ids: The ids, (batch, time); -1 stands before the first id of a prompt that is shorter than
            others.

    Raises:
        CharlmError: a prompt with pieces that are not in the vocabulary.
    """

    def __init__(self, tokenizer: Tokenizer, texts: Sequence[str], direction: Direction = "forward") -> None:
        self.texts = list(texts)
        encoded = {text: tokenizer.prompt(text) for text in texts}
        self.blanks = [_blank(text, encoded[text], direction) for text in texts]
        self._ids = {text: prompt_ids(tokenizer, read, direction) for text, read in encoded.items()}
        longest = max(map(len, self._ids.values()))
        self.ids = np.array([[-1] * (longest - len(self._ids[text])) + self._ids[text] for text in texts])

    def read(self, stepper: Stepper) -> tuple[NDArray[Any], Any]:
        """Return the logits (batch, vocab_size) and the state after the prompts.

        The network reads prompts that are the same only once.
        """
        read = [stepper.prefill(np.array([ids]), stepper.initial_state(1)) for ids in self._ids.values()]
        places = {text: place for place, text in enumerate(self._ids)}
        rows = np.array([places[text] for text in self.texts])
        logits = np.concatenate([logits for logits, _ in read])
        return logits[rows], stepper.select(stepper.join([state for _, state in read]), rows)


def adapt_prompt(tokenizer: Tokenizer, prompt: str, unknown: Unknown) -> tuple[str, dict[str, str]]:
    """Return a prompt that is adapted to a vocabulary, and what was replaced in it.

    Args:
        tokenizer: The vocabulary.
        prompt: The prompt.
        unknown: What happens to the pieces of the prompt that the vocabulary lacks. "drop" leaves
            them out. "nearest" replaces them by similar pieces, which differ for example by case,
            accents, or the shape of quotation marks and dashes, and leaves out the rest. "error"
            changes nothing here; `prompt_ids` then raises the error.

    Returns:
        The adapted prompt, and the replacement of each missing piece; it is empty for a piece that
        was left out.
    """
    if unknown == "error" or not tokenizer.unknowns(prompt):
        return prompt, {}
    if unknown == "drop":
        replacement: Callable[[str], str] = lambda _: ""  # noqa: E731
    else:
        forms = [prompt, *(unicodedata.normalize(form, prompt) for form in ("NFC", "NFD"))]
        prompt = min(forms, key=lambda form: tokenizer.unknowns(form).total())  # first of equals
        replacement = _nearest(tokenizer)
    changes = {piece: replacement(piece) for piece in tokenizer.unknowns(prompt)}
    return tokenizer.replace_unknowns(prompt, changes), changes


def prompt_ids(tokenizer: Tokenizer, prompt: str, direction: Direction = "forward") -> list[int]:
    """Return the ids that the network reads before it continues a prompt, at least one.

    A backward network reads the prompt from its end, and writes what comes before it.

    Raises:
        CharlmError: a piece of the prompt is not in the vocabulary.
    """
    unknowns = tokenizer.unknowns(prompt)
    if unknowns:
        named = ", ".join(f"{piece!r}" for piece, _ in unknowns.most_common(8))
        more = ", ..." if len(unknowns) > 8 else ""
        raise CharlmError(
            f"the prompt has {named}{more}, which the vocabulary of the model lacks; leave that out, "
            "or set `prompt_unknown` to nearest or drop"
        )
    ids = [int(token) for token in tokenizer.encode(prompt)][:: 1 if direction == "forward" else -1]
    if tokenizer.boundary is not None:
        return [tokenizer.boundary, *ids]
    return ids or [tokenizer.start()]


def _nearest(tokenizer: Tokenizer) -> Callable[[str], str]:
    tokens: dict[str, list[str]] = {}
    for token in tokenizer.tokens:
        tokens.setdefault(_key(token), []).append(token)

    def nearest(piece: str) -> str:
        plain = _plain(piece)
        if not plain:  # an accent alone
            return ""
        found = tokens.get(_key(piece), [])
        if piece.startswith(" "):  # two words must not become one
            found = [token for token in found if token.startswith(" ")]
        if found:
            return min(found, key=lambda token: (token.casefold() != piece.casefold(), _plain(token) != plain))
        forms = (plain, plain.lower(), plain.upper(), plain.casefold())  # several tokens: "..." for an ellipsis
        return next((form for form in forms if not tokenizer.unknowns(form)), "")

    return nearest


def _key(text: str) -> str:
    """Return a key that is the same for a piece of text and its possible replacements.

    The key ignores case, accents, and the blank before a word.
    """
    plain = _plain(text).casefold()
    return plain.removeprefix(" ") or plain


def _plain(text: str) -> str:
    """Return a text without accents, with straight quotation marks and short dashes."""
    parts = unicodedata.normalize("NFKD", text.translate(PLAIN))
    return unicodedata.normalize("NFC", "".join(part for part in parts if not unicodedata.combining(part)))


def _blank(prompt: str, encoded: str, direction: Direction) -> str:
    """Return the entry of `Prompts.blanks` for a prompt and the form of it that is encoded."""
    if direction == "forward":
        return " " if prompt.endswith(" ") > encoded.endswith(" ") else ""
    return " " if encoded.startswith(" ") > prompt.startswith(" ") else ""
