"""Paints captions with the networks in training, the way the product does: n passes of the shifted Euler grid."""
import io, json, os, random, tarfile
import numpy as np, torch
from PIL import Image
import model, tok

def grid(n):
    s = [1 - i / n for i in range(n)]
    return [3 * v / (1 + 2 * v) for v in s] + [0.0]

@torch.no_grad()
def latents(pair, ids_of, prompts, w, h, passes, seeds, device, guide=0.0):
    x = torch.stack([torch.randn(16, h // 8, w // 8, generator=torch.Generator().manual_seed(s)) for s in seeds]).to(device)
    def pack(texts):
        ids = [ids_of(t) for t in texts]
        L = max(model.up32(len(i)) for i in ids)
        return torch.tensor([i + [0] * (L - len(i)) for i in ids], device=device), torch.tensor([len(i) for i in ids], device=device)
    ids, lens = pack(prompts)
    s = grid(passes)
    for a, b in zip(s[:-1], s[1:]):
        t = torch.full((len(prompts),), a, device=device)
        v = pair(x, t, ids, lens).float()
        if guide > 0: v = v + guide * (v - pair(x, t, *pack([""] * len(prompts))).float())
        x = x - (b - a) * v
    return x

@torch.no_grad()
def decode(vae, x, norm):
    y = vae.decoder(x / norm[0] + norm[1]).float()
    return ((y / 2 + 0.5).clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()

def by_length(ids_of, items):
    """same size and same padded caption length together, as the product runs each alone"""
    groups = {}
    for i, it in enumerate(items): groups.setdefault((it["width"], it["height"], model.up32(len(ids_of(it["prompt"])))), []).append(i)
    return groups

def paint(pair, vae, norm, ids_of, items, device, passes=8, guide=0.0):
    out = [None] * len(items)
    for (w, h, _), idx in by_length(ids_of, items).items():
        for k in range(0, len(idx), 50):
            part = idx[k:k + 50]
            x = latents(pair, ids_of, [items[i]["prompt"] for i in part], w, h, passes, [items[i]["seed"] for i in part], device, guide)
            for i, im in zip(part, decode(vae, x, norm)): out[i] = im
    return out

def sheet(images, columns):
    h, w = max(i.shape[0] for i in images), max(i.shape[1] for i in images)
    rows = -(-len(images) // columns)
    s = np.zeros((rows * h, columns * w, 3), np.uint8)
    for k, im in enumerate(images):
        y, x = k // columns * h, k % columns * w
        s[y:y + im.shape[0], x:x + im.shape[1]] = im
    return Image.fromarray(s)

def report(out, vae, pair, norm, tokenizer, captions_file, device, say):
    """leaves reconstructions, a sheet at 1..16 passes, and the held-out captions painted at 8 passes (a tar of PNGs)"""
    import draw, scenes
    rng = random.Random(99)
    lists = [scenes.layout(scenes.sample_spec(rng), 1, 1, rng) for _ in range(8)]
    px = draw.paint(*draw.pack(lists), 256, 256, device)
    with torch.no_grad(): y = vae.decoder(vae.encode(px.float() / 127.5 - 1)[0]).float()
    rec = ((y / 2 + 0.5).clamp(0, 1) * 255).round().byte()
    err = (rec.float() - px.float()).square().mean().item()
    say(f"vae reconstruction psnr {10 * np.log10(255 ** 2 / err):.2f}")
    both = [t for a, b in zip(px, rec) for t in (a, b)]
    sheet([t.permute(1, 2, 0).cpu().numpy() for t in both], 8).save(os.path.join(out, "vae.png"))
    if norm is None: return
    ids_of = tok.Ids(tokenizer)
    shown = ["a red house on the left of a green meadow at night with the moon and stars", "两艘蓝色的帆船，日落，海上", "a yellow robot in the centre, snowy mountains, snow, day",
             "three pink balloons over the desert under a purple sky", "an orange cat on the right and a blue house on the left, at dawn", "a white boat on the sea, mountains, at night"]
    rows = []
    for n in (1, 2, 4, 8, 16):
        rows += paint(pair, vae, norm, ids_of, [dict(prompt=p, width=256, height=256, seed=5 + i) for i, p in enumerate(shown)], device, n)
    rows += paint(pair, vae, norm, ids_of, [dict(prompt=p, width=256, height=256, seed=5 + i) for i, p in enumerate(shown)], device, 8, 1.0)
    sheet(rows, 6).save(os.path.join(out, "passes.png"))
    if captions_file:
        items = [json.loads(l) for l in open(captions_file, encoding="utf8")]
        for name, kw in (("g0", {}),):
            with tarfile.open(os.path.join(out, f"held_{name}.tar"), "w") as t:
                for i, im in enumerate(paint(pair, vae, norm, ids_of, items, device, **kw)):
                    b = io.BytesIO()
                    Image.fromarray(im).save(b, "PNG")
                    info = tarfile.TarInfo(f"{i:03d}.png"); info.size = b.tell(); b.seek(0)
                    t.addfile(info, b)
    say("painted")
