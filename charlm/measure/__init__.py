"""How good: from a model and a text to numbers.

1. ``evaluation`` runs a text through the model with its state carried along and adds up the nats.
2. ``comparison`` says how scores of a text stand to those of real text; ``verdict`` says in words
   what became of a run, and what to try next.
"""
