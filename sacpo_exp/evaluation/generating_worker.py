"""What answers a shard of the prompts on a device of its own. It knows no Hydra and composes nothing."""

import json
import logging
import os
import sys
from pathlib import Path

from sacpo_exp.cluster.worker import write_ending
from sacpo_exp.config.loading import quiet_libraries
from sacpo_exp.errors import sum_up
from sacpo_exp.evaluation.generation_jobs import GenerationJob, answer, write_answers


def main() -> None:
    if len(sys.argv) != 4:
        sys.exit("a worker is started by sacpo_exp.eval, not by hand. Try: sacpo eval")
    path, folder, numbers = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
    logging.basicConfig(level=logging.INFO if os.environ.get("RANK") == "0" else logging.WARNING, format="%(message)s")
    try:
        quiet_libraries()
        write_answers(answer(GenerationJob.read(path), folder, numbers), folder)
    except Exception as error:
        write_ending(path.parent, int(os.environ["RANK"]), **sum_up(error))
        sys.exit(1)


if __name__ == "__main__":
    main()
