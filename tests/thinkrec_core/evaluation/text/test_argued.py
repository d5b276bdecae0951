"""The verdict that reasons argue for."""

from __future__ import annotations

import pytest

from thinkrec_core.evaluation.text.argued import argued_verdict


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("The user will like this film.", "yes"),
        ("The user would probably enjoy it.", "yes"),
        ("The user will not like it.", "no"),
        ("They won't really enjoy it.", "no"),
        ("They wouldn’t hate it.", "yes"),
        ("The user is unlikely to enjoy it.", "no"),
        ("The user is not likely to enjoy it.", "no"),
        ("The user is likely to enjoy it.", "yes"),
        ("The user might dislike it.", "no"),
        ("He will never love it.", "no"),
        ("At first one would say Yes. But the user disliked drama. So the answer is No.", "no"),
        ("No drama was liked. The user would like this comedy.", "yes"),
        ("The user liked comedies and disliked dramas.", None),
        ("", None),
        ("It is known that Novel readers know novels.", None),
        ("The user liked No Country for Old Men (2007).", None),
        ('He said "Yes, Minister" is good.', None),
    ],
)
def test_the_last_sentence_with_a_verdict_counts(text: str, verdict: str | None) -> None:
    assert argued_verdict(text, ["No Country for Old Men (2007)"]) == verdict
