"""The published design in plain PyTorch, to be timed beside ours: ELIC, transform-neck, CLIP ViT.

A server on standard input and output, so that `comneck bench` can take turns with it, repetition by repetition, on a busy machine:

    -> a line of JSON when ready: {"torch": ..., "threads": ..., "stages": [...]}
    <- a stage's name
    -> {"wall_ms": ..., "cpu_ms": ...}                     one repetition; cpu_ms is the processor time of all threads
    <- check LATENTS TOKENS                               two files of little-endian f32: y_hat (M,h,w), tokens (1+h*w,D)
    -> {"relative_l2": ...}                               the published neck and blocks on y_hat, against the tokens

Weights are read from a ComNeck model file (safetensors, published tensor names). Every stage is the plain form that the published code has:
convolutions on NCHW, both aggregation passes on the full grid, torch.nn.MultiheadAttention, f32. Its rANS is left out, so the times are
a lower bound of the published pipeline (from Python its entropy coder costs about 50 ms more for a 256x256 picture). The variants `tuned`
are what a careful user of PyTorch would write: one product for q, k, v, scaled_dot_product_attention, bf16 or fp16. `clip` is the whole
encoder from pixels in that form, `pixels` decoding, resizing and that.
"""
import argparse
import json
import mmap
import struct
import sys
import time

try:
    import torch
    import torch.nn.functional as F
except ImportError as error:
    sys.exit(f"peer.py: {sys.executable} has no PyTorch to compare with ({error}); name a Python that has it in --peer")

DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I32": torch.int32, "I16": torch.int16}


class Model:
    """Tensors of a safetensors file, by name, as f32."""

    def __init__(self, path, device):
        self.device = device
        self.file = open(path, "rb")
        self.bytes = mmap.mmap(self.file.fileno(), 0, access=mmap.ACCESS_COPY)
        (length,) = struct.unpack("<Q", self.bytes[:8])
        self.entries = json.loads(self.bytes[8 : 8 + length])
        self.manifest = json.loads(self.entries.pop("__metadata__")["comneck.manifest"])
        self.start = 8 + length
        self.cache = {}

    def __contains__(self, name):
        return name in self.entries

    def __call__(self, name):
        if name not in self.cache:
            entry = self.entries[name]
            begin, end = entry["data_offsets"]
            dtype = DTYPES[entry["dtype"]]
            count = (end - begin) // torch.empty((), dtype=dtype).element_size()
            flat = torch.frombuffer(self.bytes, dtype=dtype, count=count, offset=self.start + begin)
            self.cache[name] = flat.reshape(entry["shape"]).float().clone().to(self.device)
        return self.cache[name]


