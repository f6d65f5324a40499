/* session.h - a command's way to a farm: a broker that was named, or a farm of its own; signals; the bar; the last sentence.
 *
 *   struct session s; rc = session_open(&s, &a, &e);   s.client, s.bar   ...   return session_close(&s, rc, &e);     the exit code
 *
 * Not here: what the command does. */
#ifndef CLIENT_SESSION_H
#define CLIENT_SESSION_H

#include <signal.h>

#include "client/args.h"
#include "client/client.h"
#include "client/local.h"
#include "client/progress.h"

extern volatile sig_atomic_t session_stop; /* SIGINT, SIGTERM, SIGHUP: how many came */

struct session {
    const struct args *a;
    struct local       local;
    bool               embedded;
    struct client     *client;
    struct key         key;
    struct bar         bar;
    const char        *model; /* the folder, of an own farm */
};

/* Signals and bar. Nothing is started. */
void session_begin(struct session *s, const struct args *a);
/* The model as a folder (embedded) or a name (broker) into the row's spec; nothing is started yet. dir receives the folder, "" with a broker. */
int session_model(const struct args *a, struct row *row, char dir[1024], struct err *e);
/* Starts the farm when there is no broker (model_dir), connects, waits until a worker of an own farm is ready. */
int session_open(struct session *s, const char *model_dir, struct err *e);
/* Ends what was started; prints the sentence of a failure; the exit code: 0 or 1 (2 for ERR_ARG when usage). */
int session_close(struct session *s, int rc, const struct err *e);
/* A failure's sentence on stderr, and as an event with --json. */
void session_complain(const struct args *a, const char *text);

#endif
