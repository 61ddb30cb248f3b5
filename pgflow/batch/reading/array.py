"""A JSON array, an element at a time.

ijson, the library for it, was tried: it has no numbers of lines, makes a question mark of a lone surrogate, and with
floats refuses integers of more than 64 bits. The standard library's decoder finds where an element ends.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Iterator

from pgflow.batch.reading import jsontext
from pgflow.batch.reading.record import BrokenInputError, Record
from pgflow.codec import MAX_BYTES

_MARGIN = 16  # the longest that is read differently once more of it is there: \\ud83d\\ude00, -Infinity, 1.5e+3
_SPACE = re.compile(r"[ \t\r\n]*")
_KINDS = {"{": "an object", '"': "a string"}
_CUT_OFF = "the array is not closed: the file is cut off (copy it again, or wait for its end)"


def records(blocks: Iterable[bytes]) -> Iterator[Record]:
    """A record an element. Raises BrokenInputError where the text is no array of JSON values: nothing says where the
    next element would begin."""
    window = _Window(blocks)
    if not (opening := window.peek()):
        return
    if opening != "[":
        kind = _KINDS.get(opening, "no array")
        raise window.broken(
            f"its top level is {kind}, where an array of items is expected (JSON Lines, a value a line, has the "
            "suffix .jsonl)"
        )
    window.skip()
    if window.peek() == "]":
        window.skip()
    else:
        yield from _elements(window)
    if window.peek():
        raise window.broken("something follows the end of the array (remove it)")


def _elements(window: _Window) -> Iterator[Record]:
    while True:
        window.peek()
        yield window.value()
        separator = window.peek()
        if separator not in (",", "]"):
            raise window.broken("a comma or ] is expected after the element" if separator else _CUT_OFF)
        window.skip()
        if separator == "]":
            return


class _Window:
    """The part of the text from the place that has been reached to the end of the last block. Bytes that are no UTF-8
    are lone surrogates in it."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._texts = codecs.iterdecode(blocks, "utf-8", errors="surrogateescape")
        self._text = ""
        self._at = 0
        self._line = 1
        self._is_last = False

    def peek(self) -> str:
        """The next character that is no white space, which is passed over; empty at the end."""
        while (end := _SPACE.match(self._text, self._at).end()) == len(self._text):  # type: ignore[union-attr]
            self._go_to(end)
            if not self._grow():
                return ""
        self._go_to(end)
        return self._text[end]

    def skip(self) -> None:
        """Pass over a character."""
        self._at += 1

    def value(self) -> Record:
        """The JSON value that begins here, and pass over it."""
        while True:
            try:
                value, end = jsontext.decode_at(self._text, self._at)
            except (ValueError, RecursionError) as error:
                self._refuse_unless_cut(error)
            else:
                if end <= len(self._text) - _MARGIN or self._is_last:
                    record = (self._line, self._text[self._at : end], value)
                    self._go_to(end)
                    return record
            if len(self._text) - self._at > MAX_BYTES:
                raise self.broken(f"an element is longer than {MAX_BYTES:,} bytes, or a string in it is not closed")
            self._grow()

    def broken(self, reason: str) -> BrokenInputError:
        """The error for something that is wrong here."""
        return BrokenInputError(self._line, self._text[self._at : self._at + 200].partition("\n")[0], reason)

    def _refuse_unless_cut(self, error: ValueError | RecursionError) -> None:
        """Raise BrokenInputError unless more text may make JSON of it."""
        if isinstance(error, json.JSONDecodeError):
            if not self._is_last and (
                error.pos > len(self._text) - _MARGIN or error.msg.startswith("Unterminated string")
            ):
                return
            if self._is_last and error.pos >= len(self._text.rstrip()):
                raise self.broken(_CUT_OFF)
            self._go_to(max(self._at, error.pos))
            raise self.broken(f"it is not JSON: {error.msg}")
        raise self.broken(jsontext.in_words(error))

    def _go_to(self, index: int) -> None:
        self._line += self._text.count("\n", self._at, index)
        self._at = index

    def _grow(self) -> bool:
        """Read as much again as there is, so that a large element is not looked at once a block; whether there was
        more."""
        texts = [self._text[self._at :]]
        self._at, wanted, size = 0, len(texts[0]), 0
        while size <= wanted and not self._is_last:
            text = next(self._texts, "")
            self._is_last = not text
            size += len(text)
            texts.append(text)
        self._text = "".join(texts)
        return size > 0
