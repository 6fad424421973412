package org.comneck.train;

import java.util.function.Supplier;
import java.util.function.UnaryOperator;
import org.bytedeco.javacpp.FloatPointer;
import org.bytedeco.javacpp.LongPointer;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.openblas.global.openblas_nolapack;
import org.bytedeco.pytorch.DoubleOptional;
import org.bytedeco.pytorch.Scalar;
import org.bytedeco.pytorch.ScalarTypeOptional;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorOptional;
import org.bytedeco.pytorch.TensorVector;
import org.bytedeco.pytorch.global.torch;
import org.bytedeco.pytorch.global.torch.MemoryFormat;
import org.bytedeco.pytorch.global.torch.ScalarType;
import org.comneck.UsageException;

/** LibTorch in the words of the networks. Every tensor made here lives until the {@link PointerScope} around the call closes. */
final class Ops {
    static final ScalarType F32 = ScalarType.Float;
    static final ScalarType BF16 = ScalarType.BFloat16;

    private static boolean cuda;
    private static UnaryOperator<Tensor> constants = UnaryOperator.identity();

    private Ops() {}

    /** Loads LibTorch, sets its threads, and chooses the device where tensors are made. */
    static void start(Recipe recipe) {
        start(recipe.integer("threads", 2));
        String word = recipe.has("device") ? recipe.word("device") : "auto";
        switch (word) {
            case "auto" -> cuda = torch.cuda_is_available();
            case "cpu" -> cuda = false;
            case "cuda" -> {
                if (!torch.cuda_is_available()) {
                    throw new UsageException(
                            "recipe " + recipe.name() + ": device = cuda, but LibTorch finds no GPU: it needs a driver,"
                                    + " and its GPU natives on the class path (docs/training.md, 'On a GPU'); device = cpu works everywhere");
                }
                cuda = true;
            }
            default ->
                throw new UsageException(
                        "recipe " + recipe.name() + ": device is auto, cpu or cuda, not '" + word + "'");
        }
    }

    /** {@code cpu} or {@code cuda}. */
    static String device() {
        return cuda ? "cuda" : "cpu";
    }

    private static Tensor placed(Tensor made) {
        return cuda ? made.cuda() : made;
    }

    /** Loads LibTorch and sets its threads. OpenBLAS keeps its own number. */
    static void start(int threads) {
        System.setProperty("org.bytedeco.javacpp.maxphysicalbytes", "0");
        System.setProperty("org.bytedeco.javacpp.maxbytes", "0");
        openblas_nolapack.blas_set_num_threads(threads);
        torch.set_num_threads(threads);
    }

    /** X with AX = B. */
    static Tensor solve(Tensor a, Tensor b) {
        return alone(() -> torch.linalg_solve(a, b));
    }

    /** Eigenvectors of a symmetric matrix as columns, by ascending eigenvalue. */
    static Tensor eigenvectors(Tensor symmetric) {
        return alone(() -> torch.linalg_eigh(symmetric).get1());
    }

    /** OpenBLAS factorises with several threads on the caller's stack, and needs more of it than Java's threads have: it kills the process. */
    private static Tensor alone(Supplier<Tensor> factorization) {
        int threads = openblas_nolapack.blas_get_num_threads();
        openblas_nolapack.blas_set_num_threads(1);
        try {
            return factorization.get();
        } finally {
            openblas_nolapack.blas_set_num_threads(threads);
        }
    }

    /** The arithmetic of transforms and transformer layers that a recipe asks for. */
    static ScalarType precision(Recipe recipe) {
        String word = recipe.has("precision") ? recipe.word("precision") : "f32";
        return switch (word) {
            case "f32" -> F32;
            case "bf16" -> BF16;
            default ->
                throw new UsageException("recipe " + recipe.name() + ": precision is f32 or bf16, not '" + word + "'");
        };
    }

    static Tensor of(float[] values, long... shape) {
        return placed(Tensor.create(values, shape));
    }

    static Tensor of(long[] values, long... shape) {
        return placed(Tensor.create(values, shape));
    }

    static Tensor zeros(long... shape) {
        return placed(torch.zeros(shape));
    }

    static float[] floats(Tensor x) {
        Tensor flat = x.detach().to(F32).cpu().contiguous();
        float[] out = new float[Math.toIntExact(flat.numel())];
        new FloatPointer(flat.data_ptr()).get(out);
        return out;
    }

    static long[] longs(Tensor x) {
        Tensor flat = x.detach().cpu().contiguous();
        long[] out = new long[Math.toIntExact(flat.numel())];
        new LongPointer(flat.data_ptr()).get(out);
        return out;
    }

    static double value(Tensor x) {
        return x.item_double();
    }

    /** At least F32: sums and residuals are kept so. F64 stays what it is. */
    static Tensor wide(Tensor x) {
        // The preset answers with a new object each time: without intern no comparison holds.
        ScalarType type = x.scalar_type().intern();
        return type == BF16 || type == ScalarType.Half ? x.to(F32) : x;
    }

    /**
     * The value without its gradient. Losses and networks use this and never detach by themselves, so that a gradient check can hold these
     * values still while it moves the parameters.
     */
    static Tensor constant(Tensor x) {
        return constants.apply(x.detach());
    }

