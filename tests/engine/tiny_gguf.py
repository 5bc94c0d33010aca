"""Tiny language models that Ollama loads and that speak only a–z and space, written by the tests themselves."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import gguf
import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

LETTERS = ["\u2581", *"abcdefghijklmnopqrstuvwxyz"]
TOKENS = ["<unk>", "<s>", "</s>", *(f"<0x{n:02X}>" for n in range(256)), *LETTERS]
TOKEN_TYPES = [2, 3, 3, *[6] * 256, *[1] * len(LETTERS)]
N_SPECIAL = len(TOKENS) - len(LETTERS)


@dataclass(frozen=True, slots=True)
class Shape:
    """What a model is made of. Sizes are F32."""

    embedding: int = 64
    blocks: int = 2
    heads: int = 4
    heads_kv: int = 2
    feed_forward: int = 128
    context: int = 2048  # tokens, at most
    epsilon: float = 1e-5
    seed: int = 1
    architecture: str = "llama"
    left_out: tuple[str, ...] = ()  # keys or tensors, by their names in the file
    speaks_letters: bool = True  # else raw bytes: 200 with done:false, or 500
    repeats: bool = False  # one letter for ever: runs into the repeat limit at temperature 0
    is_embedding: bool = False
    name: str = "tiny"  # as its maker called it: any text
    chat_template: str = ""  # Jinja; llama-server prints an example of it at each load


NORMAL = Shape()  # 451 kB
SMALLEST = Shape(embedding=32, blocks=1, heads=2, feed_forward=32)  # 110 kB
OTHER = Shape(seed=2)  # another digest, so another runner
SLOW = Shape(embedding=1024, blocks=2, heads=16, heads_kv=8, feed_forward=4096)  # 128 MB
SLOWEST = replace(SLOW, blocks=8)  # 506 MB, ~500 prompt tokens/s on two cores
EMBEDDING = Shape(is_embedding=True)
REPEATING = Shape(repeats=True)
GARBAGE = Shape(speaks_letters=False)
WITHOUT_TOKENS = Shape(left_out=("tokenizer.ggml.tokens",))
WITHOUT_TENSOR = Shape(left_out=("blk.1.ffn_up.weight",))
WITHOUT_BLOCK_COUNT = Shape(left_out=("llama.block_count",))  # ends a server of the older generation
ENDLESS = Shape(context=2**30)  # 256 B a token: a full context is 256 GiB, more than any test machine has
WITHOUT_CONTEXT = Shape(context=0)  # ≥ 0.30 asserts at the first answer
MORE_KV_HEADS = Shape(heads=2, heads_kv=4)  # asserts while it is loaded
NEGATIVE_EPSILON = Shape(epsilon=-1.0)  # asserts at the first computation: ≥ 0.30 loading, ≤ 0.29 answering
UNKNOWN_ARCHITECTURE = Shape(architecture="nosucharch")


def write_gguf(path: Path, shape: Shape = NORMAL) -> Path:
    """Write the model; the same shape gives the same bytes."""
    writer = gguf.GGUFWriter(path, shape.architecture)
    _add_keys(writer, shape)
    for name, tensor in _tensors(shape).items():
        if name not in shape.left_out:
            writer.add_tensor(name, tensor)
    for keys in writer.kv_data:
        for key in shape.left_out:
            keys.pop(key, None)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_cut(path: Path, *, size_bytes: int, shape: Shape = NORMAL) -> Path:
    """Write only the first bytes of the model: 200 kB cut its tensors, 3 kB its header, 0 leaves an empty file."""
    whole = write_gguf(path, shape).read_bytes()
    path.write_bytes(whole[:size_bytes])
    return path


def _add_keys(writer: gguf.GGUFWriter, shape: Shape) -> None:
    writer.add_name(shape.name)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.embedding)
    writer.add_block_count(shape.blocks)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.heads_kv)
    writer.add_layer_norm_rms_eps(shape.epsilon)
    writer.add_rope_dimension_count(shape.embedding // shape.heads)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(TOKENS)
    writer.add_token_scores([0.0] * len(TOKENS))
    writer.add_token_types(TOKEN_TYPES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    if shape.chat_template:
        writer.add_chat_template(shape.chat_template)
    if shape.is_embedding:
        writer.add_pooling_type(gguf.PoolingType.MEAN)


def _tensors(shape: Shape) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(shape.seed)
    # at a spread of 0.05 bytes leak out of large models
    spread = 0.05 * math.sqrt(min(1.0, 64 / shape.embedding))
    wide, kv = shape.embedding, shape.heads_kv * shape.embedding // shape.heads

    def draw(*size: int) -> np.ndarray:
        return rng.normal(0, spread, size).astype(np.float32)

    tensors = {
        "token_embd.weight": draw(len(TOKENS), wide),
        "output_norm.weight": np.ones(wide, np.float32),
        "output.weight": draw(len(TOKENS), wide),
    }
    for n in range(shape.blocks):
        block = {
            "attn_norm": np.ones(wide, np.float32),
            "attn_q": draw(wide, wide),
            "attn_k": draw(kv, wide),
            "attn_v": draw(kv, wide),
            "attn_output": draw(wide, wide),
            "ffn_norm": np.ones(wide, np.float32),
            "ffn_gate": draw(shape.feed_forward, wide),
            "ffn_up": draw(shape.feed_forward, wide),
            "ffn_down": draw(wide, shape.feed_forward),
        }
        tensors |= {f"blk.{n}.{name}.weight": tensor for name, tensor in block.items()}
    if shape.speaks_letters:
        _keep_to_letters(tensors, shape)
    return tensors


def _keep_to_letters(tensors: dict[str, np.ndarray], shape: Shape) -> None:
    """Channel 0 goes through all blocks unchanged and votes against everything that is no letter."""
    tensors["token_embd.weight"][:, 0] = 4.0
    for n in range(shape.blocks):
        tensors[f"blk.{n}.attn_output.weight"][0, :] = 0.0
        tensors[f"blk.{n}.ffn_down.weight"][0, :] = 0.0
    tensors["output.weight"][:N_SPECIAL, 0] = -2.0
    tensors["output.weight"][N_SPECIAL:, 0] = 2.0
    if shape.repeats:
        tensors["output.weight"][N_SPECIAL + 1, 0] = 6.0
