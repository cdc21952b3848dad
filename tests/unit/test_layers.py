"""Who may import whom, read from the source: only downwards, never upwards, never in a circle."""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from sacpo_exp.__main__ import COMMANDS

PACKAGE = Path(__file__).parents[2] / "sacpo_exp"

ENTRIES = tuple(module for module, _ in COMMANDS.values())

#: From the bottom up. A package or top-level module may import from rows above its own and from what stands before it
#: in its own row.
LAYERS = (
    ("errors", "stopping", "progress"),
    ("method", "statistics"),
    ("config",),
    ("store",),
    ("data", "tracking"),
    ("training",),
    ("cluster",),
    ("plan", "pipeline"),
    ("evaluation",),
    ("reporting",),
    ("studies", "__main__", *ENTRIES),
)

#: Libraries that only some modules may import, anywhere in them, also inside functions.
OWNERS = {
    "hydra": ("config", "cluster", *ENTRIES),
    "omegaconf": ("config", "cluster", *ENTRIES),
    "datasets": ("data.sources", "training.trainers"),
    "trl": ("training",),
    "peft": ("training",),
    "openai": ("evaluation.judges",),
    "httpx2": ("evaluation.judges",),
    "vllm": ("evaluation.vllm_engine",),
    "sqlite3": ("evaluation.ledger",),
    "fsspec": ("store",),
    "huggingface_hub": ("data.hub", "studies"),
    "statsmodels": ("statistics",),
    "submitit": ("cluster.sweeps",),
    "wandb": ("tracking",),
    "mlflow": ("tracking",),
}

#: Too heavy for module level, so that every mistake is told before they are read, with the packages that may.
HEAVY = {
    "torch": ("training",),
    "transformers": ("training",),
    "trl": ("training",),
    "datasets": (),
    "sklearn": (),
    "mergekit": (),
    "accelerate": (),
    "peft": (),
    "bitsandbytes": (),
    "openai": (),
    "wandb": (),
    "mlflow": (),
    "statsmodels": (),
    "scipy": (),
    "pandas": ("reporting",),
    "seaborn": ("reporting", "studies.oracle.results"),
    "matplotlib": ("reporting", "studies.oracle.results"),
}


@dataclass(frozen=True)
class Import:
    """An imported module, and when: `always`, `later` (inside a function) or `never` (for type checkers)."""

    name: str
    line: int
    when: str


def module_name(path: Path) -> str:
    """Dotted name below the package: `data.sources`; of a package's `__init__.py` the package's."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
MODULES = {name: path for name, path in FILES.items() if name}


def imports_of(node: ast.AST, when: str = "always") -> Iterator[Import]:
    """All imports below a node of a syntax tree."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, child.lineno, when) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "imports are absolute here"
            for alias in child.names:
                inner = f"{child.module}.{alias.name}".removeprefix("sacpo_exp.")
                yield Import(f"sacpo_exp.{inner}" if inner in MODULES else str(child.module), child.lineno, when)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            yield from imports_of(child, "never")
        else:
            is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from imports_of(child, "later" if is_function and when == "always" else when)


IMPORTS = {name: list(imports_of(ast.parse(path.read_text("utf-8")))) for name, path in MODULES.items()}


def starts_with(module: str, prefix: str) -> bool:
    return module == prefix or module.startswith(prefix + ".")


def is_allowed(module: str, imported: str) -> bool:
    """Whether the table lets `module` import `imported`."""
    ours, theirs = module.split(".")[0], imported.split(".")[0]
    if ours == theirs or theirs == "":
        return True
    places = {name: (row, place) for row, names in enumerate(LAYERS) for place, name in enumerate(names)}
    return places[theirs] < places[ours]


def test_the_table_names_every_package_and_nothing_else() -> None:
    assert sorted(name for names in LAYERS for name in names) == sorted({name.split(".")[0] for name in MODULES})


def test_modules_import_from_layers_below_them_only() -> None:
    wrong = [
        f"{module}, line {entry.line}: {entry.name}"
        for module, entries in IMPORTS.items()
        for entry in entries
        if starts_with(entry.name, "sacpo_exp") and not is_allowed(module, entry.name[len("sacpo_exp.") :])
    ]
    assert wrong == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {
        module: {entry.name.removeprefix("sacpo_exp.") for entry in entries if entry.when == "always"} & set(MODULES)
        for module, entries in IMPORTS.items()
    }
    assert list(TopologicalSorter(graph).static_order())


def owned_imports(library: str) -> list[tuple[str, Import]]:
    """(module, import) of all that really import a library; what only type checkers read does not count."""
    return [
        (module, entry)
        for module, entries in IMPORTS.items()
        for entry in entries
        if starts_with(entry.name, library) and entry.when != "never"
    ]


@pytest.mark.parametrize("library", OWNERS)
def test_a_library_is_known_to_its_owners_only(library: str) -> None:
    found = owned_imports(library)
    assert found
    wrong = [entry for entry in found if not any(starts_with(entry[0], owner) for owner in OWNERS[library])]
    assert [f"{module}, line {entry.line}" for module, entry in wrong] == []


@pytest.mark.parametrize("library", HEAVY)
def test_a_heavy_library_is_not_imported_at_module_level(library: str) -> None:
    always = [(module, entry.line) for module, entry in owned_imports(library) if entry.when == "always"]
    assert [place for place in always if not any(starts_with(place[0], owner) for owner in HEAVY[library])] == []


def test_files_entries_and_functions_are_short() -> None:
    short = {*ENTRIES} - {"ledger", "storage"}
    texts = {module: path.read_text("utf-8") for module, path in FILES.items()}
    most = {module: 80 if module in short else 350 for module in texts}
    assert [module for module, text in texts.items() if len(text.splitlines()) > most[module]] == []
    functions = ((module, node) for module, text in texts.items() for node in ast.walk(ast.parse(text)))
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    long = [(module, f.name) for module, f in functions if isinstance(f, kinds) and f.end_lineno - f.lineno >= 60]
    assert long == []


def test_no_module_is_called_as_one_of_the_standard_library_or_utils() -> None:
    names = {module.split(".")[0] for module in MODULES}
    assert names & (set(sys.stdlib_module_names) - {"statistics"} | {"utils", "helpers", "common", "src"}) == set()
