"""`sacpo chat`: one prompt to several policies, side by side in the terminal."""

import logging
import shutil
import sys

from sacpo_exp.cluster.devices import check_devices
from sacpo_exp.config.exports import ChatConfig
from sacpo_exp.config.loading import run_command
from sacpo_exp.pipeline import open_run, ready_policies
from sacpo_exp.plan import policy_of_spec
from sacpo_exp.reporting.planning import print_plan
from sacpo_exp.studies.chatting.columns import format_columns
from sacpo_exp.studies.chatting.speakers import open_speaker, quote_prompt, read_prompts

log = logging.getLogger(__name__)


def main() -> None:
    sys.argv[1:] = quote_prompt(sys.argv[1:])
    run_command("chat", ChatConfig, chat)


def chat(config: ChatConfig) -> None:
    """Answer `prompt`, or line after line of standard input, by the policies that `policies` names. Single turns.

    Raises:
        MissingArtifactError: a policy has not been trained; this command trains none.
    """
    run = open_run(config)
    if config.dry_run:
        print_plan(run)
        return
    check_devices(config.hardware)
    policies = run.plan.selected(config.policies)
    ready_policies(run, policies)
    baseline = run.plan.policies["baseline"]
    titles = [f"{policy_of_spec(p).name}{' (baseline)' * (p == baseline)}" for p in policies.values()]
    speakers = [open_speaker(run, policy) for policy in policies.values()]
    for prompt in read_prompts(config.prompt):
        said = [speak(prompt) for speak in speakers]
        print(f"\n{format_columns(list(zip(titles, said, strict=True)), shutil.get_terminal_size().columns)}\n")


if __name__ == "__main__":
    main()
