"""Settings of a run, an evaluation and a report, as dataclasses. Defaults and where they come from are in conf/."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from omegaconf import MISSING

from sacpo_exp.config.bounds import bounded, count, seed_value
from sacpo_exp.config.data import DatasetConfig, PromptsConfig
from sacpo_exp.config.hardware import HardwareConfig
from sacpo_exp.config.models import AdapterConfig, FloatType, ModelConfig
from sacpo_exp.method.criteria import HELPFULNESS, SAFETY, Criterion
from sacpo_exp.statistics import Interval

#: A length that is taken from the data.
AUTO = "auto"
#: Folder inside `StageJob.folder` for the log-probabilities of the parent.
REFERENCE = "reference"


class JudgeKind(Enum):
    none = "none"  # policies are scored on held-out pairs only
    scorer = "scorer"  # heads fitted on frozen hidden states
    openai = "openai"  # any server that speaks OpenAI's chat completions
    reward_model = "reward_model"  # sequence classification models for reward and cost


class Matches(Enum):
    baseline = "baseline"
    all_pairs = "all_pairs"


class MergeMethod(Enum):
    linear = "linear"  # the policies of successive stages (P-SACPO)
    naive = "naive"  # one policy per criterion, each trained by itself


class RatingMethod(Enum):
    bradley_terry = "bradley_terry"
    elo_online = "elo_online"


class FigureForm(Enum):
    """Figures to draw besides the one of the page."""

    screen = "screen"
    paper = "paper"  # in panels, as pdf and png of a column's or a page's width


class Parent(Enum):
    """The policy that a stage descends from, and takes as reference."""

    previous = "previous"  # the policy of the stage before it
    baseline = "baseline"  # the model before all stages with a criterion


class Start(Enum):
    """The policy whose weights a stage starts from."""

    parent = "parent"
    baseline = "baseline"


@dataclass
class LossConfig:
    """A loss and the settings that it reads; null: by the stage's place in `losses`, and the loss's own defaults."""

    name: str | None = None
    label_smoothing: float | None = bounded(above=0, below=0.5, default=None)
    desirable_weight: float | None = bounded(above=0, default=None)
    undesirable_weight: float | None = bounded(above=0, default=None)
    sft_weight: float | None = bounded(above=0, default=None)
    delta: float | None = bounded(least=0, default=None)
    b1: float | None = bounded(above=1, default=None)
    alpha: float | None = bounded(least=0, default=None)
    penalty: float | None = bounded(least=0, most=70, default=None)  # more overflows float32
    power: float | None = bounded(above=0, most=1, default=None)
    scale: float | None = bounded(above=0, default=None)
    multiplier: float | None = bounded(least=0, default=None)


@dataclass
class StageDefaults:
    """Numbers of the stages at one place of the order, for a model."""

    global_batch_size: int = count()
    learning_rate: float = bounded(above=0)
    num_train_epochs: float = bounded(above=0, most=1_000_000)


@dataclass
class StageConfig:
    """One stage. `fill_stages` replaces what is null by the defaults of the stage's place in the order.

    Without `criterion` it is supervised fine-tuning. A null `dataset` is that of the run; a null `beta` comes from
    `earlier_betas`, for the last stage from the run's `beta`.
    """

    criterion: Criterion | None = None
    parent: Parent = Parent.previous
    start: Start = Start.parent
    loss: LossConfig = field(default_factory=LossConfig)
    beta: float | None = bounded(above=0, default=None)
    dataset: DatasetConfig | None = None
    global_batch_size: int | None = bounded(least=1, default=None)
    learning_rate: float | None = bounded(above=0, default=None)
    num_train_epochs: float | None = bounded(above=0, most=1_000_000, default=None)
    trainer: dict[str, Any] = field(default_factory=dict)


@dataclass
class CriterionConfig:
    """A criterion for `evaluated`; its file is that of a stage, of which only the criterion is read here."""

    criterion: Criterion = field(default_factory=Criterion)
    dataset: DatasetConfig | None = None


@dataclass
class OptimizationConfig:
    optim: str = MISSING
    lr_scheduler_type: str = MISSING
    warmup_ratio: float = bounded(least=0, below=1)
    weight_decay: float = bounded(least=0, below=1)
    max_grad_norm: float = bounded(above=0)
    max_length: Any = field(default=MISSING, metadata=count().metadata)  # tokens, or `AUTO`
    max_prompt_length: Any = field(default=MISSING, metadata=count().metadata)
    dtype: FloatType = MISSING
    autocast: FloatType | None = None
    float32_copy: bool = True  # of 16-bit weights, which ZeRO updates; without ZeRO there is none

    @property
    def is_short(self) -> bool:
        """Return whether numbers of 16 bits are multiplied."""
        return (self.autocast or self.dtype) != FloatType.float32


class Engine(Enum):
    """Library that generates responses."""

    hf = "hf"  # transformers
    vllm = "vllm"  # the optional extra


@dataclass
class GenerationConfig:
    engine: Engine = Engine.hf
    python: str | None = None  # interpreter that has vllm; null: this one
    tensor_parallel_size: int = count(default=1)  # devices that share one vllm engine's weights; 1: an engine on each
    dtype: FloatType = MISSING
    max_new_tokens: int = count()
    kl_prompts: int = count(0)
    kl_samples: int = count()


@dataclass
class JudgeConfig:
    """Fields of all judges; `kind` selects the class in `config.judges`."""

    name: str = MISSING
    kind: JudgeKind = MISSING


class WandbMode(Enum):
    auto = "auto"  # online if wandb finds a key, in the environment or of `wandb login`; else offline
    online = "online"
    offline = "offline"
    disabled = "disabled"


class LogModel(Enum):
    """What is logged of a trained policy."""

    none = "none"
    metadata = "metadata"  # its id, recipe, parents and metrics
    full = "full"  # its weights too


@dataclass
class WandbConfig:
    project: str = MISSING
    entity: str | None = None
    name: str | None = None  # before the policy's name
    notes: str | None = None
    tags: list[str] = field(default_factory=list)  # besides those of the policy
    mode: WandbMode = WandbMode.auto
    log_model: LogModel = LogModel.metadata


@dataclass
class MlflowConfig:
    """The server is named by `MLFLOW_TRACKING_URI`; without it runs go to `<outputs>/mlflow.db`."""

    log_model: LogModel = LogModel.metadata


@dataclass
class TrackerConfig:
    """Any number of trackers. `group` null: the name of the experiment, or of the model and its data without one."""

    group: str | None = None
    wandb: WandbConfig | None = None
    mlflow: MlflowConfig | None = None

    def chosen(self) -> dict[str, Any]:
        """Return the chosen trackers by name."""
        trackers = {"wandb": self.wandb, "mlflow": self.mlflow}
        return {name: tracker for name, tracker in trackers.items() if tracker is not None}


@dataclass
class StoreConfig:
    mirror: str | None = None  # any address that fsspec reads; credentials and server are in the environment


@dataclass
class PathsConfig:
    outputs: str = MISSING
    run: str | None = None  # the command's own folder, filled in


@dataclass
class RunConfig:
    """Everything that `train` and `eval` share; the same overrides give both the same artifact ids."""

    seed: int = seed_value()
    beta: float = bounded(above=0)  # of the last stage
    # of the stages before it; the last one repeats
    earlier_betas: list[float] = field(default_factory=list, metadata=bounded(above=0).metadata)
    losses: list[str] = MISSING  # of stages with a criterion, by position; the last one repeats
    evaluated: list[str] = MISSING
    trainer: dict[str, Any] = field(default_factory=dict)
    merge: MergeMethod = MISSING
    merge_ratio: float | None = bounded(least=0, most=1, default=None)
    merge_weights: list[float] | None = None
    policies: Any = MISSING
    others: list[str] = field(default_factory=list)  # REPOSITORY, REPOSITORY@COMMIT or folder: judged, not trained
    matches: Matches = MISSING
    log_completions: int = count(0, default=0)
    dry_run: bool = False
    force: bool = False
    overrides: list[str] = field(default_factory=list)  # of the command line, filled in; no part of any id
    model: ModelConfig = MISSING
    dataset: DatasetConfig = MISSING
    stages: dict[str, StageConfig] = field(default_factory=dict)
    stage_defaults: dict[str, StageDefaults] = field(default_factory=dict)
    criteria: dict[str, CriterionConfig] = field(default_factory=dict)
    optimization: OptimizationConfig = MISSING
    adapter: AdapterConfig | None = None
    hardware: HardwareConfig = MISSING
    generation: GenerationConfig = MISSING
    prompts: PromptsConfig = MISSING
    judge: JudgeConfig = MISSING
    tracker: TrackerConfig = field(default_factory=TrackerConfig)
    store: StoreConfig = field(default_factory=StoreConfig)
    paths: PathsConfig = MISSING


@dataclass
class EvalConfig(RunConfig):
    """`eval` can also judge responses from elsewhere; then the plan's policies are not used."""

    responses: list[str] = field(default_factory=list)  # files or folders; patterns with * are expanded
    baseline: str | None = None  # the one that the others are compared with
    heldout_pairs: int = count(0)  # most per criterion by which preference accuracy is measured; 0: none
    objective_metric: str | None = None  # what the command returns to a sweeper


