"""Subword tokenizers for recognisers that are trained from scratch."""

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers.models import BPE
from transformers import ParakeetTokenizer

UNKNOWN, BLANK = "<unk>", "<pad>"


def train_tokenizer(texts: Iterable[str], *, vocab_size: int) -> ParakeetTokenizer:
    """Train a byte-pair tokenizer of `vocab_size` subwords on normalised transcripts; fewer if the merges run out.

    Every letter becomes a subword, even if that makes more than `vocab_size`. `<pad>` is the CTC blank. A FastConformer
    needs subwords: it has one frame in 80 ms, which is fewer than the letters of speech.
    """
    tokenizer = Tokenizer(BPE(unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=[UNKNOWN, BLANK], show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return ParakeetTokenizer(tokenizer_object=tokenizer, unk_token=UNKNOWN, pad_token=BLANK)
