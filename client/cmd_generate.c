/* cmd_generate.c - one prompt, some images, a file or a folder.
 * Believes: everything that can be refused is refused before anything is started. */
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/hash.h"
#include "client/commands.h"
#include "client/report.h"

struct target {
    const char *file; /* the one file; NULL: a folder */
    char        dir[GATHER_PATH_BYTES];
};

/* The prompt of --prompt-file into b; one line end at its end is not part of it. */
static int read_prompt(const char *path, struct buf *b, struct err *e)
{
    if (strcmp(path, "-") == 0) {
        char    part[4096];
        ssize_t n;

        while ((n = read(STDIN_FILENO, part, sizeof part)) > 0)
            if (buf_put(b, part, (size_t)n)) return err_set(e, ERR_LIMIT, "the prompt on standard input passes %d bytes", PROMPT_MAX_BYTES);
        if (n < 0) return err_errno(e, ERR_IO, "reading standard input failed");
    } else {
        int rc = file_read(path, b, e);

        if (rc == ERR_LIMIT) return err_set(e, rc, "the prompt in %.200s passes %d bytes", path, PROMPT_MAX_BYTES);
        if (rc) return rc;
    }
    if (b->len && b->at[b->len - 1] == '\n') b->len--;
    if (b->len && b->at[b->len - 1] == '\r') b->len--;
    return 0;
}

/* Two paths of files whose folders exist: the same file? */
static bool same_place(const char *a, const char *b)
{
    char at[2][PATH_MAX], dir[2][PATH_MAX];

    for (int k = 0; k < 2; k++) {
        const char *path = k ? b : a, *slash = strrchr(path, '/');

        if (strlen(path) >= PATH_MAX) return false;
        snprintf(dir[k], PATH_MAX, "%.*s", slash ? (int)(slash - path) + 1 : 1, slash ? path : ".");
        if (!realpath(dir[k], at[k])) return false;
    }
    a = strrchr(a, '/') ? strrchr(a, '/') + 1 : a;
    b = strrchr(b, '/') ? strrchr(b, '/') + 1 : b;
    return strcmp(at[0], at[1]) == 0 && strcmp(a, b) == 0;
}

/* "x.jpg" says what nobody here makes. */
static bool other_format(const char *path)
{
    static const char *const word[] = {".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"};
    const char              *dot = strrchr(path, '.');

    for (size_t k = 0; dot && k < sizeof word / sizeof *word; k++)
        if (strcasecmp(dot, word[k]) == 0) return true;
    return false;
}

static int find_target(const struct args *a, struct target *t, struct err *e)
{
    size_t n = a->out ? strlen(a->out) : 0;
    bool   folder = !a->out || a->out[n - 1] == '/' || file_is_folder(a->out) || a->row.n > 1;

    if (n >= sizeof t->dir - 256) return err_set(e, ERR_LIMIT, "the output path is too long");
    if (a->row.n > 1 && n > 4 && strcmp(a->out + n - 4, ".png") == 0) {
        return err_set(e, ERR_ARG, "-o %.150s is one file, but -n %" PRIu32 " makes several: give a folder", a->out, a->row.n);
    }
    if (!folder && strcmp(a->out, "-") == 0) {
        return err_set(e, ERR_ARG, "-o -: pictures are not written to standard output: name a file or a folder");
    }
    if (!folder && other_format(a->out)) return err_set(e, ERR_ARG, "-o %.150s: pictures are PNG files: end the name in .png", a->out);
    t->file = folder ? NULL : a->out;
    snprintf(t->dir, sizeof t->dir, "%s", a->out && folder ? a->out : ".");
    return 0;
}

static int name_of(void *ctx, const struct task_info *t, char name[GATHER_PATH_BYTES], struct err *e)
{
    const struct target *to = ctx;
    int                  n;

    if (!to->file) return field_file_name(str_of("zfarm-{seed}"), t->index, t->seed, name, e);
    n = snprintf(name, GATHER_PATH_BYTES, "%s%s", strchr(to->file, '/') ? "" : "./", to->file);
    return n < GATHER_PATH_BYTES ? 0 : err_set(e, ERR_LIMIT, "the output path is too long");
}

