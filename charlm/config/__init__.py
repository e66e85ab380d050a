"""The settings of a run: definition, checks, automatic choices, presets.

1. `definitions` has every setting once, in groups; `fields` has the types and the function by which
   a setting is defined.
2. `plain` converts nested dictionaries, such as those of a YAML file, into settings and back, and
   checks them.
3. `resolve` chooses the settings that the user left out, from the machine, the cell and the size of
   the text.
4. `limits` says when a run ends; `presets` finds the settings that come with the package.
5. `protocols` defines the ways in which a text is read when a model is evaluated on it.
6. `durations` reads and writes lengths of time; `shell` writes commands.
"""

from charlm.config.definitions import (
    CheckpointConfig,
    Config,
    DataConfig,
    InspectConfig,
    ModelConfig,
    OptimizerConfig,
    SamplesConfig,
    TokenizerConfig,
    TrainerConfig,
)
from charlm.config.fields import Setting, settings

__all__ = [
    "CheckpointConfig",
    "Config",
    "DataConfig",
    "InspectConfig",
    "ModelConfig",
    "OptimizerConfig",
    "SamplesConfig",
    "Setting",
    "TokenizerConfig",
    "TrainerConfig",
    "settings",
]
