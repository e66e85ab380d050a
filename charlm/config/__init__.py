"""The settings of a run: definition, checks, automatic choices, presets.

1. `definitions` has every setting once, in groups; `fields` says what a definition is made of.
2. `plain` turns plain values (YAML, Python dictionaries) into settings and back, and checks them.
3. `resolve` fills in what nobody named, once, from facts about the text and the machine.
4. `presets` finds the settings that come with the package; `durations` and `shell` write times and commands.
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
