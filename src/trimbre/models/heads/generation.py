"""The prompt and the rules of a Whisper's texts: its generation config, read as transformers reads it.

The model's own `generate(features)` is what counts. A language or a task that is asked for takes the place of the
preset one; the tables that this needs, and that fine-tunes of 2022 lack, come from the tokenizer.
"""

import copy
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from transformers import GenerationConfig
from transformers.models.whisper.tokenization_whisper import LANGUAGES, TASK_IDS, TO_LANGUAGE_CODE

from trimbre.errors import OptionError, UserError
from trimbre.models.heads.settings import named, refuse_malformed, refuse_unpaired

TASKS = tuple(sorted(TASK_IDS))
TABLES = ("lang_to_id", "task_to_id", "no_timestamps_token_id")
"""Where a generation config has the tokens of a prompt."""
ENGLISH_LABELS = 51864
"""Size of OpenAI's English-only vocabulary, whose tokenizer spells the names of languages too."""
DEFAULT_LENGTH = 20
"""Tokens after the prompt where neither `max_length` nor `max_new_tokens` says more."""
PLAIN_SEARCH: Mapping[str, tuple[Any, ...]] = {
    "num_beams": (1,),
    "return_timestamps": (),
    "min_length": (0,),
    "min_new_tokens": (0,),
    "bad_words_ids": ([],),
    "sequence_bias": ({}, []),
    "forced_bos_token_id": (),
    "forced_eos_token_id": (),
    "exponential_decay_length_penalty": (),
    "guidance_scale": (1,),
    "watermarking_config": (),
    "stop_strings": (),
    "max_time": (),
    "prompt_lookup_num_tokens": (),
    "num_beam_groups": (1,),
    "penalty_alpha": (0,),
    "dola_layers": (),
    "compression_ratio_threshold": (),
    "logprob_threshold": (),
    "no_speech_threshold": (),
}
"""Settings that a search by `GenerationRules` alone does not follow, with the values, besides None and False, that ask
for nothing."""


