/* stamps.h - which time mark (dev_stamp) stands for what; engine_times() reads them.
 * A prompt out of the cache leaves the marks of an older one: who wants text_ms gives a prompt that is new. */
#ifndef ENGINE_STAMPS_H
#define ENGINE_STAMPS_H

#include "engine/engine.h"
#include "kernels/dev.h"

enum stamp {
    STAMP_TEXT,        /* before the text encoder */
    STAMP_CAPTION,     /* after it: before the caption's embedder and refiner */
    STAMP_CAPTION_END,
    STAMP_DECODE,
    STAMP_DECODE_END,
    STAMP_PASS,        /* before pass 0; + i: after pass i - 1 */
    STAMP_COUNT = STAMP_PASS + ENGINE_PASSES_TIMED + 1
};

_Static_assert(STAMP_COUNT <= DEV_STAMPS, "a time mark for every pass that is timed");

#endif
