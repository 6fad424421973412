package org.comneck.model;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.math.BigInteger;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.comneck.DamagedDataException;
import org.comneck.tensor.ElementType;

/**
 * Reads Python pickles of protocols 0 to 5 as data. A pickle is a program for a stack machine that can name any Python function and call
 * it; this machine knows a fixed list of names (the ones that PyTorch writes into checkpoints), turns each into a plain value, and
 * refuses every other by name. It never loads a class and never calls anything by name.
 *
 * <p>Values: null is {@link #NONE}; Boolean, Long, BigInteger, Double, String, byte[]; {@link Tuple}; List; Map; Set; {@link TorchTensor};
 * {@link TorchStorage}; {@link ScriptObject}; {@link Name} for dtypes and devices.
 *
 * <p>Bounds: {@value #MAX_BYTES} bytes, {@value #MAX_STEPS} opcodes and copied elements. Source: CPython's pickletools.
 */
final class Unpickler {
    static final int MAX_BYTES = 64 << 20;
    static final int MAX_STEPS = 2_000_000;
    private static final int MAX_RANK = 32;

    /** Python's None. */
    static final Object NONE = new Object() {
        @Override
        public String toString() {
            return "None";
        }
    };

    private static final Map<String, ElementType> STORAGES = Map.of(
            "DoubleStorage", ElementType.F64,
            "FloatStorage", ElementType.F32,
            "HalfStorage", ElementType.F16,
            "BFloat16Storage", ElementType.BF16,
            "LongStorage", ElementType.I64,
            "IntStorage", ElementType.I32,
            "ShortStorage", ElementType.I16,
            "CharStorage", ElementType.I8,
            "ByteStorage", ElementType.U8,
            "BoolStorage", ElementType.BOOL);

    private static final Set<String> DTYPES = Set.of(
            "float64",
            "double",
            "float32",
            "float",
            "float16",
            "half",
            "bfloat16",
            "int64",
            "long",
            "int32",
            "int",
            "int16",
            "short",
            "int8",
            "uint8",
            "bool",
            "complex64",
            "complex128",
            "strided");

    private static final Set<String> FUNCTIONS = Set.of(
            "collections.OrderedDict",
            "collections.Counter",
            "torch._utils._rebuild_tensor_v2",
            "torch._utils._rebuild_parameter",
            "torch.Size",
            "torch.device");

    private static final Set<String> SCRIPT_FUNCTIONS = Set.of(
            "torch.jit._pickle.build_intlist",
            "torch.jit._pickle.build_doublelist",
            "torch.jit._pickle.build_boollist",
            "torch.jit._pickle.build_tensorlist",
            "torch.jit._pickle.restore_type_tag");

    private static final ValueLayout.OfInt I32 = ValueLayout.JAVA_INT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
    private static final ValueLayout.OfLong I64 = ValueLayout.JAVA_LONG_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
    private static final ValueLayout.OfLong I64_BIG = ValueLayout.JAVA_LONG_UNALIGNED.withOrder(ByteOrder.BIG_ENDIAN);

    /** A Python tuple. */
    record Tuple(List<Object> items) {}

    /** A global that stands for itself: a dtype, a device, a storage class, an allowed function. */
    record Name(String name) {}

    /** An object of a TorchScript class: its attributes, nothing else. */
    static final class ScriptObject {
        final String className;
        final Map<Object, Object> attributes = new LinkedHashMap<>();

        ScriptObject(String className) {
            this.className = className;
        }
    }

    /** Turns the persistent ids of a container into storages. */
    interface Storages {
        /**
         * @param id as written by PyTorch: {@code ("storage", class, key, location, elements[, view])}
         * @param at offset of the opcode in the file
         */
        TorchStorage resolve(List<Object> id, long at);
    }

    private final String where;
    private final MemorySegment bytes;
    private final long base;
    private final boolean script;
    private final Storages storages;
    private long position;
    private int steps;
    private final ArrayList<Object> stack = new ArrayList<>();
    private final ArrayList<Integer> marks = new ArrayList<>();
    private final Map<Long, Object> memo = new HashMap<>();

