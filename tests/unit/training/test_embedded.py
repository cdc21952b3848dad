"""The tokenizer of a model from scratch, on texts that nobody expects."""

import random
import re

import pytest

from sacpo_exp.training.embedded import LONGEST_WORD, cut_words, train_tokenizer

WORDS = {
    "one letter": "a" * 300_000,
    "letters": "".join(random.Random(0).choices("abcdefgh", k=300_000)),
    "spaces": "why" + " " * 300_000,
    "marks": "what" + "!?" * 150_000,
}


@pytest.mark.parametrize("text", WORDS.values(), ids=list(WORDS))
def test_long_words_are_cut_and_nothing_is_lost(text: str) -> None:
    parts = cut_words(text)
    assert "".join(parts) == text
    assert max(len(word) for part in parts for word in re.findall(r"\w+|\s+|[^\w\s]+", part)) <= LONGEST_WORD


def test_a_tokenizer_is_trained_on_a_word_of_a_megabyte() -> None:
    text = "a" * 1_000_000
    tokenizer = train_tokenizer(["What is it?", text], 300, 256)
    assert tokenizer.decode(tokenizer("What is it?", add_special_tokens=False)["input_ids"]) == "What is it?"
