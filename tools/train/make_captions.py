"""Held-out captions for tests/demo_accuracy: make_captions.py DIR COUNT [SEED]. The seed is one training never used.
DIR/captions-COUNT.jsonl is a file for `zfarm batch` (prompt, width, height, seed, name), DIR/want-COUNT.jsonl says line by
line what the words of the prompt name, and only that. With --paint OUT the true scenes are also painted (OUT/NNN.png),
which is how the checker's own error rate is measured."""
import json, os, random, sys
import captions, scenes

SIZES = [(256, 256)] * 6 + [(288, 224), (224, 288), (336, 192), (192, 336)]

def case(i, seed):
    rng = random.Random(f"held-out {seed} {i}")
    while True:
        spec = scenes.sample_spec(rng)
        w, h = SIZES[i % len(SIZES)]
        lists = scenes.layout(spec, w / min(w, h), h / min(w, h), rng)
        text, want = captions.write(spec, rng)
        if len(want) >= 2 and ("objects" in want or "group" in want or rng.random() < 0.5): break
    return dict(prompt=text, width=w, height=h, seed=1000 + i, name=f"{i:03d}"), want, lists

if __name__ == "__main__":
    args = [a for a in sys.argv[1:] if not a.startswith("--")]
    paint = sys.argv[sys.argv.index("--paint") + 1] if "--paint" in sys.argv else None
    if paint: args.remove(paint)
    out, n, seed = args[0], int(args[1]), int(args[2]) if len(args) > 2 else 4711
    with open(f"{out}/captions-{n}.jsonl", "w", encoding="utf8") as f, open(f"{out}/want-{n}.jsonl", "w", encoding="utf8") as g:
        for i in range(n):
            c, want, lists = case(i, seed)
            f.write(json.dumps(c, ensure_ascii=False) + "\n")
            g.write(json.dumps(want, ensure_ascii=False) + "\n")
            if paint:
                import draw
                from PIL import Image
                os.makedirs(paint, exist_ok=True)
                px = draw.paint(*draw.pack([lists]), c["width"], c["height"]).numpy()[0].transpose(1, 2, 0)
                Image.fromarray(px).save(os.path.join(paint, f"{i:03d}.png"))
