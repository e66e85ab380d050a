"""Evaluation of models and of generated text, and analysis of a text before training.

The main modules are these:

1. `likelihood` computes how well a model predicts a text: nats per token, bits per character,
   perplexity.
2. `text_metrics` scores generated text. It computes the same scores for real text (the reference)
   and for the text of n-gram models (the baselines).
3. `text_statistics`, `overlap` and `ngram` compute what these metrics need: the characters and
   words of a text, the substrings that it shares with another text, and n-gram models.
4. `comparison` compares scores with those of the reference and the baselines; `verdict` judges a
   run and advises what to try next.
5. `diagnosis` analyses a text before a model is trained on it, and recommends settings.
6. `paired` compares several networks that were each trained with the same seeds.
7. `attribution` finds out which of several models gives a text the highest probability.
8. `speed` measures how fast networks train on this machine.
"""
