"""What a picture of the demo's world holds (spec), and how it is laid out as primitives (layout).
A spec is plain data; the captions are written from it in captions.py. All randomness comes from the rng handed in."""
import math, random

SKY, DISC, BOX, POLY, RIDGE, CRESCENT, ELLIPSE, STARS, WATER, SEGMENT, FLOWERS, GLOW, CLOUD, PEAKS = range(14)
PRIM = 28

# name: (top, middle, bottom) of the sky
SKIES = {
    "day": ((64, 150, 235), (135, 200, 250), (214, 238, 253)),
    "sunset": ((96, 52, 120), (238, 110, 70), (255, 205, 105)),
    "night": ((10, 14, 48), (22, 30, 82), (48, 62, 122)),
    "dawn": ((142, 150, 220), (250, 182, 200), (255, 224, 196)),
    "pink": ((240, 120, 175), (250, 165, 200), (254, 215, 228)),
    "purple": ((98, 58, 165), (146, 98, 205), (200, 165, 235)),
    "yellow": ((247, 196, 50), (252, 216, 96), (255, 240, 178)),
    "green": ((40, 150, 120), (96, 196, 158), (196, 238, 214)),
    "red": ((150, 22, 34), (208, 48, 48), (246, 122, 98)),
    "grey": ((128, 136, 146), (164, 171, 179), (208, 212, 217)),
}
SKY_ODDS = [("day", 24), ("sunset", 17), ("night", 20), ("dawn", 8), ("pink", 5), ("purple", 6), ("yellow", 5), ("green", 5), ("red", 5), ("grey", 5)]
GROUNDS = {"meadow": ((142, 196, 88), (84, 152, 62)), "sand": ((240, 212, 146), (214, 172, 98)),
           "snow": ((246, 249, 253), (206, 222, 240)), "water": ((40, 130, 165), (20, 84, 128))}
COLOURS = {"red": (222, 44, 44), "orange": (246, 134, 26), "yellow": (252, 212, 44), "green": (20, 162, 84), "blue": (38, 84, 216),
           "purple": (132, 60, 188), "pink": (247, 118, 178), "white": (247, 247, 247)}
KINDS = ("house", "robot", "cat", "boat", "balloon")
PLACES = ("left", "centre", "right")
X_OF = {"left": 0.22, "centre": 0.5, "right": 0.78}
# colours that would vanish against what is behind them: never drawn together
HIDDEN = {("sky", "day"): {"blue"}, ("sky", "sunset"): {"orange", "red", "yellow"}, ("sky", "night"): {"blue"}, ("sky", "dawn"): {"pink"},
          ("sky", "pink"): {"pink"}, ("sky", "purple"): {"purple"}, ("sky", "yellow"): {"yellow", "orange"}, ("sky", "green"): {"green"},
          ("sky", "red"): {"red", "pink"}, ("sky", "grey"): {"white"},
          ("ground", "meadow"): {"green"}, ("ground", "sand"): {"yellow", "orange"}, ("ground", "snow"): {"white"}, ("ground", "water"): {"blue", "green"}}

def pick(rng, odds):
    return rng.choices([o for o, _ in odds], [w for _, w in odds])[0]

