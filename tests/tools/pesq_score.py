"""Scores heard speech against what was said: narrowband PESQ (ITU-T P.862) of the two WAV files, as one JSON line.

Usage: pesq_score.py SAID.wav HEARD.wav

`heard` may begin earlier or later than `said` and may go on for longer: it is shifted to where both fit best. A score
is given even when nothing fits, since wrong speech must be told from right speech by its score alone.
"""

import json
import subprocess
import sys

import numpy
from pesq import PesqError, pesq

RATE = 8000


def read(path):
    """The file as mono samples at 8 kHz, whatever it was."""
    command = ["sox", path, "-t", "raw", "-r", str(RATE), "-c", "1", "-b", "16", "-e", "signed", "-L", "-"]
    raw = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE).stdout
    return numpy.frombuffer(raw, dtype="<i2").astype(numpy.float64)


def spoken_part(samples):
    """Without the silence before and after (10 ms frames below -50 dB of full scale)."""
    frame = RATE // 100
    count = len(samples) // frame
    level = numpy.sqrt((samples[: count * frame].reshape(count, frame) ** 2).mean(axis=1)) if count else []
    loud = numpy.flatnonzero(numpy.asarray(level) > 32768 * 10 ** (-50 / 20))
    if len(loud) == 0:
        return samples[:0]
    return samples[loud[0] * frame : (loud[-1] + 1) * frame]


def correlate(said, heard):
    """Normalised cross-correlation at its best shift: (shift of `heard` in samples, value -1 to 1)."""
    size = 1 << (len(said) + len(heard)).bit_length()
    product = numpy.fft.irfft(numpy.fft.rfft(heard, size) * numpy.conj(numpy.fft.rfft(said, size)), size)
    best = int(numpy.argmax(numpy.abs(product)))
    shift = best if best < len(heard) else best - size
    part = heard[max(shift, 0) : max(shift, 0) + len(said)]
    energy = numpy.sqrt((said**2).sum() * (part**2).sum())
    return shift, float(product[best] / energy) if energy > 0 else 0.0


def main():
    said, heard = spoken_part(read(sys.argv[1])), read(sys.argv[2])
    result = {"pesq_nb": None, "correlation": 0.0, "shift_ms": None, "said_ms": len(said) * 1000 // RATE,
              "heard_ms": len(heard) * 1000 // RATE, "problem": None}
    if len(said) < RATE or len(spoken_part(heard)) < RATE // 4:
        result["problem"] = "less than a second of speech to compare"
    else:
        shift, result["correlation"] = correlate(said, heard)
        result["shift_ms"] = shift * 1000 / RATE
        # A quarter of a second around the speech gives PESQ the pauses that it expects.
        margin = RATE // 4
        heard = numpy.concatenate([numpy.zeros(len(said) + margin), heard, numpy.zeros(len(said) + margin)])
        start = shift + len(said)
        cut = heard[start : start + len(said) + 2 * margin]
        reference = numpy.concatenate([numpy.zeros(margin), said, numpy.zeros(margin)])
        try:
            result["pesq_nb"] = float(pesq(RATE, reference.astype(numpy.int16), cut.astype(numpy.int16), "nb"))
        except (PesqError, ValueError) as error:
            result["problem"] = type(error).__name__
    print(json.dumps(result))


if __name__ == "__main__":
    main()
