/* gate.c - accounts, read again when they change.
 * Believes: zfarm-keys replaces the file whole, so that another inode, size or time is another content.
 * Invariants: G1 a key that is not active in the last file read is nobody.  G2 nothing of a key but its public part is ever logged. */
#include "broker/gate.h"

#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "base/file.h"
#include "base/log.h"
#include "proto/zap.h"

static void tell_zap(struct gate *g)
{
    size_t n = 0;
    uint8_t(*key)[CURVE_BYTES] = calloc(HASH_COUNT(g->ring.account) + 1, CURVE_BYTES);

    if (!key) abort();
    for (const struct account *a = g->ring.account; a; a = a->hh.next)
        if (!a->revoked) memcpy(key[n++], a->public_key, CURVE_BYTES);
    zap_allow(g->zap, (const uint8_t(*)[CURVE_BYTES])key, n);
    free(key);
    log_info("keys", "active=%zu of=%u", n, HASH_COUNT(g->ring.account));
}

int gate_open(struct gate *g, const char *dir, struct err *e)
{
    char path[sizeof g->accounts];
    int  rc;

    memset(g, 0, sizeof *g);
    if (!dir) return 0;
    if (prctl(PR_SET_DUMPABLE, 0)) return err_errno(e, ERR_STATE, "keeping the keys out of core dumps");
    if ((rc = file_join(path, sizeof path, dir, "server.key", e)) || (rc = key_read(&g->server, path, e))) {
        if (rc == ERR_NOTFOUND) err_set(e, rc, "%s: no keys there: zfarm-keys init %s makes them", dir, dir);
        return rc;
    }
    if (g->server.role != KEY_BROKER)
        return err_set(e, ERR_FORMAT, "%s: is the key of %s %s, not a broker's", path, key_role_name(g->server.role), g->server.name);
    if ((rc = file_join(g->accounts, sizeof g->accounts, dir, "accounts", e))) return rc;
    if (stat(g->accounts, &g->seen)) return err_errno(e, ERR_NOTFOUND, "%s", g->accounts);
    if ((rc = keyring_read(&g->ring, g->accounts, e)) || (rc = zap_open(&g->zap, e))) return rc;
    tell_zap(g);
    return 0;
}

void gate_close(struct gate *g)
{
    zap_close(g->zap);
    keyring_release(&g->ring);
    key_wipe(&g->server);
    memset(g, 0, sizeof *g);
}

const struct key *gate_key(const struct gate *g)
{
    return g->zap ? &g->server : NULL;
}

static bool other(const struct stat *a, const struct stat *b)
{
    return a->st_ino != b->st_ino || a->st_dev != b->st_dev || a->st_size != b->st_size || a->st_mtim.tv_sec != b->st_mtim.tv_sec ||
           a->st_mtim.tv_nsec != b->st_mtim.tv_nsec || a->st_mode != b->st_mode || a->st_uid != b->st_uid;
}

bool gate_reload(struct gate *g, bool in_any_case)
{
    struct keyring fresh = {0};
    struct stat    now = {0};
    struct err     e = {0};

    if (!g->zap) return false;
    if (stat(g->accounts, &now) == 0 && !other(&now, &g->seen) && !in_any_case) return false;
    if (!in_any_case && !other(&now, &g->seen)) return false; /* still missing: said once */
    g->seen = now;
    if (keyring_read(&fresh, g->accounts, &e)) {
        log_error("keys_unreadable", "error=\"%s\" next=\"the accounts stay as they were\"", e.text);
        return false;
    }
    keyring_release(&g->ring);
    g->ring = fresh;
    tell_zap(g);
    return true;
}

const struct account *gate_account(const struct gate *g, const uint8_t key[CURVE_BYTES])
{
    const struct account *a = keyring_find(&g->ring, key);

    return a && !a->revoked ? a : NULL;
}

void gate_count(const struct gate *g, uint64_t *n_let_in, uint64_t *n_refused)
{
    *n_let_in = *n_refused = 0;
    if (g->zap) zap_count(g->zap, n_let_in, n_refused);
}

bool gate_may_be(enum key_role who, enum role as)
{
    return as == ROLE_WORKER ? who == KEY_WORKER : who == KEY_CLIENT || who == KEY_ADMIN;
}

bool gate_may_say(enum key_role who, const struct msg *m)
{
    if (who == KEY_ADMIN || m->kind != MSG_CONTROL) return true;
    if (m->control.verb == CONTROL_PAUSE || m->control.verb == CONTROL_RESUME) return m->control.client.len > 0; /* oneself: broker_control.c looks */
    return m->control.verb == CONTROL_REQUEUE; /* of its own jobs: broker_job() looks */
}