def sample_spec(rng):
    """-> dict: sky, ground, lake, mountains (None|plain|snowy), orb (None|sun|moon), orb_place, stars, clouds 0..3,
    trees 0..4, tree_kind, tree_place (when one), objects [(kind, colour, place)], group (kind, colour, count) or None, flowers"""
    s = {"sky": pick(rng, SKY_ODDS), "ground": pick(rng, [("meadow", 34), ("sand", 19), ("snow", 19), ("water", 28)])}
    night = s["sky"] == "night"
    s["lake"] = s["ground"] != "water" and rng.random() < 0.18
    s["mountains"] = pick(rng, [(None, 45), ("plain", 28), ("snowy", 27)])
    if night: s["orb"] = pick(rng, [("moon", 65), (None, 35)])
    elif s["sky"] == "grey": s["orb"] = None
    else: s["orb"] = pick(rng, [("sun", 58), (None, 38), ("moon", 4)])
    s["orb_place"] = rng.choice(PLACES)
    s["stars"] = night and rng.random() < 0.65
    s["clouds"] = 0 if rng.random() < (0.85 if night else 0.4) else rng.randint(1, 3)
    s["flowers"] = s["ground"] == "meadow" and rng.random() < 0.3
    mode = pick(rng, [("none", 12), ("one", 44), ("two", 22), ("group", 22)])
    kinds = ["boat", "boat", "balloon"] if s["ground"] == "water" else ["house", "robot", "cat", "balloon"]
    def colour_for(kind):
        bad = HIDDEN[("sky", s["sky"])] if kind == "balloon" else HIDDEN[("ground", s["ground"])]
        return rng.choice([c for c in COLOURS if c not in bad])
    s["objects"], s["group"] = [], None
    if mode == "one":
        k = rng.choice(kinds)
        s["objects"] = [(k, colour_for(k), rng.choice(PLACES))]
    elif mode == "two":
        a, b = rng.choice([("left", "right"), ("right", "left"), ("left", "centre"), ("centre", "right"), ("left", "right")])
        k1, k2 = rng.choice(kinds), rng.choice(kinds)
        c1, c2 = colour_for(k1), colour_for(k2)
        for _ in range(20):
            if c1 != c2: break
            c2 = colour_for(k2)
        s["objects"] = [(k1, c1, a), (k2, c2, b)]
    elif mode == "group":
        k = rng.choice(kinds)
        s["group"] = (k, colour_for(k), rng.randint(2, 4))
    # a balloon and the sun must not share a place; nor need a crowd of balloons the sun at all
    taken = {p for k, _, p in s["objects"] if k == "balloon"}
    if s["group"] and s["group"][0] == "balloon": s["orb"] = None
    free = [p for p in PLACES if p not in taken]
    if s["orb_place"] in taken: s["orb_place"] = rng.choice(free)
    if taken or (s["group"] and s["group"][0] == "balloon"): s["clouds"] = min(s["clouds"], 1)
    s["trees"], s["tree_kind"], s["tree_place"] = 0, rng.choice(["round", "pine"]), None
    if s["ground"] == "snow": s["tree_kind"] = pick(rng, [("pine", 8), ("round", 2)])
    if s["ground"] != "water" and rng.random() < 0.55:
        most = 4 if not s["objects"] and not s["group"] else 3 if len(s["objects"]) == 1 else 2
        if s["group"] and s["group"][0] != "balloon": most = 0 if s["group"][2] > 2 else 1
        s["trees"] = rng.randint(0 if most == 0 else 1, most)
        if s["trees"] == 1:
            used = {p for k, _, p in s["objects"] if k != "balloon"}
            if s["group"] and s["group"][0] != "balloon": used = {"left", "right"}
            s["tree_place"] = rng.choice([p for p in PLACES if p not in used] or ["centre"])
    return s

class Scene:
    """collects primitives; colours 0..255, tinted by the light of the hour"""
    def __init__(self, tint): self.list, self.tint = [], tint
    def put(self, kind, rgb, *nums, alpha=1.0, lit=True):
        t = self.tint if lit else (1, 1, 1)
        q = [kind] + [min(255, c * k) / 255 for c, k in zip(rgb, t)] + [alpha] + list(nums)
        self.list.append(q + [0.0] * (PRIM - len(q)))
    def box(self, rgb, cx, cy, hw, hh, round=0.0, turn=0.0, **k): self.put(BOX, rgb, cx, cy, hw, hh, round, math.cos(turn), math.sin(turn), **k)
    def poly(self, rgb, *pts, **k): self.put(POLY, rgb, len(pts), *[v for p in pts for v in p], **k)
    def disc(self, rgb, cx, cy, r, **k): self.put(DISC, rgb, cx, cy, r, **k)
    def oval(self, rgb, cx, cy, rx, ry, turn=0.0, **k): self.put(ELLIPSE, rgb, cx, cy, rx, ry, math.cos(turn), math.sin(turn), **k)
    def line(self, rgb, x0, y0, x1, y1, r, **k): self.put(SEGMENT, rgb, x0, y0, x1, y1, r, **k)

