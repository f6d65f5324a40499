/* ending.c - how commands that make images end: the sheet, the verdict, the words after Ctrl-C. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "client/commands.h"

#define SHEET_NAME "sheet.png"

int ending_sheet_path(const struct args *a, const char *dir, char path[GATHER_PATH_BYTES], struct err *e)
{
    if (a->sheet && a->sheet[0]) {
        if (strlen(a->sheet) >= GATHER_PATH_BYTES) return err_set(e, ERR_LIMIT, "the sheet's path is too long");
        snprintf(path, GATHER_PATH_BYTES, "%s", a->sheet);
        return gather_target_check(path, e);
    }
    return file_join(path, GATHER_PATH_BYTES, dir, SHEET_NAME, e);
}

const char *ending_reserved(const struct args *a)
{
    return a->sheet_said && !a->sheet[0] ? SHEET_NAME : NULL;
}

int ending_verdict(const struct follow *f, uint32_t n_images, const struct session *s, struct err *e)
{
    const struct bar *bar = &s->bar;
    char              again[80] = "";

    if (!s->embedded) snprintf(again, sizeof again, " (once more: zfarm requeue %" PRIu64 ")", f->job);
    if (f->n_failed == 0 && f->n_canceled == 0) return 0;
    if (f->n_failed == 0) return err_set(e, ERR_CANCELED, "%" PRIu32 " of %" PRIu32 " images were canceled", f->n_canceled, n_images);
    if (bar->mode == BAR_SILENT || n_images == 1)
        return err_set(e, ERR_STATE, "%" PRIu32 " of %" PRIu32 " images failed: %.250s%s", f->n_failed, n_images, bar->first_failure, again);
    return err_set(e, ERR_STATE, "%" PRIu32 " of %" PRIu32 " images failed%s", f->n_failed, n_images, again);
}

void ending_interrupted(const struct session *s, uint64_t job, const char *how, struct err *e)
{
    const char *at = client_endpoint(s->client);

    if (s->embedded || job == 0) return;
    err_set(e, ERR_CANCELED,
            "interrupted; job %" PRIu64 " goes on. Gather it: zfarm gather %" PRIu64
            " -o DIR --broker %.80s%s. End it: zfarm cancel %" PRIu64 " --broker %.80s",
            job, job, at, how, job, at);
}

void ending_where(const struct session *s, const char *dir, const char *sheet)
{
    size_t n = strlen(dir);

    if (s->bar.mode != BAR_TTY && s->bar.mode != BAR_PLAIN) return;
    fprintf(stderr, "images in %s%s", dir, n && dir[n - 1] == '/' ? "" : "/");
    if (sheet[0]) fprintf(stderr, ", contact sheet %s", sheet);
    fprintf(stderr, "\n");
}
