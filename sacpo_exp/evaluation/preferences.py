"""Log-probabilities of held-out preference pairs under policies: what preference accuracy is computed from.

It needs no judge, and says what a policy has learned of the labels; the share of pairs whose chosen completion gains
more on the baseline than the rejected one (`statistics.preferences`).
"""

import functools
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sacpo_exp.config.hardware import attention_of
from sacpo_exp.config.schema import EvalConfig, RunConfig
from sacpo_exp.config.stages import evaluated_criteria
from sacpo_exp.data.preparation import PROMPTS, hash_prompt, with_lengths
from sacpo_exp.data.sources import read_view
from sacpo_exp.data.tokenising import Tokens
from sacpo_exp.errors import DataError
from sacpo_exp.evaluation.records import write_records
from sacpo_exp.evaluation.responding import device, policy_labels, read_completions
from sacpo_exp.method.criteria import Criterion
from sacpo_exp.pipeline import Run, locate, prepare
from sacpo_exp.plan import StageData, plan_pairs, policy_of_spec
from sacpo_exp.store import ArtifactSpec, content_hash

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel

log = logging.getLogger(__name__)

PAIRS = "pairs.jsonl"
NAMES = ("chosen", "rejected")
#: Share of held-out pairs whose prompts may be among those trained on.
MAX_SEEN = 0.5


def score_preferences(run: Run, config: EvalConfig) -> list[Path]:
    """Return the folders with scored pairs of the evaluated policies, of the baseline, and of what stages started from.

    A criterion for which the data have no pairs is left out, with a line that says why.

    Raises:
        DataError: more than `MAX_SEEN` of the pairs have prompts that a policy was trained on.
    """
    rows, usable = config.heldout_pairs, []
    if not (planned := plan_criteria(run, config)):
        return []
    policies = [spec for spec in scored_policies(run) if shares_tokenizer(run, spec)]
    for criterion, pairs in planned:
        if not all(run.store.is_available(preferences_artifact(spec, criterion, pairs, rows)) for spec in policies):
            try:
                prepare(run, pairs)
            except DataError as error:
                log.warning("no preference accuracy for %s: %s", criterion.name, error)
                continue
        usable.append((criterion, pairs))
    folders = []
    for spec in policies:
        scorer = PairScorer(functools.cache(functools.partial(_load, run, spec)))
        folders += [score_pairs(run, spec, criterion, pairs, rows, scorer) for criterion, pairs in usable]
    return folders


def list_preferences(run: Run, config: EvalConfig) -> Iterator[ArtifactSpec]:
    """Yield what `score_preferences` makes, for a plan."""
    for criterion, pairs in plan_criteria(run, config):
        yield from (preferences_artifact(spec, criterion, pairs, config.heldout_pairs) for spec in scored_policies(run))


def plan_criteria(run: Run, config: EvalConfig) -> list[tuple[Criterion, StageData]]:
    """Return the evaluated criteria with the pairs by which policies are scored; none with `heldout_pairs=0`."""
    criteria = evaluated_criteria(config) if config.heldout_pairs else []
    return [(criterion, plan_pairs(config, criterion, run.plan.model, run.fingerprints)) for criterion in criteria]


def shares_tokenizer(run: Run, policy: ArtifactSpec) -> bool:
    """Return whether a policy reads and writes the baseline's tokens; a model made elsewhere may have other ones."""
    if policy.id not in run.plan.others:
        return True
    from sacpo_exp.training.models import load_tokenizer

    own, other = (
        load_tokenizer(locate(run, spec), run.config.model.chat_template).get_vocab()
        for spec in (run.plan.model, policy)
    )
    if own != other:
        log.warning("no preference accuracy and no KL for %s: its tokenizer is not the baseline's", policy.id)
    return bool(own == other)


def scored_policies(run: Run) -> list[ArtifactSpec]:
    """Return the baseline, the evaluated policies, and the references of their stages, by which they are calibrated."""
    policies = [run.plan.policies["baseline"]]
    for spec in run.plan.selected(run.config.policies).values():
        policies += [stage.parent for stage in run.plan.stages if stage.artifact == spec and stage.config.criterion]
        policies.append(spec)
    return list({spec.id: spec for spec in policies}.values())


def preferences_artifact(policy: ArtifactSpec, criterion: Criterion, pairs: StageData, rows: int) -> ArtifactSpec:
    """Return the artifact of at most `rows` held-out pairs, scored by a policy in float32."""
    labels = policy_labels(policy) | {"criterion": criterion.name, "dataset": pairs.dataset.name}
    slug = f"{policy.slug}.{pairs.dataset.name}.{criterion.name}"
    return ArtifactSpec("preference", slug, {"rows": rows}, (policy.id, pairs.data.id), labels)