def mul(rgb, k): return tuple(min(255, c * k) for c in rgb)
def mix(a, b, t): return tuple(x + (y - x) * t for x, y in zip(a, b))

def house(S, cx, by, s, rgb, rng, night):
    w, h = 0.40 * s, 0.25 * s
    roof, win = (74, 58, 66), (255, 226, 120) if night else (214, 236, 250)
    S.oval((20, 30, 30), cx, by, w * 1.2, 0.035 * s, alpha=0.22)
    S.box((96, 74, 78), cx + 0.2 * s, by - 2 * h - 0.20 * s, 0.045 * s, 0.12 * s)
    S.box(rgb, cx, by - h, w, h)
    S.box((0, 0, 0), cx + w * 0.62, by - h, w * 0.38, h, alpha=0.10)
    S.poly(roof, (cx - w * 1.2, by - 2 * h + 0.02 * s), (cx, by - 2 * h - 0.36 * s), (cx + w * 1.2, by - 2 * h + 0.02 * s))
    S.box((104, 66, 44), cx, by - 0.13 * s, 0.075 * s, 0.13 * s, 0.02 * s)
    S.disc((250, 220, 120), cx + 0.04 * s, by - 0.12 * s, 0.014 * s)
    for d in (-0.24, 0.24):
        S.box((250, 250, 250), cx + d * s, by - 0.31 * s, 0.085 * s, 0.085 * s)
        S.box(win, cx + d * s, by - 0.31 * s, 0.066 * s, 0.066 * s, lit=False)
        S.box((250, 250, 250), cx + d * s, by - 0.31 * s, 0.009 * s, 0.07 * s)

def robot(S, cx, by, s, rgb, rng, night):
    steel, dark = (150, 160, 172), (36, 40, 58)
    S.oval((20, 30, 30), cx, by, 0.3 * s, 0.035 * s, alpha=0.22)
    for d in (-0.12, 0.12):
        S.box(steel, cx + d * s, by - 0.09 * s, 0.055 * s, 0.09 * s)
        S.box(dark, cx + d * 1.1 * s, by - 0.02 * s, 0.085 * s, 0.028 * s, 0.02 * s)
    up = rng.random() < 0.4
    for d in (-1, 1):
        S.line(steel, cx + d * 0.24 * s, by - 0.50 * s, cx + d * 0.36 * s, by - (0.66 if up and d > 0 else 0.30) * s, 0.038 * s)
        S.disc(dark, cx + d * 0.37 * s, by - (0.68 if up and d > 0 else 0.28) * s, 0.05 * s)
    S.box(rgb, cx, by - 0.37 * s, 0.245 * s, 0.21 * s, 0.05 * s)
    S.box((245, 245, 240), cx, by - 0.33 * s, 0.12 * s, 0.085 * s, 0.02 * s)
    for i, c in enumerate(((230, 70, 70), (250, 200, 60), (80, 190, 110))): S.disc(c, cx + (i - 1) * 0.07 * s, by - 0.33 * s, 0.022 * s)
    S.box(steel, cx, by - 0.60 * s, 0.07 * s, 0.04 * s)
    S.line(steel, cx, by - 0.9 * s, cx, by - 1.0 * s, 0.014 * s)
    S.disc((255, 214, 90), cx, by - 1.0 * s, 0.04 * s, lit=False)
    S.box(rgb, cx, by - 0.76 * s, 0.225 * s, 0.155 * s, 0.06 * s)
    S.box(dark, cx, by - 0.77 * s, 0.165 * s, 0.09 * s, 0.05 * s)
    for d in (-0.07, 0.07): S.disc((110, 240, 250), cx + d * s, by - 0.77 * s, 0.038 * s, lit=False)

