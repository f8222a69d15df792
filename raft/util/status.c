#include "raft/util/status.h"

const char *status_name(enum status status)
{
    switch (status) {
#define STATUS_CASE(name, number, text)                                                            \
    case ST_##name:                                                                                \
        return #name;
        STATUS_MAP(STATUS_CASE)
#undef STATUS_CASE
    }
    return "?";
}

const char *status_text(enum status status)
{
    switch (status) {
#define STATUS_CASE(name, number, text)                                                            \
    case ST_##name:                                                                                \
        return text;
        STATUS_MAP(STATUS_CASE)
#undef STATUS_CASE
    }
    return "unknown status";
}

bool status_is_valid(unsigned number)
{
    switch (number) {
#define STATUS_CASE(name, number, text) case number:
        STATUS_MAP(STATUS_CASE)
#undef STATUS_CASE
        return true;
    }
    return false;
}

bool status_is_retryable(enum status status)
{
    switch (status) {
    case ST_NOT_LEADER:
    case ST_WRONG_GROUP:
    case ST_BUSY:
    case ST_TIMEOUT:
    case ST_UNAVAILABLE:
    case ST_SHUTDOWN:
    case ST_IO:
    case ST_NO_SPACE:
    case ST_READ_ONLY:
    case ST_NOT_READY:
        return true;
    default:
        return false;
    }
}
