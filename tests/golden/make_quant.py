"""Test vectors of the block kinds: random blocks and what the reference makes of them.
usage: make_quant.py OUT.safetensors      needs numpy, gguf (the truth for blocks) and ml_dtypes (the truth for 8-bit floats)
Each kind has <kind>.blocks (bytes, stored as I32) and <kind>.values (F32): 1024 values. Scales are finite: normal, subnormal, negative, zero.
weights (F32, 4096) and q8_0.made (I32): what the reference's own Q8_0 rounding makes of them; <kind>.naive_rms: relative error of its rounding."""
import sys, json, struct, numpy as np, gguf, ml_dtypes
from gguf import GGMLQuantizationType as T
rng = np.random.default_rng(20261123)
HALVES = {  # where the F16 scales of a block lie
    "q8_0": [0], "q4_0": [0], "q4_1": [0, 2], "q5_0": [0], "q5_1": [0, 2], "iq4_nl": [0], "q2_k": [80, 82], "q3_k": [108],
    "q4_k": [0, 2], "q5_k": [0, 2], "q6_k": [208], "iq4_xs": [0]}
out = {}
for kind, at in HALVES.items():
    t = T[kind.upper()]
    block, size = gguf.GGML_QUANT_SIZES[t]
    n = 1024 // block
    b = rng.integers(0, 256, (n, size), dtype=np.uint8)
    for a in at:
        h = (rng.standard_normal(n) * 10.0 ** rng.integers(-3, 2, n)).astype(np.float16)
        h[0] = np.float16(6e-8)      # the smallest subnormal
        h[n - 1] = np.float16(-0.0)
        h[n // 2] = np.float16(-65504 if block == 32 else -1000)
        b[:, a:a + 2] = h.view(np.uint8).reshape(n, 2)
    out[kind + ".blocks"] = b.reshape(-1).view(np.int32)
    v = gguf.dequantize(b, t).astype(np.float32).reshape(-1)
    assert np.isfinite(v).all() and v.size == 1024
    out[kind + ".values"] = v
codes = np.tile(np.arange(256, dtype=np.uint8), 4)
for kind, f in (("f8_e4m3", ml_dtypes.float8_e4m3fn), ("f8_e5m2", ml_dtypes.float8_e5m2)):
    out[kind + ".blocks"] = codes.view(np.int32)
    out[kind + ".values"] = codes.view(f).astype(np.float32)
    x = np.concatenate([np.linspace(-1, 1, 900) ** 3 * 400, rng.standard_normal(124) * 2.0 ** -8]).astype(np.float32)
    out[kind + ".from"] = x
    out[kind + ".made"] = x.astype(f).view(np.uint8).view(np.int32)
w = (rng.standard_normal(4096) * 0.02).astype(np.float32)
w[rng.integers(0, 4096, 20)] *= 8    # a few that stand out, as in real layers
w[512:544] = 0
out["weights"] = w
out["q8_0.made"] = gguf.quantize(w, T.Q8_0).view(np.uint8).reshape(-1).view(np.int32)
for kind in ("q8_0", "q4_0", "q5_0"):
    t = T[kind.upper()]
    e = gguf.dequantize(gguf.quantize(w, t), t).reshape(-1) - w
    out[kind + ".naive_rms"] = np.array([np.sqrt((e.astype(np.float64) ** 2).sum() / (w.astype(np.float64) ** 2).sum())], dtype=np.float32)
head, at = {}, 0
for k, v in out.items():
    head[k] = {"dtype": {"float32": "F32", "int32": "I32"}[v.dtype.name], "shape": list(v.shape), "data_offsets": [at, at + v.nbytes]}
    at += v.nbytes
h = json.dumps(head).encode()
h += b" " * (-len(h) % 8)
with open(sys.argv[1], "wb") as f:
    f.write(struct.pack("<Q", len(h)) + h + b"".join(v.tobytes() for v in out.values()))
