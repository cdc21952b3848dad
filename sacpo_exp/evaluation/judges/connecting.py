"""How a judge is connected to: no redirect is followed, and no answer is read beyond a size."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx2

from sacpo_exp.evaluation.judges.credentials import is_loopback
from sacpo_exp.evaluation.judges.replies import BadBodyError

#: Bytes of one answer, and of a file with the answers of a batch: 50,000 of 10,000 bytes.
MOST_OF_ANSWER, MOST_OF_BATCH = 16 * 2**20, 500_000_000


def connection_settings(url: str, hook: Any) -> dict[str, Any]:
    """Arguments of openai's HTTP clients; `hook` is called with each response before its body is read."""
    return {
        "follow_redirects": False,  # the texts, and to the same host the key, would go wherever a server says
        "trust_env": not (url.startswith("http:") and is_loopback(url)),  # past a proxy
        "headers": {"Accept-Encoding": "identity"},  # a small compressed body can be a huge one
        "event_hooks": {"response": [hook]},
    }


def limit_file(response: httpx2.Response) -> None:
    """Have the body read up to `MOST_OF_BATCH`."""
    _limit(response, MOST_OF_BATCH)


async def limit_answer(response: httpx2.Response) -> None:
    """Have the body read up to `MOST_OF_ANSWER`."""
    _limit(response, MOST_OF_ANSWER)


def _limit(response: httpx2.Response, most: int) -> None:
    if (encoding := response.headers.get("content-encoding", "identity")) != "identity":
        raise BadBodyError(f"{encoding[:20]!r} encoding, which was not asked for")
    response.stream = _LimitedStream(response.stream, most)


class _LimitedStream(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    def __init__(self, stream: Any, most: int) -> None:
        self._stream, self._most, self._size = stream, most, 0

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._stream:
            yield self._count(chunk)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._stream:
            yield self._count(chunk)

    def _count(self, chunk: bytes) -> bytes:
        self._size += len(chunk)
        if self._size > self._most:
            raise BadBodyError(f"more than {self._most:,} bytes")
        return chunk

    def close(self) -> None:
        self._stream.close()

    async def aclose(self) -> None:
        await self._stream.aclose()
