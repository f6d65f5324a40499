/* prompt.c - the Qwen3 template with one user message and the assistant's turn opened.
 * The text is joined before tokenising, as the reference does: words at the seams may merge with the envelope's. */
#include "engine/prompt.h"

#include <assert.h>

static const char HEAD[] = "<|im_start|>user\n";
static const char TAIL[] = "<|im_end|>\n<|im_start|>assistant\n";

int prompt_ids(const struct tokenizer *t, struct str prompt, int32_t *ids, size_t cap, size_t *n, struct err *e)
{
    static const char *const markers[] = {"<|im_start|>", "<|im_end|>"};
    struct buf               b;
    size_t                   total = 0, bad = tokenizer_text_bad_at(prompt);
    int                      rc;

    assert(cap >= 1);
    if (bad < prompt.len) /* here, so that the offset is the prompt's own */
        return err_set(e, ERR_ARG, "prompt is not valid UTF-8 at byte %zu (0x%02x)", bad, (unsigned)(uint8_t)prompt.at[bad]);
    for (size_t k = 0; k < 2; k++)
        if (tokenizer_id(t, str_of(markers[k])) < 0)
            return err_set(e, ERR_FORMAT, "the tokenizer has no token %s: not a Qwen chat tokenizer", markers[k]);
    buf_init(&b, TOKENIZER_TEXT_MAX);
    if ((rc = buf_puts(&b, HEAD)) || (rc = buf_put(&b, prompt.at, prompt.len)) || (rc = buf_puts(&b, TAIL))) {
        err_set(e, rc, "prompt of %zu bytes: at most %zu fit", prompt.len, TOKENIZER_TEXT_MAX - sizeof HEAD - sizeof TAIL + 2);
        goto done;
    }
    if ((rc = tokenizer_encode(t, buf_str(&b), ids, cap, &total, e))) goto done;
    *n = total < cap ? total : cap;
done:
    buf_release(&b);
    return rc;
}
