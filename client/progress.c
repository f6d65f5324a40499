/* progress.c - a bar, plain lines or JSON from the same events.
 * Believes: a line is redrawn only when its text changed and not more than ten times a second: no flicker; what scrolls is whole lines.
 * Invariants: B1 BAR_TTY: p->shown is what stands on the terminal's last line.  B2 JSON: one write per object. */
#include "client/progress.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "client/print.h"

#define REDRAW_MS     100
#define SAY_MS        5000 /* PLAIN: between two lines of a large job */
#define SMALL_JOB     20   /* PLAIN: each image of such a job gets its line */
#define FAILURES_SAID 10
#define BAR_CELLS     24
#define COLS_DEFAULT  80

void bar_init(struct bar *p, enum bar_mode mode, FILE *out, FILE *data)
{
    memset(p, 0, sizeof *p);
    p->mode = mode == BAR_AUTO ? (isatty(fileno(out)) ? BAR_TTY : BAR_PLAIN) : mode;
    p->out = out;
    p->data = data;
}

static size_t columns(const struct bar *p)
{
    struct winsize w;

    if (p->cols > 0) return (size_t)p->cols;
    if (ioctl(fileno(p->out), TIOCGWINSZ, &w) == 0 && w.ws_col >= 20) return w.ws_col;
    return COLS_DEFAULT;
}

static uint32_t n_final(const struct bar *p)
{
    return p->n_there + p->n_done + p->n_failed + p->n_canceled;
}

/* Images per second since the first sign of work; 0: not known. */
static double rate(const struct bar *p, int64_t now_ms)
{
    if (!p->first_ms || now_ms - p->first_ms < 200) return 0;
    return (p->units - p->units_first) * 1000.0 / (double)(now_ms - p->first_ms);
}

static void put_rate(const struct bar *p, int64_t now_ms, struct buf *out)
{
    double  r = rate(p, now_ms), left = p->n_images - (p->units + p->n_there);
    int64_t eta_s;

    if (r <= 0 || left <= 0) return;
    if (r >= 0.5)
        buf_printf(out, "%.1f images/s", r);
    else
        buf_printf(out, "%.1f s/image", 1.0 / r);
    eta_s = (int64_t)ceil(left / r);
    if (eta_s < 60)
        buf_printf(out, ", ETA %" PRId64 " s", eta_s);
    else {
        buf_puts(out, ", ETA ");
        print_span(out, eta_s * 1000);
    }
}

static void cut(const struct buf *whole, size_t cols, struct buf *out)
{
    print_safe(out, buf_str(whole), cols);
}

void bar_line(const struct bar *p, int64_t now_ms, size_t cols, struct buf *out)
{
    struct buf b;
    size_t     full =
        p->n_images ? (size_t)(((double)n_final(p) + p->units - p->n_done - p->n_failed - p->n_canceled) * BAR_CELLS / p->n_images) : 0;

    buf_init(&b, 4096);
    if (p->job) buf_printf(&b, "job %" PRIu64 " ", p->job);
    if (cols >= 60) {
        buf_putc(&b, '[');
        for (size_t i = 0; i < BAR_CELLS; i++) buf_putc(&b, i < full ? '#' : '.');
        buf_puts(&b, "] ");
    }
    buf_printf(&b, "%" PRIu32 "/%" PRIu32, p->n_there + p->n_done, p->n_images);
    if (p->n_failed) buf_printf(&b, " (%" PRIu32 " failed)", p->n_failed);
    if (p->n_canceled) buf_printf(&b, " (%" PRIu32 " canceled)", p->n_canceled);
    if (n_final(p) < p->n_images) {
        if (p->note[0]) {
            buf_printf(&b, "  %s", p->note);
        } else {
            if (rate(p, now_ms) > 0) buf_puts(&b, "  ");
            put_rate(p, now_ms, &b);
        }
        if (p->running[0]) buf_printf(&b, "  %s", p->running);
    } else if (p->n_done && p->first_ms) {
        buf_puts(&b, "  in ");
        print_span(&b, now_ms - p->begun_ms);
    }
    cut(&b, cols, out);
    buf_release(&b);
}

/* Everything of a buf to a stream in one write; a closed pipe is not our failure. */
static void write_out(FILE *f, struct buf *b)
{
    fflush(f);
    for (size_t at = 0; at < b->len;) {
        ssize_t n = write(fileno(f), b->at + at, b->len - at);

        if (n <= 0) break;
        at += (size_t)n;
    }
    buf_release(b);
}

