"""Who is judged: the policies of a plan, or responses that were made elsewhere."""

from pathlib import Path
from typing import Any

from sacpo_exp.config.schema import EvalConfig
from sacpo_exp.config.stages import evaluated_criteria, known_criteria
from sacpo_exp.data.prompts import check_kinds, fingerprint_prompts
from sacpo_exp.data.responses import ImportedResponses, align_responses, read_responses
from sacpo_exp.errors import ConfigError
from sacpo_exp.evaluation.contests import Contest, Entrant, imported_artifact, responses_artifact
from sacpo_exp.evaluation.records import RESPONSES, read_records, write_records
from sacpo_exp.evaluation.responding import evaluation_prompts, respond
from sacpo_exp.pipeline import Run
from sacpo_exp.store import ArtifactSpec, Manifest, Store, content_hash
from sacpo_exp.store.identity import SCHEMA_VERSION
from sacpo_exp.store.manifest import NAME
from sacpo_exp.store.store import PARTIAL


def enter_policies(run: Run) -> Contest:
    """The policies of the plan that `policies` names, and the baseline; their responses are not made yet."""
    policies = {"baseline": run.plan.policies["baseline"], **run.plan.selected(run.config.policies)}
    responses = {name: responses_artifact(policy, run.config, run.fingerprints) for name, policy in policies.items()}
    entrants = tuple(Entrant(name, spec, spec.labels) for name, spec in responses.items())
    prompts_id = content_hash(entrants[0].responses.recipe)
    return Contest(
        evaluation_prompts(run),
        run.config.prompts.name,
        prompts_id,
        entrants[0],
        entrants,
        tuple(evaluated_criteria(run.config)),
    )


def enter_responses(run: Run, config: EvalConfig) -> Contest:
    """What `responses` names: files made elsewhere are stored first, stored responses are taken as they are.

    Raises:
        ConfigError: nothing is found, or `baseline` names none of them.
        DataError: a file can't be used, or not all answer the same prompts.
    """
    entries = [_read(Path(path), run) for path in find_responses(config.responses)]
    aligned = align_responses([responses for *_, responses in entries])
    entrants = [
        _stored_entrant(stored, path) if stored else store_responses(run.store, responses)
        for (stored, path, _), responses in zip(entries, aligned, strict=True)
    ]
    prompts = [prompt | {"kind": prompt["kind"] or config.prompts.kind} for prompt in aligned[0].prompts]
    check_kinds(prompts, known_criteria(config).values())
    baseline = find_entrant(entrants, config.baseline)
    criteria = tuple(evaluated_criteria(run.config))
    recipes = [content_hash(entrant.responses.recipe) for entrant in entrants]
    if all(stored for stored, *_ in entries) and len(set(recipes)) == 1:  # as `enter_policies` has it
        return Contest(prompts, config.prompts.name, recipes[0], baseline, tuple(entrants), criteria)
    ordered = sorted(prompts, key=lambda prompt: str(prompt["prompt_id"]))
    return Contest(prompts, "imported", content_hash(ordered), baseline, tuple(entrants), criteria)


def find_responses(patterns: list[str]) -> list[str]:
    """Paths that the patterns fit, in order, each once."""
    found: dict[str, None] = {}
    for pattern in patterns:
        paths = _fill_in(Path(pattern).expanduser()) if "*" in pattern else [pattern]
        if not paths:
            raise ConfigError(f"`responses` must name files or folders, but nothing fits {pattern}.")
        found |= dict.fromkeys(paths)
    return list(found)


def _fill_in(pattern: Path) -> list[str]:
    fixed = Path(pattern.anchor)
    found = fixed.glob(str(pattern.relative_to(fixed))) if pattern.anchor else Path().glob(str(pattern))
    return sorted(str(path) for path in found if path.suffix != PARTIAL)


