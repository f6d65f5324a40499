/* vocab.c - tokenizer.json, or the metadata of a GGUF file, into a checked struct vocab. The tokenizer's only room with JSON.
 * Order: nesting is bounded before the parser sees a byte; then the pipeline's settings, then tokens, added tokens, bytes, merges.
 * Everything kept is copied: the parsed document does not outlive vocab_parse().
 * A token named twice leaves a gap in the ids, which is refused: duplicates need no check of their own.
 * Not here: merging (bpe.c). */
#include "engine/vocab.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "engine/gguf.h"

/* The only split pattern known; tokenizer.c holds its compiled meaning. */
static const char QWEN2_PATTERN[] = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
                                    "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

static int check_depth(struct str json, struct err *e)
{
    int  depth = 0;
    bool quoted = false;

    for (size_t i = 0; i < json.len; i++) {
        char c = json.at[i];
        if (quoted) {
            if (c == '\\')
                i++;
            else if (c == '"')
                quoted = false;
        } else if (c == '"') {
            quoted = true;
        } else if (c == '[' || c == '{') {
            if (++depth > VOCAB_DEPTH_MAX)
                return err_set(e, ERR_LIMIT, "tokenizer JSON is nested deeper than %d at byte %zu", VOCAB_DEPTH_MAX, i);
        } else if (c == ']' || c == '}') {
            depth--;
        }
    }
    return 0;
}

