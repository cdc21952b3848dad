"""Who is judged: the policies of a plan, or responses that were made elsewhere, on which prompts and criteria."""

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sacpo_exp.config.schema import EvalConfig, JudgeConfig, Matches
from sacpo_exp.config.stages import evaluated_criteria, known_criteria
from sacpo_exp.data.prompts import check_kinds, fingerprint_prompts
from sacpo_exp.data.responses import ImportedResponses, align_responses, read_responses
from sacpo_exp.errors import ConfigError
from sacpo_exp.evaluation.records import RESPONSES, read_by_prompt, read_records, store_records
from sacpo_exp.evaluation.responding import evaluation_prompts, respond, responses_artifact
from sacpo_exp.method.criteria import Criterion
from sacpo_exp.method.policy import Base
from sacpo_exp.pipeline import Run
from sacpo_exp.plan import LINEAGE
from sacpo_exp.store import ArtifactSpec, Manifest, Store, content_hash
from sacpo_exp.store.identity import SCHEMA_VERSION
from sacpo_exp.store.manifest import NAME
from sacpo_exp.store.store import PARTIAL

#: Version of the lines of `verdicts.jsonl`.
RECORD_FORMAT = 3


@dataclass(frozen=True)
class Entrant:
    """A policy that is judged by its responses.

    Attributes:
        name: `baseline`, `first`, `second` or `merged` in a plan; else what its file is called.
        responses: their artifact, whose labels are those of the policy, with `policy_id`.
        folder: of its responses; None for a policy of the plan, whose responses may still have to be generated.
    """

    name: str
    responses: ArtifactSpec
    folder: Path | None = None

    @property
    def labels(self) -> dict[str, Any]:
        return self.responses.labels


@dataclass(frozen=True)
class Contest:
    """The policies that are judged, and on which prompts and criteria.

    Attributes:
        prompts: `prompt_id`, `prompt`, and where known `kind` and `category`.
        prompts_id: hash of the prompts and of how they were answered; only policies that share it are compared.
        baseline: one of the entrants.
        entrants: in the order in which they are judged, the baseline among them.
        criteria: that are judged.
    """

    prompts: list[dict[str, Any]]
    prompts_name: str
    prompts_id: str
    baseline: Entrant
    entrants: tuple[Entrant, ...]
    criteria: tuple[Criterion, ...]

    def matches(self, which: Matches) -> list[tuple[Entrant, Entrant]]:
        """Return (policy, opponent) pairs: all against the baseline, itself too; with `all_pairs` every other pair."""
        against = [(entrant, self.baseline) for entrant in self.entrants]
        if which == Matches.baseline:
            return against
        others = [entrant for entrant in self.entrants if entrant is not self.baseline]
        return against + [(later, earlier) for earlier, later in itertools.combinations(others, 2)]


def enter_policies(run: Run) -> Contest:
    """Enter the policies of the plan that `policies` names, and the baseline; their responses are not made yet."""
    policies = {"baseline": run.plan.policies["baseline"], **run.plan.selected(run.config.policies)}
    entrants = tuple(
        Entrant(name, responses_artifact(policy, run.config, run.fingerprints)) for name, policy in policies.items()
    )
    prompts_id = content_hash(entrants[0].responses.recipe)
    criteria = tuple(evaluated_criteria(run.config))
    return Contest(evaluation_prompts(run), run.config.prompts.name, prompts_id, entrants[0], entrants, criteria)


def enter_responses(run: Run, config: EvalConfig) -> Contest:
    """Enter the files and folders that `responses` names: files are stored first, stored responses taken as they are.

    Raises:
        ConfigError: a pattern fits nothing, a folder can't be used, or `baseline` names none of the responses.
        DataError: a file can't be used, or not all answer the same prompts.
    """
    entries = [_read(path, run) for path in _find_responses(config.responses)]
    aligned = align_responses([responses for _, responses in entries])
    entrants = [
        stored or store_responses(run.store, responses) for (stored, _), responses in zip(entries, aligned, strict=True)
    ]
    prompts = [prompt | {"kind": prompt["kind"] or config.prompts.kind} for prompt in aligned[0].prompts]
    check_kinds(prompts, known_criteria(config).values())
    recipes = [content_hash(entrant.responses.recipe) for entrant in entrants]
    if all(stored for stored, _ in entries) and len(set(recipes)) == 1:  # as in `enter_policies`
        prompts_name, prompts_id = config.prompts.name, recipes[0]
    else:
        ordered = sorted(prompts, key=lambda prompt: str(prompt["prompt_id"]))
        prompts_name, prompts_id = "imported", content_hash(ordered)
    baseline, criteria = _find_entrant(entrants, config.baseline), tuple(evaluated_criteria(run.config))
    return Contest(prompts, prompts_name, prompts_id, baseline, tuple(entrants), criteria)


def _find_responses(patterns: list[str]) -> list[Path]:
    """Return the paths that the patterns fit, in order, each once."""
    found: dict[Path, None] = {}
    for text in patterns:
        pattern = Path(text).expanduser()
        paths = [pattern]
        if "*" in text:
            root = Path(pattern.anchor)
            paths = sorted(path for path in root.glob(str(pattern.relative_to(root))) if path.suffix != PARTIAL)
        if not paths:
            raise ConfigError(f"`responses` must name files or folders, but nothing fits {text}.")
        found |= dict.fromkeys(paths)
    return list(found)