    /**
     * @param where names the file, for errors
     * @param bytes the pickle; more may follow it
     * @param base offset of the first byte in the file, for errors
     * @param script whether TorchScript's names are allowed too
     * @param storages resolves persistent ids, or null where none may occur
     */
    Unpickler(String where, MemorySegment bytes, long base, boolean script, Storages storages) {
        this.where = where;
        this.bytes = bytes.byteSize() > MAX_BYTES ? bytes.asSlice(0, MAX_BYTES) : bytes;
        this.base = base;
        this.script = script;
        this.storages = storages;
    }

    /** Bytes consumed by {@link #load}. */
    long consumed() {
        return position;
    }

    /** Element type of a storage class, or null when the value is none that can be read. */
    static ElementType storageType(Object value) {
        return value instanceof Name name && name.name.startsWith("torch.")
                ? STORAGES.get(name.name.substring("torch.".length()))
                : null;
    }

    /**
     * Reads one pickle.
     *
     * @throws DamagedDataException when it is damaged, too large, or names anything that is not on the list; with its offset
     */
    Object load() {
        while (true) {
            long at = position;
            charge(1, at);
            int opcode = u8();
            if (opcode == '.') {
                if (stack.size() != 1 || !marks.isEmpty()) {
                    throw damaged("ends with " + stack.size() + " values on its stack", at);
                }
                return stack.getFirst();
            }
            step(opcode, at);
        }
    }

