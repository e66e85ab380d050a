"""Lengths of time, as people and Lightning write them."""

from __future__ import annotations

import re

from charlm.errors import CharlmError


def seconds(text: str, name: str = "trainer.max_time") -> float:
    """Return a length of time in seconds.

    Args:
        text: The length of time: numbers with the units d, h, m and s in this order (`90s`,
            `1h30m`), a number of seconds, or Lightning's `DD:HH:MM:SS`, which may lack `DD` or
            `DD:HH`.
        name: The setting that has this value, for messages.

    Raises:
        CharlmError: the text is none of these, or the time is 0.
    """
    text = text.strip()
    total = None
    if re.fullmatch(r"\d+(:\d+){1,3}", text):
        total = 0.0
        for part, unit in zip(reversed(text.split(":")), (1, 60, 3600, 86400), strict=False):
            total += int(part) * unit
    elif re.fullmatch(r"\d+(\.\d+)?", text):
        total = float(text)
    elif text and re.fullmatch(r"(\d+(\.\d+)?d)?(\d+(\.\d+)?h)?(\d+(\.\d+)?m)?(\d+(\.\d+)?s)?", text):
        units = {"d": 86400, "h": 3600, "m": 60, "s": 1}
        total = sum(float(number) * units[unit] for number, unit in re.findall(r"([\d.]+)([dhms])", text))
    if total == 0:
        raise CharlmError(f"`{name}` must be longer than {text!r}")
    if total is None:
        raise CharlmError(f"`{name}` is not a time: {text!r}; write 90s, 3m, 1h30m or 00:00:03:00")
    return total


def duration(seconds: float) -> str:
    """Return a number of seconds as people write a length of time: 45s, 3m, 1m30s, 2h05m.

    From one hour on, seconds are left out. The function `seconds` can read every result but 0s.
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02}m" if minutes else f"{hours}h"
    return f"{rest}s" if not minutes else f"{minutes}m{rest:02}s" if rest else f"{minutes}m"
