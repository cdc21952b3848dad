"""What is built on the pipeline: the oracle, the choice of a policy, import, export, chat."""