def _find_entrant(entrants: list[Entrant], wanted: str | None) -> Entrant:
    """Return the only entrant with the name, policy or id `wanted`."""
    fitting = [
        entrant
        for entrant in entrants
        if wanted in (entrant.name, entrant.labels["policy"], entrant.labels["policy_id"], entrant.responses.id)
    ]
    if len(fitting) != 1:
        problem = "is null" if wanted is None else f"{wanted} fits {len(fitting)} of them"
        names = ", ".join(entrant.name for entrant in entrants)
        raise ConfigError(
            f"`baseline` must name one of the responses ({names}), but {problem}. Try: baseline={entrants[0].name}"
        )
    return fitting[0]


def _read(path: Path, run: Run) -> tuple[Entrant | None, ImportedResponses]:
    """Read a file, or a folder of the store with its entrant.

    Responses of a policy answer the prompts of this configuration; imported ones bring their own.
    """
    if not (path / NAME).is_file():
        return None, read_responses(str(path))
    manifest, prompts = Manifest.read(path), run.config.prompts
    if manifest.schema != SCHEMA_VERSION:
        raise ConfigError(f"{path} was written by another version. Try: the command or file that it was made from")
    if manifest.kind != "responses":
        raise ConfigError(f"`responses` must name responses, but {path} is a {manifest.kind}.")
    is_imported = "imported" in manifest.recipe
    if not is_imported and manifest.recipe.get("prompts") != fingerprint_prompts(prompts, run.config.dataset):
        raise ConfigError(f"{path} answers other prompts than prompts={prompts.name}. Try: prompts=...")
    run.store.check(path)
    records = read_records(path / RESPONSES)
    fields = ("prompt_id", "prompt", "kind", "category")
    own = [{name: record[name] for name in fields} for record in records] if is_imported else evaluation_prompts(run)
    name, slug = manifest.labels["policy"], manifest.id.rsplit("-", 1)[0]
    spec = ArtifactSpec("responses", slug, manifest.recipe, tuple(manifest.parents), manifest.labels)
    return Entrant(name, spec, path), ImportedResponses(name, own, [record["response"] for record in records])


def imported_artifact(name: str, content: Any) -> ArtifactSpec:
    """Return the artifact of responses made elsewhere; `content` is all of them with their prompts.

    Only the name says which policy gave them, so it is part of the recipe.
    """
    spec = ArtifactSpec("responses", name, {"imported": content_hash(content), "name": name}, (), {})
    policy = Base(spec.id, name, spec.recipe)
    labels = policy.columns | {LINEAGE: policy.to_dict(), "name": name, "policy_id": spec.id}
    return ArtifactSpec(spec.kind, spec.slug, spec.recipe, (), labels)


def store_responses(store: Store, imported: ImportedResponses) -> Entrant:
    """Put responses made elsewhere into the store, so that they are kept whatever becomes of the file."""
    pairs = list(zip(imported.prompts, imported.responses, strict=True))
    content = []
    for prompt, response in pairs:
        # Kind and category count where the file has either: they decide for which criteria a response counts.
        known = [prompt["kind"], prompt["category"]]
        content.append([prompt["prompt_id"], prompt["prompt"], response, *(known if any(known) else [])])
    spec = imported_artifact(imported.name, sorted(content))
    unknown = {"n_tokens": None, "finish_reason": None}
    records = [prompt | {"response": response} | unknown for prompt, response in pairs]
    return Entrant(imported.name, spec, store_records(store, spec, RESPONSES, lambda: records))


def read_answers(run: Run, entrant: Entrant) -> dict[str, dict[str, Any]]:
    """Return an entrant's responses by prompt id; a policy of the plan answers now if it has not yet."""
    return read_by_prompt((entrant.folder or respond(run, run.plan.policies[entrant.name])) / RESPONSES)


def hash_answers(run: Run, contest: Contest) -> str:
    """Return a hash of the baseline's responses; it differs if they were generated again on another machine."""
    answers = read_answers(run, contest.baseline)
    return content_hash(sorted([prompt_id, record["response"]] for prompt_id, record in answers.items()))


def judgments_artifact(
    contest: Contest,
    match: tuple[Entrant, Entrant],
    judge: JudgeConfig,
    judge_labels: dict[str, Any],
    recipe: dict[str, Any],
    parents: tuple[str, ...],
) -> ArtifactSpec:
    """Return the artifact of the verdicts on a policy against its opponent.

    Args:
        judge_labels: `judge_id`; `judge_key`, the same for every seed; `answers`, a hash of the baseline's responses;
            `has_zero`, the names of criteria whose score of 0 separates acceptable responses from others.
    """
    policy, opponent = match
    labels = policy.labels | judge_labels
    labels |= {
        "name": policy.name,
        "opponent_id": opponent.labels["policy_id"],
        "baseline_id": contest.baseline.labels["policy_id"],
        "judge": judge.name,
        "prompts": contest.prompts_name,
        "prompts_id": contest.prompts_id,
        "criteria": [criterion.to_judge() for criterion in contest.criteria],
    }
    versus = "" if opponent is contest.baseline else f".vs.{opponent.responses.slug}"
    # The contest is part of the identity because the labels describe it.
    of_contest = {
        "format": RECORD_FORMAT,
        "prompts": contest.prompts_id,
        "baseline": contest.baseline.responses.hash,
        "criteria": {criterion.name: sorted(criterion.prompt_kinds) for criterion in contest.criteria},
    }
    slug = f"{policy.responses.slug}{versus}.{judge.name}"
    return ArtifactSpec("judgments", slug, of_contest | recipe, parents, labels)
