"""Bring in what the paper's code (https://github.com/line/sacpo) has generated and judged."""
