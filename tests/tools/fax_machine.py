"""A fax machine over RTP: spandsp's T.30 and modems, G.711 packets of 20 ms. Prints what became of the call as JSON."""

import argparse
import ctypes
import json
import select
import socket
import struct
import time

FRAME = 160
ROWS = 120
LAWS = {"alaw": 8, "ulaw": 0}


def a_law(sample):
    sign, sample = (0xD5, sample) if sample >= 0 else (0x55, ~sample)
    sample >>= 4
    segment = max(0, sample.bit_length() - 5)
    code = sample if segment == 0 else (segment + 1 << 4) | (sample >> segment & 0x0F)
    if sample >= 16 and segment == 0:
        code = 0x10 | sample & 0x0F
    return code ^ sign


def mu_law(sample):
    sign = 0xFF if sample >= 0 else 0x7F
    sample = min(abs(sample), 32635) + 132
    segment = sample.bit_length() - 8
    return sign ^ (segment << 4 | sample >> segment + 3 & 0x0F)


def from_a_law(code):
    code ^= 0x55
    segment, value = code >> 4 & 7, (code & 0x0F) << 4
    value = value + 8 if segment == 0 else value + 0x108 << segment - 1
    return value if code & 0x80 else -value


def from_mu_law(code):
    code = ~code & 0xFF
    value = ((code & 0x0F) * 8 + 132 << (code >> 4 & 7)) - 132
    return -value if code & 0x80 else value


def page(path):
    """A page of bars that widen row by row, uncompressed."""
    rows = [bytes(0xFF if (column + row // 4) // (2 + row % 9) % 3 == 0 else 0 for column in range(216)) for row in range(ROWS)]
    image = b"".join(rows)
    short, long, rational = 3, 4, 5
    tags = [
        (256, long, 1728), (257, long, ROWS), (258, short, 1), (259, short, 1), (262, short, 0), (266, short, 1),
        (273, long, 0), (277, short, 1), (278, long, ROWS), (279, long, len(image)), (282, rational, 0),
        (283, rational, 8), (296, short, 2),
    ]
    after = 8 + 2 + 12 * len(tags) + 4
    offset = after + 16
    entries = b"".join(
        struct.pack("<HHII", tag, kind, 1, after + value if kind == rational else offset if tag == 273 else value)
        for tag, kind, value in tags
    )
    head = struct.pack("<2sHI", b"II", 42, 8) + struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    with open(path, "wb") as file:
        file.write(head + struct.pack("<IIII", 204, 1, 98, 1) + image)


class Statistics(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int) for name in (
        "bit_rate", "error_correcting_mode", "pages_tx", "pages_rx", "pages_in_file", "x_resolution", "y_resolution",
        "width", "length", "image_size", "encoding", "bad_rows", "longest_bad_row_run")] + [("rest", ctypes.c_int * 32)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bind", type=int, required=True)
    parser.add_argument("--far", required=True)
    parser.add_argument("--law", choices=LAWS, required=True)
    parser.add_argument("--file", required=True)
    parser.add_argument("--calls", action="store_true")
    parser.add_argument("--seconds", type=float, default=90)
    options = parser.parse_args()

    spandsp = ctypes.CDLL("libspandsp.so.2")
    for name in ("fax_init", "fax_get_t30_state"):
        getattr(spandsp, name).restype = ctypes.c_void_p
    fax = ctypes.c_void_p(spandsp.fax_init(None, int(options.calls)))
    spandsp.fax_set_transmit_on_idle(fax, 1)
    t30 = ctypes.c_void_p(spandsp.fax_get_t30_state(fax))
    spandsp.t30_set_tx_ident(t30, b"machine")
    spandsp.t30_set_supported_modems(t30, 1 | 2 | 4)
    # Without error correction: what the line spoils stays spoilt and is counted.
    spandsp.t30_set_ecm_capability(t30, 0)
    if options.calls:
        page(options.file)
        spandsp.t30_set_tx_file(t30, options.file.encode(), -1, -1)
    else:
        spandsp.t30_set_rx_file(t30, options.file.encode(), -1)
    result = []
    handler = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int)
    ended = handler(lambda _state, _user, code: result.append(code))
    spandsp.t30_set_phase_e_handler(t30, ended, None)

    encode, decode = (a_law, from_a_law) if options.law == "alaw" else (mu_law, from_mu_law)
    coded = {sample: encode(sample) for sample in range(-32768, 32768)}
    linear = [decode(code) for code in range(256)]
    line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    line.bind(("127.0.0.1", options.bind))
    host, port = options.far.rsplit(":", 1)
    far = (host, int(port))
    samples = (ctypes.c_int16 * FRAME)()
    start = time.monotonic()
    sent, expected, lost, hang_up_at = 0, None, 0, None
    while time.monotonic() - start < options.seconds:
        due = start + sent * 0.02 - time.monotonic()
        if due <= 0:
            count = spandsp.fax_tx(fax, samples, FRAME)
            payload = bytes(coded[sample] for sample in samples[:count]) + bytes([coded[0]]) * (FRAME - count)
            header = struct.pack(">BBHII", 0x80, LAWS[options.law], sent & 0xFFFF, sent * FRAME, 0x0FA80000 | options.bind)
            line.sendto(header + payload, far)
            sent += 1
            continue
        if result and hang_up_at is None:
            hang_up_at = time.monotonic() + 1
        if hang_up_at is not None and time.monotonic() > hang_up_at:
            break
        if not select.select([line], [], [], due)[0]:
            continue
        packet = line.recv(2048)
        if len(packet) < 13 or packet[1] & 0x7F not in LAWS.values():
            continue
        number = struct.unpack(">H", packet[2:4])[0]
        heard = (ctypes.c_int16 * (len(packet) - 12))(*[linear[code] for code in packet[12:]])
        if expected is not None:
            gap = (number - expected) & 0xFFFF
            if gap > 0x8000:
                continue
            lost += gap
            for _ in range(min(gap, 50)):
                spandsp.fax_rx(fax, (ctypes.c_int16 * len(heard))(), len(heard))
        expected = (number + 1) & 0xFFFF
        spandsp.fax_rx(fax, heard, len(heard))
    statistics = Statistics()
    spandsp.t30_get_transfer_statistics(t30, ctypes.byref(statistics))
    told = {name: getattr(statistics, name) for name, *_ in Statistics._fields_ if name != "rest"}
    print(json.dumps({"code": result[0] if result else None, "lost": lost, "sent": sent, **told}))


main()
