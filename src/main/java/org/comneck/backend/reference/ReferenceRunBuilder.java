package org.comneck.backend.reference;

import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Deque;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import org.comneck.backend.Activation;
import org.comneck.backend.Backend;
import org.comneck.backend.Function;
import org.comneck.backend.Grid;
import org.comneck.backend.Layer;
import org.comneck.backend.Run;
import org.comneck.backend.RunBuilder;
import org.comneck.backend.StepChecks;
import org.comneck.backend.Taps;
import org.comneck.tensor.Bfloat16;
import org.comneck.tensor.ElementType;
import org.comneck.tensor.Tensor;

/** Records steps as closures over arrays. */
final class ReferenceRunBuilder implements RunBuilder {
    private final ReferenceBackend backend;
    private final List<ReferenceBuffer> buffers = new ArrayList<>();
    private final Deque<float[]> free = new ArrayDeque<>();
    private final Set<Integer> released = new HashSet<>();
    private final Set<Integer> inputs = new HashSet<>();
    private final Set<Integer> outputs = new HashSet<>();
    private final List<ReferenceRun.Stage> stages = new ArrayList<>();
    private ReferencePayloads payloads;
    private ReferenceEncoding encoding;
    private boolean built;

    ReferenceRunBuilder(ReferenceBackend backend) {
        this.backend = backend;
    }

    @Override
    public Activation buffer(ElementType type, Grid grid, int images, int height, int width, int channels) {
        return buffer(type, grid, images, height, width, channels, true);
    }

    private Activation buffer(
            ElementType type, Grid grid, int images, int height, int width, int channels, boolean mayReuse) {
        recording();
        if (images < 1 || height < 1 || width < 1 || channels < 1) {
            throw new IllegalArgumentException(
                    "a buffer of " + images + "x" + height + "x" + width + "x" + channels + " elements");
        }
        int elements = Math.toIntExact(Math.multiplyExact((long) images * grid.positions(height, width), channels));
        float[] reused = null;
        if (mayReuse && (type == ElementType.F32 || type == ElementType.BF16)) {
            reused = free.stream()
                    .filter(f -> f.length >= elements && f.length / 2 <= elements)
                    .min((a, b) -> Integer.compare(a.length, b.length))
                    .orElse(null);
            if (reused != null) {
                float[] chosen = reused;
                free.removeIf(f -> f == chosen);
            }
        }
        buffers.add(new ReferenceBuffer(type, elements, reused));
        return new Activation(buffers.size() - 1, type, grid, images, height, width, channels, 0, channels);
    }

    @Override
    public void release(Activation activation) {
        ReferenceBuffer buffer = of(activation);
        if (inputs.contains(activation.buffer()) || outputs.contains(activation.buffer())) {
            return; // the host looks at these
        }
        released.add(activation.buffer());
        if (buffer.floats != null) {
            free.add(buffer.floats);
        }
    }

    @Override
    public Activation input(ElementType type, int images, int height, int width, int channels) {
        // The host fills it before the first step, so that it cannot lie where an earlier step still works.
        Activation activation = buffer(type, Grid.FULL, images, height, width, channels, false);
        inputs.add(activation.buffer());
        return activation;
    }

    @Override
    public void output(Activation activation) {
        of(activation);
        outputs.add(activation.buffer());
    }

    @Override
    public int stage(String name) {
        recording();
        stages.add(new ReferenceRun.Stage(name, new ArrayList<>()));
        return stages.size() - 1;
    }

    @Override
    public void convolution(
            Layer layer,
            List<Activation> sources,
            int[] absent,
            Activation residual,
            Function function,
            Activation destination) {
        if (!(layer instanceof ReferenceLayer own)) {
            throw new IllegalArgumentException("a layer of another backend: " + layer);
        }
        StepChecks.convolution(layer, sources, absent, residual, destination);
        float[][] data = new float[sources.size()][];
        for (int s = 0; s < data.length; s++) {
            data[s] = sources.get(s) == null ? null : floats(sources.get(s));
        }
        step(new ReferenceConvolution(
                backend,
                own,
                Collections.unmodifiableList(new ArrayList<>(sources)),
                data,
                absent.clone(),
                residual,
                residual == null ? null : floats(residual),
                function,
                destination,
                floats(destination)));
    }