/* The string at key of an object, or "" when it is missing, null or no string. */
static const char *word_at(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

static bool is_absent(const json_t *v)
{
    return !v || json_is_null(v) || (json_is_string(v) && json_string_length(v) == 0);
}

static int check_split(const json_t *root, struct err *e)
{
    const json_t *pre = json_object_get(root, "pre_tokenizer"), *steps = json_object_get(pre, "pretokenizers");
    const json_t *split = json_array_get(steps, 0), *level = json_array_get(steps, 1);

    if (strcmp(word_at(pre, "type"), "Sequence") != 0 || json_array_size(steps) != 2 || strcmp(word_at(split, "type"), "Split") != 0 ||
        strcmp(word_at(level, "type"), "ByteLevel") != 0)
        return err_set(e, ERR_FORMAT, "pre_tokenizer is not the Sequence [Split, ByteLevel] of Qwen2: this tokenizer is not supported");
    if (strcmp(word_at(json_object_get(split, "pattern"), "Regex"), QWEN2_PATTERN) != 0)
        return err_set(e, ERR_FORMAT, "the split pattern is not the one of Qwen2/Qwen3: patterns of a file are never run");
    if (strcmp(word_at(split, "behavior"), "Isolated") != 0 || json_is_true(json_object_get(split, "invert")))
        return err_set(e, ERR_FORMAT, "pre_tokenizer Split must have behavior Isolated and invert false");
    if (!json_is_false(json_object_get(level, "add_prefix_space")) || !json_is_false(json_object_get(level, "use_regex")))
        return err_set(e, ERR_FORMAT, "pre_tokenizer ByteLevel must have add_prefix_space false and use_regex false");
    return 0;
}

/* A post-processor that adds ids would change every prompt; ByteLevel and the template [A] add none. */
static int check_post(const json_t *root, struct err *e)
{
    const json_t *post = json_object_get(root, "post_processor"), *single = json_object_get(post, "single");
    const char   *type = word_at(post, "type");

    if (is_absent(post) || strcmp(type, "ByteLevel") == 0) return 0;
    if (strcmp(type, "TemplateProcessing") == 0 && json_array_size(single) == 1 && json_object_get(json_array_get(single, 0), "Sequence"))
        return 0;
    return err_set(e, ERR_FORMAT, "post_processor %s adds tokens of its own: not supported", *type ? type : "without a type");
}

static int check_pipeline(const json_t *root, struct err *e)
{
    const json_t *model = json_object_get(root, "model");
    int           rc;

    if (strcmp(word_at(json_object_get(root, "normalizer"), "type"), "NFC") != 0)
        return err_set(e, ERR_FORMAT, "normalizer is not NFC: this tokenizer is not supported");
    if ((rc = check_split(root, e)) || (rc = check_post(root, e))) return rc;
    if (strcmp(word_at(model, "type"), "BPE") != 0) return err_set(e, ERR_FORMAT, "model.type is not BPE: this tokenizer is not supported");
    if (!is_absent(json_object_get(model, "continuing_subword_prefix")) || !is_absent(json_object_get(model, "end_of_word_suffix")))
        return err_set(e, ERR_FORMAT, "model has a subword prefix or suffix: not supported");
    if (json_number_value(json_object_get(model, "dropout")) != 0)
        return err_set(e, ERR_FORMAT, "model.dropout is not 0: ids would be random");
    return 0;
}

static bool is_plain(int byte)
{
    return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

/* The printable stand-in of a byte in the file's alphabet. */
static uint32_t letter_of_byte(int byte)
{
    uint32_t next = 256;

    for (int b = 0; b < byte; b++) next += !is_plain(b);
    return is_plain(byte) ? (uint32_t)byte : next;
}

struct alphabet {
    int16_t byte_of[0x144]; /* -1: not a letter */
    char    letter[256][3]; /* UTF-8, NUL-terminated: all letters are below U+0800 */
};

static void alphabet_init(struct alphabet *a)
{
    memset(a, 0xff, sizeof *a);
    for (int b = 0; b < 256; b++) {
        uint32_t u = letter_of_byte(b);
        a->byte_of[u] = (int16_t)b;
        if (u < 0x80) {
            a->letter[b][0] = (char)u;
            a->letter[b][1] = 0;
        } else {
            a->letter[b][0] = (char)(0xc0 | u >> 6);
            a->letter[b][1] = (char)(0x80 | (u & 0x3f));
            a->letter[b][2] = 0;
        }
    }
}

/* Letters to bytes at out (never longer than the letters); 0 when a letter is outside the alphabet. */
static size_t bytes_of_letters(const struct alphabet *a, const char *at, size_t len, char *out)
{
    size_t n = 0;

    for (size_t i = 0; i < len; n++) {
        uint8_t  c = (uint8_t)at[i];
        uint32_t u = c < 0x80 ? c : c < 0xe0 && i + 1 < len ? (uint32_t)(c & 0x1f) << 6 | ((uint8_t)at[i + 1] & 0x3f) : 0xffff;
        if (u >= 0x144 || a->byte_of[u] < 0) return 0;
        out[n] = (char)a->byte_of[u];
        i += c < 0x80 ? 1 : 2;
    }
    return n;
}

static uint32_t hash_of(const char *at, size_t len)
{
    uint64_t h = 0xcbf29ce484222325u;

    for (size_t i = 0; i < len; i++) h = (h ^ (uint8_t)at[i]) * 0x100000001b3u;
    return (uint32_t)(h ^ h >> 29);
}

/* The slot that holds these bytes, or the empty one where they would go. At least half of the table is empty. */
static int32_t *slot_of(const struct vocab *v, const char *at, size_t len)
{
    uint32_t i = hash_of(at, len) & (v->n_slots - 1);

    for (; v->slot[i] >= 0; i = (i + 1) & (v->n_slots - 1)) {
        struct str s = v->token[v->slot[i]];
        if (s.len == len && memcmp(s.at, at, len) == 0) break;
    }
    return &v->slot[i];
}

int32_t vocab_find(const struct vocab *v, struct str bytes)
{
    return *slot_of(v, bytes.at, bytes.len);
}

/* An id in 0..VOCAB_TOKENS_MAX-1, or -1. */
static int32_t id_of(const json_t *v)
{
    json_int_t id = json_integer_value(v);
    return json_is_integer(v) && id >= 0 && id < VOCAB_TOKENS_MAX ? (int32_t)id : -1;
}

static int check_added(const json_t *one, size_t index, struct err *e)
{
    static const char *const must_be_false[] = {"single_word", "lstrip", "rstrip", "normalized"};
    const json_t            *content = json_object_get(one, "content");
    size_t                   len = json_string_length(content);

    if (len == 0 || len > VOCAB_TOKEN_MAX)
        return err_set(e, ERR_FORMAT, "added token %zu: content must be a text of 1..%d bytes", index, VOCAB_TOKEN_MAX);
    if (id_of(json_object_get(one, "id")) < 0)
        return err_set(e, ERR_FORMAT, "added token %zu: id must be 0..%d", index, VOCAB_TOKENS_MAX - 1);
    for (size_t k = 0; k < sizeof must_be_false / sizeof *must_be_false; k++)
        if (!json_is_false(json_object_get(one, must_be_false[k])))
            return err_set(e, ERR_FORMAT, "added token %zu: %s must be false", index, must_be_false[k]);
    return 0;
}

/* Counts and bounds; n_tokens, n_added and the bytes of all texts. */
static int measure(struct vocab *v, json_t *tokens, const json_t *added, size_t *n_bytes, struct err *e)
{
    const char *key;
    json_t     *value;
    size_t      i, n_tokens = json_object_size(tokens);
    int32_t     top = -1;
    int         rc;

    if (!json_is_object(tokens) || n_tokens == 0 || n_tokens > VOCAB_TOKENS_MAX)
        return err_set(e, ERR_LIMIT, "model.vocab must be an object of 1..%d tokens", VOCAB_TOKENS_MAX);
    if ((added && !json_is_array(added)) || json_array_size(added) > VOCAB_ADDED_MAX)
        return err_set(e, ERR_LIMIT, "added_tokens must be a list of at most %d", VOCAB_ADDED_MAX);
    json_object_foreach (tokens, key, value) {
        size_t  len = strlen(key);
        int32_t id = id_of(value);
        if (id < 0) return err_set(e, ERR_FORMAT, "token '%.40s': id must be an integer 0..%d", key, VOCAB_TOKENS_MAX - 1);
        if (len == 0 || len > VOCAB_TOKEN_MAX)
            return err_set(e, ERR_LIMIT, "token %" PRId32 " is %zu bytes long, must be 1..%d", id, len, VOCAB_TOKEN_MAX);
        top = id > top ? id : top;
        *n_bytes += len;
    }
    json_array_foreach (added, i, value) {
        if ((rc = check_added(value, i, e))) return rc;
        int32_t id = id_of(json_object_get(value, "id"));
        top = id > top ? id : top;
        *n_bytes += json_string_length(json_object_get(value, "content"));
    }
    v->n_tokens = top + 1;
    v->n_added = (int32_t)json_array_size(added);
    return 0;
}

static struct str text_put(char **at, const char *from, size_t len)
{
    struct str s = {*at, len};
    memcpy(*at, from, len);
    *at += len;
    return s;
}

static int fill_tokens(struct vocab *v, const struct alphabet *a, json_t *tokens, char **at, struct err *e)
{
    const char *key;
    json_t     *value;

    json_object_foreach (tokens, key, value) {
        int32_t id = id_of(value);
        if (v->token[id].len) return err_set(e, ERR_FORMAT, "tokens '%.40s' and another share the id %" PRId32, key, id);
        size_t   len = strlen(key), n = bytes_of_letters(a, key, len, *at);
        int32_t *slot = n ? slot_of(v, *at, n) : NULL;
        if (!n) /* no piece of text can become this token: kept for its id alone */
            v->token[id] = text_put(at, key, len);
        else
            v->token[id] = (struct str){*at, n};
        *at += n;
        if (slot) *slot = id;
    }
    for (int b = 0; b < 256; b++)
        if ((v->byte_id[b] = id_of(json_object_get(tokens, a->letter[b]))) < 0)
            return err_set(e, ERR_FORMAT, "model.vocab has no token for byte 0x%02x", b);
    return 0;
}

static int fill_added(struct vocab *v, const json_t *tokens, const json_t *added, char **at, struct err *e)
{
    size_t  i;
    json_t *one;

    json_array_foreach (added, i, one) {
        const json_t *content = json_object_get(one, "content");
        const json_t *twin = json_object_get(tokens, json_string_value(content));
        int32_t       id = id_of(json_object_get(one, "id"));
        struct str    text = text_put(at, json_string_value(content), json_string_length(content));
        if (twin && id_of(twin) != id)
            return err_set(e, ERR_FORMAT, "added token '%.40s' has the id %" PRId32 ", model.vocab says %" PRId32,
                           json_string_value(content), id, id_of(twin));
        if (!twin && v->token[id].len)
            return err_set(e, ERR_FORMAT, "added token '%.40s' takes the id %" PRId32 " of another token", json_string_value(content), id);
        if (!twin) v->token[id] = text;
        v->added[i] = (struct vocab_added){text, id, json_is_true(json_object_get(one, "special"))};
    }
    for (int32_t id = 0; id < v->n_tokens; id++)
        if (!v->token[id].len)
            return err_set(e, ERR_FORMAT, "no token has the id %" PRId32 ": ids must be dense 0..%" PRId32, id, v->n_tokens - 1);
    return 0;
}

/* Both spellings: "left right" and ["left", "right"]. */
static bool merge_parts(const json_t *m, struct str part[2])
{
    if (json_is_array(m) && json_array_size(m) == 2) {
        for (size_t k = 0; k < 2; k++) {
            const json_t *p = json_array_get(m, k);
            part[k] = (struct str){json_string_value(p), json_string_length(p)};
        }
        return part[0].len && part[1].len;
    }
    const char *s = json_string_value(m), *gap = s ? strchr(s, ' ') : NULL;
    if (!gap || gap == s || !gap[1] || strchr(gap + 1, ' ')) return false;
    part[0] = (struct str){s, (size_t)(gap - s)};
    part[1] = str_of(gap + 1);
    return true;
}

static int fill_merges(struct vocab *v, const struct alphabet *a, const json_t *merges, struct err *e)
{
    char    both[2 * VOCAB_TOKEN_MAX];
    size_t  i;
    json_t *m;

    if (!json_is_array(merges) || json_array_size(merges) > VOCAB_MERGES_MAX)
        return err_set(e, ERR_LIMIT, "model.merges must be a list of at most %d", VOCAB_MERGES_MAX);
    v->n_merges = (int32_t)json_array_size(merges);
    v->merge = calloc((size_t)v->n_merges + 1, sizeof *v->merge);
    if (!v->merge) return err_set(e, ERR_NOMEM, "no memory for %" PRId32 " merges", v->n_merges);
    json_array_foreach (merges, i, m) {
        struct str part[2] = {{0}};
        if (!merge_parts(m, part))
            return err_set(e, ERR_FORMAT, "merge %zu must be two tokens: \"left right\" or [\"left\", \"right\"]", i);
        if (part[0].len > VOCAB_TOKEN_MAX || part[1].len > VOCAB_TOKEN_MAX)
            return err_set(e, ERR_LIMIT, "merge %zu has a token longer than %d bytes", i, VOCAB_TOKEN_MAX);
        size_t n = bytes_of_letters(a, part[0].at, part[0].len, both), k = bytes_of_letters(a, part[1].at, part[1].len, both + n);
        v->merge[i].left = vocab_find(v, (struct str){both, n});
        v->merge[i].right = vocab_find(v, (struct str){both + n, k});
        v->merge[i].result = vocab_find(v, (struct str){both, n + k});
        if (v->merge[i].left < 0 || v->merge[i].right < 0 || v->merge[i].result < 0)
            return err_set(e, ERR_FORMAT, "merge %zu: '%.*s' + '%.*s' or their sum is not in model.vocab", i, (int)part[0].len, part[0].at,
                           (int)part[1].len, part[1].at);
    }
    return 0;
}

static int fill(struct vocab *v, const json_t *root, struct err *e)
{
    const json_t   *model = json_object_get(root, "model"), *added = json_object_get(root, "added_tokens");
    json_t         *tokens = json_object_get(model, "vocab");
    struct alphabet alphabet;
    size_t          n_bytes = 0;
    char           *at;
    int             rc;

    alphabet_init(&alphabet);
    if ((rc = measure(v, tokens, added, &n_bytes, e))) return rc;
    v->token = calloc((size_t)v->n_tokens, sizeof *v->token);
    v->added = calloc((size_t)v->n_added + 1, sizeof *v->added);
    at = v->text = malloc(n_bytes + 1);
    for (v->n_slots = 1024; v->n_slots < 2 * (uint32_t)v->n_tokens;) v->n_slots *= 2;
    v->slot = malloc(v->n_slots * sizeof *v->slot);
    if (!v->token || !v->added || !v->text || !v->slot) return err_set(e, ERR_NOMEM, "no memory for %" PRId32 " tokens", v->n_tokens);
    memset(v->slot, 0xff, v->n_slots * sizeof *v->slot);
    if ((rc = fill_tokens(v, &alphabet, tokens, &at, e)) || (rc = fill_added(v, tokens, added, &at, e))) return rc;
    v->ignore_merges = json_is_true(json_object_get(model, "ignore_merges"));
    return fill_merges(v, &alphabet, json_object_get(model, "merges"), e);
}

/* ---- out of a GGUF file's metadata: the same document, built instead of read ---- */

enum { TOKEN_NORMAL = 1, TOKEN_CONTROL = 3, TOKEN_USER = 4, TOKEN_UNUSED = 5 }; /* tokenizer.ggml.token_type; 3 and 4: added tokens */

static int gguf_pipeline(const struct gguf *g, struct err *e)
{
    struct str model, pre;
    int        rc;

    if ((rc = gguf_str(g, "tokenizer.ggml.model", &model, e)) || (rc = gguf_str(g, "tokenizer.ggml.pre", &pre, e))) return rc;
    if (!str_is(model, "gpt2") || !str_is(pre, "qwen2"))
        return err_set(e, ERR_FORMAT, "tokenizer.ggml.model and .pre are not \"gpt2\" and \"qwen2\": this tokenizer is not supported");
    return 0;
}

static int gguf_tokens(const struct gguf *g, json_t *vocab, json_t *added, struct err *e)
{
    const struct gguf_value *text, *type;
    size_t                   at = 0;
    int                      rc;

    if ((rc = gguf_array(g, "tokenizer.ggml.tokens", GGUF_STR, &text, e)) ||
        (rc = gguf_array(g, "tokenizer.ggml.token_type", GGUF_I32, &type, e)))
        return rc;
    if (text->n != type->n || text->n > VOCAB_TOKENS_MAX)
        return err_set(e, ERR_LIMIT, "tokenizer.ggml.tokens has %" PRIu64 " entries, token_type %" PRIu64 ": must be as many, at most %d",
                       text->n, type->n, VOCAB_TOKENS_MAX);
    for (uint64_t i = 0; i < text->n; i++) {
        struct str s = gguf_next(text, &at);
        int32_t    kind = gguf_i32(type, i);
        json_t    *id = json_integer((json_int_t)i), *content = json_stringn(s.at ? s.at : "", s.len); /* NULL when it is not UTF-8 */
        bool       is_added = kind == TOKEN_CONTROL || kind == TOKEN_USER, bad = !content || memchr(s.at, 0, s.len) || s.len == 0;
        if (!bad && is_added)
            bad =
                json_array_append_new(added, json_pack("{s:O,s:O,s:b,s:b,s:b,s:b,s:b}", "content", content, "id", id, "special",
                                                       kind == TOKEN_CONTROL, "single_word", 0, "lstrip", 0, "rstrip", 0, "normalized", 0));
        else if (!bad)
            bad = json_object_set(vocab, json_string_value(content), id);
        json_decref(id);
        json_decref(content);
        if (bad) return err_set(e, ERR_FORMAT, "tokenizer.ggml.tokens: entry %" PRIu64 " is not a text", i);
    }
    return 0;
}

static int gguf_merges(const struct gguf *g, json_t *merges, struct err *e)
{
    const struct gguf_value *text;
    size_t                   at = 0;
    int                      rc = gguf_array(g, "tokenizer.ggml.merges", GGUF_STR, &text, e);

    if (rc) return rc;
    if (text->n > VOCAB_MERGES_MAX)
        return err_set(e, ERR_LIMIT, "tokenizer.ggml.merges has %" PRIu64 " entries, at most %d", text->n, VOCAB_MERGES_MAX);
    for (uint64_t i = 0; i < text->n; i++) {
        struct str s = gguf_next(text, &at);
        if (json_array_append_new(merges, json_stringn(s.at ? s.at : "", s.len)))
            return err_set(e, ERR_FORMAT, "tokenizer.ggml.merges: entry %" PRIu64 " is not a text", i);
    }
    return 0;
}

static int from_gguf(struct vocab *v, struct str bytes, struct err *e)
{
    struct gguf g;
    json_t     *vocab = json_object(), *merges = json_array(), *added = json_array(), *root = NULL;
    int         rc = gguf_parse(&g, bytes, "tokenizer", e);

    if (rc) goto done;
    if (!(rc = gguf_pipeline(&g, e)) && !(rc = gguf_tokens(&g, vocab, added, e)) && !(rc = gguf_merges(&g, merges, e))) {
        root = json_pack("{s:{s:O,s:O},s:O}", "model", "vocab", vocab, "merges", merges, "added_tokens", added);
        rc = root ? fill(v, root, e) : err_set(e, ERR_NOMEM, "no memory for the tokenizer");
    }
    gguf_close(&g);
done:
    json_decref(root);
    json_decref(vocab);
    json_decref(merges);
    json_decref(added);
    return rc;
}

static int from_json(struct vocab *v, struct str json, struct err *e)
{
    json_error_t why;
    json_t      *root = NULL;
    int          rc;

    if (json.len > VOCAB_FILE_MAX) return err_set(e, ERR_LIMIT, "tokenizer JSON is %zu bytes, at most %u", json.len, VOCAB_FILE_MAX);
    if ((rc = check_depth(json, e))) return rc;
    root = json_loadb(json.len ? json.at : "", json.len, 0, &why);
    if (!root) return err_set(e, ERR_FORMAT, "not valid JSON at line %d: %s", why.line, why.text);
    if (!(rc = check_pipeline(root, e))) rc = fill(v, root, e);
    json_decref(root);
    return rc;
}

int vocab_parse(struct vocab *v, struct str bytes, struct err *e)
{
    int rc;

    memset(v, 0, sizeof *v);
    rc = gguf_is(bytes) ? from_gguf(v, bytes, e) : from_json(v, bytes, e);
    if (rc) vocab_release(v);
    return rc;
}

/* The letters of a token's bytes; an added token's text as it is. */
static int put_letters(struct buf *b, const struct alphabet *a, struct str s, bool as_is)
{
    int rc = as_is ? buf_put(b, s.at, s.len) : 0;
    for (size_t i = 0; i < s.len && !as_is && !rc; i++) rc = buf_puts(b, a->letter[(uint8_t)s.at[i]]);
    return rc;
}

/* The 64-bit length at from, of what stands behind it. */
static void set_length(struct buf *b, size_t from)
{
    for (size_t i = 0; i < 8; i++) b->at[from + i] = (char)((uint64_t)(b->len - from - 8) >> 8 * i);
}

static int put_tokens(const struct vocab *v, const struct alphabet *a, int32_t n_rows, struct buf *tokens, struct buf *types)
{
    int rc = 0;
    for (int32_t id = 0; id < n_rows && !rc; id++) {
        size_t  from = tokens->len;
        int32_t type = id < v->n_tokens ? TOKEN_NORMAL : TOKEN_UNUSED;
        for (int32_t k = 0; k < v->n_added; k++)
            if (v->added[k].id == id) type = v->added[k].special ? TOKEN_CONTROL : TOKEN_USER;
        bool as_is = type != TOKEN_NORMAL || vocab_find(v, v->token[id]) != id;
        if ((rc = buf_put(tokens, "length..", 8))) break;
        rc = type == TOKEN_UNUSED ? buf_printf(tokens, "[PAD%" PRId32 "]", id) : put_letters(tokens, a, v->token[id], as_is);
        set_length(tokens, from);
        for (int i = 0; i < 4 && !rc; i++) rc = buf_putc(types, (char)(type >> 8 * i));
    }
    return rc;
}

int vocab_put(const struct vocab *v, int32_t n_rows, struct gguf_head *h, struct err *e)
{
    struct alphabet a;
    struct buf      tokens, types, merges;
    int             rc;

    alphabet_init(&a);
    buf_init(&tokens, GGUF_ARRAY_MAX);
    buf_init(&types, GGUF_ARRAY_MAX);
    buf_init(&merges, GGUF_ARRAY_MAX);
    rc = put_tokens(v, &a, n_rows < v->n_tokens ? v->n_tokens : n_rows, &tokens, &types);
    for (int32_t i = 0; i < v->n_merges && !rc; i++) {
        size_t from = merges.len;
        if ((rc = buf_put(&merges, "length..", 8)) || (rc = put_letters(&merges, &a, v->token[v->merge[i].left], false)) ||
            (rc = buf_putc(&merges, ' ')) || (rc = put_letters(&merges, &a, v->token[v->merge[i].right], false)))
            break;
        set_length(&merges, from);
    }
    if (rc) {
        err_set(e, rc, "the tokenizer does not fit into the metadata of a GGUF file");
        goto done;
    }
    gguf_put_str(h, "tokenizer.ggml.model", str_of("gpt2"));
    gguf_put_str(h, "tokenizer.ggml.pre", str_of("qwen2"));
    gguf_put_array(h, "tokenizer.ggml.tokens", GGUF_STR, (uint64_t)(n_rows < v->n_tokens ? v->n_tokens : n_rows), buf_str(&tokens));
    gguf_put_array(h, "tokenizer.ggml.token_type", GGUF_I32, types.len / 4, buf_str(&types));
    gguf_put_array(h, "tokenizer.ggml.merges", GGUF_STR, (uint64_t)v->n_merges, buf_str(&merges));
done:
    buf_release(&tokens);
    buf_release(&types);
    buf_release(&merges);
    return rc;
}

void vocab_release(struct vocab *v)
{
    free(v->token);
    free(v->merge);
    free(v->added);
    free(v->text);
    free(v->slot);
    memset(v, 0, sizeof *v);
}
