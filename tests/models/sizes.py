"""Settings of small and of full-sized models."""

from irisflow import schema


def tokenizer_settings(
    *,
    ch: int = 8,
    ch_mult: list[int] | None = None,
    width: int = 16,
    vocab_size: int = 32,
    num_res_blocks: int = 1,
    reconstruction: dict | None = None,
) -> schema.Tokenizer:
    net = schema.Net(
        schema.NetConfig(
            resolution=64,
            in_channels=3,
            z_channels=width,
            ch=ch,
            ch_mult=ch_mult or [1, 1, 1, 1, 1],
            num_res_blocks=num_res_blocks,
            attn_resolutions=[8, 16],
            out_ch=3,
            dropout=0.0,
        )
    )
    return schema.Tokenizer(
        name="test",
        vocab_size=vocab_size,
        embed_dim=width,
        tokens_per_position=1,
        encoder=net,
        decoder=net,
        quantizer={"name": "vq", "vocab_size": vocab_size, "embed_dim": width, "beta": 1.0},
        reconstruction=reconstruction or {"l1": {"weight": 1.0}},
    )


def world_model_settings(
    *, num_layers: int = 2, num_heads: int = 2, embed_dim: int = 16, max_blocks: int = 20, pdrop: float = 0.1
) -> schema.WorldModel:
    sizes = {
        "num_layers": num_layers,
        "num_heads": num_heads,
        "embed_dim": embed_dim,
        "embed_pdrop": pdrop,
        "resid_pdrop": pdrop,
        "attn_pdrop": pdrop,
        "attention": "causal",
    }
    backbone = {"name": "gpt", **sizes, "max_tokens": 17 * max_blocks, "tokens_per_block": 17}
    return schema.WorldModel(
        name="test",
        tokens_per_block=17,
        max_blocks=max_blocks,
        backbone=backbone,
        prediction={"name": "autoregressive"},
        reward={"name": "sign"},
        **sizes,
    )


def agent_settings(*, use_original_obs: bool = False) -> schema.Settings:
    policy = {
        "name": "cnn_lstm",
        "hidden_dim": 16,
        "channels": [4, 4, 8, 8],
        "use_original_obs": use_original_obs,
    }
    return schema.Settings(
        tokenizer=tokenizer_settings(), world_model=world_model_settings(), actor_critic=policy
    )


FULL_TOKENIZER = tokenizer_settings(ch=64, width=512, vocab_size=512, num_res_blocks=2)
FULL_WORLD_MODEL = world_model_settings(num_layers=10, num_heads=4, embed_dim=256)
FULL_POLICY = {
    "name": "cnn_lstm",
    "hidden_dim": 512,
    "channels": [32, 32, 64, 64],
    "use_original_obs": False,
}
