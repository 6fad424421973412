package org.comneck.bitstream;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.zip.CRC32C;
import org.comneck.DamagedDataException;
import org.comneck.UsageException;

/**
 * A file of one or many coded images, docs/format.md. Immutable.
 *
 * <p>{@link #read} checks the structure: every length, limit and reserved bit. An image's checksum is checked when the image is asked for,
 * so that damage to one leaves the others readable.
 */
public final class Container {
    /** Bytes of the file's header. */
    public static final int HEADER_BYTES = 24;

    /** Bytes of an image's header; its payload follows. */
    public static final int IMAGE_HEADER_BYTES = 24;

    /** Bytes of a model's identity. */
    public static final int IDENTITY_BYTES = 16;

    /** The version that this class writes, and the only one there is. */
    public static final int VERSION = 1;

    /** Most images that the format can count. */
    public static final int MAX_IMAGES = 65_535;

    private static final byte[] MAGIC = {'C', 'N', 'K', 0x1A};
    private static final int PREPARED = 1;

    private final ArithmeticProfile profile;
    private final byte[] identity;
    private final List<CodedImage> images;

    /** For each image what its checksum was found to be wrong about, or null. */
    private final DamagedDataException[] damage;

    /**
     * A container of these images.
     *
     * @param identity the model's, {@value #IDENTITY_BYTES} bytes
     * @throws IllegalArgumentException when the format cannot hold them
     */
    public Container(ArithmeticProfile profile, byte[] identity, List<CodedImage> images) {
        this(profile, identity, images, new DamagedDataException[images.size()]);
    }

    private Container(
            ArithmeticProfile profile, byte[] identity, List<CodedImage> images, DamagedDataException[] damage) {
        if (identity.length != IDENTITY_BYTES) {
            throw new IllegalArgumentException("identity of " + identity.length + " bytes");
        }
        if (images.isEmpty() || images.size() > MAX_IMAGES) {
            throw new IllegalArgumentException(images.size() + " images, not 1 to " + MAX_IMAGES);
        }
        this.profile = profile;
        this.identity = identity.clone();
        this.images = List.copyOf(images);
        this.damage = damage;
    }

    /** True when the bytes begin as every container does; says nothing about the rest. */
    public static boolean looksLikeOne(MemorySegment bytes) {
        return bytes.byteSize() >= MAGIC.length
                && bytes.asSlice(0, MAGIC.length).mismatch(MemorySegment.ofArray(MAGIC)) < 0;
    }

    /** {@link #read(MemorySegment, Limits)} of an array, which is not copied. */
    public static Container read(byte[] bytes, Limits limits) {
        return read(MemorySegment.ofArray(bytes), limits);
    }

    /**
     * Reads a file.
     *
     * @param bytes the whole file; payloads are views of it
     * @throws DamagedDataException when it is not a container, is truncated, goes on after its last image, or exceeds a limit
     */
    public static Container read(MemorySegment bytes, Limits limits) {
        if (!looksLikeOne(bytes)) {
            throw new DamagedDataException("not a ComNeck bitstream: it does not begin with \"CNK\"", 0);
        }
        Cursor cursor = new Cursor(bytes);
        cursor.bytes(MAGIC.length, "the file's header");
        int version = cursor.u8("the file's header");
        if (version != VERSION) {
            throw new DamagedDataException("version " + version + " of the format is not known, only " + VERSION, 4);
        }
        int code = cursor.u8("the file's header");
        ArithmeticProfile profile = ArithmeticProfile.of(code);
        if (profile == null) {
            throw new DamagedDataException("arithmetic profile " + code + " is not known", 5);
        }
        int count = cursor.u16("the file's header");
        if (count == 0 || count > limits.images()) {
            throw new DamagedDataException(count + " images, not 1 to " + limits.images(), 6);
        }
        byte[] identity = cursor.bytes(IDENTITY_BYTES, "the file's header").toArray(ValueLayout.JAVA_BYTE);
        List<CodedImage> images = new ArrayList<>();
        DamagedDataException[] damage = new DamagedDataException[count];
        for (int i = 0; i < count; i++) {
            String what = count == 1 ? "the image" : "image " + i;
            long start = cursor.offset();
            long payloadBytes = cursor.u32(what + "'s header");
            if (payloadBytes > limits.payloadBytes()) {
                throw new DamagedDataException(
                        what + " has a payload of " + payloadBytes + " bytes, more than the limit of "
                                + limits.payloadBytes(),
                        start);
            }
            CodedImage head = head(cursor, what);
            if (head.pixels() > limits.pixels()) {
                throw new DamagedDataException(
                        what + " has " + head.pixels() + " pixels, more than the limit of " + limits.pixels(),
                        start + 4);
            }
            int checksum = (int) cursor.u32(what + "'s header");
            MemorySegment payload = cursor.bytes(payloadBytes, what + "'s payload");
            int found = checksum(bytes.asSlice(0, HEADER_BYTES), bytes.asSlice(start, IMAGE_HEADER_BYTES - 4), payload);
            if (found != checksum) {
                damage[i] = new DamagedDataException(
                        "%s is damaged: its bytes have the checksum %08x, not %08x".formatted(what, found, checksum),
                        start);
            }
            images.add(with(head, payload));
        }
        if (cursor.left() > 0) {
            throw new DamagedDataException(cursor.left() + " bytes follow the last image", cursor.offset());
        }
        return new Container(profile, identity, images, damage);
    }