def cat(S, cx, by, s, rgb, rng, night):
    m = rng.choice((-1, 1))
    S.oval((20, 30, 30), cx, by, 0.3 * s, 0.035 * s, alpha=0.22)
    S.line(rgb, cx + m * 0.2 * s, by - 0.06 * s, cx + m * 0.38 * s, by - 0.14 * s, 0.045 * s)
    S.line(rgb, cx + m * 0.38 * s, by - 0.14 * s, cx + m * 0.40 * s, by - 0.36 * s, 0.045 * s)
    S.oval(rgb, cx, by - 0.26 * s, 0.24 * s, 0.27 * s)
    S.oval(mix(rgb, (255, 255, 255), 0.6), cx, by - 0.2 * s, 0.11 * s, 0.16 * s)
    for d in (-0.11, 0.11): S.oval(mul(rgb, 0.88), cx + d * s, by - 0.035 * s, 0.075 * s, 0.045 * s)
    for d in (-1, 1):
        S.poly(rgb, (cx + d * 0.235 * s, by - 0.66 * s), (cx + d * 0.2 * s, by - 0.98 * s), (cx + d * 0.03 * s, by - 0.8 * s)) if d < 0 else \
        S.poly(rgb, (cx + d * 0.03 * s, by - 0.8 * s), (cx + d * 0.2 * s, by - 0.98 * s), (cx + d * 0.235 * s, by - 0.66 * s))
    S.oval(rgb, cx, by - 0.66 * s, 0.26 * s, 0.22 * s)
    for d in (-0.1, 0.1):
        S.oval((250, 250, 235), cx + d * s, by - 0.68 * s, 0.058 * s, 0.062 * s)
        S.oval((24, 24, 30), cx + d * s, by - 0.68 * s, 0.03 * s, 0.05 * s)
    S.oval((60, 36, 40), cx, by - 0.585 * s, 0.03 * s, 0.02 * s)

def boat(S, cx, by, s, rgb, rng, night):
    m = rng.choice((-1, 1))
    def tri(c, *pts, **k): S.poly(c, *(pts if m > 0 else pts[::-1]), **k)
    S.oval((255, 255, 255), cx, by + 0.02 * s, 0.5 * s, 0.03 * s, alpha=0.35)
    S.poly(mul(rgb, 0.7), (cx - 0.32 * s, by + 0.16 * s), (cx - 0.42 * s, by + 0.02 * s), (cx + 0.42 * s, by + 0.02 * s), (cx + 0.32 * s, by + 0.16 * s), alpha=0.35)
    S.line((110, 80, 60), cx, by - 0.15 * s, cx, by - 0.98 * s, 0.016 * s)
    tri((252, 250, 242), (cx + m * 0.03 * s, by - 0.24 * s), (cx + m * 0.03 * s, by - 0.95 * s), (cx + m * 0.42 * s, by - 0.24 * s))
    tri((232, 228, 220), (cx - m * 0.34 * s, by - 0.24 * s), (cx - m * 0.03 * s, by - 0.84 * s), (cx - m * 0.03 * s, by - 0.24 * s))
    S.poly(rgb, (cx - 0.36 * s, by + 0.03 * s), (cx - 0.5 * s, by - 0.19 * s), (cx + 0.5 * s, by - 0.19 * s), (cx + 0.36 * s, by + 0.03 * s))
    S.poly((255, 255, 255), (cx - 0.486 * s, by - 0.165 * s), (cx - 0.5 * s, by - 0.19 * s), (cx + 0.5 * s, by - 0.19 * s), (cx + 0.486 * s, by - 0.165 * s), alpha=0.75)
    tri(rgb, (cx, by - 0.92 * s), (cx, by - 1.02 * s), (cx + m * 0.14 * s, by - 0.97 * s))

