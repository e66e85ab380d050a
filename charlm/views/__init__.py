"""Everything that shows runs to a person: terminal output, HTML pages and charts.

1. `terminal` shows a run during training; `samples` prints the samples of a run.
2. `summary` reads the files of a run. `ranking` compares several runs. `charts` makes the charts of
   one run or of several, and `report` makes an HTML page or a Markdown text about them.
3. `plots` defines a chart and draws it as pixels, `svg` draws it for HTML pages.
4. `race` and `sweep` show the results of experiments. `diagnosis` shows what is known about a text.
   `scores` and `surprise` show how probable a run finds each token of a text.
5. `play` is an editor in the terminal: `play_screen` and `play_rows` say what is displayed, and
   `play_session` runs its commands and saves its text. `generated` shows generated texts.
6. `text` makes control characters visible and wraps long lines. `pages` sets up Jinja, which fills
   the templates of the HTML pages.
"""
