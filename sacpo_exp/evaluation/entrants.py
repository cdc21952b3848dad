"""The entrants of a contest: the policies of a plan, or responses that were made elsewhere."""

from pathlib import Path
from typing import Any

from sacpo_exp.config.schema import EvalConfig
from sacpo_exp.config.stages import evaluated_criteria, known_criteria
from sacpo_exp.data.prompts import check_kinds, fingerprint_prompts
from sacpo_exp.data.responses import ImportedResponses, align_responses, read_responses
from sacpo_exp.errors import ConfigError
from sacpo_exp.evaluation.contests import (
    RESPONSES,
    Contest,
    Entrant,
    imported_artifact,
    read_records,
    responses_artifact,
    write_records,
)
from sacpo_exp.evaluation.responding import evaluation_prompts, respond
from sacpo_exp.pipeline import Run
from sacpo_exp.store import ArtifactSpec, Manifest, Store, content_hash
from sacpo_exp.store.identity import SCHEMA_VERSION
from sacpo_exp.store.manifest import NAME
from sacpo_exp.store.store import PARTIAL


def enter_policies(run: Run) -> Contest:
    """Enter the policies of the plan that `policies` names, and the baseline; their responses are not made yet."""
    policies = {"baseline": run.plan.policies["baseline"], **run.plan.selected(run.config.policies)}
    responses = {name: responses_artifact(policy, run.config, run.fingerprints) for name, policy in policies.items()}
    entrants = tuple(Entrant(name, spec, spec.labels) for name, spec in responses.items())
    criteria = tuple(evaluated_criteria(run.config))
    prompts_id = content_hash(entrants[0].responses.recipe)
    return Contest(evaluation_prompts(run), run.config.prompts.name, prompts_id, entrants[0], entrants, criteria)


def enter_responses(run: Run, config: EvalConfig) -> Contest:
    """Enter the files and folders that `responses` names: files are stored first, stored responses taken as they are.

    Raises:
        ConfigError: a pattern fits nothing, a folder can't be used, or `baseline` names none of the responses.
        DataError: a file can't be used, or not all answer the same prompts.
    """
    entries = [_read(path, run) for path in find_responses(config.responses)]
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
    baseline, criteria = find_entrant(entrants, config.baseline), tuple(evaluated_criteria(run.config))
    return Contest(prompts, prompts_name, prompts_id, baseline, tuple(entrants), criteria)


def find_responses(patterns: list[str]) -> list[Path]:
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


def find_entrant(entrants: list[Entrant], wanted: str | None) -> Entrant:
    """Return the entrant with the name, policy or id `wanted`.

    Raises:
        ConfigError: there is none, or there are several.
    """
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
    manifest = Manifest.read(path)
    if manifest.schema != SCHEMA_VERSION:
        raise ConfigError(f"{path} was written by another version. Try: the command or file that it was made from")
    if manifest.kind != "responses":
        raise ConfigError(f"`responses` must name responses, but {path} is a {manifest.kind}.")
    is_imported = "imported" in manifest.recipe
    if not is_imported and manifest.recipe.get("prompts") != fingerprint_prompts(
        run.config.prompts, run.config.dataset
    ):
        raise ConfigError(f"{path} answers other prompts than prompts={run.config.prompts.name}. Try: prompts=...")
    run.store.check(path)
    records = read_records(path / RESPONSES)
    fields = ("prompt_id", "prompt", "kind", "category")
    own = [{name: record[name] for name in fields} for record in records] if is_imported else None
    responses = [record["response"] for record in records]
    name = manifest.labels["policy"]
    slug = manifest.id.rsplit("-", 1)[0]
    spec = ArtifactSpec("responses", slug, manifest.recipe, tuple(manifest.parents), manifest.labels)
    entrant = Entrant(name, spec, manifest.labels, path)
    return entrant, ImportedResponses(name, own or evaluation_prompts(run), responses)


def store_responses(store: Store, imported: ImportedResponses) -> Entrant:
    """Put responses made elsewhere into the store, so that they are kept whatever becomes of the file."""
    pairs = list(zip(imported.prompts, imported.responses, strict=True))
    content = []
    for prompt, response in pairs:
        # Kind and category count where the file has either: they decide for which criteria a response counts.
        known = [prompt["kind"], prompt["category"]]
        content.append([prompt["prompt_id"], prompt["prompt"], response, *(known if any(known) else [])])
    spec = imported_artifact(imported.name, sorted(content))

    def build(folder: Path) -> dict[str, Any]:
        unknown = {"n_tokens": None, "finish_reason": None}
        write_records(folder / RESPONSES, [prompt | {"response": response} | unknown for prompt, response in pairs])
        return {"n": len(pairs)}

    return Entrant(imported.name, spec, spec.labels, store.get_or_build(spec, build))


def locate_responses(run: Run, entrant: Entrant) -> Path:
    """Return the folder of an entrant's responses; a policy of the plan answers now if it has not yet."""
    return entrant.folder or respond(run, run.plan.policies[entrant.name])


def hash_answers(run: Run, contest: Contest) -> str:
    """Return a hash of the baseline's responses; it differs if they were generated again on another machine."""
    records = read_records(locate_responses(run, contest.baseline) / RESPONSES)
    return content_hash(sorted([record["prompt_id"], record["response"]] for record in records))
