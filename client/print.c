/* print.c - tables and JSON lines from plain structs.
 * Believes: a terminal is told only what is text; a program reading JSON never sees half a line. */
#include "client/print.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"

void print_quoted(struct buf *b, struct str s)
{
    buf_putc(b, '"');
    while (s.len) {
        size_t bad = str_utf8_bad_at(s);

        for (size_t i = 0; i < bad; i++) {
            unsigned char c = (unsigned char)s.at[i];

            if (c == '"' || c == '\\')
                buf_printf(b, "\\%c", c);
            else if (c == '\n')
                buf_puts(b, "\\n");
            else if (c < 0x20 || c == 0x7f)
                buf_printf(b, "\\u%04x", c);
            else
                buf_putc(b, (char)c);
        }
        if (bad < s.len) buf_putc(b, '?');
        s = str_sub(s, bad + 1, s.len);
    }
    buf_putc(b, '"');
}

static size_t char_len(struct str s) /* of the first character, 1 for a malformed one */
{
    size_t n = 1;

    while (n < s.len && n < 4 && ((unsigned char)s.at[n] & 0xC0) == 0x80) n++;
    return str_utf8_ok(str_sub(s, 0, n)) ? n : 1;
}

void print_safe(struct buf *b, struct str s, size_t max_cols)
{
    size_t cols = print_cols(s);

    for (size_t at = 0, col = 0; at < s.len; col++) {
        struct str    rest = str_sub(s, at, s.len);
        size_t        n = char_len(rest);
        unsigned char c = (unsigned char)rest.at[0];

        if (cols > max_cols && col + 3 >= max_cols) { /* no room for all of it */
            for (; col < max_cols; col++) buf_putc(b, '.');
            return;
        }
        if (c < 0x20 || c == 0x7f || (n == 1 && c >= 0x80) || (n == 2 && c == 0xC2 && (unsigned char)rest.at[1] < 0xA0))
            buf_putc(b, '?');
        else
            buf_put(b, rest.at, n);
        at += n;
    }
}

size_t print_cols(struct str s)
{
    size_t cols = 0;

    for (size_t at = 0; at < s.len; cols++) at += char_len(str_sub(s, at, s.len));
    return cols;
}

void print_span(struct buf *b, int64_t ms)
{
    int64_t s = ms / 1000;

    if (ms < 0)
        buf_puts(b, "-");
    else if (ms < 1000)
        buf_printf(b, "%" PRId64 " ms", ms);
    else if (ms < 10000)
        buf_printf(b, "%.1f s", (double)ms / 1000.0);
    else if (s < 60)
        buf_printf(b, "%" PRId64 " s", s);
    else if (s < 3600)
        buf_printf(b, "%" PRId64 " min %02" PRId64 " s", s / 60, s % 60);
    else if (s < 86400)
        buf_printf(b, "%" PRId64 " h %02" PRId64 " min", s / 3600, s / 60 % 60);
    else
        buf_printf(b, "%" PRId64 " d %" PRId64 " h", s / 86400, s / 3600 % 24);
}

/* text padded to cols; right: to the right side. */
static void cell(struct buf *b, struct str text, size_t cols, bool right)
{
    size_t n = print_cols(text);

    if (n > cols) n = cols;
    for (size_t i = n; right && i < cols; i++) buf_putc(b, ' ');
    print_safe(b, text, cols);
    for (size_t i = n; !right && i < cols; i++) buf_putc(b, ' ');
    buf_puts(b, "  ");
}

static void cell_u(struct buf *b, uint64_t n, size_t cols)
{
    char text[24];

    snprintf(text, sizeof text, "%" PRIu64, n);
    cell(b, str_of(text), cols, true);
}

static void cell_span(struct buf *b, int64_t ms, size_t cols)
{
    struct buf t;

    buf_init(&t, 64);
    print_span(&t, ms);
    cell(b, buf_str(&t), cols, true);
    buf_release(&t);
}

