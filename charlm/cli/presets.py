"""charlm presets: the settings that come with the package."""

from __future__ import annotations

import shutil
import textwrap


def presets() -> None:
    """List the presets for `charlm train --config NAME`: what each trains, how long it takes, what it reached."""
    from charlm.config.presets import presets as found

    width = min(100, shutil.get_terminal_size((100, 24)).columns)
    for number, preset in enumerate(found().values()):
        if number:
            print()
        print(preset.name)
        for title, text in preset.about.items():
            print(textwrap.fill(text, width, initial_indent=f"  {title + ':':9}", subsequent_indent=" " * 11))
