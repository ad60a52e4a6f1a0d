#!/usr/bin/env python3
"""Writes bpe_reference.json: tokenizers trained with Hugging Face `tokenizers`, and the ids that they give.

Needs `pip install tokenizers`. Run in this folder; the tests read what it writes.
"""
import json
import tempfile
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

TEXT = [
    "The cairn stood on the ridge, stone upon stone, and the walkers added theirs.",
    "They'll say it's where we've been; I'd say we're where they're going, aren't we?",
    "In 1999 there were 12 stones; in 2024 there are 3456 of them, or 78,901 by another count.",
    "Der Wanderer grüßt den Hügel; naïve façade; Ελλάδα και φως; привет, мир; 石の上にも三年。",
    "def carry(stones):\n    for stone in stones:\n        yield stone + 1\n\n\treturn None",
    "the the the there then them these those stone stones stoned stony ridge ridges bridged",
    "aaaaaaaa aaaa aaaaaaa bananas ananas",
] * 3

STRINGS = [
    "", " ", "  ", "a", " a", "a ", "\n", "\n\n", " \n ", "\r\n", "\t\ttab\t", "   leading", "trailing   ",
    "a  b   c    d", "The cairn stood on the ridge.", "they'll it's we've I'd I'm you're DON'T he'S",
    "1 12 123 1234 12345 3.14159 1,000,000", "٣٤٥ Ⅷ ½ ²", "naïve façade e\u0301 \u00e9 ﬁ Ａ",
    "привет, мир! Ελλάδα", "石の上にも三年。", "🙂 🙂🙂 👩‍👩‍👧‍👦 🇫🇷", "a\u00a0b\u2003c\u3000d\u0085e\u200bf\u180eg\u2028h\ufeffi",
    "x\u1680y", "\u0000\u0001\u007f\u0080", "def f(x):\n    return x  # done\n\n\n    y", "a\n b\n  c\n", "....!!!???", "_under_score__",
    "<|endoftext|>", "one<|endoftext|>two", "<|endoftext", "<|endoftext|><|endoftext|> x", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "banananananas " * 9, "stone" * 40, "'s 't 're 've 'm 'll 'd ''s 'S ſ 'ſ", " ' s", "\u2581under \u2581", "Ġ Ċ ĉ",
    "mixed123abc456 abc123", "İstanbul ǅ ʰ ªº", "ไทย ภาษา हिन्दी", "\U0001F600\U00020000\U0010FFFD",
]

GPT4_LIKE = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
             r"|\s*[\r\n]+|\s+(?!\S)|\s+")


def train(pre_tokenizer, vocab_size):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, show_progress=False, special_tokens=["<|endoftext|>"],
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(TEXT, trainer)
    return tokenizer


def ids(tokenizer):
    return [tokenizer.encode(text, add_special_tokens=False).ids for text in STRINGS]


def main():
    gpt2 = train(pre_tokenizers.ByteLevel(add_prefix_space=False), 480)
    split = train(pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(GPT4_LIKE), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]), 460)
    digits = train(pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]), 440)

    # A word that is a token whole is taken without merges: put one in that no merges lead to.
    whole = json.loads(split.to_str())
    whole["model"]["ignore_merges"] = True
    whole["model"]["vocab"]["Ġwalkersx"] = len(whole["model"]["vocab"])
    split.add_tokens([AddedToken("<|user|>", normalized=False), AddedToken("stone stone")])

    with tempfile.TemporaryDirectory() as folder:
        gpt2.model.save(folder)
        merges = (Path(folder) / "merges.txt").read_text(encoding="utf-8")
        vocab = json.loads((Path(folder) / "vocab.json").read_text(encoding="utf-8"))
    STRINGS.extend(["<|user|>stone stone stone", "the walkersx walkersx", "stones stone <|user|>"])
    reference = {
        "strings": STRINGS,
        "vocab": vocab,
        "merges": merges,
        "tokenizers": [
            {"name": name, "json": tokenizer, "ids": ids(Tokenizer.from_str(json.dumps(tokenizer)))}
            for name, tokenizer in [
                ("gpt2", json.loads(gpt2.to_str())), ("split", json.loads(split.to_str())),
                ("ignore_merges", whole), ("digits", json.loads(digits.to_str()))]],
    }
    Path("bpe_reference.json").write_text(json.dumps(reference, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