static const char *job_state(const struct job_info *j)
{
    uint32_t final = j->n_done + j->n_failed + j->n_canceled + j->n_expired;

    if (j->n_canceling) return "canceling";
    if (final >= j->n_tasks) return j->n_canceled ? "canceled" : j->n_failed ? "failed" : j->n_expired ? "expired" : "done";
    if (j->n_running) return "running";
    return final + j->n_queued < j->n_tasks ? "partial" : "queued";
}

/* "  (why)", where there is a reason. */
static void end_line(struct buf *b, struct str why, size_t max_cols)
{
    if (why.len) {
        buf_puts(b, "  (");
        print_safe(b, why, max_cols);
        buf_putc(b, ')');
    }
    buf_putc(b, '\n');
}

void print_jobs_head(struct buf *b)
{
    buf_puts(b, "   JOB  STATE       DONE/IMAGES  FAILED          AGE          ETA  NAME\n");
}

void print_job_line(struct buf *b, const struct job_info *j, int64_t now_wall_ms)
{
    char done[32];

    snprintf(done, sizeof done, "%" PRIu32 "/%" PRIu32, j->n_done, j->n_tasks);
    cell_u(b, j->job, 6);
    cell(b, str_of(job_state(j)), 9, false);
    cell(b, str_of(done), 12, true);
    cell_u(b, (uint64_t)j->n_failed + j->n_expired, 6);
    cell_span(b, now_wall_ms > j->created_wall_ms ? now_wall_ms - j->created_wall_ms : 0, 11);
    cell_span(b, j->n_queued + j->n_running ? j->eta_ms : -1, 11);
    print_safe(b, j->name, 60);
    end_line(b, j->why, 120);
}

void print_job_json(struct buf *b, const struct job_info *j)
{
    char key[2 * KEY_BYTES + 1], made[CLOCK_ISO_BYTES];

    hex_of(j->key, KEY_BYTES, key);
    clock_iso(j->created_wall_ms, made);
    buf_printf(b, "{\"job\":%" PRIu64 ",\"key\":\"%s\",\"name\":", j->job, key);
    print_quoted(b, j->name);
    buf_printf(
        b, ",\"state\":\"%s\",\"created\":\"%s\",\"images\":%" PRIu32 ",\"queued\":%" PRIu32 ",\"running\":%" PRIu32 ",\"done\":%" PRIu32,
        job_state(j), made, j->n_tasks, j->n_queued, j->n_running, j->n_done);
    buf_printf(b, ",\"failed\":%" PRIu32 ",\"canceled\":%" PRIu32 ",\"gathered\":%" PRIu32, j->n_failed, j->n_canceled, j->n_collected);
    buf_printf(b, ",\"expired\":%" PRIu32 ",\"canceling\":%" PRIu32, j->n_expired, j->n_canceling);
    if (j->deadline_ms) buf_printf(b, ",\"deadline_ms\":%" PRIu64, j->deadline_ms);
    if (j->eta_ms >= 0) buf_printf(b, ",\"eta_ms\":%" PRId64, j->eta_ms);
    if (j->images_per_s > 0) buf_printf(b, ",\"images_per_s\":%.4g", (double)j->images_per_s);
    buf_printf(b, ",\"class\":\"%s\",\"client\":", job_class_name(j->job_class));
    print_quoted(b, j->client);
    if (j->why.len) {
        buf_puts(b, ",\"why\":");
        print_quoted(b, j->why);
    }
    buf_puts(b, "}\n");
}

void print_tasks_head(struct buf *b)
{
    buf_puts(b, " INDEX  STATE                     SEED       SIZE  TRIES        TOOK  WORKER            PROMPT OR ERROR\n");
}

