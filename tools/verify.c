/* verify.c - zfarm-model verify: is this checkpoint whole and sane? Every tensor that generating needs is there with its shape, every value is
 * finite, every file has the checksum that a list says; the SHA-256 of every weight file is printed for lists of one's own.
 * Not here: a picture of what is inside (inspect.c). */
#include <argp.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/hash.h"
#include "engine/config.h"
#include "engine/safetensors.h"
#include "kernels/cpu/half.h"
#include "tools/md5.h"
#include "tools/part.h"
#include "tools/tools.h"

enum { NAMED_MAX = 20, CHUNK_VALUES = 1 << 16, MANIFEST_MAX = 1 << 20 };

struct verify_args {
    const char *path, *manifest;
};

static const struct argp_option OPTIONS[] = {
    {"manifest", 'm', "FILE", 0, "lines '<md5>  <path>' (or '<path>' alone: it must exist), paths below DIR; # begins a comment", 0},
    {0},
};

static error_t on_option(int key, char *arg, struct argp_state *state)
{
    struct verify_args *a = state->input;

    switch (key) {
    case 'm':
        a->manifest = arg;
        return 0;
    case ARGP_KEY_ARG:
        if (a->path) argp_error(state, "one DIR or FILE at a time");
        a->path = arg;
        return 0;
    case ARGP_KEY_NO_ARGS:
        argp_error(state, "DIR or FILE is missing");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

__attribute__((format(printf, 2, 3))) static int bad(int n, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    if (n < NAMED_MAX) vprintf(fmt, ap);
    va_end(ap);
    return n + 1;
}

/* ---- shapes and values ---- */

static int count_missing(struct weights *w, const struct plan *p)
{
    int n = 0;
    for (size_t i = 0; i < p->n; i++) {
        struct err    e = {0};
        struct tensor t;
        if (p->at[i].needed && weights_get(w, p->at[i].name, p->at[i].rank, p->at[i].dim, &t, &e)) n = bad(n, "  WRONG  %s\n", e.text);
    }
    return n;
}

static bool is_finite(const struct tensor *t)
{
    static float wide[CHUNK_VALUES];
    int64_t      count = tensor_count(t);

    for (int64_t at = 0; at < count; at += CHUNK_VALUES) {
        int64_t n = count - at < CHUNK_VALUES ? count - at : CHUNK_VALUES;
        bool    all = true;
        to_f32(wide, (const char *)t->data + dtype_row_bytes(t->type, at), t->type, n);
        for (int64_t i = 0; i < n; i++) all &= fabsf(wide[i]) <= 3.4028235e38f;
        if (!all) return false;
    }
    return true;
}

static int count_not_finite(struct weights *w)
{
    int n = 0;
    for (size_t i = 0; i < weights_count(w); i++) {
        const struct safetensors_entry *s = weights_entry(w, i, NULL);
        struct err                      e = {0};
        struct tensor                   t;
        int64_t                         one = 1;
        if (!s->usable || s->rank > TENSOR_RANK_MAX) continue;
        if (weights_get(w, s->name, s->rank ? s->rank : 1, s->rank ? s->dim : &one, &t, &e))
            n = bad(n, "  WRONG  %s\n", e.text);
        else if (!is_finite(&t))
            n = bad(n, "  WRONG  tensor %s holds values that are not finite\n", s->name);
    }
    return n;
}

/* ---- checksums ---- */

static int put_sha256(const char *path, struct err *e)
{
    struct file_map m;
    uint8_t         digest[SHA256_BYTES];
    char            hex[SHA256_HEX];
    int             rc = file_map_open(&m, path, e);

    if (rc) return rc;
    sha256_of(m.at, m.len, digest);
    hex_of(digest, sizeof digest, hex);
    printf("  %s  %s\n", hex, path);
    file_map_close(&m);
    return 0;
}

static int check_md5(const char *path, const char *wanted, bool *same, struct err *e)
{
    struct file_map m;
    struct md5      md5;
    uint8_t         digest[16];
    char            hex[33];
    int             rc = file_map_open(&m, path, e);

    if (rc) return rc;
    md5_init(&md5);
    md5_put(&md5, m.at, m.len);
    md5_take(&md5, digest);
    hex_of(digest, sizeof digest, hex);
    *same = strcasecmp(hex, wanted) == 0;
    file_map_close(&m);
    return 0;
}

/* "<md5>  <path>" or "<path>": the path must stay below the folder. */
static int check_line(const char *dir, struct str line, int number, int *n_bad, struct err *e)
{
    char    md5[33] = "", path[1024], name[512];
    uint8_t bytes[16];
    bool    same = true;
    int     rc;

    if (line.len > 34 && line.at[32] == ' ') {
        memcpy(md5, line.at, 32);
        if (hex_to(md5, bytes, sizeof bytes) == 0)
            line = str_trim(str_sub(line, 33, line.len - 33));
        else
            md5[0] = 0;
    }
    if (line.len > 1 && line.at[0] == '*') /* md5sum's mark of binary files */
        line = str_sub(line, 1, line.len - 1);
    if (line.len == 0 || line.len >= sizeof name || line.at[0] == '/' || memmem(line.at, line.len, "..", 2) || memchr(line.at, 0, line.len))
        return err_set(e, ERR_FORMAT, "the manifest's line %d is not '<md5>  <path below the folder>'", number);
    snprintf(name, sizeof name, "%.*s", (int)line.len, line.at);
    if ((rc = file_join(path, sizeof path, dir, name, e))) return rc;
    if (!file_exists(path))
        *n_bad = bad(*n_bad, "  WRONG  %s is missing\n", name);
    else if (md5[0] && (rc = check_md5(path, md5, &same, e)))
        return rc;
    else if (!same)
        *n_bad = bad(*n_bad, "  WRONG  %s has another MD5 than the manifest says\n", name);
    return 0;
}

static int check_manifest(const char *dir, const char *manifest, int *n_bad, struct err *e)
{
    struct buf b;
    int        rc, number = 0, n_files = 0;

    buf_init(&b, MANIFEST_MAX);
    if ((rc = file_read(manifest, &b, e))) goto done;
    for (size_t at = 0; at < b.len && !rc; number++) {
        const char *end = memchr(b.at + at, '\n', b.len - at);
        size_t      len = end ? (size_t)(end - b.at) - at : b.len - at;
        struct str  line = str_trim((struct str){b.at + at, len});
        at += len + 1;
        if (line.len == 0 || line.at[0] == '#') continue;
        rc = check_line(dir, line, number + 1, n_bad, e);
        n_files++;
    }
    if (!rc) printf("%s: %d files, %d wrong\n", manifest, n_files, *n_bad);
done:
    buf_release(&b);
    return rc;
}

/* ---- parts ---- */

static int verify_part(const char *path, int *n_bad, struct err *e)
{
    struct weights   *w = NULL;
    struct plan       p = {0};
    struct model_conf c;
    const char       *file = NULL, *last = NULL;
    bool              inferred;
    int               rc, n_missing, n_mad;
    enum part         part;

    if ((rc = weights_open(&w, path, "model.", e))) goto done;
    part = part_of(w);
    if (part == PART_UNKNOWN) {
        rc = err_set(e, ERR_FORMAT, "%s is no part of a Z-Image model: neither transformer, text encoder nor VAE", path);
        goto done;
    }
    printf("%s: %s\n", path, part_folder[part]);
    if ((rc = part_conf(part, path, w, &c, &inferred, e)) || (rc = part_plan(part, &c, &p, e))) goto done;
    n_missing = count_missing(w, &p);
    n_mad = count_not_finite(w);
    for (size_t i = 0; i < weights_count(w); i++) {
        (void)weights_entry(w, i, &file);
        if (file != last && (rc = put_sha256(file, e))) goto done;
        last = file;
    }
    printf("  %zu tensors, %d missing or wrong, %d not finite\n", weights_count(w), n_missing, n_mad);
    *n_bad += n_missing + n_mad;
done:
    weights_free(w);
    plan_release(&p);
    return rc;
}

static int verify(const struct verify_args *a, int *n_bad, struct err *e)
{
    struct model_conf c;
    char              path[1024];
    int               rc;

    if (a->manifest && (rc = check_manifest(a->path, a->manifest, n_bad, e))) return rc;
    if ((rc = file_join(path, sizeof path, a->path, "model_index.json", e))) return rc;
    if (!file_is_folder(a->path) || !file_exists(path)) return verify_part(a->path, n_bad, e);
    if ((rc = config_open(&c, a->path, NULL, e))) return rc;
    for (int i = 0; i < PART_UNKNOWN; i++)
        if ((rc = file_join(path, sizeof path, a->path, part_folder[i], e)) || (rc = verify_part(path, n_bad, e))) return rc;
    return 0;
}

int tool_verify(int argc, char **argv)
{
    const struct argp argp = {
        OPTIONS,
        on_option,
        "DIR|FILE",
        "Checks a checkpoint to the last value: shapes against its config, every number finite, checksums.\v"
        "DIR is a model folder or one of its parts, FILE a .safetensors, an index of shards or a .gguf. The SHA-256 of every weight "
        "file is printed. Exit code 1 when anything is missing, wrong or not finite.\n\n"
        "Example: zfarm-model verify --manifest z-image-turbo.txt models/z-image-turbo",
        NULL,
        NULL,
        NULL};
    struct verify_args a = {0};
    struct err         e = {0};
    int                n_bad = 0;

    argp_parse(&argp, argc, argv, 0, NULL, &a);
    if (verify(&a, &n_bad, &e)) return tool_failed(&e);
    printf(n_bad ? "NOT GOOD: %d findings\n" : "good\n", n_bad);
    return tool_done() || n_bad ? 1 : 0;
}
