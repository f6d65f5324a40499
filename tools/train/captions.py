"""From a spec to words, English or Chinese, in several manners; and which attributes the words named.
write(spec, rng) -> (caption, named), named being a dict of only what the caption says (see tests/demo_accuracy/README.md)."""

EN = {"house": ["house", "house", "cottage", "cabin", "little house"], "robot": ["robot", "robot", "android", "little robot"], "cat": ["cat", "cat", "kitten", "kitty"],
      "boat": ["boat", "sailboat", "sailing boat", "boat"], "balloon": ["hot-air balloon", "balloon", "hot air balloon"]}
PLURAL = {"house": ["houses", "cottages", "cabins"], "robot": ["robots", "androids"], "cat": ["cats", "kittens"], "boat": ["boats", "sailboats"], "balloon": ["hot-air balloons", "balloons"]}
ZH = {"house": ["房子", "小屋", "屋子"], "robot": ["机器人"], "cat": ["猫", "小猫"], "boat": ["船", "帆船", "小船"], "balloon": ["热气球", "气球"]}
ZH_CLASS = {"house": "座", "robot": "个", "cat": "只", "boat": "艘", "balloon": "个"}
COLOUR_EN = {"purple": ["purple", "purple", "violet"], "white": ["white"], "red": ["red", "red", "bright red"], "orange": ["orange"], "yellow": ["yellow"],
             "green": ["green"], "blue": ["blue", "blue", "dark blue"], "pink": ["pink"]}
COLOUR_ZH = {"red": ["红色的", "红"], "orange": ["橙色的"], "yellow": ["黄色的", "黄"], "green": ["绿色的", "绿"], "blue": ["蓝色的", "蓝"], "purple": ["紫色的", "紫"],
             "pink": ["粉色的", "粉红色的"], "white": ["白色的", "白"]}
NUM_EN, NUM_ZH = {1: "a", 2: "two", 3: "three", 4: "four"}, {1: "一", 2: "两", 3: "三", 4: "四"}
PLACE_EN = {"left": ["on the left", "on the left", "on the left side", "at the left"], "centre": ["in the centre", "in the center", "in the middle"],
            "right": ["on the right", "on the right", "on the right side", "at the right"]}
PLACE_ZH = {"left": ["左边", "左侧"], "centre": ["中间", "中央"], "right": ["右边", "右侧"]}
SKY_EN = {"day": ["blue sky", "clear blue sky", "daytime", "day", "sunny day", "in daylight"], "sunset": ["sunset", "at sunset", "at dusk", "evening", "sunset sky"],
          "night": ["night", "at night", "night sky", "midnight", "dark night"], "dawn": ["dawn", "at dawn", "early morning", "sunrise", "at sunrise"],
          "pink": ["pink sky"], "purple": ["purple sky", "violet sky"], "yellow": ["yellow sky"], "green": ["green sky"], "red": ["red sky"],
          "grey": ["grey sky", "gray sky", "overcast sky", "cloudy grey day"]}
SKY_TAIL = {"day": ["under a blue sky", "on a sunny day", "by day", "in the daytime", "under a clear blue sky"], "sunset": ["at sunset", "at dusk", "in the evening", "under a sunset sky"],
            "night": ["at night", "at midnight", "under a night sky", "by night"], "dawn": ["at dawn", "at sunrise", "in the early morning"],
            "grey": ["under a grey sky", "under a gray sky", "on an overcast day"]}
SKY_ZH = {"day": ["白天", "蓝天", "晴天", "蓝色的天空"], "sunset": ["日落", "傍晚", "黄昏", "夕阳"], "night": ["夜晚", "晚上", "夜里", "深夜"], "dawn": ["黎明", "清晨", "日出"],
          "pink": ["粉色的天空"], "purple": ["紫色的天空"], "yellow": ["黄色的天空"], "green": ["绿色的天空"], "red": ["红色的天空"], "grey": ["灰色的天空", "阴天"]}
GROUND_EN = {"meadow": ["on a green meadow", "in a green field", "on the grass", "in a meadow"], "sand": ["in the desert", "on the sand", "on yellow sand", "among sand dunes"],
             "snow": ["in the snow", "on the snow", "in a snowy field", "on white snow"], "water": ["on the sea", "on the water", "on the ocean", "on blue water", "on a lake"]}
GROUND_NP = {"meadow": ["green meadow", "green field", "grass", "meadow"], "sand": ["desert", "sand", "sand dunes"], "snow": ["snow", "snowy field", "winter snow"],
             "water": ["sea", "ocean", "water", "blue water", "calm sea"]}
