"""The terms that a reader may not know, explained where they are used first and in a list at the end."""

from __future__ import annotations

import re

from markupsafe import Markup, escape

from wstrack.messages import printable

__all__ = ["TERMS", "Glossary", "anchor"]

TERMS = {
    "95 % interval": "The range in which the true value lies 95 times out of 100, if what was assumed holds.",
    "adjusted Rand index": "How far two ways to divide the same layers agree: 1 = alike, 0 = no more than by chance.",
    "agreement": "How far two ways to divide the same layers agree, as an adjusted Rand index: 1 = alike, 0 = chance.",
    "cluster": "Layers whose curves are more like each other than like those of other layers.",
    "component": "A direction in which the layers' curves differ most; a curve becomes a point on two of them.",
    "data without clusters": "Points drawn at random from one cloud of the same shape. What a method finds there is "
    "chance; only what stands out from it counts.",
    "did not move": "The share of a layer's parts that did not change at all in a sample, the mean over the samples.",
    "false discovery rate": "The share of chance hits among all that is called different.",
    "gap": "How much tighter the clusters are than those in evenly spread points, and the error of that.",
    "Gini coefficient": "How unequal the parts' mean changes are: 0 = all alike, 1 = one part has all of the change.",
    "inertia": "The sum of the layers' squared distances to the middle of their cluster; it falls as k rises.",
    "Jaccard index": "Of the layers that are in either of two clusters, the share that is in both: 1 = the same.",
    "late / early": "The median of the last third of the samples over that of the first: 0.5 = fell to half.",
    "median": "The value in the middle: half are smaller, half are larger.",
    "never moved": "How many of a layer's parts did not change in any sample.",
    "noise": "Layers that the method puts in no cluster.",
    "null": "What the same procedure gives on data without clusters.",
    "p": "How often chance alone would give as much or more; below 0.05 it is usually called more than chance.",
    "phase": "A stretch of the training between two steps at which the courses of the layers break off.",
    "rank correlation": "Whether two things rise together, whatever their shape: 1 = always, 0 = not at all, −1 = one "
    "falls as the other rises.",
    "separation": "How far the clusters are from each other, in standard deviations within them.",
    "silhouette": "How much nearer a layer is to its own cluster than to the next: 1 = far apart, 0 = on the border.",
    "standard deviation": "How far values usually lie from their mean.",
    "stays": "The share of resamplings in which a layer stays with its cluster.",
}
_FORMS = {term.lower(): term for term in TERMS} | {f"{term.lower()}s": term for term in TERMS}
_COLUMNS = {"gap", "null", "p", "stays"}  # in a sentence these words may mean something else
# A lone letter is a term only before its value; nothing is one inside a name such as `gap.median`.
_WORDS = "|".join(re.escape(form) for form in sorted(_FORMS, key=len, reverse=True) if _FORMS[form] not in _COLUMNS)
_USED = re.compile(rf"(?<![\w./-])(?:p(?= (?:=|&lt;))|{_WORDS})(?![\w/-]|\.\w)", re.IGNORECASE)


class Glossary:
    """Links each term to its explanation where it comes up first; `used` is what came up."""

    def __init__(self) -> None:
        self.used: set[str] = set()

    def explained(self) -> list[tuple[str, str]]:
        """What came up, by the alphabet, with its explanation."""
        return [(term, words) for term, words in TERMS.items() if term in self.used]

    def explain(self, text: str) -> Markup:
        """`text`, escaped, with the terms in it linked that were not yet."""
        return Markup(_USED.sub(self._first, str(escape(printable(text)))))  # noqa: S704 - escaped in the same expression

    def term(self, word: str) -> Markup:
        """`word`, which is a term as a whole."""
        return Markup(self._link(word)) if _FORMS[word.lower()] not in self.used else escape(word)  # noqa: S704

    def _first(self, found: re.Match[str]) -> str:
        return found[0] if _FORMS[found[0].lower()] in self.used else self._link(found[0])

    def _link(self, word: str) -> str:
        term = _FORMS[word.lower()]
        self.used.add(term)
        return Markup('<a class="term" href="#{}" title="{}">{}</a>').format(anchor(term), TERMS[term], word)


def anchor(term: str) -> str:
    """Where the explanation of `term` stands, as the end of an address."""
    return "term-" + re.sub(r"\W+", "-", term.lower())
