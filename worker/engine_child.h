/* engine_child.h - the process that holds the model: on one device, or its parts on several (PLACE); it makes what the link brings.
 *
 *   zfarm-worker --engine-child DIR DEVICE PRECISION THREADS LEVEL ... PLACE        with the link on descriptor ENGINE_CHILD_FD
 *
 * Started by child.c only, as a fresh program. It ends when the link closes or its parent dies, and after a failure of the device.
 * It knows no broker. Whatever goes wrong in it costs this process and at most the tasks it was making. */
#ifndef WORKER_ENGINE_CHILD_H
#define WORKER_ENGINE_CHILD_H

#include <stdbool.h>

#define ENGINE_CHILD_FD   3
#define ENGINE_CHILD_ARG  "--engine-child"
#define ENGINE_CHILD_ARGC 14
#define ENGINE_EXIT_OPEN   65 /* the model could not be opened: said over the link */
#define ENGINE_EXIT_DEVICE 70 /* the device failed: said over the link */

/* Is this argv that of an engine child? main() asks before anything else. */
bool engine_child_is(int argc, char **argv);
/* Returns the exit status. */
int  engine_child_main(int argc, char **argv);

#endif
