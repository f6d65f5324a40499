"""peer_diffusers.py - milliseconds of one image by diffusers on the same GPU, on the shapes that zfarm-bench measures.

usage: peer_diffusers.py [--size WxH] [--steps N] [--prompt-tokens N] [--repeats N] [--compile blocks|whole|none] [--attention NAME]
                         [--config turbo|tiny] [--device cuda|cpu]

Random bf16 weights made on the device; the transformer compiled (its blocks, or as a whole), cuDNN attention; text encoder and VAE as the
pipeline runs them, to a PIL image. Prints one line of JSON. Needs torch, diffusers, transformers, tokenizers. For a fair ratio run it and
zfarm-bench one after the other in one command.
"""
import argparse, json, math, statistics, sys, time
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, ZImagePipeline, ZImageTransformer2DModel
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3Model
import diffusers

CONFIG = {
    "turbo": dict(
        dit=dict(dim=3840, n_layers=30, n_refiner_layers=2, n_heads=30, n_kv_heads=30, cap_feat_dim=2560, axes_dims=[32, 48, 48], axes_lens=[1536, 512, 512]),
        text=dict(hidden_size=2560, num_hidden_layers=36, num_attention_heads=32, num_key_value_heads=8, head_dim=128, intermediate_size=9728, vocab_size=151936),
        vae=dict(block_out_channels=(128, 256, 512, 512), layers_per_block=2, norm_num_groups=32)),
    "tiny": dict(
        dit=dict(dim=128, n_layers=2, n_refiner_layers=2, n_heads=4, n_kv_heads=4, cap_feat_dim=64, axes_dims=[8, 12, 12], axes_lens=[1024, 512, 512]),
        text=dict(hidden_size=64, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2, head_dim=32, intermediate_size=160, vocab_size=1280),
        vae=dict(block_out_channels=(16, 32, 32, 32), layers_per_block=2, norm_num_groups=8)),
}
TEMPLATE = ("{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' + '\n' }}{% endfor %}"
            "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")


def tokenizer():
    """A token for each byte: a prompt's length is chosen by its letters."""
    vocab = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    t = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    t.decoder = decoders.ByteLevel()
    t.add_special_tokens([AddedToken(s, normalized=False, special=True) for s in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")])
    f = PreTrainedTokenizerFast(tokenizer_object=t, pad_token="<|endoftext|>", eos_token="<|im_end|>", model_max_length=131072, padding_side="right")
    f.chat_template = TEMPLATE
    return f


@torch.no_grad()
def fill(model, g):
    """The deviations of engine/made.c."""
    for name, p in sorted(model.named_parameters()):
        if p.ndim >= 2:
            p.normal_(0, 1.0 if "embed_tokens" in name else 1.2 / math.sqrt(p[0].numel()), generator=g)
        elif "norm" in name and name.endswith("weight"):
            p.normal_(1, 0.15, generator=g)
        else:
            p.normal_(0, 0.1, generator=g)
    return model.eval()


def make_pipe(conf, device):
    g = torch.Generator(device).manual_seed(1)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        text = Qwen3Model(Qwen3Config(rope_theta=1e6, rms_norm_eps=1e-6, tie_word_embeddings=True, max_position_embeddings=40960, attn_implementation="sdpa", **conf["text"]))
        dit = ZImageTransformer2DModel(**conf["dit"])
        vae = AutoencoderKL(in_channels=3, out_channels=3, down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
                            latent_channels=16, scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False, use_post_quant_conv=False,
                            force_upcast=True, **conf["vae"])
    torch.set_default_dtype(torch.float32)
    scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=3.0, use_dynamic_shifting=False)
    pipe = ZImagePipeline(scheduler=scheduler, vae=fill(vae, g), text_encoder=fill(text, g), tokenizer=tokenizer(), transformer=fill(dit, g))
    pipe.to(device, torch.bfloat16)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--size", default="1024x1024")
    a.add_argument("--steps", type=int, default=8)
    a.add_argument("--prompt-tokens", type=int, default=128)
    a.add_argument("--repeats", type=int, default=10)
    a.add_argument("--compile", choices=("blocks", "whole", "none"), default="blocks")
    a.add_argument("--attention", default="_native_cudnn")
    a.add_argument("--config", choices=sorted(CONFIG), default="turbo")
    a.add_argument("--device", default="cuda")
    o = a.parse_args()
    width, height = (int(v) for v in o.size.split("x"))
    pipe = make_pipe(CONFIG[o.config], o.device)
    if o.attention != "none":
        pipe.transformer.set_attention_backend(o.attention)
    if o.compile == "blocks":
        pipe.transformer.compile_repeated_blocks()
    elif o.compile == "whole":
        pipe.transformer.compile()
    empty = len(pipe.tokenizer.apply_chat_template([{"role": "user", "content": ""}], add_generation_prompt=True)["input_ids"])
    wait = torch.cuda.synchronize if o.device.startswith("cuda") else (lambda: None)
    at = {}

    def mark(name):
        wait()
        at[name] = time.perf_counter()

    decode = pipe.vae.decode
    pipe.vae.decode = lambda *x, **k: (mark("decode"), decode(*x, **k), mark("decoded"))[1]
    text = pipe.encode_prompt
    pipe.encode_prompt = lambda *x, **k: (text(*x, **k), mark("text"))[0]
    rows = []
    for i in range(-3, o.repeats):  # three warm up: compiling, choosing algorithms
        prompt = "%08d" % (i + 3) + "x" * (o.prompt_tokens - empty - 8)
        mark("begin")
        pipe(prompt=prompt, width=width, height=height, num_inference_steps=o.steps, guidance_scale=0.0, generator=torch.Generator(o.device).manual_seed(i + 3))
        mark("end")
        if i >= 0:
            rows.append([at["text"] - at["begin"], (at["decode"] - at["text"]) / o.steps, at["decoded"] - at["decode"], at["end"] - at["begin"]])
        elif i == -3:
            print("first image after %.1f s" % (at["end"] - at["begin"]), file=sys.stderr, flush=True)
    ms = [1e3 * statistics.median(r[k] for r in rows) for k in range(4)]
    out = dict(peer="diffusers " + diffusers.__version__, torch=torch.__version__, compile=o.compile, attention=o.attention, width=width, height=height,
               passes=o.steps, prompt_tokens=o.prompt_tokens, n=len(rows), text_ms=round(ms[0], 2), pass_ms=round(ms[1], 2), decode_ms=round(ms[2], 2),
               image_ms=round(ms[3], 2), image_min_ms=round(1e3 * min(r[3] for r in rows), 2), image_max_ms=round(1e3 * max(r[3] for r in rows), 2))
    if o.device.startswith("cuda"):
        out["memory_peak_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
    print(json.dumps(out), flush=True)


if __name__ == "__main__":
    main()