@dataclass(frozen=True)
class GenerationRules:
    """What greedy decoding of one window follows, as plain data."""

    start: int
    end: int
    padding: int
    multilingual: bool
    forced: tuple[int | None, ...]
    """`forced_decoder_ids`, the older form of the prompt after the start; None is the language that is detected."""
    language: str | None
    """The preset language as the config names it."""
    task: str | None
    """The preset task."""
    languages: Mapping[str, int]
    """Token of each language by its name, such as <|en|>; empty for an English-only model."""
    tasks: Mapping[str, int]
    untimed: int | None
    """The token of texts without times."""
    stated: tuple[str, ...]
    """Which of these tables the generation config has; the others are the tokenizer's and for what is asked for."""
    timed: bool
    never: tuple[int, ...]
    not_first: tuple[int, ...]
    repetition_penalty: float
    no_repeat_ngram_size: int
    room: int
    """Positions of the decoder."""
    max_length: int | None
    max_new_tokens: int | None

    @classmethod
    def of(cls, model: Any, processor: Any = None) -> "GenerationRules":
        """The rules of a model of transformers; those of an exported one are its own.

        Args:
            processor: its tokenizer gives the tables that an outdated generation config lacks.

        Raises:
            UserError: its generation config has values that cannot be meant.
        """
        generation = model.generation_config
        if isinstance(generation, cls):
            return generation
        config = model.config
        refuse_malformed(generation)
        labels = range(config.vocab_size)
        tables = _tables(generation)
        if processor is not None:
            tables = _spelled(processor.tokenizer, labels, multilingual=is_multilingual(generation, config)) | tables
        start = _first(generation.decoder_start_token_id, config.decoder_start_token_id, generation.bos_token_id)
        end = _first(generation.eos_token_id, config.eos_token_id)
        if not (isinstance(start, int) and isinstance(end, int)):
            raise UserError(
                f"the generation config has decoder_start_token_id={start!r} and eos_token_id={end!r}: "
                "give each one token in generation_config.json"
            )
        rules = cls(
            start=start,
            end=end,
            padding=_first(generation.pad_token_id, end),
            multilingual=bool(tables.get("lang_to_id")) and getattr(generation, "is_multilingual", None) is not False,
            forced=_forced(generation, config),
            language=getattr(generation, "language", None),
            task=getattr(generation, "task", None),
            languages=tables.get("lang_to_id") or {},
            tasks=tables.get("task_to_id") or {},
            untimed=tables.get("no_timestamps_token_id"),
            stated=tuple(_tables(generation)),
            timed=bool(getattr(generation, "return_timestamps", None)),
            never=tuple(token for token in generation.suppress_tokens or () if token in labels),
            not_first=tuple(token for token in generation.begin_suppress_tokens or () if token in labels),
            repetition_penalty=float(_first(generation.repetition_penalty, 1.0)),
            no_repeat_ngram_size=int(_first(generation.no_repeat_ngram_size, 0)),
            room=config.max_target_positions,
            max_length=generation.max_length,
            max_new_tokens=generation.max_new_tokens,
        )
        rules._refuse_presets()
        return rules

    @classmethod
    def from_json(cls, described: Mapping[str, Any]) -> "GenerationRules":
        """The rules from plain data; raises ValueError where they are those of an older version."""
        names = [field.name for field in fields(cls)]
        if lacking := [name for name in names if name not in described]:
            raise ValueError(f"its rules lack {lacking[0]}, so that an older version wrote it: export it again")
        lists = {name: tuple(value) for name, value in described.items() if isinstance(value, list)}
        return cls(**{name: lists.get(name, described[name]) for name in names})

    def to_json(self) -> dict[str, Any]:
        """Plain data, with the `prompt` and the `most` tokens of a text, the prompt included, that follow from them."""
        return asdict(self) | {"prompt": list(self.prompt()), "most": self.most(len(self.prompt()))}

    def prompt(self, language: str | None = None, task: str | None = None) -> tuple[int | None, ...]:
        """The tokens that a text begins with; None stands for the token of the detected language.

        Args:
            language, task: as `checked` returns them; None takes the model's own.
        """
        completed = self._completes(language, task)
        language, task = language or self.language, task or self.task
        tokens: list[int | None] = [self.start, *(self.forced if language is None and task is None else ())]
        detected = len(tokens) == 1 or tokens[1] is None
        if language is not None:
            tokens[1:2] = [self.languages[self.token(language) or language]]
        elif detected and self.languages and (completed or "lang_to_id" in self.stated):
            tokens[1:2] = [None]
        elif detected:
            tokens[1:2] = []
        if task is not None:
            tokens.append(self.tasks[task])
        elif language is not None and (completed or "task_to_id" in self.stated):
            tokens.append(self.tasks["transcribe"])
        if self.untimed is not None and (completed or "no_timestamps_token_id" in self.stated):
            if self.timed and tokens[-1] == self.untimed:
                tokens.pop()
            elif not self.timed and tokens[-1] != self.untimed:
                tokens.append(self.untimed)
        return tuple(tokens)

    def most(self, prompt: int) -> int:
        """Tokens of a text at most, with a prompt of so many."""
        if self.max_new_tokens is not None:
            return prompt + self.max_new_tokens
        return min(self.room, _first(self.max_length, DEFAULT_LENGTH) + min(self.room // 2 - 1, prompt))

    def token(self, language: str) -> str | None:
        """The name of a language's token, from its code, its English name or the token itself; None without one."""
        said = language.strip().lower()
        code = said.strip("<|>")
        for name in (code, TO_LANGUAGE_CODE.get(code), re.split("[-_]", code)[0]):
            if f"<|{name}|>" in self.languages:
                return f"<|{name}|>"
        return None

    def checked(self, language: str | None, task: str | None) -> tuple[str | None, str | None]:
        """The token of the language and the task as `generate` takes them; an English-only model takes neither.

        Raises:
            OptionError: the model cannot be given that language or task.
        """
        if task is not None and task not in TASKS:
            raise OptionError("task", task, f"choose one of {', '.join(TASKS)}")
        if not self.multilingual:
            if task == "translate":
                raise OptionError("task", task, "the model is English-only and translates nothing: leave it out")
            if language is not None and re.split("[-_]", language.strip("<|>").lower())[0] not in ("en", "english"):
                raise OptionError("language", language, "the model is English-only: take a multilingual one")
            return None, None
        if language is not None and (token := self.token(language)) is None:
            raise OptionError("language", language, f"the model has no such language; it has {named(self.languages)}")
        if task is not None and task not in self.tasks:
            raise OptionError("task", task, "the model has no token for it: leave it out")
        return None if language is None else token, task

    def preset(self, language: str | None, task: str | None) -> "GenerationRules":
        """The same rules with another language and task, as `checked` returns them, for those of the model."""
        if language is None and task is None:
            return self
        return replace(self, language=language or self.language, task=task or self.task, stated=TABLES)

    def config(self, generation: Any, language: str | None, task: str | None) -> Any:
        """What `generate` takes: a copy of the model's generation config with the tables that it lacks and needs.

        One text comes out for a window, as a tensor, whatever the config says. An exported model takes the rules.
        """
        if isinstance(generation, GenerationRules):
            return self
        found: GenerationConfig = copy.deepcopy(generation)
        for name, table in zip(TABLES, (self.languages, self.tasks, self.untimed), strict=True):
            needed = name in self.stated or self._completes(language, task)
            if needed and table is not None and getattr(found, name, None) is None:
                setattr(found, name, table)
            if getattr(found, name, "") is None:  # which transformers takes for a table
                delattr(found, name)
        found.decoder_start_token_id = self.start
        for name, value in (("language", self.language), ("task", self.task)):
            if value is not None:
                setattr(found, name, value)
        if self.forced or getattr(found, "forced_decoder_ids", None) == []:  # of which transformers reads the first
            forced = [[position, token] for position, token in enumerate(self.forced, start=1)]
            setattr(found, "forced_decoder_ids", forced or None)  # noqa: B010  not declared any more
        found.num_return_sequences, found.return_dict_in_generate = 1, False
        return found

    def decided(self, token: int) -> "GenerationRules":
        """The same rules where the language is not detected any more: it is that of `token`."""
        if self.language is None and self.task is None:
            return replace(self, forced=(token, *self.forced[1:]))
        return replace(self, language=next(name for name, known in self.languages.items() if known == token))

    @property
    def of_transcripts(self) -> "GenerationRules":
        """The same rules, with a prompt that names language, task and the lack of times as far as the model knows them.

        What an outdated generation config leaves out of the prompt, the model writes by itself and a transcript lacks.
        """
        if self.untimed is None or self.prompt()[-1] == self.untimed:
            return self
        return replace(self, stated=TABLES, task=self.task or ("transcribe" if self.multilingual else None))

    def _completes(self, language: str | None, task: str | None) -> bool:
        """Whether what the generation config lacks is needed."""
        unnamed = self.language is not None and "lang_to_id" not in self.stated
        untold = self.task is not None and "task_to_id" not in self.stated
        return language is not None or task is not None or unnamed or untold

    def _refuse_presets(self) -> None:
        """Raise UserError for a preset language or task that the model does not have."""
        for name, value, known in (
            ("language", self.language, isinstance(self.language, str) and self.token(self.language)),
            ("task", self.task, self.task in self.tasks),
        ):
            if value is not None and not known:
                raise UserError(
                    f"the model's generation config asks for {name}={value!r}, for which it has no token: "
                    f"correct {name} in generation_config.json or take it out"
                )


def written_language(model: Any) -> str | None:
    """The language that a model, exported or not, writes whatever is spoken; None where it writes what is spoken."""
    settings = model.generation_config
    if isinstance(settings, GenerationRules):
        several, forced, languages, tasks = settings.multilingual, settings.forced, settings.languages, settings.tasks
    else:
        several, forced = is_multilingual(settings, model.config), _forced(settings, model.config)
        languages, tasks = (getattr(settings, name, None) or {} for name in TABLES[:2])
    task, language = getattr(settings, "task", None), getattr(settings, "language", None)
    if not several or task == "translate":
        return "en"
    if task is None and language is None and forced:
        if tasks.get("translate") in forced:
            return "en"
        return next((name for name, token in languages.items() if token == forced[0]), None)
    return language


def refuse_other_search(model: Any, where: str) -> None:
    """Raise UserError where a generation config asks for more than `GenerationRules` say.

    Args:
        where: what cannot follow it, as the subject of a sentence.
    """
    for name, plain in PLAIN_SEARCH.items():
        value = getattr(model.generation_config, name, None)
        if value not in (None, False, *plain):
            raise UserError(
                f"the model's generation config asks for {name}={value}, and {where} does not do that: "
                f"take {name} out of generation_config.json"
            )


def _tables(generation: Any) -> dict[str, Any]:
    """The tables of tokens that a generation config has."""
    return {name: getattr(generation, name) for name in TABLES if getattr(generation, name, None) is not None}


def _spelled(tokenizer: Any, labels: range, *, multilingual: bool) -> dict[str, Any]:
    """The same tables from a tokenizer's tokens."""
    known = {token: label for token, label in tokenizer.get_vocab().items() if label in labels}
    found: dict[str, Any] = {}
    if (untimed := known.get("<|notimestamps|>")) is not None:
        found["no_timestamps_token_id"] = untimed
    languages = {f"<|{code}|>": known[f"<|{code}|>"] for code in LANGUAGES if f"<|{code}|>" in known}
    if multilingual and languages:
        found["lang_to_id"] = languages
        found["task_to_id"] = {task: known[f"<|{task}|>"] for task in TASKS if f"<|{task}|>" in known}
    return found


def is_multilingual(generation: Any, config: Any) -> bool:
    """Whether a model is multilingual, by its config; older ones do not say."""
    stated = getattr(generation, "is_multilingual", None)
    return config.vocab_size != ENGLISH_LABELS if stated is None else bool(stated)


def _forced(generation: Any, config: Any) -> tuple[int | None, ...]:
    """`forced_decoder_ids` of a generation config or, where it has none, of the config."""
    forced = _first(*(getattr(each, "forced_decoder_ids", None) for each in (generation, config)), [])
    refuse_unpaired(forced)
    if not forced or forced[0][0] != 1:
        return ()
    if [position for position, _ in forced] != list(range(1, len(forced) + 1)):
        raise UserError(
            f"the generation config has forced_decoder_ids={forced}, which leave positions out: "
            "give language and task in generation_config.json in their place"
        )
    return tuple(token for _, token in forced)


def _first(*values: Any) -> Any:
    """The first value that is not None."""
    return next((value for value in values if value is not None), None)