    private void step(int opcode, long at) {
        switch (opcode) {
            case 0x80 -> { // PROTO
                int protocol = u8();
                if (protocol > 5) {
                    throw damaged("is of protocol " + protocol + "; known are 0 to 5", at);
                }
            }
            case 0x95 -> skip(8); // FRAME: a hint for buffered readers
            case 'N' -> push(NONE);
            case 0x88 -> push(true);
            case 0x89 -> push(false);
            case 'I' -> pushIntText(line());
            case 'L' -> {
                String text = line();
                push(wholeNumber(text.endsWith("L") ? text.substring(0, text.length() - 1) : text, at));
            }
            case 'K' -> push((long) u8());
            case 'M' -> push((long) (u8() | u8() << 8));
            case 'J' -> push((long) i32());
            case 0x8a -> push(longBytes(u8(), at));
            case 0x8b -> push(longBytes(i32(), at));
            case 'F' -> {
                String text = line();
                try {
                    push(Double.parseDouble(text.trim()));
                } catch (NumberFormatException e) {
                    throw damaged("has a number that is none", at);
                }
            }
            case 'G' -> push(Double.longBitsToDouble(take(8).get(I64_BIG, 0)));
            case 'S' -> push(quoted(line(), at));
            case 'V' -> push(rawUnicode(line(), at));
            case 'T', 'U' -> push(latin1(take(opcode == 'U' ? u8() : length(i32(), at))));
            case 'X' -> push(utf8(take(length(i32(), at))));
            case 0x8c -> push(utf8(take(u8())));
            case 0x8d -> push(utf8(take(length(i64(), at))));
            case 'B' -> push(take(length(i32(), at)).toArray(ValueLayout.JAVA_BYTE));
            case 'C' -> push(take(u8()).toArray(ValueLayout.JAVA_BYTE));
            case 0x8e, 0x96 -> push(take(length(i64(), at)).toArray(ValueLayout.JAVA_BYTE));
            case '(' -> marks.add(stack.size());
            case ')' -> push(new Tuple(List.of()));
            case 't' -> push(new Tuple(popMark(at)));
            case 0x85, 0x86, 0x87 -> push(new Tuple(pop(opcode - 0x84, at)));
            case ']' -> push(new ArrayList<>());
            case 'l' -> push(popMark(at));
            case 'a' -> {
                Object item = pop(at);
                list(at).add(item);
            }
            case 'e' -> {
                List<Object> items = popMark(at);
                list(at).addAll(items);
            }
            case '}' -> push(new LinkedHashMap<>());
            case 'd' -> {
                Map<Object, Object> map = new LinkedHashMap<>();
                putAll(map, popMark(at), at);
                push(map);
            }
            case 's' -> {
                List<Object> pair = pop(2, at);
                putAll(map(at), pair, at);
            }
            case 'u' -> {
                List<Object> pairs = popMark(at);
                putAll(map(at), pairs, at);
            }
            case 0x8f -> push(new LinkedHashSet<>());
            case 0x90 -> {
                List<Object> items = popMark(at);
                if (!(top(at) instanceof LinkedHashSet<?> raw)) {
                    throw damaged("adds items to what is no set", at);
                }
                @SuppressWarnings("unchecked")
                Set<Object> set = (Set<Object>) raw;
                items.forEach(item -> set.add(key(item, at)));
            }
            case 0x91 -> {
                Set<Object> set = new LinkedHashSet<>();
                popMark(at).forEach(item -> set.add(key(item, at)));
                push(set);
            }
            case '0' -> {
                if (!marks.isEmpty() && marks.getLast() == stack.size()) {
                    marks.removeLast();
                } else {
                    pop(at);
                }
            }
            case '1' -> popMark(at);
            case '2' -> push(top(at));
            case 'p' -> memo.put(memoIndex(line(), at), top(at));
            case 'q' -> memo.put((long) u8(), top(at));
            case 'r' -> memo.put(i32() & 0xFFFFFFFFL, top(at));
            case 0x94 -> memo.put((long) memo.size(), top(at));
            case 'g' -> push(recall(memoIndex(line(), at), at));
            case 'h' -> push(recall(u8(), at));
            case 'j' -> push(recall(i32() & 0xFFFFFFFFL, at));
            case 'c' -> {
                String module = line();
                push(global(module, line(), at));
            }
            case 0x93 -> {
                List<Object> names = pop(2, at);
                if (!(names.get(0) instanceof String module) || !(names.get(1) instanceof String name)) {
                    throw damaged("names a global by what is no text", at);
                }
                push(global(module, name, at));
            }
            case 'R' -> {
                Object arguments = pop(at);
                push(call(pop(at), arguments, at));
            }
            case 0x81 -> {
                Object arguments = pop(at);
                push(create(pop(at), arguments, at));
            }
            case 'b' -> {
                Object state = pop(at);
                build(top(at), state, at);
            }
            case 'Q' -> push(storage(pop(at), at));
            case 'i' -> {
                String module = line();
                throw refused(module + "." + line(), at);
            }
            case 'o', 0x92 -> throw damaged("creates an object in a way that PyTorch does not", at);
            case 'P' -> throw damaged("has a persistent id in text, which PyTorch does not write", at);
            case 0x82, 0x83, 0x84 -> throw damaged("uses the extension registry, which PyTorch does not", at);
            case 0x97, 0x98 -> throw damaged("refers to a buffer outside of it", at);
            default -> throw damaged("has an unknown opcode 0x%02x".formatted(opcode), at);
        }
    }

    // Globals: the whole allow-list is here.

    private Object global(String module, String name, long at) {
        String full = (module.equals("__builtin__") ? "builtins" : module) + "." + name;
        if (FUNCTIONS.contains(full)
                || (script && SCRIPT_FUNCTIONS.contains(full))
                || (module.equals("torch") && (STORAGES.containsKey(name) || DTYPES.contains(name)))) {
            return new Name(full);
        }
        if (script && (module.equals("__torch__") || module.startsWith("__torch__."))) {
            return new Name(full);
        }
        throw refused(full, at);
    }

