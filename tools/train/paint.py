"""Paints the captions of a JSON-lines file (prompt, width, height, seed) from a model folder with our own networks, in fp32:
  paint.py MODEL_DIR CAPTIONS.jsonl OUT_DIR [--passes 8] [--guide 0] [--first N]"""
import argparse, json, os
import torch
from PIL import Image
from safetensors.torch import load_file
import model, sample, tok

def load(folder):
    c = json.load(open(os.path.join(folder, "vae/config.json")))
    te, dit, vae = model.Qwen3(model.CONFIG["vocab"], **model.CONFIG["text_encoder"]), model.DiT(**model.CONFIG["transformer"]), model.VAE(**model.CONFIG["vae"])
    for net, f in ((te, "text_encoder/model"), (dit, "transformer/diffusion_pytorch_model"), (vae, "vae/diffusion_pytorch_model")):
        net.load_state_dict({k.removeprefix("model."): v.float() for k, v in load_file(os.path.join(folder, f + ".safetensors")).items()})
        net.eval()
    return lambda x, s, ids, lens: dit(x, 1 - s, te(ids), lens), vae, (c["scaling_factor"], c["shift_factor"]), tok.Ids(os.path.join(folder, "tokenizer"))

if __name__ == "__main__":
    ap = argparse.ArgumentParser()
    ap.add_argument("model"); ap.add_argument("captions"); ap.add_argument("out")
    ap.add_argument("--passes", type=int, default=8); ap.add_argument("--guide", type=float, default=0); ap.add_argument("--first", type=int)
    a = ap.parse_args()
    os.makedirs(a.out, exist_ok=True)
    pair, vae, norm, ids_of = load(a.model)
    items = [json.loads(l) for l in open(a.captions, encoding="utf8")][:a.first]
    for i, it in enumerate(items):
        im = sample.paint(pair, vae, norm, ids_of, [it], "cpu", a.passes, a.guide)[0]
        Image.fromarray(im).save(os.path.join(a.out, f"{i:03d}.png"))
