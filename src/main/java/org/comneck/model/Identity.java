package org.comneck.model;

import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.comneck.InternalException;
import org.comneck.tensor.ElementType;
import org.comneck.tensor.Shape;
import org.comneck.tensor.Tensor;

/**
 * The 16 bytes by which a bitstream names the model that can decode it: two models with one identity decode the same symbols.
 *
 * <pre>
 *   identity = first 16 bytes of SHA-256(profile 0x0A, then for each symbol-relevant tensor in ascending order of its name:
 *                                        name 0x00 shape 0x00 SHA-256(elements) )
 * </pre>
 *
 * Shape is its text, {@code [320,16]}; floating-point elements are hashed as F32 and integers as I32, little-endian, so that the storage
 * type does not matter. Tensors are hashed apart so that a writer can do it in any order.
 */
final class Identity {
    /** Tensors that decoded symbols depend on. */
    private static final List<String> RELEVANT =
            List.of("h_s.", "cc_transforms.", "context_prediction.", "ParamAggregation.", "entropy.", "gain.");

    private static final int PIECE_ELEMENTS = 1 << 18;

    private final TreeMap<String, byte[]> digests = new TreeMap<>();
    private final Map<String, Shape> shapes = new TreeMap<>();

    /** True when decoded symbols depend on the tensor of this name. */
    static boolean isRelevant(String name) {
        return RELEVANT.stream().anyMatch(name::startsWith);
    }

    static MessageDigest sha256() {
        try {
            return MessageDigest.getInstance("SHA-256");
        } catch (NoSuchAlgorithmException e) {
            throw new InternalException("this Java has no SHA-256", e);
        }
    }

    /** Hashes a tensor if symbols depend on it. */
    void add(String name, TensorSource source) {
        if (!isRelevant(name)) {
            return;
        }
        MessageDigest digest = sha256();
        TensorSource canonical = source.type().isFloat() ? source.toF32() : source;
        long count = canonical.shape().elements();
        int width = canonical.type().bytes();
        byte[] piece = new byte[(int) Math.min(count, PIECE_ELEMENTS) * width];
        for (long done = 0; done < count; done += PIECE_ELEMENTS) {
            int elements = (int) Math.min(PIECE_ELEMENTS, count - done);
            MemorySegment part = MemorySegment.ofArray(piece).asSlice(0, (long) elements * width);
            canonical.read(done, part);
            if (canonical.type() == ElementType.F32 || canonical.type() == ElementType.I32) {
                digest.update(piece, 0, elements * width);
            } else {
                digest.update(widen(canonical.type(), part, elements));
            }
        }
        digests.put(name, digest.digest());
        shapes.put(name, source.shape());
    }

    private static byte[] widen(ElementType type, MemorySegment part, int elements) {
        int[] values = new Tensor(type, Shape.of(elements), part).toInts();
        byte[] bytes = new byte[elements * Integer.BYTES];
        ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).asIntBuffer().put(values);
        return bytes;
    }

    /** The identity of all tensors added. */
    byte[] digest(String profile) {
        MessageDigest all = sha256();
        all.update((profile + "\n").getBytes(StandardCharsets.UTF_8));
        digests.forEach((name, digest) -> {
            all.update((name + "\0" + shapes.get(name) + "\0").getBytes(StandardCharsets.UTF_8));
            all.update(digest);
        });
        return Arrays.copyOf(all.digest(), 16);
    }

    static String hex(byte[] identity) {
        return HexFormat.of().formatHex(identity);
    }
}
