"""Endless scenes: worker processes lay out scenes and write captions to shared memory files; the GPU paints them."""
import multiprocessing as mp, os, random, shutil, tempfile
import numpy as np

# (width, height, share of the training steps)
BUCKETS = [(256, 256, 24), (192, 192, 6), (128, 128, 6), (288, 224, 5), (224, 288, 5), (304, 208, 5), (208, 304, 5), (336, 192, 7), (192, 336, 5),
           (384, 160, 5), (160, 384, 4), (320, 256, 3), (256, 320, 3), (192, 128, 3), (128, 192, 3), (320, 320, 3), (384, 384, 4), (512, 288, 2), (288, 512, 2), (512, 512, 3)]
CAPS = 3      # captions written for each scene
LONGEST = 96  # ids kept of a caption

_tok = None
def _chunk(job):
    """job = (seed, n, w, h, tokenizer folder, out file): n scenes of one picture size"""
    global _tok
    import scenes, captions, tok, draw
    seed, n, w, h, folder, out = job
    if _tok is None: _tok = tok.Ids(folder)
    rng = random.Random(seed)
    lists, ids, lens = [], np.zeros((n, CAPS, LONGEST), np.int16), np.zeros((n, CAPS), np.int16)
    for i in range(n):
        spec = scenes.sample_spec(rng)
        lists.append(scenes.layout(spec, w / min(w, h), h / min(w, h), rng))
        for k in range(CAPS):
            t = _tok(captions.write(spec, rng)[0])[:LONGEST]
            ids[i, k, :len(t)], lens[i, k] = t, len(t)
    prims, geo = draw.pack(lists)
    np.savez(out, prims=prims, geo=geo, ids=ids, lens=lens)
    return w, h, n, out

class Feed:
    """chunks of scenes made in the background, in the order of the plan"""
    def __init__(self, folder, plan, seed, workers, chunk=400):
        self.dir = tempfile.mkdtemp(prefix="zscenes", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
        jobs = []
        for w, h, n in plan:
            for k in range(0, n, chunk):
                jobs.append((seed * 1000003 + len(jobs), min(chunk, n - k), w, h, folder, os.path.join(self.dir, f"{len(jobs)}.npz")))
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        self.pool = mp.get_context("spawn").Pool(workers)
        self.results = self.pool.imap(_chunk, jobs)
    def __iter__(self):
        for w, h, n, path in self.results:
            with np.load(path) as z: item = {k: z[k] for k in z.files}
            os.unlink(path)
            yield w, h, item
        self.close()
    def close(self):
        self.pool.terminate()
        shutil.rmtree(self.dir, ignore_errors=True)
