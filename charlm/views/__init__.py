"""For eyes: what a person sees of a run.

1. ``terminal`` shows a run while it trains.
2. ``reel`` prints what it wrote while it learnt.
3. ``summary`` gathers what a run's files tell; ``charts`` makes charts of it, and ``report`` a page.
4. ``plots`` draws a chart, for pages and for TensorBoard.
"""