    private Object call(Object function, Object arguments, long at) {
        if (!(function instanceof Name name) || !(arguments instanceof Tuple(List<Object> items))) {
            throw damaged("calls what is no function", at);
        }
        switch (name.name) {
            case "collections.OrderedDict", "collections.Counter" -> {
                return dictionary(items, at);
            }
            case "torch._utils._rebuild_tensor_v2" -> {
                if (items.size() < 5 || !(items.get(0) instanceof TorchStorage storage)) {
                    throw damaged(
                            "rebuilds a tensor from other things than a storage, an offset, a shape and strides", at);
                }
                return new TorchTensor(
                        where,
                        base + at,
                        storage,
                        number(items.get(1), at),
                        numbers(items.get(2), at),
                        numbers(items.get(3), at));
            }
            case "torch._utils._rebuild_parameter" -> {
                if (items.isEmpty() || !(items.get(0) instanceof TorchTensor)) {
                    throw damaged("rebuilds a parameter from what is no tensor", at);
                }
                return items.get(0);
            }
            case "torch.Size" -> {
                if (items.size() != 1) {
                    throw damaged("builds a torch.Size from " + items.size() + " values", at);
                }
                List<Object> sizes = items(items.get(0), at);
                charge(sizes.size(), at);
                return new Tuple(List.copyOf(sizes));
            }
            case "torch.device" -> {
                return new Name("torch.device");
            }
            case "torch.jit._pickle.build_intlist",
                    "torch.jit._pickle.build_doublelist",
                    "torch.jit._pickle.build_boollist",
                    "torch.jit._pickle.build_tensorlist",
                    "torch.jit._pickle.restore_type_tag" -> {
                if (items.isEmpty()) {
                    throw damaged("calls " + name.name + " without arguments", at);
                }
                return items.get(0);
            }
            default -> throw damaged("calls " + SafetensorsFile.printable(name.name) + ", which is no function", at);
        }
    }

    private Object create(Object type, Object arguments, long at) {
        if (!(type instanceof Name name) || !(arguments instanceof Tuple(List<Object> items))) {
            throw damaged("creates an object of what is no class", at);
        }
        if (script && name.name.startsWith("__torch__.") && items.isEmpty()) {
            return new ScriptObject(name.name);
        }
        if (name.name.startsWith("collections.")) {
            return dictionary(items, at);
        }
        throw damaged("creates an object of " + SafetensorsFile.printable(name.name), at);
    }

    private void build(Object object, Object state, long at) {
        if (object instanceof ScriptObject script) {
            if (!(state instanceof Map<?, ?> attributes)) {
                throw damaged("has a TorchScript object whose state is no dictionary", at);
            }
            charge(attributes.size(), at);
            script.attributes.putAll(attributes);
        } else if (!(object instanceof LinkedHashMap<?, ?> && state instanceof Map<?, ?>)) {
            // PyTorch hangs _metadata on the OrderedDict of a state_dict: attributes that nothing here reads.
            throw damaged("sets the state of an object that has none", at);
        }
    }

    private Map<Object, Object> dictionary(List<Object> arguments, long at) {
        Map<Object, Object> map = new LinkedHashMap<>();
        if (arguments.isEmpty()) {
            return map;
        }
        if (arguments.size() != 1) {
            throw damaged("builds a dictionary from " + arguments.size() + " values", at);
        }
        if (arguments.get(0) instanceof Map<?, ?> source) {
            charge(source.size(), at);
            map.putAll(source);
            return map;
        }
        List<Object> pairs = items(arguments.get(0), at);
        charge(pairs.size(), at);
        for (Object pair : pairs) {
            List<Object> both = items(pair, at);
            if (both.size() != 2) {
                throw damaged("builds a dictionary from what are no pairs", at);
            }
            map.put(key(both.get(0), at), both.get(1));
        }
        return map;
    }

    private TorchStorage storage(Object id, long at) {
        if (storages == null || !(id instanceof Tuple(List<Object> items))) {
            throw damaged("has a persistent id where none belongs", at);
        }
        return storages.resolve(items, base + at);
    }

    // Stack, memo and checks.

    private void push(Object value) {
        stack.add(value);
    }

    private int floor() {
        return marks.isEmpty() ? 0 : marks.getLast();
    }

    private Object top(long at) {
        if (stack.size() <= floor()) {
            throw damaged("takes a value from an empty stack", at);
        }
        return stack.getLast();
    }

    private Object pop(long at) {
        top(at);
        return stack.removeLast();
    }

