"""What a person sees of a run: in a terminal, on pages and in charts.

1. `terminal` shows a run during training; `samples` prints its sample history.
2. `summary` gathers what the files of a run show, `ranking` compares several runs, `charts` makes
   charts, `report` makes a page.
3. `plots` defines a chart and draws it as pixels, `svg` draws it for pages.
4. `text` makes control characters visible and wraps long lines.
"""
