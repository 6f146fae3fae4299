"""Recognises what often lies under the name of another file: a pointer of Git LFS, a web page, a file of macOS."""

from __future__ import annotations

import re
from typing import NamedTuple

APPLE_DOUBLE = b"\x00\x05\x16\x07"
_WEB_PAGE = re.compile(rb"<(!doctype|html|head|body|!--)", re.IGNORECASE)


class Stray(NamedTuple):
    """What a file is instead, a reason, and what to do."""

    kind: str
    why: str
    todo: str


def stray(head: bytes) -> Stray | None:
    """Tell by its first bytes, at least 200 where it has them, whether a file is one of these; None for all others.

    >>> stray(b"<!DOCTYPE html>").kind, stray(b"PK")
    ('a web page', None)
    """
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:200]
    if start.startswith(b"version https://git-lfs"):
        size = re.search(rb"size (\d{1,18})", head)
        why = f"the content ({int(size[1])} bytes) was not fetched" if size else "the content was not fetched"
        todo = "Run git lfs pull in its repository, or download the file itself."
        return Stray("a pointer of Git LFS", why, todo)
    if _WEB_PAGE.match(start):
        line = start.decode("ascii", "replace").splitlines()[0]
        todo = "The link led to a page (a login, a warning, an error): download the file itself."
        return Stray("a web page", f"it begins with {line[:60]!r}", todo)
    if head.startswith(APPLE_DOUBLE):
        todo = "Name the file without ._ in front."
        return Stray("an AppleDouble file, which macOS writes beside the real one", "it holds no content", todo)
    return None
