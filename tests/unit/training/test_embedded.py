"""The tokenizer of a model from scratch, on a text that nobody expects."""

import pytest

from sacpo_exp.training.embedded import train_tokenizer


@pytest.mark.parametrize("word", ["a" * 1_000_000, " " * 1_000_000, "!?" * 500_000], ids=["letters", "spaces", "marks"])
def test_a_tokenizer_is_trained_on_a_word_of_a_megabyte(word: str) -> None:
    tokenizer = train_tokenizer(["What is it?", f"why{word}"], 300, 256)
    assert tokenizer.decode(tokenizer("What is it?", add_special_tokens=False)["input_ids"]) == "What is it?"
