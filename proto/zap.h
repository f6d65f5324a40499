/* zap.h - who may shake hands: the handler that ZeroMQ asks about every key (ZAP, rfc.zeromq.org/spec/27), on a thread of its own.
 *
 *   struct zap *z; zap_open(&z, &e);  zap_allow(z, keys, n);  ... peers with keys listen ...  peer_close(all);  zap_close(z);  peer_shutdown();
 *
 * One per process, before the first listener with keys. What it lets in carries its public key as User-Id (peer_user()).
 * A key is asked about once per connection: one that is taken away later must be refused message by message (broker/gate.c). */
#ifndef PROTO_ZAP_H
#define PROTO_ZAP_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/hash.h"

struct zap;

int  zap_open(struct zap **out, struct err *e); /* lets nobody in yet. ERR_CONFLICT: one is there */
void zap_allow(struct zap *z, const uint8_t (*key)[CURVE_BYTES], size_t n); /* these and no others, from now on; any thread */
void zap_count(struct zap *z, uint64_t *n_let_in, uint64_t *n_refused);     /* since zap_open(); any thread */
void zap_close(struct zap *z); /* NULL is fine */

#endif
