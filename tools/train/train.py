"""Trains the demo model in pieces that each fit in one command; every stage stops by the clock and leaves its state in --out.
  train.py --out DIR [--resume DIR] [--vae-seconds S] [--dit-seconds S --done D --total T] [--distill-seconds S] [--pool N]
Stages with 0 seconds are skipped. --smoke shrinks everything, to run on a CPU."""
import argparse, json, math, os, time
import numpy as np, torch, torch.nn.functional as F
import data, draw, model, muon, sample

ap = argparse.ArgumentParser()
ap.add_argument("--out", required=True); ap.add_argument("--resume"); ap.add_argument("--tokenizer", required=True)
ap.add_argument("--vae-seconds", type=float, default=0); ap.add_argument("--decoder-seconds", type=float, default=0); ap.add_argument("--decoder-from", default="", help="vae.pt of a polishing that ran beside this one"); ap.add_argument("--dit-seconds", type=float, default=0); ap.add_argument("--distill-seconds", type=float, default=0)
ap.add_argument("--done", type=float, default=0, help="seconds of DiT training in earlier commands"); ap.add_argument("--total", type=float, default=900)
ap.add_argument("--pool", type=int, default=160000); ap.add_argument("--seed", type=int, default=1); ap.add_argument("--smoke", action="store_true")
ap.add_argument("--guide", type=float, default=1.0, help="guidance of the teacher when distilling"); ap.add_argument("--workers", type=int, default=0); ap.add_argument("--full-state", default="", help="folder on this machine for the optimiser's state")
ap.add_argument("--eval", default="", help="captions file (JSON lines with prompt, width, height, seed) to paint at the end")
A = ap.parse_args()
os.makedirs(A.out, exist_ok=True)
DEV = "cuda" if torch.cuda.is_available() else "cpu"
T0 = time.time()
torch.manual_seed(A.seed); np.random.seed(A.seed)
torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
if DEV == "cuda": torch.backends.cudnn.benchmark = True
def say(*a): print(f"[{time.time() - T0:6.1f}s]", *a, flush=True)
amp = lambda: torch.autocast(DEV, dtype=torch.bfloat16, enabled=DEV == "cuda")
WORKERS = A.workers or (max(1, (os.cpu_count() or 2) - 1) if not A.smoke else 2)

def plan(n):
    total = sum(b[2] for b in data.BUCKETS)
    return [(w, h, max(64 if not A.smoke else 4, int(n * s / total / (1 if w * h < 100000 else 2)))) for w, h, s in data.BUCKETS]

def load(name): return torch.load(os.path.join(A.resume, name), map_location=DEV, weights_only=True)

# ---- VAE -------------------------------------------------------------------------------------------------------------
def edges(x): return x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :]

def train_vae(vae, items):
    """items: chunks of 256x256, 320x192 ... scenes; fixed rotation. Loss: L1 + L1 of the gradients + a little KL."""
    bs = 32 if not A.smoke else 2
    opt = torch.optim.AdamW(vae.parameters(), lr=2e-3, betas=(0.9, 0.99), weight_decay=1e-3, fused=DEV == "cuda")
    start, step, log = time.time(), 0, []
    g = torch.Generator().manual_seed(A.seed)
    while True:
        frac = (time.time() - start) / A.vae_seconds
        if frac >= 1: break
        w, h, prims, geo = items[step % len(items)]
        idx = torch.randint(0, len(geo), (bs,), generator=g).to(DEV)
        x = draw.paint(prims, geo[idx], w, h, DEV).float().div_(127.5).sub_(1)
        if step % 2: x = x.flip(3)
        lr = 2e-3 * min(1, (step + 1) / 200) * (1 if frac < 0.2 else max(0.01, 0.5 + 0.5 * math.cos(math.pi * (frac - 0.2) / 0.8)))
        for gr in opt.param_groups: gr["lr"] = lr
        with amp():
            mean, logvar = vae.encode(x.contiguous(memory_format=torch.channels_last))
            mean, logvar = mean.float(), logvar.float().clamp(-12, 4)
            z = mean + torch.exp(0.5 * logvar) * torch.randn_like(mean)
            y = vae.decoder(z)
        y = y.float()
        l1 = (y - x).abs().mean()
        le = sum((a - b).abs().mean() for a, b in zip(edges(y), edges(x)))
        l2 = (y - x).square().mean()
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
        loss = l1 + le + 2 * l2 + 4e-4 * kl
        opt.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        opt.step()
        step += 1
        if step % (200 if not A.smoke else 1) == 0:
            say(f"vae {step} l1 {l1.item():.4f} edge {le.item():.4f} psnr {10 * math.log10(4 / l2.item()):.2f} kl {kl.item():.3f} z std {mean.std().item():.3f}")
    say("vae steps", step)

