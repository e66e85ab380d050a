"""The kinds of tokenizer: what a token is, and how a vocabulary of such tokens is learned.

The registry `charlm.text.tokenization.tokenizer_kinds` imports every module here, so a new kind is a new file with a
subclass of `Tokenizer`. No kind declares its tokens as special tokens of the library: those are matched in the raw
text, where Penn Treebank and WikiText have a literal `<unk>`, and they are left out when ids are decoded.
"""
