/* batch.c - bytes of a prompt file -> rows; one parser per kind, one door (row_add) for all of them.
 * Believes: the file is hostile and the person is not: everything is checked, and every sentence says file:line.
 * The only room of the client that says json_*. Not here: what a field means (fields.c). */
#include "client/batch.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/file.h"
#include "base/hash.h"
#include "proto/wire.h"

#define COLUMNS_MAX 32

static int at_line(const struct batch *b, uint32_t line, struct err *e)
{
    return err_in(e, "%s:%" PRIu32, b->source, line);
}

static int keep(struct batch *b, struct str *s, struct err *e)
{
    char *copy;

    if (s->len == 0) return 0;
    copy = arena_text(&b->texts, s->at, s->len);
    if (!copy) return err_set(e, ERR_NOMEM, "no memory for the prompts");
    s->at = copy;
    return 0;
}

/* Checks a row, numbers its images, takes a copy of its texts. */
static int row_add(struct batch *b, struct row *r, uint64_t seed_default, struct err *e)
{
    int rc;

    r->first = b->n_images;
    if (r->n > JOB_TASKS_MAX - b->n_images) {
        return err_set(e, ERR_LIMIT, "more than %d images in one batch: split the file", JOB_TASKS_MAX);
    }
    if (!r->seed_said) {
        if (seed_default > UINT64_MAX - r->first) return err_set(e, ERR_ARG, "seed + %" PRIu32 " passes the largest seed", r->first);
        r->spec.seed = seed_default + r->first;
    }
    rc = row_check(r, e);
    if (rc == 0) rc = keep(b, &r->spec.prompt, e);
    if (rc == 0) rc = keep(b, &r->spec.negative, e);
    if (rc == 0) rc = keep(b, &r->spec.model, e);
    if (rc == 0) rc = keep(b, &r->name, e);
    if (rc) return rc;
    if (b->n_rows == b->cap) {
        size_t      cap = b->cap ? b->cap * 2 : 64;
        struct row *more = realloc(b->row, cap * sizeof *more);

        if (!more) return err_set(e, ERR_NOMEM, "no memory for %zu rows", cap);
        b->row = more;
        b->cap = cap;
    }
    b->row[b->n_rows++] = *r;
    b->n_images += r->n;
    return 0;
}

static void row_from(struct row *r, const struct row *defaults, uint32_t line)
{
    *r = *defaults;
    r->spec.prompt = r->name = str_of("");
    r->seed_said = false;
    r->steps_said = STEPS_UNSAID;
    r->line = line;
}

/* The next line without its end; false at the end of the text. */
static bool line_take(struct str *rest, struct str *line)
{
    const char *nl;

    if (rest->len == 0) return false;
    nl = memchr(rest->at, '\n', rest->len);
    line->at = rest->at;
    line->len = nl ? (size_t)(nl - rest->at) : rest->len;
    *rest = str_sub(*rest, line->len + (nl != NULL), rest->len);
    if (line->len && line->at[line->len - 1] == '\r') line->len--;
    return true;
}

static int parse_txt(struct batch *b, struct str rest, const struct row *defaults, struct err *e)
{
    struct str line;

    for (uint32_t n = 1; line_take(&rest, &line); n++) {
        struct row r;

        line = str_trim(line);
        if (line.len == 0 || line.at[0] == '#') continue;
        if (str_starts(line, "\\#")) line = str_sub(line, 1, line.len);
        row_from(&r, defaults, n);
        if (field_set(&r, str_of("prompt"), line, e) || row_add(b, &r, defaults->spec.seed, e)) return at_line(b, n, e);
    }
    return 0;
}

