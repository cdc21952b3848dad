"""`sacpo completion bash`: completion of commands, groups, options and keys in a shell."""

import io
import os
import re
import sys
from contextlib import redirect_stdout, suppress
from importlib import import_module

from sacpo_exp.__main__ import COMMANDS, WITH_OPTIONS

#: The line that is typed goes to `sacpo completion query LINE`, whose answers are whole words; readline replaces only
#: what stands behind the last `=` or `:` of the word, so the rest is cut off.
BASH = """\
_sacpo() {
    local line=${COMP_LINE:0:COMP_POINT} word prefix
    word=${line##* }
    mapfile -t COMPREPLY < <("${COMP_WORDS[0]}" completion query "$line" 2>/dev/null)
    prefix=${word%"${word##*[=:]}"}
    [[ $COMP_WORDBREAKS == *=* ]] && COMPREPLY=("${COMPREPLY[@]#"$prefix"}")
}
complete -o nospace -o default -F _sacpo sacpo
"""


def main() -> None:
    """Print the script for a shell, or what may follow in a line."""
    if sys.argv[1:] == ["bash"]:
        sys.stdout.write(BASH)
    elif len(sys.argv) == 3 and sys.argv[1] == "query":
        sys.stdout.writelines(f"{word}\n" for word in complete(sys.argv[2]))
    else:
        is_help = sys.argv[1:] in (["-h"], ["--help"])
        (sys.stdout if is_help else sys.stderr).write('usage: eval "$(sacpo completion bash)", in ~/.bashrc\n')
        sys.exit(0 if is_help else 2)


def complete(line: str) -> list[str]:
    """Return the words that can stand in place of the last one of a command line, which may be empty."""
    words = line.split(" ")[1:]
    if len(words) < 2:
        return [f"{name} " for name in COMMANDS if name.startswith(words[-1] if words else "")]
    command, last = words[0], words[-1]
    if command in WITH_OPTIONS:
        found = _subcommands(command) if len(words) == 2 else []
        return [f"{name} " for name in found if name.startswith(last)]
    if command not in COMMANDS or command == "completion":
        return []
    os.environ["COMP_LINE"] = " ".join(["sacpo", *words[1:]])
    return [word for word in _output(command, "--shell-completion", "query=bash").split() if word.startswith(last)]


def _subcommands(command: str) -> list[str]:
    """Names in the usage line that argparse prints."""
    listed = re.search(r"\{([\w,]+)\}", _output(command, "--help"))
    return listed[1].split(",") if listed else []


def _output(command: str, *arguments: str) -> str:
    """Run a command in this process and return what it prints."""
    sys.argv[1:] = arguments
    with redirect_stdout(io.StringIO()) as printed, suppress(SystemExit):
        import_module(f"sacpo_exp.{COMMANDS[command][0]}").main()
    return printed.getvalue()