void print_task_line(struct buf *b, const struct shown *t)
{
    char size[32], w[12] = "own", h[12] = "own"; /* 0: what the model was made for */

    if (t->spec.width_px) snprintf(w, sizeof w, "%" PRId32, t->spec.width_px);
    if (t->spec.height_px) snprintf(h, sizeof h, "%" PRId32, t->spec.height_px);
    snprintf(size, sizeof size, "%s%s%s", w, t->spec.width_px || t->spec.height_px ? "x" : "", t->spec.width_px || t->spec.height_px ? h : "");
    cell_u(b, t->info.index, 6);
    cell(b, str_of(t->info.collected ? "gathered" : task_state_name(t->info.state)), 8, false);
    cell_u(b, t->info.seed, 20);
    cell(b, str_of(size), 9, true);
    cell_u(b, t->info.attempts, 5);
    cell_span(b, t->info.state == TASK_DONE ? (int64_t)t->info.took_ms : -1, 10);
    cell(b, t->info.worker, 16, false);
    if (t->info.state == TASK_FAILED || t->info.state == TASK_EXPIRED)
        print_safe(b, t->info.error, 200);
    else
        print_safe(b, t->spec.prompt, 60);
    buf_putc(b, '\n');
}

void print_task_json(struct buf *b, const struct shown *t)
{
    const struct spec *s = &t->spec;
    char               rng[64];

    buf_printf(b,
               "{\"index\":%" PRIu32 ",\"task\":%" PRIu64 ",\"state\":\"%s\",\"gathered\":%s,\"seed\":%" PRIu64,
               t->info.index, t->info.task, task_state_name(t->info.state), t->info.collected ? "true" : "false", t->info.seed);
    if (s->width_px) buf_printf(b, ",\"width\":%" PRId32, s->width_px);
    if (s->height_px) buf_printf(b, ",\"height\":%" PRId32, s->height_px);
    if (s->steps) buf_printf(b, ",\"steps\":%" PRId32, s->steps);
    if (s->guidance >= 0) buf_printf(b, ",\"guidance\":%.9g", (double)s->guidance);
    if (s->cfg_norm >= 0) buf_printf(b, ",\"cfg_normalization\":%.9g", (double)s->cfg_norm);
    if (s->cfg_trunc >= 0) buf_printf(b, ",\"cfg_truncation\":%.9g", (double)s->cfg_trunc);
    buf_printf(b, ",\"rng\":\"%s\",\"prompt\":", rng_text(&s->rng, rng, sizeof rng));
    print_quoted(b, s->prompt);
    buf_puts(b, ",\"negative_prompt\":");
    print_quoted(b, s->negative);
    buf_puts(b, ",\"model\":");
    print_quoted(b, s->model);
    buf_puts(b, ",\"label\":");
    print_quoted(b, t->info.label);
    buf_printf(b, ",\"attempts\":%" PRIu32 ",\"took_ms\":%" PRIu32 ",\"worker\":", t->info.attempts, t->info.took_ms);
    print_quoted(b, t->info.worker);
    if (t->info.error.len) {
        buf_puts(b, ",\"error\":");
        print_quoted(b, t->info.error);
    }
    for (size_t k = 0; k < t->info.n_parts; k++) {
        char sum[SHA256_HEX];

        hex_of(t->info.part[k].sha256, SHA256_BYTES, sum);
        buf_printf(b, ",\"%s\":{\"bytes\":%" PRIu64 ",\"sha256\":\"%s\"}", t->info.part[k].kind == PART_IMAGE ? "image" : "latents",
                   t->info.part[k].size_bytes, sum);
    }
    buf_puts(b, "}\n");
}

void print_workers_head(struct buf *b)
{
    buf_puts(b, "WORKER                STATE        DEVICE    BUSY    DONE  FAILED   PER IMAGE  MODELS\n");
}

