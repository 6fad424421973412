#!/usr/bin/env python3
"""Asks a ComNeck server for visual tokens: one file, standard library only.

    from comneck_client import Client
    with Client("localhost", 8081) as client:
        tokens = client.tokens(open("photo.cnk", "rb").read())        # [tokens, width]

    python comneck_client.py photo.cnk --out tokens.npy

The binary protocol is docs/protocol.md; tokens_http() uses the HTTP port instead. With NumPy installed tokens are ndarrays; without it they are
Tokens objects with .shape, .dtype and .data (bytes). bf16 is always the latter: NumPy does not have it.

Not thread-safe: one Client a thread. tokens_many() keeps as many requests under way as the server grants.
"""
import argparse
import collections
import json
import socket
import ssl
import struct
import sys
import urllib.error
import urllib.parse
import urllib.request

try:
    import numpy
except ImportError:
    numpy = None

VERSION = 1
_MAGIC = b"CNW\x1a"
_HEAD = struct.Struct("<4sBBHQIHHI")  # magic, version, type, credits, id, deadline, fields, 0, body
_HELLO, _REQUEST, _CANCEL, _ANSWER, _REFUSAL, _ERROR, _CREDIT, _PING, _PONG, _GOAWAY = range(1, 11)
_DTYPES = {"f32": 0, "f16": 1, "bf16": 2}
_SELECT = {"all": 0, "patches": 1, "cls": 2}
_POST_NORM = {"none": 0, "once": 1, "twice": 2}
REASONS = {
    1: "QUEUE_FULL", 2: "DRAINING", 3: "MODEL_UNAVAILABLE", 4: "TOO_MANY", 5: "SLOW_READER",
    16: "DAMAGED_DATA", 17: "DAMAGED_FRAME", 18: "USAGE", 19: "OTHER_MODEL", 20: "TOO_LARGE", 21: "UNKNOWN_MODEL",
    22: "DEADLINE", 23: "CANCELLED", 24: "INTERNAL",
    32: "PROTOCOL", 33: "VERSION", 34: "UNAUTHORIZED", 35: "IDLE", 36: "CONNECTIONS",
}


class ComneckError(Exception):
    """No tokens. reason is a name of REASONS, or None when the connection was lost."""

    def __init__(self, reason, message, retry_after=0.0, offset=None):
        super().__init__(message if reason is None else f"{reason}: {message}")
        self.reason = reason
        self.offset = offset  # byte of the bitstream where damage was found, or None
        self.retry_after = retry_after  # seconds; only of refusals, and 0 when the server cannot say


class Tokens:
    """Tokens without NumPy: shape (tuple), dtype ("f32", "f16" or "bf16"), data (little-endian, row-major)."""

    def __init__(self, shape, dtype, data):
        self.shape = shape
        self.dtype = dtype
        self.data = data

    def tolist(self):
        """All elements as one flat list of floats."""
        if self.dtype == "bf16":
            wide = b"".join(b"\0\0" + self.data[i:i + 2] for i in range(0, len(self.data), 2))
            return list(struct.unpack(f"<{len(wide) // 4}f", wide))
        size, code = (4, "f") if self.dtype == "f32" else (2, "e")
        return list(struct.unpack(f"<{len(self.data) // size}{code}", self.data))


Model = collections.namedtuple("Model", "name identity")
Details = collections.namedtuple("Details", "layer identity queue_seconds total_seconds")

# ---------------------------------------------------------------- CRC32C


def _byte_table():
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_TABLE = _byte_table()
_LANE_BYTES = 256  # a vector of checksums runs over lanes of so many bytes, side by side
_SHORT_BYTES = 2048
_zeros = {}  # NumPy tables: what follows of so many zero bytes does to a checksum's four bytes


