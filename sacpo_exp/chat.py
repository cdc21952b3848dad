"""`sacpo chat`: one prompt to several policies, their answers one below the other."""

import sys

from sacpo_exp.cluster.commands import run_command
from sacpo_exp.cluster.devices import check_devices
from sacpo_exp.config.schema import ChatConfig
from sacpo_exp.pipeline import open_run, ready_policies
from sacpo_exp.plan import policy_of_spec
from sacpo_exp.reporting.planning import print_plan
from sacpo_exp.studies.chatting import format_answer, open_speaker, quote_prompt, read_prompts


def main() -> None:
    sys.argv[1:] = quote_prompt(sys.argv[1:])
    run_command("chat", ChatConfig, chat)


def chat(config: ChatConfig) -> None:
    """Answer `prompt`, or each line of standard input, with the policies that `policies` names; single turns only.

    Raises:
        MissingArtifactError: a policy has not been trained; this command does not train.
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
        for title, speak in zip(titles, speakers, strict=True):
            print(format_answer(title, speak(prompt)), flush=True)