static void redraw(struct bar *p, int64_t now_ms, bool force)
{
    struct buf line, out;

    if (p->mode != BAR_TTY || p->n_images == 0 || p->ended) return;
    if (!force && p->drawn_ms && now_ms - p->drawn_ms < REDRAW_MS) return;
    buf_init(&line, sizeof p->shown - 1);
    buf_init(&out, 2048);
    bar_line(p, now_ms, columns(p) - 1, &line);
    if (strcmp(line.at ? line.at : "", p->shown) != 0) {
        buf_printf(&out, "\r%s\033[K", line.at);
        memcpy(p->shown, line.at, line.len + 1);
        write_out(p->out, &out);
    }
    p->drawn_ms = now_ms;
    buf_release(&out);
    buf_release(&line);
}

/* A whole line; above the bar when there is one. Takes the text. */
static void scroll(struct bar *p, struct buf *text, int64_t now_ms)
{
    struct buf out;

    buf_init(&out, 8192);
    if (p->mode == BAR_TTY && p->shown[0]) buf_puts(&out, "\r\033[K");
    p->shown[0] = '\0';
    buf_put(&out, text->at, text->len);
    buf_putc(&out, '\n');
    buf_release(text);
    write_out(p->out, &out);
    redraw(p, now_ms, true);
}

static bool people(const struct bar *p)
{
    return p->mode == BAR_TTY || p->mode == BAR_PLAIN;
}

static void worked(struct bar *p, int64_t now_ms)
{
    if (p->first_ms) return;
    p->first_ms = now_ms;
    p->units_first = p->n_failed + p->n_canceled;
}

/* PLAIN: "12/50 images, 3.1 images/s, ETA 12 s" when it is time. */
static void plain_count(struct bar *p, int64_t now_ms)
{
    struct buf b;

    if (p->mode != BAR_PLAIN || now_ms - p->said_ms < SAY_MS || n_final(p) >= p->n_images) return;
    p->said_ms = now_ms;
    buf_init(&b, 4096);
    buf_printf(&b, "%" PRIu32 "/%" PRIu32 " images", p->n_there + p->n_done, p->n_images);
    if (rate(p, now_ms) > 0) buf_puts(&b, ", ");
    put_rate(p, now_ms, &b);
    if (p->running[0]) buf_printf(&b, " (%s)", p->running);
    scroll(p, &b, now_ms);
}

void bar_begin(struct bar *p, uint64_t job, uint32_t n_images, uint32_t n_there, int64_t now_ms)
{
    struct buf b;

    p->note[0] = '\0';
    p->job = job;
    p->n_images = n_images;
    p->n_there = n_there;
    p->begun_ms = p->said_ms = now_ms;
    buf_init(&b, 4096);
    if (p->mode == BAR_JSON) {
        buf_printf(&b, "{\"event\":\"begin\",\"job\":%" PRIu64 ",\"images\":%" PRIu32 ",\"there\":%" PRIu32 "}\n", job, n_images, n_there);
        write_out(p->data, &b);
    } else if (p->mode == BAR_PLAIN && n_images > 1) {
        if (job) buf_printf(&b, "job %" PRIu64 ": ", job);
        buf_printf(&b, "%" PRIu32 " images", n_images);
        if (n_there) buf_printf(&b, ", %" PRIu32 " there already", n_there);
        scroll(p, &b, now_ms);
    }
    buf_release(&b);
    redraw(p, now_ms, true);
}