    @Override
    public void gate(Activation a, Activation b, Activation x, Activation destination) {
        for (Activation view : List.of(a, b, x, destination)) {
            StepChecks.values(view, "operand");
            StepChecks.same("operands", view, destination);
        }
        float[] da = floats(a);
        float[] db = floats(b);
        float[] dx = floats(x);
        rows(destination, (image, position, out) -> {
            int ia = ReferenceBuffer.index(a, image, position);
            int ib = ReferenceBuffer.index(b, image, position);
            int ix = ReferenceBuffer.index(x, image, position);
            for (int c = 0; c < out.length; c++) {
                out[c] = Math.fma(da[ia + c], CanonicalMath.sigmoid(db[ib + c]), dx[ix + c]);
            }
        });
    }

    @Override
    public void add(Activation a, Activation b, Activation destination) {
        for (Activation view : List.of(a, b, destination)) {
            StepChecks.values(view, "operand");
            StepChecks.same("operands", view, destination);
        }
        float[] da = floats(a);
        float[] db = floats(b);
        rows(destination, (image, position, out) -> {
            int ia = ReferenceBuffer.index(a, image, position);
            int ib = ReferenceBuffer.index(b, image, position);
            for (int c = 0; c < out.length; c++) {
                out[c] = da[ia + c] + db[ib + c];
            }
        });
    }

    @Override
    public void scale(Activation source, Activation gains, Activation destination) {
        StepChecks.scale(source, gains, destination);
        float[] from = floats(source);
        float[] factors = floats(gains);
        rows(destination, (image, position, out) -> {
            int is = ReferenceBuffer.index(source, image, position);
            int ig = ReferenceBuffer.index(gains, image, 0);
            for (int c = 0; c < out.length; c++) {
                out[c] = from[is + c] * factors[ig + c];
            }
        });
    }

    @Override
    public void copy(Activation source, Activation destination) {
        StepChecks.values(source, "source");
        StepChecks.values(destination, "destination");
        StepChecks.same("source and destination", source, destination);
        float[] from = floats(source);
        rows(
                destination,
                (image, position, out) ->
                        System.arraycopy(from, ReferenceBuffer.index(source, image, position), out, 0, out.length));
    }

    @Override
    public void layerNorm(Activation source, Tensor weight, Tensor bias, float epsilon, Activation destination) {
        StepChecks.values(source, "source");
        StepChecks.values(destination, "destination");
        StepChecks.same("source and destination", source, destination);
        StepChecks.vector(weight, source.channels(), "weight");
        StepChecks.vector(bias, source.channels(), "bias");
        float[] from = floats(source);
        float[] w = weight.toFloats();
        float[] b = bias.toFloats();
        rows(
                destination,
                (image, position, out) -> ReferenceTokens.layerNorm(
                        from, ReferenceBuffer.index(source, image, position), out.length, w, b, epsilon, out, 0));
    }

    @Override
    public void attention(Activation qkv, int heads, Activation destination) {
        StepChecks.attention(qkv, heads, destination);
        float[] from = floats(qkv);
        float[] to = floats(destination);
        boolean round = destination.type() == ElementType.BF16;
        step(() -> {
            backend.parallel(
                    qkv.images() * heads,
                    i -> ReferenceTokens.attention(from, qkv, i / heads, i % heads, heads, to, destination));
            if (round) {
                backend.parallel(destination.images() * destination.positions(), i -> {
                    int at = ReferenceBuffer.index(destination, 0, i);
                    for (int c = 0; c < destination.channels(); c++) {
                        to[at + c] = Bfloat16.round(to[at + c]);
                    }
                });
            }
        });
    }

    @Override
    public void embed(Activation source, Tensor classToken, Tensor positions, Activation destination) {
        StepChecks.embed(source, classToken, positions, destination);
        float[] from = floats(source);
        float[] token = classToken == null ? null : classToken.toFloats();
        float[] table = positions.toFloats();
        int shift = token == null ? 0 : 1;
        rows(destination, (image, position, out) -> {
            boolean isClass = position < shift;
            float[] values = isClass ? token : from;
            int at = isClass ? 0 : ReferenceBuffer.index(source, image, position - shift);
            for (int c = 0; c < out.length; c++) {
                out[c] = values[at + c] + table[position * out.length + c];
            }
        });
    }

