#!/usr/bin/env python3
"""Writes tokens where vLLM's ECExampleConnector looks for them: <shared_storage_path>/<mm_hash>/encoder_cache.safetensors, tensor `ec_cache`.

    python vllm_ec_cache.py photo.cnk --storage /mnt/ec --projector llava-projector.npz

prints the mm_hash. Give the same text as the `uuid` of the picture in the chat message: vLLM then takes it for the hash, finds the file, and computes no
encoder. Tokens are those after the language model's projector, shape (tokens, hidden size); see vllm_image_embeds.py. The file appears whole or not
at all.
"""
import argparse
import json
import os
import struct
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from vllm_image_embeds import comneck_client, content_id, project  # noqa: E402

FILE = "encoder_cache.safetensors"
TENSOR = "ec_cache"


def safetensors(tokens):
    """A safetensors file (bytes) with one tensor. tokens: [N, H], an array or comneck_client.Tokens."""
    if isinstance(tokens, comneck_client.Tokens):
        dtype, data = tokens.dtype.upper(), tokens.data
    else:
        dtype, data = {"float16": "F16", "float32": "F32"}[str(tokens.dtype)], tokens.tobytes()
    header = json.dumps({TENSOR: {"dtype": dtype, "shape": list(tokens.shape), "data_offsets": [0, len(data)]}},
                        separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + data


def store(storage, mm_hash, tokens):
    """Writes the file and returns its path."""
    folder = os.path.join(storage, mm_hash)
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, FILE)
    handle, temporary = tempfile.mkstemp(dir=folder, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(safetensors(tokens))
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    return path


def main():
    parser = argparse.ArgumentParser(description="Writes vLLM's encoder cache file for a bitstream.")
    parser.add_argument("bitstream")
    parser.add_argument("--storage", required=True, help="vLLM's shared_storage_path")
    parser.add_argument("--host", default="localhost")
    parser.add_argument("--port", type=int, default=8081, help="binary port of comneck serve")
    parser.add_argument("--dtype", choices=["f16", "bf16", "f32"], default="f16")
    parser.add_argument("--projector", help=".npz with the language model's projector (needs NumPy; writes f16)")
    flags = parser.parse_args()
    with open(flags.bitstream, "rb") as file:
        bitstream = file.read()
    with comneck_client.Client(flags.host, flags.port) as client:
        tokens = client.tokens(bitstream, tokens="patches", post_norm="none", projected=False, layer=-2,
                               dtype="f32" if flags.projector else flags.dtype)
        identity = client.details.identity.hex()
    if flags.projector:
        tokens = project(tokens, flags.projector)
    mm_hash = content_id(bitstream, identity, -2, flags.projector)
    store(flags.storage, mm_hash, tokens)
    print(mm_hash)


if __name__ == "__main__":
    main()
