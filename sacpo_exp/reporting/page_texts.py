"""Texts of a page: each once, however many policies say it, and no more of them than a browser opens at once."""

from collections.abc import Sequence


class Texts:
    """Texts by number."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def add(self, text: str) -> int:
        """The number of a text."""
        return self._numbers.setdefault(text, len(self._numbers))

    def list(self) -> list[str]:
        """All texts, in the order of their numbers."""
        return list(self._numbers)


def shorten_texts(texts: Sequence[str], most: int) -> tuple[list[str], int | None]:
    """The texts with at most `most` bytes, and the number of characters that each may have; None if none is cut off."""
    if _weigh(texts, None) <= most:
        return list(texts), None
    low, high = 0, max(map(len, texts))
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _weigh(texts, middle) <= most else (low, middle)
    return [_cut(text, low) for text in texts], low


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]} … [{len(text) - limit} more characters]"


def _weigh(texts: Sequence[str], limit: int | None) -> int:
    """Bytes of the texts in a page, about."""
    return sum(len((text if limit is None else _cut(text, limit)).encode("utf-8", "replace")) + 3 for text in texts)
