/* synth_tokenizer.c - the smallest tokenizer of Qwen's kind: a token for each byte in Qwen2's order, its 26 added tokens, no merges.
 * With no merges the split pattern changes nothing, but it must be there: the engine and HF read the same file. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "tools/synth.h"

static const char *const ADDED[] = {"<|endoftext|>",  "<|im_start|>",   "<|im_end|>",      "<|object_ref_start|>", "<|object_ref_end|>",
                                    "<|box_start|>",  "<|box_end|>",    "<|quad_start|>",  "<|quad_end|>",         "<|vision_start|>",
                                    "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>",   "<|video_pad|>",        "<tool_call>",
                                    "</tool_call>",   "<|fim_prefix|>", "<|fim_middle|>",  "<|fim_suffix|>",       "<|fim_pad|>",
                                    "<|repo_name|>",  "<|file_sep|>",   "<tool_response>", "</tool_response>",     "<think>",
                                    "</think>"};
#define N_ADDED   26
#define N_SPECIAL 14 /* the first ones */

static const char FRAME[] =
    "{\"version\": \"1.0\", \"truncation\": null, \"padding\": null, \"added_tokens\": [], \"normalizer\": {\"type\": \"NFC\"},"
    "\"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Split\", \"pattern\": {\"Regex\": "
    "\"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}| "
    "?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+\"},"
    "\"behavior\": \"Isolated\", \"invert\": false}, {\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true, "
    "\"use_regex\": false}]},"
    "\"post_processor\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": false, \"use_regex\": false},"
    "\"decoder\": {\"type\": \"ByteLevel\", \"add_prefix_space\": true, \"trim_offsets\": true, \"use_regex\": true},"
    "\"model\": {\"type\": \"BPE\", \"dropout\": null, \"unk_token\": null, \"continuing_subword_prefix\": null, \"end_of_word_suffix\": "
    "null,"
    "\"fuse_unk\": false, \"byte_fallback\": false, \"ignore_merges\": false, \"vocab\": {}, \"merges\": []}}";

static const char CONFIG[] =
    "{\n  \"backend\": \"tokenizers\",\n  \"clean_up_tokenization_spaces\": false,\n  \"eos_token\": \"<|im_end|>\",\n"
    "  \"model_max_length\": 131072,\n  \"pad_token\": \"<|endoftext|>\",\n  \"padding_side\": \"right\",\n"
    "  \"tokenizer_class\": \"TokenizersBackend\"\n}\n";

static const char TEMPLATE[] = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' + '\n' }}{% endfor "
                               "%}{% if add_generation_prompt %}"
                               "{{ '<|im_start|>assistant\n' }}{% if enable_thinking is defined and enable_thinking is false %}{{ "
                               "'<think>\n\n</think>\n\n' }}{% endif %}{% endif %}";

/* The byte's letter: itself when printable, else the next of U+0100... */
static void letter_of(int byte, int *n_hidden, char out[3])
{
    bool plain = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    int  u = plain ? byte : 256 + (*n_hidden)++;

    out[0] = (char)(u < 0x80 ? u : 0xc0 | u >> 6);
    out[1] = (char)(u < 0x80 ? 0 : 0x80 | (u & 0x3f));
    out[2] = 0;
}

static bool fill(json_t *root)
{
    json_t *vocab = json_object_get(json_object_get(root, "model"), "vocab"), *added = json_object_get(root, "added_tokens");
    int     id = 0, n_hidden = 0;
    bool    ok = true;
    char    letter[256][3];

    for (int b = 0; b < 256; b++) letter_of(b, &n_hidden, letter[b]);
    for (int hidden = 0; hidden < 2; hidden++) /* letters below U+0100 first, as in Qwen2 */
        for (int b = 0; b < 256; b++)
            if (((uint8_t)letter[b][0] >= 0xc4) == hidden) ok &= json_object_set_new(vocab, letter[b], json_integer(id++)) == 0;
    for (int i = 0; i < N_ADDED; i++) {
        json_t *one = json_pack("{s:i,s:s,s:b,s:b,s:b,s:b,s:b}", "id", id++, "content", ADDED[i], "single_word", 0, "lstrip", 0, "rstrip",
                                0, "normalized", 0, "special", i < N_SPECIAL);
        ok &= json_array_append_new(added, one) == 0;
    }
    return ok && id == SYNTH_TOKENS;
}

static int write_in(const char *dir, const char *name, const char *text, struct err *e)
{
    char path[600];
    int  rc = file_join(path, sizeof path, dir, name, e);
    return rc ? rc : file_write(path, text, strlen(text), FILE_NEW, e);
}

char *synth_tokenizer_json(void)
{
    json_t *root = json_loads(FRAME, 0, NULL);
    char   *text = root && fill(root) ? json_dumps(root, JSON_INDENT(2)) : NULL;

    json_decref(root);
    return text;
}

int synth_tokenizer(const char *dir, struct err *e)
{
    char *text = synth_tokenizer_json();
    int   rc;

    if (!text)
        rc = err_set(e, ERR_NOMEM, "no memory for the tokenizer");
    else if (!(rc = write_in(dir, "tokenizer.json", text, e)) && !(rc = write_in(dir, "tokenizer_config.json", CONFIG, e)))
        rc = write_in(dir, "chat_template.jinja", TEMPLATE, e);
    free(text);
    return rc;
}
