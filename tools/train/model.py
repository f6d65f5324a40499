"""The three networks, written anew with the parameter names of diffusers and transformers, so that a state_dict is the file.
They hold only what training needs; export.py checks them against diffusers itself."""
import math
import torch, torch.nn as nn, torch.nn.functional as F

CONFIG = {
    "transformer": dict(dim=256, n_layers=4, n_refiner_layers=1, n_heads=8, n_kv_heads=8, cap_feat_dim=96, axes_dims=[8, 12, 12], axes_lens=[1024, 512, 512]),
    "text_encoder": dict(hidden_size=96, num_hidden_layers=3, num_attention_heads=3, num_key_value_heads=1, head_dim=32, intermediate_size=256),
    "vae": dict(block_out_channels=(32, 48, 48, 48), layers_per_block=1, norm_num_groups=8),
    "vocab": 1024,
}

# ---- VAE ------------------------------------------------------------------------------------------------------------
class Resnet(nn.Module):
    def __init__(self, a, b, groups):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(groups, a, 1e-6), nn.Conv2d(a, b, 3, padding=1)
        self.norm2, self.conv2 = nn.GroupNorm(groups, b, 1e-6), nn.Conv2d(b, b, 3, padding=1)
        if a != b: self.conv_shortcut = nn.Conv2d(a, b, 1)
    def forward(self, x):
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (self.conv_shortcut(x) if hasattr(self, "conv_shortcut") else x)

class SpatialAttention(nn.Module):
    def __init__(self, c, groups):
        super().__init__()
        self.group_norm = nn.GroupNorm(groups, c, 1e-6)
        self.to_q, self.to_k, self.to_v = nn.Linear(c, c), nn.Linear(c, c), nn.Linear(c, c)
        self.to_out = nn.ModuleList([nn.Linear(c, c)])
    def forward(self, x):
        b, c, h, w = x.shape
        y = self.group_norm(x).flatten(2).transpose(1, 2)
        q, k, v = (f(y).unsqueeze(1) for f in (self.to_q, self.to_k, self.to_v))
        y = F.scaled_dot_product_attention(q, k, v).squeeze(1)
        return x + self.to_out[0](y).transpose(1, 2).reshape(b, c, h, w)

class Mid(nn.Module):
    def __init__(self, c, groups):
        super().__init__()
        self.resnets = nn.ModuleList([Resnet(c, c, groups), Resnet(c, c, groups)])
        self.attentions = nn.ModuleList([SpatialAttention(c, groups)])
    def forward(self, x): return self.resnets[1](self.attentions[0](self.resnets[0](x)))

class Resample(nn.Module):
    def __init__(self, c, down):
        super().__init__()
        self.down = down
        self.conv = nn.Conv2d(c, c, 3, stride=2) if down else nn.Conv2d(c, c, 3, padding=1)
    def forward(self, x):
        return self.conv(F.pad(x, (0, 1, 0, 1))) if self.down else self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))

class Level(nn.Module):
    def __init__(self, a, b, n, groups, kind, last):
        super().__init__()
        self.resnets = nn.ModuleList([Resnet(a if i == 0 else b, b, groups) for i in range(n)])
        if not last: setattr(self, kind, nn.ModuleList([Resample(b, kind == "downsamplers")]))
        self.kind = kind
    def forward(self, x):
        for r in self.resnets: x = r(x)
        for s in getattr(self, self.kind, []): x = s(x)
        return x

class Encoder(nn.Module):
    def __init__(self, ch, n, groups, z=16):
        super().__init__()
        self.conv_in = nn.Conv2d(3, ch[0], 3, padding=1)
        self.down_blocks = nn.ModuleList([Level(ch[max(i - 1, 0)], ch[i], n, groups, "downsamplers", i == len(ch) - 1) for i in range(len(ch))])
        self.mid_block = Mid(ch[-1], groups)
        self.conv_norm_out, self.conv_out = nn.GroupNorm(groups, ch[-1], 1e-6), nn.Conv2d(ch[-1], 2 * z, 3, padding=1)
    def forward(self, x):
        x = self.conv_in(x)
        for b in self.down_blocks: x = b(x)
        return self.conv_out(F.silu(self.conv_norm_out(self.mid_block(x))))