static int check_places(const struct args *a, const struct target *t, struct gather *g, char sheet[GATHER_PATH_BYTES], struct err *e)
{
    int rc = gather_open(g, t->dir, true, e);

    if (rc == 0 && t->file) rc = gather_target_check(t->file, e);
    if (rc == 0 && a->latents) rc = gather_target_check(a->latents, e);
    if (rc == 0 && a->sheet_said) rc = ending_sheet_path(a, t->dir, sheet, e);
    if (rc) return rc;
    if ((t->file && a->latents && same_place(t->file, a->latents)) || (t->file && a->sheet_said && same_place(t->file, sheet)) ||
        (a->latents && a->sheet_said && same_place(a->latents, sheet))) {
        return err_set(e, ERR_ARG, "the picture, --latents-out and --sheet need different files");
    }
    return 0;
}

static int run(struct session *s, struct target *t, struct gather *g, struct follow *f, struct err *e)
{
    const struct args *a = s->a;
    struct item        it = {.spec = a->row.spec, .n_images = a->row.n, .label = str_of("zfarm-{seed}")};
    uint8_t            key[KEY_BYTES];
    char               name[64];
    int                rc;

    it.spec.want_latents = a->latents != NULL;
    random_bytes(key, sizeof key);
    snprintf(name, sizeof name, "generate seed %" PRIu64, it.spec.seed);
    rc = client_submit(s->client, key, name, &it, 1, &f->job, e);
    if (rc) return rc;
    f->client = s->client;
    f->bar = &s->bar;
    f->gather = g;
    f->name = name_of;
    f->name_ctx = t;
    f->latents = a->latents;
    f->wait_ms = s->bar.mode == BAR_TTY || a->row.n <= 4 ? 250 : 0;
    rc = follow_run(f, e);
    if (rc == ERR_CANCELED) ending_interrupted(s, f->job, "", e);
    return rc ? rc : ending_verdict(f, a->row.n, s, e);
}

/* On a terminal the bar names no files: say where they are. */
static void tell(const struct session *s, const struct follow *f)
{
    if (s->bar.mode != BAR_TTY) return;
    if (f->n_tasks == 1 && f->file[0])
        fprintf(stderr, "%s  seed %" PRIu64 "\n", f->file[0], s->a->row.spec.seed);
    else
        fprintf(stderr, "seeds %" PRIu64 " to %" PRIu64 "\n", s->a->row.spec.seed, s->a->row.spec.seed + f->n_tasks - 1);
}

static int sheet_of(const struct follow *f, const char *path, struct err *e)
{
    uint32_t *index = calloc(f->n_tasks, sizeof *index);
    int       rc;

    if (!index) return err_set(e, ERR_NOMEM, "no memory for a contact sheet");
    for (uint32_t i = 0; i < f->n_tasks; i++) index[i] = i;
    rc = report_sheet(path, f->file, index, f->n_tasks, e);
    free(index);
    return rc;
}

int cmd_generate(struct args *a)
{
    struct session s;
    struct target  t = {0};
    struct gather  g = {0};
    struct follow  f = {0};
    struct buf     prompt;
    struct err     e = {0};
    char           model[1024], sheet[GATHER_PATH_BYTES] = "";
    int            rc = 0;

    session_begin(&s, a);
    buf_init(&prompt, PROMPT_MAX_BYTES + 2);
    if (a->prompt_file) {
        rc = read_prompt(a->prompt_file, &prompt, &e);
        if (rc == 0) rc = field_set(&a->row, str_of("prompt"), buf_str(&prompt), &e);
    }
    if (!a->row.seed_said) a->row.spec.seed = random_u64() & 0xffffffffu;
    if (rc == 0) rc = session_model(a, &a->row, model, &e);
    if (rc == 0) rc = row_check(&a->row, &e);
    if (rc == 0) rc = find_target(a, &t, &e);
    if (rc == 0) rc = check_places(a, &t, &g, sheet, &e);
    if (rc == 0) rc = session_open(&s, model, &e);
    if (rc == 0) rc = run(&s, &t, &g, &f, &e);
    if (f.file && rc != ERR_CANCELED) tell(&s, &f);
    if (rc == 0 && a->sheet_said) rc = sheet_of(&f, sheet, &e);
    if (rc == 0 && f.n_tasks > 1) ending_where(&s, t.dir, sheet);
    follow_release(&f);
    gather_release(&g);
    rc = session_close(&s, rc, &e);
    buf_release(&prompt);
    return rc;
}
