"""Muon (Jordan et al. 2024): momentum whose matrix is made orthogonal by Newton-Schulz; for the inner matrices of the
transformers. Matrices of one shape are handled in one batch. AdamW does the rest (see train.py)."""
import torch

@torch.no_grad()
def orthogonal(g):
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    if tall: x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        y = x @ x.mT
        x = a * x + (b * y + c * y @ y) @ x
    return x.mT if tall else x

class Muon:
    def __init__(self, params, momentum=0.95, decay=0.01):
        self.groups, self.momentum, self.decay = {}, momentum, decay
        for p in params: self.groups.setdefault(tuple(p.shape), []).append(p)
        self.bufs = {s: torch.zeros(len(ps), *s, device=ps[0].device) for s, ps in self.groups.items()}
    @torch.no_grad()
    def step(self, lr):
        for s, ps in self.groups.items():
            g = torch.stack([p.grad for p in ps])
            m = self.bufs[s]
            m.lerp_(g, 1 - self.momentum)
            u = orthogonal(g.lerp(m, self.momentum)).float() * max(1.0, s[0] / s[1]) ** 0.5
            torch._foreach_mul_(ps, 1 - lr * self.decay)
            torch._foreach_add_(ps, list(u.unbind(0)), alpha=-lr)
