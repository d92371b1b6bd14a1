"""What the header of an audio file states of its length, against what is there: unfinished, out of date, or cut off."""

import io
import os
from pathlib import Path
from typing import BinaryIO, TypeAlias

from trimbre.errors import UserError

Source: TypeAlias = Path | bytes
"""A file, or the content of one."""
PLACEHOLDER = 1 << 30
"""Bytes; a header that states more than this and more than there is was written without knowing the length."""
SHORT = 0.1
"""Seconds that may lack of the length that a header states."""
TAIL = 4096
"""Bytes that recorders may add to a WAV of their own, in no chunk."""
PARTS = (b"ID3", b"TAG", b"APETAGEX", b"LIST", b"id3 ", b"bext", b"JUNK", b"PAD ", b"cue ", b"smpl", b"iXML", b"_PMX")
"""What begins a tag or a chunk behind the samples, even one that is cut off itself."""


def opened(source: Source) -> BinaryIO:
    """The bytes of a file, or of its content."""
    return source.open("rb") if isinstance(source, Path) else io.BytesIO(source)


def is_wrong(source: Source, place: str) -> bool:
    """Whether there are samples behind what a header states, which libsndfile would leave out.

    Raises:
        UserError: there is less than it states, or what follows the samples of a WAV may be samples or anything else.
    """
    with opened(source) as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(0)
        head = file.read(32)
        if head[:4] in (b"RIFF", b"RF64"):
            file.seek(12)
            return _wav_is_wrong(file, end, place)
        if _begins_mp3(head):
            stated = _mp3(file, head)
            return _refuse_cut_off(stated, end, place) and end > stated + _slack(stated)
        _refuse_cut_off(_size(file, head, end), end, place)
        return False


def is_mp3(source: Source) -> bool:
    """Whether a file begins as an MP3."""
    with opened(source) as file:
        return _begins_mp3(file.read(3))


def _begins_mp3(head: bytes) -> bool:
    return head[:3] == b"ID3" or (head[:1] == b"\xff" and head[1:2] >= b"\xe0")


def refuse_short(seconds: float, stated: float, place: str) -> None:
    """Raise UserError for a file of so many seconds where its header states more."""
    if seconds < stated - SHORT:
        raise UserError(
            f"{place} is cut off: its header states {stated:.1f} s and {seconds:.1f} s are there; copy or record it "
            "again"
        )


def _refuse_cut_off(stated: int, end: int, place: str) -> bool:
    """Whether the header states a size at all; raises UserError where a file of `end` bytes has less."""
    if stated < PLACEHOLDER and stated > end + _slack(stated):
        raise UserError(
            f"{place} is cut off: its header states {stated} bytes and {end} are there; copy or record it again"
        )
    return stated > 0


def _slack(size: int) -> int:
    """Bytes by which a stated size may be wrong: a quarter of a second of a slow MP3, or a share of a long one."""
    return max(512, size // 100)


def _size(file: BinaryIO, head: bytes, end: int) -> int:
    """Bytes that an AIFF, AU, W64 or CAF should have by its header, of `end` that it has; 0 where it states none."""
    if head[:4] == b"FORM":
        return 8 + int.from_bytes(head[4:8], "big")
    if head[:4] == b".snd":
        return int.from_bytes(head[4:8], "big") + int.from_bytes(head[8:12], "big")
    if head[:4] == b"riff":
        return int.from_bytes(head[16:24], "little")
    if head[:4] == b"caff":
        file.seek(8)
        while (header := file.read(12))[11:]:
            length = int.from_bytes(header[4:], "big", signed=True)
            if header[:4] == b"data" or length > end:
                return file.tell() + length if length > 0 else 0
            file.seek(max(0, length), os.SEEK_CUR)
    return 0


def _mp3(file: BinaryIO, head: bytes) -> int:
    """Bytes that an MP3 should have by the count in its first frame (Xing, Info); 0 where it has none."""
    begin = 0
    if head[:3] == b"ID3":
        size = 0
        for byte in head[6:10]:
            size = size << 7 | byte & 0x7F
        begin = 10 + size
    file.seek(begin)
    frame = file.read(256)
    at = max(frame.find(b"Xing"), frame.find(b"Info"))
    flags = int.from_bytes(frame[at + 4 : at + 8], "big")  # 1 for a count of frames, 2 for one of bytes
    if at < 0 or not flags & 2:
        return 0
    at += 8 + 4 * (flags & 1)
    return begin + int.from_bytes(frame[at : at + 4], "big")


def _wav_is_wrong(file: BinaryIO, end: int, place: str) -> bool:
    size, rate = None, 0
    while (header := file.read(8))[4:]:
        name, length = header[:4], int.from_bytes(header[4:], "little")
        if name == b"ds64":
            sizes = file.read(length)
            size = int.from_bytes(sizes[8:16], "little")
        elif name == b"data":
            break
        elif name == b"fmt ":
            described = file.read(length + length % 2)
            rate = int.from_bytes(described[8:12], "little")
        else:
            file.seek(length + length % 2, os.SEEK_CUR)
    else:
        return False
    begin = file.tell()
    if length == 0xFFFFFFFF and size is not None:
        length = size
    rest = end - begin - length
    if rest < 0 and length < PLACEHOLDER and rate:
        refuse_short((end - begin) / rate, length / rate, place)
    if rest <= 8 or _are_chunks(file, begin + length, end):
        return False
    if not length:
        return True
    if rest > max(TAIL, SHORT * rate) and not _is_filling(file, begin + length):
        raise UserError(
            f"{place} states {length} bytes of samples and {rest} follow that are none of its parts: write its header "
            "anew (ffmpeg -ignore_length 1 -i IN OUT), or cut off what does not belong to it"
        )
    return False


def _are_chunks(file: BinaryIO, at: int, end: int) -> bool:
    """Whether what follows from a position on are the chunks of a WAV, such as LIST."""
    at += at % 2
    while at + 8 <= end:
        file.seek(at)
        header = file.read(8)
        length = int.from_bytes(header[4:], "little")
        if not all(32 <= letter < 127 for letter in header[:4]) or at + 8 + length > end:
            return False
        at += 8 + length + length % 2
    return True


def _is_filling(file: BinaryIO, at: int) -> bool:
    """Whether what follows from a position on is a tag, a chunk, or nothing but zeros."""
    file.seek(at)
    begun = file.read(1 << 16)
    if begun.startswith(PARTS):
        return True
    while begun and not any(begun):
        begun = file.read(1 << 16)
    return not begun
