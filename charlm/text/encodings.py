"""Detect the character encoding of bytes: by a byte-order mark, by a proof or by a guess."""

from __future__ import annotations

import codecs

MARKS = {  # the longer ones first: the mark of UTF-32 starts with that of UTF-16
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
COMMON = (
    "cp1252", "cp1251", "koi8_r", "cp866", "cp932", "euc_jp", "iso2022_jp", "gb18030", "big5", "cp949", "cp1250",
    "iso8859_2", "cp1253", "iso8859_7", "cp1254", "cp1255", "cp1256", "cp874", "mac_roman", "iso8859_5",
)  # fmt: skip
"""The encodings that a guess may return, besides UTF-16 and UTF-32.

If several fit equally well, the guess is the first of them.
"""

SAMPLE = 1 << 14  # bytes from which an encoding is guessed
ENOUGH = 8  # least number of non-ASCII characters, or of bytes, that prove an encoding


def encoding_of_mark(beginning: bytes) -> str | None:
    """Return the encoding named by the byte-order mark of a file, or None without a mark.

    Args:
        beginning: The first bytes of the file.
    """
    return next((name for mark, name in MARKS.items() if beginning.startswith(mark)), None)


def likely_encoding(data: bytes) -> str | None:
    """Return a likely encoding of bytes that are not UTF-8, or None if no encoding fits."""
    if wide := _wide(data):
        return wide
    from charset_normalizer import from_bytes

    found = from_bytes(data[:SAMPLE], cp_isolation=list(COMMON), enable_fallback=False)
    best = found.best()
    if best is None:
        return None
    equal = [one for one in found if one.chaos <= best.chaos and one.coherence >= best.coherence]
    names = {name for one in equal for name in (one.encoding, *one.could_be_from_charset)}
    return next((name for name in COMMON if name in names), None)


class Doubts:
    """A check whether a file that decodes without an error was saved in another encoding.

    Decoding in the wrong encoding often gives wrong text and no error: UTF-8 read as latin-1,
    UTF-16 read as UTF-8, windows-1251 read as latin-1.

    Args:
        encoding: The encoding in which the file is read.
        certain: Whether a byte-order mark gives the encoding; then nothing is checked.
    """

    def __init__(self, encoding: str, certain: bool) -> None:
        self.encoding = codecs.lookup(encoding).name
        self.wide = self.encoding.startswith(("utf-16", "utf-32"))
        self._certain = certain
        self._beginning = True
        self._utf8 = None if certain or self.encoding in ("utf-8", "ascii") else codecs.getincrementaldecoder("utf-8")()
        self._outside = self._read = 0
        self._sample = b""

    def look(self, data: bytes) -> tuple[str, str] | None:
        """Check the next bytes of the file for a proof of another encoding.

        Returns:
            The proof in words, and the encoding that it proves; None without a proof.
        """
        if self._certain or not data:
            return None
        beginning, self._beginning = self._beginning, False
        if beginning and not self.wide and (wide := _wide(data)):
            return f"every other byte is zero, as in {wide}", wide
        if self._utf8 is not None:
            self._look_for_utf8(data)
        if self._outside >= ENOUGH or self.wide and self._utf8 is not None and self._read >= ENOUGH:
            return "its bytes are UTF-8", "utf-8"
        return None

    def _look_for_utf8(self, data: bytes) -> None:
        assert self._utf8 is not None
        try:
            text = self._utf8.decode(data)
            if self.wide and "\0" in text:
                raise UnicodeError
            self._read += len(data)
            self._outside += 0 if text.isascii() else sum(character >= "\x80" for character in text)
        except UnicodeError:
            self._utf8 = None
            # From shortly before the first non-ASCII byte: a megabyte of ASCII may come first.
            first = next((at for at, byte in enumerate(data) if byte >= 0x80), 0)
            self._sample = data[max(0, first - 64) :][:SAMPLE]

    def likely(self) -> str | None:
        """Return a more likely encoding, or None if there is none.

        One is proposed only if the decoded text does not look like text in any language.
        """
        if self.wide or sum(byte >= 0x80 for byte in self._sample) < 4 * ENOUGH:
            return None
        from charset_normalizer import from_bytes

        try:
            found = from_bytes(self._sample, cp_isolation=[self.encoding], enable_fallback=False)
        except ValueError:  # an encoding that it does not know
            return None
        if found.best() is not None:
            return None
        likely = likely_encoding(self._sample)
        same = likely is None or codecs.lookup(likely).name == self.encoding
        return None if same or _text(self._sample, likely) == _text(self._sample, self.encoding) else likely


def _text(data: bytes, encoding: str | None) -> str:
    return data.decode(encoding or "ascii", "replace")


def _wide(data: bytes) -> str | None:
    """Recognise UTF-16 or UTF-32 without a byte-order mark by its zero bytes.

    Returns:
        The name of the encoding; None if it is neither.
    """
    data = data[: SAMPLE & ~3]
    if data.count(0) * 4 < len(data) or len(data) < ENOUGH:
        return None
    zeros = [data[place::4].count(0) * 4 / len(data) for place in range(4)]
    if min(zeros[2], zeros[3]) > 0.9:
        return "utf-32-le"
    if min(zeros[0], zeros[1]) > 0.9:
        return "utf-32-be"
    if min(zeros[1], zeros[3]) > 0.5 > max(zeros[0], zeros[2]):
        return "utf-16-le"
    if min(zeros[0], zeros[2]) > 0.5 > max(zeros[1], zeros[3]):
        return "utf-16-be"
    return None
