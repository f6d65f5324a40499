/* gate.h - who is it, and what may they do.
 *
 *   struct gate g; gate_open(&g, "keys", &e);   peer_bind(..., {.key = gate_key(&g)});   a = gate_account(&g, peer_user(p));   gate_close(&g);
 *
 * With a folder of keys every tcp:// listener asks for one, and the ZAP handler lets in those that are active in DIR/accounts. The file is looked
 * at twice a second; what it says counts from then on, on open connections, too: ZeroMQ cannot end one, so each message is judged.
 * Without a folder, and on ipc://, who comes is this user, on this machine: the owner, as an admin.
 * What a role may do: struct passage, below; docs/SECURITY.md in prose.
 * Not here: sessions (broker_session.c), the handshake (proto/zap.c). */
#ifndef BROKER_GATE_H
#define BROKER_GATE_H

#include <sys/stat.h>

#include "proto/keyring.h"
#include "proto/msg.h"

struct zap;

struct gate {
    char           accounts[4096]; /* path; "": no keys */
    struct key     server;
    struct keyring ring;
    struct zap    *zap;
    struct stat    seen; /* of the file when it was read */
};

/* dir NULL: no keys. Takes the process out of core dumps and ptrace when there are some. */
int  gate_open(struct gate *g, const char *dir, struct err *e);
void gate_close(struct gate *g); /* after the listeners; a zeroed one is fine */
const struct key *gate_key(const struct gate *g); /* NULL: no keys */
/* Reads the accounts again when the file is another one, or when told to. true: done, sessions must be looked at again. A file that
 * cannot be read leaves everything as it was, and says so in the log. */
bool gate_reload(struct gate *g, bool in_any_case);
/* NULL: unknown or revoked. Yours until the next gate_reload(). */
const struct account *gate_account(const struct gate *g, const uint8_t key[CURVE_BYTES]);
void gate_count(const struct gate *g, uint64_t *n_let_in, uint64_t *n_refused); /* handshakes judged */
/* May a key of this role say HELLO as that? An admin is a client that sees everything. */
bool gate_may_be(enum key_role who, enum role as);
/* May it, having said HELLO, say this? What is not named here is for admins. (Whose jobs it speaks of is the handlers' to ask: broker_job().) */
bool gate_may_say(enum key_role who, const struct msg *m);

#endif