    private List<Object> pop(int count, long at) {
        if (stack.size() - floor() < count) {
            throw damaged("takes a value from an empty stack", at);
        }
        List<Object> tail = stack.subList(stack.size() - count, stack.size());
        List<Object> items = new ArrayList<>(tail);
        tail.clear();
        return items;
    }

    private List<Object> popMark(long at) {
        if (marks.isEmpty()) {
            throw damaged("closes a group that it did not open", at);
        }
        int count = stack.size() - marks.getLast();
        List<Object> items = pop(count, at);
        marks.removeLast();
        return items;
    }

    @SuppressWarnings("unchecked")
    private List<Object> list(long at) {
        if (top(at) instanceof ArrayList<?> list) {
            return (List<Object>) list;
        }
        throw damaged("appends to what is no list", at);
    }

    @SuppressWarnings("unchecked")
    private Map<Object, Object> map(long at) {
        if (top(at) instanceof LinkedHashMap<?, ?> map) {
            return (Map<Object, Object>) map;
        }
        throw damaged("sets an item of what is no dictionary", at);
    }

    private List<Object> items(Object value, long at) {
        return switch (value) {
            case Tuple(List<Object> items) -> items;
            case ArrayList<?> list -> Collections.unmodifiableList(list);
            default -> throw damaged("has something else where a sequence belongs", at);
        };
    }

    private void putAll(Map<Object, Object> map, List<Object> pairs, long at) {
        if (pairs.size() % 2 != 0) {
            throw damaged("has a key without value", at);
        }
        for (int i = 0; i < pairs.size(); i += 2) {
            map.put(key(pairs.get(i), at), pairs.get(i + 1));
        }
    }

    /** Only keys whose hash is cheap: a tuple that holds itself twice, and so on down, would hash for ever. */
    private Object key(Object key, long at) {
        if (key instanceof String
                || key instanceof Long
                || key instanceof Boolean
                || key instanceof Double
                || key == NONE) {
            return key;
        }
        throw damaged("has a dictionary key that is neither text nor number", at);
    }

    private long number(Object value, long at) {
        if (value instanceof Long number) {
            return number;
        }
        throw damaged("has something else where a whole number belongs", at);
    }

    private long[] numbers(Object value, long at) {
        List<Object> items = items(value, at);
        if (items.size() > MAX_RANK) {
            throw damaged("has a tensor of " + items.size() + " dimensions", at);
        }
        return items.stream().mapToLong(item -> number(item, at)).toArray();
    }

    private Object recall(long index, long at) {
        Object value = memo.get(index);
        if (value == null) {
            throw damaged("recalls value " + index + ", which it did not store", at);
        }
        return value;
    }

    private void charge(int count, long at) {
        steps += count;
        if (steps > MAX_STEPS || steps < 0) {
            throw damaged("takes more than " + MAX_STEPS + " steps", at);
        }
    }

    // Bytes.

    private MemorySegment take(long count) {
        if (count > bytes.byteSize() - position) {
            throw damaged(
                    bytes.byteSize() == MAX_BYTES ? "is longer than " + MAX_BYTES + " bytes" : "is cut off", position);
        }
        MemorySegment slice = bytes.asSlice(position, count);
        position += count;
        return slice;
    }

    private void skip(long count) {
        take(count);
    }

    private int u8() {
        return take(1).get(ValueLayout.JAVA_BYTE, 0) & 0xFF;
    }

    private int i32() {
        return take(4).get(I32, 0);
    }

    private long i64() {
        return take(8).get(I64, 0);
    }

    private long length(long length, long at) {
        if (length < 0) {
            throw damaged("has a value of impossible length", at);
        }
        return length;
    }

    private String line() {
        long start = position;
        while (u8() != '\n') {
            // Ends at the newline or with an error.
        }
        String text = latin1(bytes.asSlice(start, position - 1 - start));
        return text.endsWith("\r") ? text.substring(0, text.length() - 1) : text;
    }

    private static String latin1(MemorySegment bytes) {
        return new String(bytes.toArray(ValueLayout.JAVA_BYTE), StandardCharsets.ISO_8859_1);
    }

