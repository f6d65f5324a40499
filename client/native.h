/* native.h - the size that a model's pictures were made for, as its folder says it.
 *
 *   int32_t px = native_size_px("models/demo");      256; 0 when the folder says nothing that can be used
 *
 * Only for a folder that this machine reads (an embedded farm): a broker's models have no size yet, and there 1024 is the default.
 * Not here: whether the folder is a model at all (the worker says so, better). */
#ifndef CLIENT_NATIVE_H
#define CLIENT_NATIVE_H

#include <stdint.h>

/* "sample_size" of DIR/vae/config.json when it is a side that a picture may have (limits.h); else 0. Never an error. */
int32_t native_size_px(const char *dir);

#endif
