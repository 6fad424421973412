package org.comneck.entropy;

import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import org.comneck.backend.Backend;
import org.comneck.backend.RansEncoder;

/** Passes of symbols like a codec's: most scales are small, their indices geometrically distributed, values normally distributed. */
final class SyntheticSymbols {
    private static final float[] SCALES = GaussianConditional.scaleTable();

    final List<byte[]> indices = new ArrayList<>();
    final List<short[]> values = new ArrayList<>();

    /** -log2 of the probability of all values under the real-valued distributions of their scales. */
    double information;

    /**
     * @param decay chance that an index is not the next: 0.1 gives about two bits a symbol, 0.25 about 0.8
     * @param sizes symbols of each pass
     */
    SyntheticSymbols(long seed, double decay, int... sizes) {
        Random random = new Random(seed);
        for (int size : sizes) {
            byte[] index = new byte[size];
            short[] value = new short[size];
            for (int i = 0; i < size; i++) {
                int t = (int) Math.min(63, Math.log(1 - random.nextDouble()) / Math.log(1 - decay));
                index[i] = (byte) t;
                value[i] = (short) Math.rint(random.nextGaussian() * SCALES[t]);
                information -= Math.log(GaussianConditional.probability(SCALES[t], value[i])) / Math.log(2);
            }
            indices.add(index);
            values.add(value);
        }
    }

    List<RansEncoder.Pass> passes(Backend.Tables tables) {
        List<RansEncoder.Pass> passes = new ArrayList<>();
        for (int p = 0; p < indices.size(); p++) {
            passes.add(new RansEncoder.Pass(
                    tables,
                    MemorySegment.ofArray(indices.get(p)),
                    MemorySegment.ofArray(values.get(p)),
                    values.get(p).length));
        }
        return passes;
    }
}