GROUND_ZH = {"meadow": ["草地上", "绿色的草地上", "田野上"], "sand": ["沙漠里", "沙地上"], "snow": ["雪地上", "雪地里"], "water": ["海上", "水面上", "大海上", "湖面上"]}
MOUNT_EN = {"plain": ["mountains", "mountains behind", "mountains in the distance"], "snowy": ["snowy mountains", "snow-capped mountains", "mountains with snow"]}
MOUNT_ZH = {"plain": ["远处有山", "有山"], "snowy": ["远处有雪山", "有雪山"]}
STYLE_EN = ["flat design", "vector art", "a flat illustration", "minimal poster", "a picture", "illustration", "beautiful", "a postcard", "a drawing"]
STYLE_ZH = ["扁平插画", "一幅画", "插画", "海报"]

def article(np): return ("an " if np[0] in "aeiou" else "a ") + np

def object_np(rng, kind, colour, count=1):
    c = rng.choice(COLOUR_EN[colour])
    if count > 1: return f"{NUM_EN[count]} {c} {rng.choice(PLURAL[kind])}" if rng.random() < 0.85 else f"{count} {c} {rng.choice(PLURAL[kind])}"
    n = rng.choice(EN[kind])
    if n.startswith("little "): return article(f"little {c} {n[7:]}")
    return article(f"{c} {n}")

def trees_np(rng, s):
    n = s["trees"]
    word = ("tree" if n == 1 else "trees") if s["tree_kind"] == "round" or rng.random() < 0.25 else ("pine tree" if n == 1 else rng.choice(["pine trees", "pines", "fir trees"]))
    return f"a {word}" if n == 1 else f"{NUM_EN[n]} {word}" if rng.random() < 0.85 else f"{n} {word}"

def write(s, rng):
    named = {}
    zh = rng.random() < 0.25
    full = rng.random() < 0.45  # say nearly everything, or leave much open
    keep = lambda p: rng.random() < (0.93 if full else p)
    has = bool(s["objects"] or s["group"])
    sky, ground = s["sky"] if keep(0.75) else None, s["ground"] if keep(0.65) else None
    mount = s["mountains"] if s["mountains"] and keep(0.55) else None
    trees = s["trees"] if s["trees"] and keep(0.85) else 0
    lake = s["lake"] and keep(0.7)
    orb = s["orb"] if s["orb"] and keep(0.5) else None
    orb_at = s["orb_place"] if orb and rng.random() < 0.6 else None
    stars, clouds, flowers = s["stars"] and keep(0.6), s["clouds"] and keep(0.35), s["flowers"] and keep(0.6)
    if not (has or sky or ground or mount or trees): sky = s["sky"]
    if sky: named["sky"] = sky
    if ground: named["ground"] = ground
    if mount: named["mountains"] = mount
    if lake: named["lake"] = True
    if orb: named["orb"] = [orb, orb_at]
    if stars: named["stars"] = True
    if clouds: named["clouds"] = True
    objs = []
    for kind, colour, place in s["objects"]:
        p = place if rng.random() < 0.88 else None
        objs.append((kind, colour, p))
    if objs: named["objects"] = [list(o) for o in objs]
    if s["group"]: named["group"] = list(s["group"])
    if trees:
        tp = s["tree_place"] if trees == 1 and rng.random() < 0.7 else None
        named["trees"] = [trees, tp]
    text = chinese(s, rng, sky, ground, mount, trees and tp, trees, lake, orb, orb_at, stars, clouds, flowers, objs) if zh else \
        english(s, rng, sky, ground, mount, trees and tp, trees, lake, orb, orb_at, stars, clouds, flowers, objs)
    return text, named

