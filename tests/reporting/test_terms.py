from __future__ import annotations

from wstrack.reporting.terms import TERMS, Glossary, anchor


def test_a_term_is_linked_where_it_comes_first() -> None:
    glossary = Glossary()
    text = glossary.explain("The silhouette of 3 clusters; p = 0.02. Their silhouette again.")
    assert text.count('href="#term-silhouette"') == 1
    assert ">clusters</a>" in text
    assert ">p</a> = 0.02" in text
    assert "href" not in glossary.explain("a cluster")
    assert [term for term, _ in glossary.explained()] == ["cluster", "p", "silhouette"]


def test_the_longest_term_is_the_one_meant() -> None:
    text = Glossary().explain("the adjusted Rand index of data without clusters")
    assert text.count("<a ") == 2


def test_names_are_escaped_and_hold_no_terms() -> None:
    glossary = Glossary()
    text = glossary.explain('<b title="x">silhouette</b> block.median.weight p.weight gap \x1b[31m')
    assert "<b" not in text
    assert "&lt;b title=" in text
    assert "\x1b" not in text
    assert glossary.used == {"silhouette"}


def test_a_p_below_a_limit_is_one_too() -> None:
    assert ">p</a> &lt; 0.001" in Glossary().explain("(Friedman test, p < 0.001)")


def test_a_heading_is_explained_once() -> None:
    glossary = Glossary()
    assert "href" in glossary.term("gap")
    assert glossary.term("gap") == "gap"


def test_each_term_has_a_place_of_its_own() -> None:
    assert len({anchor(term) for term in TERMS}) == len(TERMS)
    assert list(TERMS) == sorted(TERMS, key=str.lower)