def polish_decoder(vae, items, seconds):
    """The decoder alone, its encoder and so the latents fixed; part of the inputs carry extra noise, because what the DiT
    hands over is never exactly what the encoder would."""
    bs, sets = 32 if not A.smoke else 2, []
    with torch.no_grad(), amp():
        for w, h, prims, geo in items:
            ms = [vae.encoder((draw.paint(prims, geo[k:k + 100], w, h, DEV).float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)).half() for k in range(0, len(geo), 100)]
            sets.append((w, h, prims, geo, torch.cat(ms)))
    say("decoder: latents ready")
    dec, net = vae.decoder, vae.decoder
    if DEV == "cuda": net = torch.compile(dec, dynamic=False)
    opt = torch.optim.AdamW(dec.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=1e-3, fused=DEV == "cuda")
    start, step, acc = time.time(), 0, None
    while True:
        frac = (time.time() - start) / seconds
        if frac >= 1: break
        w, h, prims, geo, lat = sets[step % len(sets)]
        idx = torch.randint(0, len(geo), (bs,), device=DEV)
        x = draw.paint(prims, geo[idx], w, h, DEV).float().div_(127.5).sub_(1)
        mean, logvar = lat[idx].float().chunk(2, 1)
        spread = torch.exp(0.5 * logvar.clamp(-12, 4)) + 0.3 * torch.rand(bs, 1, 1, 1, device=DEV) ** 3
        z = mean + spread * torch.randn_like(mean)
        for gr in opt.param_groups: gr["lr"] = 1.5e-3 * min(1, (step + 1) / 200) * max(0.005, 0.5 + 0.5 * math.cos(math.pi * frac))
        with amp(): y = net(z)
        y = y.float()
        l1, l2 = (y - x).abs().mean(), (y - x).square().mean()
        loss = l1 + sum((a - b).abs().mean() for a, b in zip(edges(y), edges(x))) + 2 * l2
        opt.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(dec.parameters(), 1.0)
        opt.step()
        step += 1
        acc = l2.detach() if acc is None else acc.lerp(l2.detach(), 0.02)
        if step % (500 if not A.smoke else 1) == 0 or step in (1, 20): say(f"decoder {step} l1 {l1.item():.4f} psnr {10 * math.log10(4 / acc.item()):.2f}")
    say("decoder steps", step)

# ---- latents ---------------------------------------------------------------------------------------------------------
@torch.no_grad()
def encode_pool(vae, feed, norm):
    """-> {(w, h): (latents, ids, lens)}; norm = (scale, shift), measured on the first chunks when it is None"""
    raw, n = {}, 0
    for w, h, it in feed:
        prims, geo = torch.as_tensor(it["prims"]).to(DEV), torch.as_tensor(it["geo"]).to(DEV)
        out = []
        for k in range(0, len(geo), 100):
            x = draw.paint(prims, geo[k:k + 100], w, h, DEV).float().div_(127.5).sub_(1)
            with amp(): m, _ = vae.encode(x.contiguous(memory_format=torch.channels_last))
            out.append(m.half())
        raw.setdefault((w, h), []).append((torch.cat(out).contiguous(), torch.as_tensor(it["ids"]), torch.as_tensor(it["lens"])))
        n += len(geo)
    pool = {k: tuple(torch.cat([c[i] for c in v]).to(DEV) for i in range(3)) for k, v in raw.items()}
    if norm is None:
        z = pool[(256, 256)][0].float()
        norm = (1.0 / z.std().item(), z.mean().item())
        say("latent std by channel", [round(v, 2) for v in z.std(dim=(0, 2, 3)).tolist()])
    say("pool", n, "scenes, scale, shift", norm)
    return pool, norm

