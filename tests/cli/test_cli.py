"""The command line: what people and scripts see of every verb, and one sentence for whatever is wrong."""

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
import soundfile
import transformers
from helpers.families import FAMILIES
from helpers.mini_recogniser import clips, mini_parakeet, mini_processor

import trimbre.cli
from trimbre.cli import options
from trimbre.cli.console import app
from trimbre.config import AugmentConfig, PruneConfig, TrainConfig
from trimbre.data.cuts import read_cuts
from trimbre.errors import OptionError
from trimbre.inference.greedy import greedy
from trimbre.inference.long_form import Transcript
from trimbre.models.checkpoint import load_plan, save
from trimbre.models.inputs import features_of
from trimbre.models.loading import load
from trimbre.training.distillation import Objective
from trimbre.training.from_scratch import Average

VERBS = [
    ["bench"],
    ["compare"],
    ["convert", "ctranslate2"],
    ["inspect"],
    ["train"],
    ["prune"],
    ["eval"],
    ["transcribe"],
    ["export"],
    ["graph"],
    ["corpus", "folder"],
    ["corpus", "librispeech"],
]
DRAWING = ("bench", "inspect", "train", "prune")
"""What `--seed` makes a difference to."""
RUNNING = ("bench", "inspect", "train", "prune", "eval", "transcribe")
"""What runs a model on a device of the user's choice."""
CONFIG = {
    "model_type": "parakeet_ctc",
    "vocab_size": 12,
    "encoder_config": {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "num_mel_bins": 16,
        "subsampling_conv_channels": 4,
    },
}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with a model, a config, recordings with the transcripts of that model, and their corpus."""
    place = tmp_path_factory.mktemp("place")
    model, processor = mini_parakeet(), mini_processor()
    save(model, processor, place / "mini")
    (place / "config.json").write_text(json.dumps(CONFIG))
    (place / "recordings").mkdir()
    for number, samples in enumerate(clips(*[0.6 + 0.2 * step for step in range(6)])):
        file = place / "recordings" / f"{number}.wav"
        soundfile.write(file, samples / 8, 16000, subtype="PCM_16")
        texts = greedy(model, features_of([soundfile.read(file, dtype="float32")[0]], processor), processor)
        file.with_suffix(".txt").write_text(texts[0])
        (place / "untranscribed").mkdir(exist_ok=True)
        shutil.copy(file, place / "untranscribed")
    for source, out in (("recordings", "data"), ("untranscribed", "mute")):
        assert trimbre.cli.run(["corpus", "folder", str(place / source), "--out", str(place / out), "--no-split"]) == 0
    tiny = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    transformers.BertForMaskedLM(transformers.BertConfig(vocab_size=9, **tiny)).save_pretrained(place / "reader")
    convolutions = {"conv_dim": (8,), "conv_kernel": (10,), "conv_stride": (5,), "num_conv_pos_embedding_groups": 2}
    cousin = transformers.SEWConfig(vocab_size=30, pad_token_id=29, **tiny, **convolutions)
    save(
        transformers.SEWForCTC(cousin),
        FAMILIES["wav2vec2-conformer, relative"].processor(),
        place / "cousin",
    )
    return place


@pytest.fixture
def there(place, tmp_path, monkeypatch) -> Path:
    """A working directory that holds the same under the same names, to write into."""
    for thing in place.iterdir():
        (tmp_path / thing.name).symlink_to(thing)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    return tmp_path


@pytest.fixture
def run(capfd):
    """Run a command line in this process -> exit code, stdout, stderr."""

    def run(line: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = trimbre.cli.run(shlex.split(line))
        return code, *capfd.readouterr()

    # The command silences transformers by the environment, which is too late where it's imported already.
    transformers.utils.logging.disable_progress_bar()
    yield run
    transformers.utils.logging.enable_progress_bar()


def json_of(out: str) -> dict:
    """The one JSON object that is the last line of stdout, and all of it."""
    assert len(out.splitlines()) == 1
    return json.loads(out)


# What --help says


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_every_verb_explains_itself_with_an_example(verb, run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    code, out, err = run(shlex.join([*verb, "--help"]))
    assert (code, err) == (0, "")
    assert f"trimbre {' '.join(verb)} " in out.partition("Example")[2]
    assert "--json" in out
    assert ("--seed INT" in out) == (verb[0] in DRAWING)
    assert ("--device STR" in out) == (verb[0] in RUNNING)
    for noise in ("--empty", "--no-json", "default: False", "default: None", "default: ()", "default: ("):
        assert noise not in out


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_every_example_is_a_command_line_that_is_understood(verb):
    command = app
    for word in verb:
        command = command[word]
    text = command.help_epilogue.replace("\\\n", " ")
    examples = [shlex.split(line) for line in text.splitlines() if line.startswith("    trimbre ")]
    assert examples
    for example in examples:
        assert example[1 : 1 + len(verb)] == verb
        app.parse_args(example[1:], exit_on_error=False, print_error=False)


def test_every_command_is_listed_and_a_bare_command_shows_the_list(run):
    code, out, err = run("")
    assert (code, err) == (0, "")
    commands = re.findall(r"^│ ([a-z]+) ", out, re.MULTILINE)
    assert {verb[0] for verb in VERBS} == set(commands)
    code, out, _ = run("corpus")
    assert {verb[1] for verb in VERBS if verb[0] == "corpus"} == set(re.findall(r"^│ ([a-z]+) ", out, re.MULTILINE))


def test_the_version_is_the_package_s(run):
    assert run("--version")[:2] == (0, f"{trimbre.__version__}\n")


def test_help_comes_without_the_heavy_libraries():
    script = (
        "import runpy, sys\n"
        "sys.argv = ['trimbre', 'prune', '--help']\n"
        "try:\n"
        "    runpy.run_module('trimbre', run_name='__main__', alter_sys=True)\n"
        "except SystemExit as leaving:\n"
        "    assert leaving.code == 0, leaving.code\n"
        "print(sorted({'torch', 'transformers', 'lhotse', 'numpy', 'accelerate'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Usage: trimbre prune" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


# Flags and configs


def flags_of(flags) -> dict:
    """Every field that is a flag, those of groups too, with its value."""
    found = {}
    for field in fields(flags):
        value = getattr(flags, field.name)
        found |= flags_of(value) if is_dataclass(value) else {f"--{field.name.replace('_', '-')}": value}
    return found


def config_of(config) -> dict:
    """Every field of a config, those of its parts too, by the flag that errors name, with its value."""
    found = {}
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            found |= config_of(value)
            continue
        flag = options.flag(OptionError(field.name, value, "", owner=type(config).__name__))
        assert flag not in found
        found[flag] = value
    return found


@pytest.mark.parametrize(
    ("flags", "config"), [(options.PruneFlags(), PruneConfig()), (options.TrainFlags(), TrainConfig())]
)
def test_every_field_of_a_config_is_one_flag_with_the_same_default(flags, config):
    flags, config = flags_of(flags), config_of(config)
    if "--augment" in flags:  # which switches all of them on
        config |= config_of(AugmentConfig()) | {"--augment": False}
    assert config.pop("--seed") == 0  # an option of several commands
    if "--remove" in flags:  # that it was not given matters beside --rtf
        assert (flags.pop("--remove"), config.pop("--remove")) == (None, 0.5)
    assert flags == config


@pytest.mark.parametrize(
    ("error", "typed"),
    [
        (OptionError("remove", 1.2, "give a share", owner="PruneConfig"), "--remove 1.2: give a share"),
        (OptionError("rate", 0.0, "more", owner="GateConfig"), "--gate-rate 0: more"),
        (OptionError("rate", 0.0, "more", owner="RecoveryConfig"), "--recover-rate 0: more"),
        (OptionError("rate", 0.0, "more", owner="TrainConfig"), "--rate 0: more"),
        (OptionError("snr", (9.0, 5.0), "the lowest first", owner="AugmentConfig"), "--snr 9 5: the lowest first"),
        (OptionError("watch", {"street": "gone"}, "is not there"), "--watch street=gone: is not there"),
        (OptionError("resume", True, "there is none"), "--resume: there is none"),
        (OptionError("out", "half", "exists"), "--out half: exists"),
        (OptionError("margin_percent", -1.0, "give 0 or more"), "--margin -1: give 0 or more"),
        (OptionError("model", "gone", "is not there"), "MODEL gone: is not there"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_error_is_said_as_it_was_typed(error, typed):
    assert options.as_typed(error) == typed


PYTHON_ALONE = {"processor", "chunk_seconds", "overlap_seconds", "classes", "runtimes", "name", "revision"}
"""Arguments of functions and fields that no command has."""


def options_in_errors() -> list[tuple[str, str]]:
    """Owner and name of every option that the library raises an error about, as far as the source names them."""
    raising = ("OptionError", "at_least", "above_zero", "one_of")
    found = set()
    for path in Path(trimbre.__file__).parent.rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            match call:
                case ast.Call(func=ast.Name(id=name), args=[ast.Constant(value=str(option)), *_], keywords=more):
                    if name in raising:
                        found.add(
                            (next((ast.literal_eval(one.value) for one in more if one.arg == "owner"), ""), option)
                        )
    return sorted(found)


def test_every_option_that_an_error_names_is_one_of_the_command_line():
    typed = set()
    for verb in VERBS:
        command = app
        for word in verb:
            command = command[word]
        for argument in command.assemble_argument_collection():
            typed |= {name.upper().lstrip("*") if not name.startswith("-") else name for name in argument.names}
    named = {option: options.flag(OptionError(option, None, "", owner=owner)) for owner, option in options_in_errors()}
    assert len(named) > 20
    assert {option: flag for option, flag in named.items() if flag not in typed}.keys() <= PYTHON_ALONE


# What is refused


@pytest.mark.parametrize(
    ("line", "culprit"),
    [
        ("frobnicate", "frobnicate"),
        ("corpus frobnicate", "frobnicate"),
        ("inspect", "MODEL"),
        ("inspect mini --frobnicate", "--frobnicate"),
        ("inspect mini more", "more"),
        ("inspect mini --seed x", "--seed"),
        ("inspect gone", "gone"),
        ("inspect config.json", "config.json"),
        ("inspect data", "data"),
        ("eval mini", "--data"),
        ("eval mini --data gone", "gone"),
        ("eval mini --data mini", "mini"),
        ("eval gone --data data", "gone"),
        ("eval mini --data data --against gone", "gone"),
        ("eval mini --data data --watch data", "--watch data"),
        ("eval mini --data data --watch =data", "--watch =data"),
        ("eval mini --data data --watch a=data a=data", "--watch a=data"),
        ("bench mini --table new.json --seed 3", "--seed"),
        ("eval mini --data data --watch data=data", "--watch data"),
        ("eval mini --data data --watch street=gone", "gone"),
        ("eval mini --data data --normalize twice", "--normalize twice"),
        ("eval mini --data data --threads 0", "--threads 0"),
        ("eval mini --data data --clips -1", "--clips -1"),
        ("eval mini --data data --threads 2", "--threads 2: they are for the real-time factor alone: give --clips"),
        ("eval mini --data data --show -1", "--show -1"),
        ("eval mini --data data --hypotheses all.txt", "--hypotheses all.txt"),
        ("eval mini --data data --hypotheses config.json", "--hypotheses config.json"),
        ("eval mini --data data --margin -1", "--margin -1"),
        ("eval mini --data data --graph gone", "--graph gone"),
        ("eval mini --data data --graph data", "--graph data"),
        ("transcribe mini recordings/0.wav --graph config.json", "--graph config.json"),
        ("graph mini --out new", "sentences"),
        ("graph mini --transcripts data --arpa gone --out new", "--arpa"),
        ("graph mini --arpa gone --out new", "--arpa gone"),
        ("graph mini --arpa data --out new", "--arpa data"),
        ("graph mini --arpa gone --order 2 --out new", "order"),
        ("graph mini --sentences gone --out new", "--sentences gone"),
        ("graph mini --sentences config.json --splits trian --out new", "--splits trian"),
        ("graph mini --transcripts data --splits train --out new", "--splits"),
        ("graph mini --transcripts mute --out new", "transcripts"),
        ("graph mini --transcripts data --order 0 --out new", "--order 0"),
        ("graph mini --transcripts data --weight -1 --out new", "--weight -1"),
        ("graph mini --transcripts data --weight inf --out new", "--weight inf"),
        ("graph mini --transcripts data --out mini", "--out mini"),
        ("graph mini --transcripts data --normalize twice --out new", "--normalize twice"),
        ("transcribe mini", "no audio file"),
        ("transcribe mini gone.wav", "gone.wav"),
        ("transcribe mini config.json", "config.json"),
        ("transcribe gone recordings/0.wav", "gone"),
        ("corpus folder gone --out new", "gone"),
        ("corpus folder mini --out new", "mini"),
        ("corpus folder recordings --out data", "--out data"),
        ("corpus folder recordings", "--out"),
        ("prune mini --train data", "--out"),
        ("prune mini --out new", "--train"),
        ("prune gone --train data --out new", "gone"),
        ("prune mini --train gone --out new", "gone"),
        ("prune mini --train data --out new --dev gone", "gone"),
        ("prune mini --train data --out mini", "--out mini"),
        ("prune mini --train data --out new --resume", "--resume"),
        ("prune mini --train data --out new --remove 2", "--remove 2"),
        ("prune mini --train data --out new --remove half", "--remove"),
        ("prune mini --train data --out new --remove 0.9999", "100.0%"),
        ("prune mini --train data --out new --budget euros", "--budget euros"),
        ("prune mini --train data --out new --of all", "--of all"),
        ("prune mini --train data --out new --protect ears", "--protect ears"),
        ("prune mini --train data --out new --precision fp16", "--precision fp16"),
        ("prune mini --train data --out new --learn-steps -1", "--learn-steps -1"),
        ("prune mini --train data --out new --save-every -1", "--save-every -1"),
        ("prune mini --train data --out new --snr 5", "--snr"),
        ("prune mini --train data --out new --augment --snr 9 5", "--snr 9 5"),
        ("prune mini --train data --out new --augment --speed 1.5", "--speed 1.5"),
        ("prune mini --train data --out new --noise 0.5", "--augment"),
        ("prune mini --train data --out new --dev data --watch data", "--watch data"),
        ("prune mini --train data --out new --dry-run --resume", "--dry-run"),
        ("prune mini --train data --out new --control --low-memory", "--control"),
        ("train --model mini --train data --dev data --out new --steps 5 --stop-at 6", "--stop-at 6"),
        ("prune mini --train data --out new --watch street=data", "--dev"),
        ("prune mini --train data --out new --dev mute", "--dev mute"),
        ("prune mini --train data --out new --dev data --watch street=mute", "--watch street=mute"),
        ("train --model config.json --train mute --dev data --out new", "--train mute"),
        ("train --model config.json --train data --dev mute --out new", "--dev mute"),
        ("inspect cousin", "SEWForCTC is not a model that Trimbre can prune yet (it knows "),
        ("inspect reader", "reader, a bert, is not a model that Trimbre can prune yet (it knows "),
        ("prune cousin --train data --out new", "trimbre.register_family"),
        ("prune mini --train data --out new --options.seed 3", "--options.seed"),
        ("train --model gone --train data --dev data --out new", "gone"),
        ("train --model gone.json --train data --dev data --out new", "gone.json"),
        ("train --model config.json --train gone --dev data --out new", "gone"),
        ("train --model config.json --train data --dev gone --out new", "gone"),
        ("train --model config.json --train data --dev data --out data", "--out data"),
        ("train --model config.json --train data --dev data --out new --resume", "--resume"),
        ("train --model config.json --train data --dev data --out new --steps 0", "--steps 0"),
        ("train --model config.json --train data --dev data --out new --precision fp16", "--precision fp16"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_and_nothing_is_written(there, run, line, culprit):
    before = sorted(there.iterdir())
    code, out, err = run(line)
    assert code == 2
    assert out == ""
    assert err.startswith("trimbre: ")
    assert err.count("\n") == 1
    assert culprit in err
    assert sorted(there.iterdir()) == before


def test_a_loss_that_is_no_number_ends_with_one_sentence(there, run):
    given = "--train data --dev data --steps 4 --short-steps 0 --rate 1e30 --out new"
    code, out, err = run(f"train --model mini {given}")
    assert (code, out) == (2, "")
    assert re.search(r"^trimbre: the loss is nan at step \d of train: start again", err, re.MULTILINE)
    assert "Traceback" not in err


# What comes out


def test_inspect_counts_what_the_model_holds(there, run):
    code, out, _ = run("inspect mini --json --verify")
    assert code == 0
    found = json_of(out)
    model, _ = load("mini")
    counted = {"blocks": model.encoder.layers, "encoder": model.encoder, "model": model}
    for scope, module in counted.items():
        assert found["dense"]["params"][scope] == sum(p.numel() for p in module.parameters())
    assert 0 < found["masked_equals_sliced_within"] < 1e-5
    code, out, _ = run("inspect mini --verify")
    assert code == 0
    for shown in ("attention heads", "masked equals sliced", f"{sum(p.numel() for p in model.parameters()):,}"):
        assert shown in out
    assert "masked equals sliced" not in run("inspect mini")[1]


def test_eval_finds_no_errors_in_what_the_model_itself_said(there, run):
    code, out, _ = run("eval mini --data data --against mini --watch again=data --clips 1 --json")
    assert code == 0
    found = json_of(out)
    assert [found["sets"][name]["wer"]["percent"] for name in ("data", "again")] == [0, 0]
    assert found["sets"]["again"]["utterances"] == 6
    assert found["real_time"]["utterances"]["threads"] == 1
    code, out, _ = run("eval mini --data data")
    assert code == 0
    assert "WER" in out
    assert "real-time factor" not in out


def test_eval_shows_and_writes_what_the_rate_is_made_of(there, run):
    Path("wrong").mkdir()
    for number in range(4):
        shutil.copy(f"recordings/{number}.wav", "wrong")
    Path("wrong/metadata.csv").write_text("file_name,text\n" + "".join(f"{n}.wav,bad {'bee ' * n}\n" for n in range(4)))
    code, out, _ = run("eval mini --data wrong --show 3 --hypotheses all.jsonl")
    assert code == 0
    rows = [json.loads(line) for line in Path("all.jsonl").read_text().splitlines()]
    worst = sorted(rows, key=lambda row: (-row["errors"], row["words"], row["id"]))[:3]
    assert all(f"{row['id']}: {row['errors']} error" in out for row in worst)
    code, out, _ = run("eval mini --data wrong --json")
    assert json_of(out)["sets"]["data"]["per_utterance"] == [
        {name: value for name, value in row.items() if name != "set"} for row in rows
    ]


def test_transcribe_prints_the_text_for_people_and_all_for_machines(there, run):
    texts = {f"recordings/{n}.wav": Path(f"recordings/{n}.txt").read_text() for n in (1, 5)}
    assert all(texts.values())
    assert run("transcribe mini recordings/5.wav")[:2] == (0, f"{texts['recordings/5.wav']}\n")
    lines = "".join(f"{file}: {text}\n" for file, text in texts.items())
    assert run(f"transcribe mini {' '.join(texts)}")[:2] == (0, lines)
    code, out, _ = run(f"transcribe mini {' '.join(texts)} --json")
    assert code == 0
    assert {one["file"]: one["text"] for one in json_of(out)["transcripts"]} == texts


def test_transcribe_goes_on_behind_a_bad_file(there, run):
    texts = {f"recordings/{n}.wav": Path(f"recordings/{n}.txt").read_text() for n in (1, 5)}
    files = ["recordings/1.wav", "config.json", "gone.wav", "recordings/5.wav"]
    code, out, err = run(f"transcribe mini {' '.join(files)}")
    assert (code, out) == (1, "".join(f"{file}: {text}\n" for file, text in texts.items()))
    assert [line.startswith("trimbre: ") for line in err.splitlines()] == [True, True]
    assert all(name in line for name, line in zip(files[1:3], err.splitlines(), strict=True))
    code, out, _ = run(f"transcribe mini {' '.join(files)} --json")
    assert (code, out.count("\n")) == (1, 1)
    found = json_of(out)["transcripts"]
    assert [one["file"] for one in found] == files
    assert [one["text"] for one in found] == [texts.get(file) for file in files]
    assert [name in one.get("error", "") for name, one in zip(files[1:3], found[1:3], strict=True)] == [True, True]
    assert not any("error" in one for one in (found[0], found[3]))
    code, out, err = run("transcribe mini config.json gone.wav")
    assert (code, out, len(err.splitlines())) == (2, "", 2)


def test_what_transcribe_printed_stays_printed_when_it_is_stopped(there, run, monkeypatch):
    def interrupted(*given, **options):
        yield Transcript("a.wav", "a bad cab", 1.5)
        raise KeyboardInterrupt

    monkeypatch.setattr("trimbre.api.transcribe", interrupted)
    code, out, err = run("transcribe mini a.wav b.wav --json")
    assert (code, err) == (130, "trimbre: stopped\n")
    assert json_of(out)["transcripts"] == [{"file": "a.wav", "text": "a bad cab", "seconds": 1.5}]


@pytest.mark.slow
@pytest.mark.parametrize("json", [[], ["--json"]])
def test_output_that_nobody_reads_is_no_error(there, json):
    command = [sys.executable, "-m", "trimbre", "eval", "mini", "--data", "data", *json]
    for output in ("closed", "unread"):
        reader, writer = os.pipe()
        os.close(reader)
        closing = {"preexec_fn": lambda: os.close(1)} if output == "closed" else {"stdout": writer}
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False, **closing)
        os.close(writer)
        assert (done.returncode, done.stderr) == ((0, "") if output == "closed" else (141, ""))


def test_a_graph_changes_what_eval_and_transcribe_write(there, run):
    vocabulary = {word for file in Path("recordings").glob("*.txt") for word in file.read_text().split()}
    Path("said.txt").write_text("bad cab\na bad egg fed\n")
    code, out, _ = run("graph mini --sentences said.txt --out other --json")
    assert code == 0
    assert json_of(out)["words"] == 6 - 1  # bad is in both
    code, out, _ = run("graph mini --transcripts data --weight 0.01 --out own")
    assert (code, out.startswith("own: ")) == (0, True)
    for graph, words in {"own": vocabulary, "other": {"bad", "cab", "a", "egg", "fed"}}.items():
        written = run(f"transcribe mini recordings/5.wav --graph {graph}")[1].split()
        assert written
        assert set(written) <= words
    rates = {}
    for graph in ("own", "other"):
        code, out, _ = run(f"eval mini --data data --against mini --graph {graph} --clips 1 --json")
        assert code == 0
        found = json_of(out)
        assert found["graph"]["out"] == graph
        assert found["sets"]["data"]["references"]["baseline"]["comparison"]["points"] == 0
        rates[graph] = found["sets"]["data"]["wer"]["percent"]
    assert rates["own"] < rates["other"]
    assert "decoded by the graph own" in run("eval mini --data data --graph own")[1]
    for line in ("eval mini --data data --normalize none --graph own", "graph mini --transcripts data --out data"):
        code, _, err = run(line)
        assert code == 2
        assert err.count("\n") == 1
    assert run("graph mini --sentences said.txt --out own")[0] == 0  # what it wrote before it may replace
    assert json.loads(Path("own/graph.json").read_text())["sentences"] == 2


def test_a_folder_of_recordings_becomes_a_corpus(there, run):
    code, out, _ = run("corpus folder recordings --out new/mine --json")
    assert code == 0
    found = json_of(out)
    assert sum(found["utterances"].values()) == 6
    splits = {
        split: [c.supervisions[0].text for c in read_cuts(Path("new/mine") / split)] for split in found["utterances"]
    }
    texts = sorted(path.read_text() for path in Path("recordings").glob("*.txt"))
    assert sorted(text for texts in splits.values() for text in texts) == texts
    code, out, _ = run("corpus folder recordings --out whole --no-split")
    assert code == 0
    assert "6" in out
    assert sorted(cut.supervisions[0].text for cut in read_cuts("whole")) == texts


SMALL = (
    "--train data --budget params --remove 0.45 --method l0 --learn-steps 4 --recover-steps 2 --save-every 1 "
    "--calibration-batches 4 --refit-batches 4"
)


def test_prune_writes_a_model_that_is_smaller_and_loads(there, run):
    code, out, _ = run(f"prune mini {SMALL} --out half --json")
    assert code == 0
    found = json_of(out)
    assert found["missed"] is None
    assert json.loads(Path("half/prune.json").read_text()) == found
    counts = [sum(p.numel() for p in load(name).model.encoder.layers.parameters()) for name in ("mini", "half")]
    assert 1 - counts[1] / counts[0] == pytest.approx(found["removed"]["params"]["blocks"])
    assert load_plan("half").changes
    assert not Path("half.run").exists()


def test_a_dry_run_says_what_would_be_removed_and_writes_nothing(there, run):
    before = sorted(there.iterdir())
    code, out, _ = run("prune mini --train data --out half --remove 0.25 --of model --dry-run --json")
    assert code == 0
    whole = sum(p.numel() for p in load("mini").model.parameters())
    assert json_of(out)["to_remove"]["params"] == pytest.approx(whole / 4)
    assert "nothing is written" in run("prune mini --train data --out half --dry-run")[1]
    assert sorted(there.iterdir()) == before


def test_a_missed_target_is_said_with_both_figures_and_the_model_is_written(there, run):
    code, out, err = run(f"prune mini {SMALL.replace('0.45', '0.3')} --out half --multiple-of 16")  # all or nothing
    assert code == 1
    assert re.search(r"^trimbre: asked to remove 30\.0%, removed \d+\.\d% of", err, re.MULTILINE)
    assert "trimbre.load('half')" in out
    assert load("half").model.config.trimbre


@pytest.mark.parametrize(
    ("line", "where"),
    [
        (f"prune mini {SMALL} --out 'the new one'", Objective),
        ("train --model config.json --train data --dev data --steps 6 --short-steps 2 --out 'the new one'", Average),
    ],
    ids=["prune", "train"],
)
def test_ctrl_c_exits_with_130_and_says_how_to_go_on(there, run, monkeypatch, line, where):
    usual, calls = where.__call__, []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return usual(*args)

    monkeypatch.setattr(where, "__call__", interrupted)
    code, out, err = run(line)
    assert (code, out) == (130, "")
    assert "Traceback" not in err
    words = shlex.split(err.splitlines()[-1].removeprefix("trimbre: stopped; go on with: trimbre "))
    assert words == [*shlex.split(line), "--resume"]
    assert not Path("the new one").exists()

    calls[:] = [None] * 3  # the advice holds after a second interruption as well
    code, _, err = run(shlex.join(words))
    assert code == 130
    assert err.endswith(f"go on with: trimbre {shlex.join(words)}\n")
    assert run(shlex.join(words))[0] == 0
    assert load("the new one").model
    assert not Path("the new one.run").exists()


def test_ctrl_c_elsewhere_promises_nothing(there, run, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("trimbre.models.source.load_model", interrupted)
    assert run("inspect mini") == (130, "", "trimbre: stopped\n")
    assert run("prune mini --train data --out new --dry-run") == (130, "", "trimbre: stopped\n")


def test_the_console_script_and_the_module_are_the_same_command():
    script = shutil.which("trimbre", path=os.path.dirname(sys.executable))
    assert script
    for command in ([script], [sys.executable, "-m", "trimbre"]):
        done = subprocess.run([*command, "frobnicate"], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith('trimbre: Unknown command "frobnicate"')