    /** Bytes 4 to 19 of an image's header. */
    private static CodedImage head(Cursor cursor, String what) {
        long offset = cursor.offset();
        int width = cursor.u16(what + "'s header");
        int height = cursor.u16(what + "'s header");
        int paddedWidth = cursor.u16(what + "'s header") * CodedImage.PADDING;
        int paddedHeight = cursor.u16(what + "'s header") * CodedImage.PADDING;
        double quality = cursor.u16(what + "'s header") / 256.0;
        int flags = cursor.u16(what + "'s header");
        if ((flags & ~PREPARED) != 0) {
            throw new DamagedDataException(what + " has flags that are not known: " + flags, offset + 10);
        }
        int symbolChecksum = (int) cursor.u32(what + "'s header");
        try {
            return new CodedImage(
                    width,
                    height,
                    paddedWidth,
                    paddedHeight,
                    quality,
                    flags == PREPARED,
                    symbolChecksum,
                    MemorySegment.NULL);
        } catch (IllegalArgumentException e) {
            throw new DamagedDataException(what + " is not possible: " + e.getMessage(), offset, e);
        }
    }

    private static CodedImage with(CodedImage head, MemorySegment payload) {
        return new CodedImage(
                head.width(),
                head.height(),
                head.paddedWidth(),
                head.paddedHeight(),
                head.quality(),
                head.prepared(),
                head.symbolChecksum(),
                payload);
    }

    private static int checksum(MemorySegment... parts) {
        CRC32C checksum = new CRC32C();
        for (MemorySegment part : parts) {
            checksum.update(part.asByteBuffer());
        }
        return (int) checksum.getValue();
    }

    /** The file. */
    public byte[] toByteArray() {
        long size = HEADER_BYTES;
        for (CodedImage image : images) {
            size += IMAGE_HEADER_BYTES + image.payload().byteSize();
        }
        ByteBuffer out = ByteBuffer.allocate(Math.toIntExact(size)).order(ByteOrder.LITTLE_ENDIAN);
        MemorySegment file = MemorySegment.ofBuffer(out);
        out.put(MAGIC).put((byte) VERSION).put((byte) profile.code()).putShort((short) images.size());
        out.put(identity);
        for (CodedImage image : images) {
            int start = out.position();
            out.putInt(Math.toIntExact(image.payload().byteSize()));
            out.putShort((short) image.width()).putShort((short) image.height());
            out.putShort((short) (image.paddedWidth() / CodedImage.PADDING));
            out.putShort((short) (image.paddedHeight() / CodedImage.PADDING));
            out.putShort((short) Math.rint(image.quality() * 256));
            out.putShort((short) (image.prepared() ? PREPARED : 0));
            out.putInt(image.symbolChecksum());
            out.putInt(checksum(
                    file.asSlice(0, HEADER_BYTES), file.asSlice(start, IMAGE_HEADER_BYTES - 4), image.payload()));
            out.put(image.payload().asByteBuffer());
        }
        return out.array();
    }

    public ArithmeticProfile profile() {
        return profile;
    }

    /** Identity of the model that the images were coded with. */
    public byte[] identity() {
        return identity.clone();
    }

    /** Number of images. */
    public int size() {
        return images.size();
    }

    /**
     * An image whose bytes are as they were written.
     *
     * @throws DamagedDataException when its checksum does not hold; other images may be fine
     */
    public CodedImage image(int index) {
        if (damage[index] != null) {
            throw damage[index];
        }
        return images.get(index);
    }

    /**
     * Makes sure that a model is the one that these images were coded with.
     *
     * @param modelIdentity the model's identity
     * @param modelProfile the model's arithmetic
     * @throws UsageException when it is another one
     */
    public void requireModel(byte[] modelIdentity, ArithmeticProfile modelProfile) {
        if (!Arrays.equals(identity, modelIdentity)) {
            HexFormat hex = HexFormat.of();
            throw new UsageException("the bitstream was made with model " + hex.formatHex(identity)
                    + ", but this is model " + hex.formatHex(modelIdentity) + ": use the model that encoded it");
        }
        if (profile != modelProfile) {
            throw new UsageException(
                    "the bitstream needs the arithmetic " + profile + ", but the model says " + modelProfile);
        }
    }
}
