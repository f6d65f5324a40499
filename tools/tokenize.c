/* tokenize.c - zfarm-model tokenize: one JSON array of ids per text, in order.
 * Texts come from the arguments, from the "prompt" fields of a JSONL file, or from the lines of stdin. */
#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "engine/prompt.h"
#include "tools/tools.h"

#define LINE_MAX_BYTES (6u * TOKENIZER_TEXT_MAX + 65536) /* a text with every byte escaped, and the rest of its row */

struct tokenize_args {
    const char *tokenizer, *jsonl;
    bool        chat;
    char      **text;
    int         n_texts;
};

static const struct argp_option OPTIONS[] = {
    {"tokenizer", 't', "DIR", 0, "folder with tokenizer.json, or a model folder that has tokenizer/ (required)", 0},
    {"chat", 'c', NULL, 0, "apply the chat template and keep the first 512 ids, as the text encoder sees a prompt", 0},
    {"jsonl", 'j', "FILE", 0, "read texts from the \"prompt\" field of each line of FILE (- is stdin)", 0},
    {0},
};

static error_t on_option(int key, char *arg, struct argp_state *state)
{
    struct tokenize_args *a = state->input;

    switch (key) {
    case 't':
        a->tokenizer = arg;
        return 0;
    case 'c':
        a->chat = true;
        return 0;
    case 'j':
        a->jsonl = arg;
        return 0;
    case ARGP_KEY_ARGS:
        a->text = state->argv + state->next;
        a->n_texts = state->argc - state->next;
        return 0;
    case ARGP_KEY_END:
        if (!a->tokenizer) argp_error(state, "--tokenizer DIR is missing");
        if (a->jsonl && a->n_texts) argp_error(state, "give TEXT or --jsonl, not both");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* Prints the ids of one text. */
static int put_ids(const struct tokenizer *t, struct str text, bool chat, struct err *e)
{
    size_t   cap = chat ? PROMPT_TOKENS_MAX : text.len + 16, n = 0;
    int32_t *ids = malloc(cap * sizeof *ids);
    int      rc;

    if (!ids) return err_set(e, ERR_NOMEM, "no memory for %zu ids", cap);
    if (chat) {
        rc = prompt_ids(t, text, ids, cap, &n, e);
    } else {
        rc = tokenizer_encode(t, text, ids, cap, &n, e);
        if (!rc && n > cap) { /* composition can make a text longer */
            int32_t *more = realloc(ids, n * sizeof *ids);
            if (!more) {
                free(ids);
                return err_set(e, ERR_NOMEM, "no memory for %zu ids", n);
            }
            ids = more;
            rc = tokenizer_encode(t, text, ids, n, &n, e);
        }
    }
    if (!rc) {
        putchar('[');
        for (size_t i = 0; i < n; i++) printf("%s%" PRId32, i ? ", " : "", ids[i]);
        puts("]");
    }
    free(ids);
    return rc;
}

static int put_row(const struct tokenizer *t, struct str line, bool chat, struct err *e)
{
    json_error_t  why;
    json_t       *row = json_loadb(line.at, line.len, JSON_ALLOW_NUL, &why);
    const json_t *prompt = json_object_get(row, "prompt");
    int           rc;

    if (!row)
        rc = err_set(e, ERR_FORMAT, "not valid JSON: %s", why.text);
    else if (!json_is_string(prompt))
        rc = err_set(e, ERR_FORMAT, "no field \"prompt\" with a text");
    else
        rc = put_ids(t, (struct str){json_string_value(prompt), json_string_length(prompt)}, chat, e);
    json_decref(row);
    return rc;
}

/* The next line into b, without its newline. *more: there was one. */
static int get_line(FILE *f, struct buf *b, bool *more, struct err *e)
{
    int c;

    buf_clear(b);
    *more = false;
    while ((c = getc_unlocked(f)) != EOF) {
        *more = true;
        if (c == '\n') break;
        int rc = buf_putc(b, (char)c);
        if (rc) return err_set(e, rc, rc == ERR_LIMIT ? "longer than %zu bytes" : "no memory for %zu bytes", b->len);
    }
    return 0;
}

/* Each line of f: a text, or a JSON row when jsonl. */
static int put_lines(const struct tokenizer *t, FILE *f, const char *name, const struct tokenize_args *a, struct err *e)
{
    struct buf line;
    size_t     number = 1;
    bool       more;
    int        rc;

    buf_init(&line, LINE_MAX_BYTES);
    for (; !(rc = get_line(f, &line, &more, e)) && more; number++) {
        struct str s = buf_str(&line);
        if (s.len && s.at[s.len - 1] == '\r') s.len--;
        if (!a->jsonl)
            rc = put_ids(t, s, a->chat, e);
        else if (str_trim(s).len)
            rc = put_row(t, s, a->chat, e);
        if (rc) break;
    }
    if (rc)
        err_in(e, "%s line %zu", name, number);
    else if (ferror(f))
        rc = err_errno(e, ERR_IO, "cannot read %s", name);
    buf_release(&line);
    return rc;
}

static int open_tokenizer(struct tokenizer **t, const char *dir, struct err *e)
{
    char path[512], inner[512];
    int  rc;

    if ((rc = file_join(path, sizeof path, dir, "tokenizer.json", e)) || (rc = file_join(inner, sizeof inner, dir, "tokenizer", e)))
        return rc;
    return tokenizer_open(t, !file_exists(path) && file_is_folder(inner) ? inner : dir, e);
}

static int run(const struct tokenize_args *a, struct err *e)
{
    struct tokenizer *t = NULL;
    FILE             *f = stdin;
    int               rc;

    if ((rc = open_tokenizer(&t, a->tokenizer, e))) return rc;
    for (int i = 0; i < a->n_texts && !rc; i++) {
        rc = put_ids(t, str_of(a->text[i]), a->chat, e);
        if (rc) err_in(e, "text %d", i + 1);
    }
    if (rc || a->n_texts) goto done;
    if (a->jsonl && strcmp(a->jsonl, "-") != 0 && !(f = fopen(a->jsonl, "rb"))) {
        rc = err_errno(e, ERR_IO, "cannot open %s", a->jsonl);
        goto done;
    }
    rc = put_lines(t, f, f == stdin ? "stdin" : a->jsonl, a, e);
    if (f != stdin) fclose(f);
done:
    tokenizer_free(t);
    return rc;
}

int tool_tokenize(int argc, char **argv)
{
    const struct argp    argp = {OPTIONS,
                                 on_option,
                                 "[TEXT...]",
                                 "Prints one JSON array of token ids per text: TEXT, rows of --jsonl FILE, or lines of stdin.\v"
                                    "Example: zfarm-model tokenize -t models/z-image-turbo --chat \"a white cat\"",
                                 NULL,
                                 NULL,
                                 NULL};
    struct tokenize_args a = {0};
    struct err           e = {0};

    argp_parse(&argp, argc, argv, 0, NULL, &a);
    return run(&a, &e) ? tool_failed(&e) : tool_done();
}
