"""How good: from a model and a text to numbers, and from numbers to words.

1. ``evaluation`` runs a text through the model with its state carried along and adds up the nats.
2. ``memory`` measures how far back the network looks: gradients through time, loss against context.
3. ``gates`` records what the gates do.
4. ``quality`` scores generated text by many measures, beside real text and the texts of n-gram models.
5. ``writing``, ``copying`` and ``ngram`` are what those measures are made of: a text as characters and words, the
   substrings that it shares with another, and what can be predicted by counting.
6. ``comparison`` says how scores stand to those of real text; ``verdict`` says what became of a run, and what to try
   next.
7. ``speed`` is how quickly each cell learns on this machine.
"""
