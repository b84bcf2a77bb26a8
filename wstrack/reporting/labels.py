"""How a name from outside becomes a label, and how numbers read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from wstrack.messages import printable

__all__ = ["chance", "concise", "labels", "number", "share", "shorten", "title"]

_USUAL = 0.8  # of the names that go through a module: it tells hardly any of them apart
_WORD = re.compile(r"[^\W\d_]{3,}")


def number(value: float) -> str:
    """`value` to three significant digits.

    Example:
        >>> number(0.0123456), number(1234567.0), number(2.0), number(float("nan"))
        ('0.0123', '1.23e+06', '2', '–')
    """
    return f"{value:.3g}" if np.isfinite(value) else "–"


def chance(p: float) -> str:
    """A p-value of a table.

    Example:
        >>> chance(0.0254), chance(1e-9), chance(float("nan"))
        ('0.025', '< 0.001', '–')
    """
    return "< 0.001" if p < 0.001 else f"{p:.2g}" if np.isfinite(p) else "–"


def share(value: float) -> str:
    """A part of a whole.

    Example:
        >>> share(0.666), share(float("nan"))
        ('67 %', '–')
    """
    return f"{100 * value:.0f} %" if np.isfinite(value) else "–"


def concise(text: str, *, width: int = 120) -> str:
    """`text` with the middle left out of every word longer than `width`."""
    return re.sub(rf"\S{{{width + 1},}}", lambda word: _middle_out(word[0], width), text)


def shorten(name: str, *, width: int) -> str:
    r"""`name` as a label of one line: its middle left out if it is long, nothing in it that a renderer would obey.

    Example:
        >>> shorten("transformer.h.11.attention.query.weight", width=24)
        'transformer.…uery.weight'
        >>> shorten("two\nlines", width=24)
        'two�lines'
    """
    name = _middle_out(re.sub(r"[\n\t]", "\ufffd", printable(name)), width)
    # Delimiters of formulas would make Bokeh fetch a typesetter from the network; a word joiner inside disarms them.
    return re.sub(r"\$\$|\\[()\[\]]", lambda found: "\u2060".join(found[0]), name)


def title(names: Sequence[str], *, width: int = 120) -> str:
    """The runs by name; of many the first two, and how many more there are.

    Example:
        >>> title(["a", "b", "c", "d", "e"])
        'a, b and 3 more runs'
    """
    if len(names) <= 3:
        return shorten(", ".join(names), width=width)
    return f"{shorten(', '.join(names[:2]), width=width)} and {len(names) - 2} more runs"


def _middle_out(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width // 2]}…{text[len(text) - (width - 1) // 2 :]}"


def labels(names: Sequence[str], *, width: int = 24) -> list[str]:
    """Short labels for the layers of one model, no two alike, that keep what tells a name from the others.

    What all names begin or end with is left out. Where that is too long still, so are the modules that most names go
    through, and then the middle of words, the most common first; never a number.

    Example:
        >>> labels(["model.conv1.weight", "model.fc.weight"])
        ['conv1', 'fc']
        >>> labels([*(f"model.layers.{i}.self_attn.q_proj.weight" for i in range(9)), "lm_head.weight"])[7:]
        ['7', '8', 'lm_head']
    """
    short = _trimmed(names)
    if max(map(len, short)) > width:
        modules = Counter(part for name in short for part in set(name.split(".")))
        usual = {part for part, count in modules.items() if count >= _USUAL * len(names) and not part.isdecimal()}
        without = [".".join(part for part in name.split(".") if part not in usual) for name in short]
        times = Counter(without)
        short = [new if new and times[new] == 1 else old for old, new in zip(short, without, strict=True)]
    common = Counter(word for name in short for word in set(_WORD.findall(name)))
    found = [shorten(_abbreviated(name, width, common), width=width) for name in short]
    times = Counter(found)
    nth: Counter[str] = Counter()
    for place, label in enumerate(found):
        if times[label] > 1:
            nth[label] += 1
            number = f" ({nth[label]})"
            found[place] = shorten(label, width=width - len(number)) + number
    return found


def _trimmed(names: Sequence[str]) -> list[str]:
    """The names without the modules that all of them begin or end with."""
    first, last = min(names), max(names)
    beginning = first[: _shared(first, last)].rpartition(".")[0]
    turned = [name[::-1] for name in names]
    ending = min(turned)[: _shared(min(turned), max(turned))].rpartition(".")[0][::-1]
    beginning, ending = beginning and f"{beginning}.", ending and f".{ending}"
    return [name.removeprefix(beginning).removesuffix(ending) or name for name in names]


def _abbreviated(name: str, width: int, common: Mapping[str, int]) -> str:
    """`name` with the middle left out of as many of its words as it takes, those that most names have first."""
    words = sorted(set(_WORD.findall(name)), key=lambda word: (common[word], len(word)), reverse=True)
    for word in words:
        if len(name) <= width:
            break
        brief = _middle_out(word, max(2, len(word) - (len(name) - width)))
        name = re.sub(rf"(?<![^\W\d_]){word}(?![^\W\d_])", brief, name)
    return name


def _shared(a: str, b: str) -> int:
    """How many characters `a` and `b` begin with alike."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