def _advance_by_zeros(count):
    """Tables (4, 256): the checksum register after count zero bytes is the xor of one entry for each of its bytes."""
    if count not in _zeros:
        if count == 1:
            table = numpy.array(_TABLE, dtype=numpy.uint32)
            values = [[(v << 8 * k) for v in range(256)] for k in range(4)]
            values = numpy.array(values, dtype=numpy.uint32)
            _zeros[1] = table[values & 255] ^ (values >> 8)
        else:
            half = _advance_by_zeros(count // 2)
            _zeros[count] = _apply(half, half)
    return _zeros[count]


def _apply(tables, values):
    return (tables[0][values & 255] ^ tables[1][(values >> 8) & 255]
            ^ tables[2][(values >> 16) & 255] ^ tables[3][values >> 24])


def crc32c(data):
    """CRC32C (Castagnoli) of bytes."""
    if numpy is None or len(data) < _SHORT_BYTES:
        table = _TABLE
        crc = 0xFFFFFFFF
        for byte in bytes(data):
            crc = table[(crc ^ byte) & 255] ^ (crc >> 8)
        return crc ^ 0xFFFFFFFF
    # Zeros in front of a message change nothing while the register is 0, so the lanes may be made a power of two; the register's
    # start value is the same as these bits in the first four bytes.
    lanes = 1
    while lanes * _LANE_BYTES < len(data):
        lanes *= 2
    padded = numpy.zeros(lanes * _LANE_BYTES, dtype=numpy.uint8)
    message = padded[len(padded) - len(data):]
    message[:] = numpy.frombuffer(data, dtype=numpy.uint8)
    message[:4] ^= 255
    words = padded.view("<u4").reshape(lanes, _LANE_BYTES // 4).T.copy()
    step = _advance_by_zeros(4)
    register = numpy.zeros(lanes, dtype=numpy.uint32)
    for word in words:
        register = _apply(step, register ^ word)
    span = _LANE_BYTES
    while len(register) > 1:
        register = _apply(_advance_by_zeros(span), register[0::2]) ^ register[1::2]
        span *= 2
    return int(register[0]) ^ 0xFFFFFFFF


# ---------------------------------------------------------------- frames


def _frame(kind, request_id=0, deadline_us=0, fields=b"", body=b""):
    head = _HEAD.pack(_MAGIC, VERSION, kind, 0, request_id, deadline_us, len(fields), 0, len(body))
    front = head + struct.pack("<I", crc32c(head)) + fields
    whole = front + body
    return whole + struct.pack("<I", crc32c(whole))


def _field(tag, value):
    return struct.pack("<HH", tag, len(value)) + value


def _fields(data):
    """Tag -> list of values."""
    found = {}
    at = 0
    while at < len(data):
        if len(data) - at < 4:
            raise ComneckError(None, "a frame of the server is not as the protocol says")
        tag, length = struct.unpack_from("<HH", data, at)
        if at + 4 + length > len(data):
            raise ComneckError(None, "a frame of the server is not as the protocol says")
        found.setdefault(tag, []).append(bytes(data[at + 4:at + 4 + length]))
        at += 4 + length
    return found


def _number(fields, tag, default=0):
    return int.from_bytes(fields[tag][0], "little") if tag in fields else default


def _text(fields, tag):
    return fields[tag][0].decode("utf-8", "replace") if tag in fields else ""


class Client:
    """A connection to a server's binary port.

    access_token: where the server asks for one. tls: an ssl.SSLContext, or None. timeout: seconds without a byte while an answer is awaited.
    verify: whether answers' checksums are checked (without NumPy that takes about 0.1 s for a megabyte).
    max_answer: longest answer in bytes that is taken.
    """

    def __init__(self, host="localhost", port=8081, access_token=None, tls=None, timeout=60.0, verify=True,
                 max_answer=256 << 20):
        self._verify = verify
        self._max_answer = max_answer
        self._last_id = 0
        self._credits = 0
        self._dead = None
        self.details = None  # Details of the last answer
        self._socket = socket.create_connection((host, port), timeout)
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tls is not None:
                self._socket = tls.wrap_socket(self._socket, server_hostname=host)
            hello = _field(1, bytes([VERSION])) + _field(2, b"comneck-python")
            if access_token is not None:
                hello += _field(3, access_token.encode())
            self._send(_frame(_HELLO, fields=hello))
            kind, _, fields, _ = self._receive()
            if kind != _HELLO:
                raise ComneckError(None, "this is no server of the binary protocol")
            self.max_body = _number(fields, 4)
            self.models = [Model(value[16:].decode(), value[:16]) for value in fields.get(8, [])]
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def close(self):
        self._socket.close()

    def tokens(self, bitstream, **options):
        """Tokens of a bitstream or a photo (bytes).

        model: name or name/version. layer: output of that many blocks, negative from the end. tokens: "all", "patches" or "cls".
        post_norm: "none", "once" or "twice". projected: bool. dtype: "f16", "f32" or "bf16". deadline: seconds.
        What is left out is as the model says; f16.
        """
        return next(iter(self.tokens_many([bitstream], **options)))

    def tokens_many(self, bitstreams, **options):
        """Yields the tokens of each bitstream in their order, with as many under way as the server grants. Raises at the first error."""
        waiting = collections.deque()  # ids in order
        done = {}
        source = iter(bitstreams)
        exhausted = False
        try:
            while True:
                while not exhausted and self._credits > 0:
                    try:
                        bitstream = next(source)
                    except StopIteration:
                        exhausted = True
                        break
                    waiting.append(self._request(bitstream, **options))
                while waiting and waiting[0] in done:
                    result = done.pop(waiting.popleft())
                    if isinstance(result, ComneckError):
                        raise result
                    tokens, self.details = result
                    yield tokens
                if not waiting:
                    if exhausted:
                        return
                    if self._credits > 0:
                        continue
                kind, request_id, fields, body = self._receive()
                if kind in (_ANSWER, _REFUSAL, _ERROR) and request_id in waiting:
                    done[request_id] = self._result(kind, fields, body)
        finally:
            for request_id in waiting:  # left early: nobody waits for these any more
                if request_id not in done and self._dead is None:
                    self._send(_frame(_CANCEL, request_id))

    def _request(self, bitstream, model=None, layer=None, tokens=None, post_norm=None, projected=None, dtype="f16",
                 deadline=None, traceparent=None):
        fields = b""
        if model is not None:
            fields += _field(16, model.encode())
        if layer is not None:
            fields += _field(17, struct.pack("<h", layer))
        if tokens is not None:
            fields += _field(18, bytes([_SELECT[tokens]]))
        if post_norm is not None:
            fields += _field(19, bytes([_POST_NORM[post_norm]]))
        if projected is not None:
            fields += _field(20, bytes([1 if projected else 0]))
        fields += _field(21, bytes([_DTYPES[dtype]]))
        if traceparent is not None:
            fields += _field(0x8001, traceparent.encode())
        self._last_id += 1
        self._credits -= 1
        micros = 0 if deadline is None else max(1, min(int(deadline * 1e6), 0xFFFFFFFF))
        self._send(_frame(_REQUEST, self._last_id, micros, fields, bytes(bitstream)))
        return self._last_id

    @staticmethod
    def _result(kind, fields, body):
        if kind != _ANSWER:
            return ComneckError(REASONS.get(_number(fields, 48), "UNKNOWN"), _text(fields, 51), _number(fields, 49) / 1e3,
                                _number(fields, 50, None))
        shape = tuple(int.from_bytes(size, "little") for size in fields.get(32, []))
        dtype = {code: name for name, code in _DTYPES.items()}.get(_number(fields, 21))
        elements = 1
        for size in shape:
            elements *= size
        if dtype is None or elements * (4 if dtype == "f32" else 2) != len(body):
            return ComneckError(None, "an answer whose size is not what it says")
        layer = int.from_bytes(fields[17][0], "little", signed=True) if 17 in fields else 0
        details = Details(layer, fields.get(33, [b""])[0], _number(fields, 34) / 1e6, _number(fields, 35) / 1e6)
        return _array(shape, dtype, body), details

    def _send(self, data):
        if self._dead is not None:
            raise ComneckError(None, self._dead)
        try:
            self._socket.sendall(data)
        except OSError as e:
            self._dead = f"the connection was lost: {e}"
            raise ComneckError(None, self._dead) from e

    def _receive(self):
        """The next frame that is not about the connection itself: type, id, fields, body."""
        while True:
            head = self._exactly(36 - 4)
            magic, _, kind, credits, request_id, _, field_bytes, _, body_bytes = _HEAD.unpack_from(head)
            if magic != _MAGIC or struct.unpack_from("<I", head, 28)[0] != crc32c(head[:28]):
                self._dead = "this is no stream of frames"
                raise ComneckError(None, self._dead)
            if body_bytes > self._max_answer:
                self._dead = f"an answer of {body_bytes} bytes is more than the limit of {self._max_answer}"
                raise ComneckError(None, self._dead)
            rest = self._exactly(field_bytes + body_bytes + 4)
            said = struct.unpack_from("<I", rest, len(rest) - 4)[0]
            if self._verify and crc32c(bytes(head) + rest[:-4]) != said:
                self._dead = "a frame of the server is damaged"
                raise ComneckError(None, self._dead)
            self._credits += credits
            fields = _fields(rest[:field_bytes])
            if kind == _PING:
                self._send(_frame(_PONG, request_id))
            elif kind == _GOAWAY:
                reason = REASONS.get(_number(fields, 48), "UNKNOWN")
                if reason != "DRAINING":
                    self._dead = f"{reason}: {_text(fields, 51)}"
                    raise ComneckError(reason, _text(fields, 51))
            elif kind not in (_PONG, _CREDIT):
                return kind, request_id, fields, memoryview(rest)[field_bytes:-4]

    def _exactly(self, count):
        if self._dead is not None:
            raise ComneckError(None, self._dead)
        data = bytearray(count)
        view = memoryview(data)
        at = 0
        while at < count:
            try:
                got = self._socket.recv_into(view[at:])
            except OSError as e:
                self._dead = f"the connection was lost: {e}"
                raise ComneckError(None, self._dead) from e
            if got == 0:
                self._dead = "the server closed the connection"
                raise ComneckError(None, self._dead)
            at += got
        return data


def _array(shape, dtype, body):
    if numpy is not None and dtype != "bf16":
        return numpy.frombuffer(body, dtype="<f4" if dtype == "f32" else "<f2").reshape(shape)
    return Tokens(shape, dtype, bytes(body))


def tokens_http(bitstream, url="http://localhost:8080", access_token=None, timeout=60.0, tls=None, **options):
    """Tokens of a bitstream or a photo by HTTP, POST /v1/tokens. Options as of Client.tokens; tls: an ssl.SSLContext for https."""
    names = {"layer": "layer", "tokens": "tokens", "post_norm": "post_ln", "projected": "proj", "dtype": "dtype"}
    query = {"dtype": "f16"}
    for key, value in options.items():
        if value is None:
            continue
        if key == "model":
            query["model"], _, version = value.partition("/")
            if version:
                query["version"] = version
        elif key == "deadline":
            query["timeout_ms"] = max(1, int(value * 1000))
        else:
            query[names[key]] = str(value).lower() if isinstance(value, bool) else value
    query["format"] = "npy" if query["dtype"] != "bf16" else "safetensors"
    request = urllib.request.Request(f"{url}/v1/tokens?{urllib.parse.urlencode(query)}", data=bytes(bitstream))
    request.add_header("Content-Type", "application/octet-stream")
    if access_token is not None:
        request.add_header("Authorization", f"Bearer {access_token}")
    try:
        with urllib.request.urlopen(request, timeout=timeout, context=tls) as answer:
            data = answer.read()
    except urllib.error.HTTPError as e:
        body = e.read().decode("utf-8", "replace")
        try:
            body = json.loads(body)["error"]
            body = body["message"] if isinstance(body, dict) else body
        except (ValueError, KeyError, TypeError):
            pass
        offset = e.headers.get("X-Comneck-Offset")
        raise ComneckError(str(e.code), str(body), float(e.headers.get("Retry-After") or 0),
                           None if offset is None else int(offset)) from e
    return _from_npy(data) if query["format"] == "npy" else _from_safetensors(data)


def _from_npy(data):
    if data[:6] != b"\x93NUMPY":
        raise ComneckError(None, "the answer is no NumPy file")
    length = struct.unpack_from("<H", data, 8)[0]
    header = data[10:10 + length].decode("latin1")
    shape = header.split("'shape': (")[1].split(")")[0]
    shape = tuple(int(size) for size in shape.split(",") if size.strip())
    dtype = {"<f4": "f32", "<f2": "f16"}[header.split("'descr': '")[1].split("'")[0]]
    return _array(shape, dtype, memoryview(data)[10 + length:])


def _from_safetensors(data):
    length = struct.unpack_from("<Q", data)[0]
    header = json.loads(data[8:8 + length])
    header.pop("__metadata__", None)
    tensor = next(iter(header.values()))
    start, end = tensor["data_offsets"]
    return _array(tuple(tensor["shape"]), tensor["dtype"].lower(), memoryview(data)[8 + length + start:8 + length + end])


def to_npy(tokens):
    """A NumPy file (bytes) of tokens, with or without NumPy."""
    if numpy is not None and isinstance(tokens, numpy.ndarray):
        shape, dtype, data = tokens.shape, "f32" if tokens.dtype.itemsize == 4 else "f16", tokens.tobytes()
    else:
        shape, dtype, data = tokens.shape, tokens.dtype, tokens.data
    if dtype == "bf16":
        raise ValueError("NumPy files have no bf16: ask for f16 or f32")
    sizes = ", ".join(str(size) for size in shape) + ("," if len(shape) == 1 else "")
    header = f"{{'descr': '{'<f4' if dtype == 'f32' else '<f2'}', 'fortran_order': False, 'shape': ({sizes}), }}"
    header += " " * (-(10 + len(header) + 1) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode("latin1") + data


def main(arguments=None):
    parser = argparse.ArgumentParser(description="Asks a ComNeck server for the tokens of a bitstream or a photo.")
    parser.add_argument("input", help="bitstream (.cnk) or photo")
    parser.add_argument("--out", required=True, help="NumPy file to write (f16 or f32), or - for standard output")
    parser.add_argument("--host", default="localhost")
    parser.add_argument("--port", type=int, default=8081, help="binary port, default 8081")
    parser.add_argument("--http", metavar="URL", help="use HTTP instead, e.g. http://localhost:8080")
    parser.add_argument("--model")
    parser.add_argument("--layer", type=int)
    parser.add_argument("--tokens", choices=sorted(_SELECT))
    parser.add_argument("--post-norm", choices=sorted(_POST_NORM))
    parser.add_argument("--projected", action="store_true", default=None)
    parser.add_argument("--dtype", choices=["f16", "f32"], default="f16")
    parser.add_argument("--deadline", type=float, help="seconds")
    parser.add_argument("--token-file", help="file with the access token")
    parser.add_argument("--ca", help="PEM certificates for TLS that the server's must descend from")
    parser.add_argument("--cert", help="PEM certificate of this client, where the server asks for one; with --key and --ca")
    parser.add_argument("--key", help="PEM private key of --cert")
    flags = parser.parse_args(arguments)
    options = {key: getattr(flags, key)
               for key in ("model", "layer", "tokens", "post_norm", "projected", "dtype")}
    try:
        with open(flags.input, "rb") as file:
            bitstream = file.read()
        access_token = None
        if flags.token_file:
            with open(flags.token_file, encoding="utf-8") as file:
                access_token = file.readline().strip()
        tls = ssl.create_default_context(cafile=flags.ca) if flags.ca else None
        if flags.cert:
            if tls is None:
                parser.error("--cert needs --ca")
            tls.load_cert_chain(flags.cert, flags.key)
        if flags.http:
            tokens = tokens_http(bitstream, flags.http, access_token, tls=tls, **options)
        else:
            with Client(flags.host, flags.port, access_token, tls) as client:
                tokens = client.tokens(bitstream, deadline=flags.deadline, **options)
        if flags.out == "-":
            sys.stdout.buffer.write(to_npy(tokens))
        else:
            with open(flags.out, "wb") as file:
                file.write(to_npy(tokens))
    except (ComneckError, OSError) as e:
        print(f"comneck_client: {e}", file=sys.stderr)
        return 1
    print(f"{flags.out}: {list(tokens.shape)} {flags.dtype}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
