/* key.h - a CURVE key in a file: who somebody is.
 *
 *   struct key k; key_make(&k, "alice", KEY_CLIENT, server_public);  key_write(&k, "alice.key", &e);       made once, mode 0600
 *   key_read(&k, path, &e);  peer_connect_as(&p, endpoint, &k, &e);  key_wipe(&k);
 *
 * A file is lines "word value": name, role, public, secret and, of all but the broker's own, server: the broker's public key, by which it is
 * known. Keys are 64 hex digits. '#' begins a comment.
 * A file that others can read is refused: whoever has read it is its owner, for the broker.
 * Not here: which keys a broker takes (keyring.h). */
#ifndef PROTO_KEY_H
#define PROTO_KEY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/hash.h"
#include "base/str.h"

#define ACCOUNT_MAX_BYTES 63

enum key_role { KEY_CLIENT = 1, KEY_WORKER, KEY_ADMIN, KEY_BROKER };

struct key {
    char          name[ACCOUNT_MAX_BYTES + 1];
    enum key_role role;
    uint8_t       public_key[CURVE_BYTES], secret[CURVE_BYTES];
    uint8_t       server[CURVE_BYTES]; /* the broker's public key */
    bool          has_server;
};

const char *key_role_name(enum key_role r); /* "client", "worker", "admin", "broker" */
bool        key_role_parse(struct str word, enum key_role *out);
/* 1..63 of a-z A-Z 0-9 . _ -, beginning with a letter or digit; not "server", whose file is the broker's. ERR_ARG. */
int  key_name_check(struct str name, struct err *e);
/* "64 hex digits" into out. ERR_ARG, with what the digits are for. */
int  key_hex(struct str text, const char *what, uint8_t out[CURVE_BYTES], struct err *e);
/* A new pair; server may be NULL (not known, or the broker's own). */
void key_make(struct key *k, const char *name, enum key_role role, const uint8_t *server);
/* ERR_FORMAT: not a key file, or its public part is not its secret's. ERR_STATE: others can read it. */
int  key_read(struct key *k, const char *path, struct err *e);
/* The key of somebody who connects. server_hex: the broker's public key, when the file does not tell it, or another one; NULL: as the file says.
 * ERR_ARG: nobody's but a broker's key, or no broker is known. */
int  key_load(struct key *k, const char *path, const char *server_hex, struct err *e);
/* A new file, mode 0600; ERR_CONFLICT when one is there. */
int  key_write(const struct key *k, const char *path, struct err *e);
void key_wipe(struct key *k);

#endif