    @Override
    public void selectTokens(Activation source, int first, Activation destination) {
        StepChecks.selectTokens(source, first, destination);
        float[] from = floats(source);
        rows(
                destination,
                (image, position, out) -> System.arraycopy(
                        from, ReferenceBuffer.index(source, image, first + position), out, 0, out.length));
    }

    @Override
    public void normalize(Activation pixels, float[] mean, float[] deviation, Activation destination) {
        StepChecks.pixels(pixels, destination);
        if (mean.length != pixels.channels() || deviation.length != pixels.channels()) {
            throw new IllegalArgumentException(
                    mean.length + " means and " + deviation.length + " deviations for " + pixels);
        }
        byte[] from = of(pixels).bytes;
        float[] m = mean.clone();
        float[] d = deviation.clone();
        rows(destination, (image, position, out) -> {
            int at = ReferenceBuffer.index(pixels, image, position);
            for (int c = 0; c < out.length; c++) {
                out[c] = ((from[at + c] & 0xFF) / 255f - m[c]) / d[c];
            }
        });
    }

    @Override
    public void toPixels(Activation source, Activation pixels) {
        StepChecks.pixels(pixels, source);
        float[] from = floats(source);
        byte[] to = of(pixels).bytes;
        step(() -> {
            for (int image = 0; image < pixels.images(); image++) {
                for (int position = 0; position < pixels.positions(); position++) {
                    int is = ReferenceBuffer.index(source, image, position);
                    int ip = ReferenceBuffer.index(pixels, image, position);
                    for (int c = 0; c < pixels.channels(); c++) {
                        float x = from[is + c];
                        float clamped = x > 0f ? Math.min(x, 1f) : 0f; // NaN gives 0
                        to[ip + c] = (byte) (int) (clamped * 255f + 0.5f);
                    }
                }
            }
        });
    }

    @Override
    public void resample(Activation pixels, Taps.Axis axis, Taps taps, Activation destination) {
        StepChecks.resample(pixels, axis, taps, destination);
        byte[] from = of(pixels).bytes;
        byte[] to = of(destination).bytes;
        boolean rows = axis == Taps.Axis.HEIGHT;
        int step = (rows ? pixels.width() : 1) * pixels.channelStride();
        step(() -> {
            for (int image = 0; image < destination.images(); image++) {
                for (int y = 0; y < destination.height(); y++) {
                    for (int x = 0; x < destination.width(); x++) {
                        int tap = rows ? y : x;
                        int first = taps.first(tap);
                        int position = rows ? first * pixels.width() + x : y * pixels.width() + first;
                        int is = ReferenceBuffer.index(pixels, image, position);
                        int id = ReferenceBuffer.index(destination, image, y * destination.width() + x);
                        for (int c = 0; c < destination.channels(); c++) {
                            int sum = 1 << (Taps.PRECISION_BITS - 1);
                            for (int k = 0; k < taps.count(tap); k++) {
                                sum += (from[is + k * step + c] & 0xFF) * taps.weight(tap, k);
                            }
                            to[id + c] = Taps.round(sum);
                        }
                    }
                }
            }
        });
    }

    @Override
    public void quantizeFactorized(Activation z, Tensor medians, Activation symbols, Activation zHat) {
        StepChecks.factorized(zHat, medians, symbols);
        StepChecks.type(z, ElementType.F32, "z");
        StepChecks.same("z and zHat", z, zHat);
        float[] from = floats(z);
        short[] to = of(symbols).shorts;
        float[] hat = floats(zHat);
        float[] median = medians.toFloats();
        step(() -> {
            for (int image = 0; image < z.images(); image++) {
                for (int position = 0; position < z.positions(); position++) {
                    int iz = ReferenceBuffer.index(z, image, position);
                    int is = ReferenceBuffer.index(symbols, image, position);
                    int ih = ReferenceBuffer.index(zHat, image, position);
                    for (int c = 0; c < z.channels(); c++) {
                        short symbol = symbol(from[iz + c] - median[c]);
                        to[is + c] = symbol;
                        hat[ih + c] = symbol + median[c];
                    }
                }
            }
        });
    }

