"""Names what a file is by its first bytes, where it is not a file of weights: a pointer, a web page, another format."""

from __future__ import annotations

import errno
from pathlib import Path

from popgen.errors import BadInput, BrokenFile, CannotResume, PopgenError
from popgen.first_bytes import Stray, stray

HEAD_BYTES = 512
ZIP, PICKLE = b"PK\x03\x04", b"\x80"
_RESAVE = "Load it where it was made, and save model.state_dict() as .safetensors."
# First bytes of formats that are not read: what such a file is, and what to do.
_FORMATS = (
    (b"\x89HDF\r\n", "an HDF5 file, as Keras writes it", "Load it there, and save its tensors as .safetensors."),
    (b"GGUF", "a GGUF file of quantised weights", "Use the checkpoint that it was made from."),
    (b"\x93NUMPY", "a NumPy array", "Use a file of named tensors."),
    (b"\x1f\x8b", "compressed by gzip", "Unpack it, and import what is in it."),
    (b"\xfd7zXZ", "compressed by xz", "Unpack it, and import what is in it."),
    (b"BZh", "compressed by bzip2", "Unpack it, and import what is in it."),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd", "Unpack it, and import what is in it."),
    (b"7z\xbc\xaf", "a 7-Zip archive", "Unpack it, and import what is in it."),
    (b"Rar!", "a RAR archive", "Unpack it, and import what is in it."),
    (b"PK\x05\x06", "an empty zip archive", "Download it again."),
    (b"\x89PNG", "a PNG image", "Name a file of weights."),
    (b"\xff\xd8\xff", "a JPEG image", "Name a file of weights."),
    (b"%PDF", "a PDF document", "Name a file of weights."),
    (b"\x7fELF", "a program", "Name a file of weights."),
)


def check_head(path: Path) -> bytes:
    """The first bytes of a file, after a check that it may be a checkpoint.

    Raises:
        BrokenFile: it is empty, a Git LFS pointer, a web page, or of a format that is not read.
        BadInput: its suffix says safetensors and its content PyTorch, or the other way round.
        OSError: it cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if not head:
        raise BrokenFile(f"{path} is empty (0 bytes)", "it holds nothing", "Download it again.")
    if (found := stray(head) or _json(head)) is not None:
        raise BrokenFile(f"{path} is {found.kind}, not a checkpoint", found.why, found.todo)
    for magic, kind, todo in _FORMATS:
        if head.startswith(magic):
            raise BrokenFile(f"{path} is {kind}, not a checkpoint", f"its first bytes are {magic!r}", todo)
    if head[257:262] == b"ustar":
        raise BrokenFile(f"{path} is a tar archive, not a checkpoint", "it holds files", "Unpack it, and import those.")
    is_named = path.suffix.lower() == ".safetensors"
    # A safetensors file begins with the length of its header, whose first byte is that of a pickle in one file of 32.
    header_bytes = int.from_bytes(head[:8], "little")
    has_header = head[8:9] == b"{" and header_bytes + 8 <= size
    if is_named and head.startswith((ZIP, PICKLE)) and not has_header:
        raise BadInput(f"{path} is a PyTorch file", "its name says safetensors", "Rename it to .pt.")
    if not is_named and has_header:
        raise BadInput(f"{path} is a safetensors file", "its name does not say so", "Rename it to .safetensors.")
    return head


def zip_cause(path: Path, names: list[str]) -> PopgenError | None:
    """The error for a zip archive that torch.save has not written, by the names in it; None for a checkpoint."""
    parts = {part for name in names for part in name.split("/")}
    if "constants.pkl" in parts or ("code" in parts and any(name.endswith(".py") for name in names)):
        what, why = f"{path} is a TorchScript archive", "it holds code, which is not run"
        return BrokenFile(what, why, f"Use torch.jit.load there. {_RESAVE}")
    if "data.pkl" in parts:
        return None
    shown = ", ".join(names[:4]) + (", ..." if names[4:] else "")
    if names and all(name.endswith(".npy") for name in names):
        return BrokenFile(f"{path} is an archive of NumPy arrays", f"it holds {shown}", "Save them as .safetensors.")
    if any(name.startswith("xl/") for name in names):
        what, why = f"{path} is an Excel workbook", "neither a checkpoint nor an index"
        return BrokenFile(what, why, "Save its sheet as CSV (UTF-8), and import that.")
    todo = "Unpack it, and import the files in it."
    return BrokenFile(f"{path} is a zip archive, not a checkpoint", f"it holds {shown or 'nothing'}", todo)


def os_cause(path: Path, error: OSError) -> BrokenFile:
    """The error for a file that the operating system does not let popgen read; its last line says what to do."""
    todo = {
        errno.EACCES: f"Give yourself the right to read it: chmod u+r {path}",
        errno.EPERM: f"Give yourself the right to read it: chmod u+r {path}",
        errno.EISDIR: "Name a file in it.",
        errno.ENAMETOOLONG: "Give it a shorter name.",
        errno.EMFILE: "Raise the limit of open files: ulimit -n 4096.",
        errno.EIO: "The disk or network drive reports a fault: copy the file to another one.",
        errno.ESTALE: "The network drive has lost the file: try again.",
    }.get(error.errno or 0, "Check the file and its drive, and try again.")
    return BrokenFile(f"{path} cannot be read", error.strerror or str(error), todo)


def write_cause(what: str, error: OSError) -> CannotResume:
    """The error for a folder that the operating system does not let popgen write; its last line says what to do.

    >>> print(write_cause("the zoo zoos/a", OSError(errno.ENOSPC, "No space left on device")))
    the zoo zoos/a cannot be written
    No space left on device
    Free space on its disk, then run this again.
    """
    todo = {
        errno.ENOSPC: "Free space on its disk",
        errno.EDQUOT: "Free space in your quota",
        errno.EACCES: "Give yourself the right to write it, or name another folder",
        errno.EPERM: "Give yourself the right to write it, or name another folder",
        errno.EROFS: "Name a folder on a disk that can be written",
        errno.ENOTDIR: "Name a path on which all parts are folders",
        errno.EEXIST: "Name a path on which all parts are folders",
    }.get(error.errno or 0, "Check its disk")
    return CannotResume(f"{what} cannot be written", error.strerror or str(error), f"{todo}, then run this again.")


def _json(head: bytes) -> Stray | None:
    """What to say of a JSON file; None for others."""
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not start.startswith((b"{", b"[")) or not head.isascii():
        return None
    line = start.decode("ascii").splitlines()[0]
    todo = "Name a file of weights, or *.index.json of a sharded one."
    return Stray("a JSON file", f"it begins with {line[:60]!r}", todo)
