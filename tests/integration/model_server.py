"""A real language model behind a real server on loopback: llama.cpp with the embedded weights."""

from collections.abc import Iterator
from contextlib import contextmanager

import xllamacpp
from hydra import compose, initialize_config_dir
from loopback import find_free_port
from omegaconf import OmegaConf

from sacpo_exp.config.loading import CONF, register_schemas
from sacpo_exp.config.models import ModelConfig
from sacpo_exp.training.embedded import find_embedded_file


@contextmanager
def language_model() -> Iterator[str]:
    """Address of a server that speaks chat completions, as `judge.base_url` wants it."""
    register_schemas()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        model = OmegaConf.to_object(compose("train").model)
    assert isinstance(model, ModelConfig)
    settings = xllamacpp.CommonParams()
    settings.model.path = str(find_embedded_file(model))
    settings.n_ctx = 4096
    settings.n_parallel = 1
    settings.cpuparams.n_threads = 1
    settings.warmup = False
    settings.verbosity = 0
    settings.port = find_free_port()
    server = xllamacpp.Server(settings)
    try:
        yield f"{server.listening_address}/v1"
    finally:
        del server
