/* restore.h - from the journal into memory at the start, and out of both when their time has passed.
 *
 *   restore_all(b, &e);       after journal_open() and store_open(), before the journal's thread starts and any socket is bound
 *   restore_keep(b, t);       a task was collected: its images go after conf.retention_ms
 *   restore_expire(b, wall);  they go: first the row, then the file
 *   restore_purge(b, wall);   jobs wholly collected, failed or canceled are forgotten conf.remember_ms after their last change
 *
 * wall: broker_wall(); for the last, the earlier of that and the wall clock itself: rows say when by the latter. */
#ifndef BROKER_RESTORE_H
#define BROKER_RESTORE_H

#include "broker/broker.h"

int  restore_all(struct broker *b, struct err *e);
void restore_keep(struct broker *b, const struct task *t);
void restore_expire(struct broker *b, int64_t wall);
bool restore_purge(struct broker *b, int64_t wall); /* true: that was not all, ask again soon */

#endif