    /** What {@link #constant} answers with; the identity but in gradient checks. */
    static void constants(UnaryOperator<Tensor> source) {
        constants = source;
    }

    static Scalar scalar(double value) {
        return new Scalar(value);
    }

    static Tensor scaled(Tensor x, double factor) {
        return x.mul(scalar(factor));
    }

    static Tensor plus(Tensor x, double value) {
        return x.add(scalar(value));
    }

    static Tensor cat(long dim, Tensor... parts) {
        return torch.cat(new TensorVector(parts), dim);
    }

    static Tensor mse(Tensor a, Tensor b) {
        return torch.mse_loss(a, b);
    }

    static Tensor meanOver(Tensor x, boolean keep, long... dims) {
        return x.mean(dims, keep, new ScalarTypeOptional());
    }

    static Tensor sumOver(Tensor x, boolean keep, long... dims) {
        return x.sum(dims, keep, new ScalarTypeOptional());
    }

    static Tensor channelsLast(Tensor x) {
        return x.contiguous(MemoryFormat.ChannelsLast);
    }

    static Tensor clamp01(Tensor x) {
        return torch.clamp_min(x, scalar(0))
                .neg()
                .add(scalar(1))
                .clamp_min(scalar(0))
                .neg()
                .add(scalar(1));
    }

    /** Values of {@code forward} with the gradient of {@code x}. */
    static Tensor straightThrough(Tensor x, Tensor forward) {
        return x.add(constant(forward.sub(x)));
    }

    /** Convolution with a border of zeros that keeps the size, divided by the stride. {@code x} decides the arithmetic. */
    static Tensor conv(Parameters w, String name, Tensor x, int stride) {
        Tensor weight = w.get(name + ".weight");
        long pad = weight.size(2) / 2;
        return conv(weight, w.get(name + ".bias"), x, stride, pad);
    }

    static Tensor conv(Tensor weight, Tensor bias, Tensor x, int stride, long pad) {
        ScalarType type = x.scalar_type();
        TensorOptional b = bias == null ? new TensorOptional() : new TensorOptional(bias.to(type));
        return torch.conv2d(
                x, weight.to(type), b, new long[] {stride, stride}, new long[] {pad, pad}, new long[] {1, 1}, 1);
    }

    /** Transposed convolution that doubles the size. */
    static Tensor deconv(Parameters w, String name, Tensor x) {
        ScalarType type = x.scalar_type();
        Tensor weight = w.get(name + ".weight");
        long pad = weight.size(2) / 2;
        return torch.conv_transpose2d(
                x,
                weight.to(type),
                new TensorOptional(w.get(name + ".bias").to(type)),
                new long[] {2, 2},
                new long[] {pad, pad},
                new long[] {1, 1},
                1,
                1,
                1);
    }

    static Tensor linear(Parameters w, String weight, String bias, Tensor x) {
        ScalarType type = x.scalar_type();
        return torch.linear(
                x, w.get(weight).to(type), new TensorOptional(w.get(bias).to(type)));
    }

    static Tensor layerNorm(Parameters w, String name, Tensor x, double epsilon) {
        Tensor weight = w.get(name + ".weight");
        return torch.layer_norm(
                x,
                new long[] {weight.size(0)},
                new TensorOptional(weight),
                new TensorOptional(w.get(name + ".bias")),
                epsilon,
                false);
    }

    /**
     * Attention over qkv (B,N,3D), q then k then v. In BF16 it is made of products and an F32 softmax: the preset's fused kernel is slow there.
     */
    static Tensor attention(Tensor qkv, int heads) {
        long batch = qkv.size(0);
        long tokens = qkv.size(1);
        long width = qkv.size(2) / 3;
        Tensor split = qkv.reshape(batch, tokens, 3, heads, width / heads).permute(2, 0, 3, 1, 4);
        Tensor out;
        if (qkv.scalar_type().intern() == BF16) {
            split = split.contiguous().view(3, batch * heads, tokens, width / heads);
            double scale = 1 / Math.sqrt((double) width / heads);
            Tensor scores = scaled(split.select(0, 0), scale)
                    .bmm(split.select(0, 1).transpose(1, 2))
                    .to(F32);
            out = torch.softmax(scores, 2).to(BF16).bmm(split.select(0, 2)).view(batch, heads, tokens, width / heads);
        } else {
            out = torch.scaled_dot_product_attention(
                    split.select(0, 0),
                    split.select(0, 1),
                    split.select(0, 2),
                    new TensorOptional(),
                    0.0,
                    false,
                    new DoubleOptional(),
                    false);
        }
        return out.transpose(1, 2).reshape(batch, tokens, width);
    }

    /** Cross-entropy in nats of logits against a distribution, both (B,K). */
    static Tensor crossEntropy(Tensor logits, Tensor target) {
        return sumOver(target.mul(torch.log_softmax(logits, 1)), false, 1)
                .mean()
                .neg();
    }

    /** Rows of unit length. */
    static Tensor unit(Tensor x) {
        return x.div(plus(sumOver(x.square(), true, -1), 1e-12).sqrt());
    }
}
