"""The kinds of tokenizer: what a token is, and how a vocabulary of such tokens is learned.

Every module here is found by the registry `charlm.text.tokenization.tokenizers`, so a new kind is a new file
with a subclass of `Tokenizer`. None registers a special token with the library: it would be matched in the raw
text, where Penn Treebank and WikiText have a literal `<unk>`, and left out when ids are decoded.
"""
