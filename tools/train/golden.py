"""What diffusers makes of the demo model, in fp32 on a CPU: golden.py MODEL_DIR OUT_DIR -> OUT_DIR/demo.json, demo.safetensors
(noiseN, latentsN before the VAE's scaling, embedsN). The same fields as the other goldens."""
import json, os, sys
import torch
from diffusers import ZImagePipeline
from safetensors.torch import save_file

CASES = [dict(prompt="a red house on the left of a green meadow at night with the moon and stars", w=256, h=256, steps=8, g=0.0, seed=42, dev="cpu"),
         dict(prompt="两艘蓝色的帆船，日落，海上", w=192, h=128, steps=4, g=0.0, seed=7, dev="cpu"),
         dict(prompt="an orange cat on the right and a blue house on the left, at dawn", w=128, h=176, steps=3, g=1.0, seed=123, dev="cpu", neg="night, stars")]

if __name__ == "__main__":
    pipe = ZImagePipeline.from_pretrained(sys.argv[1], torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    out = {}
    for i, c in enumerate(CASES):
        gen = lambda: torch.Generator("cpu").manual_seed(c["seed"])
        kw = dict(prompt=c["prompt"], width=c["w"], height=c["h"], num_inference_steps=c["steps"], guidance_scale=c["g"], negative_prompt=c.get("neg"))
        with torch.no_grad():
            out[f"latents{i}"] = pipe(generator=gen(), output_type="latent", **kw).images.float().contiguous()
            out[f"embeds{i}"] = pipe.encode_prompt(c["prompt"], device="cpu", do_classifier_free_guidance=False)[0][0].float().contiguous()
            if len(sys.argv) > 3: pipe(generator=gen(), **kw).images[0].save(os.path.join(sys.argv[3], f"demo{i}.png"))
        out[f"noise{i}"] = torch.randn(1, 16, c["h"] // 8, c["w"] // 8, generator=gen())
        chat = pipe.tokenizer.apply_chat_template([{"role": "user", "content": c["prompt"]}], tokenize=False, add_generation_prompt=True, enable_thinking=True)
        c["ids"] = pipe.tokenizer([chat])["input_ids"][0]
        c["timesteps"], c["sigmas"] = [float(x) for x in pipe.scheduler.timesteps], [float(x) for x in pipe.scheduler.sigmas]
    save_file(out, os.path.join(sys.argv[2], "demo.safetensors"))
    json.dump(CASES, open(os.path.join(sys.argv[2], "demo.json"), "w", encoding="utf8"), ensure_ascii=False, indent=1)