void print_worker_line(struct buf *b, const struct worker_info *w)
{
    char busy[32];

    snprintf(busy, sizeof busy, "%" PRIu32 "/%" PRIu32, w->n_held, w->capacity);
    cell(b, w->name, 20, false);
    cell(b, w->state, 11, false);
    cell(b, w->device, 8, false);
    cell(b, str_of(busy), 4, true);
    cell_u(b, w->n_done, 6);
    cell_u(b, w->n_failed, 6);
    cell_span(b, w->ms_per_image ? (int64_t)w->ms_per_image : -1, 10);
    for (size_t k = 0; k < w->n_models; k++) {
        if (k) buf_puts(b, ", ");
        print_safe(b, w->model[k].name, 40);
        if (w->model[k].profile.len && !str_eq(w->model[k].profile, w->model[k].name)) {
            buf_puts(b, " (");
            print_safe(b, w->model[k].profile, 20);
            buf_putc(b, ')');
        }
    }
    if (w->about.len) {
        buf_puts(b, "  ");
        print_safe(b, w->about, 60);
    }
    end_line(b, w->why, 300);
}

/* One line for each of its devices. */
void print_worker_ranks(struct buf *b, const struct worker_info *w)
{
    for (size_t k = 0; k < w->n_ranks; k++) {
        const struct rank *r = &w->rank[k];

        buf_printf(b, "  rank %zu  ", k);
        cell(b, r->device, 8, false);
        cell(b, str_of(rank_parts_name(r->parts)), 15, false);
        buf_printf(b, "busy %5.1f %%", r->busy_permille / 10.0);
        if (r->total_bytes) buf_printf(b, "  memory %.2f of %.2f GiB", (double)r->used_bytes / (1 << 30), (double)r->total_bytes / (1 << 30));
        buf_putc(b, '\n');
    }
}

static void ranks_json(struct buf *b, const struct worker_info *w)
{
    buf_puts(b, "],\"ranks\":[");
    for (size_t k = 0; k < w->n_ranks; k++) {
        const struct rank *r = &w->rank[k];

        buf_puts(b, k ? ",{\"device\":" : "{\"device\":");
        print_quoted(b, r->device);
        buf_printf(b, ",\"parts\":\"%s\",\"busy_permille\":%" PRIu32 ",\"used_bytes\":%" PRIu64 ",\"total_bytes\":%" PRIu64 "}", rank_parts_name(r->parts),
                   r->busy_permille, r->used_bytes, r->total_bytes);
    }
}

void print_worker_json(struct buf *b, const struct worker_info *w)
{
    buf_puts(b, "{\"worker\":");
    print_quoted(b, w->name);
    buf_puts(b, ",\"state\":");
    print_quoted(b, w->state);
    buf_puts(b, ",\"device\":");
    print_quoted(b, w->device);
    buf_puts(b, ",\"about\":");
    print_quoted(b, w->about);
    buf_puts(b, ",\"version\":");
    print_quoted(b, w->version);
    buf_printf(b,
               ",\"capacity\":%" PRIu32 ",\"held\":%" PRIu32 ",\"done\":%" PRIu64 ",\"failed\":%" PRIu64 ",\"ms_per_image\":%" PRIu32
               ",\"silent_ms\":%" PRId64 ",\"max_batch\":%" PRIu32 ",\"why\":",
               w->capacity, w->n_held, w->n_done, w->n_failed, w->ms_per_image, w->silent_ms, w->max_batch ? w->max_batch : 1);
    print_quoted(b, w->why);
    buf_puts(b, ",\"models\":[");
    for (size_t k = 0; k < w->n_models; k++) {
        char digest[SHA256_HEX];

        hex_of(w->model[k].digest, 32, digest);
        buf_puts(b, k ? ",{\"name\":" : "{\"name\":");
        print_quoted(b, w->model[k].name);
        buf_puts(b, ",\"profile\":");
        print_quoted(b, w->model[k].profile);
        buf_printf(b, ",\"digest\":\"%s\",\"steps\":%" PRId32 ",\"guidance\":%.9g}", digest, w->model[k].steps,
                   (double)w->model[k].guidance);
    }
    ranks_json(b, w);
    buf_puts(b, "]}\n");
}
