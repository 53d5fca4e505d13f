"""Configuration of a search: text or values in, one frozen and checked `SearchConfig` out."""

from nas.config.field_groups import (
    FIELD_GROUPS,
    GROUPS,
    MODEL_FIELDS,
    OBJECTIVES,
    CompressionFields,
    DistillationFields,
    LimitFields,
    RunFields,
    SearchFields,
    TrainingFields,
)
from nas.config.keyword_types import (
    CompressKeywords,
    PostTrainingKeywords,
    SearchKeywords,
    TrainKeywords,
    field_info,
    takes_config_fields,
)
from nas.config.reading import make_config, read_config, read_run_config
from nas.config.search_config import (
    COMPRESS_EPOCHS,
    DEFAULT_BUDGET_S,
    FREE_FIELDS,
    KEPT_DISTILLATION_FIELDS,
    KEPT_FIELDS,
    TRAIN_FIELDS,
    SearchConfig,
    training_config,
)
from nas.config.storage_url import HIDDEN, passwords_in, without_password
from nas.config.units import Bytes, Milliseconds, Seconds, quantity

__all__ = [
    "COMPRESS_EPOCHS",
    "DEFAULT_BUDGET_S",
    "FIELD_GROUPS",
    "FREE_FIELDS",
    "GROUPS",
    "HIDDEN",
    "KEPT_DISTILLATION_FIELDS",
    "KEPT_FIELDS",
    "MODEL_FIELDS",
    "OBJECTIVES",
    "TRAIN_FIELDS",
    "Bytes",
    "CompressKeywords",
    "CompressionFields",
    "DistillationFields",
    "LimitFields",
    "Milliseconds",
    "PostTrainingKeywords",
    "RunFields",
    "SearchConfig",
    "SearchFields",
    "SearchKeywords",
    "Seconds",
    "TrainKeywords",
    "TrainingFields",
    "field_info",
    "make_config",
    "passwords_in",
    "quantity",
    "read_config",
    "read_run_config",
    "takes_config_fields",
    "training_config",
    "without_password",
]
