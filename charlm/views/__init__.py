"""Everything that shows runs to a person: terminal output, HTML pages and charts.

1. `terminal` shows a run during training; `samples` prints the samples of a run.
2. `summary` reads the files of a run, `ranking` compares several runs, `charts` makes their charts,
   `report` makes the HTML page of one or several runs.
3. `plots` defines a chart and draws it as pixels, `svg` draws it for HTML pages.
4. `race` and `sweep` show the results of experiments, `diagnosis` what is known about a text,
   `scores` and `surprise` how probable a run finds each token of a text.
5. `text` makes control characters visible and wraps long lines. `pages` sets up Jinja, which fills
   the templates of the HTML pages.
"""
