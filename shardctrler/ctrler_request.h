/* ctrler_request: the command that a request of the protocol asks the controller for. */
#ifndef SHARDCTRLER_CTRLER_REQUEST_H
#define SHARDCTRLER_CTRLER_REQUEST_H

#include "client/proto.h"
#include "shardctrler/ctrler_command.h"

/* The command's arrays are the request's. False: the request asks for none. Whether it is a dry run
 * is not the command's concern. */
bool ctrler_request_command(const struct proto_request *request, struct ctrler_command *command);

#endif
