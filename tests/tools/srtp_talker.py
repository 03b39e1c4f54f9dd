"""Speaks SRTP with a key identifier in each packet, by libsrtp. Prints as JSON what came back."""

import argparse
import base64
import ctypes
import json
import random
import socket
import struct
import time

PACKETS = 50
ANY_INBOUND, ANY_OUTBOUND = 2, 3

srtp = ctypes.CDLL("libsrtp2.so.1")


class Ssrc(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int), ("value", ctypes.c_uint)]


class CryptoPolicy(ctypes.Structure):
    _fields_ = [
        ("cipher", ctypes.c_uint32), ("key_length", ctypes.c_int), ("authentication", ctypes.c_uint32),
        ("authentication_key_length", ctypes.c_int), ("tag_length", ctypes.c_int), ("services", ctypes.c_int),
    ]


class MasterKey(ctypes.Structure):
    _fields_ = [("key", ctypes.c_char_p), ("mki", ctypes.c_char_p), ("mki_size", ctypes.c_uint)]


class Policy(ctypes.Structure):
    _fields_ = [
        ("ssrc", Ssrc), ("rtp", CryptoPolicy), ("rtcp", CryptoPolicy), ("key", ctypes.c_char_p),
        ("keys", ctypes.POINTER(ctypes.POINTER(MasterKey))), ("key_count", ctypes.c_ulong), ("ekt", ctypes.c_void_p),
        ("window", ctypes.c_ulong), ("repeats", ctypes.c_int), ("extensions", ctypes.c_void_p),
        ("extension_count", ctypes.c_int), ("next", ctypes.c_void_p),
    ]


class Session:
    """One direction under AES_CM_128_HMAC_SHA1_80."""

    def __init__(self, kind, key, mki):
        self.master = MasterKey(base64.b64decode(key), mki, len(mki))
        self.keys = (ctypes.POINTER(MasterKey) * 1)(ctypes.pointer(self.master))
        policy = Policy(ssrc=Ssrc(kind, 0), keys=self.keys, key_count=1, window=128)
        srtp.srtp_crypto_policy_set_rtp_default(ctypes.byref(policy.rtp))
        srtp.srtp_crypto_policy_set_rtp_default(ctypes.byref(policy.rtcp))
        self.session = ctypes.c_void_p()
        status = srtp.srtp_create(ctypes.byref(self.session), ctypes.byref(policy))
        if status:
            raise SystemExit(f"srtp_create: {status}")

    def pass_through(self, work, packet, *more):
        buffer = ctypes.create_string_buffer(packet, 2048)
        length = ctypes.c_int(len(packet))
        status = work(self.session, buffer, ctypes.byref(length), *map(ctypes.c_uint, more))
        return None if status else buffer.raw[: length.value]

    def protect(self, packet):
        return self.pass_through(srtp.srtp_protect_mki, packet, 1, 0)

    def unprotect(self, packet):
        return self.pass_through(srtp.srtp_unprotect_mki, packet, 1)


def main():
    parser = argparse.ArgumentParser()
    for name in ("--bind", "--far", "--key", "--far-key", "--mki", "--far-mki"):
        parser.add_argument(name, required=True)
    arguments = parser.parse_args()
    host, port = arguments.far.rsplit(":", 1)
    wire = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    wire.bind(("127.0.0.1", int(arguments.bind)))
    srtp.srtp_init()
    ours = Session(ANY_OUTBOUND, arguments.key, bytes.fromhex(arguments.mki))
    theirs = Session(ANY_INBOUND, arguments.far_key, bytes.fromhex(arguments.far_mki))
    source = random.Random(7)
    said = [bytes(source.randrange(256) for _ in range(160)) for _ in range(PACKETS)]
    heard, broken, named = [], 0, 0
    begin = time.monotonic()
    for number in range(PACKETS + 25):
        if number < PACKETS:
            header = struct.pack("!BBHII", 0x80, 8, 100 + number, 1000 + 160 * number, 0x5EED)
            wire.sendto(ours.protect(header + said[number]), (host, int(port)))
        while (left := begin + 0.02 * (number + 1) - time.monotonic()) > 0:
            wire.settimeout(left)
            try:
                packet = wire.recv(2048)
            except (TimeoutError, BlockingIOError):
                break
            # RTCP shares the way; RFC 5761 section 4 tells it apart.
            if 192 <= packet[1] <= 223:
                continue
            mki = bytes.fromhex(arguments.far_mki)
            named += packet[-10 - len(mki) : -10] == mki
            plain = theirs.unprotect(packet)
            broken += plain is None
            if plain:
                heard.append(plain[12:])
    print(json.dumps({"said": PACKETS, "heard": len(heard), "ours": sum(words in said for words in heard),
                      "named": named, "broken": broken}), flush=True)


main()
