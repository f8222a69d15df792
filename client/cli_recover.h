/* cli_recover: the verb for a group that has lost its majority for good. */
#ifndef CLIENT_CLI_RECOVER_H
#define CLIENT_CLI_RECOVER_H

#include "client/cli.h"

int cli_recover(struct cli *cli, int argc, char **argv);

#endif