class Decoder(nn.Module):
    def __init__(self, ch, n, groups, z=16):
        super().__init__()
        r = list(ch)[::-1]
        self.conv_in = nn.Conv2d(z, r[0], 3, padding=1)
        self.mid_block = Mid(r[0], groups)
        self.up_blocks = nn.ModuleList([Level(r[max(i - 1, 0)], r[i], n + 1, groups, "upsamplers", i == len(r) - 1) for i in range(len(r))])
        self.conv_norm_out, self.conv_out = nn.GroupNorm(groups, r[-1], 1e-6), nn.Conv2d(r[-1], 3, 3, padding=1)
    def forward(self, z):
        x = self.mid_block(self.conv_in(z))
        for b in self.up_blocks: x = b(x)
        return self.conv_out(F.silu(self.conv_norm_out(x)))

class VAE(nn.Module):
    def __init__(self, block_out_channels, layers_per_block, norm_num_groups):
        super().__init__()
        self.encoder = Encoder(block_out_channels, layers_per_block, norm_num_groups)
        self.decoder = Decoder(block_out_channels, layers_per_block, norm_num_groups)
    def encode(self, x): return self.encoder(x).chunk(2, 1)  # mean, log variance

# ---- text encoder: Qwen3, only the layers that hidden_states[-2] needs are run ---------------------------------------
class RMSNorm(nn.Module):
    def __init__(self, n, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(n)), eps
    def forward(self, x):
        f = x.float()
        return (f * torch.rsqrt(f.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight).type_as(x)

class QwenLayer(nn.Module):
    def __init__(self, c):
        super().__init__()
        d, hd = c["hidden_size"], c["head_dim"]
        self.nh, self.nk, self.hd = c["num_attention_heads"], c["num_key_value_heads"], hd
        self.self_attn = nn.ModuleDict(dict(q_proj=nn.Linear(d, self.nh * hd, bias=False), k_proj=nn.Linear(d, self.nk * hd, bias=False), v_proj=nn.Linear(d, self.nk * hd, bias=False),
                                            o_proj=nn.Linear(self.nh * hd, d, bias=False), q_norm=RMSNorm(hd, 1e-6), k_norm=RMSNorm(hd, 1e-6)))
        self.mlp = nn.ModuleDict(dict(gate_proj=nn.Linear(d, c["intermediate_size"], bias=False), up_proj=nn.Linear(d, c["intermediate_size"], bias=False), down_proj=nn.Linear(c["intermediate_size"], d, bias=False)))
        self.input_layernorm, self.post_attention_layernorm = RMSNorm(d, 1e-6), RMSNorm(d, 1e-6)
    def forward(self, x, cos, sin):
        a, b, n = self.self_attn, x.shape[0], x.shape[1]
        h = self.input_layernorm(x)
        q, k, v = a["q_proj"](h).view(b, n, self.nh, self.hd), a["k_proj"](h).view(b, n, self.nk, self.hd), a["v_proj"](h).view(b, n, self.nk, self.hd)
        q, k = a["q_norm"](q).transpose(1, 2), a["k_norm"](k).transpose(1, 2)
        v, rep = v.transpose(1, 2), self.nh // self.nk
        turn = lambda t: (t * cos + torch.cat([-t[..., self.hd // 2:], t[..., :self.hd // 2]], -1) * sin).type_as(v)
        o = F.scaled_dot_product_attention(turn(q), turn(k).repeat_interleave(rep, 1), v.repeat_interleave(rep, 1), is_causal=True)
        x = x + a["o_proj"](o.transpose(1, 2).flatten(2))
        h = self.post_attention_layernorm(x)
        return x + self.mlp["down_proj"](F.silu(self.mlp["gate_proj"](h)) * self.mlp["up_proj"](h))

class Qwen3(nn.Module):
    def __init__(self, vocab, **c):
        super().__init__()
        self.c = c
        self.embed_tokens = nn.Embedding(vocab, c["hidden_size"])
        self.layers = nn.ModuleList([QwenLayer(c) for _ in range(c["num_hidden_layers"])])
        self.norm = RMSNorm(c["hidden_size"], 1e-6)
    def forward(self, ids):
        hd = self.c["head_dim"]
        f = 1.0 / (1e6 ** (torch.arange(0, hd, 2, device=ids.device).float() / hd))
        ang = torch.outer(torch.arange(ids.shape[1], device=ids.device).float(), torch.cat([f, f]))
        x = self.embed_tokens(ids)
        for l in self.layers[:-1]: x = l(x, ang.cos(), ang.sin())
        return x

# ---- DiT -------------------------------------------------------------------------------------------------------------
class Attention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.to_q, self.to_k, self.to_v = (nn.Linear(dim, dim, bias=False) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(dim, dim, bias=False)])
        self.norm_q, self.norm_k = RMSNorm(dim // heads, 1e-5), RMSNorm(dim // heads, 1e-5)
    def forward(self, x, cos, sin):
        b, n, _ = x.shape
        q, k, v = F.linear(x, torch.cat([self.to_q.weight, self.to_k.weight, self.to_v.weight])).view(b, n, 3, self.heads, -1).unbind(2)
        def turn(t):  # interleaved pairs
            t = t.float().view(b, n, self.heads, -1, 2)
            u, w = t[..., 0], t[..., 1]
            return torch.stack([u * cos - w * sin, u * sin + w * cos], -1).flatten(3).type_as(v).transpose(1, 2)
        o = F.scaled_dot_product_attention(turn(self.norm_q(q)), turn(self.norm_k(k)), v.transpose(1, 2))
        return self.to_out[0](o.transpose(1, 2).flatten(2))

class FeedForward(nn.Module):
    def __init__(self, dim):
        super().__init__()
        h = int(dim / 3 * 8)
        self.w1, self.w2, self.w3 = nn.Linear(dim, h, bias=False), nn.Linear(h, dim, bias=False), nn.Linear(dim, h, bias=False)
    def forward(self, x):
        # one product for w1 and w3, rows padded with zeros to a multiple of 64: odd widths are slow on tensor cores
        h = self.w1.out_features
        more = -h % 64
        a, b = F.linear(x, torch.cat([F.pad(self.w1.weight, (0, 0, 0, more)), F.pad(self.w3.weight, (0, 0, 0, more))])).chunk(2, -1)
        return F.linear(F.silu(a) * b, F.pad(self.w2.weight, (0, more)))

class Block(nn.Module):
    def __init__(self, dim, heads, modulated):
        super().__init__()
        self.attention, self.feed_forward = Attention(dim, heads), FeedForward(dim)
        self.attention_norm1, self.ffn_norm1, self.attention_norm2, self.ffn_norm2 = (RMSNorm(dim, 1e-5) for _ in range(4))
        if modulated: self.adaLN_modulation = nn.Sequential(nn.Linear(min(dim, 256), 4 * dim))
        self.modulated = modulated
    def forward(self, x, cos, sin, c=None):
        if not self.modulated:
            x = x + self.attention_norm2(self.attention(self.attention_norm1(x), cos, sin))
            return x + self.ffn_norm2(self.feed_forward(self.ffn_norm1(x)))
        s1, g1, s2, g2 = self.adaLN_modulation(c).unsqueeze(1).chunk(4, 2)
        x = x + g1.tanh() * self.attention_norm2(self.attention(self.attention_norm1(x) * (1 + s1), cos, sin))
        return x + g2.tanh() * self.ffn_norm2(self.feed_forward(self.ffn_norm1(x) * (1 + s2)))

class FinalLayer(nn.Module):
    def __init__(self, dim, out):
        super().__init__()
        self.linear = nn.Linear(dim, out)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(min(dim, 256), dim))
    def forward(self, x, c): return self.linear(F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + self.adaLN_modulation(c)).unsqueeze(1))

class TimeEmbedder(nn.Module):
    def __init__(self, out):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(256, 1024), nn.SiLU(), nn.Linear(1024, out))
    def forward(self, t):
        f = torch.exp(-math.log(10000) * torch.arange(128, device=t.device).float() / 128)
        a = t.float()[:, None] * f
        return self.mlp(torch.cat([a.cos(), a.sin()], -1))

def up32(n): return (n + 31) // 32 * 32

class DiT(nn.Module):
    def __init__(self, dim, n_layers, n_refiner_layers, n_heads, n_kv_heads, cap_feat_dim, axes_dims, axes_lens):
        super().__init__()
        self.axes = axes_dims
        self.all_x_embedder = nn.ModuleDict({"2-1": nn.Linear(64, dim)})
        self.all_final_layer = nn.ModuleDict({"2-1": FinalLayer(dim, 64)})
        self.noise_refiner = nn.ModuleList([Block(dim, n_heads, True) for _ in range(n_refiner_layers)])
        self.context_refiner = nn.ModuleList([Block(dim, n_heads, False) for _ in range(n_refiner_layers)])
        self.t_embedder = TimeEmbedder(min(dim, 256))
        self.cap_embedder = nn.Sequential(RMSNorm(cap_feat_dim, 1e-5), nn.Linear(cap_feat_dim, dim))
        self.x_pad_token, self.cap_pad_token = nn.Parameter(torch.zeros(1, dim)), nn.Parameter(torch.zeros(1, dim))
        self.layers = nn.ModuleList([Block(dim, n_heads, True) for _ in range(n_layers)])
        self.tables = {}

    def rope(self, cap, h, w, device):
        """tables for cap caption positions (padded) and an h x w grid of patches (padded to 32): cos, sin [1, n, 1, head_dim/2]"""
        key = (cap, h, w, device)
        if key not in self.tables:
            n = up32(h * w)
            pos = torch.zeros(n + cap, 3, dtype=torch.float64)
            yy, xx = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
            pos[:h * w] = torch.stack([torch.full((h * w,), cap + 1), yy.flatten(), xx.flatten()], 1).double()
            pos[n:, 0] = torch.arange(1, cap + 1)
            ang = torch.cat([pos[:, i:i + 1] * (1.0 / 256.0 ** (torch.arange(0, d, 2, dtype=torch.float64) / d)) for i, d in enumerate(self.axes)], 1).float().to(device)
            self.tables[key] = (ang.cos()[None, :, None], ang.sin()[None, :, None])
        return self.tables[key]

    def forward(self, x, t, feats, lens, block=None):
        """x [b, 16, H, W] latent, t [b] = 1 - sigma, feats [b, L, c] with lens real ones, L a multiple of 32 -> [b, 16, H, W]"""
        run = block or (lambda m, *a: m(*a))
        b, ch, H, W = x.shape
        h, w, L = H // 2, W // 2, feats.shape[1]
        n, npad = h * w, up32(h * w)
        cos, sin = self.rope(L, h, w, x.device)
        c = self.t_embedder(t * 1000.0)
        p = x.view(b, ch, h, 2, w, 2).permute(0, 2, 4, 3, 5, 1).reshape(b, n, 4 * ch)
        img = self.all_x_embedder["2-1"](p)
        if npad > n: img = torch.cat([img, self.x_pad_token.type_as(img).expand(b, npad - n, -1)], 1)
        cap = self.cap_embedder(feats)
        pad = torch.arange(L, device=x.device)[None, :] >= lens[:, None]
        cap = torch.where(pad[..., None], self.cap_pad_token.type_as(cap), cap)
        for m in self.noise_refiner: img = run(m, img, cos[:, :npad], sin[:, :npad], c)
        for m in self.context_refiner: cap = run(m, cap, cos[:, npad:], sin[:, npad:])
        z = torch.cat([img, cap], 1)
        for m in self.layers: z = run(m, z, cos, sin, c)
        z = self.all_final_layer["2-1"](z[:, :n], c)
        return z.view(b, h, w, 2, 2, ch).permute(0, 5, 1, 3, 2, 4).reshape(b, ch, H, W)

def init(model):
    """truncated fan-in normals; gates and the last projection start small so that training starts calm"""
    for n, p in model.named_parameters():
        if n.endswith("embed_tokens.weight"): nn.init.normal_(p, std=0.5)
        elif "pad_token" in n: nn.init.normal_(p, std=0.3)
        elif "all_final_layer.2-1.linear" in n or "adaLN_modulation.1" in n: nn.init.zeros_(p)
        elif "adaLN_modulation.0.bias" in n:
            nn.init.zeros_(p)
            p.data.view(4, -1)[1::2] = 0.3  # the two gates
        elif "adaLN_modulation.0.weight" in n: nn.init.normal_(p, std=0.01)
        elif p.ndim >= 2: nn.init.trunc_normal_(p, std=1 / math.sqrt(p.shape[1]))
        elif n.endswith("bias"): nn.init.zeros_(p)
    return model

def count(m): return sum(p.numel() for p in m.parameters())

if __name__ == "__main__":
    d, q, v = DiT(**CONFIG["transformer"]), Qwen3(CONFIG["vocab"], **CONFIG["text_encoder"]), VAE(**CONFIG["vae"])
    for n, m in (("transformer", d), ("text_encoder", q), ("vae.encoder", v.encoder), ("vae.decoder", v.decoder)): print(n, count(m))
    print("bf16 bytes", 2 * (count(d) + count(q) + count(v)))
