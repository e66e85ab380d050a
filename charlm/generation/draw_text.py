"""`draw_text` generates much text at once, for metrics; for texts to read see `streaming`."""

from __future__ import annotations

import numpy as np

from charlm.config.fields import Direction
from charlm.generation.sampling import Sampler
from charlm.generation.stepper import Stepper
from charlm.text.tokenization import Tokenizer

LANES = 20
"""Texts generated side by side: a step of 20 rows takes little longer than a step of one."""


def draw_text(
    stepper: Stepper, tokenizer: Tokenizer, characters: int, direction: Direction = "forward", *, seed: int = 1
) -> str:
    """Return a text drawn at temperature 1, that is, from the network's own distribution.

    The text is generated in lanes side by side and joined lane after lane. Each lane starts without
    a prompt; with a model of lines or documents its state is reset after each item. The last word
    or item of a lane, which may be incomplete, is removed (see `uncut`).

    Args:
        stepper: The network.
        tokenizer: Its vocabulary.
        characters: Number of characters of the text.
        direction: The direction of the network. Backward, a lane is written from its end, and what
            is removed is its start.
        seed: The same seed gives the same text.

    Returns:
        The text; it is shorter if the network generates less than about one character per eight
        tokens.
    """
    sampler, state = Sampler(seed, LANES), stepper.initial_state(LANES)
    ids = np.full(LANES, tokenizer.start())
    forward = direction == "forward"
    decoders = [tokenizer.decoder() if forward else tokenizer.backward_decoder() for _ in range(LANES)]
    end = "" if tokenizer.boundary is None else tokenizer.decode([tokenizer.boundary])
    lanes = [""] * LANES  # backward, each is reversed
    text = ""
    for _ in range(8 * -(-characters // LANES) + 64):  # a character may take several tokens of bytes
        logits, state = stepper.step(ids, state)
        ids = sampler(logits)
        if tokenizer.boundary is not None:
            state[:, :, ids == tokenizer.boundary] = 0
        lanes = [lane + decoder.push(token) for lane, decoder, token in zip(lanes, decoders, ids.tolist(), strict=True)]
        if sum(map(len, lanes)) >= characters:
            # Backward, the end that an item has before it is put after it.
            text = "".join(
                uncut(lane, end) if forward else uncut(lane, end[::-1])[::-1].removeprefix(end) + end for lane in lanes
            )
            if len(text) >= characters:
                break
    return (text or "".join(lane if forward else lane[::-1] for lane in lanes))[:characters]


def uncut(text: str, end: str = "") -> str:
    """Remove the last item or the last word of a text, because it may be incomplete.

    The last item is what follows the last `end`. If it is half of the text or more, only the last
    word is removed. If the last word is that long, too, nothing is removed: an item may be longer
    than the text, and some scripts have no blanks.

    Args:
        text: The text.
        end: The text that ends each item; empty for a text without items.
    """
    kept = text.rfind(end) + len(end) if end and end in text else 0
    if 2 * kept <= len(text):
        word = "" if text[-1:].isspace() else "".join(text.rsplit(maxsplit=1)[-1:])
        kept = len(text) - len(word)
    return text[:kept] if 2 * kept > len(text) else text
