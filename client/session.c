/* session.c - start or find a farm, and leave nothing behind.
 * Believes: signals only set a number; whoever waits looks at it. */
#include "client/session.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "client/print.h"
#include "proto/peer.h"

volatile sig_atomic_t session_stop;

static void on_signal(int signo)
{
    (void)signo;
    if (session_stop < 100) session_stop = session_stop + 1;
}

void session_begin(struct session *s, const struct args *a)
{
    struct sigaction act = {.sa_handler = on_signal}; /* no SA_RESTART: waits end */

    memset(s, 0, sizeof *s);
    s->a = a;
    sigemptyset(&act.sa_mask);
    sigaction(SIGINT, &act, NULL);
    sigaction(SIGTERM, &act, NULL);
    sigaction(SIGHUP, &act, NULL);
    signal(SIGPIPE, SIG_IGN);
    bar_init(&s->bar, a->json ? BAR_JSON : a->quiet ? BAR_SILENT : BAR_AUTO, stderr, stdout);
}

static int default_model(char dir[1024], struct err *e)
{
    char    self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    char   *slash;

    snprintf(dir, 1024, "models/demo");
    if (file_is_folder(dir)) return 0;
    if (n > 0) {
        self[n] = '\0';
        slash = strrchr(self, '/');
        if (slash) *slash = '\0';
        if (slash && strlen(self) < 900) {
            snprintf(dir, 1024, "%.900s/../share/zfarm/models/demo", self);
            if (file_is_folder(dir)) return 0;
        }
    }
    return err_set(e, ERR_NOTFOUND, "no model: give its folder with --model DIR (or ZFARM_MODEL), or a farm with --broker ENDPOINT");
}

int session_model(const struct args *a, struct row *row, char dir[1024], struct err *e)
{
    const char *said = a->model ? a->model : a->model_env;
    bool        folder;

    dir[0] = '\0';
    if (a->broker && (a->dit || a->text_encoder || a->vae || a->tokenizer || a->profile)) {
        return err_set(e, ERR_ARG, "--dit, --text-encoder, --vae, --tokenizer and --profile are for a farm of one's own: with --broker its workers have them");
    }
    if (a->dit && a->text_encoder && a->vae && !a->model) return 0; /* a set of files is a model */
    if (a->broker && !a->model) return 0; /* the farm's default, or what the rows say */
    if (!a->broker && !said) return default_model(dir, e);
    folder = strchr(said, '/') || file_is_folder(said);
    if (a->broker && folder) {
        return err_set(e, ERR_ARG, "--model %.150s is a folder; with --broker give a model's name: zfarm workers lists them", said);
    }
    if (a->broker) return field_set(row, str_of("model"), str_of(said), e);
    if (!file_is_folder(said)) {
        return err_set(e, ERR_NOTFOUND, "no model folder at %.200s%s", said,
                       folder ? "" : ": give a folder, or --broker for a farm that knows the name");
    }
    if (strlen(said) >= 1024) return err_set(e, ERR_LIMIT, "the model folder's path is too long");
    snprintf(dir, 1024, "%s", said);
    return 0;
}

static void on_away(void *ctx, bool away)
{
    struct session *s = ctx;

    bar_note(&s->bar, str_of(away ? "the broker is away, waiting" : ""), now_ms());
}

static void on_busy(void *ctx, struct str why)
{
    struct session *s = ctx;

    bar_note(&s->bar, why, now_ms());
}

static int on_idle(void *ctx, struct err *e)
{
    struct session *s = ctx;

    return s->embedded ? local_check(&s->local, e) : 0;
}

static void say(void *ctx, int64_t waited_ms)
{
    struct session *s = ctx;
    char            text[300];

    snprintf(text, sizeof text, "loading %.250s", s->model);
    bar_wait(&s->bar, text, waited_ms);
}

int session_open(struct session *s, const char *model_dir, struct err *e)
{
    const struct args *a = s->a;
    struct client_opts o = {.endpoint = a->broker,
                            .job_class = a->job_class ? a->job_class : a->command == ARGS_GENERATE ? CLASS_INTERACTIVE : CLASS_NORMAL,
                            .timeout_ms = a->timeout_ms,
                            .patience_ms = a->patience_ms,
                            .deadline_ms = (uint64_t)a->deadline_ms,
                            .away = on_away,
                            .busy = on_busy,
                            .idle = on_idle,
                            .ctx = s,
                            .stop = &session_stop};
    int                rc = 0;

    if (!a->broker) {
        struct local_opts lo = {
            .model = model_dir, .dit = a->dit, .text_encoder = a->text_encoder, .vae = a->vae, .tokenizer = a->tokenizer,
            .profile = a->profile, .device = a->device, .place = a->place, .n_places = a->n_places, .precision = a->precision,
            .vram_budget = a->vram_budget, .n_workers = a->n_workers, .n_threads = a->n_threads, .stop = &session_stop};

        if (a->command == ARGS_UP) {
            lo.listen = a->listen ? a->listen : ARGS_BROKER_DEFAULT;
            lo.data = a->data ? a->data : "zfarm-data";
            lo.keys = a->keys;
            lo.show_logs = true;
        }
        s->model = *model_dir ? model_dir : a->dit;
        rc = local_open(&s->local, &lo, e);
        if (rc) return rc;
        s->embedded = true;
        o.endpoint = s->local.endpoint;
    }
    if (!s->embedded && a->key) {
        rc = key_load(&s->key, a->key, a->server_key, e);
        if (rc) return rc;
        o.key = &s->key;
    }
    rc = client_open(&s->client, &o, e);
    key_wipe(&s->key); /* the client has its own */
    if (rc == 0 && s->embedded) rc = local_ready(&s->local, s->client, say, s, &session_stop, e);
    return rc;
}

void session_complain(const struct args *a, const char *text)
{
    struct buf b;

    buf_init(&b, 8192);
    if (a->json) {
        buf_puts(&b, "{\"event\":\"error\",\"text\":");
        print_quoted(&b, str_of(text));
        buf_puts(&b, "}\n");
        fwrite(b.at, 1, b.len, stdout);
        fflush(stdout);
    }
    buf_clear(&b);
    print_safe(&b, str_of(text), 2000);
    fprintf(stderr, "zfarm %s: %s\n", args_command_word(a->command), b.at ? b.at : "failed");
    buf_release(&b);
}

int session_close(struct session *s, int rc, const struct err *e)
{
    client_close(s->client);
    s->client = NULL;
    peer_shutdown();
    if (s->embedded) local_close(&s->local, s->a->command == ARGS_UP ? 30000 : 0, &session_stop);
    if (rc) session_complain(s->a, e->text);
    return rc ? 1 : 0;
}
