"""Cut a stream of bytes into lines, fast and in constant memory."""

from collections.abc import Callable, Iterator

LINE_CAP = 16 * 2**20
BLOCK = 2**18

RawLine = tuple[int, int, int, bytes | None]
"""Line number from 1, its first byte, the first byte after it, and its bytes without the newline (None: over the cap).

A plain tuple, not a class: a million of them are made a second.
"""


def split_lines(
    read: Callable[[int], bytes], *, offset: int = 0, line: int = 0, cap: int = LINE_CAP
) -> Iterator[RawLine]:
    r"""Lines of what ``read(size)`` gives, at most that much at a time, until it gives nothing.

    ``line`` lines and ``offset`` bytes came before.
    Only ``\n`` ends a line: U+2028 and the like are data, and a ``\r`` stays on its line. The last needs no newline.
    A line over the cap is skipped without being kept, and told with None in place of its bytes.
    """
    held: list[bytes] = []  # the pieces of a line whose end is still to come; emptied once they pass the cap
    size = 0  # bytes of that line so far, kept or not
    block_size = min(BLOCK, cap)  # so a line that begins and ends in one block is never over the cap
    while block := read(block_size):
        pieces = block.split(b"\n")
        last = pieces.pop()
        if pieces and size:
            line += 1
            size += len(pieces[0])
            held.append(pieces[0])
            yield line, offset, offset + size + 1, b"".join(held) if size <= cap else None
            offset += size + 1
            held.clear()
            size = 0
            del pieces[0]
        for raw in pieces:
            line += 1
            end = offset + len(raw) + 1
            yield line, offset, end, raw
            offset = end
        size += len(last)
        if size <= cap:
            held.append(last)
        else:
            held.clear()
    if size:
        yield line + 1, offset, offset + size, b"".join(held) if size <= cap else None