def find_entrant(entrants: list[Entrant], wanted: str | None) -> Entrant:
    """The one that `wanted` names, by file name, policy or id.

    Raises:
        ConfigError: it names none, or several.
    """
    fitting = [entrant for entrant in entrants if wanted in _names(entrant)]
    if len(fitting) != 1:
        said = "is null" if wanted is None else f"{wanted} fits {len(fitting)} of them"
        names = ", ".join(entrant.name for entrant in entrants)
        raise ConfigError(
            f"`baseline` must name one of the responses ({names}), but {said}. Try: baseline={entrants[0].name}"
        )
    return fitting[0]


def _names(entrant: Entrant) -> set[Any]:
    return {entrant.name, entrant.labels["policy"], entrant.labels["policy_id"], entrant.responses.id}


def _read(path: Path, run: Run) -> tuple[Manifest | None, Path, ImportedResponses]:
    """Responses of a policy have the prompts of this configuration; others, stored or not, bring their own."""
    if not (path / NAME).is_file():
        return None, path, read_responses(str(path))
    manifest = Manifest.read(path)
    if manifest.schema != SCHEMA_VERSION:
        raise ConfigError(f"{path} was written by another version. Try: the command or file that it was made from")
    if manifest.kind != "responses":
        raise ConfigError(f"`responses` must name responses, but {path} is a {manifest.kind}.")
    if "imported" in manifest.recipe:
        return manifest, path, _read_imported(run.store, path, manifest)
    if manifest.recipe.get("prompts") != fingerprint_prompts(run.config.prompts, run.config.dataset):
        raise ConfigError(f"{path} answers other prompts than prompts={run.config.prompts.name}. Try: prompts=...")
    run.store.check(path)
    records = read_records(path / RESPONSES)
    said = [record["response"] for record in records]
    return manifest, path, ImportedResponses(manifest.labels["policy"], evaluation_prompts(run), said)


def _read_imported(store: Store, path: Path, manifest: Manifest) -> ImportedResponses:
    store.check(path)
    records = read_records(path / RESPONSES)
    names = ("prompt_id", "prompt", "kind", "category")
    if not all(name in record for record in records for name in names):
        raise ConfigError(f"{path} was written by an older version, without its prompts. Try: the file that it was of")
    prompts = [{name: record[name] for name in names} for record in records]
    return ImportedResponses(manifest.labels["policy"], prompts, [record["response"] for record in records])


def _stored_entrant(manifest: Manifest, folder: Path) -> Entrant:
    slug = manifest.id.rsplit("-", 1)[0]
    spec = ArtifactSpec("responses", slug, manifest.recipe, tuple(manifest.parents), manifest.labels)
    return Entrant(manifest.labels["policy"], spec, manifest.labels, folder)


def store_responses(store: Store, imported: ImportedResponses) -> Entrant:
    """Put responses made elsewhere into the store, so that they are found whatever becomes of the file."""
    pairs = list(zip(imported.prompts, imported.responses, strict=True))
    content = sorted([prompt["prompt_id"], prompt["prompt"], said, *_known_of(prompt)] for prompt, said in pairs)
    spec = imported_artifact(imported.name, content)

    def build(folder: Path) -> dict[str, Any]:
        unknown = {"n_tokens": None, "finish_reason": None}
        write_records(
            folder / RESPONSES,
            [prompt | {"response": said} | unknown for prompt, said in pairs],
        )
        return {"n": len(pairs)}

    return Entrant(imported.name, spec, spec.labels, store.get_or_build(spec, build))


def _known_of(prompt: dict[str, Any]) -> list[Any]:
    """Kind and category where the file has either: without them the same responses count for other criteria."""
    known = [prompt["kind"], prompt["category"]]
    return known if any(known) else []


def locate_responses(run: Run, entrant: Entrant) -> Path:
    """Where an entrant's responses lie; a policy of the plan answers now if it has not yet."""
    return entrant.folder or respond(run, run.plan.policies[entrant.name])


def hash_answers(run: Run, contest: Contest) -> str:
    """What the baseline said; tells apart evaluations in which it was generated anew on another machine."""
    said = read_records(locate_responses(run, contest.baseline) / RESPONSES)
    return content_hash(sorted([record["prompt_id"], record["response"]] for record in said))
