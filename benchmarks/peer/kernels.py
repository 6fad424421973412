"""Single operations in PyTorch, to be timed beside ours: `comneck bench kernels --peer 'python3 benchmarks/peer/kernels.py'`.

A server on standard input and output, so that ours and these take turns:

    -> a line of JSON when ready: {"torch": ..., "stages": ["attention sdpa", ...]}
    <- STAGE <tab> f32|bf16|f16 <tab> SIZES <tab> REPEATS         sizes as comneck has them, separated by commas
    -> {"us": [...]}                                      microseconds of each repetition; empty where there is no such kernel

Attention starts, as ours does, from the projection's output (B,N,3,H,D) and ends with (B,N,H,D): `sdpa` is what PyTorch chooses for it,
`flash`, `cudnn` and `efficient` are the named kernels, which exist on a GPU only. Times on a GPU are taken between two events.
"""
import argparse
import json
import sys
import time

try:
    import torch
    import torch.nn.functional as F
    from torch.nn.attention import SDPBackend, sdpa_kernel
except ImportError as error:
    sys.exit(f"kernels.py: {sys.executable} has no PyTorch to compare with ({error}); name a Python that has it in --peer")

TYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
KERNELS = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION, "efficient": SDPBackend.EFFICIENT_ATTENTION}


def attention(sizes, kind, variant):
    batch, heads, tokens, depth = sizes
    qkv = torch.rand(batch, tokens, 3, heads, depth, **kind) * 4 - 2
    q, k, v = (qkv[:, :, i].transpose(1, 2) for i in range(3))

    def plain():
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).contiguous()

    def chosen():
        with sdpa_kernel(KERNELS[variant]):
            return plain()

    return plain if variant == "sdpa" else chosen


def linear(sizes, kind, variant):
    rows, inputs, outputs = sizes
    x, weight, bias = torch.rand(rows, inputs, **kind), torch.rand(outputs, inputs, **kind), torch.rand(outputs, **kind)
    return lambda: F.linear(x, weight, bias)


def layer_norm(sizes, kind, variant):
    rows, channels = sizes
    x, weight, bias = torch.rand(rows, channels, **kind), torch.rand(channels, **kind), torch.rand(channels, **kind)
    return lambda: F.layer_norm(x, (channels,), weight, bias)


def embed_norm(sizes, kind, variant):
    batch, patches, channels = sizes
    x, first, table = torch.rand(batch, patches, channels, **kind), torch.rand(1, 1, channels, **kind), torch.rand(patches + 1, channels, **kind)
    weight, bias = torch.rand(channels, **kind), torch.rand(channels, **kind)
    return lambda: F.layer_norm(torch.cat([first.expand(batch, 1, channels), x], 1) + table, (channels,), weight, bias)


def repetitions(work, repeats, device):
    if device == "cpu":
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            work()
            times.append((time.perf_counter() - start) * 1e6)
        return times
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(repeats + 1)]
    marks[0].record()
    for mark in marks[1:]:
        work()
        mark.record()
    torch.cuda.synchronize()
    return [a.elapsed_time(b) * 1e3 for a, b in zip(marks, marks[1:])]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_grad_enabled(False)
    torch.manual_seed(1)
    variants = ["sdpa"] + (list(KERNELS) if options.device == "cuda" else [])
    stages = {f"attention {variant}": (attention, variant) for variant in variants}
    stages["linear torch"] = (linear, "")
    stages["layer-norm torch"] = (layer_norm, "")
    stages["embed-norm torch"] = (embed_norm, "")

    def answer(value):
        print(json.dumps(value), flush=True)

    prepared = {}  # the last kernel asked for in each stage: earlier ones give their memory back
    answer({"torch": torch.__version__, "stages": list(stages)})
    for line in sys.stdin:
        stage, precision, sizes, repeats = line.rstrip("\n").split("\t")
        key = (precision, sizes)
        try:
            if prepared.get(stage, (None,))[0] != key:
                prepared.pop(stage, None)
                make, variant = stages[stage]
                kind = {"device": options.device, "dtype": TYPES[precision]}
                work = make([int(size) for size in sizes.split(",")], kind, variant)
                for _ in range(3):
                    work()
                prepared[stage] = (key, work)
            answer({"us": repetitions(prepared[stage][1], int(repeats), options.device)})
        except RuntimeError as error:  # such as a kernel that does not take this type or depth
            print(f"kernels.py: {stage}, {precision}, {sizes}: {str(error).splitlines()[0]}", file=sys.stderr)
            answer({"us": []})


if __name__ == "__main__":
    main()
