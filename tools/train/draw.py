"""Builds draw.cu (nvcc where there is a GPU, else cc) and paints batches of primitive lists with it."""
import ctypes, os, subprocess, tempfile
import numpy as np, torch

PRIM = 28
_libs = {}

def _lib(gpu):
    if gpu not in _libs:
        here = os.path.dirname(os.path.abspath(__file__))
        so = os.path.join(tempfile.gettempdir(), f"zfarm_draw_{'gpu' if gpu else 'cpu'}_{os.getuid()}_{os.getpid()}.so")
        src = os.path.join(here, "draw.cu")
        cmd = (["nvcc", "-O3", "--use_fast_math", "-arch=native", "-Xcompiler", "-fPIC", "-shared", src, "-o", so] if gpu
               else ["cc", "-x", "c", "-O3", "-ffast-math", "-march=native", "-fPIC", "-shared", src, "-o", so, "-lm"])
        subprocess.run(cmd, check=True)
        _libs[gpu] = ctypes.CDLL(so)
    return _libs[gpu]

def pack(lists):
    """[[primitive, ...], ...] -> (float array [n, PRIM], int32 array of (first, count))"""
    geo = np.zeros((len(lists), 2), np.int32)
    geo[:, 1] = [len(l) for l in lists]
    geo[1:, 0] = np.cumsum(geo[:-1, 1])
    return np.concatenate([np.asarray(l, np.float32).reshape(-1, PRIM) for l in lists]), geo

def paint(prims, geo, w, h, device="cpu"):
    """-> uint8 tensor [n, 3, h, w]. prims and geo are numpy arrays or tensors already on the device."""
    n = len(geo)
    prims, geo = (torch.as_tensor(t).to(device).contiguous() for t in (prims, geo))
    out = torch.empty(n, 3, h, w, dtype=torch.uint8, device=device)
    p = lambda t: ctypes.c_void_p(t.data_ptr())
    if device == "cpu":
        rc = _lib(False).draw_cpu(p(prims), p(geo), n, w, h, p(out))
    else:
        rc = _lib(True).draw_gpu(p(prims), p(geo), n, w, h, p(out), ctypes.c_void_p(torch.cuda.current_stream().cuda_stream))
    if rc:
        raise RuntimeError(f"draw: the kernel did not start (CUDA error {rc})")
    return out