    @Override
    public void quantizeGaussian(
            Activation y,
            Activation parameters,
            Tensor thresholds,
            Activation indices,
            Activation symbols,
            Activation yHat) {
        StepChecks.gaussian(parameters, thresholds, symbols, yHat);
        StepChecks.type(y, ElementType.F32, "y");
        StepChecks.same("y and yHat", y, yHat);
        StepChecks.type(indices, ElementType.U8, "indices");
        StepChecks.same("indices and symbols", indices, symbols);
        float[] from = floats(y);
        float[] values = floats(parameters);
        float[] table = thresholds.toFloats();
        byte[] index = of(indices).bytes;
        short[] to = of(symbols).shorts;
        float[] hat = floats(yHat);
        int[] map = fullPositions(parameters);
        int channels = symbols.channels();
        step(() -> {
            for (int image = 0; image < y.images(); image++) {
                for (int position = 0; position < map.length; position++) {
                    int ip = ReferenceBuffer.index(parameters, image, position);
                    int ii = ReferenceBuffer.index(indices, image, position);
                    int is = ReferenceBuffer.index(symbols, image, position);
                    int iy = ReferenceBuffer.index(y, image, map[position]);
                    int ih = ReferenceBuffer.index(yHat, image, map[position]);
                    for (int c = 0; c < channels; c++) {
                        float mean = values[ip + c];
                        short symbol = symbol(from[iy + c] - mean);
                        index[ii + c] = (byte) scaleIndex(values[ip + channels + c], table);
                        to[is + c] = symbol;
                        hat[ih + c] = symbol + mean;
                    }
                }
            }
        });
    }

    /** Number of thresholds smaller than the scale. */
    static int scaleIndex(float scale, float[] thresholds) {
        int index = 0;
        for (float threshold : thresholds) {
            index += threshold < scale ? 1 : 0;
        }
        return index;
    }

    /** Rounded half to even and saturated to 16 bits; NaN gives 0. */
    static short symbol(float value) {
        float rounded = (float) Math.rint(value);
        return (short) Math.clamp((long) rounded, Short.MIN_VALUE, Short.MAX_VALUE);
    }

    /** For each position that a view holds, its position in the full grid. */
    static int[] fullPositions(Activation view) {
        int[] rows = new int[view.positions()];
        int[] columns = new int[view.positions()];
        ReferenceConvolution.coordinates(view, rows, columns);
        for (int p = 0; p < rows.length; p++) {
            rows[p] = rows[p] * view.width() + columns[p];
        }
        return rows;
    }

    @Override
    public void payloads(int images, long symbols) {
        if (payloads != null) {
            throw new IllegalStateException("the run has its payloads already");
        }
        if (images < 1 || symbols < 0) {
            throw new IllegalArgumentException(images + " payloads of " + symbols + " symbols");
        }
        payloads = new ReferencePayloads(images);
        step(payloads::start);
    }

    @Override
    public void decodeFactorized(Backend.Tables tables, Tensor medians, Activation symbols, Activation zHat) {
        StepChecks.factorized(zHat, medians, symbols);
        ReferencePayloads source = payloads(tables, zHat);
        short[] to = of(symbols).shorts;
        float[] hat = floats(zHat);
        float[] median = medians.toFloats();
        int channels = zHat.channels();
        byte[] indices = new byte[zHat.positions() * channels];
        for (int i = 0; i < indices.length; i++) {
            indices[i] = (byte) (i % channels);
        }
        step(() -> {
            short[] decoded = new short[indices.length];
            for (int image = 0; image < zHat.images(); image++) {
                source.decode(tables, image, indices, decoded);
                ReferencePayloads.store(decoded, symbols, image, to);
                for (int i = 0; i < decoded.length; i++) {
                    int c = i % channels;
                    hat[ReferenceBuffer.index(zHat, image, i / channels) + c] = decoded[i] + median[c];
                }
            }
        });
    }

