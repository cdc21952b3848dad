"""`sacpo COMMAND …`, also `python -m sacpo_exp COMMAND …`."""

import sys
from importlib import import_module, metadata

#: Command: module with its `main`, and a line for `sacpo --help`.
COMMANDS = {
    "train": ("train", "make every policy of the plan that is not stored yet"),
    "eval": ("eval", "generate responses and have them judged"),
    "report": ("report", "tables, figures and a page over everything that has been evaluated"),
    "prepare": ("prepare", "check, count and tokenise the datasets that train reads"),
    "choose": ("choose", "the best policy of a family that is certified to keep its constraints"),
    "multiplier": ("multiplier", "the multiplier, and so β/λ, with which the optimum keeps a constraint"),
    "chat": ("chat", "one prompt to several policies"),
    "export": ("export", "policies as plain Hugging Face folders with a model card"),
    "import": ("import_results", "results of the paper's code"),
    "store": ("storage", "list, verify, prune and mirror what is stored"),
    "ledger": ("ledger", "look after the judgments that were paid for"),
    "oracle": ("oracle", "train in a world whose optimum is known"),
    "completion": ("completion", 'shell completion: eval "$(sacpo completion bash)"'),
}
#: Commands with file names instead of a configuration, and their options, which can be typed as overrides too.
WITH_OPTIONS = {
    "import": ("outputs", "judge", "baseline"),
    "store": ("outputs", "mirror", "kind", "damaged", "yes"),
    "ledger": ("outputs",),
}


def main() -> None:
    """Run the command that the first argument names."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help"):
        sys.stdout.write("usage: sacpo COMMAND [OVERRIDE ...]\n\ncommands:\n")
        sys.stdout.writelines(f"  {command:<12}{line}\n" for command, (_, line) in COMMANDS.items())
        sys.stdout.write("\n`sacpo COMMAND --help` shows what a command takes, `sacpo --version` the version.\n")
    elif name == "--version":
        sys.stdout.write(f"sacpo_exp {metadata.version('sacpo_exp')}\n")
    elif name not in COMMANDS:
        sys.stderr.write(f"error: no command `{name}`. Try one of: {', '.join(COMMANDS)}\n")
        sys.exit(2)
    else:
        sys.argv[1:] = as_options(name, sys.argv[2:])
        import_module(f"sacpo_exp.{COMMANDS[name][0]}").main()


def as_options(command: str, arguments: list[str]) -> list[str]:
    """Return arguments with `paths.outputs=DIR`, `yes=true` and the like spelled as options."""
    found: list[str] = []
    for argument in arguments:
        key, sign, value = argument.partition("=")
        name = key.removeprefix("paths.").removeprefix("store.")
        if not sign or name not in WITH_OPTIONS.get(command, ()):
            found.append(argument)
        elif value != "false":
            found += [f"--{name}"] if value == "true" else [f"--{name}", value]
    return found


if __name__ == "__main__":
    main()