void bar_image(struct bar *p, uint32_t index, const char *file, uint64_t seed, uint32_t took_ms, struct str worker, const char *sha256_hex,
               int64_t now_ms)
{
    struct buf b;

    worked(p, now_ms - took_ms);
    p->n_done++;
    p->units = p->n_done + p->n_failed + p->n_canceled; /* until the next report of what runs */
    buf_init(&b, 16384);
    if (p->mode == BAR_JSON) {
        buf_printf(&b, "{\"event\":\"image\",\"index\":%" PRIu32 ",\"seed\":%" PRIu64 ",\"file\":", index, seed);
        print_quoted(&b, str_of(file));
        buf_printf(&b, ",\"sha256\":\"%s\",\"took_ms\":%" PRIu32 ",\"worker\":", sha256_hex, took_ms);
        print_quoted(&b, worker);
        buf_puts(&b, "}\n");
        write_out(p->data, &b);
    } else if (p->mode == BAR_PLAIN && p->n_images <= SMALL_JOB && file[0]) {
        buf_printf(&b, "%" PRIu32 "/%" PRIu32 "  ", p->n_there + p->n_done, p->n_images);
        print_safe(&b, str_of(file), 400);
        buf_printf(&b, "  seed %" PRIu64 ", ", seed);
        print_span(&b, took_ms);
        p->said_ms = now_ms;
        scroll(p, &b, now_ms);
    }
    buf_release(&b);
    plain_count(p, now_ms);
    redraw(p, now_ms, false);
}

void bar_there(struct bar *p, uint32_t n, int64_t now_ms)
{
    p->n_there += n;
    redraw(p, now_ms, false);
}

void bar_failed(struct bar *p, uint32_t index, struct str sentence, int64_t now_ms)
{
    struct buf b;

    if (p->n_failed == 0)
        snprintf(p->first_failure, sizeof p->first_failure, "%.*s", (int)(sentence.len < 300 ? sentence.len : 300), sentence.at);
    p->n_failed++;
    p->units = p->n_done + p->n_failed + p->n_canceled;
    if (p->first_ms == 0) p->units_first = p->units;
    buf_init(&b, 16384);
    if (p->mode == BAR_JSON) {
        buf_printf(&b, "{\"event\":\"failed\",\"index\":%" PRIu32 ",\"error\":", index);
        print_quoted(&b, sentence);
        buf_puts(&b, "}\n");
        write_out(p->data, &b);
    } else if (people(p) && p->n_images > 1 && p->n_failures_said < FAILURES_SAID) { /* a single one is the command's last sentence */
        p->n_failures_said++;
        buf_printf(&b, "image %" PRIu32 " failed: ", index);
        print_safe(&b, sentence, 900);
        if (p->n_failures_said == FAILURES_SAID) buf_puts(&b, "  (further failures are only counted)");
        scroll(p, &b, now_ms);
    }
    buf_release(&b);
    redraw(p, now_ms, false);
}

void bar_canceled(struct bar *p, uint32_t n, int64_t now_ms)
{
    p->n_canceled += n;
    p->units = p->n_done + p->n_failed + p->n_canceled;
    if (p->first_ms == 0) p->units_first = p->units;
    redraw(p, now_ms, false);
}

static void running_text(struct bar *p, const struct progress *row, size_t n)
{
    size_t used = 0, shown = 0, active = 0;

    p->running[0] = '\0';
    for (size_t k = 0; k < n; k++) {
        int w;

        if (row[k].stage == STAGE_WAITING) continue; /* a worker holds it, and makes another */
        active++;
        if (shown == 4) continue;
        shown++;

        if (row[k].stage == STAGE_DENOISE) {
            w = snprintf(p->running + used, sizeof p->running - used, "%s#%" PRIu32 " step %" PRIu32 "/%" PRIu32, used ? ", " : "",
                         row[k].index, row[k].step, row[k].steps);
        } else {
            w = snprintf(p->running + used, sizeof p->running - used, "%s#%" PRIu32 " %s", used ? ", " : "", row[k].index,
                         stage_name(row[k].stage));
        }
        if (w < 0 || (size_t)w >= sizeof p->running - used) break;
        used += (size_t)w;
    }
    if (active > shown) snprintf(p->running + used, sizeof p->running - used, ", %zu more", active - shown);
}

static void running_json(struct bar *p, const struct progress *row, size_t n)
{
    for (size_t k = 0; k < n; k++) {
        struct buf b;

        buf_init(&b, 4096);
        buf_printf(&b,
                   "{\"event\":\"progress\",\"index\":%" PRIu32 ",\"stage\":\"%s\",\"step\":%" PRIu32 ",\"steps\":%" PRIu32 ",\"worker\":",
                   row[k].index, stage_name(row[k].stage), row[k].step, row[k].steps);
        print_quoted(&b, row[k].worker);
        buf_puts(&b, "}\n");
        write_out(p->data, &b);
    }
}

