/* moves: the moves of a survey as rows, for people and as JSON. */
#ifndef CLIENT_CLI_MOVES_H
#define CLIENT_CLI_MOVES_H

#include "client/cli_survey.h"

/* A new reference to an array. */
json_t *moves_json(const struct survey *survey);
/* A headed table; nothing if there are none. */
void moves_print(FILE *file, const struct survey *survey);

#endif