@dataclass
class PrepareConfig(RunConfig):
    """`prepare` can also download what `train` and `eval` read from the hub."""

    weights: bool = False


@dataclass
class ExportConfig(RunConfig):
    """`export` writes policies of the plan as plain Hugging Face folders."""

    folder: str | None = None  # null: <outputs>/export/<policy>


@dataclass
class ChatConfig(RunConfig):
    """`chat` sends prompts to policies of the plan."""

    prompt: str | None = None  # null: lines of standard input


@dataclass
class TrackedRun:
    """Description of a run for trackers: plain values, no path and no secret."""

    id: str = MISSING  # of the artifact that the run makes; its name in every tracker
    kind: str = MISSING  # `policy` or `report`
    name: str = MISSING  # for people; not unique
    group: str = MISSING
    tags: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)  # what determines the artifact, and what people search for
    parents: dict[str, str] = field(default_factory=dict)  # artifact id → `policy` or `dataset`
    is_last: bool = False  # whether the plan trains nothing after it; only this run reports to a wandb sweep's agent


@dataclass
class StageJob:
    """Input of a worker: one stage of a configuration, with the paths of its inputs and outputs.

    `config.stages[name]` is the stage; `parent` is a folder or a repository (then with `revision`).
    """

    config: RunConfig = MISSING
    name: str = MISSING
    artifact_id: str = MISSING
    parent: str = MISSING
    revision: str | None = None
    view: str = MISSING
    folder: str = MISSING
    accumulation: int = MISSING
    per_device: int = MISSING
    checkpoint: str | None = None  # to resume from
    reference: str | None = None  # folder with the parent's log-probabilities; null: compute them
    only_reference: bool = False  # compute these, and don't train
    guides: dict[str, float] = field(default_factory=dict)  # such folders of other policies: weight of their log-ratio
    deepspeed: str | None = None  # file with DeepSpeed's settings
    tracked: TrackedRun | None = None  # for trackers; null: there are none


@dataclass
class ReportConfig:
    """Which stored scores a report shows, and how their intervals are computed."""

    model: str | None = None
    dataset: str | None = None
    confidence: float = bounded(above=0, below=1)
    interval: Interval = MISSING
    bootstrap_rounds: int = bounded(least=100, most=1_000_000)
    max_missing: float = bounded(least=0, most=1)
    rating: RatingMethod = MISSING
    seed: int = seed_value()
    figures: FigureForm = FigureForm.screen
    x: str = HELPFULNESS  # criteria on the axes of figures
    y: str = SAFETY
    against: str | None = None  # published numbers to compare with: a shipped name, or a yaml file of the same form
    tracker: TrackerConfig = field(default_factory=TrackerConfig)
    paths: PathsConfig = MISSING