def score_pairs(
    run: Run,
    policy: ArtifactSpec,
    criterion: Criterion,
    pairs: StageData,
    rows: int,
    scorer: "PairScorer",
) -> Path:
    """Return the folder with the log-probabilities of held-out pairs under a policy; compute them if needed."""

    def build(folder: Path) -> dict[str, Any]:
        heldout = read_view(prepare(run, pairs), "heldout")
        if len(heldout) > rows:
            heldout = heldout.shuffle(seed=0).select(range(rows))  # the same for every policy
        prompts, trained = [hash_prompt(prompt) for prompt in heldout["prompt"]], find_trained_prompts(run, policy)
        seen = [prompt in trained for prompt in prompts]
        if sum(seen) > MAX_SEEN * len(seen):
            raise DataError(
                f"{sum(seen)} of {len(seen)} held-out pairs of `dataset={pairs.dataset.name}` have prompts that "
                f"{policy.id} was trained on. Try: dataset.heldout_path=FILE with other prompts"
            )
        log.info("scores   %d pairs for %s with %s", len(prompts), criterion.name, policy.id)
        config = with_lengths(run.config, run.store.manifest(pairs.data).metrics)
        scores, counts = scorer.score(config, heldout)
        # Hashes of both completions, by which pairs that criteria rank differently are found.
        texts = zip(*([content_hash(text)[:16] for text in heldout[name]] for name in NAMES), strict=True)
        records = [
            {
                "prompt": prompt,
                "seen": was_seen,
                **dict(zip(NAMES, each, strict=True)),
                "tokens": count,
                "texts": hashes,
            }
            for prompt, was_seen, each, count, hashes in zip(prompts, seen, scores, counts, texts, strict=True)
        ]
        write_records(folder / PAIRS, records)
        return {"n": len(records), "seen": sum(seen)}

    return run.store.get_or_build(preferences_artifact(policy, criterion, pairs, rows), build)


def find_trained_prompts(run: Run, policy: ArtifactSpec) -> set[str]:
    """Return hashes of the prompts that the stages of a policy of the plan read."""
    lineage = policy_of_spec(policy)
    ids = {each.id for each in (*lineage.ancestors, lineage)}
    views = {stage.data.id: stage for stage in run.plan.stages if stage.artifact.id in ids}
    return {line for stage in views.values() for line in (prepare(run, stage) / PROMPTS).read_text("utf-8").split()}


def _load(run: Run, policy: ArtifactSpec) -> "PreTrainedModel":
    from sacpo_exp.training.models import load_policy

    return load_policy(
        locate(run, policy), "float32", device(run), attention_of(run.config.hardware.attention, is_short=False)
    )


class PairScorer:
    """Scores pairs with one policy, which is loaded when it is needed, and each pair of completions only once.

    Criteria often rank the same two responses.
    """

    def __init__(self, load: "Callable[[], PreTrainedModel]") -> None:
        self._load = load
        self._known: dict[tuple[bytes, bytes], float] = {}

    def score(self, config: RunConfig, heldout: "Dataset") -> tuple[list[list[float]], list[list[int]]]:
        """Return log-probabilities and numbers of tokens of both completions of each pair, cut as in training."""
        tokens, most = [], config.optimization.max_length
        for row in heldout.select_columns(["prompt_ids", *(f"{name}_ids" for name in NAMES)]):
            prompt = np.asarray(row["prompt_ids"], np.int32)
            tokens += [Tokens(prompt, np.asarray(row[f"{name}_ids"], np.int32)[: most - len(prompt)]) for name in NAMES]
        keys = [(each.prompt.tobytes(), each.completion.tobytes()) for each in tokens]
        firsts = [i for i in range(0, len(keys), 2) if not self._known.keys() >= {keys[i], keys[i + 1]}]
        if missing := [i + side for i in firsts for side in (0, 1)]:
            size = 2 * config.hardware.per_device_eval_batch_size
            scores = score_completions(self._load(), [tokens[i] for i in missing], size)
            self._known |= zip([keys[i] for i in missing], scores, strict=True)
        counts = [len(each.completion) for each in tokens]
        return np.reshape([self._known[key] for key in keys], (-1, 2)).tolist(), np.reshape(counts, (-1, 2)).tolist()


def score_completions(weights: Any, tokens: Sequence[Tokens], size: int) -> list[float]:
    """Return the log-probability of each completion, its end mark included if it has one; `size` share a pass."""
    import torch

    def add_up(index: int, logits: torch.Tensor) -> float:
        said = torch.as_tensor(tokens[index].completion, device=logits.device).long()
        return float((logits.gather(-1, said[:, None])[:, 0] - logits.logsumexp(-1)).double().sum())

    return read_completions(weights, tokens, size, add_up)
