"""Mutations of files: bytes, lines and tokens of text, nodes of JSON, and members of archives with their checksums mended."""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from random import Random
from typing import Any

_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**53, 2**63 - 1, 2**64 - 1)
_TOKENS = (
    *(
        "null",
        "true",
        "NaN",
        "Infinity",
        "-1",
        "0",
        "1e999",
        "9" * 30,
        "[]",
        "{}",
        '""',
        "'",
        '"',
        ":",
        "-",
        ",",
        ";",
        "%",
    ),
    *("../../outside", "/etc/passwd", "~/x", "\x00", "\ud7ff", "é", "!!python/object:os.system", "&a [*a]", "|", "\t"),
    *(
        "module:function",
        "digits/rotate:45",
        "timm:resnet18",
        "hub:a/b:c",
        "npz:x.npz",
        "folder:.",
        "{" * 500,
        "[" * 2000,
    ),
)
_VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 2**31, 2**63, 1e308, float("nan"), "", "x", "../../outside", "/etc/passwd", [], {}, [[]]),
    *([1, 2, 3], {"a": 1}, "9" * 400, [None] * 50, {"": {"": {}}}),
)

Mutation = Callable[[bytes, Random], bytes]


def some_of(*mutations: Mutation) -> Mutation:
    """A mutation that applies one of these, and sometimes several in turn."""

    def mutate(content: bytes, draw: Random) -> bytes:
        for _ in range(draw.choice((1, 1, 1, 2, 3))):
            content = draw.choice(mutations)(content, draw)
        return content

    return mutate


def in_bytes(content: bytes, draw: Random) -> bytes:
    """Change a few bytes, or cut, repeat, insert or move a piece."""
    data = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 4, 16))):
        at, length = draw.randrange(len(data) + 1), draw.choice((1, 2, 4, 16, 256))
        match draw.randrange(7):
            case 0 if data:
                data[at % len(data)] ^= 1 << draw.randrange(8)
            case 1:
                size = draw.choice((1, 2, 4, 8))
                number = draw.choice(_NUMBERS) % 2 ** (8 * size)
                data[at : at + size] = number.to_bytes(size, draw.choice(("little", "big")))
            case 2:
                del data[at : at + length]
            case 3:
                data[at:at] = data[at : at + length]
            case 4:
                data[at:at] = draw.randbytes(length)
            case 5:
                del data[at:]
            case 6:
                piece = data[at : at + length]
                del data[at : at + length]
                to = draw.randrange(len(data) + 1)
                data[to:to] = piece
    return bytes(data)


def in_text(content: bytes, draw: Random) -> bytes:
    """Replace a word by another of the text or by an awkward one, or remove, repeat or indent a line."""
    text = content.decode("utf-8", errors="replace")
    lines = text.split("\n")
    at = draw.randrange(len(lines))
    match draw.randrange(5):
        case 0:
            del lines[at]
        case 1:
            lines.insert(draw.randrange(len(lines) + 1), lines[at])
        case 2:
            lines[at] = " " * draw.randrange(5) + lines[at].lstrip()
        case _:
            words = lines[at].replace(",", " ").replace(":", " ").split()
            others = [*_TOKENS, *text[: 10**4].split()]
            if words:
                lines[at] = lines[at].replace(draw.choice(words), draw.choice(others), 1)
    return "\n".join(lines).encode("utf-8", errors="surrogatepass")


def in_json(content: bytes, draw: Random) -> bytes:
    """Replace, remove or rename a node of a JSON document, or of one line where each line is one."""
    lines = content.split(b"\n")
    filled = [i for i, line in enumerate(lines) if line.strip()]
    try:
        return _dumped(_changed(json.loads(content), draw))
    except (ValueError, RecursionError):
        pass
    try:
        at = draw.choice(filled)
        lines[at] = _dumped(_changed(json.loads(lines[at]), draw))
        return b"\n".join(lines)
    except (ValueError, IndexError, RecursionError):
        return in_bytes(content, draw)


def in_zip(content: bytes, draw: Random) -> bytes:
    """Mutate a member of a zip archive, and store all members with right checksums."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        OSError,
        ValueError,
        NotImplementedError,
        RuntimeError,
        OverflowError,
        struct.error,
    ):
        return in_bytes(content, draw)
    if not members:
        return in_bytes(content, draw)
    pickles = [i for i, (name, _) in enumerate(members) if name.endswith(".pkl")]
    at = draw.choice(pickles) if pickles and draw.random() < 0.7 else draw.randrange(len(members))
    members[at] = (members[at][0], in_bytes(members[at][1], draw))
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, body in members:
            archive.writestr(name, body)
    return made.getvalue()


def in_png(content: bytes, draw: Random) -> bytes:
    """Mutate a chunk of a PNG file, and mend its length and checksum."""
    chunks, at = [], 8
    while at + 12 <= len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += 12 + length
    if not chunks:
        return in_bytes(content, draw)
    which = draw.randrange(len(chunks))
    kind, body = chunks[which]
    chunks[which] = (kind, in_bytes(body, draw))
    parts = [struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in chunks]
    return content[:8] + b"".join(parts)


def in_header(content: bytes, draw: Random) -> bytes:
    """Mutate the JSON header of a safetensors file, and mend the header's length."""
    size = int.from_bytes(content[:8], "little")
    if not 0 < size <= len(content) - 8:
        return in_bytes(content, draw)
    header = draw.choice((in_json, in_bytes))(content[8 : 8 + size], draw)
    return len(header).to_bytes(8, "little") + header + content[8 + size :]


def _dumped(content: Any) -> bytes:
    return json.dumps(content).encode()


def _changed(content: Any, draw: Random) -> Any:
    """The content with one node changed."""
    if not isinstance(content, (dict, list)) or not content or draw.random() < 0.1:
        return draw.choice(_VALUES)
    if isinstance(content, list):
        at = draw.randrange(len(content))
        return [*content[:at], _changed(content[at], draw), *content[at + 1 :]]
    key = draw.choice(list(content))
    match draw.randrange(8):
        case 0:
            return {name: value for name, value in content.items() if name != key}
        case 1:
            return {f"{name}x" if name == key else name: value for name, value in content.items()}
        case _:
            return {**content, key: _changed(content[key], draw)}
