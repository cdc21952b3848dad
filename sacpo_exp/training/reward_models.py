"""Load models that give a dialogue one number: sequence classification models, and Safe RLHF's score models."""

from typing import TYPE_CHECKING, Any

from sacpo_exp.config.judges import HeadForm
from sacpo_exp.errors import ConfigError
from sacpo_exp.training.models import Location, explain_unreachable, quiet_transformers

if TYPE_CHECKING:
    from transformers import PreTrainedModel

#: How a configuration of each form says how many numbers it gives.
WIDTHS = {HeadForm.sequence_classification: "num_labels", HeadForm.score_head: "score_dim"}
#: Checkpoints without a bias are written so too: it is then 0.
OPTIONAL_WEIGHTS = {"score_head.bias"}


def load_reward_model(form: HeadForm, location: Location, dtype: str, device: str, key: str) -> "PreTrainedModel":
    """A model in evaluation mode whose `logits` have shape (batch, 1); `key` names it in messages.

    Raises:
        ConfigError: there is no such model, it gives another number of scores, or it has no head of this form.
    """
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    quiet_transformers()
    auto = AutoModelForSequenceClassification if form == HeadForm.sequence_classification else _score_model_class()
    try:
        config = AutoConfig.from_pretrained(location.path, **location.arguments())
        if (width := getattr(config, WIDTHS[form], 1)) != 1:
            raise ConfigError(f"`{key}` must give one score, but {location.path} gives {width} (its {WIDTHS[form]}).")
        model, loaded = auto.from_pretrained(
            location.path,
            config=config,
            dtype=getattr(torch, dtype),
            use_safetensors=location.use_safetensors,
            output_loading_info=True,
            **location.arguments(),
        )
    except (OSError, ValueError) as error:
        raise explain_unreachable(location, error, key) from error
    # transformers fills in what a checkpoint lacks with random numbers.
    if missing := sorted(set(loaded["missing_keys"]) - OPTIONAL_WEIGHTS):
        raise ConfigError(f"`{key}` must have weights for its head, but {location.path} has no {missing[0]}.")
    return model.to(device).eval()


def _score_model_class() -> Any:
    """The form in which Safe RLHF (Dai et al. 2024) writes its reward and cost models, for reading them.

    A LLaMA body in `model.*`, a linear `score_head.*` onto one number, read at the last token. Their `normalizer.*` is
    left alone: it neither changes which of two rewards is the higher nor on which side of 0 a cost lies.
    """
    import torch
    from transformers import AutoModel, PreTrainedConfig, PreTrainedModel
    from transformers.modeling_outputs import SequenceClassifierOutput

    class ScoreModel(PreTrainedModel):  # type: ignore[misc]  # of a library without types
        base_model_prefix = "model"
        _supports_sdpa = True

        def __init__(self, config: PreTrainedConfig) -> None:
            super().__init__(config)
            self.model = AutoModel.from_config(config)
            self.score_head = torch.nn.Linear(config.hidden_size, 1)
            self.post_init()

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SequenceClassifierOutput:
            """Scores of sequences that are padded on the right."""
            states = self.model(input_ids, attention_mask=attention_mask, use_cache=False).last_hidden_state
            rows = torch.arange(len(states), device=states.device)
            return SequenceClassifierOutput(logits=self.score_head(states[rows, attention_mask.sum(1) - 1]))

    return ScoreModel