    private static String utf8(MemorySegment bytes) {
        return new String(bytes.toArray(ValueLayout.JAVA_BYTE), StandardCharsets.UTF_8);
    }

    private Object longBytes(int count, long at) {
        if (count < 0 || count > 256) {
            throw damaged("has a whole number of " + count + " bytes", at);
        }
        byte[] big = take(count).toArray(ValueLayout.JAVA_BYTE);
        for (int i = 0; i < count / 2; i++) {
            byte swap = big[i];
            big[i] = big[count - 1 - i];
            big[count - 1 - i] = swap;
        }
        return small(count == 0 ? BigInteger.ZERO : new BigInteger(big));
    }

    private static Object small(BigInteger number) {
        if (number.bitLength() < 64) {
            return number.longValue();
        }
        return number;
    }

    private void pushIntText(String text) {
        switch (text) {
            case "00" -> push(false);
            case "01" -> push(true);
            default -> push(wholeNumber(text, position));
        }
    }

    private Object wholeNumber(String text, long at) {
        try {
            if (text.length() <= 600) {
                return small(new BigInteger(text.trim()));
            }
        } catch (NumberFormatException e) {
            // Reported below.
        }
        throw damaged("has a number that is none", at);
    }

    private long memoIndex(String text, long at) {
        if (wholeNumber(text, at) instanceof Long index && index >= 0) {
            return index;
        }
        throw damaged("has an impossible memo index", at);
    }

    /** Python's repr of a str or bytes, as protocol 0 writes it. */
    private String quoted(String text, long at) {
        int last = text.length() - 1;
        if (last < 1 || text.charAt(0) != text.charAt(last) || (text.charAt(0) != '\'' && text.charAt(0) != '"')) {
            throw damaged("has text without quotes", at);
        }
        StringBuilder out = new StringBuilder();
        for (int i = 1; i < last; i++) {
            char c = text.charAt(i);
            if (c != '\\') {
                out.append(c);
                continue;
            }
            if (++i >= last) {
                throw damaged("has text with a broken escape", at);
            }
            switch (text.charAt(i)) {
                case 'n' -> out.append('\n');
                case 't' -> out.append('\t');
                case 'r' -> out.append('\r');
                case '\\', '\'', '"' -> out.append(text.charAt(i));
                case 'x' -> {
                    out.append((char) hex(text, i + 1, 2, last, at));
                    i += 2;
                }
                default -> throw damaged("has text with an unknown escape", at);
            }
        }
        return out.toString();
    }

    private String rawUnicode(String text, long at) {
        StringBuilder out = new StringBuilder();
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            char kind = c == '\\' && i + 1 < text.length() ? text.charAt(i + 1) : 0;
            if (kind == 'u' || kind == 'U') {
                int digits = kind == 'u' ? 4 : 8;
                int codePoint = hex(text, i + 2, digits, text.length(), at);
                if (!Character.isValidCodePoint(codePoint)) {
                    throw damaged("has text with a broken escape", at);
                }
                out.appendCodePoint(codePoint);
                i += 1 + digits;
            } else {
                out.append(c);
            }
        }
        return out.toString();
    }

    private int hex(String text, int from, int digits, int limit, long at) {
        if (from + digits > limit) {
            throw damaged("has text with a broken escape", at);
        }
        int value = 0;
        for (int i = from; i < from + digits; i++) {
            int digit = Character.digit(text.charAt(i), 16);
            if (digit < 0) {
                throw damaged("has text with a broken escape", at);
            }
            value = value << 4 | digit;
        }
        return value;
    }

    private DamagedDataException refused(String global, long at) {
        return new DamagedDataException(
                where + ": refused: its pickle names '" + SafetensorsFile.printable(global)
                        + "', which is not on the list of names that a checkpoint needs; nothing was run"
                        + (global.startsWith("torch.nn.modules.")
                                ? "; it holds a whole module: save its state_dict() instead"
                                : ""),
                base + at);
    }

    private DamagedDataException damaged(String message, long at) {
        return new DamagedDataException(where + ": pickle " + message, base + at);
    }
}
