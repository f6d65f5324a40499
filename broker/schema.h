/* schema.h - the SQL that makes the journal's tables; schema_step[v] leads from version v to v + 1. */
#ifndef BROKER_SCHEMA_H
#define BROKER_SCHEMA_H

#define SCHEMA_VERSION 4

extern const char *const schema_step[SCHEMA_VERSION];

#endif
