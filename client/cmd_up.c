/* cmd_up.c - a farm on this machine in the foreground: broker and workers as children, their logs on our stderr. */
#include <inttypes.h>
#include <stdio.h>

#include "base/clock.h"
#include "client/commands.h"

#define LOOK_MS 200

static int serve(struct session *s, const char *model, struct err *e)
{
    const char *endpoint = s->local.endpoint;
    int         rc = 0;

    if (s->a->keys) {
        fprintf(stderr,
                "zfarm up: %d worker%s with %s at %s, with the keys of %s\n"
                "  who may come:                 zfarm-keys --dir %s add NAME --role client (or worker)\n"
                "  there:                        export ZFARM_BROKER=tcp://HOST:PORT ZFARM_KEY=NAME.key\n"
                "                                zfarm generate -p \"an orange cat in a green meadow\"\n"
                "  here, without a key:          export ZFARM_BROKER=%s\n"
                "  Ctrl-C lets the workers finish and ends the farm; what was accepted is kept\n",
                s->local.n_workers, s->local.n_workers == 1 ? "" : "s", model, s->a->listen ? s->a->listen : ARGS_BROKER_DEFAULT, s->a->keys, s->a->keys,
                endpoint);
    } else {
        fprintf(stderr,
                "zfarm up: %d worker%s with %s at %s\n"
                "  here and in other terminals:  export ZFARM_BROKER=%s\n"
                "                                zfarm generate -p \"an orange cat in a green meadow\"\n"
                "  one more worker:              zfarm-worker --broker %s --model %s\n"
                "  Ctrl-C lets the workers finish and ends the farm; what was accepted is kept\n",
                s->local.n_workers, s->local.n_workers == 1 ? "" : "s", model, endpoint, endpoint, endpoint, model);
    }
    while (rc == 0 && !session_stop) {
        sleep_ms(LOOK_MS);
        rc = local_check(&s->local, e);
    }
    if (rc == 0) fprintf(stderr, "zfarm up: ending; Ctrl-C again ends at once\n");
    return rc;
}

int cmd_up(struct args *a)
{
    struct session s;
    struct err     e = {0};
    char           model[1024];
    int            rc;

    a->broker = NULL; /* ZFARM_BROKER means another farm */
    session_begin(&s, a);
    rc = session_model(a, &a->row, model, &e);
    if (rc == 0) rc = session_open(&s, model, &e);
    if (rc == 0) {
        client_close(s.client);
        s.client = NULL;
        rc = serve(&s, *model ? model : "(the same files)", &e);
    }
    return session_close(&s, rc, &e);
}
