"""Reads which calls and storages a pickle asks for, without making any of them.

It follows the operations that torch's reader of weights knows, on a stack of names, numbers, texts and tuples. At any
other operation that reader stops with an error, and so does this one without one.
"""

from __future__ import annotations

import pickletools
from collections.abc import Iterator
from typing import IO, Any

_PUSHED = {"BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE", "SHORT_BINSTRING"}  # their argument is the value
_OPAQUE = {"NONE", "NEWTRUE", "NEWFALSE", "BINFLOAT", "EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET"}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_DROPPED = {"BUILD": 1, "APPEND": 1, "SETITEM": 2}  # values that an operation takes from the stack for good


def read_calls(file: IO[bytes]) -> Iterator[tuple[str, Any]]:
    """Yield ("call", (name, arguments)) and ("storage", reference) for those that the next pickle of a file asks for.

    Values that are not known without making them are None.

    Raises:
        ValueError, IndexError, KeyError, TypeError: the pickle is cut off or damaged.

    >>> import io, pickle
    >>> list(read_calls(io.BytesIO(pickle.dumps(bytearray(b"a"), protocol=2))))
    [('call', ('_codecs.encode', ('a', 'latin1'))), ('call', ('__builtin__.bytearray', (None,)))]
    """
    stack: list[Any] = []
    marked: list[list[Any]] = []
    memo: dict[Any, Any] = {}
    for opcode, argument, _ in pickletools.genops(file):
        name = opcode.name
        if name == "GLOBAL":
            stack.append(_Name(str(argument).replace(" ", ".")))
        elif name in _PUSHED:
            stack.append(argument)
        elif name in _OPAQUE:
            stack.append(None)
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "MARK":
            marked.append(stack)
            stack = []
        elif name in ("TUPLE", "APPENDS", "SETITEMS"):
            items, stack = tuple(stack), marked.pop()
            stack += [items] if name == "TUPLE" else []
        elif name in _TUPLES:
            count = _TUPLES[name]
            stack[len(stack) - count :] = [tuple(stack[len(stack) - count :])]
        elif name in _DROPPED:
            del stack[len(stack) - _DROPPED[name] :]
        elif name in ("REDUCE", "NEWOBJ"):
            arguments, called = stack.pop(), stack.pop()
            yield "call", (called if isinstance(called, _Name) else "", arguments)
            if called == "torch._tensor._rebuild_from_type_v2":  # It calls its first argument with its third.
                yield "call", (arguments[0], arguments[2])
            stack.append(None)
        elif name == "BINPERSID":
            yield "storage", stack.pop()
            stack.append(None)
        elif name != "PROTO":
            return


class _Name(str):
    """The dotted name of a global, told from a text of the same letters."""

    __slots__ = ()
