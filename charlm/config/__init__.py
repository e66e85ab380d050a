"""The settings of a run: definition, checks, automatic choices, presets.

1. `definitions` has every setting once, in groups; `fields` says what a definition is made of.
2. `plain` turns plain values (YAML, Python dictionaries) into settings and back, and checks them.
3. `resolve` chooses the settings that the user left out, from facts about the text and machine.
4. `limits` says when a run ends; `presets` finds the settings that come with the package.
5. `durations` reads and writes lengths of time; `shell` writes commands.
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
