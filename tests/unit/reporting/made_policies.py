"""Policies by the names of their families, as tests of what is drawn need them."""

from sacpo_exp.method.policy import Aligned, Base, Merged, Policy, Stage

CRITERIA = {"H": "helpfulness", "S": "safety", "T": "honesty"}


def policy_of(family: str) -> Policy:
    """The policy of a family: `lora16 DPO(H)→DPO(S)`, `P-SACPO DPO(H)→DPO(S)`, `naive DPO(H)+DPO(S)`, or a model."""
    kind, _, rest = family.rpartition(" ")
    if kind == "naive":
        policy: Policy = Merged(family, tuple(policy_of(part) for part in rest.split("+")), (0.5, 0.5))
    elif kind.startswith("P-SACPO"):
        later = policy_of(f"{kind.removeprefix('P-SACPO').strip()} {rest}".strip())
        policy = Merged(family, (later.parents[0], later), (0.5, 0.5))
    elif family.endswith(")"):
        policy = Base("base", "nano")
        for title in rest.split("→"):
            loss, letter = title[:-1].split("(")
            recipe = {"loss": {"name": loss.lower()}, "criterion": CRITERIA[letter], "beta": 0.1}
            policy = Aligned(f"{policy.id}→{title}", policy, Stage(recipe, letter=letter, adapter=kind))
    else:
        policy = Base(family, family)
    assert policy.family == family
    return policy
