"""How long the stages of a plan will take, from what is known of their data before it is read."""

from sacpo_exp.config.data import DataSchema
from sacpo_exp.config.stages import loss_of
from sacpo_exp.data.forms import CONVERTERS
from sacpo_exp.data.preferences import Row, make_view
from sacpo_exp.data.preparation import COMPLETIONS
from sacpo_exp.data.sources import load_parts
from sacpo_exp.evaluation.judges.costs import CHARACTERS_PER_TOKEN
from sacpo_exp.method.losses import View
from sacpo_exp.pipeline import Run, is_at_hand
from sacpo_exp.plan import Stage
from sacpo_exp.reporting.compute_plan import Reading, count_active, count_operations, device_hours

PER_PAIR = 2
#: Schemas of whose pairs supervised fine-tuning reads the chosen one.
PAIRS = [schema for schema, (form, _) in CONVERTERS.items() if form == DataSchema.pairs]


def estimate_hours(run: Run, stage: Stage) -> float | None:
    """GPU hours of a stage; None where data, model or throughput are not known."""
    hardware, parameters = run.config.hardware, count_active(run.config.model)
    if parameters is None or hardware.peak_tflops is None or hardware.utilisation is None:
        return None
    reading = measure(run, stage)
    if reading is None:
        return None
    operations = count_operations(stage.config, reading, parameters, hardware.activation_checkpointing)
    return device_hours(operations, hardware.peak_tflops, hardware.utilisation)


def measure(run: Run, stage: Stage) -> Reading | None:
    """What a stage reads per epoch: counted where its data are prepared or at hand, else from `dataset.size`."""
    if run.store.has(stage.data):
        stored = run.store.manifest(stage.data).metrics["train"]
        tokens = stored["prompt_tokens"]["mean"] + stored["completion_tokens"]["mean"]
        return Reading(stored["examples"] * _dialogues(stage), _cut(run, tokens))
    if is_at_hand(run, stage):
        train = load_parts(stage.dataset)[0]["train"]
        rows = make_view(train, loss_of(stage.config).view, stage.config.criterion, stage.dataset.only_mixed_pairs)
        tokens = sum(map(_count_characters, rows)) / (len(rows) * _dialogues(stage)) / CHARACTERS_PER_TOKEN
        return Reading(len(rows) * _dialogues(stage), _cut(run, tokens))
    return _foresee(run, stage)


def _foresee(run: Run, stage: Stage) -> Reading | None:
    dataset, size = stage.dataset, stage.dataset.size
    if size is None:
        return None
    rows = min(size.rows, dataset.max_rows or size.rows)
    is_chosen_only = dataset.schema in PAIRS and loss_of(stage.config).view == View.responses
    per_row = 1 if is_chosen_only or dataset.schema == DataSchema.unpaired else PER_PAIR
    return Reading(rows * per_row, _cut(run, size.prompt_tokens + size.completion_tokens))


def _dialogues(stage: Stage) -> int:
    """How many dialogues an example of the stage's view is."""
    return loss_of(stage.config).sequences


def _cut(run: Run, tokens: float) -> float:
    return min(tokens, float(run.config.optimization.max_length))


def _count_characters(row: Row) -> int:
    """Of all dialogues of an example, each with the prompt."""
    said = [row[name] for name in COMPLETIONS if name in row]
    return sum(len(message["content"]) for messages in said for message in (*row["prompt"], *messages))
