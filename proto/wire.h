/* wire.h - struct msg <-> frames. wire.c is the only file that sees protobuf-c.
 *
 * A message is a header of FRAME_HEADER_BYTES, a protobuf body, and for CHUNK a third frame with raw bytes (docs/PROTOCOL.md s.2).
 * Header, little endian: "ZF" u16, major u8, minor u8, kind u16, flags u16 (0), correlation u64, body_len u32, crc32c(body) u32.
 * wire_unpack() is total: any bytes give 0 or ERR_PROTO with a sentence; every bound of limits.h is checked here, every str is valid UTF-8. */
#ifndef PROTO_WIRE_H
#define PROTO_WIRE_H

#include "base/arena.h"
#include "base/err.h"
#include "base/str.h"
#include "proto/msg.h"

/* Appends header + body to out (the chunk's bytes are sent by the caller as a frame of their own). */
int wire_pack(const struct msg *m, struct buf *head, struct buf *body, struct err *e);
/* m points into the arena, and m->chunk.bytes into chunk. chunk is empty when there was no third frame. */
int wire_unpack(struct str head, struct str body, struct str chunk, struct arena *a, struct msg *m, struct err *e);
/* Only kind and correlation of a header, for answering a message that could not be unpacked; ERR_PROTO when not even that. */
int wire_peek(struct str head, enum msg_kind *kind, uint64_t *correlation);
/* An item as stored in the journal (canonical: equal items give equal bytes) and back. */
int wire_item_pack(const struct item *it, struct buf *out, struct err *e);
int wire_item_unpack(struct str bytes, struct arena *a, struct item *out, struct err *e);

#endif
