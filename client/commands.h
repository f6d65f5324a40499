/* commands.h - every command of zfarm: the parsed command line in, the exit code out (0 ok, 1 failed). */
#ifndef CLIENT_COMMANDS_H
#define CLIENT_COMMANDS_H

#include "client/args.h"
#include "client/batch.h"
#include "client/follow.h"
#include "client/session.h"

int cmd_generate(struct args *a);
int cmd_batch(struct args *a);
int cmd_jobs(struct args *a);
int cmd_show(struct args *a);
int cmd_workers(struct args *a);
int cmd_cancel(struct args *a);
int cmd_watch(struct args *a);
int cmd_gather(struct args *a);
int cmd_up(struct args *a);
int cmd_dead(struct args *a);
int cmd_requeue(struct args *a);
int cmd_drain(struct args *a);
int cmd_pause(struct args *a);
int cmd_resume(struct args *a);

/* Shared endings (ending.c). The sheet's path: --sheet=FILE or dir/sheet.png. */
int ending_sheet_path(const struct args *a, const char *dir, char path[GATHER_PATH_BYTES], struct err *e);
/* The file name that images must leave free, or NULL: the sheet's, when it stands in dir. */
const char *ending_reserved(const struct args *a);
/* 0 when all was made; else ERR_STATE with "2 of 8 images failed". */
int ending_verdict(const struct follow *f, uint32_t n_images, const struct session *s, struct err *e);
/* To people: where the images are. sheet: "" when there is none. */
void ending_where(const struct session *s, const char *dir, const char *sheet);
/* On Ctrl-C with a broker: says that the job goes on, and how to go on with it. */
void ending_interrupted(const struct session *s, uint64_t job, const char *how, struct err *e);

#endif
