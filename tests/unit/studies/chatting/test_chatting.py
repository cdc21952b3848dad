"""Texts in a terminal, and on Hydra's command line."""

from hydra.core.override_parser.overrides_parser import OverridesParser

from sacpo_exp.config.loading import quote, shared_overrides
from sacpo_exp.config.schema import ChatConfig, ExportConfig
from sacpo_exp.studies.chatting import format_answer, quote_prompt


def test_nothing_moves_the_cursor() -> None:
    assert format_answer("SFT", "a\x1b[2Jb\rc\nd\x07") == "--- SFT\na [2Jb\nc\nd \n"


def test_texts_survive_hydras_grammar() -> None:
    texts = ["plain", "null", "it's", "a\\", "", "1", "a b, c", "x=1", "two\nlines", "[a]"]
    parsed = OverridesParser.create().parse_overrides([f"key={quote(text)}" for text in texts])
    assert [override.value() for override in parsed] == texts


def test_a_prompt_may_hold_whatever_means_something_to_hydra_and_training_keeps_what_it_knows() -> None:
    arguments = ["beta=0.1", "prompt=Why, {then}?", "prompt='Why?'", "prompt=null"]
    assert quote_prompt(arguments) == ["beta=0.1", "prompt='Why, {then}?'", "prompt='Why?'", "prompt=null"]
    kept = ["model=tiny", "dataset@stages.safety.dataset=local", "++stages.safety.trainer.max_steps=1"]
    assert shared_overrides(["prompt='a=b'", *kept], ChatConfig) == kept
    assert shared_overrides(["+folder=/a", *kept], ExportConfig) == kept
