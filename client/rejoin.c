#include "client/rejoin.h"