void bar_running(struct bar *p, const struct progress *row, size_t n, int64_t now_ms)
{
    char   before[sizeof p->running];
    double share = 0;

    memcpy(before, p->running, sizeof before);
    for (size_t k = 0; k < n; k++) {
        if (row[k].stage == STAGE_DENOISE && row[k].steps) share += 0.95 * row[k].step / row[k].steps;
        if (row[k].stage == STAGE_DECODE || row[k].stage == STAGE_UPLOAD) share += 0.95;
        if (row[k].stage >= STAGE_TEXT) worked(p, now_ms);
    }
    p->units = p->n_done + p->n_failed + p->n_canceled + share;
    running_text(p, row, n);
    if (p->mode == BAR_JSON && strcmp(before, p->running) != 0) running_json(p, row, n);
    plain_count(p, now_ms);
    redraw(p, now_ms, false);
}

void bar_caught_up(struct bar *p, int64_t now_ms)
{
    if (!p->first_ms) return;
    p->first_ms = now_ms;
    p->units_first = p->units;
}

void bar_say(struct bar *p, const char *event, const char *text, int64_t now_ms)
{
    struct buf b;

    buf_init(&b, 8192);
    if (p->mode == BAR_JSON) {
        buf_printf(&b, "{\"event\":\"%s\",\"text\":", event);
        print_quoted(&b, str_of(text));
        buf_puts(&b, "}\n");
        write_out(p->data, &b);
    } else if (people(p)) {
        print_safe(&b, str_of(text), 2000);
        scroll(p, &b, now_ms);
    }
    buf_release(&b);
}

void bar_wait(struct bar *p, const char *text, int64_t waited_ms)
{
    struct buf line, out;

    if (p->mode != BAR_TTY) {
        if (!p->note[0]) bar_say(p, "waiting", text, 0);
        snprintf(p->note, sizeof p->note, "%.100s", text);
        return;
    }
    buf_init(&line, 4096);
    buf_init(&out, 2048);
    buf_printf(&line, "%.400s ", text);
    print_span(&line, waited_ms);
    buf_puts(&out, "\r");
    print_safe(&out, buf_str(&line), columns(p) - 1);
    buf_puts(&out, "\033[K");
    snprintf(p->shown, sizeof p->shown, "%.100s", text);
    write_out(p->out, &out);
    buf_release(&line);
}

void bar_note(struct bar *p, struct str text, int64_t now_ms)
{
    struct buf b;
    char       now[sizeof p->note];

    buf_init(&b, sizeof now - 1);
    print_safe(&b, text, 120);
    snprintf(now, sizeof now, "%s", b.at ? b.at : "");
    buf_release(&b);
    if (strcmp(now, p->note) == 0) return;
    memcpy(p->note, now, sizeof now);
    if (now[0] && (p->mode != BAR_TTY || p->n_images == 0)) bar_say(p, "note", now, now_ms);
    redraw(p, now_ms, true);
}

void bar_end(struct bar *p, int64_t now_ms)
{
    struct buf b;

    if (p->ended) return;
    p->running[0] = p->note[0] = '\0';
    redraw(p, now_ms, true);
    p->ended = true;
    buf_init(&b, 4096);
    if (p->mode == BAR_JSON) {
        buf_printf(&b,
                   "{\"event\":\"end\",\"job\":%" PRIu64 ",\"images\":%" PRIu32 ",\"done\":%" PRIu32 ",\"failed\":%" PRIu32
                   ",\"canceled\":%" PRIu32 ",\"took_ms\":%" PRId64 "}\n",
                   p->job, p->n_images, p->n_there + p->n_done, p->n_failed, p->n_canceled, now_ms - p->begun_ms);
        write_out(p->data, &b);
    } else if (p->mode == BAR_TTY && p->shown[0]) {
        buf_putc(&b, '\n');
        write_out(p->out, &b);
        p->shown[0] = '\0';
    } else if (p->mode == BAR_PLAIN && p->n_images > 1) {
        buf_printf(&b, "%" PRIu32 "/%" PRIu32 " images in ", p->n_there + p->n_done, p->n_images);
        print_span(&b, now_ms - p->begun_ms);
        if (p->n_failed) buf_printf(&b, ", %" PRIu32 " failed", p->n_failed);
        if (p->n_canceled) buf_printf(&b, ", %" PRIu32 " canceled", p->n_canceled);
        buf_putc(&b, '\n');
        write_out(p->out, &b);
    }
    buf_release(&b);
}