def balloon(S, cx, cy, s, rgb, rng, night):
    r = 0.36 * s
    for d in (-1, 1): S.line((90, 70, 60), cx + d * 0.15 * s, cy + 0.3 * s, cx + d * 0.06 * s, cy + 0.56 * s, 0.008 * s)
    S.poly(rgb, (cx - 0.09 * s, cy + 0.42 * s), (cx - 0.326 * s, cy + 0.154 * s), (cx + 0.326 * s, cy + 0.154 * s), (cx + 0.09 * s, cy + 0.42 * s))
    S.disc(rgb, cx, cy, r)
    pale = mix(rgb, (255, 255, 255), 0.45) if min(rgb) < 200 else (225, 200, 200)
    S.oval(pale, cx, cy + 0.02 * s, 0.085 * s, 0.36 * s)
    S.oval((255, 255, 255), cx - 0.2 * s, cy - 0.12 * s, 0.05 * s, 0.12 * s, 0.35, alpha=0.35)
    S.box(mul(rgb, 0.75), cx, cy + 0.41 * s, 0.095 * s, 0.018 * s)
    S.box((150, 100, 56), cx, cy + 0.60 * s, 0.085 * s, 0.06 * s, 0.02 * s)

DRAW = {"house": house, "robot": robot, "cat": cat, "boat": boat, "balloon": balloon}

def tree(S, cx, by, s, kind, snow):
    S.oval((20, 30, 30), cx, by, 0.2 * s, 0.025 * s, alpha=0.2)
    if kind == "pine":
        S.box((104, 72, 50), cx, by - 0.08 * s, 0.035 * s, 0.09 * s)
        for i in range(3):
            y, w = by - (0.14 + 0.24 * i) * s, (0.26 - 0.055 * i) * s
            S.poly(mul((26, 92, 70), 1 + 0.1 * i), (cx - w, y), (cx, y - 0.42 * s), (cx + w, y))
            if snow: S.poly((248, 250, 252), (cx - w * 0.36, y - 0.27 * s), (cx, y - 0.42 * s), (cx + w * 0.36, y - 0.27 * s))
    else:
        S.box((112, 76, 50), cx, by - 0.16 * s, 0.04 * s, 0.17 * s)
        for dx, dy, r in ((-0.15, 0.46, 0.17), (0.15, 0.46, 0.17), (0, 0.62, 0.22)): S.disc((38, 112, 58), cx + dx * s, by - dy * s, r * s)
        S.disc((62, 138, 70), cx - 0.06 * s, by - 0.66 * s, 0.11 * s)
        if snow: S.oval((248, 250, 252), cx, by - 0.78 * s, 0.13 * s, 0.06 * s)