def english(s, rng, sky, ground, mount, tree_at, trees, lake, orb, orb_at, stars, clouds, flowers, objs):
    pc = rng.choice
    nps = []  # (noun phrase, place words, plural)
    for k, c, p in objs: nps.append((object_np(rng, k, c), pc(PLACE_EN[p]) if p else "", False))
    if s["group"]: nps.append((object_np(rng, *s["group"]), "", True))
    extra = []
    if trees: extra.append((trees_np(rng, s), pc(PLACE_EN[tree_at]) if tree_at else "", trees > 1))
    if mount: extra.append((pc(MOUNT_EN[mount]), "", True))
    if lake: extra.append((pc(["a lake", "a blue lake", "water"]), "", False))
    if orb:
        w = pc(["the sun", "a sun", "a yellow sun"]) if orb == "sun" else pc(["the moon", "a moon", "a bright moon"])
        extra.append((w, pc(PLACE_EN[orb_at]) if orb_at else "", False))
    if stars: extra.append((pc(["stars", "many stars", "a starry sky"]), "", True))
    if clouds: extra.append((pc(["clouds", "white clouds", "some clouds"]), "", True))
    if flowers: extra.append((pc(["flowers", "small flowers"]), "", True))
    rng.shuffle(extra)
    sky_tail = ""
    if sky: sky_tail = pc(SKY_TAIL[sky]) if sky in SKY_TAIL and rng.random() < 0.75 else "under " + article(pc(SKY_EN[sky]) if sky not in SKY_TAIL else {"day": "blue", "sunset": "sunset", "night": "night", "dawn": "dawn", "grey": "grey"}[sky] + " sky")
    where = pc(GROUND_EN[ground]) if ground else ""
    join = lambda l: l[0] if len(l) == 1 else ", ".join(l[:-1]) + " and " + l[-1] if l else ""
    say = lambda e: (e[0] + " " + e[1]).strip()
    style = rng.random()
    if style < 0.22:  # tags
        tags = [say(e) if rng.random() < 0.8 else e[0] + (", " + e[1].split()[-1] if e[1] else "") for e in nps + extra]
        if sky: tags.append(pc(SKY_EN[sky]))
        if ground: tags.append(pc(GROUND_NP[ground]))
        if rng.random() < 0.6: rng.shuffle(tags)
        text = ", ".join(tags)
    elif style < 0.40:  # sentences
        out = []
        if sky: out.append(f"It is {sky}" if sky in ("day", "night") and rng.random() < 0.5 else f"The sky is {'blue' if sky == 'day' else sky}" if sky not in ("sunset", "dawn", "night") else pc(SKY_TAIL[sky]).capitalize())
        first = True
        for n, p, pl in nps:
            w = where if first else ""
            first = False
            out.append(f"There {'are' if pl else 'is'} {n} {p} {w}" if rng.random() < 0.6 else f"{n} {pc(['stand', 'wait', 'rest']) if pl else pc(['stands', 'waits', 'rests'])} {p} {w}")
        if first and where: out.append(f"A landscape {where}")
        if extra:
            out.append(("There are " if extra[0][2] else "There is ") + join([say(e) for e in extra]))
        text = ". ".join(" ".join(o.split())[0].upper() + " ".join(o.split())[1:] for o in out) + "."
    else:  # one flowing phrase
        head = join([say(e) for e in nps]) if nps else pc(["a landscape", "a quiet landscape", "a view", "scenery"])
        bits = [head, where]
        if rng.random() < 0.55: bits.append(sky_tail); tail = ""
        else: tail = sky_tail
        if extra: bits.append(pc(["with", "and", "beside", "with"]) + " " + join([say(e) for e in extra]))
        text = " ".join(b for b in bits if b)
        if tail: text = f"{text}, {tail}" if rng.random() < 0.6 else f"{tail}, {text}"
    if rng.random() < 0.12: text = f"{pc(STYLE_EN)} of {text}" if rng.random() < 0.5 else f"{text}, {pc(STYLE_EN)}"
    r = rng.random()
    if r < 0.3: text = text[0].upper() + text[1:]
    elif r < 0.5: text = text.lower()
    if rng.random() < 0.12 and text[-1] != ".": text += "."
    return text

def chinese(s, rng, sky, ground, mount, tree_at, trees, lake, orb, orb_at, stars, clouds, flowers, objs):
    pc, parts = rng.choice, []
    where = pc(GROUND_ZH[ground]) if ground else ""
    for i, (k, c, p) in enumerate(objs):
        body = f"一{ZH_CLASS[k]}{pc(COLOUR_ZH[c])}{pc(ZH[k])}"
        at = pc(PLACE_ZH[p]) if p else ""
        if i == 0 and where: at, where = where + at, ""
        parts.append(f"{at}有{body}" if at and rng.random() < 0.8 else f"{body}在{at}" if at else body)
    if s["group"]:
        k, c, n = s["group"]
        body = f"{NUM_ZH[n]}{ZH_CLASS[k]}{pc(COLOUR_ZH[c])}{pc(ZH[k])}"
        parts.append(f"{where}有{body}" if where else body)
        where = ""
    if where: parts.insert(0, where)
    extra = []
    if trees:
        w = "松树" if s["tree_kind"] == "pine" and rng.random() < 0.75 else "树"
        extra.append(f"{pc(PLACE_ZH[tree_at]) if tree_at else ''}有{NUM_ZH[trees]}棵{w}")
    if mount: extra.append(pc(MOUNT_ZH[mount]))
    if lake: extra.append(pc(["有湖", "有一片湖"]))
    if orb: extra.append((pc(PLACE_ZH[orb_at]) if orb_at else "") + "有" + ("太阳" if orb == "sun" else "月亮"))
    if stars: extra.append(pc(["有星星", "满天星星"]))
    if clouds: extra.append(pc(["有云", "白云"]))
    if flowers: extra.append(pc(["有花", "有小花"]))
    rng.shuffle(extra)
    parts += extra
    if sky: parts.insert(0 if rng.random() < 0.7 else len(parts), pc(SKY_ZH[sky]))
    text = "，".join(parts)
    if rng.random() < 0.12: text = f"{pc(STYLE_ZH)}，{text}"
    if rng.random() < 0.3: text += "。"
    return text
