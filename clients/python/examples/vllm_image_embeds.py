#!/usr/bin/env python3
"""Builds the chat message that gives vLLM precomputed visual tokens: `image_embeds`, base64 of an .npy file.

    vllm serve llava-hf/llava-1.5-7b-hf --enable-mm-embeds
    python vllm_image_embeds.py photo.cnk --projector llava-projector.npz --prompt "What is in the picture?" |
        curl -s http://localhost:8000/v1/chat/completions -H 'Content-Type: application/json' -d @-

vLLM expects tokens *after* the language model's projector: shape (1, tokens, hidden size), f16 or f32. The encoder's tokens (layer -2, patches, no
final norm, as LLaVA takes them) are therefore multiplied here by the projector of the language model: an .npz with linear_1.weight [H, D],
linear_1.bias [H] and, for LLaVA-1.5, linear_2.weight [H, H] and linear_2.bias [H], from `multi_modal_projector.*` of its checkpoint. Without
--projector the tokens go out as they are, for models whose hidden size is the encoder's.

The message carries a uuid made of the bitstream and the options, so that vLLM's cache finds the picture again.
"""
import argparse
import base64
import hashlib
import json
import math
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import comneck_client  # noqa: E402


def content_id(bitstream, *options):
    """A name for what the tokens are: letters and digits only, since vLLM may make a path of it."""
    digest = hashlib.sha256(bitstream)
    digest.update(repr(options).encode())
    return "comneck-" + digest.hexdigest()[:40]


def project(tokens, path):
    """tokens [N, D] times LLaVA's projector -> [N, H] f16: one linear layer, or two with exact GELU between them."""
    import numpy
    weights = numpy.load(path)
    x = tokens.astype(numpy.float32) @ weights["linear_1.weight"].T.astype(numpy.float32) + weights["linear_1.bias"]
    if "linear_2.weight" in weights:
        x = 0.5 * x * (1 + numpy.vectorize(math.erf, otypes=[numpy.float32])(x / math.sqrt(2)))
        x = x @ weights["linear_2.weight"].T.astype(numpy.float32) + weights["linear_2.bias"]
    return x.astype(numpy.float16)


def image_embeds(tokens, uuid):
    """The content part. tokens: [N, H], an array or comneck_client.Tokens."""
    one = comneck_client.Tokens(
        (1,) + tuple(tokens.shape),
        "f32" if (tokens.dtype if isinstance(tokens, comneck_client.Tokens) else str(tokens.dtype)) in (
            "f32", "float32") else "f16",
        tokens.data if isinstance(tokens, comneck_client.Tokens) else tokens.tobytes())
    return {"type": "image_embeds",
            "image_embeds": base64.b64encode(comneck_client.to_npy(one)).decode("ascii"),
            "uuid": uuid}


def request(model, prompt, tokens, uuid):
    """The body of POST /v1/chat/completions."""
    return {"model": model,
            "messages": [{"role": "user", "content": [{"type": "text", "text": prompt}, image_embeds(tokens, uuid)]}]}


def main():
    parser = argparse.ArgumentParser(description="Prints vLLM's chat request for a bitstream.")
    parser.add_argument("bitstream")
    parser.add_argument("--host", default="localhost")
    parser.add_argument("--port", type=int, default=8081, help="binary port of comneck serve")
    parser.add_argument("--model", default="llava-hf/llava-1.5-7b-hf", help="name that vLLM knows the language model by")
    parser.add_argument("--prompt", default="What is in the picture?")
    parser.add_argument("--projector", help=".npz with the language model's projector (needs NumPy)")
    flags = parser.parse_args()
    with open(flags.bitstream, "rb") as file:
        bitstream = file.read()
    with comneck_client.Client(flags.host, flags.port) as client:
        tokens = client.tokens(bitstream, tokens="patches", post_norm="none", projected=False, layer=-2)
        identity = client.details.identity.hex()
    if flags.projector:
        tokens = project(tokens, flags.projector)
    print(json.dumps(request(flags.model, flags.prompt, tokens, content_id(bitstream, identity, -2, flags.projector))))


if __name__ == "__main__":
    main()
