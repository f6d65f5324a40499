"""Writes a trained state as a diffusers folder in bf16, and checks with diffusers itself that it means the same there.
  export.py STATE_DIR MODEL_DIR     (needs diffusers and transformers; MODEL_DIR/tokenizer must be there already)"""
import json, os, sys
import torch
import model, sample, tok

def build(state):
    from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, ZImageTransformer2DModel
    from transformers import Qwen3Config, Qwen3Model
    st = torch.load(os.path.join(state, "vae.pt"), map_location="cpu", weights_only=True)
    pair = {**torch.load(os.path.join(state, "pair_a.pt"), map_location="cpu", weights_only=True), **torch.load(os.path.join(state, "pair_b.pt"), map_location="cpu", weights_only=True)}
    c = model.CONFIG
    scale, shift = (round(float(v), 6) for v in st["norm"])
    te = Qwen3Model(Qwen3Config(vocab_size=c["vocab"], rope_theta=1e6, rms_norm_eps=1e-6, tie_word_embeddings=True, max_position_embeddings=4096, **c["text_encoder"]))
    te.load_state_dict({k[3:]: v for k, v in pair.items() if k.startswith("te.")})
    tr = ZImageTransformer2DModel(**c["transformer"])
    tr.load_state_dict({k[4:]: v for k, v in pair.items() if k.startswith("dit.")})
    vae = AutoencoderKL(in_channels=3, out_channels=3, down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4, latent_channels=16, scaling_factor=scale, shift_factor=shift,
                        use_quant_conv=False, use_post_quant_conv=False, force_upcast=True, sample_size=256, **c["vae"])
    vae.load_state_dict(st["vae"])
    return te.eval(), tr.eval(), vae.eval(), FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=3.0, use_dynamic_shifting=False)

def main(state, folder):
    from diffusers import ZImagePipeline
    from transformers import AutoTokenizer
    te, tr, vae, sch = build(state)
    pipe = ZImagePipeline(scheduler=sch, vae=vae, text_encoder=te, tokenizer=AutoTokenizer.from_pretrained(os.path.join(folder, "tokenizer")), transformer=tr)
    pipe.to(torch.bfloat16).save_pretrained(folder, safe_serialization=True)
    total = sum(os.path.getsize(os.path.join(r, f)) for r, _, fs in os.walk(folder) for f in fs)
    print("bytes", total)
    # read back, in fp32, and compare with our own networks on the same noise
    pipe = ZImagePipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    own = torch.nn.Module()
    te2, dit2 = model.Qwen3(model.CONFIG["vocab"], **model.CONFIG["text_encoder"]), model.DiT(**model.CONFIG["transformer"])
    te2.load_state_dict(pipe.text_encoder.state_dict()); dit2.load_state_dict(pipe.transformer.state_dict())
    pair = lambda x, s, ids, lens: dit2(x, 1 - s, te2(ids), lens)
    ids_of = tok.Ids(os.path.join(folder, "tokenizer"))
    for p, w, h, n, g in (("a red house on the left at night", 256, 256, 3, 0.0), ("两艘蓝色的帆船，日落", 144, 96, 2, 0.5)):
        with torch.no_grad():
            a = pipe(prompt=p, width=w, height=h, num_inference_steps=n, guidance_scale=g, generator=torch.Generator().manual_seed(3), output_type="latent").images
            b = sample.latents(pair, ids_of, [p], w, h, n, [3], "cpu", g)
        print(p, "relative difference to diffusers", ((a - b).norm() / a.norm()).item())

if __name__ == "__main__": main(*sys.argv[1:3])
