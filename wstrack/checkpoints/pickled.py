"""What a pickle says, without doing it: a tree of plain values, and of what it would make by which class.

A pickle is a program, and to run it is to trust whoever wrote it. Here its instructions are only read (by `pickletools`
of the standard library), those that make plain values are followed, and a class that it names stays a name.
"""

from __future__ import annotations

import io
import pickletools
import re
from dataclasses import dataclass, field

__all__ = ["Made", "Named", "read_pickle"]


class Named(str):
    """The full name of a class or function that a pickle refers to."""

    __slots__ = ()


@dataclass(eq=False, slots=True)
class Made:
    """What a pickle would make.

    Attributes:
        by: the name of the class or function; "" for what lies outside of the pickle.
        arguments: that it is given.
        state: that is set afterwards.
        items: that are put into it, where it is a mapping.
    """

    by: str
    arguments: tuple[object, ...] = ()
    state: object = None
    items: dict[object, object] = field(default_factory=dict)


_OPCODES = {ord(opcode.code): opcode for opcode in pickletools.opcodes}
_MEMOIZE, _BINGET, _LONG_BINGET, _BYTE, _SHORT_TEXT, _STOP = b"\x94hjK\x8c."
_VALUES = {
    "BININT", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "BINUNICODE8", "INT", "LONG", "FLOAT", "UNICODE",
}  # fmt: skip
_CONSTANTS = {ord("N"): None, 0x88: True, 0x89: False, ord(")"): ()}
_TUPLES = {0x85: 1, 0x86: 2, 0x87: 3}  # of so many values


def read_pickle(data: bytes, known: re.Pattern[str]) -> object:
    """What a pickle says.

    Args:
        data: the pickle.
        known: the full names of classes and functions that it may refer to.

    Raises:
        ValueError: it is damaged, or holds anything else.

    Example:
        >>> import pickle, torch
        >>> said = read_pickle(pickle.dumps({"at": torch.Size([3, 4])}), re.compile("torch.Size"))
        >>> said["at"].by, said["at"].arguments
        ('torch.Size', ((3, 4),))
        >>> read_pickle(pickle.dumps(print), re.compile("torch.Size"))
        Traceback (most recent call last):
        ...
        ValueError: it refers to builtins.print
    """
    try:
        return _Reading(known).read(data)
    except (IndexError, KeyError, TypeError, AttributeError) as error:  # it takes from a stack what is not there
        raise ValueError("it is damaged") from error


class _Reading:
    """The stack and the memory of a pickle's program."""

    def __init__(self, known: re.Pattern[str]) -> None:
        self._known = known
        self._stack: list[object] = []
        self._marks: list[int] = []
        self._memory: dict[int, object] = {}

    def read(self, data: bytes) -> object:
        stack, memory, file = self._stack, self._memory, io.BytesIO(data)
        at = 0
        while True:
            code = data[at]
            at += 1
            # Nearly all that there is comes first, and is read here, because that takes half of the time.
            if code == _MEMOIZE:
                memory[len(memory)] = stack[-1]
            elif code == _BINGET:
                stack.append(memory[data[at]])
                at += 1
            elif code == _LONG_BINGET:
                stack.append(memory[int.from_bytes(data[at : at + 4], "little")])
                at += 4
            elif code == _BYTE:
                stack.append(data[at])
                at += 1
            elif code == _SHORT_TEXT:
                end = at + 1 + data[at]
                stack.append(str(data[at + 1 : end], "utf-8", "surrogatepass"))
                at = end
            elif code in _CONSTANTS:
                stack.append(_CONSTANTS[code])
            elif code in _TUPLES:
                stack[-_TUPLES[code] :] = [tuple(self._last(_TUPLES[code]))]
            elif code == _STOP:
                return stack.pop()
            else:
                name, argument = _OPCODES[code].name, None
                if (how := _OPCODES[code].arg) is not None:
                    file.seek(at)
                    argument = how.reader(file)
                    at = file.tell()
                self._follow(name, argument)

    def _follow(self, name: str, argument: object) -> None:
        stack = self._stack
        match name:
            case _ if name in _VALUES:
                stack.append(argument)
            case "BINPUT" | "LONG_BINPUT":
                self._memory[int(str(argument))] = stack[-1]
            case "MARK":
                self._marks.append(len(stack))
            case "TUPLE":
                stack.append(tuple(self._marked()))
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_DICT":
                stack.append({})
            case "APPEND":
                self._append([stack.pop()])
            case "APPENDS":
                self._append(self._marked())
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                self._set([key, value])
            case "SETITEMS":
                self._set(self._marked())
            case "GLOBAL":
                stack.append(self._named(str(argument).replace(" ", ".", 1)))
            case "STACK_GLOBAL":
                own, module = stack.pop(), stack.pop()
                stack.append(self._named(f"{module}.{own}"))
            case "NEWOBJ" | "REDUCE":
                arguments, by = stack.pop(), stack.pop()
                if not isinstance(by, Named) or not isinstance(arguments, tuple):
                    raise ValueError("it is damaged")
                stack.append(Made(by, arguments))
            case "BUILD":
                state, made = stack.pop(), stack[-1]
                if not isinstance(made, Made):
                    raise ValueError("it is damaged")
                made.state = state
            case "BINPERSID":
                stack.append(Made("", (stack.pop(),)))
            case "PROTO" | "FRAME":
                pass
            case _:
                raise ValueError(f"it holds what is not expected there ({name})")

    def _last(self, count: int) -> list[object]:
        if len(self._stack) < count:
            raise IndexError
        return self._stack[-count:]

    def _marked(self) -> list[object]:
        mark = self._marks.pop()
        items = self._stack[mark:]
        del self._stack[mark:]
        return items

    def _append(self, items: list[object]) -> None:
        into = self._stack[-1]
        if not isinstance(into, list):
            raise TypeError
        into.extend(items)

    def _set(self, items: list[object]) -> None:
        into = self._stack[-1]
        mapping = into.items if isinstance(into, Made) else into
        if not isinstance(mapping, dict) or len(items) % 2:
            raise TypeError
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str | int | Made):  # a tuple of tuples, deep enough, would end the process
                raise TypeError
            mapping[key] = value

    def _named(self, name: str) -> Named:
        if not self._known.fullmatch(name):
            raise ValueError(f"it refers to {name[:100]}")
        return Named(name)
