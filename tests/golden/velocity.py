"""velocity.py - how far one step of the engine is from torch in fp32, beside torch in bf16, on the same checkpoint.

usage: velocity.py --bin DIR --model DIR [--device cpu|cuda] [--size WxH] [--seeds N] [--prompt TEXT] [--precision auto|f32|bf16 ...]

One pass from noise that torch's CPU generator draws: final latents = noise - velocity, through the text encoder, too. Prints the relative RMS of
the velocity's error for torch in bf16 and for `zfarm generate` in each precision, and the ratio of the two. The full-size model: zfarm-model synth -c turbo -o DIR
(20 GB; fp32 needs 41 GB on the GPU); any checkpoint in the diffusers layout will do. Needs torch, diffusers, transformers, safetensors.
"""
import argparse, gc, json, os, subprocess, sys, tempfile
import torch
from diffusers import ZImagePipeline
from safetensors.torch import load_file

torch.backends.cuda.matmul.allow_tf32 = False
torch.backends.cudnn.allow_tf32 = False
torch.set_float32_matmul_precision("highest")


def ours(o, precision, seed, width, height):
    with tempfile.TemporaryDirectory() as t:
        latents = os.path.join(t, "latents.safetensors")
        device = "cuda:0" if o.device == "cuda" else o.device
        subprocess.run([os.path.join(o.bin, "zfarm"), "generate", "-q", "--model", o.model, "--device", device, "--precision", precision, "-p", o.prompt,
                        "-W", str(width), "-H", str(height), "--steps", "1", "--guidance", "0", "--rng", "torch-cpu", "-s", str(seed),
                        "-o", os.path.join(t, "image.png"), "--latents-out", latents], check=True)
        return load_file(latents)["latents"].double()


@torch.no_grad()
def theirs(pipe, prompt, seed, width, height):
    generator = torch.Generator("cpu").manual_seed(seed)
    return pipe(prompt=prompt, width=width, height=height, num_inference_steps=1, guidance_scale=0.0, generator=generator, output_type="latent").images.double().cpu()


def rms(x):
    return x.square().mean().sqrt().item()


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--bin", required=True)
    a.add_argument("--model", required=True)
    a.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    a.add_argument("--size", default="1024x1024")
    a.add_argument("--seeds", type=int, default=3)
    a.add_argument("--prompt", default="A sleek black helmeted robot in a dark tactical jacket, red background")
    a.add_argument("--precision", nargs="+", default=["auto"])
    o = a.parse_args()
    width, height = (int(v) for v in o.size.split("x"))
    seeds = range(1, o.seeds + 1)
    got = {p: [ours(o, p, s, width, height) for s in seeds] for p in o.precision}  # while the GPU is empty

    pipe = ZImagePipeline.from_pretrained(o.model, torch_dtype=torch.bfloat16)
    pipe.to(o.device)
    pipe.set_progress_bar_config(disable=True)
    got["torch bf16"] = [theirs(pipe, o.prompt, s, width, height) for s in seeds]
    for part in (pipe.text_encoder, pipe.transformer):
        part.to(torch.float32)  # the same values, wider
        gc.collect()
    want = [theirs(pipe, o.prompt, s, width, height) for s in seeds]

    noise = [torch.randn((1, 16, height // 8, width // 8), generator=torch.Generator("cpu").manual_seed(s)).double() for s in seeds]
    error = {p: [rms(z - w) / rms(n - w) for z, w, n in zip(got[p], want, noise)] for p in got}
    for p in error:
        ratio = max(e / t for e, t in zip(error[p], error["torch bf16"]))
        print(json.dumps(dict(what=p, size=o.size, velocity_rms=round(rms(noise[0] - want[0]), 4), relative_rms=["%.3e" % e for e in error[p]], of_torch_bf16=round(ratio, 3))), flush=True)
    worst = max(e / t for p in o.precision for e, t in zip(error[p], error["torch bf16"]))
    print("velocity: at most %.3f of torch bf16's error (bar 1.2%s)" % (worst, ": MISSED" if worst > 1.2 else ""))


if __name__ == "__main__":
    sys.exit(main())