class Elic:
    """ELIC with the published names. h, w: latents."""

    def __init__(self, model):
        self.t = model
        codec = model.manifest["codec"]
        self.groups = codec["slices"]
        mask = torch.zeros(5, 5)
        mask[0::2, 1::2] = 1
        mask[1::2, 0::2] = 1
        mask = mask.to(model.device)
        self.masked = [model(f"context_prediction.{i}.weight") * mask for i in range(len(self.groups))]
        self.medians = model("entropy.factorized.medians").reshape(1, -1, 1, 1)

    def conv(self, name, x, stride=1):
        weight = self.t(name + ".weight")
        return F.conv2d(x, weight, self.t(name + ".bias"), stride, weight.shape[-1] // 2)

    def up(self, name, x):
        weight = self.t(name + ".weight")
        return F.conv_transpose2d(x, weight, self.t(name + ".bias"), 2, weight.shape[-1] // 2, 1)

    def residual(self, name, x):
        y = F.relu(self.conv(name + ".conv1", x))
        return self.conv(name + ".conv3", F.relu(self.conv(name + ".conv2", y))) + x

    def unit(self, name, x):
        y = F.relu(self.conv(name + ".conv.0", x))
        return F.relu(self.conv(name + ".conv.4", F.relu(self.conv(name + ".conv.2", y))) + x)

    def attention(self, name, x):
        a, b = x, x
        for i in range(3):
            a = self.unit(f"{name}.conv_a.{i}", a)
        for i in range(3):
            b = self.unit(f"{name}.conv_b.{i}", b)
        return a * torch.sigmoid(self.conv(name + ".conv_b.3", b)) + x

    def chain(self, prefix, x, steps):
        for i, step in enumerate(steps):
            name = f"{prefix}.{i}"
            if step == "down":
                x = self.conv(name, x, 2)
            elif step == "up":
                x = self.up(name, x)
            elif step == "residual":
                x = self.residual(name, x)
            else:
                x = self.attention(name, x)
        return x

    def analysis(self, x):
        r = ["residual"] * 3
        return self.chain("g_a", x, ["down", *r, "down", *r, "attention", "down", *r, "down", "attention"])

    def synthesis(self, y):
        r = ["residual"] * 3
        return self.chain("g_s", y, ["attention", "up", *r, "up", "attention", *r, "up", *r, "up"])

    def hyper_analysis(self, y):
        z = F.relu(self.conv("h_a.0", y))
        return self.conv("h_a.4", F.relu(self.conv("h_a.2", z, 2)), 2)

    def hyper_synthesis(self, z):
        x = F.relu(self.up("h_s.2", F.relu(self.up("h_s.0", z))))
        return self.conv("h_s.4", x)

    def causal(self, z_hat, value):
        """The loop of both directions; value(i, mean) gives slice i's symbols at all positions. Returns y_hat."""
        hyper = self.hyper_synthesis(z_hat)
        h, w = hyper.shape[-2:]
        anchor = ((torch.arange(h).view(-1, 1) + torch.arange(w)) % 2 == 0).view(1, 1, h, w).to(hyper.device)
        zero = torch.zeros((), device=hyper.device)
        done = []
        for i, channels in enumerate(self.groups):
            support = [hyper]
            if i > 0:
                source = done[0] if i == 1 else torch.cat([done[0], done[-1]], 1)
                for k in (0, 2, 4):
                    source = self.conv(f"cc_transforms.{i - 1}.{k}", source)
                    source = F.relu(source) if k < 4 else source
                support.insert(0, source)

            def parameters(context):
                x = torch.cat([context, *support], 1)
                for k in (0, 2, 4):
                    x = self.conv(f"ParamAggregation.{i}.{k}", x)
                    x = F.relu(x) if k < 4 else x
                return x.chunk(2, 1)

            mean, scale = parameters(torch.zeros(len(hyper), 2 * channels, h, w, device=hyper.device))
            self.index(scale)
            anchors = torch.where(anchor, value(i, mean) + mean, zero)
            context = F.conv2d(anchors, self.masked[i], self.t(f"context_prediction.{i}.bias"), 1, 2)
            mean, scale = parameters(context)
            self.index(scale)
            done.append(torch.where(anchor, anchors, value(i, mean) + mean))
        return torch.cat(done, 1)

    def index(self, scale):
        return torch.searchsorted(self.t("entropy.gaussian.thresholds"), scale.contiguous())

    def compress(self, x):
        y = self.analysis(x)
        parts = torch.split(y, self.groups, 1)
        z_hat = torch.round(self.hyper_analysis(y) - self.medians) + self.medians
        return z_hat, self.causal(z_hat, lambda i, mean: torch.round(parts[i] - mean))


def norm(t, name, x, eps=1e-5):
    return F.layer_norm(x, x.shape[-1:], t(name + ".weight"), t(name + ".bias"), eps)


class Block(torch.nn.Module):
    """One CLIP block as published: torch.nn.MultiheadAttention, tokens first."""

    def __init__(self, model, name, heads):
        super().__init__()
        self.t, self.name = model, name
        width = model(name + ".ln_1.weight").numel()
        self.attn = torch.nn.MultiheadAttention(width, heads).to(model.device).eval()
        self.attn.in_proj_weight.copy_(model(name + ".attn.in_proj_weight"))
        self.attn.in_proj_bias.copy_(model(name + ".attn.in_proj_bias"))
        self.attn.out_proj.weight.copy_(model(name + ".attn.out_proj.weight"))
        self.attn.out_proj.bias.copy_(model(name + ".attn.out_proj.bias"))

    def forward(self, x):
        t, name = self.t, self.name
        y = norm(t, name + ".ln_1", x)
        x = x + self.attn(y, y, y, need_weights=False)[0]
        y = F.linear(norm(t, name + ".ln_2", x), t(name + ".mlp.c_fc.weight"), t(name + ".mlp.c_fc.bias"))
        return x + F.linear(y * torch.sigmoid(1.702 * y), t(name + ".mlp.c_proj.weight"), t(name + ".mlp.c_proj.bias"))


class Tuned:
    """The same block with one product for q, k and v and the fused attention, in any type. x: (B,N,D)."""

    def __init__(self, model, name, heads, dtype):
        self.heads = heads
        self.w = {key: model(f"{name}.{key}").to(dtype) for key in (
            "ln_1.weight", "ln_1.bias", "attn.in_proj_weight", "attn.in_proj_bias", "attn.out_proj.weight", "attn.out_proj.bias",
            "ln_2.weight", "ln_2.bias", "mlp.c_fc.weight", "mlp.c_fc.bias", "mlp.c_proj.weight", "mlp.c_proj.bias")}

    def __call__(self, x):
        w = self.w
        b, n, d = x.shape
        y = F.layer_norm(x, (d,), w["ln_1.weight"], w["ln_1.bias"])
        q, k, v = F.linear(y, w["attn.in_proj_weight"], w["attn.in_proj_bias"]).view(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, d)
        x = x + F.linear(y, w["attn.out_proj.weight"], w["attn.out_proj.bias"])
        y = F.linear(F.layer_norm(x, (d,), w["ln_2.weight"], w["ln_2.bias"]), w["mlp.c_fc.weight"], w["mlp.c_fc.bias"])
        return x + F.linear(y * torch.sigmoid(1.702 * y), w["mlp.c_proj.weight"], w["mlp.c_proj.bias"])


class Clip:
    """The encoder from normalised pixels to the output of the same block: what a user has who sends pictures. x: (B,3,H,W)."""

    def __init__(self, model, heads, last, dtype):
        self.blocks = [Tuned(model, f"visual.transformer.resblocks.{i}", heads, dtype) for i in range(last)]
        self.w = {key: model("visual." + key).to(dtype) for key in (
            "conv1.weight", "class_embedding", "positional_embedding", "ln_pre.weight", "ln_pre.bias")}

    def __call__(self, x):
        w = self.w
        kernel = w["conv1.weight"]
        x = F.conv2d(x.to(kernel.dtype), kernel, stride=kernel.shape[-1]).flatten(2).transpose(1, 2)
        x = torch.cat([w["class_embedding"].expand(len(x), 1, -1), x], 1) + w["positional_embedding"]
        x = F.layer_norm(x, x.shape[-1:], w["ln_pre.weight"], w["ln_pre.bias"])
        for block in self.blocks:
            x = block(x)
        return x


class Neck:
    def __init__(self, model):
        self.t = model
        self.block = Block(model, "transformer.resblocks.0", model.manifest["neck"]["heads"])

    def __call__(self, y_hat):
        t = self.t
        x = F.linear(y_hat.flatten(2).transpose(1, 2), t("trans_latent_dim.weight"), t("trans_latent_dim.bias"))
        x = torch.cat([t("class_embedding").expand(len(x), 1, -1), x], 1) + t("positional_embedding")
        return self.block(norm(t, "ln_pre", x).permute(1, 0, 2))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--layer", type=int, default=-2, help="where the encoder stops: -1 runs all blocks, -2 all but the last")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_grad_enabled(False)
    torch.manual_seed(1)

    model = Model(options.model, options.device)
    encoder = model.manifest["encoder"]
    elic, neck = Elic(model), Neck(model)
    first, last = model.manifest["neck"]["entry"], encoder["layers"] + 1 + options.layer
    names = [f"visual.transformer.resblocks.{i}" for i in range(first, last)]
    blocks = [Block(model, name, encoder["heads"]) for name in names]
    tuned = {}

    picture = F.interpolate(torch.rand(options.batch, 3, options.size // 8, options.size // 8), scale_factor=8, mode="bilinear")
    picture = picture.to(options.device)
    z_hat, y_hat = elic.compress(picture)
    tokens = neck(y_hat)

    def published(x):
        for block in blocks:
            x = block(x)
        return x

    def run_tuned(dtype):
        if dtype not in tuned:
            tuned[dtype] = [Tuned(model, name, encoder["heads"], dtype) for name in names]
        x = tokens.permute(1, 0, 2).to(dtype).contiguous()
        for block in tuned[dtype]:
            x = block(x)
        return x

    # As many patches as the codec has positions; only where the model has the encoder's front and its own grid.
    clips = {}
    patch = encoder["patch"]
    side = y_hat.shape[-1] * patch
    has_clip = "visual.conv1.weight" in model and len(model("visual.positional_embedding")) == tokens.shape[0]

    def resized(x):
        return F.interpolate(x, size=(side, side), mode="bicubic", antialias=True)

    def run_clip(dtype, x):
        if dtype not in clips:
            clips[dtype] = Clip(model, encoder["heads"], last, dtype)
        return clips[dtype](x)

    groups = torch.split(torch.round(y_hat), elic.groups, 1)
    stages = {
        "encode": lambda: elic.compress(picture),
        "analysis": lambda: elic.analysis(picture),
        "entropy": lambda: elic.causal(z_hat, lambda i, mean: groups[i]),
        "synthesis": lambda: elic.synthesis(y_hat),
        "neck": lambda: neck(y_hat),
        "blocks": lambda: published(tokens),
        "blocks tuned-f32": lambda: run_tuned(torch.float32),
        "blocks tuned-bf16": lambda: run_tuned(torch.bfloat16),
        "blocks tuned-f16": lambda: run_tuned(torch.float16),
        "tokens": lambda: published(neck(elic.causal(z_hat, lambda i, mean: groups[i]))),
        "decode": lambda: elic.synthesis(elic.causal(z_hat, lambda i, mean: groups[i])),
    }

    if has_clip:
        small = resized(picture)
        stages["clip tuned-f32"] = lambda: run_clip(torch.float32, small)
        stages["clip tuned-bf16"] = lambda: run_clip(torch.bfloat16, small)
        stages["clip tuned-f16"] = lambda: run_clip(torch.float16, small)
        # What the published evaluation does with pixels: decode, resize, encode.
        stages["pixels"] = lambda: run_clip(torch.float32, resized(stages["decode"]()))

    def answer(value):
        print(json.dumps(value), flush=True)

    def wait():
        if options.device == "cuda":
            torch.cuda.synchronize()

    answer({"torch": torch.__version__, "threads": torch.get_num_threads(), "stages": list(stages)})
    for line in sys.stdin:
        words = line.rstrip("\n").split("\t")
        if words[0] == "check":
            with open(words[1], "rb") as file:
                latents = torch.frombuffer(bytearray(file.read()), dtype=torch.float32).to(options.device)
            with open(words[2], "rb") as file:
                ours = torch.frombuffer(bytearray(file.read()), dtype=torch.float32).to(options.device)
            expected = published(neck(latents.reshape(1, *y_hat.shape[1:]))).flatten()
            answer({"relative_l2": float((ours - expected).norm() / expected.norm())})
        elif words[0] in stages:
            wall, cpu = time.perf_counter(), time.process_time()
            stages[words[0]]()
            wait()
            answer({"wall_ms": (time.perf_counter() - wall) * 1e3, "cpu_ms": (time.process_time() - cpu) * 1e3})
        else:
            answer({"error": f"no stage {words[0]!r}"})


if __name__ == "__main__":
    main()
