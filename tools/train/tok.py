"""The demo's tokenizer: Qwen2's split pattern, NFC, byte-level BPE, template and special tokens, with a small vocabulary
learnt from our own captions. `tok.py OUTDIR` learns and writes it; ids(text) is what the text encoder is given."""
import os, random, sys

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>",
           "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"]
PLAIN = ["<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<tool_response>", "</tool_response>", "<think>", "</think>"]
PAT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
TEMPLATE = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}{% endif %}"

def chat(text): return f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"

class Ids:
    """captions -> ids, through the tokenizer.json of a model folder"""
    def __init__(self, folder):
        from tokenizers import Tokenizer
        self.tok = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
    def __call__(self, text): return self.tok.encode(chat(text)).ids

def learn(folder, size):
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast
    import captions, scenes
    rng = random.Random(20260)
    corpus = []
    for _ in range(40000):
        s = scenes.sample_spec(rng)
        corpus.append(captions.write(s, rng)[0])
    t = Tokenizer(models.BPE())
    t.normalizer = normalizers.NFC()
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(PAT), behavior="isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(corpus, trainers.BpeTrainer(vocab_size=size - len(SPECIAL) - len(PLAIN), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=[],
                                                      max_token_length=12, min_frequency=20, show_progress=False))
    t.add_special_tokens([AddedToken(s, normalized=False, special=True) for s in SPECIAL])
    t.add_tokens([AddedToken(s, normalized=False, special=False) for s in PLAIN])
    f = PreTrainedTokenizerFast(tokenizer_object=t, pad_token="<|endoftext|>", eos_token="<|im_end|>", model_max_length=131072, padding_side="right", clean_up_tokenization_spaces=False)
    f.chat_template = TEMPLATE
    f.save_pretrained(folder)
    n = sorted(len(f(chat(c))["input_ids"]) for c in corpus[:4000])
    print("vocabulary", len(f), "ids per caption: median", n[2000], "90%", n[3600], "longest", n[-1])
    print([t.decode([i]) for i in range(256, 1000, 7)])

if __name__ == "__main__":
    learn(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1024)