class Batches:
    """draws (latents, ids, lens, L) of one size and one padded caption length"""
    def __init__(self, pool, tokens, norm):
        self.pool, self.norm, self.cells, weights = pool, norm, [], []
        share = {(w, h): s for w, h, s in data.BUCKETS}
        for (w, h), (z, ids, lens) in pool.items():
            up = (lens.long() + 31) // 32 * 32
            for L in (32, 64, 96):
                at = (up == L).nonzero()
                if len(at) < 8: continue
                b = max(2, tokens // (model.up32(w * h // 256) + L))
                self.cells.append((w, h, L, at, b)); weights.append(share[(w, h)] * len(at) / up.numel())
        self.p = np.array(weights) / sum(weights)
        self.rng = np.random.default_rng(A.seed + int(A.done))
    def next(self):
        w, h, L, at, b = self.cells[self.rng.choice(len(self.cells), p=self.p)]
        z, ids, lens = self.pool[(w, h)]
        i = at[torch.randint(0, len(at), (b,), device=DEV)]
        x = (z[i[:, 0]].float() - self.norm[1]) * self.norm[0]
        return x, ids[i[:, 0], i[:, 1], :L].long(), lens[i[:, 0], i[:, 1]].long(), L

def shifted(u): return 3 * u / (1 + 2 * u)

# ---- text encoder + DiT ----------------------------------------------------------------------------------------------
class Pair(torch.nn.Module):
    """text encoder and DiT, trained as one"""
    def __init__(self):
        super().__init__()
        self.te, self.dit = model.init(model.Qwen3(model.CONFIG["vocab"], **model.CONFIG["text_encoder"])), model.init(model.DiT(**model.CONFIG["transformer"]))
    def forward(self, x, s, ids, lens, block=None):
        return self.dit(x, 1 - s, self.te(ids), lens, block)

def compiled():
    """blocks run through torch.compile, one graph per kind of block for every shape"""
    if DEV != "cuda": return None
    import torch._dynamo
    torch._dynamo.config.suppress_errors = True
    torch._dynamo.config.cache_size_limit = 64
    table = {}
    def run(m, *a):
        k = id(m)
        if k not in table: table[k] = torch.compile(m, dynamic=True)
        return table[k](*a)
    return run

def optimisers(pair):
    inner = [p for n, p in pair.named_parameters() if p.ndim == 2 and "layers." in n + "layers." and any(k in n for k in ("to_q", "to_k", "to_v", "to_out", "feed_forward", "_proj"))]
    if A.smoke: say("muon matrices", len(inner))
    hot = {id(p) for p in inner}
    # the text encoder's last layer and final norm are never reached: no gradient, left as they are
    last = f"te.layers.{len(pair.te.layers) - 1}."
    dead = [p for n, p in pair.named_parameters() if n.startswith(last) or n.startswith("te.norm")]
    cold = {id(p) for p in dead}
    inner = [p for p in inner if id(p) not in cold]
    rest = [p for p in pair.parameters() if id(p) not in hot and id(p) not in cold]
    return muon.Muon(inner), torch.optim.AdamW(rest, lr=1e-3, betas=(0.9, 0.98), weight_decay=0.0, fused=DEV == "cuda")

EMPTY = None
def drop(ids, lens, L, p):
    """captions replaced by the empty prompt, so that the model also knows the unconditional answer"""
    global EMPTY
    if EMPTY is None:
        import tok
        EMPTY = torch.tensor(tok.Ids(A.tokenizer)(""), device=DEV)
    if L != 32: return ids, lens, None
    gone = torch.rand(len(ids), device=DEV) < p
    e = F.pad(EMPTY, (0, L - len(EMPTY)))
    return torch.where(gone[:, None], e, ids), torch.where(gone, len(EMPTY), lens), gone

def train_dit(pair, ema, opts, batches, seconds, block, lr_of, loss_of, name, decay):
    m, adam = opts
    start, step, acc, params, shadow = time.time(), 0, None, list(pair.parameters()), list(ema.parameters())
    while True:
        el = time.time() - start
        if el >= seconds: break
        k = lr_of(el, step)
        loss = loss_of(*batches.next())
        for p in params: p.grad = None
        loss.backward()
        grads = [p.grad for p in params if p.grad is not None]
        torch.nn.utils.clip_grad_norm_([p for p in params if p.grad is not None], 1.0, foreach=True) if grads else None
        m.step(0.02 * k)
        for g in adam.param_groups: g["lr"] = 1.5e-3 * k
        adam.step()
        with torch.no_grad(): torch._foreach_lerp_(shadow, params, 1 - min(decay, (step + 1) / (step + 10)))
        step += 1
        acc = loss.detach() if acc is None else acc.lerp(loss.detach(), 0.01)
        if step % (500 if not A.smoke else 1) == 0: say(f"{name} {step} loss {acc.item():.4f} lr {k:.3f} steps/s {step / (time.time() - start):.1f}")
        elif step in (1, 2, 20, 100): say(f"{name} {step} loss {loss.item():.4f}")
    say(name, "steps", step)

def join_geo(items):
    out, first = [], 0
    for _, _, prims, geo in items:
        g = geo.clone(); g[:, 0] += first
        out.append(g); first += len(prims)
    return torch.cat(out)

def main():
    vae, pair = model.VAE(**model.CONFIG["vae"]).to(DEV), Pair().to(DEV)
    if DEV == "cuda": vae = vae.to(memory_format=torch.channels_last)
    norm = None
    def dit_feed(): return data.Feed(A.tokenizer, plan(A.pool), 7 + A.seed, WORKERS, 400 if not A.smoke else 4) if A.dit_seconds + A.distill_seconds > 0 else None
    feed = None if A.vae_seconds + A.decoder_seconds else dit_feed()
    if A.resume:
        st = load("vae.pt"); vae.load_state_dict({k: v.float() for k, v in st["vae"].items()}); norm = st["norm"]
        if norm is not None: norm = tuple(norm)
    if A.vae_seconds or A.decoder_seconds:
        n = 4000 if not A.smoke else 8
        sizes = [(256, 256, n * 2), (320, 192, n), (192, 320, n), (128, 128, n)]
        if not A.vae_seconds: sizes = [(256, 256, n * 2), (320, 192, n)]
        items = []
        if DEV == "cuda": draw._lib(True)
        for w, h, it in data.Feed(A.tokenizer, sizes, 5 if A.vae_seconds else 6, WORKERS, 500 if not A.smoke else 4):
            items.append((w, h, torch.as_tensor(it["prims"]).to(DEV), torch.as_tensor(it["geo"]).to(DEV)))
        np.random.default_rng(3).shuffle(items)
        feed = feed or dit_feed()  # lays out its scenes while the VAE trains
        say("vae scenes ready", len(items))
        if A.vae_seconds: train_vae(vae, items)
        if A.decoder_seconds:
            if not A.vae_seconds:  # one tensor for each size
                items = [(w, h, torch.cat([i[2] for i in items if i[:2] == (w, h)]), join_geo([i for i in items if i[:2] == (w, h)])) for w, h, _ in sizes]
                items.insert(1, items[0])
            polish_decoder(vae, items, A.decoder_seconds)
    vae.eval()
    ema = Pair().to(DEV)
    opts = None
    full = os.path.join(A.full_state, "full.pt") if A.full_state else ""
    opts = optimisers(pair)
    if A.resume and os.path.exists(os.path.join(A.resume, "pair_a.pt")):
        st = {**load("pair_a.pt"), **load("pair_b.pt")}
        ema.load_state_dict({k: v.float() for k, v in st.items()})
        raw = load("raw.pt") if os.path.exists(os.path.join(A.resume, "raw.pt")) else st
        pair.load_state_dict({k: v.float() for k, v in raw.items()})
        if full and os.path.exists(full):
            st = torch.load(full, map_location=DEV, weights_only=False)
            pair.load_state_dict(st["pair"]); ema.load_state_dict(st["ema"]); opts[1].load_state_dict(st["adam"])
            for s, b in st["muon"].items(): opts[0].bufs[s].copy_(b)
            say("optimiser state found on this machine")
    else: ema.load_state_dict(pair.state_dict())
    block = compiled()
    warm = 200 if not A.smoke else 2
    if feed and DEV == "cuda":  # compile while the workers lay out scenes
        with amp():
            for b, w, h, L in ((64, 32, 32, 32), (50, 24, 28, 64)):
                args = (torch.randn(b, 16, h, w, device=DEV), torch.rand(b, device=DEV), torch.randint(0, 900, (b, L), device=DEV), torch.full((b,), L - 3, device=DEV))
                pair(*args, block).float().square().mean().backward()
                if A.distill_seconds:
                    with torch.no_grad(): ema(*args, block)
        say("compiled")
    if feed:
        pool, norm = encode_pool(vae, feed, norm)
        batches = Batches(pool, 80000 if not A.smoke else 600, norm)
    if A.dit_seconds:
        def lr_of(el, step):
            f = (A.done + el) / A.total
            return min(1.0, (step + 1) / warm) * (1.0 if f < 0.45 else max(0.02, 1 - (f - 0.45) / 0.55))
        def loss_of(x, ids, lens, L):
            ids, lens, _ = drop(ids, lens, L, 0.15)
            b = len(x)
            u = torch.rand(b, device=DEV)
            s = torch.where(torch.rand(b, device=DEV) < 0.65, shifted(u), torch.sigmoid(torch.randn(b, device=DEV) * 1.0))
            noise, k = torch.randn_like(x), s.view(-1, 1, 1, 1)
            with amp(): out = pair((1 - k) * x + k * noise, s, ids, lens, block)
            return (out.float() - (x - noise)).square().mean()
        train_dit(pair, ema, opts, batches, A.dit_seconds, block, lr_of, loss_of, "dit", 0.9993)
    if A.distill_seconds:
        # The student's one step over a gap of the 8-pass grid is taught to land where the guided teacher lands in three.
        teacher = Pair().to(DEV); teacher.load_state_dict(ema.state_dict())
        pair.load_state_dict(ema.state_dict())
        opts = optimisers(pair)
        sub = 3
        def lr_of(el, step): return 0.15 * min(1.0, (step + 1) / 100) * max(0.02, 1 - el / A.distill_seconds)
        def loss_of(x, ids, lens, L):
            ids, lens, gone = drop(ids, lens, L, 0.10)
            b = len(x)
            n = torch.where(torch.rand(b, device=DEV) < 0.7, 8, torch.randint(5, 13, (b,), device=DEV)).float()
            i = (torch.rand(b, device=DEV) * n).floor()
            s0, s1 = shifted(1 - i / n), shifted((1 - (i + 1) / n).clamp(min=0))
            noise, v4 = torch.randn_like(x), lambda t: t.view(-1, 1, 1, 1)
            x0 = (1 - v4(s0)) * x + v4(s0) * noise
            with torch.no_grad(), amp():
                empty = F.pad(EMPTY, (0, 32 - len(EMPTY))).expand(b, 32)
                y, s = x0, s0
                g = torch.full((b,), A.guide, device=DEV)
                if gone is not None: g = torch.where(gone, 0.0, g)
                for k in range(sub):
                    nxt = s0 + (s1 - s0) * (k + 1) / sub
                    pos = teacher(y, s, ids, lens, block).float()
                    neg = teacher(y, s, empty, torch.full_like(lens, len(EMPTY)), block).float()
                    y = y - v4(nxt - s) * (pos + v4(g) * (pos - neg))
                    s = nxt
                target = -(y - x0) / v4(s1 - s0)
            with amp(): out = pair(x0, s0, ids, lens, block)
            return (out.float() - target).square().mean()
        train_dit(pair, ema, opts, batches, A.distill_seconds, block, lr_of, loss_of, "distil", 0.998)
    if A.decoder_from and os.path.exists(A.decoder_from):
        vae.load_state_dict(torch.load(A.decoder_from, map_location=DEV, weights_only=True)["vae"])
    # state: what goes back, each file below 16 MiB
    torch.save({"vae": vae.state_dict(), "norm": norm}, os.path.join(A.out, "vae.pt"))
    if not A.dit_seconds + A.distill_seconds and A.resume: return say("vae saved")
    st = ema.state_dict(); keys = sorted(st); half, cum = [], 0
    for k in keys:
        cum += st[k].numel()
        half.append(k if cum * 4 < 15.5e6 else None)
    if A.dit_seconds + A.distill_seconds:
        torch.save({k: st[k] for k in keys if k in half}, os.path.join(A.out, "pair_a.pt"))
        torch.save({k: st[k] for k in keys if k not in half}, os.path.join(A.out, "pair_b.pt"))
        torch.save({k: v.bfloat16() for k, v in pair.state_dict().items()}, os.path.join(A.out, "raw.pt"))
        if full:
            os.makedirs(A.full_state, exist_ok=True)
            torch.save({"pair": pair.state_dict(), "ema": ema.state_dict(), "adam": opts[1].state_dict(), "muon": opts[0].bufs}, full)
    say("saved", {f: os.path.getsize(os.path.join(A.out, f)) for f in os.listdir(A.out)})
    sample.report(A.out, vae, ema, norm, A.tokenizer, A.eval, DEV, say)

if __name__ == "__main__": main()