    @Override
    public void decodeGaussian(
            Backend.Tables tables, Activation parameters, Tensor thresholds, Activation symbols, Activation yHat) {
        StepChecks.gaussian(parameters, thresholds, symbols, yHat);
        ReferencePayloads source = payloads(tables, yHat);
        short[] to = of(symbols).shorts;
        float[] values = floats(parameters);
        float[] table = thresholds.toFloats();
        float[] hat = floats(yHat);
        int[] map = fullPositions(parameters);
        int channels = symbols.channels();
        step(() -> {
            byte[] indices = new byte[map.length * channels];
            short[] decoded = new short[indices.length];
            for (int image = 0; image < yHat.images(); image++) {
                for (int i = 0; i < indices.length; i++) {
                    int scale = ReferenceBuffer.index(parameters, image, i / channels) + channels + i % channels;
                    indices[i] = (byte) scaleIndex(values[scale], table);
                }
                source.decode(tables, image, indices, decoded);
                ReferencePayloads.store(decoded, symbols, image, to);
                for (int i = 0; i < decoded.length; i++) {
                    int position = i / channels;
                    int c = i % channels;
                    float mean = values[ReferenceBuffer.index(parameters, image, position) + c];
                    hat[ReferenceBuffer.index(yHat, image, map[position]) + c] = decoded[i] + mean;
                }
            }
        });
    }

    @Override
    public void finishPayloads() {
        step(payloads(null, null)::finish);
    }

    private ReferencePayloads payloads(Backend.Tables tables, Activation decoded) {
        if (payloads == null) {
            throw new IllegalStateException("no payloads were declared");
        }
        if (tables != null && !(tables instanceof ReferenceTables)) {
            throw new IllegalArgumentException("tables of another backend: " + tables);
        }
        if (decoded != null && decoded.images() != payloads.images()) {
            throw new IllegalArgumentException(payloads.images() + " payloads for " + decoded);
        }
        return payloads;
    }

    @Override
    public void encodePayloads(List<SymbolPass> passes, int substreams) {
        if (encoding != null) {
            throw new IllegalStateException("the run encodes already");
        }
        StepChecks.encode(passes, substreams);
        List<ReferenceEncoding.Pass> recorded = new ArrayList<>();
        for (SymbolPass pass : passes) {
            Activation symbols = pass.symbols();
            boolean indexed = pass.indices() != null;
            recorded.add(new ReferenceEncoding.Pass(
                    ReferenceTables.of(pass.tables()),
                    indexed ? of(pass.indices()).bytes : ReferenceEncoding.channels(symbols),
                    indexed,
                    of(symbols).shorts,
                    symbols.positions() * symbols.channels()));
        }
        encoding = new ReferenceEncoding(recorded, passes.getFirst().symbols().images(), substreams);
        step(encoding::encode);
    }

    @Override
    public Run build() {
        recording();
        built = true;
        return new ReferenceRun(buffers, inputs, outputs, payloads, encoding, stages);
    }

    /** Computes one position's channels into a row of its own. */
    private interface RowStep {
        void row(int image, int position, float[] out);
    }

    /** A step whose rows are independent; the destination may be one of the operands. */
    private void rows(Activation destination, RowStep body) {
        float[] to = floats(destination);
        boolean round = destination.type() == ElementType.BF16;
        int positions = destination.positions();
        step(() -> backend.parallel(destination.images() * positions, i -> {
            float[] out = new float[destination.channels()];
            body.row(i / positions, i % positions, out);
            if (round) {
                for (int c = 0; c < out.length; c++) {
                    out[c] = Bfloat16.round(out[c]);
                }
            }
            System.arraycopy(out, 0, to, ReferenceBuffer.index(destination, i / positions, i % positions), out.length);
        }));
    }

    private void step(Runnable step) {
        recording();
        if (stages.isEmpty()) {
            stage("");
        }
        stages.getLast().steps().add(step);
    }

    private float[] floats(Activation view) {
        return of(view).floats;
    }

    private ReferenceBuffer of(Activation view) {
        recording();
        if (view.buffer() < 0 || view.buffer() >= buffers.size() || released.contains(view.buffer())) {
            throw new IllegalArgumentException("not a buffer of this run, or released: " + view);
        }
        return buffers.get(view.buffer());
    }

    private void recording() {
        if (built) {
            throw new IllegalStateException("the run is built");
        }
    }
}
