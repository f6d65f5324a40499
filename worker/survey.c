/* survey.c - see survey.h. Believes: a survey is done once, before the supervisor begins; what becomes free later is not looked at again. */
#include "worker/survey.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/msg.h"
#include "worker/foreman.h"
#include "worker/layout.h"

#define WORDS_MAX (LAYOUT_CARDS_MAX * PLACE_DEVICE_BYTES)

struct choice { /* what the asking process tells */
    int          rc;
    struct err   why;
    struct place place;
    char         device[WORDS_MAX]; /* without a group: "cuda:0,cuda:2", "cpu" */
};

static int ask(const struct worker_conf *conf, const char *device, struct engine_sizes *out, struct err *e)
{
    struct engine_opts o = {.model_dir = conf->model_dir, .dit = conf->dit, .text_encoder = conf->text_encoder, .vae = conf->vae,
                            .tokenizer = conf->tokenizer, .profile = conf->profile, .device = device, .parts = ENGINE_BOTH, .n_threads = conf->n_threads};

    o.precision = worker_conf_precision(conf->precision);
    return engine_sizes(&o, out, e);
}

static int budget_of(const struct worker_conf *conf, size_t *bytes, struct err *e)
{
    *bytes = 0;
    return conf->vram_budget ? worker_conf_budget(conf->vram_budget, bytes, e) : 0;
}

/* ---- a plan, line by line ---- */

static int row(FILE *f, const struct worker_conf *conf, const char *device, uint32_t parts, struct err *e)
{
    struct engine_sizes s;
    struct layout_row   r;
    size_t              budget;
    char                text[512];
    int                 rc;

    if ((rc = budget_of(conf, &budget, e)) || (rc = ask(conf, device, &s, e))) return rc;
    if ((rc = layout_row(&s, parts, s.on_gpu ? budget : 0, &r, e))) return rc;
    fprintf(f, "%s\n", layout_about(&r, &s, text, sizeof text));
    return 0;
}

/* Every device is asked, also when one before it is too small. */
static int rows_of_group(FILE *f, const struct worker_conf *conf, const struct place *p, struct err *e)
{
    char line[PLACE_LINE_BYTES];
    int  rc = 0;

    fprintf(f, "%s\n", place_line(p, line));
    for (int i = 0; i < place_ranks(p); i++) {
        struct err why = {0};
        int        bad = row(f, conf, place_device(p, i), place_parts(p, i), &why);

        if (!bad) continue;
        fprintf(f, "%-8s %-16s cannot be: %s\n", place_device(p, i), rank_parts_name(place_parts(p, i)), why.text);
        if (!rc) rc = err_set(e, bad, "%s", why.text);
    }
    return rc;
}

static int rows_of_devices(FILE *f, const struct worker_conf *conf, const char *devices, struct err *e)
{
    const struct place none = {0};
    struct foreman_set set;
    int                rc = foreman_devices(&set, devices, foreman_gpus, e);

    if (!rc) fprintf(f, "all on each device: %s\n", devices);
    for (int i = 0; !rc && i < set.n; i++) rc = row(f, conf, set.word[i], place_parts(&none, 0), e);
    return rc;
}

/* ---- auto ---- */

static void devices_of(const struct layout *l, const struct engine_sizes *card, char *words)
{
    size_t n = 0;

    for (int i = 0; i < l->n_each; i++) n += (size_t)snprintf(words + n, WORDS_MAX - n, "%s%s", i ? "," : "", card[l->each[i]].device);
    if (!l->n_each) snprintf(words, WORDS_MAX, "cpu");
}

static int choose(FILE *f, const struct worker_conf *conf, struct choice *c, struct err *e)
{
    struct engine_sizes card[LAYOUT_CARDS_MAX];
    struct layout       l;
    size_t              budget;
    int                 n = foreman_gpus(), rc;

    if (n > LAYOUT_CARDS_MAX) n = LAYOUT_CARDS_MAX;
    if ((rc = budget_of(conf, &budget, e))) return rc;
    for (int i = 0; i < n; i++) {
        char device[PLACE_DEVICE_BYTES];

        snprintf(device, sizeof device, "cuda:%d", i);
        if ((rc = ask(conf, device, &card[i], e))) return rc;
    }
    if ((rc = layout_choose(card, n, budget, &l, e))) return rc;
    fprintf(f, "auto: %s\n", l.why);
    c->place = l.place;
    devices_of(&l, card, c->device);
    return l.place.n_image ? rows_of_group(f, conf, &l.place, e) : rows_of_devices(f, conf, c->device, e);
}

bool survey_wanted(const struct worker_conf *conf)
{
    return strcmp(conf->place_words, "auto") == 0;
}

int survey_print(struct worker_conf *conf, struct err *e)
{
    struct choice c = {0};
    int           rc = survey_wanted(conf)   ? choose(stdout, conf, &c, e)
                       : conf->place.n_image ? rows_of_group(stdout, conf, &conf->place, e)
                                             : rows_of_devices(stdout, conf, conf->device, e);

    if (fflush(stdout) && !rc) rc = err_errno(e, ERR_IO, "printing the plan");
    return rc;
}

/* In the asking process; never returns. */
static void tell(const struct worker_conf *conf, int fd)
{
    static struct choice c;

    c.rc = choose(stderr, conf, &c, &c.why);
    fflush(stderr);
    _exit(write(fd, &c, sizeof c) == (ssize_t)sizeof c ? 0 : 1);
}

int survey_choose(struct worker_conf *conf, struct err *e)
{
    static struct choice c;
    int                  fd[2], status = 0;
    ssize_t              n;
    pid_t                pid;

    if (pipe(fd)) return err_errno(e, ERR_IO, "a pipe from the process that asks the devices");
    pid = fork();
    if (pid == 0) tell(conf, fd[1]);
    close(fd[1]);
    do n = pid > 0 ? read(fd[0], &c, sizeof c) : -1;
    while (pid > 0 && n < 0 && errno == EINTR);
    close(fd[0]);
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
    if (n != (ssize_t)sizeof c) return err_set(e, ERR_STATE, "the process that asks the devices what they have free ended without an answer: say --place yourself");
    if (c.rc) return err_set(e, c.rc, "%s", c.why.text);
    if (c.place.n_image) worker_conf_placed(conf, &c.place);
    else conf->device = c.device;
    return 0;
}