/* A JSON value as the text that field_set() reads. text: room for numbers. */
static int value_text(const char *key, const json_t *v, char text[40], struct str *out, struct err *e)
{
    bool words = strcmp(key, "prompt") == 0 || strcmp(key, "negative_prompt") == 0 || strcmp(key, "name") == 0 || strcmp(key, "model") == 0;

    if (words && !json_is_string(v)) return err_set(e, ERR_ARG, "%s takes text in quotes", key);
    switch (json_typeof(v)) {
    case JSON_STRING:
        *out = (struct str){json_string_value(v), json_string_length(v)};
        return 0;
    case JSON_INTEGER:
        snprintf(text, 40, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
        break;
    case JSON_REAL:
        snprintf(text, 40, "%.17g", json_real_value(v));
        break;
    case JSON_TRUE:
    case JSON_FALSE: /* as diffusers: cfg_normalization=True */
        if (strcmp(key, "cfg_normalization") != 0) return err_set(e, ERR_ARG, "%s takes text or a number, not true or false", key);
        snprintf(text, 40, "%d", json_is_true(v));
        break;
    default:
        return err_set(e, ERR_ARG, "%.40s takes text or a number, not a list or an object", key);
    }
    *out = str_of(text);
    return 0;
}

static int parse_object(struct batch *b, json_t *o, uint32_t line, const struct row *defaults, struct err *e)
{
    struct row  r;
    const char *key;
    json_t     *v;
    int         rc;

    if (!json_is_object(o)) return err_set(e, ERR_FORMAT, "not a JSON object: a line is {\"prompt\": \"...\", ...}");
    if (!json_object_get(o, "prompt")) return err_set(e, ERR_FORMAT, "the field prompt is missing");
    row_from(&r, defaults, line);
    json_object_foreach(o, key, v)
    {
        char       number[40];
        struct str text = {0};

        if (json_is_null(v) && strcmp(key, "prompt") != 0) {
            rc = field_known(str_of(key), e); /* a default, but the field must exist */
            if (rc) return rc;
            continue;
        }
        if (json_is_null(v)) return err_set(e, ERR_FORMAT, "prompt is null: an empty prompt is \"\"");
        rc = value_text(key, v, number, &text, e);
        if (rc == 0) rc = field_set(&r, str_of(key), text, e);
        if (rc) return rc;
    }
    return row_add(b, &r, defaults->spec.seed, e);
}

static int parse_jsonl(struct batch *b, struct str rest, const struct row *defaults, struct err *e)
{
    struct str line;

    for (uint32_t n = 1; line_take(&rest, &line); n++) {
        json_error_t why;
        json_t      *o;
        int          rc;

        if (str_trim(line).len == 0) continue;
        o = json_loadb(line.at, line.len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &why); /* fields.c says it better */
        if (!o)
            rc = err_set(e, ERR_FORMAT, "not JSON at column %d: %.120s%s", why.column, why.text,
                         json_error_code(&why) == json_error_numeric_overflow ? " (a number this large goes in quotes)" : "");
        else
            rc = parse_object(b, o, n, defaults, e);
        json_decref(o);
        if (rc) return at_line(b, n, e);
    }
    return 0;
}

struct csv {
    struct str rest;
    uint32_t   line; /* of the cell being read */
    char       comma; /* what stands between two cells: , ; or a tab, whichever the header row has */
    struct buf cell; /* unquoted text of one record's cells, one after the other */
    size_t     end[COLUMNS_MAX];
    size_t     n;
};

/* One quoted cell; rest begins after the opening quote. */
static int csv_quoted(struct csv *c, struct err *e)
{
    uint32_t begun = c->line;

    for (;;) {
        char ch;

        if (c->rest.len == 0) return err_set(e, ERR_FORMAT, "the quote that opens on line %" PRIu32 " never closes", begun);
        ch = c->rest.at[0];
        c->rest = str_sub(c->rest, 1, c->rest.len);
        if (ch == '\n') c->line++;
        if (ch == '"') {
            if (c->rest.len == 0 || c->rest.at[0] != '"') return 0;
            c->rest = str_sub(c->rest, 1, c->rest.len);
        }
        if (buf_putc(&c->cell, ch)) return err_set(e, ERR_LIMIT, "a row passes %zu bytes", c->cell.max);
    }
}

static int csv_plain(struct csv *c, struct err *e)
{
    size_t len = 0;

    while (len < c->rest.len && c->rest.at[len] != c->comma && c->rest.at[len] != '\n' && c->rest.at[len] != '"') len++;
    if (len < c->rest.len && c->rest.at[len] == '"') {
        return err_set(e, ERR_FORMAT, "a quote inside a cell: put the whole cell in quotes and double the quotes inside");
    }
    if (buf_put(&c->cell, c->rest.at, len)) return err_set(e, ERR_LIMIT, "a row passes %zu bytes", c->cell.max);
    c->rest = str_sub(c->rest, len, c->rest.len);
    if (c->cell.len && (c->rest.len == 0 || c->rest.at[0] == '\n') && len && c->cell.at[c->cell.len - 1] == '\r') c->cell.len--;
    return 0;
}

/* One record into end[0..n); n == 0 for an empty line. */
static int csv_record(struct csv *c, struct err *e)
{
    int rc;

    buf_clear(&c->cell);
    c->n = 0;
    if (c->rest.at[0] == '\n' || str_starts(c->rest, "\r\n")) {
        c->rest = str_sub(c->rest, c->rest.at[0] == '\r' ? 2 : 1, c->rest.len);
        return 0;
    }
    for (;;) {
        if (c->n == COLUMNS_MAX) return err_set(e, ERR_FORMAT, "more than %d columns", COLUMNS_MAX);
        if (c->rest.len && c->rest.at[0] == '"') {
            c->rest = str_sub(c->rest, 1, c->rest.len);
            rc = csv_quoted(c, e);
            if (rc == 0 && str_starts(c->rest, "\r\n")) c->rest = str_sub(c->rest, 1, c->rest.len);
            if (rc == 0 && c->rest.len && c->rest.at[0] != c->comma && c->rest.at[0] != '\n') {
                rc = err_set(e, ERR_FORMAT, "text after a closing quote: a quote inside a quoted cell is written twice");
            }
        } else {
            rc = csv_plain(c, e);
        }
        if (rc) return rc;
        c->end[c->n++] = c->cell.len;
        if (c->rest.len == 0) return 0;
        if (c->rest.at[0] == '\n') {
            c->rest = str_sub(c->rest, 1, c->rest.len);
            return 0;
        }
        c->rest = str_sub(c->rest, 1, c->rest.len);
    }
}

static struct str csv_cell(const struct csv *c, size_t k)
{
    size_t from = k ? c->end[k - 1] : 0;

    return str_sub(buf_str(&c->cell), from, c->end[k] - from);
}

/* Spreadsheets of half the world write ; for , and no field's name holds either: the first one that the header row has it is. */
static char csv_comma(struct str text)
{
    while (text.len && (text.at[0] == '\r' || text.at[0] == '\n')) text = str_sub(text, 1, text.len);
    for (size_t k = 0; k < text.len && text.at[k] != '\n'; k++)
        if (strchr(",;\t", text.at[k]) && text.at[k]) return text.at[k];
    return ',';
}

struct header {
    struct str name[COLUMNS_MAX];
    size_t     n;
};

static int csv_header(struct batch *b, const struct csv *c, struct header *h, struct err *e)
{
    bool prompt = false;

    for (h->n = 0; h->n < c->n; h->n++) {
        struct str name = str_trim(csv_cell(c, h->n));

        if (field_known(name, e)) return ERR_NOTFOUND;
        for (size_t k = 0; k < h->n; k++)
            if (str_eq(h->name[k], name)) return err_set(e, ERR_FORMAT, "the column %.*s is there twice", (int)name.len, name.at);
        if (keep(b, &name, e)) return e ? e->code : ERR_NOMEM;
        h->name[h->n] = name;
        prompt = prompt || str_is(name, "prompt");
    }
    if (!prompt) return err_set(e, ERR_FORMAT, "the header row has no column prompt");
    return 0;
}

static int csv_row(struct batch *b, const struct csv *c, const struct header *h, uint32_t line, const struct row *defaults, struct err *e)
{
    struct row r;
    int        rc = 0;

    if (c->n != h->n) return err_set(e, ERR_FORMAT, "%zu cells, but the header has %zu columns", c->n, h->n);
    row_from(&r, defaults, line);
    for (size_t k = 0; k < h->n && rc == 0; k++) {
        struct str cell = csv_cell(c, k);

        if (cell.len == 0 && !str_is(h->name[k], "prompt")) continue;
        rc = field_set(&r, h->name[k], cell, e);
    }
    return rc ? rc : row_add(b, &r, defaults->spec.seed, e);
}

static int parse_csv(struct batch *b, struct str rest, const struct row *defaults, struct err *e)
{
    struct csv    c = {.rest = rest, .line = 1, .comma = csv_comma(rest)};
    struct header h = {0};
    int           rc = 0;

    buf_init(&c.cell, (size_t)4 << 20);
    while (c.rest.len && rc == 0) {
        uint32_t line = c.line;

        rc = csv_record(&c, e);
        if (rc == 0 && c.n && h.n == 0)
            rc = csv_header(b, &c, &h, e);
        else if (rc == 0 && c.n)
            rc = csv_row(b, &c, &h, line, defaults, e);
        if (rc) rc = at_line(b, line, e);
        c.line++;
    }
    buf_release(&c.cell);
    return rc;
}

struct named { /* an image's name, by hash, and who it is */
    uint64_t hash;
    uint32_t index;
};

static int by_hash(const void *a, const void *b)
{
    const struct named *x = a, *y = b;

    if (x->hash != y->hash) return x->hash < y->hash ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

static int row_file_name(const struct row *r, uint32_t index, char name[FIELD_NAME_MAX_BYTES], struct err *e)
{
    char label[LABEL_MAX_BYTES + 1];
    int  rc = row_label(r, label, e);

    return rc ? rc : field_file_name(str_of(label), index, r->spec.seed + (index - r->first), name, e);
}

/* Every name can be a file's, none is taken twice. */
static int names_check(const struct batch *b, const char *reserved, struct err *e)
{
    struct named *all = calloc(b->n_images ? b->n_images : 1, sizeof *all);
    char          name[FIELD_NAME_MAX_BYTES], other[FIELD_NAME_MAX_BYTES];
    uint64_t      seed;
    int           rc = 0;

    if (!all) return err_set(e, ERR_NOMEM, "no memory for %" PRIu32 " names", b->n_images);
    for (size_t k = 0; k < b->n_rows && rc == 0; k++) {
        const struct row *r = &b->row[k];

        for (uint32_t i = r->first; i < r->first + r->n && rc == 0; i++) {
            rc = row_file_name(r, i, name, e);
            if (rc == 0 && reserved && strcmp(name, reserved) == 0) {
                rc = err_set(e, ERR_CONFLICT, "the name %s is the contact sheet's: give another with --sheet=FILE", name);
            }
            all[i] = (struct named){14695981039346656037u, i}; /* FNV-1a */
            for (const char *p = name; rc == 0 && *p; p++) all[i].hash = (all[i].hash ^ (uint8_t)*p) * 1099511628211u;
        }
        if (rc && r->line) at_line(b, r->line, e);
    }
    if (rc == 0) qsort(all, b->n_images, sizeof *all, by_hash);
    for (uint32_t i = 1; i < b->n_images && rc == 0; i++) {
        const struct row *x, *y;

        if (all[i].hash != all[i - 1].hash) continue;
        x = batch_image(b, all[i - 1].index, &seed, name);
        y = batch_image(b, all[i].index, &seed, other);
        if (strcmp(name, other) != 0) continue;
        rc = err_set(e, ERR_CONFLICT, "%s:%" PRIu32 ": the file name %s is already taken by line %" PRIu32, b->source, y->line, name,
                     x->line);
    }
    free(all);
    return rc;
}

int batch_kind_of(const char *path, enum batch_kind *kind, struct err *e)
{
    const char *dot = strrchr(path, '.');

    if (dot && strcmp(dot, ".txt") == 0)
        *kind = BATCH_TXT;
    else if (dot && (strcmp(dot, ".jsonl") == 0 || strcmp(dot, ".ndjson") == 0))
        *kind = BATCH_JSONL;
    else if (dot && strcmp(dot, ".csv") == 0)
        *kind = BATCH_CSV;
    else
        return err_set(e, ERR_ARG, "%.200s: a batch file ends in .txt, .jsonl or .csv", path);
    return 0;
}

int batch_parse(struct batch *b, const char *source, struct str bytes, enum batch_kind kind, const struct row *defaults,
                const char *reserved, struct err *e)
{
    const char *slash = strrchr(source, '/');
    int         rc;

    memset(b, 0, sizeof *b);
    snprintf(b->source, sizeof b->source, "%.63s", slash ? slash + 1 : source);
    if (bytes.len > BATCH_FILE_MAX_BYTES) {
        return err_set(e, ERR_LIMIT, "%s has %zu bytes; the limit is %zu", b->source, bytes.len, BATCH_FILE_MAX_BYTES);
    }
    if (str_starts(bytes, "\xEF\xBB\xBF")) bytes = str_sub(bytes, 3, bytes.len);
    if (str_starts(bytes, "\xFF\xFE") || str_starts(bytes, "\xFE\xFF")) {
        return err_set(e, ERR_FORMAT, "%s is UTF-16: save it as UTF-8", b->source);
    }
    rc = arena_init(&b->texts, "prompts", bytes.len * 4 + 65536);
    if (rc) return err_set(e, rc, "no memory for %s", b->source);
    if (kind == BATCH_TXT)
        rc = parse_txt(b, bytes, defaults, e);
    else if (kind == BATCH_JSONL)
        rc = parse_jsonl(b, bytes, defaults, e);
    else
        rc = parse_csv(b, bytes, defaults, e);
    if (rc == 0 && b->n_images == 0) rc = err_set(e, ERR_FORMAT, "%s has no prompts", b->source);
    if (rc == 0) rc = names_check(b, reserved, e);
    if (rc) batch_release(b);
    return rc;
}

int batch_read(struct batch *b, const char *path, const struct row *defaults, const char *reserved, struct err *e)
{
    struct file_map m = {0};
    enum batch_kind kind;
    int             rc;

    memset(b, 0, sizeof *b);
    rc = batch_kind_of(path, &kind, e);
    if (rc == 0) rc = file_map_open(&m, path, e);
    if (rc) return rc;
    rc = batch_parse(b, path, (struct str){(const char *)m.at, m.len}, kind, defaults, reserved, e);
    file_map_close(&m);
    return rc;
}

int batch_of_row(struct batch *b, const struct row *r, struct err *e)
{
    struct row one = *r;
    int        rc;

    memset(b, 0, sizeof *b);
    rc = arena_init(&b->texts, "prompt", 4 * PROMPT_MAX_BYTES);
    if (rc) return err_set(e, rc, "no memory for the prompt");
    one.seed_said = true;
    rc = row_add(b, &one, r->spec.seed, e);
    if (rc == 0) rc = names_check(b, NULL, e);
    if (rc) batch_release(b);
    return rc;
}

void batch_release(struct batch *b)
{
    arena_release(&b->texts);
    free(b->row);
    memset(b, 0, sizeof *b);
}

const struct row *batch_image(const struct batch *b, uint32_t index, uint64_t *seed, char name[FIELD_NAME_MAX_BYTES])
{
    size_t low = 0, high = b->n_rows; /* the last row with first <= index */

    while (high - low > 1) {
        size_t mid = low + (high - low) / 2;

        if (b->row[mid].first <= index)
            low = mid;
        else
            high = mid;
    }
    *seed = b->row[low].spec.seed + (index - b->row[low].first);
    if (name && row_file_name(&b->row[low], index, name, NULL)) name[0] = '\0';
    return &b->row[low];
}

int batch_hash(const struct batch *b, uint8_t sha256[32], struct err *e)
{
    struct sha256 s;
    struct buf    bytes;
    int           rc = 0;

    sha256_init(&s);
    buf_init(&bytes, BODY_BIG_MAX_BYTES);
    for (size_t k = 0; k < b->n_rows && rc == 0; k++) {
        char        label[LABEL_MAX_BYTES + 1];
        struct item it = {.spec = b->row[k].spec, .n_images = b->row[k].n};
        uint64_t    len;

        rc = row_label(&b->row[k], label, e);
        it.label = str_of(label);
        buf_clear(&bytes);
        if (rc == 0) rc = wire_item_pack(&it, &bytes, e);
        len = bytes.len;
        sha256_put(&s, &len, sizeof len);
        sha256_put(&s, bytes.at, bytes.len);
    }
    sha256_take(&s, sha256);
    buf_release(&bytes);
    return rc;
}
