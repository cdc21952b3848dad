#!/bin/bash
# All experiments of the paper, shared stages first: launchers/reproduce_paper.sh [paper|mini] [OVERRIDE...]
# With dry_run=true nothing is trained or asked: only the totals are printed. Stopped or failed, the same line goes on.
set -eu

setting=paper
if [ $# -gt 0 ] && [[ $1 != *=* ]]; then
    setting=$1
    shift
fi
cd "$(dirname "$0")/.."
if [ ! -d "conf/experiment/$setting" ]; then
    echo "usage: $0 [paper|mini] [OVERRIDE...], for example: $0 paper dry_run=true" >&2
    exit 2
fi
: "${PYTHON:=$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python)}"

experiments=(one_stage_dpo_h one_stage_kto_h one_stage_dpo_s dpo_h_dpo_s dpo_h_kto_s kto_h_dpo_s dpo_s_dpo_h p_sacpo naive_merge)
further=(llama2_hh pythia_pku published) # that only the paper has

for name in "${further[@]}"; do
    if [ -f "conf/experiment/$setting/$name.yaml" ]; then experiments+=("$name"); fi
done

if [[ " $* " == *" dry_run=true "* ]]; then
    plans=$(mktemp -d)
    trap 'rm -rf "$plans"' EXIT
    for name in "${experiments[@]}"; do # the plan of eval holds that of train
        "$PYTHON" -m sacpo_exp.eval "experiment=$setting/$name" "$@" \
            "hydra.run.dir=$plans/$name" "hydra.sweep.dir=$plans/$name" >"$plans/$name.log"
        echo "planned  $setting/$name"
    done
    "$PYTHON" - "$plans" <<'END'
import sys
from pathlib import Path

from sacpo_exp.reporting.planning import print_totals

print_totals([Path(sys.argv[1])])
END
    exit
fi

outputs=()
for override in "$@"; do
    if [[ $override == paths.outputs=* ]]; then outputs=("$override"); fi
done
for name in "${experiments[@]}"; do
    if [ "$name" != published ]; then # trained by others
        "$PYTHON" -m sacpo_exp.train "experiment=$setting/$name" "$@"
    fi
    "$PYTHON" -m sacpo_exp.eval "experiment=$setting/$name" "$@"
done
against=()
if [ "$setting" = paper ]; then against=(against=sacpo_table3); fi # figures of miniatures are not the paper's
"$PYTHON" -m sacpo_exp.report figures=paper "${against[@]}" "${outputs[@]}"
