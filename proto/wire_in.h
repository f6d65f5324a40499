/* wire_in.h - shared by wire.c, wire_job.c and wire_worker.c alone: the rooms where protobuf-c is spoken.
 * pack_*: a struct msg becomes a protobuf message in a scratch arena; NULL when the arena is full.
 * unpack_*: back; strs stay where protobuf put them (the same arena). ERR_PROTO for lengths that C structs cannot hold; ranges are check.c's. */
#ifndef PROTO_WIRE_IN_H
#define PROTO_WIRE_IN_H

#include "base/arena.h"
#include "cluster.pb-c.h"
#include "proto/msg.h"

typedef ProtobufCMessage *wire_pack_f(const struct msg *m, struct arena *a);
typedef int wire_unpack_f(const ProtobufCMessage *p, struct arena *a, struct msg *m, struct err *e);

struct wire_row {
    enum msg_kind                     kind;
    const ProtobufCMessageDescriptor *body;
    wire_pack_f                      *pack;
    wire_unpack_f                    *unpack;
};
extern const struct wire_row wire_job_rows[], wire_worker_rows[]; /* end with kind 0 */

ProtobufCBinaryData wire_bytes(const void *at, size_t len);
ProtobufCBinaryData wire_text(struct str s);
ProtobufCBinaryData wire_words(struct str s, struct arena *a); /* what is not UTF-8, and control bytes, become '?' */
struct str          wire_str(ProtobufCBinaryData b);
/* Exactly len bytes, or ERR_PROTO. */
int wire_fixed(ProtobufCBinaryData b, uint8_t *out, size_t len, const char *what, struct err *e);
/* n pointers to zeroed structs of size bytes each. NULL when the arena is full (n == 0: any non-NULL pointer). */
void *wire_list(struct arena *a, size_t n, size_t bytes);
int   wire_full(struct err *e); /* ERR_PROTO: the message wants more memory than one may take */

void wire_spec_pack(const struct spec *s, Zfarm__Spec *out);
void wire_spec_unpack(const Zfarm__Spec *p, struct spec *out);
Zfarm__Item *wire_item_to(const struct item *it, struct arena *a);
int          wire_item_from(const Zfarm__Item *p, struct item *out, struct err *e);
/* bytes: of the part itself, when it rides along. */
Zfarm__Part *wire_part_to(const struct part *t, struct str bytes, struct arena *a);
int          wire_part_from(const Zfarm__Part *p, struct part *out, struct str *bytes, struct err *e);
Zfarm__Part **wire_parts_to(const struct part t[PARTS_MAX], const struct str bytes[PARTS_MAX], size_t n, struct arena *a);
int          wire_parts_from(Zfarm__Part **p, size_t n, struct part out[PARTS_MAX], struct str bytes[PARTS_MAX], size_t *n_out, struct err *e);
Zfarm__Model    **wire_models_to(const struct model_info *m, size_t n, struct arena *a);
int               wire_models_from(Zfarm__Model **p, size_t n, struct arena *a, struct model_info **out, struct err *e);
Zfarm__Progress **wire_progress_to(const struct progress *g, size_t n, struct arena *a);
Zfarm__Rank     **wire_ranks_to(const struct rank *r, size_t n, struct arena *a);
int               wire_ranks_from(Zfarm__Rank **p, size_t n, struct arena *a, struct rank **out, struct err *e);
int               wire_progress_from(Zfarm__Progress **p, size_t n, struct arena *a, struct progress **out, struct err *e);

#endif
