"""Which catalogue titles a text names, and which of them it may name."""

from __future__ import annotations

import pytest

from thinkrec_core.evaluation.text.titles import TitleIndex

TITLES = [
    "",
    "Fargo (1996)",
    "Usual Suspects, The (1995)",
    "Heat (1995)",
    "City of Lost Children, The (Cité des enfants perdus, La) (1995)",
    "As Good As It Gets (1997)",
    "Game, The (1997)",
    "Sabrina (1954)",
    "Sabrina (1995)",
    "Star Wars (1977)",
    "Star Wars: Return of the Jedi (1983)",
    "2001: A Space Odyssey (1968)",
    "七人の侍",
]
INDEX = TitleIndex(TITLES)


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ('The user liked "Fargo (1996)" and "Heat".', [{1}, {3}]),
        ("They liked Fargo (1996) a lot.", [{1}]),
        ("The Usual Suspects is close; so is Usual Suspects, The (1995).", [{2}, {2}]),
        ("like usual suspects everywhere", []),
        ("heat, Heat and the heat", []),
        ("it was as good as it gets", []),
        ("As Good As It Gets was liked", [{5}]),
        ("The game was fun. The Game was not.", [{6}]),
        ('Sabrina is old, "Sabrina" may be both, Sabrina (1995) is one.', [{7, 8}, {8}]),
        ("Star Wars: Return of the Jedi and Star Wars", [{10}, {9}]),
        ("2001: A Space Odyssey", [{11}]),
        ("The City of Lost Children (1995)", [{4}]),
        ("彼は「七人の侍」 or “七人の侍” liked", [{12}]),
        ("", []),
    ],
)
def test_named_titles(text: str, items: list[set[int]]) -> None:
    assert [set(mention.items) for mention in INDEX.named(text).mentions] == items


def test_a_title_is_grounded_if_one_of_its_items_is_known() -> None:
    named = INDEX.named('Close to "Sabrina", to "Fargo" and to "Heat".')
    assert named.ungrounded({8, 1}) == ("Heat",)
    assert named.ungrounded({1, 3, 7}) == ()
    assert named.ungrounded(frozenset()) == ("Sabrina", "Fargo", "Heat")


def test_quoted_passages_that_no_title_explains() -> None:
    named = INDEX.named('He liked "The Long Winter (1999)", said "it was nice", and "Fans of Star Wars" agreed.')
    assert named.unknown == ("The Long Winter (1999)",)
    assert [set(mention.items) for mention in named.mentions] == [{9}]


def test_every_title_is_found_as_it_stands() -> None:
    for item, title in enumerate(TITLES[1:], start=1):
        assert [item] == [i for mention in INDEX.named(f'"{title}"').mentions for i in mention.items]
