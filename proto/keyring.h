/* keyring.h - the accounts of a farm: whose key is which, and what it may do.
 *
 *   struct keyring r = {0}; keyring_read(&r, "keys/accounts", &e);  a = keyring_find(&r, public_key);  keyring_release(&r);
 *
 * The file is lines "NAME ROLE PUBLIC-KEY active|revoked"; nothing in it is secret, but whoever can write it rules the farm: it is refused
 * when others may. An account may have several keys (a new one before the old is revoked), all of one role.
 * Not here: secrets (key.h), what a role may do (broker/gate.c). */
#ifndef PROTO_KEYRING_H
#define PROTO_KEYRING_H

#include <uthash.h>

#include "proto/key.h"

#define KEYRING_MAX 10000

struct account { /* one key of it */
    uint8_t        public_key[CURVE_BYTES];
    char           name[ACCOUNT_MAX_BYTES + 1];
    enum key_role  role;
    bool           revoked;
    UT_hash_handle hh;
};

struct keyring { /* zeroed: empty */
    struct account *account; /* by public key, in order of the file */
};

/* Fills an empty ring; on failure it stays empty. */
int  keyring_read(struct keyring *r, const char *path, struct err *e);
int  keyring_write(const struct keyring *r, const char *path, struct err *e); /* whole or not at all; mode 0600 */
void keyring_release(struct keyring *r);
/* NULL: unknown. Look at revoked. */
const struct account *keyring_find(const struct keyring *r, const uint8_t public_key[CURVE_BYTES]);
const struct account *keyring_named(const struct keyring *r, const char *name); /* its first key, or NULL */
/* ERR_CONFLICT: the key is there already, or the account has another role. */
int  keyring_add(struct keyring *r, const char *name, enum key_role role, const uint8_t public_key[CURVE_BYTES], struct err *e);
/* All keys of the account, or only the one that begins with these hex digits. Returns how many were active until now. */
size_t keyring_revoke(struct keyring *r, const char *name, const char *hex_prefix);

#endif