def layout(spec, W, H, rng):
    """primitives of the spec in a picture of W x H units (the short side is 1)"""
    sky, ground, night = spec["sky"], spec["ground"], spec["sky"] == "night"
    tint = {"night": (0.52, 0.58, 0.80), "sunset": (1.0, 0.86, 0.76), "red": (1.0, 0.84, 0.82), "grey": (0.92, 0.94, 0.97)}.get(sky, (1, 1, 1))
    S = Scene(tint)
    j = lambda a: rng.uniform(-a, a)
    hy = H * (0.56 + j(0.04))
    if ground == "water": hy = H * (0.54 + j(0.05))
    top, mid, bot = (mul(c, 1 + j(0.04)) for c in SKIES[sky])
    S.put(SKY, top, *[c / 255 for c in mid], *[c / 255 for c in bot], hy * (0.55 + j(0.08)), hy * 1.05, lit=False)
    if spec["stars"]: S.put(STARS, (255, 250, 225), 0.105, 0.42 + j(0.1), hy * 0.9, rng.randint(0, 9999), alpha=0.95, lit=False)
    if spec["orb"]:
        ox = W * (X_OF[spec["orb_place"]] + j(0.05))
        high = bool(spec["mountains"])
        if spec["orb"] == "sun":
            r = 0.085 + j(0.012)
            oy = hy * ((0.34 if high else 0.68 if sky == "sunset" else 0.36) + j(0.05))
            core, halo = {"sunset": ((255, 236, 150), (255, 214, 120)), "red": ((255, 214, 110), (255, 150, 80)), "yellow": ((255, 250, 220), (255, 255, 230)),
                          "dawn": ((255, 236, 170), (255, 225, 170))}.get(sky, ((255, 232, 96), (255, 245, 190)))
            if sky == "sunset": r += 0.025
            S.put(GLOW, halo, ox, oy, r * 3.2, alpha=0.75, lit=False)
            S.disc(core, ox, oy, r, lit=False)
        else:
            r, m = 0.085 + j(0.012), rng.choice((-1, 1))
            oy = hy * (0.30 + j(0.05))
            S.put(GLOW, (200, 210, 255), ox, oy, r * 2.8, alpha=0.30, lit=False)
            if rng.random() < 0.7: S.put(CRESCENT, (255, 244, 200), ox, oy, r, m * r * 0.5, -r * 0.12, lit=False)
            else:
                S.disc((252, 244, 214), ox, oy, r, lit=False)
                for dx, dy, k in ((-0.35, -0.2, 0.22), (0.3, 0.25, 0.17), (0.2, -0.4, 0.13)): S.disc((226, 218, 192), ox + dx * r, oy + dy * r, k * r, lit=False)
    cloud = (250, 252, 255) if not night else (96, 106, 150)
    if sky in ("sunset", "red", "dawn"): cloud = (255, 226, 206)
    if sky == "grey": cloud = (232, 235, 238)
    spots = rng.sample([0.1, 0.34, 0.62, 0.88], spec["clouds"]) if spec["clouds"] else []
    for x in spots: S.put(CLOUD, cloud, W * (x + j(0.06)), hy * (0.2 + 0.32 * rng.random()), 0.13 + 0.07 * rng.random(), rng.randint(0, 9999), alpha=0.92, lit=False)
    if spec["mountains"]:
        snow = spec["mountains"] == "snowy"
        rock = rng.choice([(110, 122, 160), (122, 110, 150), (104, 128, 146), (140, 122, 120)])
        far, near = mix(rock, bot, 0.45), mix(rock, (60, 66, 96), 0.25)
        if night: far, near = mul(mix(rock, (60, 74, 130), 0.6), 0.78), mul(mix(rock, (50, 60, 110), 0.5), 0.6)
        tone = 0.78 if night else 1.0
        for k, (c, h, pitch) in enumerate(((far, 0.36, 0.52), (near, 0.27, 0.40))):
            foot = mix(c, bot if not night else (40, 52, 100), 0.25)
            S.put(PEAKS, c, hy + 0.03, h * (1 + j(0.15)), pitch * (1 + j(0.12)), rng.uniform(0, 9), rng.randint(0, 9999), 0.36 if snow else 0.0,
                  *[v / 255 for v in foot], tone, lit=False)
    elif ground != "water" and rng.random() < 0.5:  # distant hills where there are no mountains
        c = mix(GROUNDS[ground][1], bot if not night else (60, 74, 130), 0.35)
        S.put(RIDGE, c, hy - 0.03, 0.03 + 0.02 * rng.random(), 3 + j(1), rng.uniform(0, 6), 0.012, 7 + j(2), rng.uniform(0, 6), *[v / 255 * k for v, k in zip(c, tint)], 0.3)
    light, deep = GROUNDS[ground]
    light, deep = mul(light, 1 + j(0.04)), mul(deep, 1 + j(0.04))
    if ground == "water":
        S.put(WATER, light if not night else (44, 72, 150), hy, H + 1, rng.uniform(0, 6), 0.35 if not night else 0.2, alpha=0.85)
        if rng.random() < 0.35:  # a spit of land on the horizon
            x, w, c = W * rng.random(), 0.2 + 0.2 * rng.random(), mix((92, 132, 96), bot, 0.25)
            S.put(ELLIPSE, c, x, hy, w, 0.03, 1, 0)
            S.put(WATER, light if not night else (44, 72, 150), hy + 0.003, hy + 0.03, 0.0, 0.0, alpha=0.85)
    else:
        shore = hy
        if spec["lake"]:
            shore = hy + (H - hy) * 0.36
            S.put(WATER, (40, 130, 170) if not night else (44, 72, 150), hy, shore + 0.08, rng.uniform(0, 6), 0.3 if not night else 0.15, alpha=0.85)
        amp = 0.012 if spec["lake"] else 0.022
        dl, dd = [[v / 255 * k for v, k in zip(c, tint)] for c in (light, deep)]
        S.put(RIDGE, light, shore, amp * (1 + j(0.4)), 2.6 + j(0.8), rng.uniform(0, 6), 0.006, 6 + j(2), rng.uniform(0, 6), *dd, (H - shore) * 1.1)
        if not spec["lake"]:
            c = mix(light, deep, 0.55)
            S.put(RIDGE, c, shore + (H - shore) * (0.42 + j(0.08)), 0.025, 2.2 + j(0.7), rng.uniform(0, 6), 0.008, 5 + j(2), rng.uniform(0, 6),
                  *[v * 0.94 for v in dd], (H - shore) * 0.7)
    g0 = hy if not spec["lake"] else hy + (H - hy) * 0.36
    if spec["flowers"]:
        for c in rng.sample([(240, 80, 90), (250, 250, 250), (180, 110, 220), (250, 190, 60)], 2):
            S.put(FLOWERS, c, g0 + (H - g0) * 0.3, H, 0.16 + j(0.05), rng.randint(0, 9999))
    items = []  # (base y, draw)
    ts = 0.30 + j(0.03)
    if spec["trees"]:
        taken = [(X_OF[p] * W, 0.25) for k, _, p in spec["objects"] if k != "balloon"]
        if spec["group"] and spec["group"][0] != "balloon": taken = [(W * (i + 0.5) / spec["group"][2], 0.2) for i in range(spec["group"][2])]
        if spec["trees"] == 1: xs = [W * (X_OF[spec["tree_place"]] + j(0.05))]
        else:
            for attempt in range(60):
                if attempt % 15 == 14: ts *= 0.88
                gap, xs = ts * 0.66, []
                for _ in range(40):
                    x = rng.uniform(0.08 * W, 0.92 * W)
                    if all(abs(x - u) > gap for u in xs) and all(abs(x - u) > d + gap * 0.35 for u, d in taken): xs.append(x)
                    if len(xs) == spec["trees"]: break
                if len(xs) == spec["trees"]: break
            else: spec["trees"] = len(xs)
        for x in xs:
            y, sz = g0 + (H - g0) * (0.14 + 0.14 * rng.random()), ts * (1 + j(0.12))
            items.append((y, lambda x=x, y=y, sz=sz: tree(S, x, y, sz, spec["tree_kind"], ground == "snow")))
    otint = {"night": (0.80, 0.82, 0.92), "sunset": (1.0, 0.95, 0.90), "red": (1.0, 0.94, 0.93)}.get(sky, (1, 1, 1))
    def add(kind, rgb, x, s):
        if kind == "balloon": y = hy * (0.44 + j(0.06)); items.append((9, lambda: DRAW[kind](S, x, y, s, rgb, rng, night)))
        else:
            y = hy + (H - hy) * (0.42 + j(0.10)) if kind == "boat" else g0 + (H - g0) * (0.62 + j(0.10))
            if H > 1.3 and kind != "boat": y = g0 + (H - g0) * (0.5 + j(0.1))
            items.append((y, lambda: DRAW[kind](S, x, y, s, rgb, rng, night)))
    for kind, colour, place in spec["objects"]:
        base = 0.43 if len(spec["objects"]) == 1 else 0.31 if any(p == "centre" for _, _, p in spec["objects"]) else 0.37
        add(kind, mul(COLOURS[colour], 1 + j(0.04)), W * (X_OF[place] + j(0.035)), base * (1 + j(0.10)) * (0.9 if kind == "balloon" else 1))
    if spec["group"]:
        kind, colour, n = spec["group"]
        s = {2: 0.34, 3: 0.29, 4: 0.225}[n] * (1 + j(0.08))
        for i in range(n): add(kind, mul(COLOURS[colour], 1 + j(0.03)), W * ((i + 0.5) / n + j(0.02)), s)
    for _, f in sorted(items, key=lambda t: t[0]):
        S.tint = otint
        f()
    return S.list
