"""Contact sheet of random training scenes: preview.py OUT.png [SEED] [COLUMNS ROWS] [W H]"""
import sys, random
import numpy as np
from PIL import Image
import draw, scenes
try: import captions
except ImportError: captions = None

if __name__ == "__main__":
    out, seed = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0
    nx, ny = (int(v) for v in sys.argv[3:5]) if len(sys.argv) > 4 else (6, 4)
    w, h = (int(v) for v in sys.argv[5:7]) if len(sys.argv) > 6 else (256, 256)
    lists = []
    for i in range(nx * ny):
        rng = random.Random(seed * 1000003 + i)
        spec = scenes.sample_spec(rng)
        lists.append(scenes.layout(spec, w / min(w, h), h / min(w, h), rng))
        if captions: print(i, captions.write(spec, rng)[0])
    pix = draw.paint(*draw.pack(lists), w, h).numpy()
    sheet = pix.reshape(ny, nx, 3, h, w).transpose(0, 3, 1, 4, 2).reshape(ny * h, nx * w, 3)
    Image.fromarray(sheet).save(out)
